//! The memory of a local cluster's workers together, and what of a worker's own is for its blocks.

use std::collections::BTreeMap;

use crate::host;

/// The share of this process's memory that all workers together may fill, in percent: the rest is for the program itself
/// and for what it gathers.
const BUDGET_PERCENT: u64 = 80;

/// What a worker's process may take beside the memory of its blocks: the program, the code that it generates, what the
/// network has in flight. `tests/it/processes/memory.rs` measures that it is enough.
pub(super) const PROGRAM_BYTES: u64 = 56 << 20;

/// What of a worker's memory is for blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockMemory {
    /// What their buffers may take.
    pub(super) buffer_bytes: u64,
    /// What its ledger may count: a buffer is at most an eighth larger than its block.
    pub(super) ledger_bytes: u64,
}

impl BlockMemory {
    /// Of a worker that may take `bytes` in all; none where the program itself takes as much.
    pub(super) fn of(bytes: u64) -> Option<BlockMemory> {
        let buffer_bytes = bytes.checked_sub(PROGRAM_BYTES).filter(|&left| left > 0)?;
        Some(BlockMemory { buffer_bytes, ledger_bytes: buffer_bytes / 9 * 8 })
    }
}

/// What there is, and who was given how much of it.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: u64,
    given: BTreeMap<u64, u64>,
}

impl Budget {
    pub(super) fn of_this_process() -> Budget {
        // Where nothing can be read, assume little rather than too much.
        let memory = host::memory_bytes().into_iter().chain(host::memory_limit_bytes()).min().unwrap_or(2 << 30);
        Budget { bytes: memory / 100 * BUDGET_PERCENT, given: BTreeMap::new() }
    }

    /// What each of `added` workers may have.
    pub(super) fn share(&self, added: usize) -> u64 {
        let left = self.bytes.saturating_sub(self.given.values().sum());
        left / 4 * 3 / added.max(1) as u64
    }

    /// What everyone has, in the order of their numbers.
    #[cfg(test)]
    pub(super) fn given(&self) -> Vec<u64> {
        self.given.values().copied().collect()
    }

    /// A worker has so much now.
    pub(super) fn give(&mut self, worker: u64, bytes: u64) {
        self.given.insert(worker, bytes);
    }

    /// A worker is gone.
    pub(super) fn take_back(&mut self, worker: u64) {
        self.given.remove(&worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_what_the_program_leaves() {
        let left = |bytes| BlockMemory::of(PROGRAM_BYTES + bytes);
        assert_eq!(left(90), Some(BlockMemory { buffer_bytes: 90, ledger_bytes: 80 }));
        assert_eq!((left(0), BlockMemory::of(1)), (None, None));
    }

    #[test]
    fn workers_never_have_more_than_the_budget_and_there_is_always_some_left() {
        let mut budget = Budget { bytes: 1600, given: BTreeMap::new() };
        let add = |budget: &mut Budget, ids: std::ops::Range<u64>| {
            let share = budget.share(ids.clone().count());
            ids.for_each(|id| budget.give(id, share));
            share
        };
        assert_eq!(add(&mut budget, 0..3), 400);
        assert_eq!(add(&mut budget, 3..4), 300);
        assert_eq!(add(&mut budget, 4..6), 37);
        budget.take_back(3);
        assert_eq!(add(&mut budget, 6..7), 243);
        assert!(budget.given.values().sum::<u64>() <= budget.bytes);
        // Limits that were asked for may be more than there is.
        budget.give(7, 5000);
        assert_eq!(budget.share(1), 0);
        budget.take_back(7);
        assert_eq!(budget.share(1), 60);
    }
}
