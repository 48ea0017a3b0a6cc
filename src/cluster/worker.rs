//! What `gridloom worker` runs: a worker on the CPU, and a process with another on each GPU, as asked for, until they are
//! told to end.

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gridloom_worker::cpu::{CodeGenerator, CpuOptions};
use gridloom_worker::gpu::{Adapter, GpuOptions};
use gridloom_worker::net::identity::Token;
use gridloom_worker::serve::{DataRoot, Device, REDIAL_FOR, RemoteOptions, RemoteWorker, Stop, WorkerOptions};
use gridloom_worker::wire::NAME_BYTES_MAX;

use super::budget::{BlockMemory, Budget};
use super::child::program;
use super::gpus::{GPU_SLOTS, gpu_of_name, ledger_bytes, name_of, usable_gpus};
use super::kept::{KeptProcess, LivingId};
use super::{BLOCK_TIMEOUT, ClusterError};
use crate::client::Devices;
use crate::host;

/// How a worker and those on its GPUs are made.
#[derive(Clone, Debug)]
pub struct RemoteWorkers {
    /// Where the scheduler is.
    pub scheduler: String,
    /// What lets them join.
    pub token: Token,
    /// What people call them.
    pub name: String,
    /// On what they compute: [`Devices::Auto`] and [`Devices::All`] are the CPU and every real GPU.
    pub devices: Devices,
    /// Slots of the one on the CPU; a core each unless said otherwise.
    pub threads: Option<NonZeroUsize>,
    /// What each may take, the program itself included; all share the memory of this process unless said otherwise.
    pub memory_bytes: Option<u64>,
    /// Which files they may open.
    pub data_root: DataRoot,
    /// Where peers reach them, if not where they reach the scheduler from.
    pub advertise: Option<String>,
    /// When they leave by themselves.
    pub lifetime: Option<Duration>,
    /// How long they look for a scheduler that is gone before they end.
    pub redial_for: Duration,
    /// The longest that a kernel may run on one block.
    pub block_timeout: Duration,
    /// What the process of each GPU runs; found as for a [`LocalCluster`](super::LocalCluster) unless said otherwise.
    pub program: Option<PathBuf>,
    /// One GPU, computed on by this very process and nothing else, in so many bytes of its memory: what the process of a
    /// GPU is told.
    pub gpu: Option<(String, u64)>,
    /// Hears, in one line, what should be known before all ends.
    pub warn: fn(&str),
}

/// One of the workers.
enum Part {
    /// In this process.
    Here(Box<RemoteWorker>),
    /// In a process of its own.
    Apart(KeptProcess),
}

impl Part {
    fn run(&self, stop: &Stop) -> Result<(), ClusterError> {
        match self {
            Part::Here(worker) => Ok(worker.run()?),
            Part::Apart(process) => process.run(stop),
        }
    }
}

impl RemoteWorkers {
    /// As usual: on every device, opening no files.
    pub fn new(scheduler: String, token: Token) -> RemoteWorkers {
        RemoteWorkers {
            scheduler,
            token,
            name: format!("{}-{}", host::name(), std::process::id()),
            devices: Devices::Auto,
            threads: None,
            memory_bytes: None,
            data_root: DataRoot::None,
            advertise: None,
            lifetime: None,
            redial_for: REDIAL_FOR,
            block_timeout: BLOCK_TIMEOUT,
            program: None,
            gpu: None,
            warn: |line| tracing::warn!("{line}"),
        }
    }

    /// Serves until `stop`, or the scheduler, ends all of them.
    ///
    /// # Errors
    /// The first for which one ended by itself; then the others end too. But a GPU whose process dies again and again is
    /// given up alone, unless it is the last.
    pub fn run(&self, stop: &Stop) -> Result<(), ClusterError> {
        if let DataRoot::Beneath(path) = &self.data_root {
            let looked = std::fs::metadata(path).map(|found| found.is_dir());
            if !matches!(looked, Ok(true)) {
                return Err(ClusterError::DataRoot { path: path.clone(), error: looked.err() });
            }
        }
        serve(self.parts(stop)?, self.warn, stop)
    }

    /// One for each device.
    fn parts(&self, stop: &Stop) -> Result<Vec<Part>, ClusterError> {
        self.check_name()?;
        if let &Some((ref name, memory_bytes)) = &self.gpu {
            let options = GpuOptions { slots: GPU_SLOTS, block_timeout: self.block_timeout, memory_bytes };
            return Ok(vec![self.here(Device::Gpu(gpu_of_name(name)?, options), self.memory_bytes(1), stop)?]);
        }
        let gpus = if self.devices == Devices::Cpu { Vec::new() } else { usable_gpus(self.devices)? };
        let has_cpu = self.devices != Devices::Gpu;
        let limit = self.memory_bytes(gpus.len() + usize::from(has_cpu));
        let slots = self.threads.map_or_else(host::cores, NonZeroUsize::get);
        let code_generator = CodeGenerator::default();
        let cpu = Device::Cpu(CpuOptions { slots, block_timeout: self.block_timeout, code_generator });
        let here = has_cpu.then(|| self.here(cpu, limit, stop));
        let gpus = gpus.iter().enumerate();
        here.into_iter().chain(gpus.map(|(number, gpu)| self.apart(number, gpu, limit))).collect()
    }

    /// Whether the name, and those of the processes on GPUs that begin with it, are short enough for a scheduler.
    fn check_name(&self) -> Result<(), ClusterError> {
        let longest = if self.gpu.is_some() { self.name.clone() } else { name_on_gpu(&self.name, usize::MAX) };
        match longest.len() {
            bytes if bytes > NAME_BYTES_MAX => Err(ClusterError::LongName { bytes }),
            _ => Ok(()),
        }
    }

    /// What each of so many workers may take in all.
    fn memory_bytes(&self, workers: usize) -> u64 {
        self.memory_bytes.unwrap_or_else(|| Budget::of_this_process().share(workers))
    }

    /// The one worker of this process, which may take `limit` bytes of memory.
    fn here(&self, device: Device, limit: u64, stop: &Stop) -> Result<Part, ClusterError> {
        let BlockMemory { buffer_bytes, ledger_bytes: memory_bytes } = block_memory(limit)?;
        gridloom_worker::block::set_bytes_max(buffer_bytes);
        let options = RemoteOptions {
            scheduler: self.scheduler.clone(),
            token: self.token.clone(),
            name: self.name.clone(),
            advertise: self.advertise.clone(),
            lifetime: self.lifetime,
            redial_for: self.redial_for,
            worker: WorkerOptions { device, memory_bytes, data_root: self.data_root.clone() },
        };
        Ok(Part::Here(Box::new(RemoteWorker::new(options, stop.clone())?)))
    }

    fn apart(&self, number: usize, gpu: &Adapter, limit: u64) -> Result<Part, ClusterError> {
        let share = block_memory(limit)?.ledger_bytes;
        let name = name_on_gpu(&self.name, number);
        let milliseconds = |time: Duration| format!("{}ms", time.as_millis().max(1));
        let usual = [
            "worker".to_owned(),
            self.scheduler.clone(),
            format!("--gpu={}", name_of(gpu.info())),
            format!("--name={name}"),
            format!("--memory-limit={limit}"),
            format!("--gpu-memory={}", ledger_bytes(gpu.info().usable_bytes(), self.memory_bytes, share)),
            format!("--block-timeout={}", milliseconds(self.block_timeout)),
            format!("--redial={}", milliseconds(self.redial_for)),
            "--with-parent".to_owned(),
        ];
        let data_root = match &self.data_root {
            DataRoot::None => None,
            DataRoot::Beneath(folder) => Some(folder.clone()),
            DataRoot::Anywhere => Some("/".into()),
        };
        let data_root = data_root.into_iter().flat_map(|folder| ["--data-root".into(), folder.into_os_string()]);
        let advertise = self.advertise.as_deref().map(|address| beside(address, 1 + number as u16));
        let advertise = advertise.map(|address| format!("--advertise={address}").into());
        let arguments: Vec<OsString> =
            usual.map(OsString::from).into_iter().chain(data_root).chain(advertise).collect();
        let program = self.program.clone().map_or_else(program, Ok)?;
        let leaves = self.lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime));
        let (token, process) = (self.token.clone(), LivingId::default());
        // The scheduler hears of its end from its connection.
        let ended = Arc::new(|| {});
        Ok(Part::Apart(KeptProcess { name, program, arguments, token, leaves, ended, process }))
    }
}

fn block_memory(limit: u64) -> Result<BlockMemory, ClusterError> {
    BlockMemory::of(limit).ok_or(ClusterError::LittleMemory { bytes: limit })
}

/// Runs all of them until they end.
fn serve(parts: Vec<Part>, warn: fn(&str), stop: &Stop) -> Result<(), ClusterError> {
    let serving = AtomicUsize::new(parts.len());
    let serve = |part: Part| {
        let served = part.run(stop);
        let is_last = serving.fetch_sub(1, Ordering::SeqCst) == 1;
        match served {
            Err(given_up @ ClusterError::GivenUp { .. }) if !is_last => {
                warn(&given_up.to_string());
                Ok(())
            }
            Err(error) => {
                stop.end();
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(|| serve(part))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        ended.collect()
    })
}

/// Where others reach the one so many ports further. Without a port, each has what the system gives it.
fn beside(address: &str, further: u16) -> String {
    let split = address.rsplit_once(':').filter(|_| address.parse::<IpAddr>().is_err());
    match split.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?.checked_add(further)?))) {
        Some((host, port)) => format!("{host}:{port}"),
        None => address.to_owned(),
    }
}

/// What the worker on a GPU of a worker is called.
pub(super) fn name_on_gpu(name: &str, number: usize) -> String {
    format!("{name}-gpu{number}")
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::kept::tests::shell;
    use super::*;

    #[test]
    fn each_gpu_has_a_port_of_its_own_behind_the_first() {
        let beside = |address| super::beside(address, 2);
        assert_eq!(
            ["n7:9000", "10.0.0.7:9000", "[fe80::7]:9000"].map(beside),
            ["n7:9002", "10.0.0.7:9002", "[fe80::7]:9002"]
        );
        assert_eq!(["n7", "10.0.0.7", "fe80::7"].map(beside), ["n7", "10.0.0.7", "fe80::7"]);
    }

    static WARNED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[test]
    fn a_gpu_is_given_up_alone_and_an_error_ends_all() {
        let folder = tempfile::tempdir().unwrap();
        let part = |script: &str| Part::Apart(shell(script, &folder.path().join("lives")));
        let warn: fn(&str) = |line| WARNED.lock().unwrap().push(line.to_owned());
        let goes_on = part("read line; exit 0");
        let stop = Stop::default();
        thread::scope(|scope| {
            let served = scope.spawn(|| serve(vec![goes_on, part("kill -9 $$")], warn, &stop));
            while WARNED.lock().unwrap().is_empty() && !served.is_finished() {
                thread::sleep(Duration::from_millis(10));
            }
            assert!(!served.is_finished(), "the other goes on");
            stop.leave();
            assert!(served.join().unwrap().is_ok());
        });
        let warned = WARNED.lock().unwrap().join("\n");
        assert!(warned.starts_with("w-gpu0 is given up") && warned.lines().count() == 1, "{warned}");
        let failed = serve(vec![part("read line; exit 0"), part("exit 2")], warn, &Stop::default());
        assert!(matches!(failed, Err(ClusterError::ProcessEnded { .. })), "{failed:?}");
    }
}
