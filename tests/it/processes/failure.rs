//! What dies, and what becomes of the others.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use gridloom::client::ClientError;
use gridloom::scheduler::{JobError, Limits, Wanted, WorkerStatus};
use gridloom::{Array, Client, Future, Kernel, Value};
use gridloom_worker::net::identity::Token;
use gridloom_worker::net::{DEAD_AFTER, HANDSHAKE_LIMIT};
use rustix::process::Signal;

use super::harness::{
    Process, SLOW, Scheduler, WORKER_BYTES, eventually, expected, gridloom, noted, quick, slow, slowly,
};
use crate::cluster::compute;

/// What things may take on a busy machine beside what they promise.
const SLACK: Duration = Duration::from_secs(2);

/// Waits until a worker holds something and has more to do.
#[track_caller]
fn is_at_work(scheduler: &Scheduler, name: &str) {
    let is_busy = |worker: WorkerStatus| worker.blocks_held > 0 && worker.blocks_outstanding > 0;
    eventually("it is at work and holds blocks", || scheduler.find(name).is_some_and(is_busy));
}

#[test]
fn a_busy_worker_that_is_killed_is_replaced_by_the_others() {
    let array = slow(300);
    let expected = expected(&array);
    let scheduler = Scheduler::start();
    let (_stays, dies) = (scheduler.worker("stays", &[]), scheduler.worker("dies", &[]));
    let future: Future<Value> = scheduler.client().compute(&array).unwrap();
    is_at_work(&scheduler, "dies");
    drop(dies);
    assert!(!future.is_done(), "the fault came too late to be one");
    assert_eq!(future.wait().unwrap().bytes(), expected.bytes());
    eventually("it is gone", || scheduler.find("dies").is_none());
}

#[test]
fn the_only_holder_of_what_another_reads_is_killed() {
    let x = quick(300);
    let (expected, read) = (expected(&x), expected(&slowly(&x)));
    let scheduler = Scheduler::start();
    let holds = scheduler.worker("holds", &[]);
    let client = scheduler.client();
    let kept = client.persist(&x).unwrap().wait().unwrap();
    assert_eq!(scheduler.find("holds").unwrap().blocks_held, 300);
    let _reads = scheduler.worker("reads", &[]);
    let future: Future<Value> = client.compute(&slowly(&kept)).unwrap();
    is_at_work(&scheduler, "reads");
    drop(holds);
    // It has read some, and the rest was nowhere else.
    assert!(!future.is_done(), "the fault came too late to be one");
    assert!(scheduler.find("reads").unwrap().blocks_outstanding > 0, "it has all that it was to read");
    assert_eq!(future.wait().unwrap().bytes(), read.bytes());
    assert_eq!(compute(&client, &kept).bytes(), expected.bytes());
}

#[test]
fn a_busy_worker_that_was_stopped_too_long_comes_back_as_another() {
    let array = slow(300);
    let expected = expected(&array);
    let scheduler = Scheduler::start();
    let (_stays, stops) = (scheduler.worker("stays", &[]), scheduler.worker("stops", &[]));
    let client = scheduler.client();
    let kept = client.persist(&quick(100)).unwrap().wait().unwrap();
    let sum = compute(&client, &kept.sum(()));
    let before = scheduler.find("stops").unwrap();
    assert!(before.blocks_held > 0);
    let future: Future<Value> = client.compute(&array).unwrap();
    // Taken as it comes, from whoever has it.
    let waiting = thread::spawn(move || future.wait());
    eventually("it is at work", || scheduler.find("stops").unwrap().blocks_outstanding > 0);
    stops.signal(Signal::STOP);
    let stopped = Instant::now();
    assert!(scheduler.find("stops").unwrap().blocks_outstanding > 0, "it had done its work");
    eventually("it is given up", || scheduler.find("stops").is_none());
    let took = stopped.elapsed();
    assert!(took > DEAD_AFTER / 2 && took < DEAD_AFTER + SLACK, "{took:?}");
    assert_eq!(waiting.join().unwrap().unwrap().bytes(), expected.bytes());
    assert_eq!(compute(&client, &kept.sum(())), sum);
    stops.signal(Signal::CONT);
    eventually("it is back", || scheduler.find("stops").is_some());
    let after = scheduler.find("stops").unwrap();
    assert!(after.worker > before.worker);
    assert_eq!(after.blocks_held, 0, "it begins with nothing");
    let more = client.persist(&slow(20)).unwrap();
    client.wait(std::slice::from_ref(&more)).unwrap();
    assert!(scheduler.find("stops").unwrap().blocks_held > 0, "it is used again");
}

#[test]
fn a_job_whose_workers_are_all_killed_fails_in_time() {
    let worker_wait = Duration::from_secs(1);
    let scheduler = Scheduler::with(Limits { worker_wait, ..Limits::default() });
    let workers = ["0", "1"].map(|name| scheduler.worker(name, &[]));
    let client = scheduler.client();
    let future: Future<Value> = client.compute(&slow(2000)).unwrap();
    ["0", "1"].iter().for_each(|name| is_at_work(&scheduler, name));
    let killed = Instant::now();
    drop(workers);
    assert!(!future.is_done(), "the fault came too late to be one");
    eventually("whoever waits is told", || future.is_done());
    let (took, error) = (killed.elapsed(), future.wait().unwrap_err());
    let ClientError::Job(JobError::NoWorker { waited, wanted: Wanted::Any, .. }) = error else { panic!("{error:?}") };
    assert_eq!(waited, worker_wait);
    assert!(took > worker_wait && took < DEAD_AFTER + worker_wait + SLACK, "{took:?}");
    let _late = scheduler.worker("late", &[]);
    let sum: f64 = client.compute(&Array::ones([10]).sum(())).unwrap().wait().unwrap();
    assert_eq!(sum, 10.0);
}

#[test]
fn a_worker_that_comes_late_is_used() {
    let array = slow(500);
    let expected = expected(&array);
    let scheduler = Scheduler::start();
    let _first = scheduler.worker("first", &[]);
    let client = scheduler.client();
    let future = client.persist(&array).unwrap();
    eventually("it has begun", || future.progress().is_some_and(|(done, _)| done > 0));
    let _late = scheduler.worker("late", &[]);
    assert!(!future.is_done(), "it came too late to be of use");
    client.wait(std::slice::from_ref(&future)).unwrap();
    assert!(scheduler.find("late").unwrap().blocks_held > 0);
    let value: Value = client.gather(&future).unwrap().wait().unwrap();
    assert_eq!(value.bytes(), expected.bytes());
}

#[test]
fn a_worker_that_is_told_to_leave_hands_over_what_it_holds() {
    hands_over(&[], |leaves| leaves.signal(Signal::TERM));
}

#[test]
fn a_worker_whose_lifetime_ends_hands_over_what_it_holds() {
    hands_over(&["--lifetime", "5s"], |leaves| assert!(!leaves.has_ended(), "it had nobody to hand over to"));
}

/// A worker leaves, because of what `leave` does or by itself, and what it alone held is still there.
#[track_caller]
fn hands_over(more: &[&str], leave: impl FnOnce(&mut Process)) {
    let scheduler = Scheduler::start();
    let mut leaves = scheduler.worker("leaves", more);
    let client = scheduler.client();
    let data = ndarray::Array1::from_iter((0..200_000).map(f64::from));
    // Nobody can make it again.
    let scattered = client.scatter(&data).unwrap();
    let _stays = scheduler.worker("stays", &[]);
    leave(&mut leaves);
    let (status, said) = leaves.end();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    let sum: f64 = client.compute(&scattered.array().sum(())).unwrap().wait().unwrap();
    assert_eq!(sum, data.sum());
}

#[test]
fn a_second_signal_does_not_wait_for_work() {
    let scheduler = Scheduler::start();
    let mut busy = scheduler.worker("busy", &[]);
    // It ends at its deadline, after a minute.
    let text = "fn f(x: f64) -> f64 { var y = x; while y >= 0 { y += 1; if y > 10 { y = 1; } } return y; }";
    let endless = Array::ones([1]).map_blocks(&Kernel::element(text).unwrap());
    let _future: Future<Value> = scheduler.client().compute(&endless).unwrap();
    eventually("it is at work", || scheduler.find("busy").is_some_and(|worker| worker.blocks_outstanding > 0));
    busy.signal(Signal::TERM);
    eventually("it is leaving", || scheduler.find("busy").is_some_and(|worker| !worker.is_working));
    thread::sleep(Duration::from_millis(500));
    assert!(!busy.has_ended(), "it left its work");
    busy.signal(Signal::TERM);
    let begun = Instant::now();
    let (status, said) = busy.end();
    assert_eq!((status.code(), said.as_str()), (Some(130), ""));
    assert!(begun.elapsed() < SLACK, "{:?}", begun.elapsed());
}

#[test]
fn scattered_data_whose_only_holder_dies_is_lost_by_name() {
    let scheduler = Scheduler::start();
    let dies = scheduler.worker("dies", &[]);
    let client = scheduler.client();
    let scattered = client.scatter(&ndarray::Array1::from_iter((0..1000).map(f64::from))).unwrap();
    let _stays = scheduler.worker("stays", &[]);
    drop(dies);
    eventually("it is gone", || scheduler.find("dies").is_none());
    let lost = client.compute::<f64>(&scattered.array().sum(())).and_then(Future::wait);
    assert!(matches!(lost, Err(ClientError::Job(JobError::BlockLost { .. }))), "{lost:?}");
}

/// A scheduler as a process of its own, and a worker; all of their files are in `folder`.
fn scheduler_and_worker(folder: &Path, more: &[&str]) -> (Process, Process, Client) {
    let start = |line: &str, more: &[&str]| {
        let arguments: Vec<&str> = line.split(' ').chain(more.iter().copied()).collect();
        Process::start(gridloom(&arguments).current_dir(folder))
    };
    let scheduler = start("scheduler --listen 127.0.0.1:0 --token-file token --scheduler-file s.json", &[]);
    eventually("the scheduler is there", || folder.join("s.json").exists());
    let limit = WORKER_BYTES.to_string();
    let worker =
        start("worker --scheduler-file s.json --device cpu --threads 1 --memory-limit", &[&[&*limit], more].concat());
    let said: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("s.json")).unwrap()).unwrap();
    let token = Token::read(&folder.join("token")).unwrap();
    let client = Client::connect_with(said["address"].as_str().unwrap(), &token).unwrap();
    assert_eq!(client.wait_for_workers(1, Duration::from_secs(10)), 1);
    (scheduler, worker.beneath(WORKER_BYTES), client)
}

#[test]
fn a_killed_scheduler_is_named_within_the_dead_time() {
    let folder = tempfile::tempdir().unwrap();
    let (scheduler, _worker, client) = scheduler_and_worker(folder.path(), &[]);
    let future: Future<Value> = client.compute(&slow(2000)).unwrap();
    eventually("it has begun", || future.progress().is_some_and(|(done, _)| done > 0));
    let begun = Instant::now();
    drop(scheduler);
    let lost = future.wait();
    assert!(matches!(lost, Err(ClientError::Job(JobError::SchedulerLost))), "{lost:?}");
    assert!(begun.elapsed() < DEAD_AFTER + SLACK, "{:?}", begun.elapsed());
    let after = client.compute::<Value>(&Array::ones([3])).and_then(Future::wait);
    assert!(matches!(after, Err(ClientError::Job(JobError::SchedulerLost))), "{after:?}");
}

#[test]
fn a_worker_without_a_scheduler_drops_everything_and_ends() {
    const HELD: u64 = 64 << 20;
    let folder = tempfile::tempdir().unwrap();
    let redial = Duration::from_secs(2);
    let (scheduler, worker, client) = scheduler_and_worker(folder.path(), &["--redial", "2s"]);
    let held = client.persist(&Array::random([HELD / 8]).chunks([1 << 17])).unwrap();
    client.wait(std::slice::from_ref(&held)).unwrap();
    let (resident, id) = (|id| noted(id, "VmRSS"), worker.id());
    let before = resident(id).unwrap();
    assert!(before > HELD);
    let killed = Instant::now();
    drop(scheduler);
    let left = before - HELD / 4 * 3;
    eventually("it has dropped its blocks", || resident(id).is_some_and(|bytes| bytes < left));
    let (status, said) = worker.end();
    let took = killed.elapsed();
    assert!(said.starts_with("error: no scheduler at 127.0.0.1:") && said.contains(" for 2s: "), "{said}");
    assert_eq!((status.code(), said.lines().count()), (Some(1), 1), "{said}");
    // It may be in the midst of its last try.
    assert!(took > redial && took < DEAD_AFTER + redial + HANDSHAKE_LIMIT + SLACK, "{took:?}");
}

#[test]
fn what_a_killed_client_left_is_freed() {
    let scheduler = Scheduler::with(Limits { client_grace: Duration::from_millis(500), ..Limits::default() });
    let _worker = scheduler.worker("holds", &[]);
    std::fs::write(scheduler.folder().join("slow.wgsl"), SLOW).unwrap();
    let address = scheduler.address();
    let map = ["reduce", "sum", "random:32000", "--map", "slow.wgsl", "--chunks", "32", "--scheduler", &address];
    let client = Process::start(&mut scheduler.command(&map));
    eventually("it holds something of the client's", || scheduler.find("holds").unwrap().blocks_held > 0);
    client.signal(Signal::KILL);
    eventually("nothing of it is left", || {
        let status = scheduler.status().scheduler;
        let worker = &status.workers[0];
        (status.arrays, status.jobs, worker.blocks_held, worker.blocks_outstanding) == (0, 0, 0, 0)
    });
    let mean: f64 = scheduler.client().compute(&Array::ones([10]).mean(())).unwrap().wait().unwrap();
    assert_eq!(mean, 1.0);
}
