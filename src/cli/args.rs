//! The command line's grammar, and what `--help` says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::human::{parse_bytes, parse_duration};
use super::input::{Chunks, Input, KernelPath};
use super::reach::{KeyArgs, ReachArgs, parse_host};
use crate::client::Devices;

/// Computes on big N-d arrays, block by block.
#[derive(Debug, Parser)]
#[command(name = "gridloom", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(super) struct Command {
    #[command(subcommand)]
    pub(super) action: Action,
}

const EXAMPLES: &str = "Examples:
  gridloom reduce mean random:10000x1000x1000 --axis -1
  gridloom map poly.wgsl a.npy -o b.npy
  gridloom explain reduce sum a.npy --map square.wgsl
  gridloom kernel check poly.wgsl

An INPUT is a .npy file or random:SHAPE[:DTYPE][?seed=N].
Exit codes: 0 done, 1 failed, 2 something in the command or its files to be mended, 130 interrupted.";

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    Map(MapCommand),
    Reduce(ReduceCommand),
    /// Print the plan of a map or a reduction, and run nothing
    #[command(after_help = EXPLAIN_EXAMPLES, arg_required_else_help = true)]
    Explain {
        #[command(subcommand)]
        what: Explain,
    },
    /// Look at kernels
    #[command(arg_required_else_help = true)]
    Kernel {
        #[command(subcommand)]
        what: KernelAction,
    },
    Scheduler(SchedulerCommand),
    Worker(WorkerCommand),
    Rank(RankCommand),
    Status(StatusCommand),
    /// Say what this machine offers: system, cores, SIMD, memory, GPUs
    Doctor {
        /// Print one JSON object and nothing else
        #[arg(long)]
        json: bool,
    },
}

const EXPLAIN_EXAMPLES: &str = "Examples:
  gridloom explain reduce mean random:10000x1000x1000 --axis -1
  gridloom explain map poly.wgsl a.npy --chunks 1000,1000";

/// Decide for a cluster: workers and clients connect to it, and it ends when it is told to
#[derive(Debug, Args)]
#[command(after_help = SCHEDULER_EXAMPLES)]
pub(super) struct SchedulerCommand {
    /// Where workers and clients reach it (QUIC, so UDP); port 0 is one that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8786")]
    pub(super) listen: SocketAddr,
    /// Where its token is written, for its owner alone. Without it: ~/.config/gridloom/token
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Where its address and token file are written, for machines that share a disk; the file goes when it ends
    #[arg(long, value_name = "FILE")]
    pub(super) scheduler_file: Option<PathBuf>,
}

const SCHEDULER_EXAMPLES: &str = "Examples:
  gridloom scheduler
  gridloom scheduler --listen 0.0.0.0:8786 --token-file /shared/token --scheduler-file /shared/scheduler.json

Whoever has the token is trusted as a worker and as a client.";

/// Compute for a scheduler, until it is told to end: the first signal hands over what it holds, the second ends it at once
#[derive(Debug, Args)]
#[command(after_help = WORKER_EXAMPLES)]
pub(super) struct WorkerCommand {
    /// The scheduler
    #[arg(value_name = "HOST:PORT", group = "reach")]
    pub(super) scheduler: Option<String>,
    #[command(flatten)]
    pub(super) keys: KeyArgs,
    #[command(flatten)]
    pub(super) work: WorkerArgs,
    /// End when standard input does, as a child of another program; hand over first if something is said there
    #[arg(long)]
    pub(super) with_parent: bool,
    /// Compute on this GPU alone and in this very process, as a worker tells the process that it starts for each
    #[arg(long, value_name = "GPU", hide = true, conflicts_with_all = ["device", "threads"], requires = "gpu_memory")]
    pub(super) gpu: Option<String>,
    /// In so many bytes of its memory
    #[arg(long, value_name = "BYTES", hide = true, requires = "gpu")]
    pub(super) gpu_memory: Option<u64>,
}

const WORKER_EXAMPLES: &str = "Examples:
  gridloom worker 10.0.0.1:8786 --token-file token --data-root /data --memory-limit 8GiB
  gridloom worker --scheduler-file /shared/scheduler.json --device gpu";

/// Be one rank of a cluster: rank 0 its scheduler, every other a worker, as Slurm, Open MPI or PMI count them
#[derive(Debug, Args)]
#[command(after_help = RANK_EXAMPLES)]
pub(super) struct RankCommand {
    /// Where rank 0 writes its address and token file, and the others look for them
    #[arg(long, value_name = "FILE")]
    pub(super) scheduler_file: PathBuf,
    /// Where rank 0 is reached (QUIC, so UDP); port 0 is one that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:0")]
    pub(super) listen: SocketAddr,
    #[command(flatten)]
    pub(super) work: WorkerArgs,
}

const RANK_EXAMPLES: &str = "Example, in a script for sbatch:
  #SBATCH --ntasks=9
  srun gridloom rank --scheduler-file scheduler-$SLURM_JOB_ID.json --data-root /data &
  gridloom map poly.wgsl /data/a.npy -o b.npy --scheduler-file scheduler-$SLURM_JOB_ID.json
  kill %1; wait

The token lies beside the scheduler file, for its owner alone.";

/// What a worker computes with.
#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// On what it computes: `auto` and `all` are the CPU and every real GPU, each in a process of its own
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub(super) device: Device,
    /// Threads on the CPU. Without it: one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(super) threads: Option<u32>,
    /// The most memory it takes for each device: 8GiB, 500MB. Without it: 60% of what there is, shared out
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(super) memory_limit: Option<u64>,
    /// What people call it. Without it: the machine's name and the process's number
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// The folder beneath which it opens files. Without it: it opens none
    #[arg(long, value_name = "DIR")]
    pub(super) data_root: Option<PathBuf>,
    /// Where others reach it, if not at the address from which it reaches the scheduler; those on its GPUs are reached at
    /// the ports behind a port
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse_host)]
    pub(super) advertise: Option<String>,
    /// When it leaves by itself: 90s, 55m, 24h
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) lifetime: Option<Duration>,
    /// How long it looks for a scheduler that is gone before it ends: 1s, 5m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub(super) redial: Duration,
    /// How long a kernel may run on one block: 500ms, 60s, 2m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub(super) block_timeout: Duration,
}

/// Say how a cluster stands: its workers, what they hold and have to do, what their connections have seen
#[derive(Debug, Args)]
pub(super) struct StatusCommand {
    #[command(flatten)]
    pub(super) reach: ReachArgs,
    /// Print one JSON object and nothing else
    #[arg(long)]
    pub(super) json: bool,
}

/// Apply an element or block kernel to arrays, which broadcast together
#[derive(Debug, Args)]
#[command(after_help = MAP_EXAMPLES)]
pub(super) struct MapCommand {
    #[command(flatten)]
    pub(super) map: MapArgs,
    /// Where the result goes; the file appears whole or not at all
    #[arg(short, long, value_name = "OUT.npy")]
    pub(super) output: PathBuf,
}

const MAP_EXAMPLES: &str = "Examples:
  gridloom map poly.wgsl a.npy -o b.npy
  gridloom map 'ops.wgsl#hypotenuse' a.npy b.npy -o c.npy --chunks 1000,1000
  gridloom map poly.wgsl 'random:20000x20000:f32?seed=7' -o b.npy --workers 2 --json

with poly.wgsl:
  fn f(x: T) -> T { return 2*x*x + 3*x + 1; }";

/// What is mapped.
#[derive(Debug, Args)]
pub(super) struct MapArgs {
    /// The kernel: `file.wgsl`, or `file.wgsl#name` where the file has several functions that no other calls (several
    /// entry points, of block kernels)
    #[arg(value_name = "KERNEL.wgsl[#name]")]
    pub(super) kernel: KernelPath,
    /// One per parameter of the kernel: a .npy file or random:SHAPE[:DTYPE][?seed=N]
    #[arg(value_name = "INPUT", required = true)]
    pub(super) inputs: Vec<Input>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// Reduce an array over axes
#[derive(Debug, Args)]
#[command(after_help = REDUCE_EXAMPLES)]
pub(super) struct ReduceCommand {
    #[command(flatten)]
    pub(super) reduce: ReduceArgs,
    /// Where the result goes; the file appears whole or not at all
    #[arg(short, long, value_name = "OUT.npy")]
    pub(super) output: Option<PathBuf>,
}

const REDUCE_EXAMPLES: &str = "Examples:
  gridloom reduce mean random:10000x1000x1000 --axis -1
  gridloom reduce sum a.npy
  gridloom reduce max a.npy --axis 0 --axis 2 --keepdims -o b.npy
  gridloom reduce sum a.npy --map square.wgsl --json";

/// What is reduced.
#[derive(Debug, Args)]
pub(super) struct ReduceArgs {
    /// The operation
    #[arg(value_name = "OP")]
    pub(super) op: Op,
    /// A .npy file or random:SHAPE[:DTYPE][?seed=N]
    #[arg(value_name = "INPUT")]
    pub(super) input: Input,
    /// An axis to reduce, negative ones from the last; may be given several times. Without it: all axes, a 0-d result
    #[arg(long, value_name = "A", allow_negative_numbers = true)]
    pub(super) axis: Vec<i64>,
    /// Keep the reduced axes, with length 1
    #[arg(long)]
    pub(super) keepdims: bool,
    /// An element or block kernel of one parameter, applied first
    #[arg(long, value_name = "KERNEL.wgsl")]
    pub(super) map: Option<KernelPath>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// How work is done.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Lengths of blocks, one per axis; longer ones than the axis are clipped. Without it: chosen from shape and dtype
    #[arg(long, value_name = "LENGTHS")]
    pub(super) chunks: Option<Chunks>,
    #[command(flatten)]
    pub(super) reach: ReachArgs,
    /// How many workers; the result has the same bits for any number
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "reach", value_parser = clap::value_parser!(u32).range(1..=WORKERS_MAX))]
    pub(super) workers: u32,
    /// Threads of each worker. Without it: the cores shared out
    #[arg(long, value_name = "N", conflicts_with = "reach", value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(super) threads: Option<u32>,
    /// Which devices may compute; `all` lets them share a job, and float bits may then vary
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub(super) device: Device,
    /// How long a kernel may run on one block: 500ms, 60s, 2m
    #[arg(long, value_name = "TIME", default_value = "60s", conflicts_with = "reach", value_parser = parse_duration)]
    pub(super) block_timeout: Duration,
    /// Print one JSON object and nothing else; errors stay on standard error
    #[arg(long)]
    pub(super) json: bool,
}

/// Far more than one machine has; a typing error must not start a million threads.
const WORKERS_MAX: i64 = 1024;
const THREADS_MAX: i64 = 1024;

/// Which devices may compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Device {
    /// GPUs for large jobs where there are real ones, else CPUs
    Auto,
    /// CPUs only
    Cpu,
    /// GPUs only; a software one where there is no other
    Gpu,
    /// Every real device that is there shares the job
    All,
}

impl Device {
    pub(super) const fn devices(self) -> Devices {
        match self {
            Device::Auto => Devices::Auto,
            Device::Cpu => Devices::Cpu,
            Device::Gpu => Devices::Gpu,
            Device::All => Devices::All,
        }
    }
}

/// The built-in reductions, by NumPy's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Op {
    Sum,
    Prod,
    Mean,
    Var,
    Std,
    Min,
    Max,
    Any,
    All,
    CountNonzero,
    #[value(name = "argmin")]
    ArgMin,
    #[value(name = "argmax")]
    ArgMax,
}

/// What is explained: the same words as the command itself.
#[derive(Debug, Subcommand)]
pub(super) enum Explain {
    /// The plan of a map
    Map {
        #[command(flatten)]
        map: MapArgs,
        /// Taken and not used, so that `explain` can stand before any command
        #[arg(short, long, value_name = "OUT.npy", hide = true)]
        output: Option<PathBuf>,
    },
    /// The plan of a reduction
    Reduce {
        #[command(flatten)]
        reduce: ReduceArgs,
        /// Taken and not used, so that `explain` can stand before any command
        #[arg(short, long, value_name = "OUT.npy", hide = true)]
        output: Option<PathBuf>,
    },
}

/// What is done with a kernel.
#[derive(Debug, Subcommand)]
pub(super) enum KernelAction {
    /// Parse and validate a kernel, and say what it takes and returns
    #[command(after_help = "Example:\n  gridloom kernel check 'ops.wgsl#hypotenuse'")]
    Check {
        /// The kernel: `file.wgsl` or `file.wgsl#name`
        #[arg(value_name = "KERNEL.wgsl[#name]")]
        kernel: KernelPath,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Command::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_grammar_is_consistent() {
        Command::command().debug_assert();
    }

    #[test]
    fn the_readme_commands_parse() {
        let command = parse("gridloom reduce mean random:10000x1000x1000 --axis -1").unwrap();
        let Action::Reduce(ReduceCommand { reduce, output: None }) = command.action else { panic!("{command:?}") };
        assert_eq!((reduce.op, &reduce.axis[..], reduce.run.workers), (Op::Mean, &[-1i64][..], 1));
        assert_eq!(reduce.run.block_timeout, Duration::from_secs(60));
        let command =
            parse("gridloom map k.wgsl#f a.npy b.npy -o c.npy --chunks 10,10 --threads 3 --device all --json");
        let Action::Map(MapCommand { map, output }) = command.unwrap().action else { panic!() };
        assert_eq!((map.inputs.len(), map.run.chunks, output), (2, Some(Chunks(vec![10, 10])), "c.npy".into()));
        assert_eq!((map.run.threads, map.run.device, map.run.json), (Some(3), Device::All, true));
        assert!(parse("gridloom reduce count_nonzero a.npy --axis 0 --axis -2 --keepdims --map k.wgsl").is_ok());
        assert!(parse("gridloom explain map k.wgsl a.npy -o b.npy").is_ok());
        assert!(parse("gridloom reduce argmax a.npy --block-timeout 500ms").is_ok());
    }

    #[test]
    fn the_commands_of_a_cluster_parse() {
        let command = parse("gridloom worker 10.0.0.1:8786 --memory-limit 8GiB --lifetime 24h --advertise node7:9000");
        let Action::Worker(WorkerCommand { scheduler, work, with_parent: false, .. }) = command.unwrap().action else {
            panic!()
        };
        assert_eq!((scheduler.as_deref(), work.memory_limit), (Some("10.0.0.1:8786"), Some(8 << 30)));
        assert_eq!(work.lifetime, Some(Duration::from_secs(86_400)));
        assert!(parse("gridloom worker --scheduler-file s.json --device gpu --data-root /data").is_ok());
        assert!(parse("gridloom scheduler --listen 0.0.0.0:8786 --token-file t --scheduler-file s.json").is_ok());
        assert!(parse("gridloom status --scheduler localhost:8786 --json").is_ok());
        assert!(parse("gridloom rank --scheduler-file s.json --threads 4").is_ok());
        assert!(parse("gridloom map k.wgsl a.npy -o b.npy --scheduler-file s.json --device all").is_ok());
    }

    #[test]
    fn bad_words_are_refused() {
        for line in [
            "gridloom worker 10.0.0.1:8786 --scheduler-file s.json",
            "gridloom worker 10.0.0.1:8786 --memory-limit much",
            "gridloom reduce sum a.npy --scheduler a:1 --scheduler-file s.json",
            "gridloom reduce sum a.npy --scheduler-file s.json --threads 2",
            "gridloom scheduler --listen nowhere",
            "gridloom rank",
            "gridloom reduce median a.npy",
            "gridloom reduce sum",
            "gridloom reduce sum a.npy b.npy",
            "gridloom reduce sum a.npy --axis x",
            "gridloom reduce sum a.npy --workers 0",
            "gridloom reduce sum a.npy --threads 0",
            "gridloom reduce sum a.npy --chunks 0",
            "gridloom reduce sum a.npy --block-timeout 0s",
            "gridloom reduce sum a.npy --device tpu",
            "gridloom reduce sum random:3:f16",
            "gridloom map k.wgsl a.npy",
            "gridloom map k.wgsl -o b.npy",
            "gridloom plot",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
