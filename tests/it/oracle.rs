//! Agreement with NumPy: the fixtures that `tests/fixtures/make.py` wrote, run through the whole engine.

mod compare;
mod elementwise;
mod engine;
mod files;
mod fixture;
mod printing;
mod random;
mod reductions;
mod views;
