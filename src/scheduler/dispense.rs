//! Ready blocks are handed out: from a worker's own home first, and where that is empty from the largest.
//!
//! Handed out are runs worth two blocks a slot or 50 ms, whichever is more.

use std::collections::BTreeSet;

use gridloom_worker::ids::{ArrayId, BlockId, WorkerId};
use gridloom_worker::intervals::{Interval, IntervalSet};
use gridloom_worker::wire::{Run, ToWorker, Whereabouts};

use super::Scheduler;
use super::array::Array;
use super::party::{HomeKey, Worker};
use super::policy;
use super::story::Happening;

/// Holders named for one input: one to ask, two for when it fails.
const HOLDERS_MAX: usize = 3;

/// Inputs named in one run at most, so that its message stays small.
const RUN_INPUTS_MAX: u64 = 16_384;

/// Arrays at one worker's home that an idle one looks at: what it finds no use for is left to its owner.
const LOOKED_AT_MAX: usize = 8;

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

impl Scheduler {
    /// Every worker that may have room gets what it may have.
    pub(super) fn feed(&mut self) {
        if self.ready.is_empty() {
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
        // Nobody takes from others before all have had what is their own.
        let fed: Vec<Fed> = visit.iter().map(|&worker| self.feed_while(worker, Scheduler::feed_from_home)).collect();
        for (worker, mut fed) in visit.into_iter().zip(fed) {
            if self.workers.get(&worker).is_some_and(|known| known.paused_until > self.now) {
                continue;
            }
            if fed == Fed::Nothing {
                fed = self.feed_while(worker, Scheduler::feed_from_others);
            }
            self.hungry.remove(&worker);
            match fed {
                Fed::Nothing => self.idle.insert(worker),
                Fed::Run | Fed::Full => self.idle.remove(&worker),
            };
        }
    }

    fn feed_while(&mut self, worker: WorkerId, feed: impl Fn(&mut Scheduler, WorkerId) -> Fed) -> Fed {
        loop {
            match feed(self, worker) {
                Fed::Run => {}
                other => return other,
            }
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

    /// One run of what is at the worker's own home: of the jobs in turn, the deepest stage.
    fn feed_from_home(&mut self, worker: WorkerId) -> Fed {
        let known = self.workers.get(&worker).filter(|known| known.paused_until <= self.now);
        match known.and_then(|known| known.homes_in_turn(known.turn).next()) {
            Some(home) => self.feed_run(worker, worker, home),
            None => Fed::Nothing,
        }
    }

    /// One run of what is at another's home, if that pays.
    fn feed_from_others(&mut self, thief: WorkerId) -> Fed {
        match self.victim_of(thief) {
            Some((victim, home)) => self.feed_run(thief, victim, home),
            None => Fed::Nothing,
        }
    }

    /// Who has the most to do gives first.
    fn victim_of(&self, thief: WorkerId) -> Option<(WorkerId, HomeKey)> {
        let turn = self.workers.get(&thief)?.turn;
        let others = self.workers.iter().filter(|(other, known)| **other != thief && !known.homes.is_empty());
        let mut victims: Vec<(u64, WorkerId, &Worker)> =
            others.map(|(&id, known)| (known.home_blocks(0), id, known)).collect();
        victims.sort_by_key(|&(blocks, id, _)| (std::cmp::Reverse(blocks), id));
        victims.into_iter().find_map(|(_, victim, known)| {
            let mut homes = known.homes_in_turn(turn).take(LOOKED_AT_MAX);
            homes.find(|home| self.stealing_pays(home.array, thief, victim)).map(|home| (victim, home))
        })
    }

    /// Whether an idle worker does well to take blocks that are at another's home.
    fn stealing_pays(&self, id: ArrayId, thief: WorkerId, victim: WorkerId) -> bool {
        let Some((array, known)) = self.arrays.get(&id).zip(self.workers.get(&thief)) else { return false };
        let largest = array.homes().get(&victim).and_then(IntervalSet::largest);
        let Some(largest) = largest.filter(|_| array.suits(thief, known)) else { return false };
        let (_, inputs) = self.inputs_at(id, Interval::one(largest.end - 1));
        let mut mine = self.offer(id, thief);
        mine.fetch = self.fetch_seconds(&inputs, thief);
        policy::steal_pays(mine, self.offer(id, victim))
    }

    /// Hands out what there is room for of an array, after taking it from its home if that is another's.
    fn feed_run(&mut self, worker: WorkerId, home: WorkerId, HomeKey { job, array: id, .. }: HomeKey) -> Fed {
        let Some((array, known)) = self.arrays.get(&id).zip(self.workers.get(&worker)) else { return Fed::Nothing };
        let room = policy::room(known.slots(), self.outstanding(known), array.pace(worker));
        if room == 0 {
            return Fed::Full;
        }
        let blocks = self.edit(id, |array| {
            if home != worker {
                array.steal(home, worker);
            }
            array.dispense(worker, room.min(array.run_blocks_max(worker)))
        });
        let Some(Some(blocks)) = blocks else { return Fed::Nothing };
        if let Some(known) = self.workers.get_mut(&worker) {
            known.turn = job;
        }
        self.note(id, blocks, Happening::Dispensed { worker });
        self.hand(worker, id, blocks);
        Fed::Run
    }

    /// Sends a run and, before it, whatever it names that the worker does not know.
    pub(super) fn hand(&mut self, worker: WorkerId, id: ArrayId, blocks: Interval) {
        let inputs = self.whereabouts(worker, id, blocks);
        let holders: BTreeSet<WorkerId> = inputs.iter().flat_map(|place| place.holders.iter().copied()).collect();
        holders.into_iter().for_each(|holder| self.introduce(worker, holder));
        self.send_stage(worker, id);
        let Some((array, known)) = self.arrays.get(&id).zip(self.workers.get_mut(&worker)) else { return };
        known.hand(id, blocks.count());
        let (attempt, bytes_spare) = (array.attempt, array.recipe.as_ref().map_or(0, |recipe| recipe.bytes_spare));
        self.tell(worker, ToWorker::Run(Run { array: id, blocks, attempt, bytes_spare, inputs }));
        self.note_lead(id);
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
        let is_result = array.pinned && array.blocks == 1;
        messages.push(ToWorker::Stage { stage: recipe.relation.stage().clone(), depth: array.depth, is_result });
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
}

impl Array {
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
