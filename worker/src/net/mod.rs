//! The network: QUIC between the processes of a cluster, and nothing in plain text.
//!
//! Reading order: [`identity`] (who is who) -> `hello` and `frame` (how anything is said) -> `tls`, `tuning`,
//! `threads` and `endpoint` (what a connection is) -> `admission` and `join` (how one comes in) -> `control` (messages: [`Server`],
//! [`Dialer`], [`Session`], [`Control`]) -> `bulk` (blocks: [`Bulk`]) -> `traffic` (what a connection has seen).
//!
//! ```text
//! client  --- Dialer ===== control ===== Server ---  scheduler
//! worker  --- Dialer ===== control ===== Server ---  scheduler       messages, ordered, in one stream
//! client  --- Bulk   ===== bulk    ===== Bulk   ---  worker
//! worker  --- Bulk   ===== bulk    ===== Bulk   ---  worker          blocks, a stream each
//! ```
//!
//! A process is a state machine that is told what comes and says what leaves. Here are its ears and its mouth: plain
//! calls that never wait ([`Control::send`], [`Bulk::fetch`], [`Reply::answer`]) and callbacks on the network's own
//! threads. Only what begins a process waits ([`Dialer::join`], [`Dialer::connect`]), within a limit.
//!
//! A worker begins like this:
//! ```no_run
//! # use {gridloom_worker::net::{*, identity::*}, gridloom_worker::wire::*, std::{path::Path, sync::Arc}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (dialer, token) = (Dialer::new()?, Token::read(Path::new("token"))?);
//! let identity = Arc::new(dialer.join("scheduler:8786", &token, Role::Worker)?);
//! let options = BulkOptions { listen: Some(([0, 0, 0, 0], 0).into()), ..BulkOptions::default() };
//! let bulk = Bulk::open(Arc::clone(&identity), options, |_from, _question, _reply| { /* tell the agent */ })?;
//! let session = dialer.connect("scheduler:8786", &identity)?;
//! let scheduler = session.start::<FromWorker, ToWorker>(|_received| { /* tell the agent */ });
//! scheduler.send(&FromWorker::Leaving)?;
//! # Ok(()) }
//! ```
//!
//! What holds, said as what is absent: nothing outside knows quinn, TLS or async; nothing inside knows what a message
//! means; control and bulk share no connection, socket or thread; a stranger costs bounded time and memory; no secret
//! travels or is printed.

mod admission;
mod bulk;
mod control;
mod endpoint;
mod error;
mod frame;
mod hello;
pub mod identity;
mod join;
mod threads;
mod tls;
mod traffic;
mod tuning;

use std::time::Duration;

pub use bulk::{Bulk, BulkOptions, Fetched, PutError, Question, Reply, STALL_LIMIT};
pub use control::{Control, Dialer, Received, Server, Session};
pub use endpoint::address_towards;
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
