//! A scheduler in this process, others around it, and work that takes its time.

use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gridloom::client::{ClusterStatus, status};
use gridloom::cluster::SchedulerServer;
use gridloom::scheduler::{Limits, WorkerStatus};
use gridloom::{Array, Client, Devices, Kernel, LocalCluster, Value};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(super) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Longer than anything here may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
#[track_caller]
pub(super) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "still not so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The program under test, told of nothing that the environment has.
pub(super) fn gridloom(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gridloom"));
    command.args(arguments).stdin(Stdio::null());
    for variable in ["GRIDLOOM_LOG", "GRIDLOOM_TOKEN", "GRIDLOOM_TOKEN_FILE", "SLURM_PROCID", "PMI_RANK", "PMIX_RANK"] {
        command.env_remove(variable);
    }
    command
}

/// Whether a process has ended: its new parent may take its time to take it off the list.
pub(super) fn is_gone(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// The processes that one has started.
pub(super) fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lines = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lines.flat_map(|line| line.split_whitespace().flat_map(str::parse).collect::<Vec<u32>>()).collect()
}

pub(super) fn kill(process: u32) {
    kill_process(Pid::from_raw(process as i32).unwrap(), Signal::KILL).unwrap();
}

/// One of the ignored tests of these modules, alone in a process.
pub(super) fn alone(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = format!("processes::{test}");
    command.args(["--exact", &name, "--ignored", "--nocapture", "--test-threads=1"]).stdin(Stdio::null());
    command.env_remove("GRIDLOOM_LOG");
    command
}

/// A command run by a script of the shell, whose `"$@"` it is.
pub(super) fn within(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

/// A process of ours, killed when it is dropped.
pub(super) struct Process(pub(super) Child);

impl Process {
    pub(super) fn start(command: &mut Command) -> Process {
        Process(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for its end; what it said on standard error, too.
    #[track_caller]
    pub(super) fn end(mut self) -> (ExitStatus, String) {
        let mut ended = None;
        eventually("a process ends", || {
            ended = self.0.try_wait().unwrap();
            ended.is_some()
        });
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (ended.unwrap(), said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A scheduler of this process, and the file of its token.
pub(super) struct Scheduler {
    server: SchedulerServer,
    folder: TempDir,
}

impl Scheduler {
    pub(super) fn start() -> Scheduler {
        Scheduler::with(Limits::default())
    }

    pub(super) fn with(limits: Limits) -> Scheduler {
        Scheduler::at(ANY_PORT, limits)
    }

    pub(super) fn at(listen: SocketAddr, limits: Limits) -> Scheduler {
        let (server, folder) = (SchedulerServer::start(listen, limits).unwrap(), tempfile::tempdir().unwrap());
        server.token().write(&folder.path().join("token")).unwrap();
        Scheduler { server, folder }
    }

    pub(super) fn address(&self) -> String {
        self.server.address().to_string()
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    pub(super) fn client(&self) -> Client {
        Client::connect_with(&self.address(), self.server.token()).unwrap()
    }

    /// A command that knows the token.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = gridloom(arguments);
        command.env("GRIDLOOM_TOKEN_FILE", self.token_file()).current_dir(self.folder());
        command
    }

    /// Starts a worker with one thread and waits until it has registered.
    #[track_caller]
    pub(super) fn worker(&self, name: &str, more: &[&str]) -> Process {
        self.worker_on("cpu", name, more)
    }

    #[track_caller]
    pub(super) fn worker_on(&self, device: &str, name: &str, more: &[&str]) -> Process {
        let address = self.address();
        let usual =
            ["worker", &address, "--name", name, "--device", device, "--threads", "1", "--memory-limit", "1GiB"];
        let registers = if device == "gpu" { format!("{name}-gpu0") } else { name.to_owned() };
        self.started(&registers, &mut self.command(&[&usual[..], more].concat()))
    }

    /// Starts a worker and waits until one of this name has registered.
    #[track_caller]
    pub(super) fn started(&self, name: &str, command: &mut Command) -> Process {
        let worker = Process::start(command);
        eventually("a worker registers", || self.find(name).is_some());
        worker
    }

    pub(super) fn status(&self) -> ClusterStatus {
        status(&self.address(), self.server.token()).unwrap()
    }

    pub(super) fn find(&self, name: &str) -> Option<WorkerStatus> {
        self.status().scheduler.workers.into_iter().find(|worker| worker.register.name == name)
    }
}

/// Work of `blocks` blocks, each of which takes a core some 10 ms in a build without optimisation.
pub(super) fn slow(blocks: u64) -> Array {
    let text = "fn f(x: f64) -> f64 { var y = x; for (var i = 0; i < 400000; i++) { y = y * 0.75lf + x; } return y; }";
    Array::random([blocks * 32]).chunks([32]).map_blocks(&Kernel::element(text).unwrap())
}

/// What the embedded cluster makes of it.
pub(super) fn expected(array: &Array) -> Value {
    let cluster = LocalCluster::options().workers(2).start().unwrap();
    cluster.client().compute(array).unwrap().wait().unwrap()
}

/// The embedded cluster on the GPUs that there are, software ones too. Without any, says so, or fails where one is
/// required.
pub(super) fn embedded_on_gpu() -> Option<LocalCluster> {
    let embedded = LocalCluster::options().devices(Devices::Gpu).start().ok();
    if embedded.is_none() {
        assert!(std::env::var_os("GRIDLOOM_REQUIRE_GPU").is_none(), "GRIDLOOM_REQUIRE_GPU is set, and there is no GPU");
        eprintln!("skipped: there is no GPU, real or software");
    }
    embedded
}

/// Why a command that tries what not every machine permits has failed, if it has.
pub(super) fn complaint(tried: io::Result<Output>) -> Option<String> {
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}
