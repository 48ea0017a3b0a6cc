//! A cluster on a virtual clock: the production scheduler, agents and message codec, a network that delays and
//! reorders, processes that die. Every rate is drawn from the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use gridloom::scheduler::{self, BlockState, FromClient, Limits, Mutant, Scheduler};
use gridloom_worker::agent::{self, Agent, Answer, FetchId, Part, ReplyTo};
use gridloom_worker::executor::{ExecuteError, TaskToken};
use gridloom_worker::ids::{ArrayId, BlockId, ClientId, KernelHash, WorkerId};
use gridloom_worker::shape::Region;
use gridloom_worker::stage::{Body, Stage};
use gridloom_worker::wire::{FetchError, FromWorker, Parcel, Register, Run, ToWorker, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::chance::Chance;
use super::client::{Client, Step};
use super::data::{Data, outputs};
use super::peers;
use super::plans::Oracle;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Scheduler,
    Worker(WorkerId),
    Client(ClientId),
}

/// Who wants a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Requester {
    Worker(WorkerId, FetchId),
    Client(ClientId, u64),
}

/// What happens at some time.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    Scheduler(scheduler::Event),
    Agent(WorkerId, agent::Event<Data>),
    Fetch { holder: WorkerId, who: Requester, parcel: Parcel, field: u32, region: Option<Region> },
    Put { holder: WorkerId, who: Requester, parcel: Parcel, blocks: Vec<Vec<Data>> },
    Answered { who: Requester, answer: Option<Answer<Data>> },
    TaskEnds { worker: WorkerId, token: TaskToken },
    Client(ClientId, scheduler::ToClient),
    Step(ClientId, Step),
    TickScheduler,
    TickAgent(WorkerId),
    Join,
    Kill(WorkerId),
    Leave(WorkerId),
    Crash(ClientId),
}

/// How much goes wrong, per thousand.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) duplicate: u64,
    pub(crate) fetch: u64,
    pub(crate) execute: u64,
    /// Workers cannot read sources, some of them.
    pub(crate) blind: u64,
    /// Memory is short.
    pub(crate) tight: bool,
    /// These blocks cannot be computed anywhere.
    pub(crate) poison: BTreeSet<BlockId>,
    /// Workers die of these.
    pub(crate) killer: BTreeSet<BlockId>,
}

/// A worker process.
pub(crate) struct Process {
    pub(crate) agent: Agent<Data>,
    /// When each slot is free.
    slots: Vec<Duration>,
    slowness: u64,
    blind: bool,
    kernels: BTreeSet<KernelHash>,
    stages: BTreeMap<ArrayId, Arc<Stage>>,
    running: BTreeMap<TaskToken, agent::Start<Data>>,
    requests: BTreeMap<ReplyTo, Requester>,
    fetching: BTreeSet<FetchId>,
    tick: Option<Duration>,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) chance: Chance,
    pub(crate) faults: Faults,
    /// No fault from now on.
    pub(crate) healed: bool,
    pub(crate) scheduler: Scheduler,
    pub(crate) workers: BTreeMap<WorkerId, Process>,
    pub(crate) clients: BTreeMap<ClientId, Client>,
    pub(crate) oracle: Oracle,
    /// What the scheduler has heard to be taken.
    taken: BTreeSet<BlockId>,
    /// What was handed to whom.
    handed: BTreeSet<(WorkerId, BlockId)>,
    pub(crate) deaths: u64,
    pub(crate) steps: u64,
    /// How often what was said: the simulation shows that its faults fired.
    pub(crate) said: BTreeMap<&'static str, u64>,
    /// Steps between two looks at every invariant.
    pub(crate) check_every: u64,
    delay: (Duration, Duration),
    task: (Duration, Duration),
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    arrivals: BTreeMap<u64, Arrival>,
    links: BTreeMap<(Party, Party), Duration>,
    sequence: u64,
    next_worker: u64,
    scheduler_tick: Option<Duration>,
}

impl World {
    pub(crate) fn new(mut chance: Chance, limits: Limits, mutant: Option<Mutant>, check_every: u64) -> World {
        let micros = Duration::from_micros;
        let faulty = chance.permille(800);
        let often =
            |chance: &mut Chance, most: u64| if faulty && chance.permille(500) { chance.below(most) } else { 0 };
        let faults = Faults {
            duplicate: often(&mut chance, 200),
            fetch: often(&mut chance, 100),
            execute: often(&mut chance, 20),
            blind: often(&mut chance, 300),
            tight: chance.permille(250),
            poison: BTreeSet::new(),
            killer: BTreeSet::new(),
        };
        let slow = chance.time(micros(10), micros(20_000));
        let long = chance.time(micros(10), micros(200_000));
        World {
            now: Duration::ZERO,
            faults,
            healed: false,
            scheduler: mutant.map_or_else(|| Scheduler::new(limits), |mutant| Scheduler::with_mutant(limits, mutant)),
            workers: BTreeMap::new(),
            clients: BTreeMap::new(),
            oracle: Oracle::default(),
            taken: BTreeSet::new(),
            handed: BTreeSet::new(),
            deaths: 0,
            steps: 0,
            said: BTreeMap::new(),
            check_every,
            delay: (micros(5), slow),
            task: (micros(1), long),
            queue: BinaryHeap::new(),
            arrivals: BTreeMap::new(),
            links: BTreeMap::new(),
            sequence: 0,
            next_worker: 0,
            scheduler_tick: None,
            chance,
        }
    }

    /// Something happens at `at`.
    pub(crate) fn at(&mut self, at: Duration, arrival: Arrival) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence)));
        self.arrivals.insert(self.sequence, arrival);
    }

    /// A message travels: after what went the same way before, and at its own pace otherwise.
    pub(crate) fn send(&mut self, from: Party, to: Party, arrival: Arrival) {
        let delay = self.chance.time(self.delay.0, self.delay.1);
        let last = self.links.entry((from, to)).or_default();
        *last = (self.now + delay).max(*last);
        let at = *last;
        self.at(at, arrival);
    }

    /// A message on a stream of its own.
    fn send_alone(&mut self, arrival: Arrival) {
        let at = self.now + self.chance.time(self.delay.0, self.delay.1);
        self.at(at, arrival);
    }

    /// A new process registers.
    pub(crate) fn join(&mut self, ample: bool) -> WorkerId {
        self.next_worker += 1;
        let worker = WorkerId(self.next_worker);
        let slots = self.chance.between(1, 4) as u32;
        let tight = self.faults.tight && !ample;
        let memory_bytes = if tight { self.chance.between(300, 8000) } else { 1 << 40 };
        let blind = !ample && self.chance.permille(self.faults.blind);
        let process = Process {
            agent: Agent::new(memory_bytes),
            slots: vec![self.now; slots as usize],
            slowness: if self.chance.permille(200) { 10 } else { 1 },
            blind,
            kernels: BTreeSet::new(),
            stages: BTreeMap::new(),
            running: BTreeMap::new(),
            requests: BTreeMap::new(),
            fetching: BTreeSet::new(),
            tick: None,
        };
        self.workers.insert(worker, process);
        let fetch_bytes_per_second = 1 << self.chance.between(10, 30);
        let register = Register { fetch_bytes_per_second, ..Register::of_cpu("simulated", slots, memory_bytes) };
        let joined = scheduler::Event::WorkerJoined { worker, register: as_read(register) };
        self.send(Party::Worker(worker), Party::Scheduler, Arrival::Scheduler(joined));
        worker
    }

    /// A process ends; whoever waits for it will notice.
    pub(crate) fn end(&mut self, worker: WorkerId) {
        let Some(process) = self.workers.remove(&worker) else { return };
        let gone = Arrival::Scheduler(scheduler::Event::WorkerGone { worker });
        if self.chance.permille(300) {
            // Its connection falls silent: that takes seconds to notice.
            let at = self.now + self.chance.time(Duration::from_millis(100), Duration::from_secs(3));
            self.at(at, gone);
        } else {
            self.send(Party::Worker(worker), Party::Scheduler, gone);
        }
        for who in process.requests.into_values() {
            self.send_alone(Arrival::Answered { who, answer: None });
        }
    }

    /// Takes one step. False when nothing is left to happen.
    pub(crate) fn step(&mut self) -> Result<bool, String> {
        let Some(Reverse((at, sequence))) = self.queue.pop() else { return Ok(false) };
        self.now = at;
        self.steps += 1;
        let Some(arrival) = self.arrivals.remove(&sequence) else { return Ok(true) };
        self.arrive(arrival)?;
        Ok(true)
    }

    /// Whether anything but clocks is still to happen.
    pub(crate) fn is_quiet(&self) -> bool {
        self.arrivals.values().all(|arrival| matches!(arrival, Arrival::TickScheduler | Arrival::TickAgent(_)))
    }

    /// What is still to happen, in words.
    pub(crate) fn pending(&self) -> String {
        let times: BTreeMap<u64, Duration> =
            self.queue.iter().map(|Reverse((at, sequence))| (*sequence, *at)).collect();
        let when = |sequence: &u64| times.get(sequence).copied().unwrap_or_default();
        let words = self.arrivals.iter().map(|(sequence, arrival)| format!("{:?} {arrival:?}", when(sequence)));
        format!("at {:?}: {:.2000}", self.now, words.collect::<Vec<_>>().join(", "))
    }

    pub(crate) fn next_time(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    fn arrive(&mut self, arrival: Arrival) -> Result<(), String> {
        match arrival {
            Arrival::Scheduler(event) => self.tell_scheduler(event),
            Arrival::TickScheduler => {
                self.scheduler_tick = None;
                self.tell_scheduler(scheduler::Event::Tick)
            }
            Arrival::Agent(worker, event) => self.tell_agent(worker, event),
            Arrival::TickAgent(worker) => {
                if let Some(process) = self.workers.get_mut(&worker) {
                    process.tick = None;
                }
                self.tell_agent(worker, agent::Event::Tick)
            }
            Arrival::Fetch { holder, who, parcel, field, region } => {
                let (parcel, field, region) = peers::asked(parcel, field, region)?;
                let fails = !self.healed && self.chance.permille(self.faults.fetch);
                match if fails { None } else { self.request(holder, who) } {
                    Some(from) => self.tell_agent(holder, agent::Event::Fetch { from, parcel, field, region }),
                    None => {
                        self.send_alone(Arrival::Answered { who, answer: None });
                        Ok(())
                    }
                }
            }
            Arrival::Put { holder, who, parcel, blocks } => {
                let (parcel, blocks) = peers::brought(parcel, blocks)?;
                match self.request(holder, who) {
                    Some(from) => self.tell_agent(holder, agent::Event::Put { from, parcel, blocks }),
                    None => {
                        self.send_alone(Arrival::Answered { who, answer: None });
                        Ok(())
                    }
                }
            }
            Arrival::Answered { who: Requester::Worker(worker, fetch), answer } => {
                let answer = answer.map(peers::answered).transpose()?;
                let Some(process) = self.workers.get_mut(&worker) else { return Ok(()) };
                if !process.fetching.remove(&fetch) {
                    return Ok(());
                }
                let result = match answer {
                    Some(Answer::Data(parts)) => Ok(parts),
                    Some(_) => Err(FetchError::Missing),
                    None => Err(FetchError::Unreachable),
                };
                self.tell_agent(worker, agent::Event::Fetched { fetch, result })
            }
            Arrival::Answered { who: Requester::Client(client, request), answer } => {
                let answer = answer.map(peers::answered).transpose()?;
                self.with_client(client, |client, world| client.answered(world, request, answer))
            }
            Arrival::Client(client, message) => self.with_client(client, |client, world| client.told(world, message)),
            Arrival::Step(client, step) => self.with_client(client, |client, world| client.step(world, step)),
            Arrival::TaskEnds { worker, token } => self.task_ends(worker, token),
            Arrival::Join => {
                self.join(false);
                Ok(())
            }
            Arrival::Kill(worker) => {
                if !self.healed && self.workers.contains_key(&worker) {
                    self.deaths += 1;
                    self.end(worker);
                }
                Ok(())
            }
            Arrival::Crash(client) => {
                self.clients.remove(&client);
                let gone = Arrival::Scheduler(scheduler::Event::ClientGone { client });
                self.send(Party::Client(client), Party::Scheduler, gone);
                Ok(())
            }
            Arrival::Leave(worker) => self.tell_agent(worker, agent::Event::Leave),
        }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.said.entry(what).or_default() += 1;
    }

    fn with_client(
        &mut self,
        id: ClientId,
        act: impl FnOnce(&mut Client, &mut World) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(mut client) = self.clients.remove(&id) else { return Ok(()) };
        let result = act(&mut client, self);
        self.clients.insert(id, client);
        result
    }

    fn request(&mut self, holder: WorkerId, who: Requester) -> Option<ReplyTo> {
        self.sequence += 1;
        let reply = ReplyTo(self.sequence);
        self.workers.get_mut(&holder)?.requests.insert(reply, who);
        Some(reply)
    }

    fn tell_scheduler(&mut self, event: scheduler::Event) -> Result<(), String> {
        if let scheduler::Event::Worker { message: FromWorker::Done { .. }, .. } = &event
            && !self.healed
            && self.chance.permille(self.faults.duplicate)
        {
            let again = Arrival::Scheduler(event.clone());
            let at = self.now + self.chance.time(self.delay.0, Duration::from_millis(300));
            self.count("duplicate");
            self.at(at, again);
        }
        match &event {
            scheduler::Event::WorkerGone { .. } => self.count("worker gone"),
            scheduler::Event::Worker { message, .. } => self.count(match message {
                FromWorker::Done { .. } => "done",
                FromWorker::Failed { .. } => "failed",
                FromWorker::Refused { .. } => "refused",
                FromWorker::FetchFailed { error: FetchError::Missing, .. } => "missing",
                FromWorker::FetchFailed { .. } => "unreachable",
                FromWorker::Leaving => "leaving",
            }),
            scheduler::Event::Client { message: FromClient::Taken { array, blocks }, .. } => {
                for index in blocks.iter().flat_map(|blocks| blocks.indices()) {
                    let block = BlockId { array: *array, index };
                    let is_held = self.scheduler.state(block).is_none_or(|state| state == BlockState::Held);
                    self.count(if is_held { "taken" } else { "taken late" });
                    self.taken.insert(block);
                }
            }
            _ => {}
        }
        self.scheduler.handle(self.now, event);
        if self.steps.is_multiple_of(self.check_every) {
            self.scheduler.check().map_err(|what| format!("the scheduler's state: {what}"))?;
        }
        while let Some(action) = self.scheduler.poll() {
            match action {
                scheduler::Action::ToWorker { worker, message } => {
                    self.check_run(worker, &message)?;
                    self.count(match &message {
                        ToWorker::Run(_) => "run",
                        ToWorker::Keep { .. } => "keep",
                        ToWorker::Free { .. } => "free",
                        ToWorker::Close => "close",
                        _ => "other",
                    });
                    let arrival = Arrival::Agent(worker, agent::Event::Scheduler(as_read(message)));
                    self.send(Party::Scheduler, Party::Worker(worker), arrival);
                }
                scheduler::Action::ToClient { client, message } => {
                    self.send(Party::Scheduler, Party::Client(client), Arrival::Client(client, as_read(message)));
                }
            }
        }
        if let Some(due) = self.scheduler.next_timeout()
            && self.scheduler_tick.is_none_or(|tick| due < tick)
        {
            self.scheduler_tick = Some(due);
            self.at(due.max(self.now), Arrival::TickScheduler);
        }
        Ok(())
    }

    /// What its client has taken is made again only for others who read it, and what goes ahead of its inputs goes where
    /// these were to be made.
    fn check_run(&mut self, worker: WorkerId, message: &ToWorker) -> Result<(), String> {
        let ToWorker::Run(Run { array, blocks, .. }) = message else { return Ok(()) };
        let handed: Vec<BlockId> = blocks.indices().map(|index| BlockId { array: *array, index }).collect();
        let stage = self.oracle.stages.get(array);
        let read = handed.iter().flat_map(|block| stage.map(|stage| stage.inputs(block.index)).unwrap_or_default());
        let read = read.flat_map(|(array, range)| range.map(move |index| BlockId { array, index }));
        let missing: Vec<BlockId> =
            read.filter(|block| self.scheduler.state(*block) != Some(BlockState::Held)).collect();
        if let Some(input) = missing.iter().find(|&&input| !self.handed.contains(&(worker, input))) {
            return Err(format!("{array} goes ahead of {input} to {worker}, who was never asked for that"));
        }
        self.handed.extend(handed.iter().map(|&block| (worker, block)));
        if !missing.is_empty() {
            self.count("ahead");
        }
        let again = blocks.indices().find(|&index| self.taken.contains(&BlockId { array: *array, index }));
        let is_read = || self.oracle.stages.values().any(|stage| stage.input_arrays().contains(array));
        match again {
            Some(index) if !is_read() => Err(format!("{array}[{index}] was taken and is made again for nobody")),
            _ => Ok(()),
        }
    }

    fn tell_agent(&mut self, worker: WorkerId, event: agent::Event<Data>) -> Result<(), String> {
        let Some(process) = self.workers.get_mut(&worker) else { return Ok(()) };
        process.agent.handle(self.now, event);
        process.agent.check().map_err(|what| format!("{worker}: {what}"))?;
        while let Some(action) = self.workers.get_mut(&worker).and_then(|process| process.agent.poll()) {
            self.act(worker, action)?;
        }
        let Some(process) = self.workers.get_mut(&worker) else { return Ok(()) };
        if let Some(due) = process.agent.next_timeout()
            && process.tick.is_none_or(|tick| due < tick)
        {
            process.tick = Some(due);
            self.at(due.max(self.now), Arrival::TickAgent(worker));
        }
        Ok(())
    }

    fn act(&mut self, worker: WorkerId, action: agent::Action<Data>) -> Result<(), String> {
        let Some(process) = self.workers.get_mut(&worker) else { return Ok(()) };
        match action {
            agent::Action::Out(agent::Outward::Send(message)) => {
                let event = scheduler::Event::Worker { worker, message: as_read(message) };
                self.send(Party::Worker(worker), Party::Scheduler, Arrival::Scheduler(event));
            }
            agent::Action::Out(agent::Outward::Peer { .. } | agent::Outward::PeerGone { .. }) => {}
            agent::Action::Kernel(kernel) => {
                if !process.kernels.insert(kernel.hash) {
                    return Err(format!("{worker} is sent kernel {} twice", kernel.hash));
                }
            }
            agent::Action::Prepare { stage } => {
                if let Body::Block(call) = &stage.body
                    && !process.kernels.contains(&call.kernel)
                {
                    return Err(format!("{worker} prepares {} without its kernel", stage.array));
                }
                process.stages.insert(stage.array, stage);
            }
            agent::Action::Start(start) => self.start(worker, start)?,
            agent::Action::Cancel { array } => {
                process.stages.remove(&array);
                let of = |start: &agent::Start<Data>| start.array == array;
                let stopped: Vec<TaskToken> =
                    process.running.iter().filter(|(_, start)| of(start)).map(|(&token, _)| token).collect();
                stopped.iter().for_each(|token| drop(process.running.remove(token)));
                for token in stopped {
                    let result = Err(ExecuteError::Cancelled);
                    let busy = Duration::ZERO;
                    let at = self.now + self.chance.time(self.delay.0, self.delay.1);
                    self.at(at, Arrival::Agent(worker, agent::Event::Finished { token, result, busy }));
                }
            }
            agent::Action::Out(agent::Outward::Fetch { fetch, holder, parcel, field, region }) => {
                process.fetching.insert(fetch);
                if holder == worker {
                    return Err(format!("{worker} fetches {parcel:?} from itself"));
                }
                let who = Requester::Worker(worker, fetch);
                self.send_alone(Arrival::Fetch { holder, who, parcel, field, region });
            }
            agent::Action::Out(agent::Outward::Reply { to, mut answer }) => {
                let Some(who) = process.requests.remove(&to) else {
                    return Err(format!("{worker} answers {to:?} twice"));
                };
                if let Answer::Data(parts) = &mut answer {
                    for part in parts.iter_mut().flatten() {
                        if self.chance.permille(500) && part.region.is_some() {
                            part.data.cut = part.region.take();
                        }
                    }
                    self.send_alone(Arrival::Agent(worker, agent::Event::Replied { to }));
                }
                self.send_alone(Arrival::Answered { who, answer: Some(answer) });
            }
            agent::Action::Out(agent::Outward::Close) => self.end(worker),
        }
        Ok(())
    }

    /// The executor takes a task: the operands are what the stage reads, or something is wrong.
    fn start(&mut self, worker: WorkerId, start: agent::Start<Data>) -> Result<(), String> {
        let base = self.chance.time(self.task.0, self.task.1);
        let Some(process) = self.workers.get_mut(&worker) else { return Ok(()) };
        let Some(stage) = process.stages.get(&start.array) else {
            return Err(format!("{worker} starts {}[{}] without its stage", start.array, start.block));
        };
        let reads = stage.reads(start.block);
        let fits = |(read, operand): (&gridloom_worker::stage::Read, &Part<Data>)| {
            let Data { block, field, cut, .. } = &operand.data;
            let region = cut.as_ref().or(operand.region.as_ref());
            *block == BlockId { array: read.array, index: read.block }
                && *field == read.field
                && region == read.region.as_ref()
        };
        if reads.len() != start.operands.len() || !reads.iter().zip(&start.operands).all(fits) {
            return Err(format!("{worker} starts {}[{}] with wrong operands", start.array, start.block));
        }
        let busy = base * process.slowness as u32;
        let token = start.token;
        process.running.insert(token, start);
        let now = self.now;
        let slot = process.slots.iter_mut().min();
        let at = slot.map_or(now, |slot| {
            *slot = (*slot).max(now) + busy;
            *slot
        });
        self.at(at, Arrival::TaskEnds { worker, token });
        Ok(())
    }

    fn task_ends(&mut self, worker: WorkerId, token: TaskToken) -> Result<(), String> {
        let Some(process) = self.workers.get_mut(&worker) else { return Ok(()) };
        let Some(start) = process.running.remove(&token) else { return Ok(()) };
        let Some(stage) = process.stages.get(&start.array).cloned() else { return Ok(()) };
        let block = BlockId { array: start.array, index: start.block };
        let blind = process.blind && start.operands.is_empty();
        if self.faults.killer.contains(&block) {
            self.deaths += 1;
            self.end(worker);
            let at = self.now + self.chance.time(Duration::from_millis(1), Duration::from_secs(2));
            self.at(at, Arrival::Join);
            return Ok(());
        }
        let result = if self.faults.poison.contains(&block) {
            Err(ExecuteError::Deadline { limit_ms: 1 })
        } else if blind {
            Err(ExecuteError::Source { path: "x.npy".to_owned(), what: "not seen here".to_owned() })
        } else if !self.healed && self.chance.permille(self.faults.execute) {
            Err(ExecuteError::Internal { what: "a fault".to_owned() })
        } else {
            Ok(outputs(&stage, block, &start.operands))
        };
        let busy = self.task.0;
        self.tell_agent(worker, agent::Event::Finished { token, result, busy })
    }
}

/// A message as the other side reads it from the bytes that travel.
pub(crate) fn as_read<T: Serialize + DeserializeOwned>(message: T) -> T {
    let bytes = encode(&message).expect("every message fits the wire");
    decode(&bytes).expect("what is written can be read")
}
