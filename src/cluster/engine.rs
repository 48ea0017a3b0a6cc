//! The embedded cluster: the same scheduler and agents as a remote one, moved in place.
//!
//! All machines are one [`Machine`], and there is no thread that owns them: whoever has something to say posts it and
//! moves them. A small task then takes two hand-overs in all, to a slot and back.
//!
//! What clients are told is said without any lock on the machines, so that a client may do anything when it hears it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gridloom_worker::agent::{self, Answer, FetchId, Outward, Part, ReplyTo};
use gridloom_worker::block::Block;
use gridloom_worker::executor;
use gridloom_worker::ids::{ClientId, WorkerId};
use gridloom_worker::serve::{Machine, Mover, Saying, Worker, executed};
use gridloom_worker::wire::{FetchError, Parcel};

use crate::client::link::{FetchReply, PutReply, Receiver};
use crate::scheduler::{self, FromClient, Limits, Scheduler};

use super::lock;

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
    /// A client wants blocks.
    Fetch { holder: WorkerId, parcel: Parcel, field: u32, reply: FetchReply },
    /// A client brings blocks.
    Put { worker: WorkerId, parcel: Parcel, blocks: Vec<Vec<Block>>, reply: PutReply },
    #[cfg(test)]
    Panic,
}

/// Whom a worker's reply is for.
enum Asker {
    Peer(WorkerId, FetchId),
    Fetch(FetchReply),
    Put(PutReply),
}

/// The machines, and who waits for some of them to end.
pub(super) struct Engine {
    mover: Mover<Machines>,
    ended: Arc<Ended>,
}

/// Workers that have ended. Whoever waits for that drops them: a slot's own thread must not.
#[derive(Default)]
struct Ended {
    workers: Mutex<Vec<(WorkerId, Box<Worker>)>>,
    more: Condvar,
}

struct Machines {
    scheduler: Scheduler,
    workers: BTreeMap<WorkerId, Box<Worker>>,
    /// Workers whose actions are still to be taken.
    restless: VecDeque<WorkerId>,
    clients: BTreeMap<ClientId, Arc<dyn Receiver>>,
    /// Open requests, and whose answer they wait for.
    askers: HashMap<ReplyTo, (WorkerId, Asker)>,
    next_reply: u64,
    ended: Arc<Ended>,
    sayings: Vec<Saying>,
    /// Whether they have panicked: then nothing is done any more, and whoever wants something is told so.
    are_broken: bool,
}

impl Engine {
    pub(super) fn new(limits: Limits) -> Engine {
        let ended = Arc::<Ended>::default();
        let engine = Engine { mover: Mover::default(), ended: Arc::clone(&ended) };
        engine.mover.start(Machines {
            scheduler: Scheduler::new(limits),
            workers: BTreeMap::new(),
            restless: VecDeque::new(),
            clients: BTreeMap::new(),
            askers: HashMap::new(),
            next_reply: 0,
            ended,
            sayings: Vec::new(),
            are_broken: false,
        });
        engine
    }

    /// Tells the machines something and sees to it that they move.
    pub(super) fn post(&self, input: Input) {
        self.mover.post(input);
    }

    /// Tells the machines something and returns when they have heard it.
    pub(super) fn call(&self, input: Input) {
        self.mover.call(input);
    }

    /// Waits until `worker` has ended, at most `patience`, and takes it: dropping it ends its threads.
    pub(super) fn wait_ended(&self, worker: WorkerId, patience: Duration) -> Option<Box<Worker>> {
        let deadline = Instant::now() + patience;
        let mut ended = lock(&self.ended.workers);
        loop {
            if let Some(at) = ended.iter().position(|(id, _)| *id == worker) {
                return Some(ended.swap_remove(at).1);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            ended = self.ended.more.wait_timeout(ended, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Moves the machines whenever a timeout is due, until [`Engine::stop_timer`].
    pub(super) fn run_timer(&self) {
        self.mover.run();
    }

    /// Ends [`Engine::run_timer`].
    pub(super) fn stop_timer(&self) {
        self.mover.stop();
    }
}

impl Machine for Machines {
    type Input = Input;

    fn handle(&mut self, now: Duration, input: Option<Input>) {
        match input {
            Some(input) if self.are_broken => return self.decline(now, input),
            None if self.are_broken => return,
            Some(input) => self.take(now, input),
            None => self.tick(now),
        }
        self.settle(now);
    }

    fn next_timeout(&self) -> Option<Duration> {
        let workers = self.workers.values().filter_map(|worker| worker.next_timeout());
        workers.chain(self.scheduler.next_timeout()).min()
    }

    fn sayings(&mut self) -> Vec<Saying> {
        std::mem::take(&mut self.sayings)
    }

    /// What they know may be half changed: that is the end of them. The workers' threads end with the cluster.
    fn has_panicked(&mut self) {
        tracing::error!("the scheduler or a worker of this process broke: the cluster is of no more use");
        self.are_broken = true;
        self.scheduler = Scheduler::default();
        std::mem::take(&mut self.workers).into_iter().for_each(|(worker, machine)| self.bury(worker, machine));
        let unanswered = std::mem::take(&mut self.askers);
        unanswered.into_values().for_each(|(_, asker)| self.fail(Duration::ZERO, asker));
        let clients = std::mem::take(&mut self.clients);
        clients.into_values().for_each(|receiver| self.say(move || receiver.close()));
    }
}

impl Machines {
    /// Nobody is left to do this.
    fn decline(&mut self, now: Duration, input: Input) {
        match input {
            Input::Join { worker, machine } => self.bury(worker, machine),
            Input::Connect(_, receiver) => self.say(move || receiver.close()),
            Input::Fetch { reply, .. } => self.fail(now, Asker::Fetch(reply)),
            Input::Put { reply, .. } => self.fail(now, Asker::Put(reply)),
            Input::Leave(_) | Input::Remove(_) | Input::Executed(..) | Input::Client(..) => {}
            #[cfg(test)]
            Input::Panic => {}
        }
    }

    /// A worker has ended: whoever waits for that may have it.
    fn bury(&self, worker: WorkerId, machine: Box<Worker>) {
        lock(&self.ended.workers).push((worker, machine));
        self.ended.more.notify_all();
    }

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
            Input::Fetch { holder, parcel, field, reply } => {
                self.ask(now, holder, Asker::Fetch(reply), |from| agent::Event::Fetch {
                    from,
                    parcel,
                    field,
                    region: None,
                });
            }
            Input::Put { worker, parcel, blocks, reply } => {
                self.ask(now, worker, Asker::Put(reply), |from| agent::Event::Put { from, parcel, blocks });
            }
            #[cfg(test)]
            Input::Panic => panic!("as the test wants"),
        }
    }

    /// Time has passed.
    fn tick(&mut self, now: Duration) {
        self.scheduler.handle(now, scheduler::Event::Tick);
        let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.tell(now, worker, agent::Event::Tick));
    }

    /// Says something once the machines are let go.
    fn say(&mut self, saying: impl FnOnce() + Send + 'static) {
        self.sayings.push(Box::new(saying));
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
                        if let Some(receiver) = self.clients.get(&client).cloned() {
                            self.say(move || receiver.receive(message));
                        }
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
            Outward::Fetch { fetch, holder, parcel, field, region } => {
                self.ask(now, holder, Asker::Peer(worker, fetch), |from| agent::Event::Fetch {
                    from,
                    parcel,
                    field,
                    region,
                });
            }
            Outward::Reply { to, answer } => {
                // Before anything else is moved, which might break: whoever asked is answered in any case.
                if let Some((_, asker)) = self.askers.remove(&to) {
                    self.answer(now, asker, answer);
                }
                self.tell(now, worker, agent::Event::Replied { to });
            }
            Outward::Close => self.remove(now, worker),
        }
    }

    fn remove(&mut self, now: Duration, worker: WorkerId) {
        let Some(machine) = self.workers.remove(&worker) else { return };
        self.bury(worker, machine);
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
            (Asker::Peer(worker, fetch), Answer::Data(parts)) => {
                self.tell(now, worker, agent::Event::Fetched { fetch, result: Ok(parts) });
            }
            (Asker::Fetch(reply), Answer::Data(parts)) => {
                let data = |part: Option<Part<Block>>| part.map(|part| part.data);
                self.say(move || reply(Ok(parts.into_iter().map(data).collect())));
            }
            (Asker::Put(reply), Answer::Stored) => self.say(move || reply(Ok(()))),
            (Asker::Put(reply), Answer::Refused { needs, has }) => self.say(move || reply(Err(Some((needs, has))))),
            (asker, _) => self.fail(now, asker),
        }
    }

    fn fail(&mut self, now: Duration, asker: Asker) {
        match asker {
            Asker::Peer(worker, fetch) => {
                self.tell(now, worker, agent::Event::Fetched { fetch, result: Err(FetchError::Missing) });
            }
            Asker::Fetch(reply) => self.say(move || reply(Err(FetchError::Missing))),
            Asker::Put(reply) => self.say(move || reply(Err(None))),
        }
    }
}
