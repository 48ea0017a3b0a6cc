//! The side that wants something: one request, one stream.

use std::sync::atomic::{AtomicU64, Ordering};

use quinn::{Connection, RecvStream, SendStream};

use super::body::{self, Runs};
use super::{HEADER_BYTES_MAX, STALL_LIMIT};
use crate::block::Block;
use crate::ids::{BlockId, WorkerId};
use crate::net::endpoint::within;
use crate::net::error::NetError;
use crate::net::frame;
use crate::shape::Region;
use crate::wire::{BlockHeader, FetchError, PeerReply, PeerRequest, RequestId};

/// Why a block could not be put on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// There is no memory for it there.
    #[error("it needs {needs} bytes there and {has} could be had")]
    Refused {
        /// What it takes.
        needs: u64,
        /// What could be had.
        has: u64,
    },
    /// The worker did not answer.
    #[error("the worker cannot be reached")]
    Unreachable,
}

/// What the network's own reasons come to, for whoever only has to ask elsewhere.
pub(super) trait Unreachable {
    const UNREACHABLE: Self;
}

impl Unreachable for FetchError {
    const UNREACHABLE: FetchError = FetchError::Unreachable;
}

impl Unreachable for PutError {
    const UNREACHABLE: PutError = PutError::Unreachable;
}

/// Says in the log why a worker cannot be reached.
pub(super) fn unreachable<E: Unreachable>(worker: WorkerId) -> impl FnOnce(NetError) -> E {
    move |error| {
        tracing::info!(%worker, %error, "a worker cannot be reached");
        E::UNREACHABLE
    }
}

/// Numbers the requests of this process.
static NEXT_REQUEST: AtomicU64 = AtomicU64::new(0);

fn next_request() -> RequestId {
    RequestId(NEXT_REQUEST.fetch_add(1, Ordering::Relaxed))
}

/// Asks for one field of a block, or a part of it.
pub(super) async fn fetch(
    connection: &Connection,
    block: BlockId,
    field: u32,
    region: Option<Region>,
) -> Result<Block, FetchError> {
    let fetched = try_fetch(connection, block, field, region).await;
    fetched.unwrap_or_else(|error| {
        tracing::info!(%block, %error, "a fetch failed");
        Err(FetchError::Unreachable)
    })
}

async fn try_fetch(
    connection: &Connection,
    block: BlockId,
    field: u32,
    region: Option<Region>,
) -> Result<Result<Block, FetchError>, NetError> {
    let (request, shape) = (next_request(), region.as_ref().map(Region::shape));
    let (mut send, mut receive) = open(connection).await?;
    frame::write(&mut send, &PeerRequest::Fetch { request, block, field, region }).await?;
    drop(send.finish());
    match reply(&mut receive).await? {
        PeerReply::Data { request: of, header } if of == request => {
            let is_wanted = shape.is_none_or(|shape| shape == header.shape);
            let bytes = header.bytes().filter(|_| is_wanted).ok_or(NetError::Truncated)?;
            let none = NetError::system("no memory for a block");
            let memory = body::memory(bytes).await.ok_or_else(|| none(std::io::ErrorKind::OutOfMemory.into()))?;
            body::read(&mut receive, header, memory).await.map(Ok)
        }
        PeerReply::Missing { request: of } if of == request => Ok(Err(FetchError::Missing)),
        _ => Err(NetError::Truncated),
    }
}

/// Brings a block.
pub(super) async fn put(connection: &Connection, block: BlockId, fields: Vec<Block>) -> Result<(), PutError> {
    try_put(connection, block, fields).await.unwrap_or_else(|error| {
        tracing::info!(%block, %error, "a block could not be brought");
        Err(PutError::Unreachable)
    })
}

async fn try_put(
    connection: &Connection,
    block: BlockId,
    fields: Vec<Block>,
) -> Result<Result<(), PutError>, NetError> {
    let request = next_request();
    let (mut send, mut receive) = open(connection).await?;
    let headers = fields.iter().map(|field| BlockHeader { item: field.item, shape: field.shape.clone() });
    let mut head = frame::framed(&PeerRequest::Put { request, block, fields: headers.collect() })?;
    for field in &fields {
        let whole = Region::whole(&field.shape);
        let runs = Runs::new(&field.shape, field.item.bytes(), &whole).ok_or(NetError::Truncated)?;
        // One that has no room says so without reading on.
        if body::write(&mut send, std::mem::take(&mut head), field, &runs).await.is_err() {
            break;
        }
    }
    drop(send.finish());
    match reply(&mut receive).await? {
        PeerReply::Stored { request: of } if of == request => Ok(Ok(())),
        PeerReply::Refused { request: of, needs, has } if of == request => Ok(Err(PutError::Refused { needs, has })),
        _ => Err(NetError::Truncated),
    }
}

async fn open(connection: &Connection) -> Result<(SendStream, RecvStream), NetError> {
    within("waiting for a stream", STALL_LIMIT, async { Ok(connection.open_bi().await?) }).await
}

async fn reply(stream: &mut RecvStream) -> Result<PeerReply, NetError> {
    within("waiting for an answer", STALL_LIMIT, frame::read(stream, HEADER_BYTES_MAX)).await
}
