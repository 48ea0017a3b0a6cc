//! Requests for blocks and their answers, as the other side reads them from the bytes that travel. The blocks themselves
//! go beside: on the wire they are raw bytes behind these messages, whose headers say how many.

use gridloom_worker::agent::Answer;
use gridloom_worker::block::Item;
use gridloom_worker::ids::BlockId;
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::wire::{BlockHeader, PeerReply, PeerRequest, RequestId};

use super::world::{Data, as_read};

/// One of each is on its way at a time, so all may have one name.
const REQUEST: RequestId = RequestId(300);

/// A request for a block.
pub(super) fn asked(
    block: BlockId,
    field: u32,
    region: Option<Region>,
) -> Result<(BlockId, u32, Option<Region>), String> {
    match as_read(PeerRequest::Fetch { request: REQUEST, block, field, region }) {
        PeerRequest::Fetch { request: REQUEST, block, field, region } => Ok((block, field, region)),
        other => Err(format!("a fetch of {block} is read as {other:?}")),
    }
}

/// A block that is brought.
pub(super) fn brought(block: BlockId, fields: Vec<Data>) -> Result<(BlockId, Vec<Data>), String> {
    let headers = fields.iter().map(header).collect();
    let is_right =
        |read: &[BlockHeader]| read.iter().map(BlockHeader::bytes).eq(fields.iter().map(|field| Some(field.bytes)));
    match as_read(PeerRequest::Put { request: REQUEST, block, fields: headers }) {
        PeerRequest::Put { request: REQUEST, block, fields: headers } if is_right(&headers) => Ok((block, fields)),
        other => Err(format!("{fields:?} is read as {other:?}")),
    }
}

/// The answer to either.
pub(super) fn answered(answer: Answer<Data>) -> Result<Answer<Data>, String> {
    let request = REQUEST;
    let said = match &answer {
        Answer::Data(part) => PeerReply::Data { request, header: header(&part.data) },
        Answer::Missing => PeerReply::Missing { request },
        Answer::Stored => PeerReply::Stored { request },
        &Answer::Refused { needs, has } => PeerReply::Refused { request, needs, has },
    };
    match (as_read(said), answer) {
        (PeerReply::Data { request: REQUEST, header }, Answer::Data(part))
            if header.bytes() == Some(part.data.bytes) =>
        {
            Ok(Answer::Data(part))
        }
        (PeerReply::Missing { request: REQUEST }, _) => Ok(Answer::Missing),
        (PeerReply::Stored { request: REQUEST }, _) => Ok(Answer::Stored),
        (PeerReply::Refused { request: REQUEST, needs, has }, _) => Ok(Answer::Refused { needs, has }),
        (read, answer) => Err(format!("{answer:?} is read as {read:?}")),
    }
}

/// Of one element that is as large as the block.
fn header(data: &Data) -> BlockHeader {
    BlockHeader { item: Item::Partial { bytes: data.bytes as u32 }, shape: Shape::ones(1) }
}
