//! A block that ends its worker each time it runs: it is suspected, tried alone, and given up with its story, and
//! nobody else comes to harm.
//!
//! The fault needs nothing in the program under test. Workers have a limit of CPU time, which other blocks do not come
//! near; the system ends whoever goes beyond it. So the block itself is the fault, and each death says that it was it.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use gridloom::client::ClientError;
use gridloom::scheduler::{Happening, JobError};
use gridloom::{Array, Future, Kernel, Value};
use gridloom_worker::ids::WorkerId;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::harness::{Process, Scheduler, expected, slow};
use crate::cluster::compute;

/// One element of all takes many seconds, and less than the deadline of a block.
const KILLER: &str = "fn f(x: f64, at: At) -> f64 {
    var y = x;
    if at.index[0] == 7u { for (var i = 0u; i < 4000000000u; i++) { y = y * 0.75lf + 1.0lf; } }
    return y;
}";

/// A worker that the system ends once it has computed for a second.
fn mortal(scheduler: &Scheduler, name: &str) -> Process {
    let worker = scheduler.worker(name, &[]);
    let limit = |resource, seconds| {
        let limit = Rlimit { current: Some(seconds), maximum: Some(2 * seconds) };
        prlimit(Some(Pid::from_child(&worker.child)), resource, limit).unwrap();
    };
    limit(Resource::Cpu, 1);
    limit(Resource::Core, 0);
    worker
}

#[test]
fn a_block_that_ends_its_workers_is_given_up_and_nothing_else() {
    let scheduler = Scheduler::start();
    let client = scheduler.client();
    let mut workers = [mortal(&scheduler, "0"), mortal(&scheduler, "1")];
    let killer = Array::zeros([20]).chunks([1]).map_blocks(&Kernel::element(KILLER).unwrap());
    let doomed: Future<Value> = client.compute(&killer).unwrap();
    let innocent: Future<Value> = client.compute(&slow(10)).unwrap();
    let waiting = thread::spawn(move || doomed.wait());
    let mut deaths = 0;
    loop {
        // Looked at first: whoever died before the end is counted.
        let is_over = waiting.is_finished();
        for worker in &mut workers {
            if let Some(status) = worker.child.try_wait().unwrap() {
                assert_eq!(status.signal(), Some(Signal::XCPU.as_raw()), "{status}");
                deaths += 1;
                *worker = mortal(&scheduler, &(1 + deaths).to_string());
            }
        }
        if is_over {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    // Once beside others, then alone.
    assert_eq!(deaths, 4);
    let error = waiting.join().unwrap().unwrap_err();
    let ClientError::Job(JobError::WorkerKilled { block, deaths: 3, story }) = error else { panic!("{error:?}") };
    assert_eq!(block.index, 7);
    let (mut alone, mut died) = (BTreeSet::<WorkerId>::new(), BTreeSet::new());
    for chapter in &story {
        assert!(chapter.array == block.array && chapter.blocks.contains(7), "{chapter:?}");
        match chapter.what {
            Happening::DispensedAlone { worker } => drop(alone.insert(worker)),
            Happening::Died { worker } => drop(died.insert(worker)),
            _ => {}
        }
    }
    assert_eq!((alone.len(), died.len()), (3, 4), "{story:?}");
    assert!(died.is_superset(&alone));
    assert_eq!(innocent.wait().unwrap().bytes(), expected(&slow(10)).bytes());
    let after = Array::random([1000]).chunks([10]).sum(());
    assert_eq!(compute(&client, &after).bytes(), expected(&after).bytes());
    assert_eq!(scheduler.status().scheduler.workers.len(), 2, "the others live on");
}
