//! Blocks that are done: who can go on now, what is needed no more, who is to be told.

use std::time::Duration;

use gridloom_worker::block::SmallBlock;
use gridloom_worker::ids::{ArrayId, BlockId, WorkerId};
use gridloom_worker::intervals::{Interval, IntervalSet};
use gridloom_worker::wire::ToWorker;

use super::message::{HOLDINGS_MAX, ToClient};
use super::story::Happening;
use super::{Mutant, Scheduler};

/// Blocks of an array that a worker says it holds now.
pub(super) struct Done {
    pub(super) blocks: Vec<Interval>,
    /// How long its slots were busy with them.
    pub(super) busy: Duration,
    /// The one block itself, for the client: told with the word that it is there, and kept by nobody here.
    pub(super) result: Option<SmallBlock>,
}

impl Scheduler {
    /// `worker` is done with something. What it was not asked for (it says so twice, or late) is not counted, and what
    /// nobody needs any more is not kept.
    pub(super) fn completed(&mut self, worker: WorkerId, id: ArrayId, done: Done) {
        let Done { blocks, busy, result } = done;
        self.reports += 1;
        if self.mutant == Some(Mutant::DropCompletion(self.reports)) {
            return;
        }
        // An array that is gone: the worker was told so already.
        let Some(array) = self.arrays.get(&id) else { return };
        let whole = array.whole();
        let reported: IntervalSet = blocks.iter().map(|blocks| blocks.intersect(whole)).collect();
        let mut expected = self.return_from(worker, id, &reported, Some(busy));
        expected.insert_all(&self.end_moves(worker, id, &reported));
        let Some(array) = self.arrays.get(&id) else { return };
        let accepted = match self.mutant == Some(Mutant::AcceptDuplicate) {
            true => reported.clone(),
            false => array.wanted_of(&expected),
        };
        let mut extra = reported;
        extra.remove_all(&accepted);
        array.held().get(&worker).into_iter().for_each(|held| extra.remove_all(held));
        if !extra.is_empty() {
            self.tell(worker, ToWorker::Free { array: id, blocks: extra.iter().collect() });
        }
        let newly = self.edit(id, |array| array.hold(worker, &accepted));
        if let Some(known) = self.workers.get_mut(&worker) {
            known.recover();
        }
        self.after_done(worker, id, &newly.unwrap_or_default(), result);
    }

    /// What was handed to `worker` is no more in its hands; `busy` if that is because it is done.
    pub(super) fn return_from(
        &mut self,
        worker: WorkerId,
        id: ArrayId,
        blocks: &IntervalSet,
        busy: Option<Duration>,
    ) -> IntervalSet {
        let Some(array) = self.arrays.get_mut(&id) else { return IntervalSet::new() };
        let back = array.take_back(worker, blocks);
        if let Some(busy) = busy {
            array.measure(worker, busy.as_secs_f64(), back.count());
        }
        if let Some(known) = self.workers.get_mut(&worker) {
            known.give_back(id, back.count());
            if let Some(busy) = busy {
                known.pace.measure(busy.as_secs_f64(), back.count());
            }
        }
        back
    }

    fn after_done(&mut self, worker: WorkerId, id: ArrayId, newly: &IntervalSet, result: Option<SmallBlock>) {
        if newly.is_empty() {
            return;
        }
        self.note_all(id, newly, Happening::Done { worker });
        if !self.deaths.is_empty() {
            self.deaths.retain(|block, _| block.array != id || !newly.contains(block.index));
        }
        self.note_progress(id);
        self.wake_readers(id, newly);
        self.free_inputs(id, newly);
        self.free_unneeded(id, newly);
        self.announce(id, result);
        self.answer_questions(id);
    }

    /// Readers of blocks that are there now may be ready.
    fn wake_readers(&mut self, id: ArrayId, blocks: &IntervalSet) {
        let readers = self.arrays.get(&id).map(|array| array.readers.clone()).unwrap_or_default();
        for reader in readers {
            let ready = match self.arrays.get(&reader).and_then(|array| Some((array, array.recipe.as_ref()?))) {
                Some((array, recipe)) => {
                    let candidates = recipe.relation.readers_of(id, blocks).intersection(array.waiting());
                    self.ready_among(reader, &candidates)
                }
                None => continue,
            };
            self.make_ready(reader, &ready);
        }
    }

    /// Those of `candidates` (which wait) whose inputs are all there.
    pub(super) fn ready_among(&self, id: ArrayId, candidates: &IntervalSet) -> IntervalSet {
        let Some(recipe) = self.arrays.get(&id).and_then(|array| array.recipe.as_ref()) else {
            return IntervalSet::new();
        };
        let relation = &recipe.relation;
        if relation.is_blockwise() {
            let done = relation.inputs().iter().filter_map(|input| self.arrays.get(input)).map(|array| &array.done);
            return done.fold(candidates.clone(), |ready, done| ready.intersection(done));
        }
        if relation.is_source() {
            return candidates.clone();
        }
        let (mut ready, mut blocked) = (IntervalSet::new(), IntervalSet::new());
        for block in candidates.indices() {
            if blocked.contains(block) {
                continue;
            }
            let gap = relation.inputs_of_one(block).into_iter().find_map(|(input, range)| {
                let gap = self.arrays.get(&input).map_or(Some(range.start), |array| array.done.first_gap(range));
                gap.map(|gap| (input, gap))
            });
            match gap {
                None => ready.insert(Interval::one(block)),
                // Whatever else reads what is missing need not be looked at.
                Some((input, gap)) => blocked.extend(relation.readers_of_one(input, gap)),
            }
        }
        ready
    }

    /// Blocks whose inputs are all there get a home.
    pub(super) fn make_ready(&mut self, id: ArrayId, ready: &IntervalSet) {
        if ready.is_empty() {
            return;
        }
        let others = self.edit(id, |array| array.make_ready(ready)).unwrap_or_default();
        self.place(id, &others);
    }

    /// Inputs of blocks that are done may be needed no more.
    pub(super) fn free_inputs(&mut self, id: ArrayId, blocks: &IntervalSet) {
        let recipe = self.arrays.get(&id).and_then(|array| array.recipe.as_ref());
        let read = recipe.map(|recipe| recipe.relation.inputs_of(blocks)).unwrap_or_default();
        read.into_iter().for_each(|(input, blocks)| self.free_unneeded(input, &blocks));
    }

    /// Frees what of `candidates` is held and not needed.
    pub(super) fn free_unneeded(&mut self, id: ArrayId, candidates: &IntervalSet) {
        let Some(array) = self.arrays.get(&id) else { return };
        let free = self.unneeded(id, &candidates.intersection(&array.done));
        self.free(id, &free);
    }

    /// Those of `candidates` that the client does not want, or has taken, and that no unfinished block reads.
    pub(super) fn unneeded(&self, id: ArrayId, candidates: &IntervalSet) -> IntervalSet {
        let Some(array) = self.arrays.get(&id) else { return IntervalSet::new() };
        let mut free = if array.pinned { candidates.intersection(&array.taken) } else { candidates.clone() };
        for reader in array.readers.iter().filter_map(|reader| self.arrays.get(reader)) {
            let Some(recipe) = &reader.recipe else { continue };
            if recipe.relation.is_blockwise() {
                free.remove_all(&reader.unfinished);
                continue;
            }
            let mut needed = IntervalSet::new();
            for block in free.indices() {
                if needed.contains(block) {
                    continue;
                }
                let readers = recipe.relation.readers_of_one(id, block);
                let unfinished = readers.into_iter().find_map(|blocks| reader.unfinished.within(blocks).next());
                if let Some(unfinished) = unfinished {
                    let read = recipe.relation.inputs_of_one(unfinished.start).into_iter();
                    needed.extend(read.filter(|(input, _)| *input == id).map(|(_, range)| range));
                }
            }
            free.remove_all(&needed);
        }
        free
    }

    fn free(&mut self, id: ArrayId, blocks: &IntervalSet) {
        if blocks.is_empty() {
            return;
        }
        let parts = self.edit(id, |array| array.free(blocks)).unwrap_or_default();
        self.note_all(id, blocks, Happening::Freed);
        for (worker, part) in parts {
            self.tell(worker, ToWorker::Free { array: id, blocks: part.iter().collect() });
            // There is room now for what it refused.
            if let Some(known) = self.workers.get_mut(&worker) {
                known.recover();
                self.hungry.insert(worker);
            }
        }
        if !self.strikes.is_empty() {
            self.strikes.retain(|(block, ..)| block.array != id || !blocks.contains(block.index));
        }
    }

    fn note_progress(&mut self, id: ArrayId) {
        let Some(name) = self.arrays.get(&id).and_then(|array| array.job) else { return };
        let Some(job) = self.jobs.get_mut(&name) else { return };
        job.refused = None;
        if job.ended {
            return;
        }
        self.changed.insert((name, id));
        self.progress_due.get_or_insert(self.now + self.limits.progress_interval);
    }

    /// Tells the client of an output that is complete, with its one block if that came too, and of a job whose last
    /// output it was.
    pub(super) fn announce(&mut self, id: ArrayId, result: Option<SmallBlock>) {
        let Some(array) = self.arrays.get_mut(&id) else { return };
        if !array.pinned || array.announced || !array.is_complete() {
            return;
        }
        array.announced = true;
        let (done, is_one_block) = (array.done.clone(), array.blocks == 1);
        let holders = self.holdings(id, &done, HOLDINGS_MAX + 1);
        let holders = if holders.len() <= HOLDINGS_MAX { holders } else { Vec::new() };
        let result = result.filter(|_| is_one_block);
        self.tell_client(id.client, ToClient::ArrayDone { array: id, holders, result });
        self.end_job_if_done(id);
    }

    /// The last output that a job missed may have come, or be wanted no more.
    pub(super) fn end_job_if_done(&mut self, output: ArrayId) {
        let Some(name) = self.arrays.get(&output).and_then(|array| array.job) else { return };
        let Some(job) = self.jobs.get_mut(&name).filter(|job| !job.ended) else { return };
        job.missing.remove(&output);
        if job.missing.is_empty() {
            job.ended = true;
            self.changed.retain(|(job, _)| *job != name);
            self.tell_client(name.client, ToClient::JobDone { job: name });
        }
    }

    /// What a block is and was, for errors and for people.
    pub(super) fn tell_story(&self, block: BlockId) -> Vec<super::Chapter> {
        let chapters = self.story(block);
        let skipped = chapters.len().saturating_sub(CHAPTERS_TOLD_MAX);
        chapters.into_iter().skip(skipped).collect()
    }
}

/// How much of a story an error carries: enough to see every death.
const CHAPTERS_TOLD_MAX: usize = 32;
