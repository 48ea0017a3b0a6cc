//! The commands of a cluster, from the outside.

#![allow(clippy::print_stdout, reason = "what a test in a process of its own tells the one that waits for it")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gridloom::cluster::SchedulerServer;
use gridloom::scheduler::Limits;
use gridloom::{Array, DType, Devices, Kernel, LocalCluster};
use rustix::process::Signal;
use serde_json::Value as Json;

use super::harness::{ANY_PORT, Process, Scheduler, alone_as, embedded_on_gpu, eventually, gridloom};
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
pub(super) fn refuses(command: &mut Command, expected: &str) {
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
    let is_one_of_them = |worker: &Json| workers.iter().any(|process| worker["process"] == process.id());
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
    std::fs::write(folder.path().join("poly.wgsl"), "fn f(x: T) -> T { return 2*x*x + 3*x + 1; }").unwrap();
    let mapped = |output: &str, more: &str| {
        succeeds(&mut run(&format!("map poly.wgsl random:1000x90:f32 --chunks 70,90 -o {output} {more}")));
        std::fs::read(folder.path().join(output)).unwrap()
    };
    assert!(mapped("far.npy", "--scheduler-file s.json") == mapped("near.npy", ""), "other bytes");
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
    let _worker = scheduler.worker_on_gpu("w", &[]);
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

/// Started as these variables number it, the last of them.
fn ranks_find_each_other(job: &[(&str, &str)], number: &str) {
    let folder = tempfile::tempdir().unwrap();
    // Left by a job before this one.
    std::fs::write(folder.path().join("s.json"), r#"{"address":"127.0.0.1:9","token_file":"x","job":"6.0"}"#).unwrap();
    let rank = |rank: &str| {
        let line = "rank --scheduler-file s.json --listen 127.0.0.1:0 --device cpu --threads 1";
        let mut command = gridloom(&line.split_whitespace().collect::<Vec<&str>>());
        Process::start(command.current_dir(folder.path()).envs(job.iter().copied()).env(number, rank))
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
}

#[test]
fn ranks_of_slurm_find_each_other() {
    ranks_find_each_other(&[("SLURM_JOB_ID", "7"), ("SLURM_STEP_ID", "0")], "SLURM_PROCID");
}

#[test]
fn ranks_of_open_mpi_find_each_other() {
    // Within a step of Slurm, which numbers all of its starters alike.
    let of_slurm = [("SLURM_JOB_ID", "7"), ("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "0")];
    let job = [&of_slurm[..], &[("PMIX_NAMESPACE", "prte-node1-88@1")]].concat();
    ranks_find_each_other(&job, "OMPI_COMM_WORLD_RANK");
}

#[test]
fn ranks_of_pmi_find_each_other() {
    ranks_find_each_other(&[("PMI_JOBID", "kvs_88_0")], "PMI_RANK");
}

#[test]
fn a_process_without_a_rank_is_none() {
    refuses(&mut gridloom(&["rank", "--scheduler-file", "s.json"]), "no rank");
}

#[test]
fn a_scheduler_says_where_it_is_and_its_token_is_found_at_home() {
    let home = tempfile::tempdir().unwrap();
    let at_home = |arguments: &[&str]| {
        let mut command = gridloom(arguments);
        command.env("HOME", home.path());
        command
    };
    let mut scheduler = Process::start(&mut at_home(&["scheduler", "--listen", "127.0.0.1:0"]));
    let mut lines = BufReader::new(scheduler.child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said = |label: &str| lines.next().unwrap().strip_prefix(label).unwrap().to_owned();
    let (address, token) = (said("scheduler  "), said("token      "));
    assert_eq!(Path::new(&token), home.path().join(".config/gridloom/token"));
    assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    let _worker = Process::start(&mut at_home(&["worker", &address, "--device", "cpu", "--threads", "1"]));
    eventually("it is there", || succeeds(&mut at_home(&["status", "--scheduler", &address])).starts_with("1 worker"));
    let sum = succeeds(&mut at_home(&["reduce", "sum", "random:100", "--scheduler", &address, "--json"]));
    assert!(serde_json::from_str::<Json>(&sum).is_ok(), "{sum}");
    scheduler.signal(Signal::TERM);
    assert_eq!(scheduler.end().0.code(), Some(0));
    assert_eq!(lines.next(), None, "it says nothing more");
}

/// What is named goes before what the environment has, and that before what lies at home.
#[test]
fn the_first_token_that_there_is_counts() {
    const SOURCES: [&str; 4] = ["named", "GRIDLOOM_TOKEN", "of_environment", ".config/gridloom/token"];
    let scheduler = Scheduler::start();
    let (address, home) = (scheduler.address(), scheduler.folder().join("home"));
    std::fs::create_dir_all(home.join(".config/gridloom")).unwrap();
    // The first source has one token, and all after it another. A variable that is empty is as good as none.
    let status = |first: usize, its: &str, of_others: &str| {
        let text = |source: usize| if source == first { its } else { of_others };
        let file = |source: usize| {
            let path = home.join(SOURCES[source]);
            std::fs::write(&path, text(source)).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let mut command = gridloom(&["status", "--scheduler", &address]);
        file(3);
        command.env("HOME", &home).env("GRIDLOOM_TOKEN", "").env("GRIDLOOM_TOKEN_FILE", "");
        if first <= 2 {
            command.env("GRIDLOOM_TOKEN_FILE", file(2));
        }
        if first <= 1 {
            command.env("GRIDLOOM_TOKEN", text(1));
        }
        if first == 0 {
            command.arg("--token-file").arg(file(0));
        }
        command
    };
    let (good, bad) = (std::fs::read_to_string(scheduler.token_file()).unwrap(), "gl1.123");
    for (first, source) in SOURCES.into_iter().enumerate() {
        assert!(succeeds(&mut status(first, &good, bad)).starts_with("0 workers"));
        refuses(&mut status(first, bad, &good), source);
    }
}

/// The one that is named, or else the one beside this program, in the folder above, or in `PATH`.
#[test]
fn workers_are_run_with_the_program_that_is_found() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let [above, beside, path] = ["", "here", "path"].map(|name| folder.path().join(name));
    std::fs::create_dir(&beside).unwrap();
    std::fs::create_dir(&path).unwrap();
    let (program, ours) = (beside.join("program"), Path::new(env!("CARGO_BIN_EXE_gridloom")));
    // A copy that has no other beside it.
    std::fs::hard_link(std::env::current_exe().unwrap(), &program).unwrap();
    let found = |named: Option<&Path>| {
        let mut command = alone_as(&program, "command::say_which_program_is_found");
        command.env_remove("GRIDLOOM_BIN").env("PATH", &path);
        let output = command.envs(named.map(|named| ("GRIDLOOM_BIN", named))).output().unwrap();
        let said = text(&output.stdout).lines().find_map(|line| line.strip_prefix("found: ")).map(str::to_owned);
        said.unwrap_or_else(|| panic!("{output:?}"))
    };
    assert!(found(None).starts_with("no `gridloom` to run workers with"));
    for place in [&path, &above, &beside] {
        let gridloom = place.join("gridloom");
        std::fs::hard_link(ours, &gridloom).unwrap();
        assert_eq!(Path::new(&found(None)), gridloom);
    }
    assert_eq!(Path::new(&found(Some(ours))), ours);
    assert!(found(Some(Path::new("/nowhere/gridloom"))).starts_with("/nowhere/gridloom: No such file"));
}

#[test]
#[ignore = "is run as another program"]
fn say_which_program_is_found() {
    match LocalCluster::options().processes(true).devices(Devices::Cpu).start() {
        Ok(cluster) => {
            let program = std::fs::read_link(format!("/proc/{}/exe", cluster.process_ids()[0])).unwrap();
            println!("\nfound: {}", program.display());
        }
        Err(error) => println!("\nfound: {error}"),
    }
}
