//! What is known of one array: sets of its blocks, and never a record for one of them.
//!
//! A block is in exactly one state, and every edge is one method here:
//! ```text
//!            inputs held         handed out            computed          nobody needs it
//!  waiting ---------------> ready ----------> dispensed ----------> held ---------------> spent
//!     ^ ^  <---------------   ^                   |                 | |                     |
//!     | |    input lost       |                   | given back      | | last copy lost      |
//!     | +---------------------+-------------------+                 | |                     |
//!     +-------------------------------------------------------------|-+---------------------+
//!                          needed again (derived)                   +-> held elsewhere
//! ```
//! A block is needed while its array is pinned and the client has not *taken* it, or an unfinished block reads it.
//! *Unfinished* is waiting, ready or dispensed, and needed. A block that is computed twice is held although somebody
//! still works on it; it is finished all the same, and soon spent. One may be handed out while it waits, ahead of its
//! inputs, to who is making them. One that is lost just when the client takes it is
//! given up: from whatever state it goes to spent. Either way a worker that has it in hand works in vain. A *suspect*
//! was in flight when a worker died: once ready it stands in line, to be handed out alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gridloom_worker::ids::{ArrayId, ClientId, JobId, WorkerId};
use gridloom_worker::intervals::{Interval, IntervalSet};
use gridloom_worker::wire::{DeviceClass, KernelBytes};

use super::error::JobError;
use super::policy::Pace;
use super::relation::Relation;
use super::story::BlockState;

/// How an array is made.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) relation: Relation,
    pub(super) kernels: Vec<KernelBytes>,
    /// Who may make it, also when it is made again.
    pub(super) classes: Arc<[DeviceClass]>,
    pub(super) bytes_peak: u64,
    /// What its workers leave free beside a block of it: a block of each stage on the longest way from it to the job's
    /// outputs, so that what reads its blocks, and frees them, always has room. More than is ever needed: a job that
    /// would fail for want of it goes on without.
    pub(super) bytes_spare: u64,
}

/// A question that waits until the blocks are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) client: ClientId,
    pub(super) request: u64,
    pub(super) about: About,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum About {
    /// All of these.
    All(Interval),
    /// Any that were not told in a stream.
    Untold,
}

/// One array.
#[derive(Debug, Default)]
pub(super) struct Array {
    pub(super) job: Option<JobId>,
    /// `None` for what a client put on workers itself.
    pub(super) recipe: Option<Recipe>,
    pub(super) blocks: u64,
    pub(super) fields: u32,
    /// Of the largest block, all fields.
    pub(super) bytes: u64,
    /// The longest way from a source.
    pub(super) depth: u32,
    /// Arrays whose stages read it.
    pub(super) readers: Vec<ArrayId>,
    /// Whether its client wants to keep it.
    pub(super) pinned: bool,
    /// Whether its client was told that it is complete.
    pub(super) announced: bool,
    pub(super) failed: Option<JobError>,

    /// How many blocks its job needs.
    pub(super) wanted: u64,
    pub(super) unfinished: IntervalSet,
    waiting: IntervalSet,
    /// Ready, by the worker at whose home they are.
    homes: BTreeMap<WorkerId, IntervalSet>,
    /// Ready, with no worker to serve them.
    homeless: IntervalSet,
    /// Ready suspects.
    line: IntervalSet,
    dispensed: BTreeMap<WorkerId, IntervalSet>,
    held: BTreeMap<WorkerId, IntervalSet>,
    /// All that is held by somebody.
    pub(super) done: IntervalSet,
    pub(super) suspects: IntervalSet,

    /// The client has these and wants them no more.
    pub(super) taken: IntervalSet,
    /// Held, and the client is about to fetch and take them.
    pub(super) told: IntervalSet,
    /// When a stream may be told of few.
    pub(super) stream_due: Duration,
    pub(super) questions: Vec<Question>,
    /// One more than the times that blocks of it were given back or lost.
    pub(super) attempt: u32,
    paces: BTreeMap<WorkerId, Pace>,
    pace: Pace,
    /// Workers where it failed in a way that others may not.
    pub(super) excluded: BTreeSet<WorkerId>,
    /// How often a block failed in a way that may have been chance.
    pub(super) failures: BTreeMap<u64, u32>,
}

impl Array {
    pub(super) fn new(blocks: u64, fields: u32, bytes: u64) -> Array {
        Array { blocks, fields, bytes, attempt: 1, ..Array::default() }
    }

    /// Its blocks as one interval.
    pub(super) fn whole(&self) -> Interval {
        Interval::new(0, self.blocks)
    }

    /// The arrays it reads.
    pub(super) fn inputs(&self) -> &[ArrayId] {
        self.recipe.as_ref().map_or(&[], |recipe| recipe.relation.inputs())
    }

    /// Whether each block is held or was taken, of an array that is pinned.
    pub(super) fn is_complete(&self) -> bool {
        self.taken.covers_all(&self.unfinished)
    }

    /// What a stream has not told its client yet.
    pub(super) fn untold(&self) -> IntervalSet {
        let mut untold = self.done.difference(&self.told);
        untold.remove_all(&self.taken);
        untold
    }
}

/// Questions.
impl Array {
    pub(super) fn state(&self, block: u64) -> BlockState {
        if self.done.contains(block) {
            BlockState::Held
        } else if !self.unfinished.contains(block) {
            BlockState::Spent
        } else if self.waiting.contains(block) {
            BlockState::Waiting
        } else if self.dispensed.values().any(|set| set.contains(block)) {
            BlockState::Dispensed
        } else {
            BlockState::Ready
        }
    }

    /// What of `blocks` somebody needs, held already or not.
    pub(super) fn wanted_of(&self, blocks: &IntervalSet) -> IntervalSet {
        let mut wanted = blocks.intersection(&self.unfinished);
        wanted.insert_all(&blocks.intersection(&self.done));
        wanted
    }

    pub(super) fn waiting(&self) -> &IntervalSet {
        &self.waiting
    }

    pub(super) fn homes(&self) -> &BTreeMap<WorkerId, IntervalSet> {
        &self.homes
    }

    pub(super) fn homeless(&self) -> &IntervalSet {
        &self.homeless
    }

    pub(super) fn line(&self) -> &IntervalSet {
        &self.line
    }

    pub(super) fn dispensed(&self) -> &BTreeMap<WorkerId, IntervalSet> {
        &self.dispensed
    }

    pub(super) fn held(&self) -> &BTreeMap<WorkerId, IntervalSet> {
        &self.held
    }

    /// Whether any block could be handed out, were there a worker.
    pub(super) fn has_ready(&self) -> bool {
        !self.homes.is_empty() || !self.homeless.is_empty() || !self.line.is_empty()
    }

    /// Who holds `block`, and up to where they go on holding what follows.
    pub(super) fn holders_from(&self, block: u64) -> Vec<(WorkerId, u64)> {
        let ends = self.held.iter().filter_map(|(&worker, set)| Some((worker, set.interval_at(block)?.end)));
        ends.collect()
    }

    /// What only `worker` holds.
    pub(super) fn held_only_by(&self, worker: WorkerId) -> IntervalSet {
        let mut sole = self.held.get(&worker).cloned().unwrap_or_default();
        self.held.iter().filter(|(other, _)| **other != worker).for_each(|(_, set)| sole.remove_all(set));
        sole
    }

    /// How long a block takes a slot of `worker`.
    pub(super) fn pace(&self, worker: WorkerId) -> Pace {
        self.paces.get(&worker).copied().unwrap_or_default().or(self.pace)
    }

    /// How long a block takes a slot of whoever was measured.
    pub(super) fn pace_anywhere(&self) -> Pace {
        self.pace
    }

    /// How many intervals say all this.
    pub(super) fn interval_count(&self) -> usize {
        let of_workers = [&self.homes, &self.dispensed, &self.held].into_iter().flat_map(BTreeMap::values);
        let own = [&self.unfinished, &self.waiting, &self.homeless, &self.line, &self.done, &self.suspects];
        of_workers.chain(own).chain([&self.taken, &self.told]).map(IntervalSet::interval_count).sum()
    }
}

/// Edges.
impl Array {
    /// Spent (or never wanted, or lost) to waiting: they are needed. But for those that somebody is computing just now.
    pub(super) fn want(&mut self, blocks: &IntervalSet) {
        debug_assert!(
            !self.unfinished.overlaps(blocks) && !self.done.overlaps(blocks),
            "only what is spent is derived"
        );
        self.unfinished.insert_all(blocks);
        let mut waiting = blocks.clone();
        self.dispensed.values().for_each(|set| waiting.remove_all(set));
        self.waiting.insert_all(&waiting);
    }

    /// Unfinished to spent: nobody needs them any more. Returns those that were unfinished.
    pub(super) fn give_up(&mut self, blocks: &IntervalSet) -> IntervalSet {
        let given_up = blocks.intersection(&self.unfinished);
        self.unfinished.remove_all(&given_up);
        self.waiting.remove_all(&given_up);
        self.suspects.remove_all(&given_up);
        drop(self.take_ready(&given_up));
        given_up
    }

    /// The client has these now.
    pub(super) fn take(&mut self, blocks: &IntervalSet) {
        self.taken.insert_all(blocks);
        self.told.remove_all(blocks);
    }

    /// Waiting to ready, at no home yet. Suspects stand in line; the others are returned, to be placed.
    pub(super) fn make_ready(&mut self, blocks: &IntervalSet) -> IntervalSet {
        debug_assert!(self.waiting.covers_all(blocks), "only what waits becomes ready");
        self.waiting.remove_all(blocks);
        let alone = blocks.intersection(&self.suspects);
        self.line.insert_all(&alone);
        let others = blocks.difference(&alone);
        self.homeless.insert_all(&others);
        others
    }

    /// Ready blocks get another home.
    pub(super) fn settle(&mut self, blocks: Interval, worker: WorkerId) {
        debug_assert!(self.homeless.covers(blocks), "only who has no home is given one");
        self.homeless.remove(blocks);
        self.homes.entry(worker).or_default().insert(blocks);
    }

    /// All that is ready at a worker's home loses it.
    pub(super) fn evict(&mut self, worker: WorkerId) -> IntervalSet {
        let set = self.homes.remove(&worker).unwrap_or_default();
        self.homeless.insert_all(&set);
        set
    }

    /// The tail half of the largest interval at `victim`'s home moves to `thief`'s.
    pub(super) fn steal(&mut self, victim: WorkerId, thief: WorkerId) {
        let Some(largest) = self.homes.get(&victim).and_then(IntervalSet::largest) else { return };
        let tail = Interval::new(largest.end - largest.count().div_ceil(2), largest.end);
        remove_of(&mut self.homes, victim, &tail.into());
        self.homes.entry(thief).or_default().insert(tail);
    }

    /// Ready to waiting: an input is lost.
    pub(super) fn unready(&mut self, blocks: &IntervalSet) {
        let ready = self.take_ready(blocks);
        self.waiting.insert_all(&ready);
    }

    /// Ready at a worker's home to dispensed: the lowest `count` in a row.
    pub(super) fn dispense(&mut self, worker: WorkerId, count: u64) -> Option<Interval> {
        let first = self.homes.get(&worker)?.first()?;
        let blocks = Interval::new(first.start, first.end.min(first.start.saturating_add(count)));
        remove_of(&mut self.homes, worker, &blocks.into());
        self.dispensed.entry(worker).or_default().insert(blocks);
        Some(blocks)
    }

    /// Waiting to dispensed: `worker` is making what these read.
    pub(super) fn dispense_ahead(&mut self, blocks: Interval, worker: WorkerId) {
        debug_assert!(self.waiting.covers(blocks), "only what waits goes ahead");
        self.waiting.remove(blocks);
        self.dispensed.entry(worker).or_default().insert(blocks);
    }

    /// The lowest ready suspect to dispensed.
    pub(super) fn dispense_alone(&mut self, worker: WorkerId) -> Option<u64> {
        let block = self.line.first()?.start;
        self.line.remove(Interval::one(block));
        self.dispensed.entry(worker).or_default().insert(Interval::one(block));
        Some(block)
    }

    /// What of `blocks` was dispensed to `worker` is no more; returned.
    pub(super) fn take_back(&mut self, worker: WorkerId, blocks: &IntervalSet) -> IntervalSet {
        let Some(set) = self.dispensed.get(&worker) else { return IntervalSet::new() };
        let back = set.intersection(blocks);
        remove_of(&mut self.dispensed, worker, &back);
        back
    }

    /// All that was dispensed to `worker` is no more; returned.
    pub(super) fn take_back_all(&mut self, worker: WorkerId) -> IntervalSet {
        self.dispensed.remove(&worker).unwrap_or_default()
    }

    /// Dispensed to waiting: these were given back (see [`Array::take_back`]). Those finished elsewhere are not.
    pub(super) fn await_again(&mut self, blocks: &IntervalSet) -> IntervalSet {
        let again = blocks.intersection(&self.unfinished);
        self.waiting.insert_all(&again);
        if !again.is_empty() {
            self.attempt = self.attempt.saturating_add(1);
        }
        again
    }

    /// Any state to held: `worker` has them. Returns those that were unfinished.
    pub(super) fn hold(&mut self, worker: WorkerId, blocks: &IntervalSet) -> IntervalSet {
        let newly = self.give_up(blocks);
        self.done.insert_all(blocks);
        if !blocks.is_empty() {
            self.held.entry(worker).or_default().insert_all(blocks);
        }
        newly
    }

    /// Held to spent: nobody needs them. Returns what each holder is to drop.
    pub(super) fn free(&mut self, blocks: &IntervalSet) -> Vec<(WorkerId, IntervalSet)> {
        self.done.remove_all(blocks);
        self.told.remove_all(blocks);
        let parts = self.held.iter().map(|(&worker, set)| (worker, set.intersection(blocks)));
        let parts: Vec<(WorkerId, IntervalSet)> = parts.filter(|(_, part)| !part.is_empty()).collect();
        parts.iter().for_each(|(worker, part)| remove_of(&mut self.held, *worker, part));
        parts
    }

    /// `worker` does not hold `blocks` any more. Those that nobody holds now are unfinished again, and returned.
    pub(super) fn lose(&mut self, worker: WorkerId, blocks: &IntervalSet) -> IntervalSet {
        let Some(set) = self.held.get(&worker) else { return IntervalSet::new() };
        let mut gone = set.intersection(blocks);
        remove_of(&mut self.held, worker, &gone);
        self.held.values().for_each(|set| gone.remove_all(set));
        self.done.remove_all(&gone);
        self.told.remove_all(&gone);
        gone
    }

    /// Lost to unfinished.
    pub(super) fn derive(&mut self, lost: &IntervalSet) {
        self.want(lost);
        self.attempt = self.attempt.saturating_add(1);
    }

    /// Everything is given up. Nothing of it is computed, held or wanted any more.
    pub(super) fn clear(&mut self) {
        for set in [&mut self.unfinished, &mut self.waiting, &mut self.homeless, &mut self.line, &mut self.done] {
            drop(set.take());
        }
        drop((self.suspects.take(), self.taken.take(), self.told.take()));
        [&mut self.homes, &mut self.dispensed, &mut self.held].into_iter().for_each(BTreeMap::clear);
        self.failures.clear();
    }

    /// A measurement: `blocks` blocks kept `worker`'s slots busy for `seconds`.
    pub(super) fn measure(&mut self, worker: WorkerId, seconds: f64, blocks: u64) {
        self.paces.entry(worker).or_default().measure(seconds, blocks);
        self.pace.measure(seconds, blocks);
    }

    /// Forgets how fast a worker was.
    pub(super) fn forget_pace(&mut self, worker: WorkerId) {
        self.paces.remove(&worker);
        self.excluded.remove(&worker);
    }

    fn take_ready(&mut self, blocks: &IntervalSet) -> IntervalSet {
        let mut taken = IntervalSet::new();
        for set in [&mut self.homeless, &mut self.line] {
            let part = set.intersection(blocks);
            set.remove_all(&part);
            taken.insert_all(&part);
        }
        for set in self.homes.values_mut() {
            let part = set.intersection(blocks);
            set.remove_all(&part);
            taken.insert_all(&part);
        }
        self.homes.retain(|_, set| !set.is_empty());
        taken
    }
}

/// Takes blocks from a worker's set, and the set away when it is empty: absent and empty are the same.
fn remove_of(sets: &mut BTreeMap<WorkerId, IntervalSet>, worker: WorkerId, blocks: &IntervalSet) {
    if let Some(set) = sets.get_mut(&worker) {
        set.remove_all(blocks);
        if set.is_empty() {
            sets.remove(&worker);
        }
    }
}
