//! The commands of a cluster, from the outside.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gridloom::cluster::SchedulerServer;
use gridloom::scheduler::Limits;
use rustix::process::Signal;
use serde_json::Value as Json;

use super::harness::{ANY_PORT, Process, Scheduler, eventually, gridloom};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!((status.code(), text(&stderr)), (Some(0), ""));
    text(&stdout).to_owned()
}

/// Exit code 2, and one line that says why, within the time that joining may take.
#[track_caller]
fn refuses(command: &mut Command, expected: &str) {
    let begun = Instant::now();
    let output = command.output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(expected) && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn the_commands_find_each_other_by_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str| {
        let mut command = gridloom(&line.split_whitespace().collect::<Vec<&str>>());
        command.current_dir(folder.path());
        command
    };
    let scheduler =
        Process::start(&mut run("scheduler --listen 127.0.0.1:0 --token-file token --scheduler-file s.json"));
    eventually("the scheduler is there", || folder.path().join("s.json").exists());
    let mode = std::fs::metadata(folder.path().join("token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let worker = |name: &str| format!("worker --scheduler-file s.json --device cpu --threads 1 --name {name}");
    let workers = [Process::start(&mut run(&worker("one"))), Process::start(&mut run(&worker("two")))];
    let status =
        || -> Json { serde_json::from_str(&succeeds(&mut run("status --scheduler-file s.json --json"))).unwrap() };
    eventually("both are there", || status()["workers"].as_array().unwrap().len() == 2);
    assert!(status()["workers"][0]["traffic"]["packet_bytes"].as_u64().unwrap() >= 1200);
    let table = succeeds(&mut run("status --scheduler-file s.json"));
    assert!(table.starts_with("2 workers") && table.contains("one") && table.contains("cpu cranelift"), "{table}");
    for line in ["reduce mean random:100x1000 --axis 0 --chunks 10,100", "reduce var random:7777 --chunks 100"] {
        let values = |line: String| -> Json {
            serde_json::from_str::<Json>(&succeeds(&mut run(&line))).unwrap()["summary"].clone()
        };
        let remote = values(format!("{line} --json --scheduler-file s.json"));
        assert_eq!(remote, values(format!("{line} --json")), "{line}");
    }
    // A scheduler that is told to end tells its workers.
    scheduler.signal(Signal::TERM);
    assert_eq!(scheduler.end().0.code(), Some(0));
    for worker in workers {
        let (status, said) = worker.end();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    }
}

#[test]
fn credentials_that_are_refused_are_named_at_once() {
    let (scheduler, other) = (Scheduler::start(), SchedulerServer::start(ANY_PORT, Limits::default()).unwrap());
    let (address, good) = (scheduler.address(), std::fs::read_to_string(scheduler.token_file()).unwrap());
    let (start, secret) = good.trim().rsplit_once('.').unwrap();
    let digit = if secret.starts_with('0') { "1" } else { "0" };
    let wrong_secret = format!("{start}.{digit}{}", &secret[1..]);
    let of_another = other.token().reveal();
    let commands: [&[&str]; 3] = [
        &["worker", &address, "--device", "cpu", "--threads", "1"],
        &["status", "--scheduler", &address],
        &["reduce", "sum", "random:10", "--scheduler", &address],
    ];
    for command in commands {
        for (token, expected) in [
            (wrong_secret.as_str(), "a token with the wrong secret"),
            (of_another.as_str(), "the token is of another scheduler"),
            ("gl1.123", "not a token"),
        ] {
            refuses(gridloom(command).env("GRIDLOOM_TOKEN", token), expected);
        }
        refuses(gridloom(command).env("GRIDLOOM_TOKEN_FILE", "/nowhere/token"), "/nowhere/token");
    }
    let exposed = scheduler.folder().join("exposed");
    std::fs::write(&exposed, &good).unwrap();
    std::fs::set_permissions(&exposed, std::fs::Permissions::from_mode(0o644)).unwrap();
    let status = ["status", "--scheduler", &address, "--token-file", exposed.to_str().unwrap()];
    refuses(&mut gridloom(&status), "chmod 600");
    refuses(&mut gridloom(&["status"]), "name the scheduler");
    refuses(&mut gridloom(&["reduce", "sum", "random:9", "--scheduler", &address, "--workers", "2"]), "--workers");
    assert_eq!(scheduler.status().scheduler.workers, [], "nobody came in");
}

#[test]
fn a_worker_opens_files_only_beneath_its_root() {
    let scheduler = Scheduler::start();
    let address = scheduler.address();
    let data = scheduler.folder().join("data");
    std::fs::create_dir(&data).unwrap();
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/npy/f64.npy");
    let (inside, outside) = (data.join("x.npy"), scheduler.folder().join("y.npy"));
    for path in [&inside, &outside] {
        std::fs::copy(&fixture, path).unwrap();
    }
    let sum = |path: &std::path::Path| {
        let mut command = scheduler.command(&["reduce", "sum", path.to_str().unwrap(), "--json"]);
        command.args(["--scheduler", &address]);
        command
    };
    let none = scheduler.worker("none", &[]);
    refuses(&mut sum(&inside), "give it a --data-root");
    drop(none);
    eventually("it is gone", || scheduler.find("none").is_none());
    let _some = scheduler.worker("some", &["--data-root", data.to_str().unwrap()]);
    refuses(&mut sum(&outside), "alone");
    let values: Json = serde_json::from_str(&succeeds(&mut sum(&inside))).unwrap();
    let here = succeeds(&mut scheduler.command(&["reduce", "sum", "y.npy", "--json"]));
    assert_eq!(values["values"], serde_json::from_str::<Json>(&here).unwrap()["values"]);
}
