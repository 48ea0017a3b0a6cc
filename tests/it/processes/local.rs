//! A local cluster whose workers are processes.

use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use gridloom::{Array, Client, Future, Kernel, LocalCluster, Reduce, Value};
use gridloom_worker::net::DEAD_AFTER;
use ndarray::Array1;

use super::harness::{eventually, expected, kill, slow};
use crate::cluster::{compute, expressions};

pub(super) fn cluster(workers: usize) -> LocalCluster {
    let options = LocalCluster::options().processes(true).workers(workers).memory_limit(256 << 20);
    options.threads(NonZeroUsize::MIN).start().unwrap()
}

#[test]
fn processes_give_the_bits_of_one_process() {
    let embedded = LocalCluster::options().start().unwrap().client();
    let cluster = cluster(2);
    assert_eq!(cluster.process_ids().len(), 2);
    let client = cluster.client();
    for (name, array) in expressions() {
        assert_eq!(compute(&client, &array).bytes(), compute(&embedded, &array).bytes(), "{name}");
    }
}

#[test]
fn futures_stay_on_the_processes_and_data_is_brought_to_them() {
    let cluster = cluster(2);
    let client = cluster.client();
    let inc = Kernel::element("fn inc(x: i64) -> i64 { return x + 1; }").unwrap();
    let incremented = client.map(&inc, 0..100i64).unwrap();
    let total: i64 = client.submit(Reduce::Sum, &incremented).unwrap().wait().unwrap();
    assert_eq!(total, 5050);
    let data = Array1::from_iter((0..300_000).map(f64::from));
    let scattered = client.scatter(&data).unwrap();
    let sum: f64 = client.compute(&scattered.array().sum(())).unwrap().wait().unwrap();
    assert_eq!(sum, data.sum());
    client.close().unwrap();
}

#[test]
fn scaling_processes_keeps_what_they_hold() {
    let cluster = cluster(1);
    let client = cluster.client();
    let x = client.persist(&Array::random([100, 100]).chunks([10, 10])).unwrap().wait().unwrap();
    let before = compute(&client, &x);
    cluster.scale(3).unwrap();
    assert_eq!(client.wait_for_workers(3, Duration::from_secs(10)), 3);
    let held = client.persist(&(&x + 1.0)).unwrap();
    client.wait(std::slice::from_ref(&held)).unwrap();
    cluster.scale(1).unwrap();
    assert_eq!((cluster.workers(), cluster.process_ids().len()), (1, 1));
    assert_eq!(compute(&client, &x), before);
    let sum: f64 = client.compute(&(&held.array() - &x).sum(())).unwrap().wait().unwrap();
    assert!((sum - 1e4).abs() < 1e-6, "{sum}");
}

/// Kills the youngest of three processes while a job runs, as soon as some of it is done. The system says so at once; it is
/// not waited for until it is missed.
fn kill_amid(cluster: &LocalCluster, client: &Client, future: &Future<Value>) {
    eventually("some of it is done", || future.progress().is_some_and(|(done, _)| done > 4));
    let (victim, begun) = (cluster.process_ids()[2], Instant::now());
    kill(victim);
    assert!(!future.is_done(), "the fault comes too late to be one");
    eventually("another is started", || cluster.process_ids().get(2).is_some_and(|&process| process != victim));
    assert!(begun.elapsed() < DEAD_AFTER / 2, "{:?}", begun.elapsed());
    // The scheduler knew before: the dead one and the other are never there together.
    assert!(client.wait_for_workers(4, DEAD_AFTER / 2) <= 3);
}

/// Between two deaths among three workers: a mean life of 2 s.
const KILL_PAUSE: Duration = Duration::from_millis(700);

/// `GRIDLOOM_CHAOS_SECONDS=60` says for how long workers die at least; 3 s by default. What a machine makes of that time
/// shows: a job that is over too soon is followed by one twice as long.
#[test]
fn a_job_outlives_many_workers() {
    let seconds = std::env::var("GRIDLOOM_CHAOS_SECONDS").map_or(3.0, |seconds| seconds.parse().unwrap());
    let budget = (seconds / KILL_PAUSE.as_secs_f64()) as usize;
    let mut blocks = (200.0 * seconds) as u64;
    while deaths_amid(blocks) < budget {
        blocks *= 2;
    }
}

/// How many workers die, one after the other, before a job is done. Whoever dies just as it ends is not counted.
fn deaths_amid(blocks: u64) -> usize {
    let array = slow(blocks);
    let expected = expected(&array);
    let cluster = cluster(3);
    let future: Future<Value> = cluster.client().compute(&array).unwrap();
    // Its blocks are taken as they come: what stayed on the workers would be lost with them.
    let waiting = thread::spawn(move || future.wait());
    let (begun, mut deaths) = (Instant::now(), 0);
    loop {
        thread::sleep(KILL_PAUSE);
        if waiting.is_finished() {
            break;
        }
        // In turn, so that none lives on; those that were given up are replaced.
        if let Some(&victim) = cluster.process_ids().iter().cycle().nth(deaths) {
            kill(victim);
            deaths += usize::from(!waiting.is_finished());
        }
        cluster.scale(3).unwrap();
    }
    eprintln!("{deaths} workers died over {blocks} blocks in {:.1?}", begun.elapsed());
    assert!(waiting.join().unwrap().unwrap().bytes() == expected.bytes(), "the bits differ");
    deaths
}

#[test]
fn a_job_survives_its_workers() {
    let array = slow(200);
    let expected = expected(&array);
    let cluster = cluster(3);
    let client = cluster.client();
    let kept = client.persist(&Array::random([1000]).chunks([10])).unwrap().wait().unwrap();
    let sum = compute(&client, &kept.sum(()));
    let first = cluster.process_ids();
    for _ in 0..2 {
        let future: Future<Value> = client.compute(&array).unwrap();
        kill_amid(&cluster, &client, &future);
        assert_eq!(future.wait().unwrap().bytes(), expected.bytes());
        assert_eq!(cluster.workers(), 3);
    }
    // What the dead held is made again.
    assert_eq!(compute(&client, &kept.sum(())), sum);
    eventually("another is in the place of the dead", || {
        let now = cluster.process_ids();
        now.len() == 3 && now[..2] == first[..2] && now[2] != first[2]
    });
    assert_eq!(client.wait_for_workers(3, Duration::from_secs(10)), 3);
    cluster.scale(2).unwrap();
    assert_eq!((cluster.workers(), cluster.process_ids()), (2, first[..2].to_vec()));
}
