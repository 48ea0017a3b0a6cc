//! Every integration test in one binary, since each binary links everything.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, also in its helpers")]
#![allow(clippy::print_stderr, reason = "seeds and what the faults came to are printed for whoever reads a failure")]

mod blocks;
mod cli;
mod cluster;
mod examples;
mod house;
mod oracle;
#[cfg(target_os = "linux")]
mod processes;
mod scheduler_cost;
mod simulation;
