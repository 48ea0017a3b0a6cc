//! Runs that come ahead of what they read: so a chain of small tasks takes one message each, and no round trip.
//!
//! Such a run waits for a block that is queued, in flight or waited for here. It takes no memory meanwhile, so that it is
//! in nobody's way. When the block is held the run is queued like any other; when it is not to be made here after all,
//! whoever reads it is given back as if it had not been found.

use super::advance::holders_of;
use super::{Action, Agent, Order, Outward, Payload, Queued, Task};
use crate::ids::{ArrayId, BlockId};
use crate::intervals::Interval;
use crate::wire::{FetchError, FromWorker};

impl<B: Payload> Agent<B> {
    /// Queues a run, unless it has to wait for something that is made here.
    pub(super) fn enqueue_or_wait(&mut self, queued: Queued) {
        match self.awaited(&queued) {
            Some(input) => self.ahead.entry(input).or_default().push(queued),
            None => {
                let depth = self.stages.get(&queued.array).map_or(0, |known| known.depth);
                self.enqueue(depth, queued);
            }
        }
    }

    /// What a run of one block reads that is neither here nor elsewhere, but on its way here.
    fn awaited(&self, queued: &Queued) -> Option<BlockId> {
        let Order::Compute { inputs, .. } = &queued.order else { return None };
        let known = self.stages.get(&queued.array).filter(|known| known.reads && queued.blocks.count() == 1)?;
        if self.tasks.is_empty() && self.queue.is_empty() {
            return None;
        }
        let reads = known.stage.reads(queued.blocks.start).into_iter();
        let mut read = reads.map(|read| BlockId { array: read.array, index: read.block });
        read.find(|&input| {
            self.store.bytes_of(input).is_none() && holders_of(inputs, input).is_empty() && self.is_coming(input)
        })
    }

    /// Whether a block is to be made here.
    pub(super) fn is_coming(&self, block: BlockId) -> bool {
        let is_it = |queued: &Queued| queued.array == block.array && queued.blocks.contains(block.index);
        let is_its_task = |task: &Task<B>| match task {
            Task::Fetching { work, .. } | Task::Running { work } => work.block == block,
            Task::Stopping { .. } => false,
        };
        self.tasks.values().any(is_its_task) || self.queue.values().chain(self.ahead.values().flatten()).any(is_it)
    }

    /// A block is held: who waits for it may go on.
    pub(super) fn end_wait_for(&mut self, block: BlockId) {
        let waiting = self.ahead.remove(&block).unwrap_or_default();
        waiting.into_iter().for_each(|queued| self.enqueue_or_wait(queued));
    }

    /// The runs of some arrays are not wanted any more, nor will there be blocks of theirs.
    pub(super) fn drop_ahead(&mut self, belongs: impl Fn(ArrayId) -> bool) {
        self.ahead.retain(|_, waiting| {
            waiting.retain(|queued| !belongs(queued.array));
            !waiting.is_empty()
        });
        let inputs = self.ahead.keys().filter(|input| belongs(input.array));
        self.given_up.extend(inputs.map(|input| (input.array, Interval::one(input.index))));
    }

    /// Blocks are not to be made here, unless they were asked for twice.
    pub(super) fn give_up(&mut self, array: ArrayId, blocks: Interval) {
        if !self.ahead.is_empty() && !blocks.is_empty() {
            self.given_up.push((array, blocks));
        }
    }

    /// Gives back what waits for blocks that were given up, and what waits for that in turn.
    pub(super) fn give_back_ahead(&mut self) {
        while let Some((array, blocks)) = self.given_up.pop() {
            let [first, end] = [blocks.start, blocks.end].map(|index| BlockId { array, index });
            let awaited = self.ahead.range(first..end).map(|(&input, _)| input);
            let lost: Vec<BlockId> = awaited.filter(|&input| !self.is_coming(input)).collect();
            for input in lost {
                for Queued { array, blocks, .. } in self.ahead.remove(&input).unwrap_or_default() {
                    let block = BlockId { array, index: blocks.start };
                    let failed = FromWorker::FetchFailed { block, input, holder: None, error: FetchError::Missing };
                    self.actions.push_back(Action::Out(Outward::Send(failed)));
                    self.given_up.push((array, blocks));
                }
            }
        }
    }
}
