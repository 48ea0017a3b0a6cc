//! What follows of itself after each event: memory is given to what waits for it, fetches leave, tasks whose operands
//! are here go to the executor, requests are answered, completions reported.

use std::cmp::Reverse;
use std::time::Duration;

use super::fetches::{Departure, Waiter};
use super::{
    Action, Agent, Answer, Known, Order, Outward, Part, Payload, Queued, REFUSE_AFTER, REPLIES_MAX, Request, Start,
    TASKS_MAX,
};
use super::{Lost, Made, Task, Work};
use crate::executor::{ExecuteError, TaskToken};
use crate::ids::{BlockId, WorkerId};
use crate::intervals::Interval;
use crate::stage::Read;
use crate::store::{PartKey, Shortage};
use crate::wire::{FetchError, FromWorker, Whereabouts};

impl<B: Payload> Agent<B> {
    /// Does all that can be done at `now`.
    pub(super) fn advance(&mut self, now: Duration) {
        self.start(now);
        self.admit(now);
        self.give_back_ahead();
        while let Some(Departure { fetch, holder, parcel, first }) = self.fetches.depart() {
            let (field, region) = (first.field(), first.region());
            self.actions.push_back(Action::Out(Outward::Fetch { fetch, holder, parcel, field, region }));
        }
        self.answer();
        let nothing_in_flight = self.tasks.is_empty();
        if nothing_in_flight && self.queue.is_empty() {
            self.store.clear_cache();
        }
        // What waits for memory waits for what is said here, so it is said at once.
        if self.report.due().is_some_and(|due| nothing_in_flight || due <= now) {
            self.actions.extend(self.report.take().into_iter().map(|message| Action::Out(Outward::Send(message))));
        }
    }

    /// Takes blocks off the queue, in order, as long as there is memory for the next.
    fn admit(&mut self, now: Duration) {
        while self.tasks.len() < TASKS_MAX
            && let Some((&key, head)) = self.queue.first_key_value()
        {
            let (array, index) = (head.array, head.blocks.start);
            let Some(peak) = self.peak(head) else {
                let what = format!("{array} is not known here");
                self.fail_head(key, ExecuteError::Internal { what });
                continue;
            };
            let block = BlockId { array, index };
            if let Some(bytes) = self.store.bytes_of(block) {
                self.take_head(key);
                self.report.done(now, block, Made { bytes, busy: Duration::ZERO, result: None });
                self.end_wait_for(block);
                continue;
            }
            let spare = head.order.bytes_spare();
            match self.reserve(block, peak, spare) {
                Ok(needs) => {
                    self.starved = None;
                    let order = self.take_head(key);
                    self.begin(now, block, needs, order);
                }
                Err(shortage) if peak > self.store.limit_bytes() || self.has_starved(now) => {
                    let refused = self.queue.remove(&key).map_or(Interval::one(index), |queued| queued.blocks);
                    self.refuse(array, refused, shortage.needs, shortage.has);
                }
                Err(_) => return,
            }
        }
        self.starved = None;
    }

    /// Whether the head of the queue, which does not fit, has waited long enough for something to change.
    fn has_starved(&mut self, now: Duration) -> bool {
        if !self.tasks.is_empty() {
            self.starved = None;
            return false;
        }
        now >= *self.starved.get_or_insert(now) + REFUSE_AFTER
    }

    /// Sets aside what a block takes that is not here already; what it is to leave free must be free too. Returns what
    /// was set aside.
    fn reserve(&mut self, block: BlockId, peak: u64, spare: u64) -> Result<u64, Shortage> {
        // A worker too small for several stages at once does at least one block of each.
        let spare = spare.min(self.store.limit_bytes().saturating_sub(peak));
        if self.store.has_room(peak.saturating_add(spare)).is_ok() {
            return self.store.reserve(peak).map(|()| peak);
        }
        let here = self.stages.get(&block.array).map_or(0, |known| self.bytes_here(known, block.index));
        let needs = peak - here.min(peak);
        self.store.has_room(needs.saturating_add(spare))?;
        self.store.reserve(needs).map(|()| needs)
    }

    /// What a block reads of blocks that are held here: it reads them where they are. (They are freed before it ends only
    /// if its own result is not wanted any more; then it is on its way out.)
    fn bytes_here(&self, known: &Known, block: u64) -> u64 {
        if !known.reads {
            return 0;
        }
        let bytes = |read: Read| {
            let whole = self.store.field(BlockId { array: read.array, index: read.block }, read.field)?.bytes();
            Some(known.stage.bytes_read(&read).map_or(whole, |part| part.min(whole)))
        };
        known.stage.reads(block).into_iter().filter_map(bytes).sum()
    }

    /// What one block of a queued run takes at most, or nothing if its stage never came.
    fn peak(&self, queued: &Queued) -> Option<u64> {
        match queued.order {
            Order::Compute { .. } => self.stages.get(&queued.array).map(|known| known.stage.bytes_peak),
            Order::Keep { bytes, .. } => Some(bytes),
        }
    }

    /// The first block of a queued run leaves the queue.
    fn take_head(&mut self, key: (Reverse<u32>, u64)) -> Option<Order> {
        let queued = self.queue.get_mut(&key)?;
        queued.blocks.start += 1;
        match queued.blocks.is_empty() {
            true => self.queue.remove(&key).map(|queued| queued.order),
            false => Some(queued.order.clone()),
        }
    }

    fn fail_head(&mut self, key: (Reverse<u32>, u64), error: ExecuteError) {
        let Some(Queued { array, blocks, order }) = self.queue.remove(&key) else {
            return;
        };
        self.give_up(array, blocks);
        let attempt = if let Order::Compute { attempt, .. } = order { attempt } else { 0 };
        let failed =
            |block| Action::Out(Outward::Send(FromWorker::Failed { array, block, attempt, error: error.clone() }));
        self.actions.extend(blocks.indices().map(failed));
    }

    /// A block has its memory: what it needs is gathered or asked for.
    fn begin(&mut self, now: Duration, block: BlockId, reserved: u64, order: Option<Order>) {
        let (attempt, needed) = match order {
            Some(Order::Compute { attempt, inputs, .. }) => (Some(attempt), self.operands_of(block, &inputs)),
            Some(Order::Keep { fields, holder, .. }) => {
                let whole = |field| (PartKey::new(block, field, None), vec![holder]);
                (None, (0..fields).map(whole).collect())
            }
            None => (None, Vec::new()),
        };
        self.counter += 1;
        let token = TaskToken(self.counter);
        let work = Work { block, reserved, attempt };
        let operands: Vec<Option<Part<B>>> = needed.iter().map(|(key, _)| self.local(key)).collect();
        let missing = operands.iter().filter(|operand| operand.is_none()).count();
        let nowhere = needed.iter().zip(&operands).find(|((_, holders), part)| part.is_none() && holders.is_empty());
        if let Some(((key, _), _)) = nowhere {
            self.tasks.insert(token, Task::Fetching { work, operands: Vec::new(), missing: 0 });
            self.fail_fetches(&Lost::from([(token, (key.block(), FetchError::Missing))]), None);
            return;
        }
        if missing == 0 {
            self.go(now, token, work, operands.into_iter().flatten().collect());
            return;
        }
        for (operand, (key, holders)) in needed.into_iter().enumerate() {
            if operands[operand].is_none() {
                // What is set aside for the block has room for all that it waits for.
                self.fetches.want(key, &holders, Waiter { token, operand }, reserved);
            }
        }
        self.tasks.insert(token, Task::Fetching { work, operands, missing });
    }

    /// The parts that a block reads, each with who else has it.
    fn operands_of(&self, block: BlockId, inputs: &[Whereabouts]) -> Vec<(PartKey, Vec<WorkerId>)> {
        let Some(known) = self.stages.get(&block.array).filter(|known| known.reads) else {
            return Vec::new();
        };
        let reads = known.stage.reads(block.index).into_iter();
        let operand = |read: Read| {
            let input = BlockId { array: read.array, index: read.block };
            (PartKey::new(input, read.field, read.region.as_ref()), holders_of(inputs, input).to_vec())
        };
        reads.map(operand).collect()
    }

    /// A part that is here already.
    fn local(&self, key: &PartKey) -> Option<Part<B>> {
        match self.store.field(key.block(), key.field()) {
            Some(data) => Some(Part { data: data.clone(), region: key.region() }),
            None => self.store.cached(key).cloned(),
        }
    }

    /// Tasks whose operands are all here go on.
    fn start(&mut self, now: Duration) {
        for token in std::mem::take(&mut self.filled) {
            if let Some(Task::Fetching { work, operands, .. }) = self.tasks.remove(&token) {
                self.go(now, token, work, operands.into_iter().flatten().collect());
            }
        }
    }

    /// Hands a task to the executor; a block that was only to be kept is kept.
    fn go(&mut self, now: Duration, token: TaskToken, work: Work, operands: Vec<Part<B>>) {
        let BlockId { array, index: block } = work.block;
        match work.attempt {
            Some(_) => {
                self.tasks.insert(token, Task::Running { work });
                self.actions.push_back(Action::Start(Start { token, array, block, operands }));
            }
            None => self.keep(now, work, operands.into_iter().map(|part| part.data).collect(), Duration::ZERO),
        }
    }

    /// Answers requests, in order, as many at once as allowed.
    fn answer(&mut self) {
        while self.replying.len() < REPLIES_MAX
            && let Some(request) = self.requests.pop_front()
        {
            self.replying.insert(request.from);
            let answer = Answer::Data(self.parts(&request));
            self.actions.push_back(Action::Out(Outward::Reply { to: request.from, answer }));
        }
    }

    /// What is held of what is wanted.
    fn parts(&self, Request { parcel, field, region, .. }: &Request) -> Vec<Option<Part<B>>> {
        let part = |data: &B| Part { data: data.clone(), region: region.clone() };
        parcel.ids().map(|block| self.store.field(block, *field).map(part)).collect()
    }
}

/// Who holds `block`, by the run's own list (sorted by array and first block).
pub(super) fn holders_of(inputs: &[Whereabouts], block: BlockId) -> &[WorkerId] {
    let after = inputs.partition_point(|place| (place.array, place.blocks.start) <= (block.array, block.index));
    match after.checked_sub(1).map(|at| &inputs[at]) {
        Some(place) if place.array == block.array && place.blocks.contains(block.index) => &place.holders,
        _ => &[],
    }
}
