//! Every integration test in one binary, since each binary links everything.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, also in its helpers")]

mod cli;
mod cluster;
mod examples;
mod house;
mod oracle;
mod scheduler_cost;
mod simulation;
