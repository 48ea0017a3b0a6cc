//! What a client knows of its jobs and arrays, and who waits to know more.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use gridloom_worker::block::SmallBlock;
use gridloom_worker::ids::{ArrayId, JobId, WorkerId};
use gridloom_worker::wire::Register;

use super::devices::Computers;
use super::link::Receiver;
use crate::scheduler::{Holding, JobError, ToClient};

/// How long a worker that left is thought of as one that may come back: a process that died is started again sooner.
const MAY_RETURN: Duration = Duration::from_secs(10);

/// What a client was told. The link's side writes it, futures read it.
#[derive(Default)]
pub(crate) struct State {
    inner: Mutex<Inner>,
    /// Workers came, or nothing more will be heard.
    more_workers: Condvar,
}

#[derive(Default)]
struct Inner {
    jobs: HashMap<JobId, Job>,
    arrays: HashMap<ArrayId, Tracked>,
    answers: HashMap<u64, Answer>,
    workers: HashMap<WorkerId, Register>,
    /// Workers that left, and when.
    left: Vec<(Instant, Register)>,
    closed: bool,
}

/// A job that has not ended.
struct Job {
    outputs: Vec<ArrayId>,
    /// Per array of the job, blocks done and blocks in all.
    progress: HashMap<ArrayId, (u64, u64)>,
}

/// An output, from its submission until it is released.
struct Tracked {
    job: Option<JobId>,
    phase: Phase,
    /// Who may compute it, as far as they were there when it was submitted.
    computers: Computers,
    wakers: Vec<Waker>,
    /// Whether somebody takes its blocks.
    is_taken: bool,
}

/// How far an output is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Being computed.
    Pending,
    /// Being computed for some time, and some of it is there.
    Begun,
    /// Complete.
    Done(Settled),
    /// Never to be complete, or lost.
    Failed(JobError),
}

/// What is known of an output that is complete.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    /// Where its blocks are, if that is known and was short enough to be told.
    pub(crate) holders: Vec<Holding>,
    /// Its only block, if that came with the word that it is complete.
    pub(crate) result: Option<Arc<SmallBlock>>,
}

/// The answer to a question, or who waits for it.
enum Answer {
    Awaited(Option<Waker>),
    Given(Result<Vec<Holding>, JobError>),
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job is about to be submitted.
    pub(crate) fn track(&self, job: JobId, outputs: &[ArrayId], computers: &Computers) {
        let mut inner = self.lock();
        let closed = inner.closed;
        for &array in outputs {
            let phase = if closed { Phase::Failed(JobError::SchedulerLost) } else { Phase::Pending };
            let computers = computers.clone();
            let tracked = Tracked { job: Some(job), phase, computers, wakers: Vec::new(), is_taken: false };
            inner.arrays.insert(array, tracked);
        }
        inner.jobs.insert(job, Job { outputs: outputs.to_vec(), progress: HashMap::new() });
    }

    /// Data that the client has put on workers itself.
    pub(crate) fn track_scattered(&self, array: ArrayId, holders: Vec<Holding>) {
        let (phase, computers) = (Phase::Done(Settled { holders, result: None }), Computers::default());
        let tracked = Tracked { job: None, phase, computers, wakers: Vec::new(), is_taken: false };
        self.lock().arrays.insert(array, tracked);
    }

    /// An array is released: nobody asks for it any more.
    pub(crate) fn forget(&self, array: ArrayId) {
        let forgotten = self.lock().arrays.remove(&array);
        // Its wakers may hold futures, whose end comes back here: they are dropped without the lock.
        drop(forgotten);
    }

    /// Whether the blocks of an array may be gathered, and from now on be `taken`: not if somebody takes them already.
    pub(crate) fn begin_gather(&self, array: ArrayId, takes: bool) -> bool {
        let mut inner = self.lock();
        let Some(tracked) = inner.arrays.get_mut(&array) else { return true };
        let may = !tracked.is_taken;
        tracked.is_taken |= takes;
        may
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn forget_question(&self, request: u64) {
        let forgotten = self.lock().answers.remove(&request);
        drop(forgotten);
    }

    /// How far an array is. Until it is settled the waker is kept, if one is given, and also woken once it has begun.
    pub(crate) fn phase(&self, array: ArrayId, waker: Option<&Waker>) -> Phase {
        let mut inner = self.lock();
        match inner.arrays.get_mut(&array) {
            None => Phase::Failed(JobError::UnknownArray { array }),
            Some(tracked) => {
                if let (Phase::Pending | Phase::Begun, Some(waker)) = (&tracked.phase, waker)
                    && !tracked.wakers.iter().any(|kept| kept.will_wake(waker))
                {
                    tracked.wakers.push(waker.clone());
                }
                tracked.phase.clone()
            }
        }
    }

    /// The job that makes an array, while it has not ended.
    pub(crate) fn job_of(&self, array: ArrayId) -> Option<JobId> {
        let inner = self.lock();
        let job = inner.arrays.get(&array)?.job?;
        inner.jobs.contains_key(&job).then_some(job)
    }

    /// Blocks done and blocks in all of the job that makes an array, as far as was told.
    pub(crate) fn progress(&self, array: ArrayId) -> Option<(u64, u64)> {
        let inner = self.lock();
        let job = inner.jobs.get(&inner.arrays.get(&array)?.job?)?;
        Some(job.progress.values().fold((0, 0), |(done, total), of| (done + of.0, total + of.1)))
    }

    /// Who computes an array.
    pub(crate) fn computers(&self, array: ArrayId) -> Computers {
        self.lock().arrays.get(&array).map(|tracked| tracked.computers.clone()).unwrap_or_default()
    }

    /// A question is about to be asked.
    pub(crate) fn ask(&self, request: u64) {
        self.lock().answers.insert(request, Answer::Awaited(None));
    }

    /// The answer to a question, once. Until then the waker is kept.
    pub(crate) fn answer(&self, request: u64, waker: &Waker) -> Option<Result<Vec<Holding>, JobError>> {
        let mut inner = self.lock();
        if inner.closed {
            return Some(Err(JobError::SchedulerLost));
        }
        match inner.answers.insert(request, Answer::Awaited(Some(waker.clone()))) {
            Some(Answer::Given(result)) => {
                inner.answers.remove(&request);
                Some(result)
            }
            replaced => {
                drop(inner);
                drop(replaced);
                None
            }
        }
    }

    /// The workers that are there.
    pub(crate) fn workers(&self) -> Vec<(WorkerId, Register)> {
        let inner = self.lock();
        let mut workers: Vec<_> = inner.workers.iter().map(|(&id, register)| (id, register.clone())).collect();
        workers.sort_by_key(|(id, _)| *id);
        workers
    }

    /// What the workers that are there say of themselves.
    pub(crate) fn registers(&self) -> Vec<Register> {
        self.workers().into_iter().map(|(_, register)| register).collect()
    }

    /// What those said of themselves that have just left and may be back in a moment, as a GPU is that a kernel hung on.
    pub(crate) fn just_left(&self) -> Vec<Register> {
        let inner = self.lock();
        let recent = inner.left.iter().filter(|(at, _)| at.elapsed() < MAY_RETURN);
        recent.map(|(_, register)| register.clone()).collect()
    }

    /// Waits until there are `count` workers, at most `patience`; how many there are then.
    pub(crate) fn wait_for_workers(&self, count: usize, patience: Duration) -> usize {
        let is_short = |inner: &mut Inner| inner.workers.len() < count && !inner.closed;
        let waited = self.more_workers.wait_timeout_while(self.lock(), patience, is_short);
        waited.unwrap_or_else(PoisonError::into_inner).0.workers.len()
    }
}

impl Inner {
    /// Takes note; who is to be woken for it.
    fn receive(&mut self, message: ToClient) -> Vec<Waker> {
        match message {
            ToClient::WorkerJoined { worker, register } => {
                self.workers.insert(worker, register);
                Vec::new()
            }
            ToClient::WorkerLeft { worker } => {
                self.left.retain(|(at, _)| at.elapsed() < MAY_RETURN);
                self.left.extend(self.workers.remove(&worker).map(|register| (Instant::now(), register)));
                Vec::new()
            }
            ToClient::Progress { job, array, done, total } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.progress.insert(array, (done, total));
                }
                self.begin(array)
            }
            ToClient::ArrayDone { array, holders, result } => {
                self.settle(array, Phase::Done(Settled { holders, result: result.map(Arc::new) }))
            }
            ToClient::JobDone { job } => {
                self.jobs.remove(&job);
                Vec::new()
            }
            ToClient::JobFailed { job, error } => {
                let outputs = self.jobs.remove(&job).map(|job| job.outputs).unwrap_or_default();
                let failed = |array| self.settle(array, Phase::Failed(error.clone()));
                outputs.into_iter().flat_map(failed).collect()
            }
            ToClient::ArrayLost { array, error } => self.settle(array, Phase::Failed(error)),
            ToClient::Located { request, result } => match self.answers.get_mut(&request) {
                Some(answer) => match std::mem::replace(answer, Answer::Given(result)) {
                    Answer::Awaited(waker) => waker.into_iter().collect(),
                    Answer::Given(_) => Vec::new(),
                },
                None => Vec::new(),
            },
        }
    }

    /// Some of an array is there.
    fn begin(&mut self, array: ArrayId) -> Vec<Waker> {
        match self.arrays.get_mut(&array) {
            Some(tracked) if matches!(tracked.phase, Phase::Pending) => {
                tracked.phase = Phase::Begun;
                tracked.wakers.clone()
            }
            _ => Vec::new(),
        }
    }

    fn settle(&mut self, array: ArrayId, phase: Phase) -> Vec<Waker> {
        match self.arrays.get_mut(&array) {
            Some(tracked) => {
                tracked.phase = phase;
                std::mem::take(&mut tracked.wakers)
            }
            None => Vec::new(),
        }
    }
}

impl Receiver for State {
    fn receive(&self, message: ToClient) {
        let joins = matches!(message, ToClient::WorkerJoined { .. });
        let wakers = self.lock().receive(message);
        if joins {
            self.more_workers.notify_all();
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whoever waits is told so.
    fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let mut wakers = Vec::new();
        for tracked in inner.arrays.values_mut() {
            if !matches!(tracked.phase, Phase::Failed(_)) {
                tracked.phase = Phase::Failed(JobError::SchedulerLost);
            }
            wakers.append(&mut tracked.wakers);
        }
        for (_, answer) in inner.answers.drain() {
            if let Answer::Awaited(waker) = answer {
                wakers.extend(waker);
            }
        }
        drop(inner);
        self.more_workers.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}
