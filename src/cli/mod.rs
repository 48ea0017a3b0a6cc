//! The command line.

pub mod array_text;
pub mod human;
pub mod input;
