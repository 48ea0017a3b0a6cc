//! A worker that leaves: it finishes what it was handed, hands on what it alone holds, and is told to close.
//!
//! What nobody can take is lost with it and derived again, like everything that is lost; but nobody is blamed.

use std::collections::btree_map::Entry;

use gridloom_worker::ids::{ArrayId, WorkerId};
use gridloom_worker::intervals::{Interval, IntervalSet};
use gridloom_worker::wire::ToWorker;

use super::Scheduler;
use super::party::Presence;

impl Scheduler {
    /// No work for it any more.
    pub(super) fn worker_leaves(&mut self, worker: WorkerId) {
        let Some(known) = self.workers.get_mut(&worker).filter(|known| known.is_working()) else { return };
        known.presence = Presence::Leaving;
        self.leaving.insert(worker);
        self.idle.remove(&worker);
        for id in self.arrays.keys().copied().collect::<Vec<_>>() {
            let homeless = self.edit(id, |array| array.evict(worker)).unwrap_or_default();
            self.place(id, &homeless);
        }
    }

    /// Moves what only leaving workers hold, and closes those that have nothing left to give.
    pub(super) fn see_off(&mut self) {
        for worker in self.leaving.clone() {
            let is_at_work = self.workers.get(&worker).is_some_and(|known| !known.outstanding.is_empty());
            if is_at_work || self.move_from(worker) {
                continue;
            }
            self.leaving.remove(&worker);
            if let Some(known) = self.workers.get_mut(&worker) {
                known.presence = Presence::Closing;
            }
            self.tell(worker, ToWorker::Close);
        }
    }

    /// Whether anything of what `worker` alone holds is on its way to others; whatever can be is sent off.
    fn move_from(&mut self, worker: WorkerId) -> bool {
        let stays = |other: &WorkerId| self.workers.get(other).is_some_and(|known| known.is_working());
        let targets: Vec<WorkerId> = self.workers.keys().copied().filter(stays).collect();
        let mut moving = false;
        for id in self.arrays.keys().copied().collect::<Vec<_>>() {
            let Some(array) = self.arrays.get(&id) else { continue };
            let mut sole = array.held_only_by(worker);
            let (fields, bytes) = (array.fields, array.bytes);
            for (_, _, set) in self.moves_of(id).filter(|(from, ..)| *from == worker) {
                moving |= sole.overlaps(set);
                sole.remove_all(set);
            }
            if let Some(stuck) = self.workers.get(&worker).and_then(|known| known.stuck.get(&id)) {
                sole.remove_all(stuck);
            }
            let share = sole.count().div_ceil(targets.len().max(1) as u64).max(1);
            for (turn, blocks) in sole.iter().flat_map(|blocks| cut(blocks, share)).enumerate() {
                let Some(&target) = targets.get(turn % targets.len().max(1)) else { break };
                moving = true;
                self.moves.entry((id, worker, target)).or_default().insert(blocks);
                self.introduce(target, worker);
                self.tell(target, ToWorker::Keep { array: id, blocks, fields, bytes, holder: worker });
            }
        }
        moving
    }

    /// What of an array is on its way: from whom, to whom, which blocks.
    pub(super) fn moves_of(&self, id: ArrayId) -> impl Iterator<Item = (WorkerId, WorkerId, &IntervalSet)> {
        let bounds = (id, WorkerId(0), WorkerId(0))..=(id, WorkerId(u64::MAX), WorkerId(u64::MAX));
        self.moves.range(bounds).map(|(&(_, from, to), set)| (from, to, set))
    }

    /// `target` has these now: they are on their way no more. Returns those that were.
    pub(super) fn end_moves(&mut self, target: WorkerId, id: ArrayId, blocks: &IntervalSet) -> IntervalSet {
        let moving = self.moves_of(id).filter(|(_, to, set)| *to == target && set.overlaps(blocks));
        let moving: Vec<WorkerId> = moving.map(|(from, ..)| from).collect();
        let mut moved = IntervalSet::new();
        for from in moving {
            let Entry::Occupied(mut entry) = self.moves.entry((id, from, target)) else { continue };
            moved.insert_all(&entry.get().intersection(blocks));
            entry.get_mut().remove_all(blocks);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        moved
    }

    /// `target` could not take these: they are not moved, and lost with their holder.
    pub(super) fn give_up_moves(&mut self, target: WorkerId, id: ArrayId, blocks: &IntervalSet) {
        let moving = self.moves_of(id).filter(|(_, to, _)| *to == target);
        let stuck: Vec<(WorkerId, IntervalSet)> =
            moving.map(|(from, _, set)| (from, set.intersection(blocks))).collect();
        for (from, set) in stuck {
            if let Some(known) = self.workers.get_mut(&from) {
                known.stuck.entry(id).or_default().insert_all(&set);
            }
        }
        self.end_moves(target, id, blocks);
    }
}

/// `blocks` in parts of at most `count`.
fn cut(blocks: Interval, count: u64) -> impl Iterator<Item = Interval> {
    let parts = blocks.count().div_ceil(count.max(1));
    (0..parts).map(move |part| {
        let start = blocks.start + part * count;
        Interval::new(start, blocks.end.min(start.saturating_add(count)))
    })
}
