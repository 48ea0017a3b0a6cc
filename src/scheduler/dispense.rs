//! Ready blocks get a home, homes hand them out, the idle take from the largest.
//!
//! What is ready and not handed out stays here: a worker's *home* only says who is to have it first. Handed out are
//! runs worth two blocks a slot or 50 ms, whichever is more.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use gridloom_worker::ids::{ArrayId, BlockId, JobId, WorkerId};
use gridloom_worker::intervals::{Interval, IntervalSet};
use gridloom_worker::wire::{Run, ToWorker, Whereabouts};

use super::Scheduler;
use super::array::Array;
use super::party::Worker;
use super::policy::{self, Offer, Outstanding};
use super::story::Happening;

/// Holders named for one input: one to ask, two for when it fails.
const HOLDERS_MAX: usize = 3;

/// Inputs named in one run at most, so that its message stays small.
const RUN_INPUTS_MAX: u64 = 16_384;

/// How feeding a worker once went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    /// It got a run; there may be more.
    Run,
    /// It has enough.
    Full,
    /// There is nothing for it.
    Nothing,
}

/// Whose blocks a worker may be fed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Home,
    Others,
}

/// Homes.
impl Scheduler {
    /// Gives ready blocks that have no home one, if anybody can serve them.
    pub(super) fn place(&mut self, id: ArrayId, blocks: &IntervalSet) {
        let eligible = self.eligible(id);
        let Some(array) = self.arrays.get(&id) else { return };
        if blocks.is_empty() || eligible.is_empty() {
            return;
        }
        let is_source = array.recipe.as_ref().is_none_or(|recipe| recipe.relation.is_source());
        let homes = match (is_source, &eligible[..]) {
            (_, [only]) => blocks.iter().map(|blocks| (blocks, *only)).collect(),
            (true, _) => self.share_out(id, blocks, &eligible),
            (false, _) => self.near_inputs(id, blocks, &eligible),
        };
        self.edit(id, |array| homes.iter().for_each(|&(blocks, worker)| array.settle(blocks, worker)));
        self.hungry.extend(homes.into_iter().map(|(_, worker)| worker));
    }

    /// Whoever may compute blocks of an array.
    pub(super) fn eligible(&self, id: ArrayId) -> Vec<WorkerId> {
        let Some(array) = self.arrays.get(&id) else { return Vec::new() };
        let able = |(id, worker): &(&WorkerId, &Worker)| worker.is_working() && array.suits(**id, worker);
        self.workers.iter().filter(able).map(|(&id, _)| id).collect()
    }

    /// Looks for homes for all that has none: a worker has come, or what was excluded is not any more.
    pub(super) fn rehouse(&mut self) {
        for id in self.unserved.clone() {
            let homeless = self.arrays.get(&id).map(|array| array.homeless().clone()).unwrap_or_default();
            self.place(id, &homeless);
        }
    }

    /// Neighbours to neighbours, in parts that all end at the same time.
    fn share_out(&self, id: ArrayId, blocks: &IntervalSet, eligible: &[WorkerId]) -> Vec<(Interval, WorkerId)> {
        let offers: Vec<Offer> = eligible.iter().map(|&worker| self.offer(id, worker)).collect();
        let mut shares = policy::share(blocks.count(), &offers).into_iter().zip(eligible);
        let mut homes = Vec::new();
        let mut share = shares.next();
        for mut rest in blocks.iter() {
            while let Some((left, worker)) = share.filter(|_| !rest.is_empty()) {
                let part = Interval::new(rest.start, rest.end.min(rest.start + left));
                homes.extend((!part.is_empty()).then_some((part, *worker)));
                rest.start = part.end;
                share = if left == part.count() { shares.next() } else { Some((left - part.count(), worker)) };
            }
        }
        homes
    }

    /// Each block to the worker that ends it first, given who holds its inputs.
    fn near_inputs(&self, id: ArrayId, blocks: &IntervalSet, eligible: &[WorkerId]) -> Vec<(Interval, WorkerId)> {
        let mut offers: Vec<Offer> = eligible.iter().map(|&worker| self.offer(id, worker)).collect();
        let mut homes: Vec<(Interval, WorkerId)> = Vec::new();
        for interval in blocks.iter() {
            let mut at = interval.start;
            while at < interval.end {
                let (same, inputs) = self.inputs_at(id, Interval::new(at, interval.end));
                for (offer, &worker) in offers.iter_mut().zip(eligible) {
                    offer.fetch = self.fetch_seconds(&inputs, worker);
                }
                let Some(best) = policy::earliest(&offers, same.count()) else { break };
                offers[best].queue += (offers[best].work + offers[best].fetch) * same.count() as f64;
                match homes.last_mut() {
                    Some((last, worker)) if *worker == eligible[best] && last.end == same.start => last.end = same.end,
                    _ => homes.push((same, eligible[best])),
                }
                at = same.end;
            }
        }
        homes
    }

    /// The first of `blocks`, and those after it whose inputs lie with the same holders; and what one of them reads.
    fn inputs_at(&self, id: ArrayId, blocks: Interval) -> (Interval, Vec<(ArrayId, Interval)>) {
        let first = Interval::one(blocks.start);
        let Some(recipe) = self.arrays.get(&id).and_then(|array| array.recipe.as_ref()) else {
            return (first, Vec::new());
        };
        let inputs = recipe.relation.inputs_of_one(blocks.start);
        if !recipe.relation.is_blockwise() {
            return (first, inputs);
        }
        let arrays = recipe.relation.inputs().iter().filter_map(|input| self.arrays.get(input));
        let ends = arrays.flat_map(|array| array.holders_from(blocks.start)).map(|(_, end)| end);
        let end = ends.min().unwrap_or(first.end).clamp(first.end, blocks.end);
        (Interval::new(blocks.start, end), inputs)
    }

    /// How long until `inputs` are at `worker`.
    fn fetch_seconds(&self, inputs: &[(ArrayId, Interval)], worker: WorkerId) -> f64 {
        let (mut count, mut bytes) = (0, 0);
        for (array, range) in inputs.iter().filter_map(|(input, range)| Some((self.arrays.get(input)?, *range))) {
            let here = array.held().get(&worker).map_or(0, |set| set.within(range).map(Interval::count).sum());
            count += range.count() - here;
            bytes += (range.count() - here).saturating_mul(array.bytes);
        }
        let speed = self.workers.get(&worker).map_or(1, |worker| worker.register.fetch_bytes_per_second);
        policy::fetch_seconds(count, bytes, speed)
    }

    /// What `worker` offers for a block of an array whose inputs it has.
    fn offer(&self, id: ArrayId, worker: WorkerId) -> Offer {
        let Some((array, known)) = self.arrays.get(&id).zip(self.workers.get(&worker)) else {
            return Offer { queue: f64::MAX, work: 1.0, fetch: 0.0 };
        };
        let slots = known.slots() as f64;
        let homes = known.home_blocks(array.depth) as f64 * known.pace.seconds();
        let paused = known.paused_until.saturating_sub(self.now).as_secs_f64();
        let queue = paused + (homes + self.outstanding(known).seconds) / slots;
        Offer { queue, work: array.pace(worker).or(known.pace).seconds() / slots, fetch: 0.0 }
    }

    fn outstanding(&self, worker: &Worker) -> Outstanding {
        let mut sum = Outstanding::default();
        for (array, &blocks) in &worker.outstanding {
            sum.blocks += blocks;
            sum.seconds += self.arrays.get(array).map_or(0.0, |array| array.pace_anywhere().seconds()) * blocks as f64;
        }
        sum
    }
}

/// Handing out.
impl Scheduler {
    /// Every worker that may have room gets what it may have.
    pub(super) fn feed(&mut self) {
        if self.busy.is_empty() {
            return;
        }
        let held_back = self.feed_alone();
        let mut visit: Vec<WorkerId> = self.hungry.union(&self.idle).copied().collect();
        visit.retain(|id| {
            let fit = |worker: &Worker| worker.is_working() && worker.alone.is_none();
            self.workers.get(id).is_some_and(fit) && !held_back.contains(id)
        });
        let load = |id: &WorkerId| self.workers.get(id).map_or(0, |w| (w.outstanding_blocks() << 16) / w.slots());
        visit.sort_by_cached_key(|id| (load(id), *id));
        for worker in &visit {
            while self.feed_one(*worker, From::Home) == Fed::Run {}
        }
        for worker in visit {
            let mut fed = Fed::Run;
            while fed == Fed::Run {
                fed = self.feed_one(worker, From::Others);
            }
            let paused = self.workers.get(&worker).is_some_and(|known| known.paused_until > self.now);
            if !paused {
                self.hungry.remove(&worker);
            }
            match fed {
                Fed::Nothing => self.idle.insert(worker),
                Fed::Run | Fed::Full => self.idle.remove(&worker),
            };
        }
    }

    /// Suspects in line go to workers that do nothing else. The least busy ones, at most half of all, are kept free for
    /// them; these are returned.
    fn feed_alone(&mut self) -> BTreeSet<WorkerId> {
        let mut held_back = BTreeSet::new();
        if self.lines.is_empty() {
            return held_back;
        }
        let able = |(_, worker): &(&WorkerId, &Worker)| worker.is_working() && worker.paused_until <= self.now;
        let mut able: Vec<(u64, WorkerId)> =
            self.workers.iter().filter(able).map(|(&id, worker)| (worker.outstanding_blocks(), id)).collect();
        able.sort();
        let most = able.len().div_ceil(2);
        for (outstanding, worker) in able {
            let line = self.lines.iter().copied().find(|id| {
                let suits = |array: &Array| self.workers.get(&worker).is_some_and(|known| array.suits(worker, known));
                self.arrays.get(id).is_some_and(suits)
            });
            let Some(id) = line.filter(|_| held_back.len() < most) else { continue };
            held_back.insert(worker);
            if outstanding == 0 {
                self.hand_alone(worker, id);
            }
        }
        held_back
    }

    fn hand_alone(&mut self, worker: WorkerId, id: ArrayId) {
        let Some(Some(block)) = self.edit(id, |array| array.dispense_alone(worker)) else { return };
        if let Some(known) = self.workers.get_mut(&worker) {
            known.alone = Some(BlockId { array: id, index: block });
        }
        self.note(id, Interval::one(block), Happening::DispensedAlone { worker });
        self.hand(worker, id, Interval::one(block));
    }

    /// One run for one worker: of the jobs in turn, the deepest stage that has something for it.
    fn feed_one(&mut self, worker: WorkerId, from: From) -> Fed {
        let Some(known) = self.workers.get(&worker) else { return Fed::Full };
        if known.paused_until > self.now || (from == From::Home && known.homes.is_empty()) {
            return Fed::Nothing;
        }
        let outstanding = self.outstanding(known);
        let turn = known.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.busy.range((turn, Bound::Unbounded));
        let earlier = known.turn.map(|turn| self.busy.range(..=turn)).into_iter().flatten();
        for &job in later.chain(earlier) {
            let ready = self.jobs.get(&job).map(|job| job.ready.iter()).into_iter().flatten();
            for &(_, id) in ready {
                let Some(array) = self.arrays.get(&id).filter(|array| array.suits(worker, known)) else { continue };
                let victim = match from {
                    From::Home if array.homes().contains_key(&worker) => worker,
                    From::Home => continue,
                    From::Others => match self.victim(id, array, worker) {
                        Some(victim) => victim,
                        None => continue,
                    },
                };
                let room = policy::room(known.slots(), outstanding, array.pace(worker));
                if room == 0 {
                    return Fed::Full;
                }
                self.feed_run(worker, victim, job, id, room);
                return Fed::Run;
            }
        }
        Fed::Nothing
    }

    /// Whose home has the most to take from, if that pays.
    fn victim(&self, id: ArrayId, array: &Array, thief: WorkerId) -> Option<WorkerId> {
        let others = array.homes().iter().filter(|(worker, _)| **worker != thief);
        let sizes = others.filter_map(|(&worker, set)| Some((set.largest()?, worker)));
        let (largest, victim) = sizes.max_by_key(|(largest, worker)| (largest.count(), std::cmp::Reverse(*worker)))?;
        let (_, inputs) = self.inputs_at(id, Interval::one(largest.end - 1));
        let mut mine = self.offer(id, thief);
        mine.fetch = self.fetch_seconds(&inputs, thief);
        policy::steal_pays(mine, self.offer(id, victim)).then_some(victim)
    }

    fn feed_run(&mut self, worker: WorkerId, victim: WorkerId, job: JobId, id: ArrayId, room: u64) {
        if let Some(known) = self.workers.get_mut(&worker) {
            known.turn = Some(job);
        }
        let blocks = self.edit(id, |array| {
            if victim != worker {
                array.steal(victim, worker);
            }
            array.dispense(worker, room.min(array.run_blocks_max(worker)))
        });
        let Some(Some(blocks)) = blocks else { return };
        self.note(id, blocks, Happening::Dispensed { worker });
        self.hand(worker, id, blocks);
    }

    /// Sends a run and, before it, whatever it names that the worker does not know.
    fn hand(&mut self, worker: WorkerId, id: ArrayId, blocks: Interval) {
        let inputs = self.whereabouts(worker, id, blocks);
        let holders: BTreeSet<WorkerId> = inputs.iter().flat_map(|place| place.holders.iter().copied()).collect();
        holders.into_iter().for_each(|holder| self.introduce(worker, holder));
        self.send_stage(worker, id);
        let Some((array, known)) = self.arrays.get(&id).zip(self.workers.get_mut(&worker)) else { return };
        known.hand(id, blocks.count());
        let attempt = array.attempt;
        self.tell(worker, ToWorker::Run(Run { array: id, blocks, attempt, inputs }));
    }

    /// Tells a worker where a peer is, once.
    pub(super) fn introduce(&mut self, worker: WorkerId, peer: WorkerId) {
        let address = self.workers.get(&peer).map(|peer| peer.register.address.clone());
        let Some((address, known)) = address.zip(self.workers.get_mut(&worker)) else { return };
        if known.peers.insert(peer) {
            self.tell(worker, ToWorker::Peer { worker: peer, address });
        }
    }

    fn send_stage(&mut self, worker: WorkerId, id: ArrayId) {
        let Some((array, known)) = self.arrays.get(&id).zip(self.workers.get_mut(&worker)) else { return };
        let Some(recipe) = array.recipe.as_ref().filter(|_| known.stages.insert(id)) else { return };
        let new = recipe.kernels.iter().filter(|kernel| known.kernels.insert(kernel.hash));
        let mut messages: Vec<ToWorker> = new.map(|kernel| ToWorker::Kernel(kernel.clone())).collect();
        messages.push(ToWorker::Stage { stage: recipe.relation.stage().clone(), depth: array.depth });
        messages.into_iter().for_each(|message| self.tell(worker, message));
    }

    /// Where the inputs of `blocks` are that `worker` does not hold.
    fn whereabouts(&self, worker: WorkerId, id: ArrayId, blocks: Interval) -> Vec<Whereabouts> {
        let recipe = self.arrays.get(&id).and_then(|array| array.recipe.as_ref());
        let read = recipe.map(|recipe| recipe.relation.inputs_of(&blocks.into())).unwrap_or_default();
        let mut places = Vec::new();
        for (input, mut set) in read {
            let Some(array) = self.arrays.get(&input) else { continue };
            array.held().get(&worker).into_iter().for_each(|here| set.remove_all(here));
            for interval in set.iter() {
                let mut at = interval.start;
                while at < interval.end {
                    let mut holders = array.holders_from(at);
                    let end = holders.iter().map(|&(_, end)| end).min().unwrap_or(at + 1).min(interval.end);
                    // Different workers ask different holders first.
                    let turn = worker.0 as usize % holders.len().max(1);
                    holders.rotate_left(turn);
                    let holders = holders.into_iter().take(HOLDERS_MAX).map(|(holder, _)| holder).collect();
                    places.push(Whereabouts { array: input, blocks: Interval::new(at, end), holders });
                    at = end;
                }
            }
        }
        places
    }

    /// Changes an array, and keeps in step what is known of it elsewhere. `None` if there is no such array.
    pub(super) fn edit<R>(&mut self, id: ArrayId, change: impl FnOnce(&mut Array) -> R) -> Option<R> {
        let array = self.arrays.get_mut(&id)?;
        let before: BTreeMap<WorkerId, u64> =
            array.homes().iter().map(|(&worker, set)| (worker, set.count())).collect();
        let result = change(array);
        let depth = array.depth;
        for (worker, set) in array.homes() {
            if let Some(known) = self.workers.get_mut(worker) {
                known.move_in(depth, set.count(), 0);
            }
        }
        for (worker, count) in before {
            if let Some(known) = self.workers.get_mut(&worker) {
                known.move_in(depth, 0, count);
            }
        }
        self.index(id);
        Some(result)
    }
}

impl Array {
    /// Whether a worker can compute its blocks.
    pub(super) fn suits(&self, id: WorkerId, worker: &Worker) -> bool {
        let needs = self.recipe.as_ref().map_or(u64::MAX, |recipe| recipe.bytes_peak);
        needs <= worker.register.memory_bytes && !self.excluded.contains(&id)
    }

    /// How many blocks a run may have so that its inputs can be named in one message.
    fn run_blocks_max(&self, worker: WorkerId) -> u64 {
        let Some(recipe) = self.recipe.as_ref().filter(|recipe| !recipe.relation.is_blockwise()) else {
            return u64::MAX;
        };
        let first = self.homes().get(&worker).and_then(IntervalSet::first).map_or(0, |first| first.start);
        let read: u64 = recipe.relation.inputs_of_one(first).iter().map(|(_, range)| range.count()).sum();
        (RUN_INPUTS_MAX / read.max(1)).max(1)
    }
}
