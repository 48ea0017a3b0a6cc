//! The command line.

mod args;
pub mod array_text;
pub mod doctor;
pub mod human;
pub mod input;
pub mod output;
pub mod progress;
pub mod report;
