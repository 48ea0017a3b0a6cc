//! Requests for blocks and their answers, as the other side reads them from the bytes that travel. The blocks themselves
//! go beside: on the wire they are raw bytes behind these messages, whose headers say how many.

use gridloom_worker::agent::Answer;
use gridloom_worker::block::Item;
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::wire::{BlockHeader, Parcel, PeerReply, PeerRequest, RequestId};

use super::data::Data;
use super::world::as_read;

/// One of each is on its way at a time, so all may have one name.
const REQUEST: RequestId = RequestId(300);

/// A request for blocks.
pub(super) fn asked(
    parcel: Parcel,
    field: u32,
    region: Option<Region>,
) -> Result<(Parcel, u32, Option<Region>), String> {
    match as_read(PeerRequest::Fetch { request: REQUEST, parcel, field, region }) {
        PeerRequest::Fetch { request: REQUEST, parcel, field, region } => Ok((parcel, field, region)),
        other => Err(format!("a fetch of {parcel:?} is read as {other:?}")),
    }
}

/// Blocks that are brought.
pub(super) fn brought(parcel: Parcel, blocks: Vec<Vec<Data>>) -> Result<(Parcel, Vec<Vec<Data>>), String> {
    let headers: Vec<Vec<BlockHeader>> = blocks.iter().map(|fields| fields.iter().map(header).collect()).collect();
    let sent = headers.clone();
    match as_read(PeerRequest::Put { request: REQUEST, parcel, headers }) {
        PeerRequest::Put { request: REQUEST, parcel, headers } if headers == sent => Ok((parcel, blocks)),
        other => Err(format!("{blocks:?} is read as {other:?}")),
    }
}

/// The answer to either.
pub(super) fn answered(answer: Answer<Data>) -> Result<Answer<Data>, String> {
    let request = REQUEST;
    let said = match &answer {
        Answer::Data(parts) => {
            let headers = parts.iter().map(|part| part.as_ref().map(|part| header(&part.data))).collect();
            PeerReply::Data { request, headers }
        }
        Answer::Stored => PeerReply::Stored { request },
        &Answer::Refused { needs, has } => PeerReply::Refused { request, needs, has },
    };
    let sent = said.clone();
    match (as_read(said), answer) {
        (read, Answer::Data(parts)) if read == sent => Ok(Answer::Data(parts)),
        (PeerReply::Stored { request: REQUEST }, _) => Ok(Answer::Stored),
        (PeerReply::Refused { request: REQUEST, needs, has }, _) => Ok(Answer::Refused { needs, has }),
        (read, answer) => Err(format!("{answer:?} is read as {read:?}")),
    }
}

/// Of one element that is as large as the block.
fn header(data: &Data) -> BlockHeader {
    BlockHeader { item: Item::Partial { bytes: data.bytes as u32 }, shape: Shape::ones(1) }
}
