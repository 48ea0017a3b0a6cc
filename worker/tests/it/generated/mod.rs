//! Kernels drawn from a grammar, and every built-in: the code generator gives the interpreter's bits, and GPUs the same
//! wherever nothing is rounded.

mod blocks;
mod builtins;
mod cases;
mod grammar;
mod machine;
mod seeds;
mod values;
