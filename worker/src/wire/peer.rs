//! Between whoever wants blocks (a worker, a client) and the worker that holds them.
//!
//! What is asked for, or brought, is a [`Parcel`]: neighbouring blocks of an array, so that small ones share what a
//! request costs. A request and its reply share a stream. After a header that describes blocks come their raw bytes, in
//! order.

use serde::{Deserialize, Serialize};

use crate::block::{BLOCK_BYTES_MAX, Item};
use crate::ids::{ArrayId, BlockId};
use crate::intervals::Interval;
use crate::shape::{Region, Shape};
use crate::wire::message::FetchError;

/// Blocks in a parcel at most.
pub const PARCEL_BLOCKS_MAX: u64 = 1024;

/// What several blocks of a parcel may take in all. A block that takes more travels alone.
pub const PARCEL_BYTES_MAX: u64 = 64 << 10;

/// Neighbouring blocks of an array that travel together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Parcel {
    /// Whose.
    pub array: ArrayId,
    /// Which.
    pub blocks: Interval,
}

impl Parcel {
    /// A block alone.
    pub fn one(block: BlockId) -> Parcel {
        Parcel { array: block.array, blocks: Interval::one(block.index) }
    }

    /// How many blocks of at most `block_bytes` travel together.
    pub fn blocks_max(block_bytes: u64) -> u64 {
        (PARCEL_BYTES_MAX / block_bytes.max(1)).clamp(1, PARCEL_BLOCKS_MAX)
    }

    /// The blocks, in order.
    pub fn ids(self) -> impl ExactSizeIterator<Item = BlockId> {
        let Parcel { array, blocks } = self;
        let count = blocks.count().min(PARCEL_BLOCKS_MAX) as usize;
        (0..count).map(move |at| BlockId { array, index: blocks.start + at as u64 })
    }

    /// Each block, and what came of it: one that did not come is not held, or nobody has answered.
    pub fn unpack<T>(
        self,
        came: Result<Vec<Option<T>>, FetchError>,
    ) -> impl Iterator<Item = (BlockId, Result<T, FetchError>)> {
        let (parts, error) = match came {
            Ok(parts) => (parts, FetchError::Missing),
            Err(error) => (Vec::new(), error),
        };
        let mut parts = parts.into_iter();
        self.ids().map(move |block| (block, parts.next().flatten().ok_or(error)))
    }

    /// What fields with these headers take in all; `None` if they, or the parcel, cannot be.
    pub fn bytes<'a>(&self, mut headers: impl Iterator<Item = &'a BlockHeader>) -> Option<u64> {
        let sum = headers.try_fold(0u64, |sum, header| sum.checked_add(header.bytes()?))?;
        let is_small = self.blocks.count() <= 1 || sum <= PARCEL_BYTES_MAX;
        (self.is_sound() && is_small).then_some(sum)
    }

    /// Whether it has no more blocks than it may.
    pub fn is_sound(&self) -> bool {
        self.blocks.count() <= PARCEL_BLOCKS_MAX
    }
}

/// Names a request to who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// To a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerRequest {
    /// One field of some blocks, or a part of it.
    Fetch {
        /// Comes back with the reply.
        request: RequestId,
        /// Which blocks.
        parcel: Parcel,
        /// Which field.
        field: u32,
        /// The part, in each block's own coordinates; `None` for all of it.
        region: Option<Region>,
    },
    /// Blocks to keep: all, or none. The raw bytes of their fields follow, block by block.
    Put {
        /// Comes back with the reply.
        request: RequestId,
        /// Which blocks.
        parcel: Parcel,
        /// Of each block, one per field.
        headers: Vec<Vec<BlockHeader>>,
    },
}

/// From a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerReply {
    /// What was asked for. The raw bytes of what there is follow, block by block.
    Data {
        /// Of the request.
        request: RequestId,
        /// Of each block the part that was asked for, no more; `None` where it is not held.
        headers: Vec<Option<BlockHeader>>,
    },
    /// The blocks are kept.
    Stored {
        /// Of the request.
        request: RequestId,
    },
    /// There is no memory for the blocks. None is kept.
    Refused {
        /// Of the request.
        request: RequestId,
        /// What they take.
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
