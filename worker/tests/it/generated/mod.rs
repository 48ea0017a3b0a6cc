//! Kernels drawn from a grammar: every code generator gives the interpreter's bits.
