//! What a batch script does: its processes begin in any order, and the next run finds nothing of the last.

use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value as Json;

use super::harness::{Process, eventually, gridloom};

/// Long enough that whoever waits has begun to.
const A_WHILE: Duration = Duration::from_millis(300);

#[test]
fn commands_wait_for_their_scheduler_and_its_first_worker() {
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str| -> Command {
        let mut command = gridloom(&line.split_whitespace().collect::<Vec<&str>>());
        command.current_dir(folder.path());
        command
    };
    let is_there = |name: &str| folder.path().join(name).exists();
    for _ in 0..2 {
        let mut reduce = run("reduce sum random:100x1000 --chunks 10,1000 --axis 0 --scheduler-file s.json --json");
        let reduced = thread::spawn(move || reduce.output().unwrap());
        thread::sleep(A_WHILE);
        let mut scheduler = run("scheduler --listen 127.0.0.1:0 --token-file token --scheduler-file s.json");
        let scheduler = Process::start(scheduler.env("GRIDLOOM_LOG", "info"));
        eventually("the scheduler is there", || is_there("s.json"));
        let secret = std::fs::read_to_string(folder.path().join("token")).unwrap();
        thread::sleep(A_WHILE);
        let mut worker = run("worker --scheduler-file s.json --device cpu --threads 1");
        let worker = Process::start(worker.env("GRIDLOOM_LOG", "debug"));
        let output = reduced.join().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && said.starts_with("warning: no s.json yet") && said.lines().count() == 1,
            "{said}"
        );
        let report: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["devices"], serde_json::json!(["cpu cranelift: 1 worker, 1 slot"]));
        let received = |name: &str| report["bulk"][name].as_u64().unwrap();
        assert!(received("bytes_received") > 8000 && received("bytes_received_per_second") > 0, "{report}");
        scheduler.signal(Signal::TERM);
        let (ended, logged) = scheduler.end();
        assert!(ended.success() && logged.contains("a worker registers"), "{logged}");
        let (_, of_worker) = worker.end();
        assert!(of_worker.contains("traffic of blocks") || of_worker.contains("registers"), "{of_worker}");
        let secret = secret.trim().rsplit('.').next().unwrap();
        assert!(secret.len() == 32 && !logged.contains(secret) && !of_worker.contains(secret));
        assert!(!is_there("s.json") && !is_there("token"), "nobody is misled by what a scheduler left");
    }
}
