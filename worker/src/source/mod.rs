//! Where the values of a stage's leaves come from: blocks, files, random numbers and arithmetic, a tile at a time.
//!
//! A [`LeafReader`] is made once per (leaf, block) and then answers runs of the block's row-major elements, so that a
//! tile stays in the L1 cache between its source and whatever uses it. It must never compute on values (that is the
//! program's work) and never hold more of a block than it was given, except for files whose order forces it.

mod normal;
pub mod npy;
pub mod philox;
#[cfg(target_arch = "x86_64")]
mod philox_x86;
mod reader;
mod values;

pub use reader::{LeafReader, leaf_readers};
pub(crate) use reader::{Part, parts};
pub(crate) use values::Values;

#[cfg(test)]
mod tests;
