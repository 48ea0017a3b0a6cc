//! Agreement with NumPy: the fixtures that `tests/fixtures/make.py` wrote, run through the whole engine.

mod fixture;
mod printing;
