//! What the engine costs, each row beside its floor, in one run.
//!
//! `cargo bench --bench engine [-- latency map processes scheduler lesson]`; `GRIDLOOM_SIDE=1000` is the lesson's side.
//! `processes` is `latency` and `map` again on two workers that are processes of one thread, after the floor of both: a
//! word there and back between two processes.

#![allow(clippy::print_stdout, reason = "its output is for people")]

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use gridloom::cluster::ClusterOptions;
use gridloom::plan::ArrayIds;
use gridloom::scheduler::{Action, Event, FromClient, Limits, Scheduler, ToClient};
use gridloom::{Array, DType, Future, Kernel, LocalCluster, Reduce, Value, host, plan};
use gridloom_worker::dtype::Element;
use gridloom_worker::ids::{ClientId, JobId, WorkerId};
use gridloom_worker::net::identity::{Authority, Role};
use gridloom_worker::net::{Control, Dialer, Received, Server, Session};
use gridloom_worker::source::philox::{Philox, Uniform};
use gridloom_worker::wire::{DeviceClass, FromWorker, Register, ToWorker};

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Row = fn() -> Outcome;

fn main() -> Outcome {
    if let Ok(scheduler) = std::env::var(PINGS) {
        return ping(&scheduler);
    }
    let embedded = [("latency", latency as Row), ("map", map)];
    let rows = [("processes", processes as Row), ("scheduler", scheduler), ("lesson", lesson)];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    println!("| work | measured | floor or target | ratio |\n|---|---|---|---|");
    for (name, row) in embedded.into_iter().chain(rows) {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            row()?;
        }
    }
    Ok(())
}

/// The Dask lesson: mean over the last axis of ten random cubes, against the bare generator on as many threads.
fn lesson() -> Outcome {
    let side: u64 = std::env::var("GRIDLOOM_SIDE").map_or(Ok(1000), |side| side.parse())?;
    lesson_of::<f64>(side)?;
    lesson_of::<f32>(side)?;
    println!("| peak memory of all of it | {:.0} MB | | |", host::memory_peak_bytes().unwrap_or(0) as f64 / 1e6);
    Ok(())
}

fn lesson_of<T: Element + Uniform>(side: u64) -> Outcome {
    let client = LocalCluster::start()?.client();
    let parts = (0..10).map(|k| Array::random([side, side, side]).with_dtype(T::DTYPE).stream(k));
    let mean = Array::concatenate(parts, 0).mean(-1);
    let begun = Instant::now();
    let value: Value = client.compute(&mean)?.wait()?;
    let taken = begun.elapsed().as_secs_f64();
    std::hint::black_box(&value);
    client.close()?;
    let elements = 10 * side * side * side;
    let floor = generate::<T>(elements).as_secs_f64();
    println!(
        "| mean over the last axis of 10 x {side}^3 random {} | {taken:.2} s, {:.2} G elements/s \
         | the bare generator: {floor:.2} s | {:.2} of its rate |",
        T::DTYPE,
        elements as f64 / taken / 1e9,
        floor / taken,
    );
    Ok(())
}

/// How long the generator alone takes for that many elements, a tile at a time, on every core.
fn generate<T: Element + Uniform>(elements: u64) -> Duration {
    let philox = Philox::new(0, 0);
    let threads = host::cores() as u64;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut tile = [T::default(); 2048];
                let share = elements / threads;
                for first in (thread * share..(thread + 1) * share).step_by(tile.len()) {
                    philox.fill(first, std::hint::black_box(&mut tile[..]));
                }
            });
        }
    });
    begun.elapsed()
}

fn latency() -> Outcome {
    latency_of(&LocalCluster::options(), 20.0, 0.05)
}

fn map() -> Outcome {
    map_of(&LocalCluster::options())
}

/// The same where every message goes through QUIC.
fn processes() -> Outcome {
    round_trip()?;
    let options = LocalCluster::options().processes(true).workers(2).threads(NonZeroUsize::MIN);
    latency_of(&options, 150.0, 0.3)?;
    map_of(&options)
}

/// Tells another process of this program which scheduler it is to ping.
const PINGS: &str = "GRIDLOOM_BENCH_PINGS";
const PINGS_COUNT: u32 = 10_000;

/// A word there and back between two processes, over QUIC and TLS as all words go: nothing that needs an answer of a
/// worker is faster.
fn round_trip() -> Outcome {
    let authority = Arc::new(Authority::new()?);
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(any_port, Arc::clone(&authority), |session| drop(answers(session, Some)))?;
    let mut other = Command::new(std::env::current_exe()?);
    other.env(PINGS, server.address().to_string()).env("GRIDLOOM_TOKEN", authority.token().reveal());
    let said = String::from_utf8(other.output()?.stdout)?;
    let median_us: f64 = said.trim().parse()?;
    println!("| a word there and back between two processes | p50 {median_us:.1} us | | |");
    Ok(())
}

/// The other process: says how many microseconds a round trip takes.
fn ping(scheduler: &str) -> Outcome {
    let (token, dialer) = (gridloom::client::find_token(None)?, Dialer::new()?);
    let identity = dialer.join(scheduler, &token, Role::Client)?;
    let (done, median_us) = mpsc::channel();
    let (mut times_us, mut asked) = (Vec::new(), Instant::now());
    let next = move |number| {
        times_us.push(asked.elapsed().as_secs_f64() * 1e6);
        asked = Instant::now();
        if number < PINGS_COUNT {
            return Some(number + 1);
        }
        times_us.sort_by(f64::total_cmp);
        done.send(times_us[times_us.len() / 2]).ok().and(None)
    };
    let control = answers(dialer.connect(scheduler, &identity)?, next);
    control.lock().expect("nobody panics").iter().try_for_each(|control| control.send(&1))?;
    println!("{}", median_us.recv()?);
    Ok(())
}

type Speaker = Arc<Mutex<Option<Control<u32>>>>;

/// Answers every number, on the network's own thread.
fn answers(session: Session, mut answer: impl FnMut(u32) -> Option<u32> + Send + 'static) -> Speaker {
    let speaker = Speaker::default();
    let speaks = Arc::clone(&speaker);
    let mut held = speaker.lock().expect("nobody panics");
    *held = Some(session.start::<u32, u32>(move |received| {
        let mut speaks = speaks.lock().expect("nobody panics");
        match received {
            Received::Message(number) => {
                let answer = answer(number);
                speaks.iter().zip(answer).for_each(|(control, answer)| drop(control.send(&answer)));
            }
            Received::Closed(_) => drop(speaks.take()),
        }
    }));
    drop(held);
    speaker
}

/// `client.map` of many no-op tasks and the sum of their futures.
fn map_of(options: &ClusterOptions) -> Outcome {
    let client = options.clone().start()?.client();
    let inc = Kernel::element("fn inc(x: i64) -> i64 { return x + 1; }")?;
    for tasks in [10_000i64, 100_000, 1_000_000] {
        let begun = Instant::now();
        let futures = client.map(&inc, 0..tasks)?;
        let total: i64 = client.submit(Reduce::Sum, &futures)?.wait()?;
        let taken = begun.elapsed().as_secs_f64();
        assert_eq!(total, tasks * (tasks + 1) / 2);
        let rate = tasks as f64 / taken;
        println!(
            "| client.map of {tasks} tasks, then submit(sum) | {taken:.3} s, {rate:.0} tasks/s | >= 100000 tasks/s \
             | {:.2} |",
            rate / 1e5
        );
    }
    client.close()?;
    Ok(())
}

/// From submit to result, cold and warm; what is wanted of both, in milliseconds.
fn latency_of(options: &ClusterOptions, cold_ms: f64, warm_ms: f64) -> Outcome {
    let small = Array::ones([10]).sum(());
    let (mut cold, mut closed): (Vec<f64>, Vec<f64>) = Default::default();
    for _ in 0..21 {
        let begun = Instant::now();
        let client = options.clone().start()?.client();
        let _: f64 = client.compute(&small)?.wait()?;
        cold.push(begun.elapsed().as_secs_f64() * 1e3);
        let closing = Instant::now();
        client.close()?;
        closed.push(closing.elapsed().as_secs_f64() * 1e3);
    }
    [&mut cold, &mut closed].into_iter().for_each(|times| times.sort_by(f64::total_cmp));
    let (cold, closed) = (cold[10], closed[10]);
    println!("| cluster start to the first small result | {cold:.2} ms | <= {cold_ms} ms | {:.3} |", cold / cold_ms);
    println!("| close | {closed:.2} ms | | |");

    let client = options.clone().start()?.client();
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..5000 {
        let begun = Instant::now();
        let _: f64 = client.compute(&small)?.wait()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let (p50, p99) = (times[2500], times[4950]);
    println!("| submit -> result, warm | p50 {p50:.4} ms, p99 {p99:.4} ms | <= {warm_ms} ms | {:.2} |", p50 / warm_ms);

    let inc = Kernel::element("fn inc(x: i64) -> i64 { return x + 1; }")?;
    let begun = Instant::now();
    let mut chain: Future<i64> = client.submit(&inc, &Array::full((), 0i64))?;
    for _ in 1..300 {
        chain = client.submit(&inc, &chain)?;
    }
    assert_eq!(chain.wait()?, 300);
    let taken = begun.elapsed().as_secs_f64();
    println!("| chain of 300 dependent tasks | {taken:.4} s | <= 0.05 s | {:.2} |", taken / 0.05);
    client.close()?;
    Ok(())
}

/// The scheduler alone: ten million blocks over two simulated workers, and the time to the first runs.
fn scheduler() -> Outcome {
    let client = ClientId(1);
    let blocks = 10_000_000u64;
    let begun = Instant::now();
    let x = Array::random([blocks * 10]).with_dtype(DType::F32).chunks([10]);
    let y = x.map_blocks(&Kernel::element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }")?);
    let plan = plan::plan(&[y], &mut ArrayIds::new(client))?;
    let mut scheduler = Scheduler::new(Limits::default());
    let mut now = Duration::ZERO;
    scheduler.handle(now, Event::ClientJoined { client });
    for worker in [1, 2] {
        let register = Register::of_cpu("simulated", 1, 8 << 30);
        scheduler.handle(now, Event::WorkerJoined { worker: WorkerId(worker), register });
    }
    let job = JobId { client, sequence: 0 };
    let submit = FromClient::Submit { job, plan: plan.wire(), classes: vec![DeviceClass::Cpu] };
    scheduler.handle(now, Event::Client { client, message: submit });

    let (mut first, mut state_bytes, mut done) = (None, 0, false);
    while !done {
        let Some(action) = scheduler.poll() else {
            now = scheduler.next_timeout().ok_or("the scheduler waits for nothing")?.max(now);
            scheduler.handle(now, Event::Tick);
            continue;
        };
        match action {
            Action::ToWorker { worker, message: ToWorker::Run(run) } => {
                first.get_or_insert(begun.elapsed());
                let busy = Duration::from_micros(run.blocks.count());
                now += busy;
                let bytes = 40 * run.blocks.count();
                let message =
                    FromWorker::Done { array: run.array, blocks: vec![run.blocks], bytes, busy, result: None };
                scheduler.handle(now, Event::Worker { worker, message });
                state_bytes = state_bytes.max(scheduler.state_bytes());
            }
            Action::ToClient { message: ToClient::JobDone { .. }, .. } => done = true,
            Action::ToWorker { .. } | Action::ToClient { .. } => {}
        }
    }
    let each = begun.elapsed().as_secs_f64() * 1e6 / blocks as f64;
    let first = first.ok_or("no run was handed out")?.as_secs_f64();
    println!("| plan and first runs of {blocks} blocks | {first:.4} s | < 1 s | {first:.4} |");
    println!(
        "| scheduler, {blocks} blocks over two simulated workers | {each:.4} us and {:.6} bytes a block \
         | <= 5 us, < 1 byte | {:.4} |",
        state_bytes as f64 / blocks as f64,
        each / 5.0
    );
    Ok(())
}
