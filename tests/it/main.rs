//! Every integration test in one binary, since each binary links everything.

mod scheduler_cost;
mod simulation;
