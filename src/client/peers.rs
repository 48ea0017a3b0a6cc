//! A client's own way to the workers, for blocks.

use std::sync::{Arc, Weak};

use gridloom_worker::block::Block;
use gridloom_worker::ids::{ClientId, WorkerId};
use gridloom_worker::net::identity::{Authority, Identity, Role};
use gridloom_worker::net::{Bulk, BulkOptions, NetError, PACKET_BYTES_LOOPBACK, PACKET_BYTES_MAX, PutError};
use gridloom_worker::wire::Parcel;

use super::link::{FetchReply, PutReply, Receiver};
use crate::scheduler::ToClient;

/// The workers that the scheduler has named.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Bulk>);

impl Peers {
    /// Nobody yet. Where all are `near`, on this machine, the largest packets are tried.
    pub(crate) fn open(identity: &Arc<Identity>, near: bool) -> Result<Peers, NetError> {
        Ok(Peers(Arc::new(Bulk::open(Arc::clone(identity), options(near), |_, _, _| {})?)))
    }

    /// The same in the scheduler's own process, for a new client, which is named.
    pub(crate) fn open_near(authority: &Arc<Authority>) -> Result<(ClientId, Peers), NetError> {
        let party = authority.new_party(Role::Client);
        let bulk = Bulk::open_near(Arc::clone(authority), party, options(true))?;
        Ok((ClientId(party.id), Peers(bulk)))
    }

    pub(crate) fn bulk(&self) -> &Arc<Bulk> {
        &self.0
    }

    /// Hears what the scheduler says before `receiver` does.
    pub(crate) fn ear(&self, receiver: Arc<dyn Receiver>) -> Ear {
        Ear { receiver, bulk: Arc::downgrade(&self.0) }
    }

    /// As [`super::link::Link::fetch`].
    pub(crate) fn fetch(&self, holder: WorkerId, parcel: Parcel, field: u32, reply: FetchReply) {
        self.0.fetch(holder, parcel, field, None, reply);
    }

    /// As [`super::link::Link::put`].
    pub(crate) fn put(&self, worker: WorkerId, parcel: Parcel, blocks: Vec<Vec<Block>>, reply: PutReply) {
        self.0.put(worker, parcel, blocks, move |stored| {
            reply(stored.map_err(|error| match error {
                PutError::Refused { needs, has } => Some((needs, has)),
                _ => None,
            }));
        });
    }
}

fn options(near: bool) -> BulkOptions {
    let packet_bytes_max = if near { PACKET_BYTES_LOOPBACK } else { PACKET_BYTES_MAX };
    BulkOptions { packet_bytes_max, ..BulkOptions::default() }
}

/// Remembers where workers are, and ends what is asked of those that are gone.
pub(crate) struct Ear {
    receiver: Arc<dyn Receiver>,
    bulk: Weak<Bulk>,
}

impl Receiver for Ear {
    fn receive(&self, message: ToClient) {
        match (&message, self.bulk.upgrade()) {
            (ToClient::WorkerJoined { worker, register }, Some(bulk)) => bulk.meet(*worker, register.address.clone()),
            (ToClient::WorkerLeft { worker }, Some(bulk)) => bulk.forget(*worker),
            _ => {}
        }
        self.receiver.receive(message);
    }

    fn close(&self) {
        self.receiver.close();
    }
}
