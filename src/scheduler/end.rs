//! How things end: arrays released and forgotten, jobs failed or cancelled, clients gone, waits too long.
//!
//! An array lives while it is pinned or somebody reads it: so the plan of a block is kept as long as a live block
//! descends from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gridloom_worker::ids::{ArrayId, ClientId, JobId, WorkerId};
use gridloom_worker::wire::ToWorker;

use super::Scheduler;
use super::error::{JobError, Wanted};
use super::message::ToClient;

/// What is not wanted.
impl Scheduler {
    /// The client does not want to keep it.
    pub(super) fn release(&mut self, id: ArrayId) {
        let Some(array) = self.arrays.get_mut(&id) else { return };
        array.pinned = false;
        drop(array.told.take());
        self.refuse_questions(id, &JobError::UnknownArray { array: id });
        self.end_job_if_done(id);
        self.drop_or_free(id);
    }

    /// Somebody stopped wanting something of it. What nobody can want any more is forgotten, and so on up to what lives:
    /// in a loop, since a chain of arrays may be longer than a stack.
    fn drop_or_free(&mut self, id: ArrayId) {
        let mut looked_at = vec![id];
        while let Some(id) = looked_at.pop() {
            let Some(array) = self.arrays.get(&id) else { continue };
            if !array.pinned && array.readers.is_empty() {
                looked_at.extend(self.remove(id));
            } else {
                let whole = array.done.clone();
                self.free_unneeded(id, &whole);
            }
        }
    }

    /// Nobody can want it any more.
    pub(super) fn forget(&mut self, id: ArrayId) {
        self.remove(id).into_iter().for_each(|input| self.drop_or_free(input));
    }

    /// An array is no more. Returns what it read, and reads no longer.
    fn remove(&mut self, id: ArrayId) -> Vec<ArrayId> {
        self.empty(id);
        let Some(array) = self.arrays.remove(&id) else { return Vec::new() };
        self.index(id);
        if let Some(name) = array.job
            && let Some(job) = self.jobs.get_mut(&name)
        {
            job.arrays.remove(&id);
            job.missing.remove(&id);
            if job.arrays.is_empty() {
                self.jobs.remove(&name);
                self.stranded.remove(&name);
            }
        }
        self.unread(id, array.inputs());
        array.inputs().to_vec()
    }

    /// `reader` reads these no more.
    fn unread(&mut self, reader: ArrayId, inputs: &[ArrayId]) {
        for input in inputs {
            if let Some(array) = self.arrays.get_mut(input) {
                array.readers.retain(|other| *other != reader);
            }
        }
    }

    /// Gives up all blocks of an array, here and on the workers.
    fn empty(&mut self, id: ArrayId) {
        let Some(array) = self.arrays.get(&id) else { return };
        let holders = array.held().keys().copied();
        let knowing = self.workers.iter().filter(|(_, known)| known.stages.contains(&id)).map(|(&worker, _)| worker);
        let moving = self.moves_of(id).map(|(_, to, _)| to);
        let told: BTreeSet<WorkerId> = holders.chain(knowing).chain(moving).collect();
        for worker in told {
            self.tell(worker, ToWorker::Forget { array: id });
            if let Some(known) = self.workers.get_mut(&worker) {
                known.stages.remove(&id);
                known.give_back(id, u64::MAX);
                known.stuck.remove(&id);
                self.hungry.insert(worker);
            }
        }
        self.edit(id, |array| array.clear());
        self.refuse_questions(id, &JobError::UnknownArray { array: id });
        self.moves.retain(|(of, ..), _| *of != id);
        self.deaths.retain(|block, _| block.array != id);
        self.strikes.retain(|(block, ..)| block.array != id);
        self.changed.retain(|(_, of)| *of != id);
    }
}

/// Failures.
impl Scheduler {
    /// An array cannot be: its job fails, or what is left of it is lost. So fails, in turn, what still has to read it.
    pub(super) fn fail(&mut self, id: ArrayId, error: JobError) {
        let mut doomed = vec![id];
        while let Some(id) = doomed.pop() {
            let Some(array) = self.arrays.get(&id).filter(|array| array.failed.is_none()) else { continue };
            let arrays = match array.job.filter(|job| self.jobs.get(job).is_some_and(|job| !job.ended)) {
                Some(job) => self.end_failed(job, &error),
                None => vec![id],
            };
            doomed.extend(self.kill(arrays, &error));
        }
    }

    /// A job ends without its outputs.
    pub(super) fn fail_job(&mut self, name: JobId, error: JobError) {
        let arrays = self.end_failed(name, &error);
        self.kill(arrays, &error).into_iter().for_each(|reader| self.fail(reader, error.clone()));
    }

    /// Tells the client of a job that it failed, unless it was told already how it ended. Returns its arrays.
    fn end_failed(&mut self, name: JobId, error: &JobError) -> Vec<ArrayId> {
        let Some(job) = self.jobs.get_mut(&name).filter(|job| !job.ended) else { return Vec::new() };
        job.ended = true;
        job.missing.clear();
        let arrays = job.arrays.iter().copied().collect();
        self.stranded.remove(&name);
        self.tell_client(name.client, ToClient::JobFailed { job: name, error: error.clone() });
        arrays
    }

    /// These arrays are no more. Returns what still has to read them.
    fn kill(&mut self, ids: Vec<ArrayId>, error: &JobError) -> Vec<ArrayId> {
        let mut readers = Vec::new();
        for &id in &ids {
            let Some(array) = self.arrays.get_mut(&id) else { continue };
            array.failed = Some(error.clone());
            let was_told = std::mem::take(&mut array.pinned) && array.announced;
            readers.extend(array.readers.iter().copied());
            self.refuse_questions(id, error);
            if was_told {
                self.tell_client(id.client, ToClient::ArrayLost { array: id, error: error.clone() });
            }
            self.empty(id);
        }
        readers.retain(|reader| self.arrays.get(reader).is_some_and(|array| !array.unfinished.is_empty()));
        // A failed array reads nothing more. Its record stays as long as somebody might look for it.
        for &id in &ids {
            let inputs = self.arrays.get(&id).map(|array| array.inputs().to_vec()).unwrap_or_default();
            self.unread(id, &inputs);
            inputs.into_iter().chain([id]).for_each(|id| self.drop_or_free(id));
        }
        readers
    }

    /// The client is gone, and all it had.
    pub(super) fn drop_client(&mut self, client: ClientId) {
        if self.clients.remove(&client).is_none() {
            return;
        }
        let jobs: Vec<JobId> = self.jobs.keys().copied().filter(|job| job.client == client).collect();
        jobs.into_iter().for_each(|job| self.fail_job(job, JobError::Cancelled));
        let arrays: Vec<ArrayId> = self.arrays.keys().copied().filter(|array| array.client == client).collect();
        arrays.into_iter().for_each(|array| self.release(array));
        let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.tell(worker, ToWorker::ForgetClient { client }));
    }
}

/// Time.
impl Scheduler {
    /// Whatever has waited too long ends.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        let is_due = |since: Option<Duration>, grace: Duration| since.is_some_and(|since| since + grace <= now);
        let grace = self.limits.client_grace;
        let gone: Vec<ClientId> =
            self.clients.iter().filter(|(_, client)| is_due(client.gone, grace)).map(|(&id, _)| id).collect();
        gone.into_iter().for_each(|client| self.drop_client(client));
        let wait = self.limits.worker_wait;
        let stranded: Vec<JobId> =
            self.stranded.iter().filter(|(_, since)| is_due(Some(**since), wait)).map(|(&job, _)| job).collect();
        stranded.into_iter().for_each(|job| self.give_up_waiting(job));
        self.answer_held_back();
        if self.progress_due.is_some_and(|due| due <= now) {
            self.tell_progress();
        }
    }

    /// Notes which jobs have ready blocks that nobody can serve, and since when.
    pub(super) fn mark_stranded(&mut self) {
        if self.unserved.is_empty() && self.lines.is_empty() && self.stranded.is_empty() {
            return;
        }
        let before = std::mem::take(&mut self.stranded);
        let mut after = BTreeMap::new();
        for &id in self.unserved.iter().chain(&self.lines) {
            let Some(job) = self.arrays.get(&id).and_then(|array| array.job) else { continue };
            if self.eligible(id).is_empty() {
                after.insert(job, before.get(&job).copied().unwrap_or(self.now));
            }
        }
        self.stranded = after;
    }

    /// No worker came. A job that has not ended fails; of one that has, who waits is told.
    fn give_up_waiting(&mut self, name: JobId) {
        let waiting = self.unserved.iter().chain(&self.lines).copied();
        let of_job = |id: &ArrayId| self.arrays.get(id).is_some_and(|array| array.job == Some(name));
        let Some(id) = waiting.filter(of_job).find(|id| self.eligible(*id).is_empty()) else { return };
        let error = self.why_stranded(id);
        self.stranded.insert(name, self.now);
        let Some(job) = self.jobs.get(&name) else { return };
        if !job.ended {
            self.fail_job(name, error);
            return;
        }
        let arrays = job.arrays.iter().copied().collect();
        self.refuse_waiting(arrays, &error);
    }

    /// Who waits for these arrays, directly or through others, is told that they do not come.
    fn refuse_waiting(&mut self, arrays: Vec<ArrayId>, error: &JobError) {
        let (mut left, mut seen) = (arrays, BTreeSet::new());
        while let Some(id) = left.pop() {
            if !seen.insert(id) {
                continue;
            }
            self.refuse_questions(id, error);
            let readers = self.arrays.get(&id).map(|array| array.readers.clone()).unwrap_or_default();
            for reader in readers {
                let Some(array) = self.arrays.get(&reader).filter(|array| !array.unfinished.is_empty()) else {
                    continue;
                };
                match array.job.filter(|job| self.jobs.get(job).is_some_and(|job| !job.ended)) {
                    Some(job) => self.fail_job(job, error.clone()),
                    None => left.push(reader),
                }
            }
        }
    }

    fn why_stranded(&self, id: ArrayId) -> JobError {
        let waited = self.limits.worker_wait;
        let recipe = self.arrays.get(&id).and_then(|array| array.recipe.as_ref());
        let needs = recipe.map_or(0, |recipe| recipe.bytes_peak);
        let may = |class| recipe.is_none_or(|recipe| recipe.classes.contains(class));
        let registers = self.workers.values().map(|worker| &worker.register);
        let has = registers.filter(|register| may(&register.class)).map(|register| register.memory_bytes).max();
        match has {
            None if self.workers.is_empty() => JobError::NoWorker { array: id, waited, wanted: Wanted::Any },
            None => JobError::NoWorker { array: id, waited, wanted: Wanted::Class },
            Some(has) if has < needs => JobError::Memory { array: id, needs, has },
            Some(_) => JobError::NoWorker { array: id, waited, wanted: Wanted::Untried },
        }
    }

    fn tell_progress(&mut self) {
        self.progress_due = None;
        for (job, id) in std::mem::take(&mut self.changed) {
            let Some(array) = self.arrays.get(&id) else { continue };
            let (done, total) = (array.wanted.saturating_sub(array.unfinished.count()), array.wanted);
            self.tell_client(id.client, ToClient::Progress { job, array: id, done, total });
        }
    }
}
