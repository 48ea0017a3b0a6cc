//! Every integration test in one binary, since each binary links everything.

mod simulation;
