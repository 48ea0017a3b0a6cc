//! Completions on their way to the scheduler: a millisecond of them is one message, and a worker that has nothing
//! else to do says what it has at once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::block::SmallBlock;
use crate::ids::{ArrayId, BlockId, ClientId};
use crate::intervals::{Interval, IntervalSet};
use crate::wire::FromWorker;

/// How long a completion may wait for others: a hundredth of what is handed out ahead (50 ms), so nobody runs dry.
pub const COALESCE: Duration = Duration::from_millis(1);

/// Intervals in one message at most; more are split.
const INTERVALS_MAX: usize = 4096;

/// A block that is held here now.
pub(super) struct Made {
    pub(super) bytes: u64,
    /// How long a slot was busy with it.
    pub(super) busy: Duration,
    /// The block itself, where it is an array's only one and comes with its completion.
    pub(super) result: Option<SmallBlock>,
}

/// Completions of one array.
#[derive(Debug, Default)]
struct Batch {
    blocks: IntervalSet,
    bytes: u64,
    busy: Duration,
    result: Option<SmallBlock>,
}

/// What the scheduler does not know yet.
#[derive(Debug, Default)]
pub(super) struct Report {
    batches: BTreeMap<ArrayId, Batch>,
    due: Option<Duration>,
}

impl Report {
    /// A block is held here now.
    pub(super) fn done(&mut self, now: Duration, block: BlockId, made: Made) {
        let batch = self.batches.entry(block.array).or_default();
        batch.blocks.insert(Interval::one(block.index));
        batch.bytes += made.bytes;
        batch.busy += made.busy;
        batch.result = made.result.or(batch.result.take());
        self.due.get_or_insert(now + COALESCE);
    }

    /// When the messages are due, if there are any.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Nothing is said of this array any more.
    pub(super) fn forget(&mut self, array: ArrayId) {
        self.batches.remove(&array);
    }

    /// Nothing is said of this client's arrays any more.
    pub(super) fn forget_client(&mut self, client: ClientId) {
        self.batches.retain(|array, _| array.client != client);
    }

    /// All that is to be said.
    pub(super) fn take(&mut self) -> Vec<FromWorker> {
        self.due = None;
        std::mem::take(&mut self.batches).into_iter().flat_map(|(array, batch)| batch.messages(array)).collect()
    }
}

impl Batch {
    fn messages(mut self, array: ArrayId) -> Vec<FromWorker> {
        let intervals: Vec<Interval> = self.blocks.iter().collect();
        let total = self.blocks.count().max(1);
        let mut result = self.result.take();
        let share =
            |blocks: &[Interval]| blocks.iter().map(|interval| interval.count()).sum::<u64>() as f64 / total as f64;
        let messages = intervals.chunks(INTERVALS_MAX).map(|blocks| FromWorker::Done {
            array,
            blocks: blocks.to_vec(),
            bytes: (self.bytes as f64 * share(blocks)) as u64,
            busy: self.busy.mul_f64(share(blocks)),
            result: result.take(),
        });
        messages.collect()
    }
}
