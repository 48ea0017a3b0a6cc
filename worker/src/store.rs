//! The blocks that a worker holds, and the ledger of every byte it may use.
//!
//! A byte is *held* (a block that others may ask for), *reserved* (for a task in flight: its operands, scratch and
//! output) or *cached* (a fetched part that may serve again, given up whenever memory is wanted). Together they never
//! exceed the limit. The store moves no data and starts no work.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeBounds;

use crate::block::{Block, SmallBlock};
use crate::ids::{ArrayId, BlockId, ClientId};
use crate::intervals::Interval;
use crate::shape::{Region, Shape};

/// What is held and handed on without looking inside. Cloning shares, it does not copy.
pub trait Payload: Clone {
    /// What it takes in memory.
    fn bytes(&self) -> u64;

    /// All fields of a block as they travel inside a message, if they are few bytes and here.
    fn small(fields: &[Self]) -> Option<SmallBlock>;
}

impl Payload for Block {
    fn bytes(&self) -> u64 {
        self.buffer.len() as u64
    }

    fn small(fields: &[Block]) -> Option<SmallBlock> {
        SmallBlock::of(fields)
    }
}

/// A field of a block, and what of it is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Part<B> {
    /// The bytes.
    pub data: B,
    /// The part meant, in `data`'s own coordinates; `None` for all of it (always so where the holder has cut it).
    pub region: Option<Region>,
}

/// What was asked for does not fit beside what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{needs} bytes are needed and {has} could be had")]
pub struct Shortage {
    /// What was asked for.
    pub needs: u64,
    /// What there would be if everything in flight had ended: the limit less what is held.
    pub has: u64,
}

/// A part of a block, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartKey {
    block: BlockId,
    field: u32,
    /// Start and end of the region; `None` for the whole block.
    region: Option<(Shape, Shape)>,
}

impl PartKey {
    /// The name of a part.
    pub fn new(block: BlockId, field: u32, region: Option<&Region>) -> PartKey {
        PartKey { block, field, region: region.map(|region| (region.start.clone(), region.end.clone())) }
    }

    /// Whether this is the same part of the block after that of `before`.
    pub fn follows(&self, before: &PartKey) -> bool {
        let next = BlockId { index: before.block.index.wrapping_add(1), ..before.block };
        (self.block, self.field, &self.region) == (next, before.field, &before.region)
    }

    /// Whose part.
    pub fn block(&self) -> BlockId {
        self.block
    }

    /// Which field.
    pub fn field(&self) -> u32 {
        self.field
    }

    /// Which part; `None` for all.
    pub fn region(&self) -> Option<Region> {
        self.region.as_ref().map(|(start, end)| Region { start: start.clone(), end: end.clone() })
    }
}

/// A block, one payload per field.
#[derive(Debug)]
struct Held<B> {
    fields: Vec<B>,
    bytes: u64,
}

/// The ledger and what is held.
#[derive(Debug)]
pub struct Store<B> {
    limit_bytes: u64,
    held_bytes: u64,
    reserved_bytes: u64,
    cached_bytes: u64,
    held: BTreeMap<BlockId, Held<B>>,
    cached: BTreeMap<PartKey, Part<B>>,
    /// What is cached, oldest first.
    cached_order: VecDeque<PartKey>,
}

impl<B: Payload> Store<B> {
    /// Nothing held, and room for `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Store<B> {
        Store {
            limit_bytes,
            held_bytes: 0,
            reserved_bytes: 0,
            cached_bytes: 0,
            held: BTreeMap::new(),
            cached: BTreeMap::new(),
            cached_order: VecDeque::new(),
        }
    }

    /// The most that may be used.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// What blocks take that others may ask for.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// What is set aside for work in flight.
    pub fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes
    }

    /// All of it. Never above the limit.
    pub fn used_bytes(&self) -> u64 {
        self.held_bytes + self.reserved_bytes + self.cached_bytes
    }

    /// How many blocks are held.
    pub fn blocks(&self) -> usize {
        self.held.len()
    }

    /// The blocks held.
    pub fn block_ids(&self) -> impl Iterator<Item = BlockId> + '_ {
        self.held.keys().copied()
    }

    /// Whether bytes could be set aside now.
    pub fn has_room(&self, bytes: u64) -> Result<(), Shortage> {
        let has = self.limit_bytes - self.held_bytes;
        match bytes > has - self.reserved_bytes {
            true => Err(Shortage { needs: bytes, has }),
            false => Ok(()),
        }
    }

    /// Sets bytes aside, giving up cached parts for them if need be.
    pub fn reserve(&mut self, bytes: u64) -> Result<(), Shortage> {
        self.has_room(bytes)?;
        while self.used_bytes() + bytes > self.limit_bytes {
            self.evict_oldest();
        }
        self.reserved_bytes += bytes;
        debug_assert!(self.used_bytes() <= self.limit_bytes, "the ledger is over its limit");
        Ok(())
    }

    /// Gives reserved bytes back.
    pub fn release(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.reserved_bytes, "only what was reserved is released");
        self.reserved_bytes = self.reserved_bytes.saturating_sub(bytes);
    }

    /// Holds a block that was made within a reservation of `reserved` bytes, which ends.
    ///
    /// # Errors
    /// If it takes more than was reserved and that is not there. The reservation ends all the same.
    pub fn keep(&mut self, block: BlockId, fields: Vec<B>, reserved: u64) -> Result<u64, Shortage> {
        let bytes = fields.iter().map(Payload::bytes).sum();
        self.release(reserved);
        self.remove(block);
        self.reserve(bytes)?;
        self.release(bytes);
        self.held_bytes += bytes;
        self.held.insert(block, Held { fields, bytes });
        Ok(bytes)
    }

    /// Holds neighbouring blocks that somebody brings, all of them.
    ///
    /// # Errors
    /// If there is no room for all: then none of them is held.
    pub fn keep_all(&mut self, array: ArrayId, indices: Interval, blocks: Vec<Vec<B>>) -> Result<(), Shortage> {
        self.remove_blocks(array, indices);
        self.reserve(blocks.iter().flatten().map(Payload::bytes).sum())?;
        for (index, fields) in indices.indices().zip(blocks) {
            let bytes = fields.iter().map(Payload::bytes).sum();
            self.keep(BlockId { array, index }, fields, bytes)?;
        }
        Ok(())
    }

    /// The field of a block, if it is held.
    pub fn field(&self, block: BlockId, field: u32) -> Option<&B> {
        self.held.get(&block)?.fields.get(field as usize)
    }

    /// What a held block takes.
    pub fn bytes_of(&self, block: BlockId) -> Option<u64> {
        self.held.get(&block).map(|held| held.bytes)
    }

    /// Drops what is held of `blocks`.
    pub fn remove_blocks(&mut self, array: ArrayId, blocks: Interval) {
        self.remove_range(
            BlockId { array, index: blocks.start }..BlockId { array, index: blocks.end.max(blocks.start) },
        );
    }

    /// Drops what is held of an array.
    pub fn remove_array(&mut self, array: ArrayId) {
        self.remove_blocks(array, Interval::new(0, u64::MAX));
    }

    /// Drops what is held of a client's arrays.
    pub fn remove_client(&mut self, client: ClientId) {
        let (first, last) = (ArrayId { client, sequence: 0 }, ArrayId { client, sequence: u64::MAX });
        self.remove_range(BlockId { array: first, index: 0 }..=BlockId { array: last, index: u64::MAX });
    }

    fn remove_range(&mut self, bounds: impl RangeBounds<BlockId> + Clone) {
        while let Some(block) = self.held.range(bounds.clone()).next().map(|(&block, _)| block) {
            self.remove(block);
        }
    }

    /// A fetched part that may serve again is kept as long as nobody wants its memory.
    pub fn cache(&mut self, key: PartKey, part: &Part<B>) {
        let bytes = part.data.bytes();
        if self.used_bytes() + bytes <= self.limit_bytes && !self.cached.contains_key(&key) {
            self.cached_bytes += bytes;
            self.cached_order.push_back(key.clone());
            self.cached.insert(key, part.clone());
        }
    }

    /// A part that was fetched before.
    pub fn cached(&self, key: &PartKey) -> Option<&Part<B>> {
        self.cached.get(key)
    }

    /// Forgets all fetched parts.
    pub fn clear_cache(&mut self) {
        self.cached.clear();
        self.cached_order.clear();
        self.cached_bytes = 0;
    }

    /// Sums the ledger again.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check(&self) -> Result<(), String> {
        let held: u64 = self.held.values().map(|held| held.bytes).sum();
        let cached: u64 = self.cached.values().map(|part| part.data.bytes()).sum();
        if (held, cached) != (self.held_bytes, self.cached_bytes) {
            return Err(format!("held {held} cached {cached}, written {} {}", self.held_bytes, self.cached_bytes));
        }
        match self.used_bytes() > self.limit_bytes {
            true => Err(format!("{} bytes used of {}", self.used_bytes(), self.limit_bytes)),
            false => Ok(()),
        }
    }

    fn remove(&mut self, block: BlockId) {
        if let Some(held) = self.held.remove(&block) {
            self.held_bytes -= held.bytes;
        }
    }

    fn evict_oldest(&mut self) {
        let part = self.cached_order.pop_front().and_then(|key| self.cached.remove(&key));
        match part {
            Some(part) => self.cached_bytes -= part.data.bytes(),
            None => self.cached_bytes = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug)]
    struct Weight(u64);

    impl Payload for Weight {
        fn bytes(&self) -> u64 {
            self.0
        }

        fn small(_: &[Weight]) -> Option<SmallBlock> {
            None
        }
    }

    fn block(index: u64) -> BlockId {
        BlockId { array: ArrayId { client: ClientId(1), sequence: 1 }, index }
    }

    #[test]
    fn the_ledger_never_goes_over_and_caches_give_way() {
        let mut store = Store::new(100);
        store.reserve(60).unwrap();
        let part = Part { data: Weight(40), region: None };
        store.cache(PartKey::new(block(9), 0, None), &part);
        assert_eq!(store.used_bytes(), 100);
        assert_eq!(store.reserve(41), Err(Shortage { needs: 41, has: 100 }));
        store.reserve(20).unwrap();
        assert!(store.cached(&PartKey::new(block(9), 0, None)).is_none());
        assert_eq!(store.keep(block(0), vec![Weight(30), Weight(20)], 60), Ok(50));
        assert_eq!((store.held_bytes(), store.reserved_bytes()), (50, 20));
        assert_eq!(store.reserve(50), Err(Shortage { needs: 50, has: 50 }));
        // A block made again replaces itself.
        assert_eq!(store.keep(block(0), vec![Weight(50)], 0), Ok(50));
        assert_eq!(store.keep(block(1), vec![Weight(31)], 0), Err(Shortage { needs: 31, has: 50 }));
        store.check().unwrap();
        store.remove_client(ClientId(1));
        assert_eq!((store.blocks(), store.used_bytes()), (0, 20));
    }

    #[test]
    fn what_comes_together_is_kept_whole_or_not_at_all() {
        let mut store = Store::new(100);
        let array = block(0).array;
        let blocks = |bytes: [u64; 3]| bytes.map(|bytes| vec![Weight(bytes), Weight(1)]).to_vec();
        assert_eq!(store.keep_all(array, Interval::new(4, 7), blocks([10, 20, 30])), Ok(()));
        assert_eq!((store.blocks(), store.held_bytes()), (3, 63));
        let shortage = Shortage { needs: 43, has: 37 };
        assert_eq!(store.keep_all(array, Interval::new(7, 10), blocks([10, 10, 20])), Err(shortage));
        assert_eq!((store.blocks(), store.used_bytes()), (3, 63));
        // Blocks brought again replace themselves.
        assert_eq!(store.keep_all(array, Interval::new(5, 8), blocks([20, 30, 30])), Ok(()));
        assert_eq!(store.bytes_of(block(5)), Some(21));
        assert_eq!((store.blocks(), store.used_bytes()), (4, 94));
        store.check().unwrap();
    }

    #[test]
    fn parts_of_arrays_and_ranges_go_together() {
        let mut store = Store::new(100);
        for index in 0..10 {
            store.keep(block(index), vec![Weight(1)], 0).unwrap();
        }
        store.remove_blocks(block(0).array, Interval::new(3, 7));
        assert_eq!(store.block_ids().map(|block| block.index).collect::<Vec<_>>(), vec![0, 1, 2, 7, 8, 9]);
        store.remove_array(block(0).array);
        assert_eq!(store.used_bytes(), 0);
    }
}
