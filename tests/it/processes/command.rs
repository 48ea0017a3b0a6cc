//! The commands of a cluster, from the outside.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gridloom::cluster::SchedulerServer;
use gridloom::scheduler::Limits;
use gridloom::{Array, DType, Devices, Kernel};
use rustix::process::Signal;
use serde_json::Value as Json;

use super::harness::{ANY_PORT, Process, Scheduler, embedded_on_gpu, eventually, gridloom};
use crate::cluster::compute;

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
    let is_one_of_them = |worker: &Json| workers.iter().any(|process| worker["process"] == process.0.id());
    assert!(status()["workers"].as_array().unwrap().iter().all(is_one_of_them));
    assert!(status()["workers"][0]["bulk"]["packets_lost"].is_u64());
    let table = succeeds(&mut run("status --scheduler-file s.json"));
    assert!(table.starts_with("2 workers") && table.contains("one") && table.contains("cpu cranelift"), "{table}");
    let port = address_in(folder.path()).rsplit_once(':').unwrap().1.to_owned();
    let by_name = format!("status --scheduler localhost:{port} --token-file token");
    assert!(succeeds(&mut run(&by_name)).starts_with("2 workers"), "a name with several addresses");
    for line in ["reduce mean random:100x1000 --axis 0 --chunks 10,100", "reduce var random:7777 --chunks 100"] {
        let values = |line: String| -> Json {
            serde_json::from_str::<Json>(&succeeds(&mut run(&line))).unwrap()["summary"].clone()
        };
        let remote = values(format!("{line} --json --scheduler-file s.json"));
        assert_eq!(remote, values(format!("{line} --json")), "{line}");
    }
    assert_eq!(run("reduce sum none.npy --scheduler-file s.json").output().unwrap().status.code(), Some(2));
    let left = status();
    assert_eq!((&left["clients"], &left["arrays"]), (&0.into(), &0.into()), "everyone has said goodbye");
    // A scheduler that is told to end tells its workers.
    scheduler.signal(Signal::TERM);
    assert_eq!(scheduler.end().0.code(), Some(0));
    for worker in workers {
        let (status, said) = worker.end();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    }
}

fn address_in(folder: &std::path::Path) -> String {
    let said: Json = serde_json::from_slice(&std::fs::read(folder.join("s.json")).unwrap()).unwrap();
    said["address"].as_str().unwrap().to_owned()
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

/// What is on a device travels as well.
#[test]
fn a_worker_on_a_gpu_gives_the_bits_of_an_embedded_one() {
    let Some(embedded) = embedded_on_gpu() else { return };
    let scheduler = Scheduler::start();
    let _worker = scheduler.worker_on("gpu", "gpu", &[]);
    let x = Array::random([64, 1000]).with_dtype(DType::F32).chunks([8, 1000]);
    let kernel = Kernel::element("fn f(x: f32) -> f32 { return 2*x*x + 3*x + 1; }").unwrap();
    let client = scheduler.client().on(Devices::Gpu);
    let mapped = x.map_blocks(&kernel);
    // Of what stays on the device, parts are read by others.
    let kept = client.persist(&mapped).unwrap().wait().unwrap();
    assert_eq!(compute(&client, &kept).bytes(), compute(&embedded.client(), &mapped).bytes());
    let sums = [(&client, &kept), (&embedded.client(), &mapped)].map(|(client, array)| compute(client, &array.sum(0)));
    assert_eq!(sums[0].bytes(), sums[1].bytes());
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
    assert_eq!(scheduler.status().scheduler.clients, 0, "the one that failed has said goodbye");
    drop(none);
    eventually("it is gone", || scheduler.find("none").is_none());
    let _some = scheduler.worker("some", &["--data-root", data.to_str().unwrap()]);
    refuses(&mut sum(&outside), "alone");
    let values: Json = serde_json::from_str(&succeeds(&mut sum(&inside))).unwrap();
    let here = succeeds(&mut scheduler.command(&["reduce", "sum", "y.npy", "--json"]));
    assert_eq!(values["values"], serde_json::from_str::<Json>(&here).unwrap()["values"]);
}

#[test]
fn ranks_of_one_job_find_each_other() {
    let folder = tempfile::tempdir().unwrap();
    // Left by a job before this one.
    std::fs::write(folder.path().join("s.json"), r#"{"address":"127.0.0.1:9","token_file":"x","job":"6.0"}"#).unwrap();
    let rank = |number: &str| {
        let line = "rank --scheduler-file s.json --listen 127.0.0.1:0 --device cpu --threads 1";
        let mut command = gridloom(&line.split_whitespace().collect::<Vec<&str>>());
        command.current_dir(folder.path());
        let environment = [("SLURM_PROCID", number), ("SLURM_JOB_ID", "7"), ("SLURM_STEP_ID", "0")];
        Process::start(command.envs(environment))
    };
    let workers = [rank("1"), rank("2")];
    let scheduler = rank("0");
    let mut status = gridloom(&["status", "--scheduler-file", "s.json", "--json"]);
    status.current_dir(folder.path());
    eventually("both are there", || {
        let said = status.output().unwrap().stdout;
        serde_json::from_slice::<Json>(&said).is_ok_and(|said| said["workers"].as_array().unwrap().len() == 2)
    });
    scheduler.signal(Signal::TERM);
    for process in [scheduler].into_iter().chain(workers) {
        let (status, said) = process.end();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    }
    refuses(&mut gridloom(&["rank", "--scheduler-file", "s.json"]), "no rank");
}
