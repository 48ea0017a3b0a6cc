//! What deciding costs: CPU per block and bytes of state per block, for plans of millions of blocks.
//!
//! Two workers are stood for by the least that can be (scheduler alone) or by production agents (both). The bound on
//! state is asserted; times depend on the machine and on the build, so they are only printed.

// Tests may say what they measured.
#![allow(clippy::print_stderr)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gridloom::scheduler::{Action, Event, FromClient, Limits, Scheduler, ToClient};
use gridloom_worker::agent::{self, Agent, Payload};
use gridloom_worker::block::{Item, SmallBlock};
use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, ClientId, JobId, WorkerId};
use gridloom_worker::intervals::Interval;
use gridloom_worker::shape::Shape;
use gridloom_worker::stage::{Body, Fold, Leaf, Map, Piece, Program, ReduceOp, Reduction, Source, Stage};
use gridloom_worker::view::View;
use gridloom_worker::wire::{DeviceClass, FromWorker, Plan, Register, ToWorker};

const CLIENT: ClientId = ClientId(1);

fn array(sequence: u64) -> ArrayId {
    ArrayId { client: CLIENT, sequence }
}

fn stage(sequence: u64, body: Body) -> Arc<Stage> {
    let outputs = vec![Item::Value(DType::F64)];
    Arc::new(Stage { array: array(sequence), body, outputs, bytes_output: 8, bytes_peak: 16 })
}

/// One element a block, read block by block from what is given.
fn map(sequence: u64, inputs: &[u64], blocks: u64, chunk: u64) -> Arc<Stage> {
    let shape: Shape = [blocks].into_iter().collect();
    let grid = Grid::regular(&shape, &[chunk]);
    let source = |&input: &u64| Source::Array { array: array(input), field: 0, grid: Grid::regular(&shape, &[1]) };
    let piece = |input| Piece { source: source(input), view: View::identity(&shape) };
    let mut leaves: Vec<Leaf> =
        inputs.iter().map(|input| Leaf { dtype: DType::F64, pieces: vec![piece(input)] }).collect();
    if leaves.is_empty() {
        let zero = Piece { source: Source::Constant(Scalar::F64(0.0)), view: View::identity(&shape) };
        leaves.push(Leaf { dtype: DType::F64, pieces: vec![zero] });
    }
    stage(sequence, Body::Map(Map { grid, leaves, program: Program::identity(), reduce: None }))
}

fn fold(sequence: u64, input: u64, count: u64) -> Arc<Stage> {
    let reduction = Reduction { op: ReduceOp::Sum, inputs: vec![DType::F64] };
    let kept = Grid { axes: Vec::new() };
    stage(sequence, Body::Fold(Fold { input: array(input), reduction, kept, count, fan_in: 64, finish: false }))
}

/// Two workers with two slots each.
fn scheduler() -> Scheduler {
    let mut scheduler = Scheduler::new(Limits::default());
    for worker in [WorkerId(1), WorkerId(2)] {
        let register = Register::of_cpu("simulated", 2, 1 << 40);
        scheduler.handle(Duration::ZERO, Event::WorkerJoined { worker, register });
    }
    scheduler.handle(Duration::ZERO, Event::ClientJoined { client: CLIENT });
    scheduler
}

fn submit(scheduler: &mut Scheduler, stages: Vec<Arc<Stage>>) -> Duration {
    let start = Instant::now();
    let outputs = vec![stages[stages.len() - 1].array];
    let plan = Plan { kernels: Vec::new(), stages, outputs };
    let (job, classes) = (JobId { client: CLIENT, sequence: 1 }, vec![DeviceClass::Cpu]);
    let message = FromClient::Submit { job, plan, classes };
    scheduler.handle(Duration::ZERO, Event::Client { client: CLIENT, message });
    start.elapsed()
}

struct Cost {
    first: Duration,
    cpu: Duration,
    state_bytes_max: usize,
}

/// Runs a plan to its end; each worker reports once a millisecond, with two slots out of step.
fn run_alone(stages: Vec<Arc<Stage>>) -> Cost {
    let mut scheduler = scheduler();
    let first = submit(&mut scheduler, stages);
    let mut handed: BTreeMap<WorkerId, VecDeque<(ArrayId, Interval)>> = BTreeMap::new();
    let (mut now, mut cpu, mut state_bytes_max, mut ended) = (Duration::ZERO, Duration::ZERO, 0, false);
    while !ended {
        let start = Instant::now();
        while let Some(action) = scheduler.poll() {
            match action {
                Action::ToWorker { worker, message: ToWorker::Run(run) } => {
                    handed.entry(worker).or_default().push_back((run.array, run.blocks));
                }
                Action::ToClient { message: ToClient::JobDone { .. }, .. } => ended = true,
                Action::ToClient { message: ToClient::JobFailed { error, .. }, .. } => panic!("{error}"),
                Action::ToWorker { .. } | Action::ToClient { .. } => {}
            }
        }
        cpu += start.elapsed();
        now += Duration::from_micros(500);
        assert!(ended || handed.values().any(|runs| !runs.is_empty()), "nothing is handed out");
        for (&worker, runs) in &mut handed {
            let mut room = 500;
            let mut done: BTreeMap<ArrayId, Vec<Interval>> = BTreeMap::new();
            while room > 0
                && let Some((array, blocks)) = runs.front_mut()
            {
                let part = Interval::new(blocks.start, blocks.end.min(blocks.start + room));
                room -= part.count();
                blocks.start = part.end;
                done.entry(*array).or_default().push(part);
                if blocks.is_empty() {
                    runs.pop_front();
                }
            }
            for (array, blocks) in done {
                let count: u64 = blocks.iter().map(|blocks| blocks.count()).sum();
                let busy = Duration::from_micros(count * 2);
                let message = FromWorker::Done { array, blocks, bytes: count * 8, busy, result: None };
                let start = Instant::now();
                scheduler.handle(now, Event::Worker { worker, message });
                cpu += start.elapsed();
            }
        }
        state_bytes_max = state_bytes_max.max(scheduler.state_bytes());
    }
    Cost { first, cpu, state_bytes_max }
}

#[track_caller]
fn check(name: &str, blocks: u64, stages: Vec<Arc<Stage>>) {
    let Cost { first, cpu, state_bytes_max } = run_alone(stages);
    let micros = cpu.as_secs_f64() * 1e6 / blocks as f64;
    eprintln!("{name}: {blocks} blocks, first runs after {first:?}, {micros:.3} us and {state_bytes_max} bytes in all");
    assert!(state_bytes_max < 20_000.max(blocks as usize / 10), "{name}: {state_bytes_max} bytes of state");
}

#[test]
fn ten_million_blocks_cost_a_handful_of_intervals() {
    const BLOCKS: u64 = 10_000_000;
    check("map", BLOCKS, vec![map(1, &[], BLOCKS, 1)]);
}

#[test]
fn dependent_stages_cost_little_more() {
    const BLOCKS: u64 = 1_000_000;
    check("map, map", 2 * BLOCKS, vec![map(1, &[], BLOCKS, 1), map(2, &[1], BLOCKS, 1)]);
    check("map, fold", BLOCKS, vec![map(1, &[], BLOCKS, 1), fold(2, 1, BLOCKS)]);
    check("map, rechunk", 150_000, vec![map(1, &[], 100_000, 1), map(2, &[1], 100_000, 2)]);
}

#[derive(Clone)]
struct Nothing;

impl Payload for Nothing {
    fn bytes(&self) -> u64 {
        8
    }

    fn small(_: &[Nothing]) -> Option<SmallBlock> {
        None
    }
}

#[test]
fn scheduler_and_agents_together_stay_cheap() {
    const BLOCKS: u64 = 300_000;
    let mut scheduler = scheduler();
    submit(&mut scheduler, vec![map(1, &[], BLOCKS, 1), fold(2, 1, BLOCKS)]);
    let mut agents: BTreeMap<WorkerId, Agent<Nothing>> =
        [1, 2].map(|worker| (WorkerId(worker), Agent::new(1 << 40))).into();
    let mut now = Duration::ZERO;
    let start = Instant::now();
    let mut ended = false;
    while !ended {
        while let Some(action) = scheduler.poll() {
            match action {
                Action::ToWorker { worker, message } => {
                    let agent = agents.get_mut(&worker).unwrap();
                    agent.handle(now, agent::Event::Scheduler(message));
                }
                Action::ToClient { message: ToClient::JobFailed { error, .. }, .. } => panic!("{error}"),
                Action::ToClient { message, .. } => ended |= matches!(message, ToClient::JobDone { .. }),
            }
        }
        now += Duration::from_micros(100);
        let mut others: Vec<(WorkerId, FromWorker)> = Vec::new();
        let mut fetches = Vec::new();
        for (&worker, agent) in &mut agents {
            agent.handle(now, agent::Event::Tick);
            let mut budget = 200;
            while budget > 0
                && let Some(action) = agent.poll()
            {
                match action {
                    agent::Action::Out(agent::Outward::Send(message)) => others.push((worker, message)),
                    agent::Action::Start(start) => {
                        budget -= 1;
                        let (result, busy) = (Ok(vec![Nothing]), Duration::from_micros(1));
                        agent.handle(now, agent::Event::Finished { token: start.token, result, busy });
                    }
                    agent::Action::Out(agent::Outward::Fetch { fetch, parcel, .. }) => {
                        fetches.push((worker, fetch, parcel.blocks.count()));
                    }
                    _ => {}
                }
            }
        }
        for (worker, fetch, count) in fetches {
            let part = agent::Part { data: Nothing, region: None };
            let result = Ok(vec![Some(part); count as usize]);
            agents.get_mut(&worker).unwrap().handle(now, agent::Event::Fetched { fetch, result });
        }
        for (worker, message) in others {
            scheduler.handle(now, Event::Worker { worker, message });
        }
    }
    let micros = start.elapsed().as_secs_f64() * 1e6 / BLOCKS as f64;
    eprintln!("scheduler and agents: {micros:.3} us per block");
    assert!(agents.values().all(Agent::is_idle), "an agent is still at work");
}

#[test]
fn many_small_jobs_at_once_cost_no_more_each() {
    let cost = |jobs: u64| {
        let mut scheduler = scheduler();
        let start = Instant::now();
        for sequence in 1..=jobs {
            let stages = vec![map(sequence, &[], 1, 1)];
            let plan = Plan { kernels: Vec::new(), outputs: vec![array(sequence)], stages };
            let (job, classes) = (JobId { client: CLIENT, sequence }, vec![DeviceClass::Cpu]);
            let message = FromClient::Submit { job, plan, classes };
            scheduler.handle(Duration::ZERO, Event::Client { client: CLIENT, message });
        }
        let (mut now, mut ended, mut messages) = (Duration::ZERO, 0, 0);
        while ended < jobs {
            now += Duration::from_micros(10);
            let mut done = Vec::new();
            while let Some(action) = scheduler.poll() {
                messages += 1;
                match action {
                    Action::ToWorker { worker, message: ToWorker::Run(run) } => done.push((worker, run)),
                    Action::ToClient { message: ToClient::JobDone { .. }, .. } => ended += 1,
                    Action::ToWorker { .. } | Action::ToClient { .. } => {}
                }
            }
            for (worker, run) in done {
                let (blocks, busy) = (vec![run.blocks], Duration::from_micros(1));
                let message = FromWorker::Done { array: run.array, blocks, bytes: 8, busy, result: None };
                scheduler.handle(now, Event::Worker { worker, message });
            }
        }
        let micros = start.elapsed().as_secs_f64() * 1e6 / jobs as f64;
        eprintln!("{jobs} jobs of one block at once: {micros:.1} us and {} messages each", messages / jobs);
        messages / jobs
    };
    let (few, many) = (cost(1_000), cost(10_000));
    assert!(many <= few, "{few} messages for each of a thousand, {many} of ten thousand");
}

#[test]
fn a_chain_costs_its_length() {
    let blocks = 300;
    let mut stages = vec![map(1, &[], 1, 1)];
    stages.extend((2..=blocks).map(|sequence| map(sequence, &[sequence - 1], 1, 1)));
    let Cost { cpu, state_bytes_max, .. } = run_alone(stages);
    eprintln!("a chain of {blocks}: {:.1} us each", cpu.as_secs_f64() * 1e6 / blocks as f64);
    assert!(state_bytes_max < 4_000 * blocks as usize, "{state_bytes_max} bytes of state");
}
