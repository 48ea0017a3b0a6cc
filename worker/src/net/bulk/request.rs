//! The side that wants something: one request, one stream.

use std::sync::atomic::{AtomicU64, Ordering};

use quinn::{Connection, RecvStream, SendStream};

use super::body::{self, Cut};
use super::{HEADER_BYTES_MAX, STALL_LIMIT};
use crate::block::Block;
use crate::ids::WorkerId;
use crate::net::endpoint::within;
use crate::net::error::NetError;
use crate::net::frame;
use crate::shape::Region;
use crate::wire::{BlockHeader, FetchError, Parcel, PeerReply, PeerRequest, RequestId};

/// Why blocks could not be put on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// There is no memory for them there.
    #[error("they need {needs} bytes there and {has} could be had")]
    Refused {
        /// What they take.
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

/// What was asked for: one per block, in order, `None` where it is not held; or why nobody has answered.
pub type Fetched = Result<Vec<Option<Block>>, FetchError>;

/// Asks for one field of some blocks, or a part of it.
pub(super) async fn fetch(connection: &Connection, parcel: Parcel, field: u32, region: Option<Region>) -> Fetched {
    try_fetch(connection, parcel, field, region).await.map_err(|error| {
        tracing::info!(array = %parcel.array, blocks = %parcel.blocks, %error, "a fetch failed");
        FetchError::Unreachable
    })
}

async fn try_fetch(
    connection: &Connection,
    parcel: Parcel,
    field: u32,
    region: Option<Region>,
) -> Result<Vec<Option<Block>>, NetError> {
    let (request, shape) = (next_request(), region.as_ref().map(Region::shape));
    let (mut send, mut receive) = open(connection).await?;
    frame::write(&mut send, &PeerRequest::Fetch { request, parcel, field, region }).await?;
    drop(send.finish());
    let headers = match reply(&mut receive).await? {
        PeerReply::Data { request: of, headers } if of == request => headers,
        _ => return Err(NetError::Truncated),
    };
    let is_wanted = |header: &BlockHeader| shape.as_ref().is_none_or(|shape| *shape == header.shape);
    if headers.len() as u64 != parcel.blocks.count() || !headers.iter().flatten().all(is_wanted) {
        return Err(NetError::Truncated);
    }
    let bytes = parcel.bytes(headers.iter().flatten()).ok_or(NetError::Truncated)?;
    let is_held: Vec<bool> = headers.iter().map(Option::is_some).collect();
    let none = NetError::system("no memory for a block");
    let read = body::read(&mut receive, headers.into_iter().flatten(), bytes).await?;
    let mut blocks = read.ok_or_else(|| none(std::io::ErrorKind::OutOfMemory.into()))?.into_iter();
    Ok(is_held.into_iter().map(|is_held| if is_held { blocks.next() } else { None }).collect())
}

/// Brings blocks, one or more fields of each.
pub(super) async fn put(connection: &Connection, parcel: Parcel, blocks: Vec<Vec<Block>>) -> Result<(), PutError> {
    try_put(connection, parcel, blocks).await.unwrap_or_else(|error| {
        tracing::info!(array = %parcel.array, blocks = %parcel.blocks, %error, "blocks could not be brought");
        Err(PutError::Unreachable)
    })
}

async fn try_put(
    connection: &Connection,
    parcel: Parcel,
    blocks: Vec<Vec<Block>>,
) -> Result<Result<(), PutError>, NetError> {
    let request = next_request();
    let (mut send, mut receive) = open(connection).await?;
    let header = |field: &Block| BlockHeader { item: field.item, shape: field.shape.clone() };
    let headers = blocks.iter().map(|fields| fields.iter().map(header).collect()).collect();
    let head = frame::framed(&PeerRequest::Put { request, parcel, headers })?;
    let cuts: Vec<Cut> = blocks.into_iter().flatten().map(Cut::whole).collect();
    // One that has no room says so without reading on.
    drop(body::write(&mut send, head, &cuts).await);
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
