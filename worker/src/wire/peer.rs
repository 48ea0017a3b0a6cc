//! Between whoever wants a block (a worker, a client) and the worker that holds it.
//!
//! A request and its reply share a stream. After a header that describes blocks come their raw bytes, in order.

use serde::{Deserialize, Serialize};

use crate::block::{BLOCK_BYTES_MAX, Item};
use crate::ids::BlockId;
use crate::shape::{Region, Shape};

/// Names a request to who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// To a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerRequest {
    /// A block, or a part of one field of it.
    Fetch {
        /// Comes back with the reply.
        request: RequestId,
        /// Which block.
        block: BlockId,
        /// Which field.
        field: u32,
        /// The part, in the block's own coordinates; `None` for all of it.
        region: Option<Region>,
    },
    /// A block to keep. The raw bytes of its fields follow.
    Put {
        /// Comes back with the reply.
        request: RequestId,
        /// Which block.
        block: BlockId,
        /// One per field.
        fields: Vec<BlockHeader>,
    },
}

/// From a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerReply {
    /// What was asked for. Its raw bytes follow.
    Data {
        /// Of the request.
        request: RequestId,
        /// The part that was asked for, no more.
        header: BlockHeader,
    },
    /// No such block is held.
    Missing {
        /// Of the request.
        request: RequestId,
    },
    /// The block is kept.
    Stored {
        /// Of the request.
        request: RequestId,
    },
    /// There is no memory for the block.
    Refused {
        /// Of the request.
        request: RequestId,
        /// What it takes.
        needs: u64,
        /// What could be had.
        has: u64,
    },
}

/// What raw bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockHeader {
    /// What each element is.
    pub item: Item,
    /// Lengths per axis, C order.
    pub shape: Shape,
}

impl BlockHeader {
    /// How many raw bytes follow; `None` for a header that no block can have, which is refused before it allocates.
    pub fn bytes(&self) -> Option<u64> {
        let elements = Shape::new(&self.shape).ok()?.elements();
        elements.checked_mul(self.item.bytes()).filter(|&bytes| bytes <= BLOCK_BYTES_MAX)
    }
}
