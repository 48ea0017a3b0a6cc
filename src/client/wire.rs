//! What a client's connection to the scheduler carries: its own words, and the few of the processes themselves.

use std::collections::BTreeMap;

use gridloom_worker::ids::WorkerId;
use gridloom_worker::net::Traffic;
use gridloom_worker::wire::BulkTraffic;
use serde::{Deserialize, Serialize};

use crate::scheduler::{FromClient, Status, ToClient};

/// From a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClientSays {
    /// To the scheduler.
    Message(FromClient),
    /// How does the cluster stand? Answered by one [`ClientHears::Status`].
    Status,
}

/// To a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClientHears {
    /// Who was there when it came has been named: it may begin.
    Welcome,
    /// From the scheduler.
    Message(ToClient),
    /// The answer to [`ClientSays::Status`].
    Status(ClusterStatus),
}

/// How a cluster stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// What the scheduler knows. Who asked is not counted among the clients.
    pub scheduler: Status,
    /// What the scheduler's connections to workers have seen.
    pub traffic: BTreeMap<WorkerId, Traffic>,
    /// What each worker's connections for blocks have seen, by what it said last.
    pub bulk: BTreeMap<WorkerId, BulkTraffic>,
}

#[cfg(test)]
mod tests;
