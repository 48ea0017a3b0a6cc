//! The Dask lesson: map an increment over 100 inputs, sum the futures, then the mean over the last axis of ten random
//! arrays, kept on the workers until it is gathered. Nothing is left behind.
//!
//! `cargo run --release --example futures [SIDE]` (1000 by default: 80 GB of f64, none of it ever stored)

#![allow(clippy::print_stdout, reason = "its output is for people")]

use gridloom::{Array, Kernel, LocalCluster, Reduce};
use ndarray::Array2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(std::env::args().nth(1).map_or(Ok(1000), |side| side.parse())?)
}

/// The whole lesson, over ten cubes of `side`.
pub fn run(side: u64) -> Result<(), Box<dyn std::error::Error>> {
    let client = LocalCluster::start()?.client();

    let inc = Kernel::element("fn inc(x: i64) -> i64 { return x + 1; }")?;
    let incremented = client.map(&inc, 0..100i64)?;
    let total: i64 = client.submit(Reduce::Sum, &incremented)?.wait()?;
    println!("sum of 1..=100: {total}");

    let parts = (0..10).map(|k| Array::random([side, side, side]).stream(k));
    let mean = client.persist(&Array::concatenate(parts, 0).mean(-1))?;
    let mean: Array2<f64> = client.gather(&mean)?.wait()?;
    println!("mean over the last axis: shape {:?}, overall {:?}", mean.shape(), mean.mean());

    client.close()?;
    Ok(())
}
