//! Clusters that a program starts itself.
//!
//! [`LocalCluster`] runs scheduler and workers inside this process, over the same state machines as a remote cluster
//! (see `engine`). It ends, with every thread it started, when the last handle to it is dropped: the cluster's own,
//! those of its clients, and those of arrays that are kept on its workers.

mod engine;

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use gridloom_worker::block::Block;
use gridloom_worker::cpu::{CodeGenerator, CpuOptions};
use gridloom_worker::ids::{BlockId, ClientId, WorkerId};
use gridloom_worker::serve::{Device, StartError, Worker, WorkerOptions};

use crate::client::Client;
use crate::client::link::{FetchReply, Link, PutReply};
use crate::host;
use crate::scheduler::{FromClient, Limits};

use engine::{Engine, Input};

/// How long a block may take unless said otherwise.
pub const BLOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a worker that is scaled away may take to hand over what it holds.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(30);

/// Clients are told apart in the whole process, so that an array of one cluster means nothing to another.
static NEXT_CLIENT: AtomicU64 = AtomicU64::new(1);

/// The share of the machine's memory that the workers' ledgers may fill, in percent.
const MEMORY_PERCENT: u64 = 60;

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
    /// A cluster without workers computes nothing.
    #[error("a cluster needs at least 1 worker")]
    NoWorkers,
}

/// How a [`LocalCluster`] is made.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    workers: usize,
    threads: Option<NonZeroUsize>,
    memory_bytes: Option<u64>,
    block_timeout: Duration,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions { workers: 1, threads: None, memory_bytes: None, block_timeout: BLOCK_TIMEOUT }
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

    /// Bytes that the blocks of each worker may take. By default 60% of the memory this process may use, shared out
    /// among the workers that the cluster starts with; workers that are added share 60% of what is available then.
    pub fn memory_limit(mut self, bytes: u64) -> ClusterOptions {
        self.memory_bytes = Some(bytes);
        self
    }

    /// The longest that a kernel may run on one block; 60 s by default.
    pub fn block_timeout(mut self, timeout: Duration) -> ClusterOptions {
        self.block_timeout = timeout;
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
        let workers = options.workers;
        let cluster = LocalCluster(Arc::new(Inner {
            engine,
            options,
            workers: Mutex::default(),
            timer: Mutex::new(Some(timer)),
            next_worker: AtomicU64::new(1),
        }));
        cluster.scale(workers)?;
        Ok(cluster)
    }

    /// Another client of this cluster.
    pub fn client(&self) -> Client {
        let id = ClientId(NEXT_CLIENT.fetch_add(1, Ordering::Relaxed));
        let link = EmbeddedLink { cluster: Arc::clone(&self.0), client: id };
        let client = Client::new(id, Box::new(link));
        self.0.engine.call(Input::Connect(id, client.receiver()));
        client
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        lock(&self.0.workers).len()
    }

    /// Starts workers, or lets the youngest hand over what they hold and end, until there are `workers`. Results are
    /// the same bits whatever their number.
    pub fn scale(&self, workers: usize) -> Result<(), ClusterError> {
        if workers == 0 {
            return Err(ClusterError::NoWorkers);
        }
        let mut present = lock(&self.0.workers);
        let (first, missing) = (present.is_empty(), workers.saturating_sub(present.len()));
        for _ in 0..missing {
            present.push(self.0.start_worker(missing, first)?);
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
    /// Starts one of `added` workers, with its share of the cores, and of the memory that may be used: of all of it
    /// for the first workers, of what is still available for later ones.
    fn start_worker(&self, added: usize, first: bool) -> Result<WorkerId, ClusterError> {
        let id = WorkerId(self.next_worker.fetch_add(1, Ordering::Relaxed));
        let slots = self.options.threads.map_or((host::cores() / added).max(1), NonZeroUsize::get);
        let memory = if first { host::memory_bytes() } else { host::memory_available_bytes() };
        // Where nothing can be read, assume little rather than too much.
        let memory = memory.into_iter().chain(host::memory_limit_bytes()).min().unwrap_or(2 << 30);
        let share = memory / 100 * MEMORY_PERCENT / added as u64;
        let options = WorkerOptions {
            device: Device::Cpu(CpuOptions {
                slots,
                block_timeout: self.options.block_timeout,
                code_generator: CodeGenerator::default(),
            }),
            memory_bytes: self.options.memory_bytes.unwrap_or(share),
        };
        // A weak handle: an executor must not keep the machines that own it alive.
        let engine = Arc::downgrade(&self.engine);
        let sink = move |event| {
            if let Some(engine) = engine.upgrade() {
                engine.post(Input::Executed(id, event));
            }
        };
        let machine = Box::new(Worker::start(options, Box::new(sink))?);
        self.engine.call(Input::Join { worker: id, machine });
        Ok(id)
    }

    /// Waits until a worker has handed over what it holds, at most `patience`, then ends it and waits for its threads.
    fn end_worker(&self, worker: WorkerId, patience: Duration) {
        let ended = self.engine.wait_ended(worker, patience);
        drop(ended.or_else(|| self.remove_worker(worker)));
    }

    fn remove_worker(&self, worker: WorkerId) -> Option<Box<Worker>> {
        self.engine.call(Input::Remove(worker));
        self.engine.wait_ended(worker, Duration::ZERO)
    }
}

impl Drop for Inner {
    /// Ends every thread that the cluster started, and waits for it.
    fn drop(&mut self) {
        for worker in std::mem::take(&mut *lock(&self.workers)) {
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

/// How a client of this process reaches the machines: by moving them.
struct EmbeddedLink {
    cluster: Arc<Inner>,
    client: ClientId,
}

impl Link for EmbeddedLink {
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
