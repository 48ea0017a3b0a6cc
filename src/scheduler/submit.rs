//! New work: plans that are submitted, and data that clients have put on workers themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use gridloom_worker::ids::{ArrayId, BlockId, ClientId, JobId, KernelHash};
use gridloom_worker::intervals::IntervalSet;
use gridloom_worker::stage::Stage;
use gridloom_worker::wire::{DeviceClass, KernelBytes, Plan};

use super::Scheduler;
use super::array::{Array, Recipe};
use super::error::{JobError, PlanFault, StageFault};
use super::message::{Holding, ToClient};
use super::party::Job;
use super::relation::Relation;
use super::validate;

/// Blocks of an irregular reader that are looked at one by one to see what it needs; above, all is taken as needed.
const LOOKED_AT_MAX: u64 = 1 << 16;

/// Fields of a block that a client brings, at most.
const SCATTERED_FIELDS_MAX: u32 = 64;

impl Scheduler {
    pub(super) fn submit(&mut self, client: ClientId, name: JobId, plan: Plan, classes: Vec<DeviceClass>) {
        if name.client != client || self.jobs.contains_key(&name) {
            let error = PlanFault::JobName.into();
            self.tell_client(client, ToClient::JobFailed { job: name, error });
            return;
        }
        let fits = validate::check(&plan, client, &self.arrays).and_then(|()| self.check_memory(&plan, &classes));
        if let Err(error) = fits {
            self.tell_client(client, ToClient::JobFailed { job: name, error });
            return;
        }
        if plan.outputs.is_empty() {
            self.tell_client(client, ToClient::JobDone { job: name });
            return;
        }
        let made: Vec<ArrayId> = plan.stages.iter().map(|stage| stage.array).collect();
        let job = Job { arrays: made.iter().copied().collect(), ..Job::default() };
        self.jobs.insert(name, job);
        self.add_arrays(name, plan, &classes.into());
        made.iter().rev().for_each(|&id| self.set_spare(id));
        made.iter().rev().for_each(|&id| self.want_needed(id));
        for &id in &made {
            let ready = self.ready_at_first(id);
            self.make_ready(id, &ready);
        }
        self.end_empty(&made);
    }

    /// Some worker has memory for each stage; asked only if there are workers that may, else there may be one in time.
    fn check_memory(&self, plan: &Plan, classes: &[DeviceClass]) -> Result<(), JobError> {
        let registers = self.workers.values().map(|worker| &worker.register);
        let able = registers.filter(|register| classes.contains(&register.class));
        let Some(has) = able.map(|register| register.memory_bytes).max() else { return Ok(()) };
        match plan.stages.iter().find(|stage| stage.bytes_peak > has) {
            Some(stage) => Err(JobError::Memory { array: stage.array, needs: stage.bytes_peak, has }),
            None => Ok(()),
        }
    }

    fn add_arrays(&mut self, name: JobId, plan: Plan, classes: &Arc<[DeviceClass]>) {
        let kernels: BTreeMap<KernelHash, KernelBytes> =
            plan.kernels.into_iter().map(|kernel| (kernel.hash, kernel)).collect();
        for stage in plan.stages {
            let id = stage.array;
            let array = self.array_of(name, stage, &kernels, classes);
            for input in array.inputs() {
                if let Some(read) = self.arrays.get_mut(input) {
                    read.readers.push(id);
                }
                self.note_lead(*input);
            }
            self.arrays.insert(id, array);
        }
        for output in plan.outputs {
            if let Some(array) = self.arrays.get_mut(&output) {
                array.pinned = true;
            }
            if let Some(job) = self.jobs.get_mut(&name) {
                job.missing.insert(output);
            }
        }
    }

    fn array_of(
        &self,
        name: JobId,
        stage: Arc<Stage>,
        kernels: &BTreeMap<KernelHash, KernelBytes>,
        classes: &Arc<[DeviceClass]>,
    ) -> Array {
        let named = validate::kernels_of(&stage);
        let kernels = named.iter().filter_map(|kernel| kernels.get(kernel).cloned()).collect();
        let mut array = Array::new(stage.blocks(), stage.outputs.len() as u32, stage.bytes_output);
        let (bytes_peak, classes) = (stage.bytes_peak, Arc::clone(classes));
        array.recipe = Some(Recipe { kernels, bytes_peak, bytes_spare: 0, classes, relation: Relation::new(stage) });
        array.job = Some(name);
        let depths = array.inputs().iter().filter_map(|input| self.arrays.get(input)).map(|input| input.depth + 1);
        array.depth = depths.max().unwrap_or(0);
        array
    }

    /// What the stages after this one (whose own is known) need at once.
    fn set_spare(&mut self, id: ArrayId) {
        let readers = self.arrays.get(&id).map_or(&[][..], |array| &array.readers).iter();
        let recipes = readers.filter_map(|reader| self.arrays.get(reader)?.recipe.as_ref());
        let spare = recipes.map(|recipe| recipe.bytes_peak.saturating_add(recipe.bytes_spare)).max().unwrap_or(0);
        if let Some(recipe) = self.arrays.get_mut(&id).and_then(|array| array.recipe.as_mut()) {
            recipe.bytes_spare = spare;
        }
    }

    /// Wants the blocks of an array that its client or its readers (whose own wants are known) need.
    fn want_needed(&mut self, id: ArrayId) {
        let Some(array) = self.arrays.get(&id) else { return };
        let whole: IntervalSet = array.whole().into();
        let mut needed = IntervalSet::new();
        if array.pinned {
            needed.clone_from(&whole);
        }
        for reader in array.readers.iter().filter_map(|reader| self.arrays.get(reader)) {
            let Some(recipe) = reader.recipe.as_ref().filter(|_| needed != whole) else { continue };
            if !recipe.relation.is_regular() && reader.unfinished.count() > LOOKED_AT_MAX {
                needed.clone_from(&whole);
                continue;
            }
            let read = recipe.relation.inputs_of(&reader.unfinished).into_iter();
            read.filter(|(input, _)| *input == id).for_each(|(_, blocks)| needed.insert_all(&blocks));
        }
        self.edit(id, |array| {
            array.wanted = needed.count();
            array.want(&needed);
        });
    }

    /// What can be computed before anything else is: blocks that read nothing, or only what is there already.
    fn ready_at_first(&self, id: ArrayId) -> IntervalSet {
        let Some((array, recipe)) = self.arrays.get(&id).and_then(|array| Some((array, array.recipe.as_ref()?))) else {
            return IntervalSet::new();
        };
        let is_there = |input: &ArrayId| self.arrays.get(input).is_some_and(|input| input.done.covers(input.whole()));
        if recipe.relation.inputs().iter().all(is_there) {
            return array.waiting().clone();
        }
        let mut candidates = recipe.relation.blocks_without_inputs();
        for (&input, read) in recipe.relation.inputs().iter().filter_map(|id| Some((id, self.arrays.get(id)?))) {
            candidates.insert_all(&recipe.relation.readers_of(input, &read.done));
        }
        self.ready_among(id, &candidates.intersection(array.waiting()))
    }

    /// Outputs without blocks are complete, and stages that nobody reads are not wanted.
    fn end_empty(&mut self, made: &[ArrayId]) {
        for &id in made.iter().rev() {
            let unwanted = |array: &Array| !array.pinned && array.readers.is_empty();
            if self.arrays.get(&id).is_some_and(unwanted) {
                self.forget(id);
            }
        }
        made.iter().for_each(|&id| self.announce(id, None));
    }

    /// Data that a client has put on workers. It is held where the client says, or it is lost.
    pub(super) fn scattered(&mut self, client: ClientId, id: ArrayId, mut array: Array, holders: &[Holding]) {
        let is_new = id.client == client && !self.arrays.contains_key(&id);
        if !is_new || !(1..=SCATTERED_FIELDS_MAX).contains(&array.fields) {
            let error = match is_new {
                true => PlanFault::Stage { array: id, what: StageFault::Numbers },
                false => PlanFault::Name { array: id },
            };
            self.tell_client(client, ToClient::ArrayLost { array: id, error: error.into() });
            return;
        }
        array.pinned = true;
        array.announced = true;
        for Holding { blocks, worker } in holders {
            if self.workers.contains_key(worker) {
                array.hold(*worker, &blocks.intersect(array.whole()).into());
            }
        }
        let missing = array.done.first_gap(array.whole());
        self.arrays.insert(id, array);
        if let Some(index) = missing {
            let block = BlockId { array: id, index };
            self.fail(id, JobError::BlockLost { block });
        }
    }
}
