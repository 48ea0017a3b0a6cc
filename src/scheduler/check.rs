//! Every invariant, derived again from what is stored. Tests and the simulation ask after every step.

use std::collections::BTreeMap;

use gridloom_worker::ids::{ArrayId, WorkerId};
use gridloom_worker::intervals::IntervalSet;

use super::Scheduler;
use super::array::Array;

impl Scheduler {
    /// Derives every invariant again from what is stored.
    ///
    /// # Errors
    /// The first that does not hold, in words.
    pub fn check(&self) -> Result<(), String> {
        for (&id, array) in &self.arrays {
            check_states(array).map_err(|what| format!("{id}: {what}"))?;
            self.check_needs(id, array).map_err(|what| format!("{id}: {what}"))?;
            self.check_readers(id, array).map_err(|what| format!("{id}: {what}"))?;
            self.check_lists(id, array).map_err(|what| format!("{id}: {what}"))?;
        }
        self.workers
            .keys()
            .try_for_each(|&worker| self.check_worker(worker).map_err(|what| format!("{worker}: {what}")))
    }

    /// What is needed is there or on its way, what is ready can go, and what is not needed is not kept.
    fn check_needs(&self, id: ArrayId, array: &Array) -> Result<(), String> {
        let mut known = array.done.clone();
        known.insert_all(&array.unfinished);
        known.insert_all(&array.taken);
        ensure(array.done.covers_all(&array.told), "the client was told of a block that is not there")?;
        ensure(!array.told.overlaps(&array.taken), "the client was told of a block that it has taken")?;
        ensure(
            !array.pinned || known.covers(array.whole()),
            "a block is pinned, and neither there nor on its way nor taken",
        )?;
        let Some(recipe) = &array.recipe else {
            return ensure(array.unfinished.is_empty(), "scattered data waits for itself");
        };
        for block in array.unfinished.indices() {
            let mut all_there = true;
            for (input, range) in recipe.relation.inputs_of_one(block) {
                let Some(input) = self.arrays.get(&input) else { return Err(format!("{block} reads what is gone")) };
                all_there &= input.done.covers(range);
                let there = |index: u64| input.done.contains(index) || input.unfinished.contains(index);
                ensure(range.indices().all(there), &format!("an input of {block} is neither there nor on its way"))?;
            }
            let ready = !array.waiting().contains(block) && !array.dispensed().values().any(|set| set.contains(block));
            ensure(!ready || all_there, &format!("{block} is ready without its inputs"))?;
            ensure(!array.waiting().contains(block) || !all_there, &format!("{block} waits although it is ready"))?;
        }
        let unfinished_reader = |block: u64| {
            array.readers.iter().filter_map(|reader| self.arrays.get(reader)).any(|reader| {
                let reads = |recipe: &super::array::Recipe| recipe.relation.readers_of_one(id, block);
                let readers = reader.recipe.as_ref().map(reads).unwrap_or_default();
                readers.into_iter().any(|blocks| reader.unfinished.touches(blocks))
            })
        };
        let kept = |block: u64| (array.pinned && !array.taken.contains(block)) || unfinished_reader(block);
        ensure(array.done.indices().all(kept), "a block is held that nobody needs")
    }

    /// Who reads whom is written on both sides, and an array that nobody wants is gone.
    fn check_readers(&self, id: ArrayId, array: &Array) -> Result<(), String> {
        ensure(array.pinned || !array.readers.is_empty(), "nobody wants the array")?;
        for reader in &array.readers {
            let reads = self.arrays.get(reader).is_some_and(|reader| reader.inputs().contains(&id));
            ensure(reads, &format!("{reader} does not read it"))?;
        }
        for input in array.inputs().iter().filter(|_| array.failed.is_none()) {
            let read = self.arrays.get(input).is_some_and(|input| input.readers.contains(&id));
            ensure(read, &format!("{input} does not know that it is read"))?;
        }
        ensure(array.failed.is_none() || (array.done.is_empty() && array.unfinished.is_empty()), "failed, not empty")
    }

    /// The lists of what is ready say what the sets say.
    fn check_lists(&self, id: ArrayId, array: &Array) -> Result<(), String> {
        ensure(self.lines.contains(&id) != array.line().is_empty(), "the list of suspects is wrong")?;
        ensure(self.ready.contains(&id) == array.has_ready(), "the list of the ready is wrong")?;
        ensure(self.unserved.contains(&id) != array.homeless().is_empty(), "the list of the unserved is wrong")?;
        ensure(array.homeless().is_empty() || self.eligible(id).is_empty(), "somebody could serve the homeless")?;
        let Some(name) = array.job else { return Ok(()) };
        let Some(job) = self.jobs.get(&name) else { return Err(format!("{name} is gone")) };
        ensure(job.arrays.contains(&id), "its job does not know it")
    }

    fn check_worker(&self, worker: WorkerId) -> Result<(), String> {
        let Some(known) = self.workers.get(&worker) else { return Ok(()) };
        let counted = |sets: fn(&Array) -> &BTreeMap<WorkerId, IntervalSet>| -> BTreeMap<ArrayId, u64> {
            let count = |(&id, array): (&ArrayId, &Array)| Some((id, sets(array).get(&worker)?.count()));
            self.arrays.iter().filter_map(count).collect()
        };
        ensure(counted(Array::dispensed) == known.outstanding, "what it was handed is counted wrongly")?;
        let at_home = counted(Array::homes);
        let homes: BTreeMap<ArrayId, u64> = known.homes.iter().map(|(key, &blocks)| (key.array, blocks)).collect();
        ensure(homes == at_home, "what is at its home is counted wrongly")?;
        let total: u64 = homes.values().sum();
        ensure(total == known.home_blocks(0), "what is at its home is counted wrongly by depth")?;
        ensure(homes.is_empty() || known.is_working(), "it leaves and has a home")?;
        if let Some(block) = known.alone {
            ensure(known.outstanding_blocks() == 1, &format!("{block} is not alone"))?;
        }
        Ok(())
    }
}

/// Each block is in one state.
fn check_states(array: &Array) -> Result<(), String> {
    let mut seen = IntervalSet::new();
    let disjoint = |set: &IntervalSet, seen: &mut IntervalSet| {
        let fresh = !seen.overlaps(set);
        seen.insert_all(set);
        fresh
    };
    let mut ready = [array.waiting(), array.homeless(), array.line()].into_iter().chain(array.homes().values());
    ensure(ready.all(|set| disjoint(set, &mut seen)), "a block is in two states")?;
    ensure(array.unfinished.covers_all(&seen), "a block that nobody needs is waiting or ready")?;
    for set in array.dispensed().values() {
        ensure(disjoint(set, &mut seen), "a block is dispensed twice, or dispensed and ready")?;
    }
    // Whoever has a block in hand that is spent works in vain: it came from elsewhere meanwhile, or was taken.
    ensure(seen.covers_all(&array.unfinished), "an unfinished block is not waiting, ready or dispensed")?;
    let mut held = IntervalSet::new();
    array.held().values().for_each(|set| held.insert_all(set));
    ensure(held == array.done, "the blocks done are not those held")?;
    ensure(!array.done.overlaps(&array.unfinished), "a block is done and unfinished")?;
    let mut outside = array.done.clone();
    outside.insert_all(&array.unfinished);
    outside.remove(array.whole());
    ensure(outside.is_empty(), "a block is outside its array")?;
    let mut sets = array.homes().values().chain(array.dispensed().values()).chain(array.held().values());
    ensure(sets.all(|set| !set.is_empty()), "an empty set is kept")
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}
