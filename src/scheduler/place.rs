//! Ready blocks get a home: the worker that is to have them first.
//!
//! What is ready and not handed out stays here. Blocks that read nothing are shared out, neighbours to neighbours, by
//! measured rate; the others go to whoever ends them first, given who holds their inputs.

use std::cmp::Reverse;

use gridloom_worker::ids::{ArrayId, WorkerId};
use gridloom_worker::intervals::{Interval, IntervalSet};

use super::Scheduler;
use super::array::{Array, Recipe};
use super::party::{HomeKey, Worker};
use super::policy::{self, Offer, Outstanding};

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
    pub(super) fn inputs_at(&self, id: ArrayId, blocks: Interval) -> (Interval, Vec<(ArrayId, Interval)>) {
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
    pub(super) fn fetch_seconds(&self, inputs: &[(ArrayId, Interval)], worker: WorkerId) -> f64 {
        let (mut count, mut bytes) = (0, 0u64);
        for (array, range) in inputs.iter().filter_map(|(input, range)| Some((self.arrays.get(input)?, *range))) {
            let here = array.held().get(&worker).map_or(0, |set| set.within(range).map(Interval::count).sum());
            count += range.count() - here;
            bytes = bytes.saturating_add((range.count() - here).saturating_mul(array.bytes));
        }
        let speed = self.workers.get(&worker).map_or(1, |worker| worker.register.fetch_bytes_per_second);
        policy::fetch_seconds(count, bytes, speed)
    }

    /// What `worker` offers for a block of an array whose inputs it has.
    pub(super) fn offer(&self, id: ArrayId, worker: WorkerId) -> Offer {
        let Some((array, known)) = self.arrays.get(&id).zip(self.workers.get(&worker)) else {
            return Offer { queue: f64::MAX, work: 1.0, fetch: 0.0 };
        };
        let slots = known.slots() as f64;
        let homes = known.home_blocks(array.depth) as f64 * known.pace.seconds();
        let paused = known.paused_until.saturating_sub(self.now).as_secs_f64();
        let queue = paused + (homes + self.outstanding(known).seconds) / slots;
        Offer { queue, work: array.pace(worker).or(known.pace).seconds() / slots, fetch: 0.0 }
    }

    pub(super) fn outstanding(&self, worker: &Worker) -> Outstanding {
        let mut sum = Outstanding::default();
        for (array, &blocks) in &worker.outstanding {
            sum.blocks += blocks;
            sum.seconds += self.arrays.get(array).map_or(0.0, |array| array.pace_anywhere().seconds()) * blocks as f64;
        }
        sum
    }

    /// Changes an array, and keeps in step what is known of it elsewhere. `None` if there is no such array.
    pub(super) fn edit<R>(&mut self, id: ArrayId, change: impl FnOnce(&mut Array) -> R) -> Option<R> {
        let array = self.arrays.get_mut(&id)?;
        let before: Vec<(WorkerId, u64)> = array.homes().iter().map(|(&worker, set)| (worker, set.count())).collect();
        let result = change(array);
        let key = HomeKey { job: array.job, depth: Reverse(array.depth), array: id };
        let came: Vec<(WorkerId, u64)> = array.homes().iter().map(|(&worker, set)| (worker, set.count())).collect();
        for (worker, count) in came {
            if let Some(known) = self.workers.get_mut(&worker) {
                known.move_in(key, count, 0);
            }
        }
        for (worker, count) in before {
            if let Some(known) = self.workers.get_mut(&worker) {
                known.move_in(key, 0, count);
            }
        }
        self.index(id);
        Some(result)
    }
}

impl Array {
    /// Whether a worker can compute its blocks.
    pub(super) fn suits(&self, id: WorkerId, worker: &Worker) -> bool {
        let able = |recipe: &Recipe| {
            recipe.bytes_peak <= worker.register.memory_bytes && recipe.classes.contains(&worker.register.class)
        };
        self.recipe.as_ref().is_some_and(able) && !self.excluded.contains(&id)
    }
}
