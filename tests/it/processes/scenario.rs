//! One script, played twice: by the machines alone, joined by a queue and the wire's codec, and by processes over QUIC.
//! Both give the same bits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use gridloom::plan::{self, ArrayIds};
use gridloom::scheduler::{self, FromClient, Holding, Limits, ToClient};
use gridloom::{Array, Value};
use gridloom_worker::agent::{Answer, Event, FetchId, Outward, ReplyTo};
use gridloom_worker::block::Block;
use gridloom_worker::cpu::{CodeGenerator, CpuOptions};
use gridloom_worker::executor;
use gridloom_worker::ids::{ArrayId, BlockId, ClientId, JobId, WorkerId};
use gridloom_worker::serve::{DataRoot, Device, Worker, WorkerOptions, executed};
use gridloom_worker::wire::{DeviceClass, FetchError, Parcel};

use super::harness::{Process, Scheduler, eventually, slow};
use crate::simulation::as_read;

/// What is to happen.
struct Script {
    /// In blocks along its only axis.
    array: Array,
    workers: usize,
    kills: Vec<Kill>,
}

/// A worker, counted from 0, dies as soon as it holds so many blocks.
#[derive(Clone, Copy)]
struct Kill {
    worker: usize,
    holds: u64,
}

#[test]
fn a_script_gives_the_same_bits_in_simulation_and_in_processes() {
    let x = slow(90);
    // What is lost is read by several stages, over one and over all blocks.
    let array = &(&x - &x.mean(())) * &x;
    let kills = vec![Kill { worker: 1, holds: 4 }, Kill { worker: 0, holds: 9 }];
    let script = Script { array, workers: 3, kills };
    assert!(simulated(&script) == real(&script), "the bits differ");
}

/// The bytes of the result, as processes compute it.
fn real(script: &Script) -> Vec<u8> {
    let scheduler = Scheduler::start();
    let mut workers: Vec<Option<Process>> =
        (0..script.workers).map(|number| Some(scheduler.worker(&number.to_string(), &[]))).collect();
    let client = scheduler.client();
    let future = client.persist(&script.array).unwrap();
    for kill in &script.kills {
        eventually("it holds enough to die", || {
            scheduler.find(&kill.worker.to_string()).is_some_and(|worker| worker.blocks_held >= kill.holds)
        });
        assert!(!future.is_done(), "too late to be a fault");
        drop(workers[kill.worker].take());
    }
    let value: Value = client.gather(&future).unwrap().wait().unwrap();
    value.bytes().to_vec()
}

/// The same from the machines alone.
fn simulated(script: &Script) -> Vec<u8> {
    let mut world = World::new(script.workers);
    world.submit(&script.array);
    let mut kills = VecDeque::from(script.kills.clone());
    while world.holders.is_none() {
        world.settle();
        if let Some(kill) = kills.front().copied()
            && world.holds(kill.worker) >= kill.holds
        {
            world.kill(kill.worker);
            kills.pop_front();
        } else {
            world.pass_time();
        }
    }
    assert!(kills.is_empty(), "it was over before they struck");
    world.result()
}

const CLIENT: ClientId = ClientId(1);
const JOB: JobId = JobId { client: CLIENT, sequence: 1 };
/// What the clock goes on by whenever nothing is left to be said.
const STEP: Duration = Duration::from_millis(1);

/// A scheduler and workers with real executors, whose messages are encoded and read again.
struct World {
    now: Duration,
    scheduler: scheduler::Scheduler,
    workers: BTreeMap<WorkerId, Worker>,
    finished: Receiver<(WorkerId, executor::Event)>,
    /// Who waits for which answer: a worker's fetch, or nobody but the client.
    asked: BTreeMap<ReplyTo, Option<(WorkerId, FetchId)>>,
    output: Option<ArrayId>,
    holders: Option<Vec<Holding>>,
    fetched: Vec<Block>,
}

fn name(worker: usize) -> WorkerId {
    WorkerId(worker as u64 + 1)
}

/// A worker of one slot that brings what it has computed to `finished`.
fn machine(id: WorkerId, finished: Sender<(WorkerId, executor::Event)>) -> Worker {
    let code_generator = CodeGenerator::default();
    let device = Device::Cpu(CpuOptions { slots: 1, block_timeout: Duration::from_secs(60), code_generator });
    let options = WorkerOptions { device, memory_bytes: 1 << 30, data_root: DataRoot::None };
    Worker::start(options, Box::new(move |event| drop(finished.send((id, event))))).unwrap()
}

impl World {
    fn new(workers: usize) -> World {
        let (finish, finished) = mpsc::channel();
        let mut world = World {
            now: Duration::ZERO,
            scheduler: scheduler::Scheduler::new(Limits::default()),
            workers: (0..workers).map(|worker| (name(worker), machine(name(worker), finish.clone()))).collect(),
            finished,
            asked: BTreeMap::new(),
            output: None,
            holders: None,
            fetched: Vec::new(),
        };
        world.tell_scheduler(scheduler::Event::ClientJoined { client: CLIENT });
        for worker in (0..workers).map(name) {
            let register = as_read(world.workers[&worker].register());
            world.tell_scheduler(scheduler::Event::WorkerJoined { worker, register });
        }
        world
    }

    fn submit(&mut self, array: &Array) {
        let plan = plan::plan(std::slice::from_ref(array), &mut ArrayIds::new(CLIENT)).unwrap();
        self.output = Some(plan.outputs[0].array);
        let message = FromClient::Submit { job: JOB, plan: plan.wire(), classes: vec![DeviceClass::Cpu] };
        self.tell_scheduler(scheduler::Event::Client { client: CLIENT, message: as_read(message) });
    }

    fn holds(&self, worker: usize) -> u64 {
        let workers = self.scheduler.status().workers;
        workers.iter().find(|known| known.worker == name(worker)).map_or(0, |known| known.blocks_held)
    }

    fn kill(&mut self, worker: usize) {
        drop(self.workers.remove(&name(worker)));
        self.tell_scheduler(scheduler::Event::WorkerGone { worker: name(worker) });
    }

    fn tell_scheduler(&mut self, event: scheduler::Event) {
        self.scheduler.handle(self.now, event);
        self.scheduler.check().unwrap();
    }

    fn tell(&mut self, worker: WorkerId, event: Event<Block>) {
        if let Some(machine) = self.workers.get_mut(&worker) {
            machine.handle(self.now, event);
        }
    }

    /// Carries messages until there are none.
    fn settle(&mut self) {
        loop {
            if let Some(action) = self.scheduler.poll() {
                match action {
                    scheduler::Action::ToWorker { worker, message } => {
                        self.tell(worker, Event::Scheduler(as_read(message)));
                    }
                    scheduler::Action::ToClient { message, .. } => self.tell_client(as_read(message)),
                }
                continue;
            }
            let outward = self.workers.iter_mut().find_map(|(&worker, machine)| Some((worker, machine.poll()?)));
            match outward {
                Some((worker, outward)) => self.carry(worker, outward),
                None => return,
            }
        }
    }

    fn tell_client(&mut self, message: ToClient) {
        match message {
            ToClient::ArrayDone { array, holders, .. } if Some(array) == self.output => self.holders = Some(holders),
            ToClient::JobFailed { error, .. } => panic!("{error}"),
            _ => {}
        }
    }

    fn carry(&mut self, worker: WorkerId, outward: Outward<Block>) {
        match outward {
            Outward::Send(message) => {
                self.tell_scheduler(scheduler::Event::Worker { worker, message: as_read(message) })
            }
            Outward::Fetch { fetch, holder, parcel, field, region } => match self.workers.contains_key(&holder) {
                true => {
                    let from = self.ask(Some((worker, fetch)));
                    self.tell(holder, Event::Fetch { from, parcel, field, region });
                }
                false => self.tell(worker, Event::Fetched { fetch, result: Err(FetchError::Unreachable) }),
            },
            Outward::Reply { to, answer } => {
                self.tell(worker, Event::Replied { to });
                match (self.asked.remove(&to).unwrap(), answer) {
                    (Some((asker, fetch)), Answer::Data(parts)) => {
                        self.tell(asker, Event::Fetched { fetch, result: Ok(parts) });
                    }
                    (None, Answer::Data(parts)) => {
                        self.fetched.extend(parts.into_iter().map(|part| part.unwrap().data))
                    }
                    (_, answer) => panic!("{answer:?}"),
                }
            }
            Outward::Peer { .. } | Outward::PeerGone { .. } | Outward::Close => {}
        }
    }

    fn ask(&mut self, asker: Option<(WorkerId, FetchId)>) -> ReplyTo {
        let reply = ReplyTo(self.asked.last_key_value().map_or(0, |(last, _)| last.0 + 1));
        self.asked.insert(reply, asker);
        reply
    }

    /// A task ends, or none does: time passes.
    fn pass_time(&mut self) {
        let finished = self.finished.recv_timeout(STEP);
        self.now += STEP;
        if let Ok((worker, event)) = finished {
            self.tell(worker, executed(event));
        }
        self.tell_scheduler(scheduler::Event::Tick);
        for worker in self.workers.keys().copied().collect::<Vec<_>>() {
            self.tell(worker, Event::Tick);
        }
    }

    /// The result's bytes, fetched block by block.
    fn result(mut self) -> Vec<u8> {
        let array = self.output.unwrap();
        let mut holders = self.holders.take().unwrap();
        holders.sort_by_key(|holding| holding.blocks.start);
        for Holding { blocks, worker } in holders {
            for index in blocks.indices() {
                let (from, parcel) = (self.ask(None), Parcel::one(BlockId { array, index }));
                self.tell(worker, Event::Fetch { from, parcel, field: 0, region: None });
                self.settle();
            }
        }
        self.fetched.iter().flat_map(|block| block.bytes().to_vec()).collect()
    }
}
