//! Who decides: which block is computed where, kept for how long, and made again after a loss.
//!
//! Reading order: [`message`] (what goes in and out) -> `array` (a block's life-cycle, as sets) -> `party` (workers,
//! clients, jobs) -> `relation` (which blocks need which) -> `submit` -> `place` and `dispense` (with
//! `policy`) -> `ahead` -> `complete` -> `hand_over` -> `recover` -> `leave` -> `end` -> `check`.
//!
//! Pure: `handle(now, event)`, `poll() -> action`, `next_timeout()`. No clock, thread, socket or random source; time
//! is what it is told, and everything is kept in order, so the same events give the same actions. It never looks at the
//! bytes of a block (a job's [small result](gridloom_worker::block::SmallBlock) goes past it), and its state is a handful
//! of intervals per array, whatever the number of blocks. No message of a client or worker can break it: what does not
//! fit is refused or passed over.

mod ahead;
mod array;
mod check;
mod complete;
mod dispense;
mod end;
pub mod error;
mod hand_over;
mod leave;
pub mod message;
mod party;
mod place;
mod policy;
mod recover;
mod relation;
pub mod status;
pub mod story;
mod submit;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use gridloom_worker::ids::{ArrayId, BlockId, ClientId, JobId, WorkerId};
use gridloom_worker::intervals::{Interval, IntervalSet};
use gridloom_worker::wire::{FromWorker, Register, ToWorker};

pub use error::{JobError, PlanFault, StageFault, Wanted};
pub use message::{Action, Event, FromClient, HOLDINGS_MAX, Holding, Limits, ToClient};
pub use status::{Status, WorkerStatus};
pub use story::{BlockState, Chapter, Happening};

use array::Array;
use complete::Done;
use party::{Client, Job, Worker};
use story::Story;

/// A fault put in on purpose, to see that the simulation finds it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The n-th report of completions is passed over.
    DropCompletion(u64),
    /// What is reported done is taken as wanted, also when it was freed long ago.
    AcceptDuplicate,
    /// Blocks lost with a worker are not derived again.
    SkipDerivation,
    /// What a client has taken is derived again, as if it were lost.
    DeriveTaken,
}

/// Who wanted a block and could not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asker {
    Worker(WorkerId),
    Client(ClientId),
}

/// The state of everything that was submitted.
#[derive(Debug, Default)]
pub struct Scheduler {
    limits: Limits,
    now: Duration,
    arrays: BTreeMap<ArrayId, Array>,
    jobs: BTreeMap<JobId, Job>,
    clients: BTreeMap<ClientId, Client>,
    workers: BTreeMap<WorkerId, Worker>,
    /// Arrays with ready blocks.
    ready: BTreeSet<ArrayId>,
    /// Workers that may have room for more.
    hungry: BTreeSet<WorkerId>,
    /// Workers that had room and found nothing.
    idle: BTreeSet<WorkerId>,
    /// Workers that leave.
    leaving: BTreeSet<WorkerId>,
    /// Arrays with ready blocks that have no home.
    unserved: BTreeSet<ArrayId>,
    /// Jobs with ready blocks that nobody can serve, and since when.
    stranded: BTreeMap<JobId, Duration>,
    /// Arrays whose progress was not told.
    changed: BTreeSet<(JobId, ArrayId)>,
    /// Arrays of one block whose reader may be handed out after it.
    leads: BTreeSet<ArrayId>,
    /// Arrays with ready suspects.
    lines: BTreeSet<ArrayId>,
    /// How often workers died of a block that was alone with them.
    deaths: BTreeMap<BlockId, u32>,
    /// Holders that could not be reached for a block, once, and by whom.
    strikes: BTreeSet<(BlockId, WorkerId, Asker)>,
    /// Blocks of an array on their way from a worker that leaves to another.
    moves: BTreeMap<(ArrayId, WorkerId, WorkerId), IntervalSet>,
    progress_due: Option<Duration>,
    /// Streams that are to be told more, and when.
    held_back: BTreeSet<(Duration, ArrayId)>,
    /// When a client last took blocks.
    taken_last: Duration,
    story: Story,
    actions: VecDeque<Action>,
    mutant: Option<Mutant>,
    reports: u64,
}

impl Scheduler {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Scheduler {
        Scheduler { limits, ..Scheduler::default() }
    }

    /// One that is wrong in one way.
    #[doc(hidden)]
    pub fn with_mutant(limits: Limits, mutant: Mutant) -> Scheduler {
        Scheduler { mutant: Some(mutant), ..Scheduler::new(limits) }
    }

    /// Takes note of what happened at `now` (time since any epoch; it never goes back).
    pub fn handle(&mut self, now: Duration, event: Event) {
        self.now = self.now.max(now);
        match event {
            Event::WorkerJoined { worker, register } => self.worker_joined(worker, register),
            Event::Worker { worker, message } if self.workers.contains_key(&worker) => {
                self.handle_worker(worker, message);
            }
            // An older registration of a worker that came back: its blocks were given up when it went.
            Event::Worker { .. } => {}
            Event::WorkerGone { worker } => self.worker_gone(worker),
            Event::ClientJoined { client } => self.client_joined(client),
            Event::Client { client, message } if self.clients.contains_key(&client) => {
                self.handle_client(client, message);
            }
            Event::Client { .. } => {}
            Event::ClientGone { client } => {
                if let Some(client) = self.clients.get_mut(&client) {
                    client.gone.get_or_insert(self.now);
                }
            }
            Event::Tick => {}
        }
        self.expire();
        self.see_off();
        self.feed();
        self.feed_ahead();
        self.mark_stranded();
    }

    /// What is to be done next, if anything.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due, if ever.
    pub fn next_timeout(&self) -> Option<Duration> {
        let clients = self.clients.values().filter_map(|client| Some(client.gone? + self.limits.client_grace));
        let jobs = self.stranded.values().map(|&since| since + self.limits.worker_wait);
        let work = !self.ready.is_empty();
        let paused = self.workers.values().map(|worker| worker.paused_until).filter(|&until| work && until > self.now);
        let streams = self.held_back.first().map(|&(due, _)| due);
        clients.chain(jobs).chain(paused).chain(self.progress_due).chain(streams).min()
    }

    /// What is remembered of a block, oldest first.
    pub fn story(&self, block: BlockId) -> Vec<Chapter> {
        self.story.of(block)
    }

    /// The state of a block, if its array is known.
    pub fn state(&self, block: BlockId) -> Option<BlockState> {
        self.arrays.get(&block.array).map(|array| array.state(block.index))
    }

    /// Whether nothing is left of any client.
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty() && self.jobs.is_empty() && self.clients.is_empty()
    }

    /// Bytes of state, roughly: what the sets of blocks take, and a little for each array.
    pub fn state_bytes(&self) -> usize {
        // A B-tree's node holds 11 entries of 16 bytes and is half full at worst.
        const INTERVAL_BYTES: usize = 40;
        self.arrays.values().map(|array| size_of::<Array>() + INTERVAL_BYTES * array.interval_count()).sum()
    }

    /// How many blocks of an array are held by somebody, if the array is known.
    pub fn held_blocks(&self, array: ArrayId) -> Option<u64> {
        self.arrays.get(&array).map(|array| array.done.count())
    }

    fn worker_joined(&mut self, worker: WorkerId, register: Register) {
        // Whoever begins anew under the same name has nothing of what it had.
        if self.workers.contains_key(&worker) {
            self.worker_gone(worker);
        }
        let joined = ToClient::WorkerJoined { worker, register: register.clone() };
        let clients: Vec<ClientId> = self.clients.keys().copied().collect();
        clients.into_iter().for_each(|client| self.tell_client(client, joined.clone()));
        self.workers.insert(worker, Worker::new(register));
        self.tell(worker, ToWorker::Welcome { worker });
        self.hungry.insert(worker);
        self.rehouse();
    }

    fn handle_worker(&mut self, worker: WorkerId, message: FromWorker) {
        match message {
            FromWorker::Done { array, blocks, bytes: _, busy, result } => {
                self.completed(worker, array, Done { blocks, busy, result });
            }
            FromWorker::Failed { array, block, attempt, error } => {
                self.block_failed(worker, array, block, attempt, error)
            }
            FromWorker::Refused { array, blocks, needs, has } => self.refused(worker, array, &blocks, needs, has),
            FromWorker::FetchFailed { block, input, holder, error } => {
                self.fetch_failed(worker, block, input, holder, error);
            }
            FromWorker::Leaving => self.worker_leaves(worker),
        }
        self.hungry.insert(worker);
    }

    fn client_joined(&mut self, client: ClientId) {
        self.clients.entry(client).or_default().gone = None;
        let known = self.workers.iter().map(|(&worker, known)| (worker, known.register.clone()));
        let joined: Vec<ToClient> =
            known.map(|(worker, register)| ToClient::WorkerJoined { worker, register }).collect();
        joined.into_iter().for_each(|message| self.tell_client(client, message));
    }

    fn handle_client(&mut self, client: ClientId, message: FromClient) {
        match message {
            FromClient::Submit { job, plan, classes } => self.submit(client, job, plan, classes),
            FromClient::Cancel { job } => {
                if job.client == client {
                    self.fail_job(job, JobError::Cancelled);
                }
            }
            FromClient::Release { arrays } => {
                arrays.into_iter().filter(|array| array.client == client).for_each(|array| self.release(array));
            }
            FromClient::Scattered { array, blocks, fields, bytes, holders } => {
                self.scattered(client, array, Array::new(blocks, fields, bytes), &holders);
            }
            FromClient::Locate { request, array, blocks } => self.locate(client, request, array, blocks),
            FromClient::Stream { request, array } => self.stream(client, request, array),
            FromClient::Taken { array, blocks } => self.taken(client, array, &blocks),
            FromClient::FetchFailed { block, holder, error } => self.not_fetched(client, block, holder, error),
            FromClient::Close => self.drop_client(client),
        }
    }

    fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        self.actions.push_back(Action::ToWorker { worker, message });
    }

    fn tell_client(&mut self, client: ClientId, message: ToClient) {
        if self.clients.contains_key(&client) {
            self.actions.push_back(Action::ToClient { client, message });
        }
    }

    fn note(&mut self, array: ArrayId, blocks: Interval, what: Happening) {
        self.story.note(Chapter { at: self.now, array, blocks, what });
    }

    fn note_all(&mut self, array: ArrayId, blocks: &IntervalSet, what: Happening) {
        blocks.iter().for_each(|blocks| self.note(array, blocks, what));
    }

    /// Keeps the lists of what is ready as the array says it is.
    fn index(&mut self, id: ArrayId) {
        let array = self.arrays.get(&id);
        let is_ready = array.is_some_and(Array::has_ready);
        let is_homeless = array.is_some_and(|array| !array.homeless().is_empty());
        let is_in_line = array.is_some_and(|array| !array.line().is_empty());
        let lists = [(&mut self.ready, is_ready), (&mut self.unserved, is_homeless), (&mut self.lines, is_in_line)];
        for (list, belongs) in lists {
            match belongs {
                true => list.insert(id),
                false => list.remove(&id),
            };
        }
    }
}
