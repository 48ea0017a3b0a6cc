//! What goes wrong, and how it is made good: one path, whatever was lost.
//!
//! Blocks that nobody holds any more are unfinished again. What they read and is spent is unfinished too, and so on up
//! to what lives; then everything whose inputs are there is ready. Data that no stage makes cannot be made again: what
//! needs it fails.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use gridloom_worker::executor::ExecuteError;
use gridloom_worker::ids::{ArrayId, BlockId, WorkerId};
use gridloom_worker::intervals::{Interval, IntervalSet};
use gridloom_worker::wire::{FetchError, ToWorker};

use super::error::JobError;
use super::message::ToClient;
use super::party::{Presence, Worker};
use super::story::Happening;
use super::{Asker, Mutant, Scheduler};

/// Workers that may die of a block while it is alone with them.
const DEATHS_MAX: u32 = 3;

/// Times that a block may fail by what may have been chance: elsewhere once.
const FAILURES_MAX: u32 = 2;

/// Arrays that fail, and why.
type Doomed = Vec<(ArrayId, JobError)>;

/// Who may try a failed block again.
enum Verdict {
    /// Nobody: it would fail everywhere.
    Nobody,
    /// Every other worker.
    Elsewhere,
    /// One other worker.
    ElsewhereOnce,
    /// Anybody, when there is memory.
    Later,
    /// Anybody, now.
    Anybody,
}

fn verdict(error: &ExecuteError) -> Verdict {
    match error {
        ExecuteError::Deadline { .. } | ExecuteError::Barrier { .. } => Verdict::Nobody,
        ExecuteError::Unsupported { .. }
        | ExecuteError::Source { .. }
        | ExecuteError::Forbidden { .. }
        | ExecuteError::DeviceLost { .. } => Verdict::Elsewhere,
        ExecuteError::Memory { .. } => Verdict::Later,
        ExecuteError::Cancelled => Verdict::Anybody,
        // The enum may grow: what is not known is taken for a bug there.
        _ => Verdict::ElsewhereOnce,
    }
}

/// Workers that go.
impl Scheduler {
    pub(super) fn worker_gone(&mut self, worker: WorkerId) {
        let Some(known) = self.workers.remove(&worker) else { return };
        let clients: Vec<_> = self.clients.keys().copied().collect();
        clients.into_iter().for_each(|client| self.tell_client(client, ToClient::WorkerLeft { worker }));
        self.hungry.remove(&worker);
        self.idle.remove(&worker);
        self.leaving.remove(&worker);
        self.strikes.retain(|(_, holder, asker)| *holder != worker && *asker != Asker::Worker(worker));
        self.part(worker);
        self.moves.retain(|(_, from, to), _| *from != worker && *to != worker);
        let blamed = known.presence == Presence::Working;
        let mut doomed = Doomed::new();
        let (mut lost, mut touched) = (BTreeMap::new(), BTreeMap::new());
        for id in self.arrays.keys().copied().collect::<Vec<_>>() {
            let again = self.give_up_work(worker, id, blamed);
            if blamed && let Some(block) = known.alone.filter(|block| block.array == id && again.contains(block.index))
            {
                doomed.extend(self.count_death(block).map(|error| (id, error)));
            }
            let held = self.arrays.get(&id).and_then(|array| array.held().get(&worker)).cloned().unwrap_or_default();
            let gone = self.drop_replicas(worker, id, &held);
            self.note_all(id, &gone, Happening::Lost { worker });
            touched.insert(id, again);
            if !gone.is_empty() {
                lost.insert(id, gone);
            }
        }
        self.derive_again(lost, touched, &mut doomed);
        self.rehouse();
        self.fail_all(doomed);
    }

    /// Those that were told where `gone` is no longer wait for it.
    fn part(&mut self, gone: WorkerId) {
        let knew = self.workers.iter_mut().filter_map(|(&id, known)| known.peers.remove(&gone).then_some(id));
        let knew: Vec<WorkerId> = knew.collect();
        knew.into_iter().for_each(|worker| self.tell(worker, ToWorker::PeerGone { worker: gone }));
    }

    /// All that `worker` had of an array to do is to be done by others. Returns what waits again.
    fn give_up_work(&mut self, worker: WorkerId, id: ArrayId, blamed: bool) -> IntervalSet {
        let changed = self.edit(id, |array| {
            array.forget_pace(worker);
            array.evict(worker);
            let back = array.take_back_all(worker);
            let again = array.await_again(&back);
            if blamed {
                array.suspects.insert_all(&again);
            }
            again
        });
        let again = changed.unwrap_or_default();
        self.note_all(id, &again, Happening::Died { worker });
        again
    }

    /// A worker died while the block was alone with it.
    fn count_death(&mut self, block: BlockId) -> Option<JobError> {
        let deaths = self.deaths.entry(block).or_default();
        *deaths += 1;
        let deaths = *deaths;
        let story = |scheduler: &Scheduler| scheduler.tell_story(block);
        (deaths >= DEATHS_MAX).then(|| JobError::WorkerKilled { block, deaths, story: story(self) })
    }
}

/// Blocks that come back.
impl Scheduler {
    /// `worker` did not make these. Returns those that it was to make.
    fn given_back(&mut self, worker: WorkerId, id: ArrayId, blocks: &IntervalSet) -> IntervalSet {
        self.give_up_moves(worker, id, blocks);
        // Nor does it hold any, whatever it may have said before.
        let held = self.arrays.get(&id).and_then(|array| array.held().get(&worker));
        let wrong = held.map(|held| held.intersection(blocks)).unwrap_or_default();
        for index in wrong.indices() {
            self.strike(BlockId { array: id, index }, worker, Asker::Worker(worker), FetchError::Missing);
        }
        self.return_from(worker, id, blocks, None)
    }

    pub(super) fn refused(&mut self, worker: WorkerId, id: ArrayId, blocks: &[Interval], needs: u64, has: u64) {
        let back = self.given_back(worker, id, &blocks.iter().copied().collect());
        self.note_all(id, &back, Happening::Refused { worker });
        let Some(known) = self.workers.get_mut(&worker).filter(|_| !back.is_empty()) else { return };
        known.back_off(self.now);
        let never = needs > known.register.memory_bytes;
        if never && let Some(array) = self.arrays.get_mut(&id) {
            array.excluded.insert(worker);
        }
        let error = JobError::Memory { array: id, needs, has };
        if (never && self.eligible(id).is_empty()) || (self.has_waited_for_memory(id) && !self.squeeze(id)) {
            self.fail(id, error);
            return;
        }
        self.wait_again(id, &back);
    }

    /// Whether nothing of the job was completed, and nothing at all taken, since blocks of it were first refused, long
    /// ago; nor does anybody compute a block of it for so long.
    fn has_waited_for_memory(&mut self, id: ArrayId) -> bool {
        let job = self.arrays.get(&id).and_then(|array| array.job);
        let Some((name, job)) = job.and_then(|name| Some((name, self.jobs.get_mut(&name)?))) else { return false };
        let since = (*job.refused.get_or_insert(self.now)).max(self.taken_last);
        let patience = if self.awaits_clients() { self.limits.take_wait } else { self.limits.memory_wait };
        if self.now.saturating_sub(since) < patience {
            return false;
        }
        let arrays = &self.jobs[&name].arrays;
        // Whoever has refused nothing since then, and has some of it in hand, is at it.
        let is_at_it = |worker: &Worker| {
            worker.refused_last < since && worker.outstanding.keys().any(|array| arrays.contains(array))
        };
        !self.workers.values().any(is_at_it)
    }

    /// The last thing that is tried for a job that has waited for memory: nothing is left free beside its blocks any more.
    /// Whether anything was.
    fn squeeze(&mut self, id: ArrayId) -> bool {
        let job = self.arrays.get(&id).and_then(|array| array.job);
        let Some(job) = job.and_then(|job| self.jobs.get_mut(&job)) else { return false };
        job.refused = None;
        let mut spared = 0;
        for id in job.arrays.iter() {
            let recipe = self.arrays.get_mut(id).and_then(|array| array.recipe.as_mut());
            spared += recipe.map_or(0, |recipe| std::mem::take(&mut recipe.bytes_spare)).min(1);
        }
        spared > 0
    }

    pub(super) fn block_failed(
        &mut self,
        worker: WorkerId,
        id: ArrayId,
        block: u64,
        attempt: u32,
        error: ExecuteError,
    ) {
        let back = self.given_back(worker, id, &Interval::one(block).into());
        // Given up, or computed by somebody else, long ago.
        if back.is_empty() || self.arrays.get(&id).is_none_or(|array| !array.unfinished.contains(block)) {
            return;
        }
        self.note_all(id, &back, Happening::Failed { worker });
        let failed = JobError::Execute { block: BlockId { array: id, index: block }, attempt, worker, error };
        let JobError::Execute { error, .. } = &failed else { return };
        match verdict(error) {
            Verdict::Nobody => self.fail(id, failed),
            Verdict::Elsewhere => self.try_elsewhere(worker, id, &back, failed),
            Verdict::ElsewhereOnce => self.try_once_more(worker, id, &back, failed),
            Verdict::Later => {
                if let Some(known) = self.workers.get_mut(&worker) {
                    known.back_off(self.now);
                }
                match self.has_waited_for_memory(id) && !self.squeeze(id) {
                    true => self.fail(id, failed),
                    false => self.wait_again(id, &back),
                }
            }
            Verdict::Anybody => self.wait_again(id, &back),
        }
    }

    /// The worker is not asked for this array again.
    fn try_elsewhere(&mut self, worker: WorkerId, id: ArrayId, back: &IntervalSet, error: JobError) {
        let homeless = self.edit(id, |array| {
            array.excluded.insert(worker);
            array.evict(worker)
        });
        if self.eligible(id).is_empty() {
            self.fail(id, error);
            return;
        }
        self.place(id, &homeless.unwrap_or_default());
        self.wait_again(id, back);
    }

    /// It may have been chance: another worker, if there is one.
    fn try_once_more(&mut self, worker: WorkerId, id: ArrayId, back: &IntervalSet, error: JobError) {
        let Some(array) = self.arrays.get_mut(&id) else { return };
        for block in back.indices() {
            let failures = array.failures.entry(block).or_default();
            *failures += 1;
            if *failures >= FAILURES_MAX {
                self.fail(id, error);
                return;
            }
        }
        let other = self.eligible(id).into_iter().find(|other| *other != worker);
        self.wait_again_at(id, back, other);
    }

    /// An input could not be had at `worker`: the holder may be wrong, and the block is to be tried again.
    pub(super) fn fetch_failed(
        &mut self,
        worker: WorkerId,
        block: BlockId,
        input: BlockId,
        holder: Option<WorkerId>,
        error: FetchError,
    ) {
        let back = self.given_back(worker, block.array, &Interval::one(block.index).into());
        self.note_all(block.array, &back, Happening::FetchFailed { worker });
        let again = self.arrays.get_mut(&block.array).map(|array| array.await_again(&back)).unwrap_or_default();
        match holder {
            Some(holder) => self.strike(input, holder, Asker::Worker(worker), error),
            // Nobody was named because the worker was thought to hold it itself; it does not.
            None => self.strike(input, worker, Asker::Worker(worker), FetchError::Missing),
        }
        // Where the input is, nothing needs to be fetched.
        let home = holder.filter(|holder| self.holds(*holder, input));
        self.make_ready_at(block.array, &again, home);
    }

    /// A holder did not give a block: the second time that the same one asks, or if it says it has none, it is not its
    /// holder any more. (Several who ask at once and do not reach it may have met with one and the same mishap.)
    pub(super) fn strike(&mut self, block: BlockId, holder: WorkerId, asker: Asker, error: FetchError) {
        if !self.holds(holder, block) {
            return;
        }
        if error != FetchError::Missing && self.strikes.insert((block, holder, asker)) {
            return;
        }
        self.strikes.retain(|(of, by, _)| (*of, *by) != (block, holder));
        let one: IntervalSet = Interval::one(block.index).into();
        self.tell(holder, ToWorker::Free { array: block.array, blocks: one.iter().collect() });
        let gone = self.drop_replicas(holder, block.array, &one);
        if !gone.is_empty() {
            let mut doomed = Doomed::new();
            self.note_all(block.array, &gone, Happening::Lost { worker: holder });
            self.derive_again([(block.array, gone)].into(), BTreeMap::new(), &mut doomed);
            self.fail_all(doomed);
        }
    }

    fn holds(&self, worker: WorkerId, block: BlockId) -> bool {
        let held = self.arrays.get(&block.array).and_then(|array| array.held().get(&worker));
        held.is_some_and(|set| set.contains(block.index))
    }

    /// Given back blocks are handed out again, when they can be.
    fn wait_again(&mut self, id: ArrayId, back: &IntervalSet) {
        self.wait_again_at(id, back, None);
    }

    fn wait_again_at(&mut self, id: ArrayId, back: &IntervalSet, home: Option<WorkerId>) {
        let again = self.arrays.get_mut(&id).map(|array| array.await_again(back)).unwrap_or_default();
        self.make_ready_at(id, &again, home);
    }

    /// Of `blocks`, those that wait and whose inputs are there get a home: this one, if it can be.
    fn make_ready_at(&mut self, id: ArrayId, blocks: &IntervalSet, home: Option<WorkerId>) {
        let Some(array) = self.arrays.get(&id) else { return };
        let ready = self.ready_among(id, &blocks.intersection(array.waiting()));
        let Some(home) = home.filter(|home| self.eligible(id).contains(home)) else {
            self.make_ready(id, &ready);
            return;
        };
        self.edit(id, |array| {
            let others = array.make_ready(&ready);
            others.iter().for_each(|blocks| array.settle(blocks, home));
        });
        self.hungry.insert(home);
    }
}

/// Blocks that are gone.
impl Scheduler {
    /// `worker` does not hold these any more. Returns those that nobody holds.
    fn drop_replicas(&mut self, worker: WorkerId, id: ArrayId, blocks: &IntervalSet) -> IntervalSet {
        self.edit(id, |array| array.lose(worker, blocks)).unwrap_or_default()
    }

    /// What was lost, and what that needs in turn, is unfinished again. `touched` waits too and may be ready.
    fn derive_again(
        &mut self,
        mut lost: BTreeMap<ArrayId, IntervalSet>,
        mut touched: BTreeMap<ArrayId, IntervalSet>,
        doomed: &mut Doomed,
    ) {
        if self.mutant == Some(Mutant::SkipDerivation) {
            lost.clear();
        }
        let mut needy: BTreeMap<(Reverse<u32>, ArrayId), IntervalSet> = BTreeMap::new();
        for (id, gone) in lost {
            self.unready_readers(id, &gone);
            let Some(array) = self.arrays.get_mut(&id) else { continue };
            array.derive(&gone);
            if array.recipe.is_none() {
                doomed.extend(gone.first().map(|first| (id, lost_block(id, first))));
                continue;
            }
            touched.entry(id).or_default().insert_all(&gone);
            needy.insert((Reverse(array.depth), id), gone);
        }
        // Readers are deeper than what they read, so each array comes once, with all that is wanted of it.
        while let Some(((_, id), blocks)) = needy.pop_first() {
            self.note_all(id, &blocks, Happening::Derived);
            for (input, wanted) in self.want_inputs(id, &blocks, doomed) {
                touched.entry(input).or_default().insert_all(&wanted);
                let depth = self.arrays.get(&input).map_or(0, |array| array.depth);
                needy.entry((Reverse(depth), input)).or_default().insert_all(&wanted);
            }
        }
        for (id, blocks) in touched {
            self.make_ready_at(id, &blocks, None);
        }
    }

    /// What `blocks` read and is spent is wanted again. What cannot be made fails who wants it.
    fn want_inputs(&mut self, id: ArrayId, blocks: &IntervalSet, doomed: &mut Doomed) -> Vec<(ArrayId, IntervalSet)> {
        let recipe = self.arrays.get(&id).and_then(|array| array.recipe.as_ref());
        let read = recipe.map(|recipe| recipe.relation.inputs_of(blocks)).unwrap_or_default();
        let mut wanted = Vec::new();
        for (input, mut missing) in read {
            let Some(array) = self.arrays.get_mut(&input) else { continue };
            missing.remove_all(&array.done);
            missing.remove_all(&array.unfinished);
            let Some(first) = missing.first() else { continue };
            match (&array.failed, &array.recipe) {
                (None, Some(_)) => {
                    array.want(&missing);
                    wanted.push((input, missing));
                }
                (Some(error), _) => doomed.push((id, error.clone())),
                (None, None) => doomed.push((id, lost_block(input, first))),
            }
        }
        wanted
    }

    /// Blocks that were ready to read what is gone now wait for it.
    fn unready_readers(&mut self, id: ArrayId, gone: &IntervalSet) {
        let readers = self.arrays.get(&id).map(|array| array.readers.clone()).unwrap_or_default();
        for reader in readers {
            self.edit(reader, |array| {
                let stop = array.recipe.as_ref().map(|recipe| recipe.relation.readers_of(id, gone));
                array.unready(&stop.unwrap_or_default());
            });
        }
    }

    fn fail_all(&mut self, doomed: Doomed) {
        doomed.into_iter().for_each(|(id, error)| self.fail(id, error));
    }
}

fn lost_block(array: ArrayId, blocks: Interval) -> JobError {
    JobError::BlockLost { block: BlockId { array, index: blocks.start } }
}
