//! A client in the scheduler's own process: its words go by call, and blocks as everybody's do.

use std::any::Any;
use std::sync::Arc;

use gridloom_worker::block::Block;
use gridloom_worker::ids::{ClientId, WorkerId};
use gridloom_worker::wire::{BulkTraffic, Parcel};

use super::{ClusterError, SchedulerServer};
use crate::client::link::{FetchReply, Link, PutReply};
use crate::client::peers::Peers;
use crate::client::{Client, Devices};
use crate::scheduler::FromClient;

/// A client of `server`, whose link keeps `keeps` alive.
///
/// # Errors
/// If there is no way to the workers.
pub(super) fn connect(
    server: &Arc<SchedulerServer>,
    devices: Devices,
    keeps: Box<dyn Any + Send + Sync>,
) -> Result<Client, ClusterError> {
    let (id, peers) = Peers::open_near(server.authority())?;
    let link = NearLink { server: Arc::clone(server), client: id, peers: peers.clone(), _keeps: keeps };
    let client = Client::new(id, Box::new(link), devices);
    server.connect(id, Arc::new(peers.ear(client.receiver())));
    Ok(client)
}

struct NearLink {
    server: Arc<SchedulerServer>,
    client: ClientId,
    peers: Peers,
    _keeps: Box<dyn Any + Send + Sync>,
}

impl Link for NearLink {
    /// Which devices a worker's process has is settled when it starts.
    fn reinforce(&self, _devices: Devices, _bytes: u64) {}

    fn send(&self, message: FromClient) {
        self.server.hear(self.client, message);
    }

    fn fetch(&self, holder: WorkerId, parcel: Parcel, field: u32, reply: FetchReply) {
        self.peers.fetch(holder, parcel, field, reply);
    }

    fn traffic(&self) -> Option<BulkTraffic> {
        Some(self.peers.bulk().all_traffic())
    }

    fn put(&self, worker: WorkerId, parcel: Parcel, blocks: Vec<Vec<Block>>, reply: PutReply) {
        self.peers.put(worker, parcel, blocks, reply);
    }
}
