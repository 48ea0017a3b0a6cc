//! Golden plans, and plans evaluated slowly and obviously against ndarray.

mod evaluate;
mod golden;
mod properties;

use gridloom_worker::ids::ClientId;

use super::*;

#[track_caller]
fn planned(arrays: &[Array]) -> Plan {
    plan(arrays, &mut ArrayIds::new(ClientId(1))).unwrap_or_else(|error| panic!("{error}"))
}
