//! A scheduler in this process, others around it, and work that takes its time.

use std::fs;
use std::io::{self, Read, Write};
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

/// What a worker may take in all unless a test says otherwise. Whichever is killed at the end of its test is seen to have
/// kept to it.
pub(super) const WORKER_BYTES: u64 = 192 << 20;

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
    let ours = ["GRIDLOOM_LOG", "GRIDLOOM_TOKEN", "GRIDLOOM_TOKEN_FILE"];
    let of_starters = ["SLURM_PROCID", "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"];
    for variable in ours.iter().chain(&of_starters) {
        command.env_remove(variable);
    }
    command
}

/// A number of bytes that the system notes of a process, such as `VmHWM`; nothing once it has ended.
pub(super) fn noted(process: u32, what: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// The most that a process has had in memory so far, in bytes; nothing once it has ended.
pub(super) fn peak(process: u32) -> Option<u64> {
    noted(process, "VmHWM")
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
    alone_as(&std::env::current_exe().unwrap(), test)
}

/// The same where this program is known by another path.
pub(super) fn alone_as(program: &Path, test: &str) -> Command {
    let mut command = Command::new(program);
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
pub(super) struct Process {
    pub(super) child: Child,
    /// What it promises to take at most.
    bytes_max: Option<u64>,
}

impl Process {
    pub(super) fn start(command: &mut Command) -> Process {
        Process { child: command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(), bytes_max: None }
    }

    /// It is seen to that it has not taken more when it is dropped.
    pub(super) fn beneath(mut self, bytes_max: u64) -> Process {
        self.bytes_max = Some(bytes_max);
        self
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end; what it said on standard error, too.
    #[track_caller]
    pub(super) fn end(mut self) -> (ExitStatus, String) {
        let mut ended = None;
        eventually("a process ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (ended.unwrap(), said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let peak = peak(self.id());
        drop(self.child.kill());
        drop(self.child.wait());
        if let (Some(peak), Some(bytes_max), false) = (peak, self.bytes_max, thread::panicking()) {
            assert!(peak <= bytes_max, "a worker took {peak} bytes of {bytes_max}");
        }
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
        self.started(name, &mut self.worker_command(&self.address(), name, more)).beneath(WORKER_BYTES)
    }

    /// A worker on the CPU, with one thread, that reaches this scheduler at `address`.
    pub(super) fn worker_command(&self, address: &str, name: &str, more: &[&str]) -> Command {
        let limit = WORKER_BYTES.to_string();
        let usual = ["worker", address, "--name", name, "--device", "cpu", "--threads", "1", "--memory-limit", &limit];
        self.command(&[&usual[..], more].concat())
    }

    /// The same on the GPU, in a process of its own.
    #[track_caller]
    pub(super) fn worker_on_gpu(&self, name: &str, more: &[&str]) -> Process {
        let address = self.address();
        let usual = ["worker", &address, "--name", name, "--device", "gpu", "--memory-limit", "1GiB"];
        self.started(&format!("{name}-gpu0"), &mut self.command(&[&usual[..], more].concat()))
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

/// What takes a core some 10 ms for a block of 32 elements, in a build without optimisation.
pub(super) const SLOW: &str =
    "fn f(x: f64) -> f64 { var y = x; for (var i = 0; i < 400000; i++) { y = y * 0.75lf + x; } return y; }";

/// So many blocks of 32 elements.
pub(super) fn quick(blocks: u64) -> Array {
    Array::random([blocks * 32]).chunks([32])
}

/// Work of `blocks` blocks that take their time.
pub(super) fn slow(blocks: u64) -> Array {
    slowly(&quick(blocks))
}

/// The same for what is there already.
pub(super) fn slowly(array: &Array) -> Array {
    array.map_blocks(&Kernel::element(SLOW).unwrap())
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
        skip("GRIDLOOM_REQUIRE_GPU", "there is no GPU, real or software");
    }
    embedded
}

/// Says why a test is skipped, or fails where the environment requires what it needs.
#[track_caller]
pub(super) fn skip(required: &str, why: &str) {
    assert!(std::env::var_os(required).is_none(), "{required} is set, and {why}");
    let test = thread::current();
    // What is printed by a test that passes is kept back; this is not.
    drop(writeln!(io::stderr(), "skipped {}: {why}", test.name().unwrap_or_default()));
}

/// What makes it a failure that the machine permits no namespaces.
pub(super) const REQUIRE_NAMESPACES: &str = "GRIDLOOM_REQUIRE_NAMESPACES";

/// Why a command that tries what not every machine permits has failed, if it has.
pub(super) fn complaint(tried: io::Result<Output>) -> Option<String> {
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}
