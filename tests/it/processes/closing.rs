//! What is left of a cluster that is closed, or whose owner is killed: nothing. Counted in a process that does nothing
//! else, which is this very program told to run one test.

#![allow(clippy::print_stdout, reason = "what a test in a process of its own tells the one that waits for it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::harness::{PATIENCE, Process, alone, children, eventually, is_gone};
use super::local::cluster;
use crate::cluster::compute;
use gridloom::{Array, LocalCluster};

/// How many clusters are opened and closed, one after the other.
const CLUSTERS: usize = 200;

/// Files, sockets among them, threads and children of this process.
fn counts() -> [usize; 3] {
    let entries = |folder: &str| fs::read_dir(folder).unwrap().count();
    [entries("/proc/self/fd"), entries("/proc/self/task"), children(std::process::id()).len()]
}

#[test]
fn clusters_of_processes_leave_nothing_and_say_nothing() {
    leave_nothing_and_say_nothing("closing::open_and_close_clusters_of_processes");
}

#[test]
fn embedded_clusters_leave_nothing_and_say_nothing() {
    leave_nothing_and_say_nothing("closing::open_and_close_embedded_clusters");
}

/// Runs one of the two below with a folder for temporary files that is its own.
#[track_caller]
fn leave_nothing_and_say_nothing(test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = alone(test).env("TMPDIR", folder.path()).output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    assert_eq!(complained, "");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "temporary files");
}

#[test]
#[ignore = "counts what its process has, and so needs one of its own"]
fn open_and_close_clusters_of_processes() {
    open_and_close(|| cluster(1));
}

#[test]
#[ignore = "counts what its process has, and so needs one of its own"]
fn open_and_close_embedded_clusters() {
    open_and_close(|| LocalCluster::options().workers(2).threads(NonZeroUsize::MIN).start().unwrap());
}

fn open_and_close(cluster: impl Fn() -> LocalCluster) {
    let one = || {
        let cluster = cluster();
        let client = cluster.client();
        let sum = compute(&client, &Array::ones([100]).chunks([10]).sum(()));
        assert_eq!(sum, compute(&client, &Array::full((), 100.0)));
        drop(cluster);
        client.close().unwrap();
    };
    // What is made once for the process and kept.
    one();
    let (before, begun) = (counts(), Instant::now());
    (0..CLUSTERS).for_each(|_| one());
    println!("{CLUSTERS} clusters in {:?}", begun.elapsed());
    // The system takes a moment to take a thread that was joined off its list.
    let ended = Instant::now();
    while counts() != before && ended.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(counts(), before, "files, threads, children");
}

#[test]
fn workers_end_with_their_parent() {
    let mut owner = Process::start(&mut alone("closing::own_a_cluster_until_killed"));
    let mut lines = BufReader::new(owner.child.stdout.take().unwrap()).lines();
    let ids = lines.find_map(|line| Some(line.unwrap().strip_prefix("workers ")?.to_owned())).unwrap();
    let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
    assert!(ids.len() == 2 && !ids.iter().any(|&id| is_gone(id)));
    let begun = Instant::now();
    drop(owner);
    eventually("the workers are gone", || ids.iter().all(|&id| is_gone(id)));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
#[ignore = "waits until it is killed"]
fn own_a_cluster_until_killed() {
    let cluster = cluster(2);
    let ids: Vec<String> = cluster.process_ids().iter().map(u32::to_string).collect();
    println!("\nworkers {}", ids.join(" "));
    std::thread::sleep(PATIENCE);
}
