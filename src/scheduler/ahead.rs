//! Runs handed out ahead of what they read, to the worker that is making it: so a chain of small tasks waits for no round
//! trip between its links.
//!
//! A *lead* is an array of one block that one other array of one block reads, and nobody else: what has several readers
//! may find them better places while it is made. The reader's block goes from waiting straight to dispensed, to the
//! worker that has the lead's. That worker has it wait until its input is there, and gives it back if that does not come:
//! then it waits here again, like any block that is given back.

use std::collections::BTreeSet;

use gridloom_worker::ids::{ArrayId, WorkerId};
use gridloom_worker::intervals::Interval;

use super::Scheduler;
use super::party::Worker;
use super::policy::{self, Outstanding};
use super::story::Happening;

impl Scheduler {
    /// A block of an array was handed out, or there is a new reader of it: it may be a lead now.
    pub(super) fn note_lead(&mut self, id: ArrayId) {
        if self.arrays.get(&id).is_some_and(|array| array.blocks == 1 && array.readers.len() == 1) {
            self.leads.insert(id);
        }
    }

    /// Hands out what reads the leads, as far as there is room for it; where there is none they stay leads. Suspects that
    /// wait to be alone go before.
    pub(super) fn feed_ahead(&mut self) {
        if self.leads.is_empty() || !self.lines.is_empty() {
            return;
        }
        let mut crowded = BTreeSet::new();
        while let Some(lead) = self.leads.pop_first() {
            let Some((worker, follower)) = self.follower(lead) else { continue };
            match self.has_room_ahead(worker) {
                true => self.hand_ahead(worker, follower),
                false => drop(crowded.insert(lead)),
            }
        }
        self.leads = crowded;
    }

    /// The worker that is making a lead's block, and the array whose block may go there after it.
    fn follower(&self, lead: ArrayId) -> Option<(WorkerId, ArrayId)> {
        let array = self.arrays.get(&lead).filter(|array| array.unfinished.contains(0))?;
        let (&worker, &[id]) = (array.dispensed().keys().next()?, &array.readers[..]) else { return None };
        let known = self.workers.get(&worker).filter(|known| known.is_working() && known.alone.is_none())?;
        let reader = self.arrays.get(&id)?;
        let is_waiting = reader.blocks == 1 && reader.waiting().contains(0) && reader.suspects.is_empty();
        (is_waiting && reader.suits(worker, known) && self.are_inputs_coming(id, worker)).then_some((worker, id))
    }

    /// Whether all that an array's one block reads is somewhere, or one block that `worker` is making.
    fn are_inputs_coming(&self, id: ArrayId, worker: WorkerId) -> bool {
        let Some(recipe) = self.arrays.get(&id).and_then(|array| array.recipe.as_ref()) else { return false };
        recipe.relation.inputs_of_one(0).into_iter().all(|(input, range)| {
            self.arrays.get(&input).is_some_and(|input| {
                let is_made_there = || input.dispensed().get(&worker).is_some_and(|set| set.contains(0));
                input.done.covers(range) || (input.blocks == 1 && input.unfinished.contains(0) && is_made_there())
            })
        })
    }

    /// Whether a worker may have one block more than what it is known to have. How long that takes is what its blocks took
    /// of late, whatever they were: each link of a chain is an array of its own, of which nothing is known.
    fn has_room_ahead(&self, worker: WorkerId) -> bool {
        let room = |known: &Worker| {
            let blocks = known.outstanding_blocks();
            let outstanding = Outstanding { blocks, seconds: blocks as f64 * known.pace.seconds() };
            known.paused_until <= self.now && policy::room(known.slots(), outstanding, known.pace) > 0
        };
        self.workers.get(&worker).is_some_and(room)
    }

    fn hand_ahead(&mut self, worker: WorkerId, id: ArrayId) {
        let block = Interval::one(0);
        self.edit(id, |array| array.dispense_ahead(block, worker));
        self.note(id, block, Happening::Dispensed { worker });
        self.hand(worker, id, block);
    }
}
