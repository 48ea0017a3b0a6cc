//! One suite over every executor, operation and dtype: real stages through the executor's own door.
//!
//! The interpreter is the definition. What compiles for CPUs must give its bits; GPUs must give them for integers,
//! copies, comparisons and uniform random numbers, and come within a stated distance on floats. What a device is known
//! to get wrong is listed by name, with the reason ([`tolerance`]), and nothing else is forgiven.

mod blocks;
mod contract;
mod executors;
mod harness;
mod maps;
mod operations;
mod reductions;
mod sources;
mod tolerance;

pub(crate) use executors::{adapter, gpu_options};
