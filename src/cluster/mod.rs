//! Clusters that a program starts itself.
//!
//! [`LocalCluster`] runs scheduler and workers inside this process, over the same state machines as a remote cluster
//! (see `engine`). It ends, with every thread it started, when the last handle to it is dropped: the cluster's own,
//! those of its clients, and those of arrays that are kept on its workers.

mod budget;
mod engine;
mod gpus;
mod server;
mod worker;

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use gridloom_worker::block::Block;
use gridloom_worker::cpu::{CodeGenerator, CpuOptions};
use gridloom_worker::gpu::{GpuOptions, SelectError};
use gridloom_worker::ids::{BlockId, ClientId, WorkerId};
use gridloom_worker::net::NetError;
use gridloom_worker::serve::{DataRoot, Device, RemoteError, StartError, Worker, WorkerOptions};

use crate::client::link::{FetchReply, Link, PutReply};
use crate::client::{Client, Devices, GPU_BYTES_MIN};
use crate::host;
use crate::scheduler::{FromClient, Limits};

use budget::Budget;
use engine::{Engine, Input};
use gpus::{GPU_SLOTS, usable_gpus};

pub use server::SchedulerServer;
pub use worker::RemoteWorkers;

/// How long a block may take unless said otherwise.
pub const BLOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a worker that is scaled away may take to hand over what it holds.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(30);

/// Clients are told apart in the whole process, so that an array of one cluster means nothing to another.
static NEXT_CLIENT: AtomicU64 = AtomicU64::new(1);

/// A cluster could not be started or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The system gives no more threads.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] io::Error),
    /// A worker could not be started.
    #[error(transparent)]
    Worker(#[from] StartError),
    /// The network is not to be had.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A cluster without workers computes nothing.
    #[error("a cluster needs at least 1 worker")]
    NoWorkers,
    /// A GPU was asked for.
    #[error("no GPU that may be used is here{}", .missing.iter().map(|what| format!("; {what}")).collect::<String>())]
    NoGpu {
        /// What this machine lacks for one.
        missing: Vec<String>,
    },
    /// A worker of this process ended by itself.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The environment names GPUs that cannot be used.
    #[error(transparent)]
    Select(#[from] SelectError),
}

/// How a [`LocalCluster`] is made.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    workers: usize,
    threads: Option<NonZeroUsize>,
    memory_bytes: Option<u64>,
    block_timeout: Duration,
    devices: Devices,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions {
            workers: 1,
            threads: None,
            memory_bytes: None,
            block_timeout: BLOCK_TIMEOUT,
            devices: Devices::Auto,
        }
    }
}

impl ClusterOptions {
    /// How many workers; 1 by default.
    pub fn workers(mut self, workers: usize) -> ClusterOptions {
        self.workers = workers;
        self
    }

    /// Slots of each worker, one thread each. By default the cores that this process may use are shared out among the
    /// workers that are started together, at least one each.
    pub fn threads(mut self, threads: NonZeroUsize) -> ClusterOptions {
        self.threads = Some(threads);
        self
    }

    /// Bytes that the blocks of each worker may take. By default all workers have one budget, fixed at the start: 80% of
    /// the memory this process may use. Workers that are started together share three quarters of what is not given out
    /// of it yet, so that the first ones have 60% and there is always some left to scale up; a worker that ends gives
    /// its part back.
    pub fn memory_limit(mut self, bytes: u64) -> ClusterOptions {
        self.memory_bytes = Some(bytes);
        self
    }

    /// The longest that a kernel may run on one block; 60 s by default.
    pub fn block_timeout(mut self, timeout: Duration) -> ClusterOptions {
        self.block_timeout = timeout;
        self
    }

    /// Which devices compute; [`Devices::Auto`] by default. Each GPU is a worker of its own, beside the `workers` on
    /// CPUs; with [`Devices::Gpu`] there are only those.
    pub fn devices(mut self, devices: Devices) -> ClusterOptions {
        self.devices = devices;
        self
    }

    /// Starts the cluster.
    pub fn start(self) -> Result<LocalCluster, ClusterError> {
        LocalCluster::with(self)
    }
}

/// Scheduler and workers in this process.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use gridloom::{Array, LocalCluster};
/// let client = LocalCluster::start()?.client();
/// let mean: f64 = client.compute(&Array::random([1000, 1000]).mean(()))?.wait()?;
/// assert!((mean - 0.5).abs() < 0.01);
/// client.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalCluster(Arc<Inner>);

/// Owns the threads. It is not reachable from any of them, so that its end is never waited for by one of its own.
struct Inner {
    engine: Arc<Engine>,
    options: ClusterOptions,
    workers: Mutex<Vec<WorkerId>>,
    gpus: Mutex<Gpus>,
    budget: Mutex<Budget>,
    timer: Mutex<Option<JoinHandle<()>>>,
    next_worker: AtomicU64,
}

impl LocalCluster {
    /// One worker with a slot for every core.
    pub fn start() -> Result<LocalCluster, ClusterError> {
        LocalCluster::with(ClusterOptions::default())
    }

    /// How to start another.
    pub fn options() -> ClusterOptions {
        ClusterOptions::default()
    }

    fn with(options: ClusterOptions) -> Result<LocalCluster, ClusterError> {
        let engine = Arc::new(Engine::new(Limits::default()));
        let timed = Arc::clone(&engine);
        let timer = std::thread::Builder::new().name("gridloom-timer".to_owned()).spawn(move || timed.run_timer())?;
        let (workers, devices) = (options.workers, options.devices);
        let cluster = LocalCluster(Arc::new(Inner {
            engine,
            options,
            workers: Mutex::default(),
            gpus: Mutex::default(),
            budget: Mutex::new(Budget::of_this_process()),
            timer: Mutex::new(Some(timer)),
            next_worker: AtomicU64::new(1),
        }));
        if devices != Devices::Gpu {
            cluster.scale(workers)?;
        }
        if devices == Devices::Gpu || devices == Devices::All {
            cluster.0.start_gpus(devices)?;
        }
        Ok(cluster)
    }

    /// Another client of this cluster.
    pub fn client(&self) -> Client {
        let id = ClientId(NEXT_CLIENT.fetch_add(1, Ordering::Relaxed));
        let link = EmbeddedLink { cluster: Arc::clone(&self.0), client: id };
        let client = Client::new(id, Box::new(link), self.0.options.devices);
        self.0.engine.call(Input::Connect(id, client.receiver()));
        client
    }

    /// How many workers there are on CPUs.
    pub fn workers(&self) -> usize {
        lock(&self.0.workers).len()
    }

    /// Starts workers on CPUs, or lets the youngest hand over what they hold and end, until there are `workers`. Results are
    /// the same bits whatever their number.
    pub fn scale(&self, workers: usize) -> Result<(), ClusterError> {
        if workers == 0 {
            return Err(ClusterError::NoWorkers);
        }
        let mut present = lock(&self.0.workers);
        let missing = workers.saturating_sub(present.len());
        let share = lock(&self.0.budget).share(missing);
        for _ in 0..missing {
            present.push(self.0.start_worker(missing, share)?);
        }
        let keep = present.len().min(workers);
        let leaving = present.split_off(keep);
        drop(present);
        leaving.iter().for_each(|&worker| self.0.engine.post(Input::Leave(worker)));
        leaving.into_iter().for_each(|worker| self.0.end_worker(worker, HAND_OVER_PATIENCE));
        Ok(())
    }
}

impl Inner {
    /// Starts one of `added` workers with its share of the cores, and `share` bytes unless another limit was asked for.
    fn start_worker(&self, added: usize, share: u64) -> Result<WorkerId, ClusterError> {
        let id = WorkerId(self.next_worker.fetch_add(1, Ordering::Relaxed));
        let slots = self.options.threads.map_or((host::cores() / added).max(1), NonZeroUsize::get);
        let memory_bytes = self.options.memory_bytes.unwrap_or(share);
        let code_generator = CodeGenerator::default();
        let cpu = CpuOptions { slots, block_timeout: self.options.block_timeout, code_generator };
        self.start(id, WorkerOptions { device: Device::Cpu(cpu), memory_bytes, data_root: DataRoot::Anywhere })?;
        Ok(id)
    }

    /// Starts a worker on every GPU that may be used, unless there are some: on software ones only where GPUs alone are
    /// wanted and there are no others.
    fn start_gpus(&self, devices: Devices) -> Result<(), ClusterError> {
        let mut gpus = lock(&self.gpus);
        if !gpus.workers.is_empty() || gpus.sought.contains(&devices) {
            return Ok(());
        }
        gpus.sought.push(devices);
        let adapters = usable_gpus(devices)?;
        let share = lock(&self.budget).share(adapters.len());
        for adapter in adapters {
            let id = WorkerId(self.next_worker.fetch_add(1, Ordering::Relaxed));
            let memory_bytes = self.options.memory_bytes.unwrap_or(share);
            let gpu = GpuOptions { slots: GPU_SLOTS, block_timeout: self.options.block_timeout, memory_bytes };
            let device = Device::Gpu(adapter, gpu);
            self.start(id, WorkerOptions { device, memory_bytes, data_root: DataRoot::Anywhere })?;
            gpus.workers.push(id);
        }
        Ok(())
    }

    fn start(&self, id: WorkerId, options: WorkerOptions) -> Result<(), ClusterError> {
        let memory_bytes = options.memory_bytes;
        // A weak handle: an executor must not keep the machines that own it alive.
        let engine = Arc::downgrade(&self.engine);
        let sink = move |event| {
            if let Some(engine) = engine.upgrade() {
                engine.post(Input::Executed(id, event));
            }
        };
        let machine = Box::new(Worker::start(options, Box::new(sink))?);
        self.engine.call(Input::Join { worker: id, machine });
        lock(&self.budget).give(id.0, memory_bytes);
        Ok(())
    }

    /// Waits until a worker has handed over what it holds, at most `patience`, then ends it and waits for its threads.
    fn end_worker(&self, worker: WorkerId, patience: Duration) {
        let ended = self.engine.wait_ended(worker, patience);
        drop(ended.or_else(|| self.remove_worker(worker)));
        lock(&self.budget).take_back(worker.0);
    }

    fn remove_worker(&self, worker: WorkerId) -> Option<Box<Worker>> {
        self.engine.call(Input::Remove(worker));
        self.engine.wait_ended(worker, Duration::ZERO)
    }
}

impl Drop for Inner {
    /// Ends every thread that the cluster started, and waits for it.
    fn drop(&mut self) {
        let gpus = std::mem::take(&mut lock(&self.gpus).workers);
        for worker in std::mem::take(&mut *lock(&self.workers)).into_iter().chain(gpus) {
            drop(self.remove_worker(worker));
        }
        self.engine.stop_timer();
        if let Some(timer) = lock(&self.timer).take() {
            // The timer's thread only posts; it has nothing to report.
            let _ = timer.join();
        }
        gridloom_worker::block::trim();
    }
}

/// Workers on GPUs, once somebody asked for them.
#[derive(Debug, Default)]
struct Gpus {
    workers: Vec<WorkerId>,
    /// What was looked for before: drivers take their time to answer, and do not change their minds.
    sought: Vec<Devices>,
}

/// How a client of this process reaches the machines: by moving them.
struct EmbeddedLink {
    cluster: Arc<Inner>,
    client: ClientId,
}

impl Link for EmbeddedLink {
    fn reinforce(&self, devices: Devices, bytes: u64) {
        let wants_gpus = match devices {
            Devices::Auto => bytes >= GPU_BYTES_MIN,
            Devices::Cpu => false,
            Devices::Gpu | Devices::All => true,
        };
        if wants_gpus && let Err(error) = self.cluster.start_gpus(devices) {
            tracing::debug!(%error, "no GPU joins");
        }
    }

    fn send(&self, message: FromClient) {
        self.cluster.engine.post(Input::Client(self.client, message));
    }

    fn fetch(&self, holder: WorkerId, block: BlockId, field: u32, reply: FetchReply) {
        self.cluster.engine.post(Input::Fetch { holder, block, field, reply });
    }

    fn put(&self, worker: WorkerId, block: BlockId, fields: Vec<Block>, reply: PutReply) {
        self.cluster.engine.post(Input::Put { worker, block, fields, reply });
    }
}

/// A lock whose holders leave nothing half changed, so that a panic elsewhere does not spread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_gives_memory_out_and_takes_it_back() {
        let cluster = LocalCluster::options().workers(2).threads(NonZeroUsize::MIN).start().unwrap();
        let given = || lock(&cluster.0.budget).given();
        let first = given();
        cluster.scale(3).unwrap();
        let scaled = given();
        assert_eq!((scaled.len(), &scaled[..2]), (3, &first[..]));
        assert!(scaled[2] > 0 && scaled.iter().sum::<u64>() <= host::memory_bytes().unwrap());
        cluster.scale(1).unwrap();
        assert_eq!(given(), first[..1]);
    }
}
