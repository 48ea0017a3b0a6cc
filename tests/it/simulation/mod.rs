//! The production scheduler and agents on a virtual clock and a faulty network, everything drawn from one seed.
//!
//! A block's payload is the count of source blocks that went into it, and is compared with a direct recursive
//! evaluation of the plan: that each input counts exactly once is proven for every block a client reads. First
//! *safety* under faults (invariants after every step, right operands, right results), then *liveness* after healing
//! (every job ends, everything there can be read), then what is held is exactly what is pinned, then nothing is left.
//!
//! A failure prints its seed. To run one again, or many:
//! ```text
//! GRIDLOOM_SEED=17 cargo test --release --test it simulation::seeds
//! GRIDLOOM_SEEDS=1000000 cargo test --release --test it simulation::seeds -- --nocapture
//! ```

// Tests may say what they measured.
#![allow(clippy::print_stderr)]

mod chance;
mod client;
mod data;
mod peers;
mod plans;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gridloom::scheduler::{Event, FromClient, JobError, Limits, Mutant};
use gridloom_worker::ids::{BlockId, ClientId};

use chance::Chance;
use client::{Client, Step};
use world::{Arrival, Party, World};

pub(crate) use world::as_read;

const SEEDS: u64 = 1000;

/// What must have happened in as many seeds.
const FAULTS: [&str; 19] = [
    "ahead",
    "cancelled",
    "close",
    "duplicate",
    "execute",
    "failed",
    "free",
    "keep",
    "killed",
    "leaving",
    "lost",
    "memory",
    "missing",
    "refused",
    "result",
    "taken",
    "taken late",
    "unreachable",
    "worker gone",
];

/// What a seed came to.
#[derive(Default)]
struct Summary {
    jobs: u64,
    failed: u64,
    compared: u64,
    deaths: u64,
    steps: u64,
    errors: BTreeMap<&'static str, u64>,
    said: BTreeMap<&'static str, u64>,
}

impl Summary {
    fn add(&mut self, other: Summary) {
        self.jobs += other.jobs;
        self.failed += other.failed;
        self.compared += other.compared;
        self.deaths += other.deaths;
        self.steps += other.steps;
        other.errors.into_iter().for_each(|(name, count)| *self.errors.entry(name).or_default() += count);
        other.said.into_iter().for_each(|(name, count)| *self.said.entry(name).or_default() += count);
    }
}

/// Runs one seed to its end.
fn simulate(seed: u64, mutant: Option<Mutant>, check_every: u64) -> Result<Summary, String> {
    let seconds = Duration::from_secs;
    let limits = Limits { progress_interval: Duration::from_millis(7), ..Limits::default() };
    let mut world = World::new(Chance::new(seed), limits, mutant, check_every);
    let faulty_for = world.chance.time(Duration::from_millis(50), seconds(10));
    cast(&mut world, faulty_for);
    while world.next_time().is_some_and(|at| at < faulty_for) {
        world.step()?;
    }
    world.healed = true;
    world.now = faulty_for.max(world.now);
    world.join(true);
    let deadline = world.now + seconds(400);
    while !world.clients.values().all(Client::is_done) {
        if world.now > deadline || !world.step()? {
            let waiting: Vec<String> = world.clients.values().map(Client::waits_for).collect();
            return Err(format!("not live at {:?}: still waiting for {}", world.now, waiting.join("; ")));
        }
    }
    settle(&mut world)?;
    check_held(&world)?;
    let summary = sum_up(&world)?;
    close(&mut world)?;
    Ok(summary)
}

/// Who takes part, and what befalls them while there are faults.
fn cast(world: &mut World, faulty_for: Duration) {
    for _ in 0..world.chance.between(1, 4) {
        world.join(false);
    }
    let when = |world: &mut World| {
        Duration::from_secs_f64(faulty_for.as_secs_f64() * world.chance.below(1000) as f64 / 1000.0)
    };
    for _ in 0..world.chance.below(6) {
        let at = when(world);
        match world.chance.below(4) {
            0 => world.at(at, Arrival::Join),
            kind => {
                let worker = gridloom_worker::ids::WorkerId(world.chance.between(1, 6));
                world.at(at, if kind == 3 { Arrival::Leave(worker) } else { Arrival::Kill(worker) });
                let back = at + world.chance.time(Duration::from_millis(1), Duration::from_secs(3));
                world.at(back, Arrival::Join);
            }
        }
    }
    let clients = world.chance.between(1, 2);
    // Mostly small, so that many seeds are run; some large enough that runs have many blocks.
    let (length_max, steps_max, rarely) = match world.chance.below(100) {
        0..75 => (14, 6, 1),
        75..97 => (40, 10, 8),
        _ => (500, 4, 100),
    };
    world.check_every = world.check_every.saturating_mul(rarely);
    for id in 1..=clients {
        let mut client = Client::new(ClientId(id), length_max);
        let id = client.id;
        world.send(Party::Client(id), Party::Scheduler, Arrival::Scheduler(Event::ClientJoined { client: id }));
        for at in 0..world.chance.between(1, steps_max) {
            let at = if at == 0 { Duration::from_millis(1) } else { when(world) };
            let step = match world.chance.below(10) {
                0..2 => Step::Scatter,
                2..8 => Step::Submit,
                8 => Step::CancelSome,
                _ => Step::ReleaseSome,
            };
            client.plan_step(world, at, step);
        }
        world.clients.insert(id, client);
    }
    if clients == 2 && world.chance.permille(300) {
        let at = when(world);
        world.at(at, Arrival::Crash(ClientId(2)));
    }
}

/// Lets everything end that is on its way.
fn settle(world: &mut World) -> Result<(), String> {
    // A client that crashed is forgotten after half a minute.
    let until = world.now + Duration::from_secs(100);
    while world.next_time().is_some_and(|at| at <= until) {
        world.step()?;
    }
    world.now = world.now.max(until);
    world.scheduler.check().map_err(|what| format!("the scheduler's state at rest: {what}"))
}

/// What is held is what is pinned.
fn check_held(world: &World) -> Result<(), String> {
    if !world.is_quiet() {
        return Err(format!("something still happens although all is done: {}", world.pending()));
    }
    let pinned: BTreeSet<BlockId> = world.clients.values().flat_map(Client::pinned).collect();
    let mut held = BTreeSet::new();
    for (worker, process) in &world.workers {
        held.extend(process.agent.store().block_ids());
        if !process.agent.is_idle() || process.agent.store().reserved_bytes() > 0 {
            return Err(format!("{worker} is not idle although all is done"));
        }
    }
    // What a client put somewhere in vain stays until the client goes.
    let planned = |block: &BlockId| world.oracle.stages.contains_key(&block.array);
    let leaked: Vec<BlockId> = held.difference(&pinned).copied().filter(planned).collect();
    let missing: Vec<&BlockId> = pinned.difference(&held).collect();
    match (leaked.is_empty(), missing.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => Err(format!("held and not pinned: {leaked:?}")),
        (_, false) => Err(format!("pinned and not held: {missing:?}")),
    }
}

/// Jobs fail only for reasons that were given.
fn sum_up(world: &World) -> Result<Summary, String> {
    let said = world.said.clone();
    let mut summary = Summary { deaths: world.deaths, steps: world.steps, said, ..Summary::default() };
    for client in world.clients.values() {
        summary.jobs += client.jobs.len() as u64;
        summary.compared += client.compared;
        summary.failed += client.jobs.values().filter(|end| matches!(end, Some(Err(_)))).count() as u64;
        for error in &client.errors {
            let (name, excused) = excuse(world, error);
            *summary.errors.entry(name).or_default() += 1;
            if !excused {
                return Err(format!("no reason for: {error} ({error:?})"));
            }
        }
    }
    Ok(summary)
}

fn excuse(world: &World, error: &JobError) -> (&'static str, bool) {
    let faults = &world.faults;
    match error {
        JobError::Execute { block, .. } => {
            ("execute", faults.poison.contains(block) || faults.execute > 0 || faults.blind > 0)
        }
        JobError::BlockLost { block } => ("lost", !world.oracle.stages.contains_key(&block.array)),
        JobError::WorkerKilled { block, deaths, story } => {
            ("killed", *deaths == 3 && !story.is_empty() && (faults.killer.contains(block) || world.deaths >= 3))
        }
        JobError::Memory { .. } => ("memory", faults.tight),
        JobError::Cancelled => ("cancelled", true),
        JobError::UnknownArray { .. } => ("unknown", true),
        _ => ("other", false),
    }
}

/// The clients go; nothing is left of them.
fn close(world: &mut World) -> Result<(), String> {
    for client in world.clients.keys().copied().collect::<Vec<_>>() {
        let event = Event::Client { client, message: FromClient::Close };
        world.send(Party::Client(client), Party::Scheduler, Arrival::Scheduler(event));
    }
    settle(world)?;
    if !world.scheduler.is_empty() || world.scheduler.state_bytes() > 0 {
        return Err("the scheduler still knows something after all clients went".to_owned());
    }
    for (worker, process) in &world.workers {
        if process.agent.store().used_bytes() > 0 || process.agent.stage_count() > 0 {
            let left: Vec<BlockId> = process.agent.store().block_ids().collect();
            return Err(format!("{worker} still holds {left:?} after all clients went"));
        }
    }
    Ok(())
}

/// The same, with panics as errors.
fn attempt(seed: u64, mutant: Option<Mutant>, check_every: u64) -> Result<Summary, String> {
    let caught = catch_unwind(AssertUnwindSafe(|| simulate(seed, mutant, check_every)));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn seeds() {
    let seeds = match environment("GRIDLOOM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..environment("GRIDLOOM_SEEDS").unwrap_or(SEEDS),
    };
    let check_every = if seeds.end - seeds.start == 1 { 1 } else { 5 };
    // The tests share the machine; who asks for more seeds wants all of it.
    let threads = match environment("GRIDLOOM_SEEDS") {
        Some(_) => std::thread::available_parallelism().map_or(1, usize::from),
        None => 1,
    };
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut total = Summary::default();
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed)) {
            let summary = attempt(seed, None, check_every)
                .unwrap_or_else(|what| panic!("seed {seed}: {what}\nrun it again with GRIDLOOM_SEED={seed}"));
            total.add(summary);
        }
        total
    };
    let mut total = Summary::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| total.add(thread.join().expect("a seed failed: its number is above")));
    });
    let Summary { jobs, failed, compared, deaths, steps, errors, said } = total;
    eprintln!("{seeds:?}: {jobs} jobs ({failed} failed), {compared} blocks right, {deaths} deaths, {steps} steps");
    eprintln!("{errors:?}\n{said:?}");
    if seeds.end - seeds.start >= SEEDS {
        assert!(failed < jobs / 3, "most jobs survive");
        let fired = |what: &&str| said.contains_key(what) || errors.contains_key(what);
        let missed: Vec<&str> = FAULTS.into_iter().filter(|what| !fired(what)).collect();
        assert!(missed.is_empty(), "never happened: {missed:?}");
    }
}

/// A scheduler that is wrong in one way is found out.
#[track_caller]
fn check_mutant(mutant: impl Fn(u64) -> Mutant) {
    let found = (0..SEEDS).find_map(|seed| Some((seed, attempt(seed, Some(mutant(seed)), u64::MAX).err()?)));
    assert!(found.is_some(), "{:?} goes unnoticed", mutant(0));
    eprintln!("{:?}: {found:?}", mutant(0));
}

#[test]
fn a_dropped_completion_is_caught() {
    check_mutant(|seed| Mutant::DropCompletion(1 + seed % 20));
}

#[test]
fn a_duplicate_taken_as_new_is_caught() {
    check_mutant(|_| Mutant::AcceptDuplicate);
}

#[test]
fn a_skipped_derivation_is_caught() {
    check_mutant(|_| Mutant::SkipDerivation);
}

#[test]
fn a_derivation_of_what_was_taken_is_caught() {
    check_mutant(|_| Mutant::DeriveTaken);
}
