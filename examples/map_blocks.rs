//! The Numba + Dask tutorial: an array in chunks of 1000x1000, a compiled kernel over its blocks, compute; then the
//! cluster is scaled and the same work gives the same bits.
//!
//! `cargo run --release --example map_blocks [SIDE]` (10000 by default)

#![allow(clippy::print_stdout, reason = "its output is for people")]

use gridloom::{Array, Kernel, LocalCluster};
use ndarray::ArrayD;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(std::env::args().nth(1).map_or(Ok(10_000), |side| side.parse())?)
}

/// The whole tutorial, over an array of `side` by `side`.
pub fn run(side: u64) -> Result<(), Box<dyn std::error::Error>> {
    let cluster = LocalCluster::start()?;
    let client = cluster.client();

    let poly = Kernel::element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }")?;
    let x = Array::random([side, side]).chunks([1000, 1000]);
    let y = x.map_blocks(&poly);

    let first: ArrayD<f64> = client.compute(&y)?.wait()?;
    println!("one worker:    shape {:?}, corner {:?}", first.shape(), first.first());

    cluster.scale(3)?;
    let second: ArrayD<f64> = client.compute(&y)?.wait()?;
    let same = first.iter().zip(&second).all(|(a, b)| a.to_bits() == b.to_bits());
    println!("three workers: the same bits: {same}");
    if !same {
        return Err("the number of workers changed the result".into());
    }

    client.close()?;
    Ok(())
}
