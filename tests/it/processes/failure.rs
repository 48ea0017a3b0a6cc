//! What dies, and what becomes of the others.

use std::time::{Duration, Instant};

use gridloom::client::ClientError;
use gridloom::scheduler::{JobError, Limits};
use gridloom::{Array, Client, Future, Value};
use gridloom_worker::net::DEAD_AFTER;
use gridloom_worker::net::identity::Token;
use rustix::process::Signal;

use super::harness::{Process, Scheduler, eventually, expected, gridloom, slow};

#[test]
fn a_busy_worker_that_is_killed_is_replaced_by_the_others() {
    let array = slow(300);
    let expected = expected(&array);
    let scheduler = Scheduler::start();
    let (_stays, dies) = (scheduler.worker("stays", &[]), scheduler.worker("dies", &[]));
    let future: Future<Value> = scheduler.client().compute(&array).unwrap();
    eventually("the victim is at work and holds blocks", || {
        scheduler.find("dies").is_some_and(|worker| worker.blocks_held > 0 && worker.blocks_outstanding > 0)
    });
    drop(dies);
    assert_eq!(future.wait().unwrap().bytes(), expected.bytes());
    eventually("it is gone", || scheduler.find("dies").is_none());
}

#[test]
fn a_worker_that_was_stopped_too_long_comes_back_as_another() {
    let scheduler = Scheduler::start();
    let (_stays, stops) = (scheduler.worker("stays", &[]), scheduler.worker("stops", &[]));
    let client = scheduler.client();
    let kept = client.persist(&Array::random([1000]).chunks([10])).unwrap().wait().unwrap();
    let sum: f64 = client.compute(&kept.sum(())).unwrap().wait().unwrap();
    let before = scheduler.find("stops").unwrap();
    assert!(before.blocks_held > 0);
    stops.signal(Signal::STOP);
    let stopped = Instant::now();
    eventually("it is given up", || scheduler.find("stops").is_none());
    let took = stopped.elapsed();
    assert!(took > DEAD_AFTER / 2 && took < DEAD_AFTER + Duration::from_secs(3), "{took:?}");
    let again: f64 = client.compute(&kept.sum(())).unwrap().wait().unwrap();
    assert_eq!(again, sum);
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
fn a_worker_that_leaves_hands_over_what_it_holds() {
    let scheduler = Scheduler::start();
    let leaves = scheduler.worker("leaves", &[]);
    let client = scheduler.client();
    let data = ndarray::Array1::from_iter((0..200_000).map(f64::from));
    // Nobody can make it again.
    let scattered = client.scatter(&data).unwrap();
    let _stays = scheduler.worker("stays", &[]);
    leaves.signal(Signal::TERM);
    let (status, said) = leaves.end();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    let sum: f64 = client.compute(&scattered.array().sum(())).unwrap().wait().unwrap();
    assert_eq!(sum, data.sum());
}

#[test]
fn a_lifetime_ends_and_a_second_signal_does_not_wait() {
    let scheduler = Scheduler::start();
    let short = scheduler.worker("short", &["--lifetime", "500ms"]);
    assert_eq!(short.end().0.code(), Some(0));
    // The only worker, at work on what takes long: it may not go before that is done.
    let busy = scheduler.worker("busy", &[]);
    let _future: Future<Value> = scheduler.client().compute(&slow(2000)).unwrap();
    eventually("it is at work", || scheduler.find("busy").is_some_and(|worker| worker.blocks_outstanding > 0));
    busy.signal(Signal::TERM);
    busy.signal(Signal::TERM);
    let begun = Instant::now();
    drop(busy.end());
    assert!(begun.elapsed() < Duration::from_secs(2));
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

#[test]
fn a_killed_scheduler_is_named_within_the_dead_time() {
    let folder = tempfile::tempdir().unwrap();
    let (token, file) = (folder.path().join("token"), folder.path().join("scheduler.json"));
    let paths = [token.to_str().unwrap(), file.to_str().unwrap()];
    let scheduler = ["scheduler", "--listen", "127.0.0.1:0", "--token-file", paths[0], "--scheduler-file", paths[1]];
    let scheduler = Process::start(&mut gridloom(&scheduler));
    eventually("the scheduler is there", || file.exists());
    let worker = ["worker", "--scheduler-file", paths[1], "--device", "cpu", "--threads", "1"];
    let _worker = Process::start(&mut gridloom(&worker));
    let said: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let client = Client::connect_with(said["address"].as_str().unwrap(), &Token::read(&token).unwrap()).unwrap();
    assert_eq!(client.wait_for_workers(1, Duration::from_secs(10)), 1);
    let future: Future<Value> = client.compute(&slow(2000)).unwrap();
    eventually("it has begun", || future.progress().is_some_and(|(done, _)| done > 0));
    let begun = Instant::now();
    drop(scheduler);
    let lost = future.wait();
    assert!(matches!(lost, Err(ClientError::Job(JobError::SchedulerLost))), "{lost:?}");
    assert!(begun.elapsed() < DEAD_AFTER + Duration::from_secs(2), "{:?}", begun.elapsed());
    let after = client.compute::<Value>(&Array::ones([3])).and_then(Future::wait);
    assert!(matches!(after, Err(ClientError::Job(JobError::SchedulerLost))), "{after:?}");
}

#[test]
fn what_a_killed_client_left_is_freed() {
    let scheduler = Scheduler::with(Limits { client_grace: Duration::from_millis(500), ..Limits::default() });
    let _worker = scheduler.worker("holds", &[]);
    let text = "fn f(x: f64) -> f64 { var y = x; for (var i = 0; i < 400000; i++) { y = y * 0.75lf + x; } return y; }";
    std::fs::write(scheduler.folder().join("slow.wgsl"), text).unwrap();
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
