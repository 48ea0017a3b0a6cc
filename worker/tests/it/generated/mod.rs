//! Kernels drawn from a grammar, and every built-in: the code generator gives the interpreter's bits.

mod blocks;
mod builtins;
mod cases;
mod grammar;
mod machine;
mod seeds;
mod values;
