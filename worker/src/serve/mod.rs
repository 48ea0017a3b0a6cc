//! Where agent, executor and transport meet, and nowhere else.
//!
//! Reading order: [`Worker`] (an agent with its executor, for whoever carries its messages) -> [`DataRoot`] (which files
//! it may open) -> [`Mover`] (how many threads move one state machine) -> [`RemoteWorker`] (a worker whose messages QUIC
//! carries).
//!
//! Nothing that a state machine does waits for those who speak to it.

mod alarm;
mod data_root;
mod mover;
mod registration;
mod remote;
mod stop;
mod worker;

pub use data_root::DataRoot;
pub use mover::{Machine, Mover, Saying};
pub use remote::{REDIAL_FOR, RemoteError, RemoteOptions, RemoteWorker};
pub use stop::{Stop, Wish};
pub use worker::{Device, StartError, Worker, WorkerOptions, executed};
