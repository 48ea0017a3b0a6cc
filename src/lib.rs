//! Gridloom computes on big N-d arrays, block by block.

pub mod array;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod plan;
pub mod scheduler;
