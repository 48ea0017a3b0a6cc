//! GPUs, each a worker in a process of its own: hung, killed, given up, and ended with whoever started it.

use std::time::Duration;

use gridloom::client::ClientError;
use gridloom::scheduler::JobError;
use gridloom::{Array, Client, DType, Devices, Future, Kernel, LocalCluster, Value};
use gridloom_worker::executor::ExecuteError;
use rustix::process::Signal;

use super::harness::{Process, Scheduler, children, embedded_on_gpu, eventually, is_gone, kill};
use crate::cluster::compute;

/// The process of the GPU of worker `w`, once it has registered.
fn process_of(scheduler: &Scheduler) -> Option<u32> {
    scheduler.find("w-gpu0").map(|worker| worker.register.process)
}

/// Waits until another process than `before` has the GPU, and a client knows.
fn another(scheduler: &Scheduler, before: u32) -> (Client, u32) {
    eventually("the GPU is had again", || process_of(scheduler).is_some_and(|process| process != before));
    (scheduler.client().on(Devices::Gpu), process_of(scheduler).unwrap())
}

fn numbers(length: u64, chunk: u64) -> Array {
    Array::random([length]).with_dtype(DType::U32).chunks([chunk])
}

/// Work of `blocks` blocks, each of which takes software Vulkan some 10 ms.
fn slow_on_gpu(blocks: u64) -> Array {
    let text = "fn f(x: u32) -> u32 {
        var y = x;
        for (var i = 0u; i < 4000u; i += 1u) { y = y * 1664525u + (1013904223u ^ (y >> 7u)); y = y / (1u + (y & 3u)); }
        return y;
    }";
    numbers(blocks << 12, 1 << 12).map_blocks(&Kernel::element(text).unwrap())
}

/// Blocks that do not end within any deadline here: each number comes back after 2^32 steps. Software Vulkan stops every
/// loop after 65,535 of them, and so there are many numbers.
fn endless(blocks: u64) -> Array {
    let text = "@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(256) fn endless(@builtin(global_invocation_id) id: vec3<u32>) {
    let at = id.x;
    if at >= arrayLength(&x) { return; }
    var n = x[at];
    loop { n = n * 1664525u + 1013904223u; if n == x[at] { break; } }
    y[at] = n;
}";
    numbers(blocks << 23, 1 << 23).map_blocks(&Kernel::block(text).unwrap())
}

#[track_caller]
fn fails_at_its_deadline(client: &Client, blocks: u64) {
    let error = client.compute::<Value>(&endless(blocks)).unwrap().wait().unwrap_err();
    let ClientError::Job(JobError::Execute { error, block, .. }) = error else { panic!("{error}") };
    assert_eq!((error, block.index < blocks), (ExecuteError::Deadline { limit_ms: 2000 }, true));
}

#[test]
fn a_gpu_whose_kernel_hangs_is_had_again() {
    let Some(embedded) = embedded_on_gpu() else { return };
    let scheduler = Scheduler::start();
    let worker = scheduler.worker_on_gpu("w", &["--block-timeout", "2s"]);
    let mut process = process_of(&scheduler).unwrap();
    assert_ne!(process, worker.id(), "it is a process of its own");
    let owner = scheduler.client().on(Devices::Gpu);
    let array = slow_on_gpu(8);
    let expected = compute(&embedded.client(), &array);
    let kept = owner.persist(&array).unwrap().wait().unwrap();
    for _ in 0..2 {
        fails_at_its_deadline(&scheduler.client().on(Devices::Gpu), 1);
        let (client, next) = another(&scheduler, process);
        let hung = std::mem::replace(&mut process, next);
        assert!(is_gone(hung));
        assert_eq!(compute(&client, &array).bytes(), expected.bytes());
    }
    assert_eq!(compute(&owner, &kept).bytes(), expected.bytes(), "what it held is made again");
    assert_eq!(children(worker.id()), [process]);
    worker.signal(Signal::TERM);
    let (status, said) = worker.end();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((status.code(), lines.len()), (Some(0), 2), "{said}");
    for line in lines {
        assert!(line.starts_with("error: w-gpu0: "), "{line}");
        assert!(line.ends_with("was lost: a kernel did not end within 2000 ms on one block"), "{line}");
    }
}

#[test]
fn a_gpu_whose_process_is_killed_gives_the_same_bits() {
    let Some(embedded) = embedded_on_gpu() else { return };
    let scheduler = Scheduler::start();
    let _worker = scheduler.worker_on_gpu("w", &[]);
    let before = process_of(&scheduler).unwrap();
    let array = slow_on_gpu(100);
    let expected = compute(&embedded.client(), &array);
    let client = scheduler.client().on(Devices::Gpu);
    let future: Future<Value> = client.compute(&array).unwrap();
    eventually("some of it is done", || future.progress().is_some_and(|(done, _)| done > 4));
    kill(before);
    assert!(!future.is_done(), "the fault comes too late to be one");
    assert_eq!(future.wait().unwrap().bytes(), expected.bytes());
    assert_ne!(another(&scheduler, before).1, before);
}

#[test]
fn a_gpus_process_ends_with_its_worker() {
    if embedded_on_gpu().is_none() {
        return;
    }
    let scheduler = Scheduler::start();
    let killed = scheduler.worker_on_gpu("w", &[]);
    let process = process_of(&scheduler).unwrap();
    drop(killed);
    eventually("it is gone with a parent that was killed", || is_gone(process));
    eventually("the scheduler knows", || process_of(&scheduler).is_none());
    let short = scheduler.worker_on_gpu("w", &["--lifetime", "1s"]);
    let process = process_of(&scheduler).unwrap();
    ends_well(short);
    assert!(is_gone(process));
    // At work on what does not end: it may not go before that is done, unless it is told twice.
    let busy = scheduler.worker_on_gpu("w", &[]);
    let process = process_of(&scheduler).unwrap();
    let client = scheduler.client().on(Devices::Gpu);
    let _future: Future<Value> = client.compute(&endless(1)).unwrap();
    eventually("it is at work", || scheduler.find("w-gpu0").is_some_and(|worker| worker.blocks_outstanding > 0));
    // Two that come too close are one.
    eventually("its parent does not wait", || {
        busy.signal(Signal::TERM);
        is_gone(busy.id())
    });
    eventually("it is gone too", || is_gone(process));
}

#[test]
fn a_gpu_that_leaves_hands_over_what_it_holds() {
    if embedded_on_gpu().is_none() {
        return;
    }
    let scheduler = Scheduler::start();
    let leaves = scheduler.worker_on_gpu("w", &[]);
    let client = scheduler.client();
    let data = ndarray::Array1::from_iter((0..200_000).map(f64::from));
    // Nobody can make it again.
    let scattered = client.scatter(&data).unwrap();
    let _stays = scheduler.worker("stays", &[]);
    leaves.signal(Signal::TERM);
    ends_well(leaves);
    let sum: f64 = client.compute(&scattered.array().sum(())).unwrap().wait().unwrap();
    assert_eq!(sum, data.sum());
}

#[track_caller]
fn ends_well(worker: Process) {
    let (status, said) = worker.end();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_gpu_whose_process_dies_again_and_again_is_given_up() {
    if embedded_on_gpu().is_none() {
        return;
    }
    let scheduler = Scheduler::start();
    let worker = scheduler.worker_on_gpu("w", &[]);
    let parent = worker.id();
    let mut killed = Vec::new();
    eventually("it is given up", || {
        for child in children(parent).into_iter().filter(|&child| !is_gone(child)) {
            kill(child);
            killed.push(child);
        }
        is_gone(parent)
    });
    killed.dedup();
    let (status, said) = worker.end();
    let given_up = "error: w-gpu0 is given up: it died 6 times in a row, at last with signal: 9 (SIGKILL)\n";
    assert_eq!((status.code(), said.as_str(), killed.len()), (Some(1), given_up, 6));
}

#[test]
fn a_local_cluster_of_processes_has_its_gpus_again_too() {
    let Some(embedded) = embedded_on_gpu() else { return };
    let options = LocalCluster::options().processes(true).devices(Devices::Gpu);
    let cluster = options.memory_limit(1 << 30).block_timeout(Duration::from_secs(2)).start().unwrap();
    let [parent] = cluster.process_ids()[..] else { panic!("one process starts those of all GPUs") };
    let process = children(parent);
    let array = slow_on_gpu(8);
    let client = cluster.client();
    let before = compute(&client, &array);
    assert_eq!(before.bytes(), compute(&embedded.client(), &array).bytes());
    // More than software Vulkan queues: its slots hang in their submissions.
    fails_at_its_deadline(&client, 3);
    assert_eq!(compute(&client, &array), before, "at once: the job waits for the GPU");
    let next = children(parent);
    assert!(process.len() == 1 && next.len() == 1 && process != next);
    client.close().unwrap();
    drop(cluster);
    eventually("nothing is left", || [parent, next[0]].into_iter().all(is_gone));
}
