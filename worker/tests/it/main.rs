//! The worker's integration tests in one binary, since each binary links everything.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, also in its helpers")]
#![allow(clippy::print_stderr, reason = "a failure prints what it takes to run it again")]

mod conformance;
mod generated;
