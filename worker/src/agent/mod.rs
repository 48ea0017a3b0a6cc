//! A worker's state machine: runs of blocks in, tasks for the executor out, and every byte accounted for.
//!
//! Pure: no clock, no thread, no socket. Whoever drives it calls [`Agent::handle`] with an event and the time since
//! some epoch of its own, then takes actions from [`Agent::poll`] until there are none, and calls again with
//! [`Event::Tick`] when [`Agent::next_timeout`] is reached.
//!
//! A block's way through a worker:
//! ```text
//!              memory reserved whole         operands here          executor's event
//!   queued ----------------------> fetching -------------> running -----------------> held -> freed
//!     | does not fit, nothing          | no holder left       | error       forgotten |
//!     | in flight to wait for          v                      v                       v
//!     +-> refused                 fetch failed              failed                stopping -> nothing
//! ```
//! A run may come before what it reads is made, if that is made here too: it waits beside the queue, with no memory, until
//! its input is held, and is given back if that does not come.
//!
//! Deeper stages go first, then what came first; nothing overtakes a block that waits for memory, so none starves.
//! The agent decides nothing: which block runs where, and what becomes of one that failed, is the scheduler's.

mod advance;
mod ahead;
mod fetches;
pub mod message;
mod report;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use fetches::FETCHES_MAX;
pub use message::{Action, Answer, Event, FetchId, Outward, ReplyTo, Start};
pub use report::COALESCE;

use crate::executor::{ExecuteError, TaskToken};
use crate::ids::{ArrayId, BlockId, ClientId, WorkerId};
use crate::intervals::Interval;
use crate::shape::Region;
use crate::stage::Stage;
use crate::store::Store;
pub use crate::store::{Part, Payload};
use crate::wire::{FetchError, FromWorker, Parcel, Run, ToWorker, Whereabouts};
use fetches::{Arrival, Fetches, Waiter};
use report::{Made, Report};

/// Replies with data on their way out at once.
pub const REPLIES_MAX: usize = 50;

/// Tasks in flight at once; the rest of the runs stays queued. Bounds what the executor has to remember.
pub const TASKS_MAX: usize = 4096;

/// How long work that does not fit waits, with nothing in flight whose end could make room, before it is refused.
pub const REFUSE_AFTER: Duration = Duration::from_millis(50);

/// One registration of a worker.
#[derive(Debug)]
pub struct Agent<B> {
    store: Store<B>,
    stages: BTreeMap<ArrayId, Known>,
    /// Deepest first, then in order of arrival.
    queue: BTreeMap<(Reverse<u32>, u64), Queued>,
    tasks: BTreeMap<TaskToken, Task<B>>,
    /// Runs that came ahead of a block that they read and that is being made here, by that block.
    ahead: BTreeMap<BlockId, Vec<Queued>>,
    /// What was to be made here and may not be any more.
    given_up: Vec<(ArrayId, Interval)>,
    fetches: Fetches,
    /// Tasks whose last operand has just come.
    filled: Vec<TaskToken>,
    report: Report,
    /// Replies that carry data and have not left.
    replying: BTreeSet<ReplyTo>,
    /// Requests beyond [`REPLIES_MAX`], in order.
    requests: VecDeque<Request>,
    /// Clients that are gone: what they still put is refused.
    gone: BTreeSet<ClientId>,
    /// Since when the head of the queue does not fit although nothing is in flight.
    starved: Option<Duration>,
    counter: u64,
    closed: bool,
    actions: VecDeque<Action<B>>,
}

/// Somebody wants blocks.
#[derive(Debug)]
struct Request {
    from: ReplyTo,
    parcel: Parcel,
    field: u32,
    region: Option<Region>,
}

/// A stage that was sent.
#[derive(Debug)]
struct Known {
    stage: Arc<Stage>,
    depth: u32,
    /// Whether its blocks need other blocks.
    reads: bool,
    /// Whether its one block is a job's result.
    is_result: bool,
}

/// Blocks that wait for memory.
#[derive(Debug)]
struct Queued {
    array: ArrayId,
    blocks: Interval,
    order: Order,
}

/// What is to be done with a block.
#[derive(Clone, Debug)]
enum Order {
    /// Compute it, where this much is free beside it.
    Compute { attempt: u32, bytes_spare: u64, inputs: Arc<[Whereabouts]> },
    /// Fetch it from `holder` and keep it.
    Keep { fields: u32, bytes: u64, holder: WorkerId },
}

impl Order {
    /// What is to be free beside each block.
    fn bytes_spare(&self) -> u64 {
        match *self {
            Order::Compute { bytes_spare, .. } => bytes_spare,
            Order::Keep { .. } => 0,
        }
    }
}

/// A block in flight.
#[derive(Debug)]
enum Task<B> {
    /// Its memory is reserved and its operands are on their way.
    Fetching { work: Work, operands: Vec<Option<Part<B>>>, missing: usize },
    /// The executor has it.
    Running { work: Work },
    /// Forgotten while the executor had it: only its event is awaited.
    Stopping { reserved: u64 },
}

/// Tasks that cannot go on, each with an operand that does not come, and why.
type Lost = BTreeMap<TaskToken, (BlockId, FetchError)>;

/// What is known of a block in flight.
#[derive(Clone, Copy, Debug)]
struct Work {
    block: BlockId,
    /// Bytes set aside for it.
    reserved: u64,
    /// `None` for a block that is only to be kept.
    attempt: Option<u32>,
}

impl<B: Payload> Agent<B> {
    /// A worker that holds nothing, was told nothing, and may use `memory_bytes`. Its registration is the shell's to
    /// send.
    pub fn new(memory_bytes: u64) -> Agent<B> {
        Agent {
            store: Store::new(memory_bytes),
            stages: BTreeMap::new(),
            queue: BTreeMap::new(),
            tasks: BTreeMap::new(),
            ahead: BTreeMap::new(),
            given_up: Vec::new(),
            fetches: Fetches::default(),
            filled: Vec::new(),
            report: Report::default(),
            replying: BTreeSet::new(),
            requests: VecDeque::new(),
            gone: BTreeSet::new(),
            starved: None,
            counter: 0,
            closed: false,
            actions: VecDeque::new(),
        }
    }

    /// Takes note of what happened at `now`, which never goes back.
    pub fn handle(&mut self, now: Duration, event: Event<B>) {
        if self.closed {
            return;
        }
        match event {
            Event::Scheduler(message) => self.handle_scheduler(message),
            Event::Fetch { from, parcel, field, region } => {
                self.requests.push_back(Request { from, parcel, field, region });
            }
            Event::Put { from, parcel, blocks } => self.handle_put(from, parcel, blocks),
            Event::Replied { to } => drop(self.replying.remove(&to)),
            Event::Fetched { fetch, result } => self.handle_fetched(fetch, result),
            Event::Finished { token, result, busy } => self.handle_finished(now, token, result, busy),
            Event::Leave => self.actions.push_back(Action::Out(Outward::Send(FromWorker::Leaving))),
            Event::SchedulerGone => self.close(),
            Event::Tick => {}
        }
        if !self.closed {
            self.advance(now);
        }
    }

    /// What is to be done next, if anything.
    pub fn poll(&mut self) -> Option<Action<B>> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due, if ever.
    pub fn next_timeout(&self) -> Option<Duration> {
        let refuse = self.starved.map(|since| since + REFUSE_AFTER);
        [refuse, self.report.due()].into_iter().flatten().min()
    }

    /// The ledger and what is held.
    pub fn store(&self) -> &Store<B> {
        &self.store
    }

    /// Whether it does nothing and waits for nothing.
    pub fn is_idle(&self) -> bool {
        let does_nothing = self.tasks.is_empty() && self.queue.is_empty() && self.ahead.is_empty();
        does_nothing && self.fetches.is_idle() && self.requests.is_empty()
    }

    /// How many stages it knows.
    pub fn stage_count(&self) -> usize {
        self.stages.len()
    }

    /// Derives every invariant again from what is stored.
    ///
    /// # Errors
    /// The first that does not hold, in words.
    pub fn check(&self) -> Result<(), String> {
        self.store.check()?;
        let reserved: u64 = self.tasks.values().map(Task::reserved).sum();
        if reserved != self.store.reserved_bytes() {
            return Err(format!("tasks have {reserved} bytes reserved, written {}", self.store.reserved_bytes()));
        }
        if self.fetches.in_flight() > FETCHES_MAX || self.replying.len() > REPLIES_MAX {
            return Err("more fetches or replies in flight than allowed".to_owned());
        }
        let waits = |task: &Task<B>| match task {
            Task::Fetching { operands, missing, .. } => {
                *missing > 0 && operands.iter().filter(|operand| operand.is_none()).count() == *missing
            }
            Task::Running { .. } | Task::Stopping { .. } => true,
        };
        if !self.tasks.values().all(waits) {
            return Err("a task waits for operands that it has".to_owned());
        }
        if !self.ahead.keys().all(|&input| self.is_coming(input)) {
            return Err("a run waits for what is not being made here".to_owned());
        }
        let fetching = self.tasks.values().any(|task| matches!(task, Task::Fetching { .. }));
        match fetching && self.fetches.is_idle() {
            true => Err("a task waits for operands that nobody fetches".to_owned()),
            false => Ok(()),
        }
    }
}

/// What the scheduler says.
impl<B: Payload> Agent<B> {
    fn handle_scheduler(&mut self, message: ToWorker) {
        match message {
            // Who it is matters to its peers, and to the shell that dials them.
            ToWorker::Welcome { .. } => {}
            ToWorker::Peer { worker, address } => {
                self.actions.push_back(Action::Out(Outward::Peer { worker, address }))
            }
            ToWorker::PeerGone { worker } => self.actions.push_back(Action::Out(Outward::PeerGone { worker })),
            ToWorker::Kernel(kernel) => self.actions.push_back(Action::Kernel(kernel)),
            ToWorker::Stage { stage, depth, is_result } => self.handle_stage(stage, depth, is_result),
            ToWorker::Run(run) => self.handle_run(run),
            ToWorker::Keep { array, blocks, fields, bytes, holder } => {
                self.enqueue(u32::MAX, Queued { array, blocks, order: Order::Keep { fields, bytes, holder } });
            }
            ToWorker::Free { array, blocks } => {
                blocks.into_iter().for_each(|blocks| self.store.remove_blocks(array, blocks));
            }
            ToWorker::Forget { array } => self.forget(array),
            ToWorker::ForgetClient { client } => self.forget_client(client),
            ToWorker::Close => self.close(),
        }
    }

    fn handle_stage(&mut self, stage: Arc<Stage>, depth: u32, is_result: bool) {
        let reads = !stage.input_arrays().is_empty();
        self.stages.insert(stage.array, Known { stage: stage.clone(), depth, reads, is_result });
        self.actions.push_back(Action::Prepare { stage });
    }

    fn handle_run(&mut self, run: Run) {
        let Run { array, blocks, attempt, bytes_spare, mut inputs } = run;
        inputs.sort_by_key(|place| (place.array, place.blocks.start));
        let order = Order::Compute { attempt, bytes_spare, inputs: inputs.into() };
        self.enqueue_or_wait(Queued { array, blocks, order });
    }

    fn enqueue(&mut self, depth: u32, queued: Queued) {
        if queued.blocks.is_empty() {
            return;
        }
        self.counter += 1;
        self.queue.insert((Reverse(depth), self.counter), queued);
    }

    fn forget(&mut self, array: ArrayId) {
        self.store.remove_array(array);
        self.report.forget(array);
        self.queue.retain(|_, queued| queued.array != array);
        self.drop_ahead(|of| of == array);
        self.stop(|of| of == array);
        if self.stages.remove(&array).is_some() {
            self.actions.push_back(Action::Cancel { array });
        }
    }

    fn forget_client(&mut self, client: ClientId) {
        self.gone.insert(client);
        let arrays: Vec<ArrayId> = self.stages.keys().copied().filter(|array| array.client == client).collect();
        arrays.into_iter().for_each(|array| self.forget(array));
        // What the client put here itself, and what is only being kept, has no stage.
        self.store.remove_client(client);
        self.report.forget_client(client);
        self.queue.retain(|_, queued| queued.array.client != client);
        self.drop_ahead(|of| of.client == client);
        self.stop(|of| of.client == client);
    }

    /// The blocks of some arrays are not wanted any more.
    fn stop(&mut self, belongs: impl Fn(ArrayId) -> bool) {
        let mut fetching = BTreeSet::new();
        for (&token, task) in &mut self.tasks {
            match task {
                Task::Fetching { work, .. } if belongs(work.block.array) => drop(fetching.insert(token)),
                Task::Running { work } if belongs(work.block.array) => {
                    *task = Task::Stopping { reserved: work.reserved };
                }
                Task::Fetching { .. } | Task::Running { .. } | Task::Stopping { .. } => {}
            }
        }
        self.drop_fetching(fetching);
    }

    /// Tasks that wait for operands end. Returns what each was to make.
    fn drop_fetching(&mut self, tokens: BTreeSet<TaskToken>) -> Vec<(TaskToken, BlockId)> {
        self.fetches.give_up(&tokens);
        let mut blocks = Vec::new();
        for token in tokens {
            if let Some(Task::Fetching { work, .. }) = self.tasks.remove(&token) {
                self.store.release(work.reserved);
                self.give_up(work.block.array, Interval::one(work.block.index));
                blocks.push((token, work.block));
            }
        }
        blocks
    }

    fn close(&mut self) {
        self.closed = true;
        let stages = std::mem::take(&mut self.stages);
        self.actions.extend(stages.into_keys().map(|array| Action::Cancel { array }));
        self.queue.clear();
        self.ahead.clear();
        self.given_up.clear();
        self.tasks.clear();
        self.requests.clear();
        self.fetches = Fetches::default();
        self.filled.clear();
        self.report = Report::default();
        self.starved = None;
        self.store = Store::new(self.store.limit_bytes());
        self.actions.push_back(Action::Out(Outward::Close));
    }
}

/// What peers, fetches and the executor say.
impl<B: Payload> Agent<B> {
    fn handle_put(&mut self, from: ReplyTo, parcel: Parcel, blocks: Vec<Vec<B>>) {
        let Parcel { array, blocks: indices } = parcel;
        let answer = match self.gone.contains(&array.client) {
            true => Answer::Refused { needs: blocks.iter().flatten().map(Payload::bytes).sum(), has: 0 },
            false => match self.store.keep_all(array, indices, blocks) {
                Ok(()) => Answer::Stored,
                Err(shortage) => Answer::Refused { needs: shortage.needs, has: shortage.has },
            },
        };
        self.actions.push_back(Action::Out(Outward::Reply { to: from, answer }));
    }

    fn handle_fetched(&mut self, fetch: FetchId, result: Result<Vec<Option<Part<B>>>, FetchError>) {
        let Some(flight) = self.fetches.land(fetch) else { return };
        let mut lost = Lost::new();
        for (block, part) in flight.parcel.unpack(result) {
            let key = flight.key(block);
            match (self.fetches.arrive(&key, part.is_ok()), part) {
                (Arrival::Landed(waiters), Ok(part)) => {
                    waiters.iter().for_each(|&waiter| self.fill(waiter, &part));
                    self.store.cache(key, &part);
                }
                (Arrival::Lost(waiters), Err(error)) => {
                    lost.extend(waiters.iter().map(|waiter| (waiter.token, (block, error))));
                }
                (Arrival::Landed(_) | Arrival::Lost(_) | Arrival::Nothing, _) => {}
            }
        }
        self.fail_fetches(&lost, Some(flight.holder));
    }

    /// An operand is here.
    fn fill(&mut self, waiter: Waiter, part: &Part<B>) {
        let Some(Task::Fetching { operands, missing, .. }) = self.tasks.get_mut(&waiter.token) else {
            return;
        };
        if operands[waiter.operand].replace(part.clone()).is_none() {
            *missing -= 1;
            self.filled.extend((*missing == 0).then_some(waiter.token));
        }
    }

    /// Tasks of which each waits for an operand that does not come.
    fn fail_fetches(&mut self, lost: &Lost, holder: Option<WorkerId>) {
        for (token, block) in self.drop_fetching(lost.keys().copied().collect()) {
            let (input, error) = lost[&token];
            self.actions.push_back(Action::Out(Outward::Send(FromWorker::FetchFailed { block, input, holder, error })));
        }
    }

    fn handle_finished(
        &mut self,
        now: Duration,
        token: TaskToken,
        result: Result<Vec<B>, ExecuteError>,
        busy: Duration,
    ) {
        match (self.tasks.remove(&token), result) {
            (Some(Task::Running { work }), Ok(fields)) => self.keep(now, work, fields, busy),
            (Some(Task::Running { work }), Err(error)) => {
                self.store.release(work.reserved);
                let BlockId { array, index: block } = work.block;
                self.give_up(array, Interval::one(block));
                let (attempt, error) = (work.attempt.unwrap_or(0), error.clipped());
                self.actions.push_back(Action::Out(Outward::Send(FromWorker::Failed { array, block, attempt, error })));
            }
            (Some(Task::Stopping { reserved }), _) => self.store.release(reserved),
            // The executor speaks only of what it was given.
            (Some(fetching @ Task::Fetching { .. }), _) => drop(self.tasks.insert(token, fetching)),
            (None, _) => {}
        }
    }

    fn keep(&mut self, now: Duration, work: Work, fields: Vec<B>, busy: Duration) {
        let BlockId { array, index } = work.block;
        let is_result = self.stages.get(&array).is_some_and(|known| known.is_result);
        let result = if is_result { B::small(&fields) } else { None };
        match self.store.keep(work.block, fields, work.reserved) {
            Ok(bytes) => {
                self.report.done(now, work.block, Made { bytes, busy, result });
                self.end_wait_for(work.block);
            }
            Err(shortage) => self.refuse(array, Interval::one(index), shortage.needs, shortage.has),
        }
    }

    fn refuse(&mut self, array: ArrayId, blocks: Interval, needs: u64, has: u64) {
        self.give_up(array, blocks);
        let refused = FromWorker::Refused { array, blocks: vec![blocks], needs, has };
        self.actions.push_back(Action::Out(Outward::Send(refused)));
    }
}

impl<B> Task<B> {
    fn reserved(&self) -> u64 {
        match self {
            Task::Fetching { work, .. } | Task::Running { work } => work.reserved,
            Task::Stopping { reserved } => *reserved,
        }
    }
}
