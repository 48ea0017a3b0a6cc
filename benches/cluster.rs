//! What a cluster of worker processes does beyond single messages: the README's command, more work on more workers, and
//! the death of one. `cargo bench --bench cluster [-- lesson scaling recovery]`; `GRIDLOOM_SIDE=1000` is the side of the
//! cubes. `benches/peers/cluster.py` runs it with all that belongs to it, and Dask beside.

#![allow(clippy::print_stdout, reason = "its output is for people")]

use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use gridloom::{Array, Client, Kernel, LocalCluster, Value, host};
use rustix::process::{Pid, Signal, kill_process};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;
type Row = fn() -> Outcome;

/// Of each, the middle counts.
const TURNS: usize = 3;

fn main() -> Outcome {
    let rows = [("lesson", lesson as Row), ("scaling", scaling), ("recovery", recovery)];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    println!("| work | measured | wanted | ratio |\n|---|---|---|---|");
    for (name, row) in rows {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            row()?;
        }
    }
    Ok(())
}

fn cluster(workers: usize) -> Outcome<LocalCluster> {
    Ok(LocalCluster::options().processes(true).workers(workers).threads(NonZeroUsize::MIN).start()?)
}

/// `count` random cubes of f64, one after the other, and the mean over the last axis.
fn mean_of_cubes(count: u64) -> Outcome<Array> {
    let side: u64 = std::env::var("GRIDLOOM_SIDE").map_or(Ok(1000), |side| side.parse())?;
    let cubes = (0..count).map(|stream| Array::random([side, side, side]).stream(stream));
    Ok(Array::concatenate(cubes, 0).mean(-1))
}

fn computed(client: &Client, array: &Array) -> Outcome<f64> {
    let begun = Instant::now();
    let value: Value = client.compute(array)?.wait()?;
    std::hint::black_box(value);
    Ok(begun.elapsed().as_secs_f64())
}

/// Seconds, the middle of some turns.
fn middle(mut turn: impl FnMut() -> Outcome<f64>) -> Outcome<f64> {
    let mut seconds = (0..TURNS).map(|_| turn()).collect::<Outcome<Vec<f64>>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[TURNS / 2])
}

/// The README's command, on two workers, against one worker inside this process with as many threads.
fn lesson() -> Outcome {
    let array = mean_of_cubes(10)?;
    let threads = NonZeroUsize::new(2).ok_or("two is not zero")?;
    let inside = computed(&LocalCluster::options().threads(threads).start()?.client(), &array)?;
    let apart = computed(&cluster(2)?.client(), &array)?;
    println!(
        "| the README's command on 2 worker processes | {apart:.2} s | in one process: {inside:.2} s | {:.2} of its rate |",
        inside / apart
    );
    Ok(())
}

/// Two cubes for each worker.
fn scaling() -> Outcome {
    let mut alone = None;
    for workers in [1, 2, 4] {
        let (client, array) = (cluster(workers)?.client(), mean_of_cubes(2 * workers as u64)?);
        let seconds = middle(|| computed(&client, &array))?;
        let first = *alone.get_or_insert(seconds);
        println!(
            "| weak scaling, 2 cubes for each of {workers} workers | {seconds:.2} s | {first:.2} s on as many cores; here {} | {:.2} |",
            host::cores(),
            first / seconds
        );
    }
    Ok(())
}

/// One of two workers is killed a third into a job, and replaced by the cluster itself: how much later the job ends.
/// What it held of the result is computed again.
fn recovery() -> Outcome {
    let text = "fn f(x: f64) -> f64 { var y = x; for (var i = 0; i < 400000; i++) { y = y * 0.75lf + x; } return y; }";
    let array = Array::random([600 * 32]).chunks([32]).map_blocks(&Kernel::element(text)?);
    let kept = |client: &Client| -> Outcome<f64> {
        let begun = Instant::now();
        client.wait(&[client.persist(&array)?])?;
        Ok(begun.elapsed().as_secs_f64())
    };
    let whole = middle(|| kept(&cluster(2)?.client()))?;
    let killed = middle(|| {
        let cluster = cluster(2)?;
        let (begun, client) = (Instant::now(), cluster.client());
        let future = client.persist(&array)?;
        thread::sleep(Duration::from_secs_f64(whole / 3.0));
        let victim = cluster.process_ids().pop().and_then(|id| Pid::from_raw(id as i32)).ok_or("no worker to kill")?;
        kill_process(victim, Signal::KILL)?;
        client.wait(&[future])?;
        Ok(begun.elapsed().as_secs_f64())
    })?;
    // Half of what was done by then is lost, and computed by both.
    let (later, again) = (killed - whole, whole / 6.0);
    println!(
        "| SIGKILL of one of 2 workers, replaced at once | +{later:.3} s to {whole:.2} s | <= 0.2 s + {again:.2} s of recomputation | {:.2} |",
        later / (0.2 + again)
    );
    Ok(())
}
