//! The embedded cluster: the same scheduler and agents as a remote one, moved in place.
//!
//! All machines live behind one lock, and there is no thread that owns them: whoever has something to say posts it and
//! moves them. A small task then takes two hand-overs in all, to a slot and back. Posting never waits for the machines:
//! if another thread moves them, it will find what was posted before it stops. Nor is a thread kept for long by what
//! others post: after [`INPUTS_MAX`] the timer's thread goes on.
//!
//! What clients are told leaves through a queue of its own and is said without any lock on the machines, so that a
//! client may do anything when it hears it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use gridloom_worker::agent::{self, Answer, FetchId, Outward, ReplyTo};
use gridloom_worker::block::Block;
use gridloom_worker::executor;
use gridloom_worker::ids::{BlockId, ClientId, WorkerId};
use gridloom_worker::serve::{Worker, executed};
use gridloom_worker::wire::FetchError;

use crate::client::link::{FetchReply, PutReply, Receiver};
use crate::scheduler::{self, FromClient, Limits, Scheduler, ToClient};

use super::lock;

/// What a thread does for the others before it goes back to its own work.
const INPUTS_MAX: usize = 256;

/// Something to tell the machines.
pub(super) enum Input {
    /// A worker registers.
    Join { worker: WorkerId, machine: Box<Worker> },
    /// A worker is asked to hand over what it holds and end.
    Leave(WorkerId),
    /// A worker ends now.
    Remove(WorkerId),
    /// An executor has finished a task.
    Executed(WorkerId, executor::Event),
    /// A client connects.
    Connect(ClientId, Arc<dyn Receiver>),
    /// A client speaks.
    Client(ClientId, FromClient),
    /// A client wants a block.
    Fetch { holder: WorkerId, block: BlockId, field: u32, reply: FetchReply },
    /// A client brings a block.
    Put { worker: WorkerId, block: BlockId, fields: Vec<Block>, reply: PutReply },
    /// A timeout is due.
    Tick,
}

/// Whom a worker's reply is for.
enum Asker {
    Peer(WorkerId, FetchId),
    Fetch(FetchReply),
    Put(PutReply),
}

/// The machines, and what is to be told them.
pub(super) struct Engine {
    inbox: Mutex<VecDeque<Input>>,
    machines: Mutex<Machines>,
    outbox: Mutex<VecDeque<Told>>,
    /// Held by whoever empties the outbox, so that everything is said in order.
    speaking: Mutex<()>,
    /// Workers that have ended, and who waits for that. Whoever waits drops them: a slot's own thread must not.
    ended: Mutex<Vec<Ended>>,
    more_ended: Condvar,
    timer: Timer,
    epoch: Instant,
}

type Ended = (WorkerId, Box<Worker>);

struct Machines {
    scheduler: Scheduler,
    workers: BTreeMap<WorkerId, Box<Worker>>,
    /// Workers whose actions are still to be taken.
    restless: VecDeque<WorkerId>,
    clients: BTreeMap<ClientId, Arc<dyn Receiver>>,
    /// Open requests, and whose answer they wait for.
    askers: HashMap<ReplyTo, (WorkerId, Asker)>,
    next_reply: u64,
    ended: Vec<Ended>,
    told: Vec<Told>,
}

/// Something that is said once the machines are let go.
enum Told {
    Client(Arc<dyn Receiver>, ToClient),
    Fetched(FetchReply, Result<Block, FetchError>),
    Put(PutReply, Result<(), Option<(u64, u64)>>),
}

impl Told {
    fn say(self) {
        match self {
            Told::Client(receiver, message) => receiver.receive(message),
            Told::Fetched(reply, result) => reply(result),
            Told::Put(reply, result) => reply(result),
        }
    }
}

impl Engine {
    pub(super) fn new(limits: Limits) -> Engine {
        Engine {
            inbox: Mutex::default(),
            machines: Mutex::new(Machines {
                scheduler: Scheduler::new(limits),
                workers: BTreeMap::new(),
                restless: VecDeque::new(),
                clients: BTreeMap::new(),
                askers: HashMap::new(),
                next_reply: 0,
                ended: Vec::new(),
                told: Vec::new(),
            }),
            outbox: Mutex::default(),
            speaking: Mutex::default(),
            ended: Mutex::default(),
            more_ended: Condvar::new(),
            timer: Timer::default(),
            epoch: Instant::now(),
        }
    }

    /// Tells the machines something and sees to it that they move.
    pub(super) fn post(&self, input: Input) {
        lock(&self.inbox).push_back(input);
        self.run();
    }

    /// Tells the machines something and returns when they have heard it.
    pub(super) fn call(&self, input: Input) {
        let mut machines = lock(&self.machines);
        lock(&self.inbox).push_back(input);
        self.move_machines(&mut machines, usize::MAX);
        drop(machines);
        self.speak();
        self.run();
    }

    /// Moves the machines unless another thread does, which then finds all that was posted until now: it looks at the
    /// inbox once more after it has let go.
    fn run(&self) {
        while !lock(&self.inbox).is_empty() {
            let mut machines = match self.machines.try_lock() {
                Ok(machines) => machines,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let is_done = self.move_machines(&mut machines, INPUTS_MAX);
            drop(machines);
            self.speak();
            if !is_done {
                return self.timer.set(Some(Instant::now()));
            }
        }
    }

    /// Hands the machines what was posted, at most `inputs_max` of it; whether that was all.
    fn move_machines(&self, machines: &mut Machines, inputs_max: usize) -> bool {
        let mut left = inputs_max;
        while left > 0
            && let Some(input) = self.next_input()
        {
            machines.take(self.now(), input);
            machines.settle(self.now());
            left -= 1;
        }
        if !machines.ended.is_empty() {
            lock(&self.ended).append(&mut machines.ended);
            self.more_ended.notify_all();
        }
        lock(&self.outbox).extend(machines.told.drain(..));
        self.timer.set(machines.next_timeout().map(|due| self.epoch + due));
        left > 0
    }

    /// Says what is to be said, in order, unless another thread does: it looks at the outbox once more after it has
    /// let go.
    fn speak(&self) {
        while !lock(&self.outbox).is_empty() {
            let Ok(_speaking) = self.speaking.try_lock() else { return };
            while let Some(told) = self.next_told() {
                // A waker may be anybody's. Its panic has been printed; the others are told all the same.
                drop(catch_unwind(AssertUnwindSafe(|| told.say())));
            }
        }
    }

    fn next_told(&self) -> Option<Told> {
        lock(&self.outbox).pop_front()
    }

    fn next_input(&self) -> Option<Input> {
        lock(&self.inbox).pop_front()
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Waits until `worker` has ended, at most `patience`, and takes it: dropping it ends its threads.
    pub(super) fn wait_ended(&self, worker: WorkerId, patience: Duration) -> Option<Box<Worker>> {
        let deadline = Instant::now() + patience;
        let mut ended = lock(&self.ended);
        loop {
            if let Some(at) = ended.iter().position(|(id, _)| *id == worker) {
                return Some(ended.swap_remove(at).1);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            ended = self.more_ended.wait_timeout(ended, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Posts [`Input::Tick`] whenever a timeout is due, until [`Engine::stop_timer`].
    pub(super) fn run_timer(&self) {
        while self.timer.wait() {
            self.post(Input::Tick);
        }
    }

    /// Ends [`Engine::run_timer`].
    pub(super) fn stop_timer(&self) {
        self.timer.stop();
    }
}

impl Machines {
    fn take(&mut self, now: Duration, input: Input) {
        match input {
            Input::Join { worker, machine } => {
                let register = machine.register();
                self.workers.insert(worker, machine);
                self.scheduler.handle(now, scheduler::Event::WorkerJoined { worker, register });
            }
            Input::Leave(worker) => self.tell(now, worker, agent::Event::Leave),
            Input::Remove(worker) => self.remove(now, worker),
            Input::Executed(worker, event) => self.tell(now, worker, executed(event)),
            Input::Connect(client, receiver) => {
                self.clients.insert(client, receiver);
                self.scheduler.handle(now, scheduler::Event::ClientJoined { client });
            }
            Input::Client(client, message) => {
                let closes = message == FromClient::Close;
                self.scheduler.handle(now, scheduler::Event::Client { client, message });
                if closes {
                    self.clients.remove(&client);
                }
            }
            Input::Fetch { holder, block, field, reply } => {
                self.ask(now, holder, Asker::Fetch(reply), |from| agent::Event::Fetch {
                    from,
                    block,
                    field,
                    region: None,
                });
            }
            Input::Put { worker, block, fields, reply } => {
                self.ask(now, worker, Asker::Put(reply), |from| agent::Event::Put { from, block, fields });
            }
            Input::Tick => {
                self.scheduler.handle(now, scheduler::Event::Tick);
                let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
                workers.into_iter().for_each(|worker| self.tell(now, worker, agent::Event::Tick));
            }
        }
    }

    /// Carries messages between the machines until there are none.
    fn settle(&mut self, now: Duration) {
        loop {
            if let Some(action) = self.scheduler.poll() {
                match action {
                    scheduler::Action::ToWorker { worker, message } => {
                        self.tell(now, worker, agent::Event::Scheduler(message));
                    }
                    scheduler::Action::ToClient { client, message } => {
                        let receiver = self.clients.get(&client).cloned();
                        self.told.extend(receiver.map(|receiver| Told::Client(receiver, message)));
                    }
                }
            } else if let Some(&worker) = self.restless.front() {
                match self.workers.get_mut(&worker).and_then(|machine| machine.poll()) {
                    Some(outward) => self.carry(now, worker, outward),
                    None => drop(self.restless.pop_front()),
                }
            } else {
                return;
            }
        }
    }

    fn carry(&mut self, now: Duration, worker: WorkerId, outward: Outward<Block>) {
        match outward {
            Outward::Send(message) => {
                self.scheduler.handle(now, scheduler::Event::Worker { worker, message });
            }
            // Workers of one process need no addresses.
            Outward::Peer { .. } | Outward::PeerGone { .. } => {}
            Outward::Fetch { fetch, holder, block, field, region } => {
                self.ask(now, holder, Asker::Peer(worker, fetch), |from| agent::Event::Fetch {
                    from,
                    block,
                    field,
                    region,
                });
            }
            Outward::Reply { to, answer } => {
                let asker = self.askers.remove(&to);
                self.tell(now, worker, agent::Event::Replied { to });
                if let Some((_, asker)) = asker {
                    self.answer(now, asker, answer);
                }
            }
            Outward::Close => self.remove(now, worker),
        }
    }

    fn remove(&mut self, now: Duration, worker: WorkerId) {
        let Some(machine) = self.workers.remove(&worker) else { return };
        self.ended.push((worker, machine));
        self.scheduler.handle(now, scheduler::Event::WorkerGone { worker });
        let (unanswered, open) = std::mem::take(&mut self.askers).into_iter().partition(|(_, (of, _))| *of == worker);
        self.askers = open;
        let unanswered: HashMap<ReplyTo, (WorkerId, Asker)> = unanswered;
        unanswered.into_values().for_each(|(_, asker)| self.fail(now, asker));
    }

    fn tell(&mut self, now: Duration, worker: WorkerId, event: agent::Event<Block>) {
        if let Some(machine) = self.workers.get_mut(&worker) {
            machine.handle(now, event);
            self.restless.push_back(worker);
        }
    }

    /// Asks a worker for something; one that is gone does not answer.
    fn ask(
        &mut self,
        now: Duration,
        worker: WorkerId,
        asker: Asker,
        event: impl FnOnce(ReplyTo) -> agent::Event<Block>,
    ) {
        if !self.workers.contains_key(&worker) {
            return self.fail(now, asker);
        }
        let to = ReplyTo(self.next_reply);
        self.next_reply += 1;
        self.askers.insert(to, (worker, asker));
        self.tell(now, worker, event(to));
    }

    fn answer(&mut self, now: Duration, asker: Asker, answer: Answer<Block>) {
        match (asker, answer) {
            (Asker::Peer(worker, fetch), Answer::Data(part)) => {
                self.tell(now, worker, agent::Event::Fetched { fetch, result: Ok(part) });
            }
            (Asker::Fetch(reply), Answer::Data(part)) => self.told.push(Told::Fetched(reply, Ok(part.data))),
            (Asker::Put(reply), Answer::Stored) => self.told.push(Told::Put(reply, Ok(()))),
            (Asker::Put(reply), Answer::Refused { needs, has }) => {
                self.told.push(Told::Put(reply, Err(Some((needs, has)))));
            }
            (asker, _) => self.fail(now, asker),
        }
    }

    fn fail(&mut self, now: Duration, asker: Asker) {
        match asker {
            Asker::Peer(worker, fetch) => {
                self.tell(now, worker, agent::Event::Fetched { fetch, result: Err(FetchError::Missing) });
            }
            Asker::Fetch(reply) => self.told.push(Told::Fetched(reply, Err(FetchError::Missing))),
            Asker::Put(reply) => self.told.push(Told::Put(reply, Err(None))),
        }
    }

    fn next_timeout(&self) -> Option<Duration> {
        let workers = self.workers.values().filter_map(|worker| worker.next_timeout());
        workers.chain(self.scheduler.next_timeout()).min()
    }
}

/// An alarm that can be set again at any time.
#[derive(Default)]
struct Timer {
    state: Mutex<TimerState>,
    changed: Condvar,
}

#[derive(Default)]
struct TimerState {
    due: Option<Instant>,
    stopped: bool,
}

impl Timer {
    fn set(&self, due: Option<Instant>) {
        let mut state = lock(&self.state);
        // A later time need not wake the sleeper: it wakes too early once and then looks again.
        let sooner = due.is_some_and(|due| state.due.is_none_or(|set| due < set));
        state.due = due;
        drop(state);
        if sooner {
            self.changed.notify_one();
        }
    }

    /// Sleeps until the time that is set; false when stopped.
    fn wait(&self) -> bool {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            match state.due {
                _ if state.stopped => return false,
                Some(due) if due <= now => {
                    state.due = None;
                    return true;
                }
                Some(due) => {
                    let woken = self.changed.wait_timeout(state, due - now);
                    state = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_one();
    }
}
