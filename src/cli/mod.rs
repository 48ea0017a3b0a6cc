//! The command line.

mod args;
pub mod array_text;
pub mod human;
pub mod input;
pub mod output;
