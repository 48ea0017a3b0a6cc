//! Golden plans, and plans evaluated slowly and obviously against ndarray.

mod evaluate;
mod golden;
mod properties;

use gridloom_worker::ids::ClientId;
use gridloom_worker::kernel::Kernel;

use super::*;

/// A block kernel that adds to each element how many its block has.
fn weigh() -> Kernel {
    let text = "
        @group(0) @binding(0) var<storage, read> x: array<f64>;
        @group(0) @binding(1) var<storage, read_write> y: array<f64>;
        @compute @workgroup_size(1) fn weigh(@builtin(workgroup_id) group: vec3<u32>) {
            if any(group > vec3(0u)) { return; }
            for (var i = 0u; i < arrayLength(&x); i++) { y[i] = x[i] + f64(arrayLength(&x)); }
        }";
    Kernel::block(text).unwrap_or_else(|error| panic!("{}", error.rendered()))
}

#[track_caller]
fn planned(arrays: &[Array]) -> Plan {
    plan(arrays, &mut ArrayIds::new(ClientId(1))).unwrap_or_else(|error| panic!("{error}"))
}
