//! Not there yet.

pub mod value;
