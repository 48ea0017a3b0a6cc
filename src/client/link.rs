//! The door to a cluster, whatever carries the messages.

use gridloom_worker::block::Block;
use gridloom_worker::ids::WorkerId;
use gridloom_worker::net::Fetched;
use gridloom_worker::wire::{BulkTraffic, Parcel};

use super::devices::Devices;
use crate::scheduler::{FromClient, ToClient};

/// Told what became of a fetch. Called once, on any thread; it must not block.
pub(crate) type FetchReply = Box<dyn FnOnce(Fetched) + Send>;

/// Told whether blocks are kept. `Some((needs, has))` where there is no memory for them, `None` where nobody is there.
pub(crate) type PutReply = Box<dyn FnOnce(Result<(), Option<(u64, u64)>>) + Send>;

/// What a client can say.
pub(crate) trait Link: Send + Sync {
    /// A job whose leaves have `bytes` is to be given to `devices`: the last chance to bring in more of them.
    fn reinforce(&self, devices: Devices, bytes: u64);
    /// Tells the scheduler.
    fn send(&self, message: FromClient);
    /// Asks a worker for one field of some blocks.
    fn fetch(&self, holder: WorkerId, parcel: Parcel, field: u32, reply: FetchReply);
    /// What the connections to workers have seen. `None` where nothing travels.
    fn traffic(&self) -> Option<BulkTraffic>;
    /// Brings a worker blocks, one or more fields of each. It keeps all, or none.
    fn put(&self, worker: WorkerId, parcel: Parcel, blocks: Vec<Vec<Block>>, reply: PutReply);
}

/// What a client can be told. Called on any thread; it must not block and must not speak on the link.
pub(crate) trait Receiver: Send + Sync {
    /// The scheduler speaks.
    fn receive(&self, message: ToClient);
    /// The scheduler is gone: nothing more will be heard.
    fn close(&self);
}
