//! Gridloom computes on big N-d arrays, block by block, on every CPU and GPU you have, in one process or on a cluster.
//!
//! # Bird's eye
//! ```text
//! Array expr -> plan (stages) -> scheduler == queue, or QUIC ==> worker agent -> executor -> block or partial stays there
//!     ^                             ^     ids and sizes only      |                                          |
//!     +---- client: root of the tree, futures <-------------------+------------------------------------------+
//! ```
//! An [`Array`] is a lazy expression. A [`plan`] makes stages of it: fused computations over a whole grid, whose number
//! depends on the operations and never on the blocks. The [`scheduler`] hands ranges of blocks to workers; a worker's
//! agent fetches what they read, lets its executor compute them, and keeps the results. The [`Client`] waits, fetches
//! what it is asked for, and does the last step of a reduction itself.
//!
//! # A first program
//! ```
//! use gridloom::{Array, Kernel, LocalCluster, Reduce};
//! use ndarray::ArrayD;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = LocalCluster::start()?.client();
//! let poly = Kernel::element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }")?;
//! let x = Array::random([100, 100]).chunks([10, 10]);                 // lazy, f64, seed 0
//! let y: ArrayD<f64> = client.compute(&x.map_blocks(&poly))?.wait()?;
//!
//! let inc = Kernel::element("fn inc(x: i64) -> i64 { return x + 1; }")?;
//! let total: i64 = client.submit(Reduce::Sum, &client.map(&inc, 0..100i64)?)?.wait()?;
//! let mean = client.persist(&x.mean(-1))?;                            // stays on the workers
//! let mean: ndarray::Array1<f64> = client.gather(&mean)?.wait()?;
//! # assert_eq!((y.len(), total, mean.len()), (10_000, 5050, 100));
//! client.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Reading order
//! [`mod@array`] (what users write) -> [`plan`] (fusion, grids, reduction tree, memory) -> [`scheduler`] (who computes what,
//! and what is lost with a worker) -> [`client`] (futures) -> [`cluster`] (the machines of one process, and those of
//! many) -> `cli`. What happens where blocks are is the engine room, [`gridloom_worker`]: read its own first page.
//!
//! # Processes
//! ```text
//! client  === messages ===  scheduler  === messages ===  worker     each machine is moved by whoever speaks to it
//!    +============ blocks: any worker to any worker or client ===========+
//! ```
//! The scheduler and the agents are the same machines everywhere, moved by whoever has something to say
//! ([`gridloom_worker::serve::Mover`]). In one process they are one machine (`cluster::engine`). Between processes
//! [`SchedulerServer`] owns the scheduler and `gridloom_worker::serve` an agent, and [`gridloom_worker::net`] carries
//! what they say over QUIC; [`Client::connect`] reaches them, and a client in the scheduler's own process speaks by
//! call. A peer is what its connection is: one that ends is gone, and who comes back begins anew.
//! There a GPU has a process of its own, for nothing else frees one of a kernel that hangs.
//!
//! # What holds, said as what is absent
//! - No room but the executors touches the elements of a block, and this crate touches no device.
//! - The scheduler sees ids and sizes, never data (a result of a few bytes goes past it); it has no clock, thread or
//!   socket, and neither have arrays and plans.
//! - A plan knows nothing of the cluster: the same expression gives the same plan, and the same bits, everywhere.
//! - Nothing has a size that grows with the number of blocks: not a plan, nor what the scheduler keeps of a regular job.
//! - No host code travels: what a worker runs is WGSL that it has validated itself.
//! - Async stops at the client's futures; everything behind them is a state machine that is told what time it is.

#[cfg(test)]
#[path = "../worker/src/allocated.rs"]
mod allocated;
pub mod array;
pub mod cli;
pub mod client;
pub mod cluster;
#[cfg(test)]
#[path = "../worker/src/fuzz.rs"]
mod fuzz;
pub mod host;
pub mod plan;
pub mod scheduler;

pub use array::Array;
pub use client::{Client, ClientError, ConnectError, Devices, Future, Futures, Reduce, Value};
pub use cluster::{LocalCluster, SchedulerServer};
pub use gridloom_worker::dtype::DType;
pub use gridloom_worker::kernel::Kernel;
pub use gridloom_worker::net::identity::Token;
