//! The network.
mod admission;
mod bulk;
mod control;
mod endpoint;
mod error;
mod frame;
mod hello;
pub mod identity;
mod join;
mod tls;
mod traffic;
mod tuning;

use std::time::Duration;

pub use bulk::{Bulk, BulkOptions, FETCHES_MAX, PutError, Question, REPLIES_MAX, Reply, STALL_LIMIT};
pub use control::{Control, Dialer, Received, Server, Session};
pub use error::{NetError, Refusal};
pub use hello::Hello;
pub use traffic::Traffic;
pub use tuning::{DEAD_AFTER, PACKET_BYTES_ETHERNET, PACKET_BYTES_LOOPBACK, PACKET_BYTES_MAX};

/// How long anyone may take to connect, to say who it is and, who joins, to be given a certificate.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// What TLS is told of the other side's name. It says nothing: certificates name parties, not machines.
const SERVER_NAME: &str = "gridloom";

#[cfg(test)]
mod tests;
