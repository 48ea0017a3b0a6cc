//! Where agent, executor and transport meet, and nowhere else.
//!
//! Reading order: [`Worker`] (an agent with its executor, for whoever carries its messages) -> [`DataRoot`] (which files
//! it may open) -> [`Inbox`] (how a thread that owns a state machine waits) -> [`RemoteWorker`] (a worker whose
//! messages QUIC carries).
//!
//! Whatever drives a state machine does so on one thread: what others have to say reaches it through its inbox, and
//! nothing it does waits for them.

mod data_root;
mod inbox;
mod registration;
mod remote;
mod stop;
mod worker;

pub use data_root::DataRoot;
pub use inbox::Inbox;
pub use remote::{REDIAL_FOR, RemoteError, RemoteOptions, RemoteWorker};
pub use stop::{Stop, Wish};
pub use worker::{Device, StartError, Worker, WorkerOptions, executed};
