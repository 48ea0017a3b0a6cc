//! A local cluster inside this process: scheduler and workers behind one lock, moved by whoever has something to say.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gridloom_worker::block::Block;
use gridloom_worker::cpu::{CodeGenerator, CpuOptions};
use gridloom_worker::ids::{ClientId, WorkerId};
use gridloom_worker::serve::{DataRoot, Device, Worker, WorkerOptions};
use gridloom_worker::wire::{BulkTraffic, Parcel};

use super::budget::Budget;
use super::engine::{Engine, Input};
use super::gpus::{gpu_options, usable_gpus};
use super::{ClusterError, ClusterOptions, HAND_OVER_PATIENCE, Machines, lock};
use crate::client::link::{FetchReply, Link, PutReply};
use crate::client::{Client, Devices, GPU_BYTES_MIN};
use crate::host;
use crate::scheduler::{FromClient, Limits};

/// Clients are told apart in the whole process, so that an array of one cluster means nothing to another.
static NEXT_CLIENT: AtomicU64 = AtomicU64::new(1);

/// Owns the threads. It is not reachable from any of them, so that its end is never waited for by one of its own.
pub(super) struct Embedded {
    engine: Arc<Engine>,
    options: ClusterOptions,
    workers: Mutex<Vec<WorkerId>>,
    gpus: Mutex<Gpus>,
    budget: Mutex<Budget>,
    timer: Mutex<Option<JoinHandle<()>>>,
    next_worker: AtomicU64,
}

impl Embedded {
    pub(super) fn start(options: ClusterOptions) -> Result<Arc<Embedded>, ClusterError> {
        let engine = Arc::new(Engine::new(Limits::default()));
        let timed = Arc::clone(&engine);
        let timer = thread::Builder::new().name("gridloom-timer".to_owned()).spawn(move || timed.run_timer())?;
        let (workers, devices) = (options.workers, options.devices);
        let cluster = Arc::new(Embedded {
            engine,
            options,
            workers: Mutex::default(),
            gpus: Mutex::default(),
            budget: Mutex::new(Budget::of_this_process()),
            timer: Mutex::new(Some(timer)),
            next_worker: AtomicU64::new(1),
        });
        if devices != Devices::Gpu {
            cluster.scale(workers)?;
        }
        if devices == Devices::Gpu || devices == Devices::All {
            cluster.start_gpus(devices)?;
        }
        Ok(cluster)
    }

    /// Starts one of `added` workers with its share of the cores, and `share` bytes unless another limit was asked for.
    fn start_worker(&self, added: usize, share: u64) -> Result<WorkerId, ClusterError> {
        let id = WorkerId(self.next_worker.fetch_add(1, Ordering::Relaxed));
        let slots = self.options.threads.map_or((host::cores() / added).max(1), NonZeroUsize::get);
        let memory_bytes = self.options.memory_bytes.unwrap_or(share);
        let code_generator = CodeGenerator::default();
        let cpu = CpuOptions { slots, block_timeout: self.options.block_timeout, code_generator };
        self.start_machine(
            id,
            WorkerOptions { device: Device::Cpu(cpu), memory_bytes, data_root: DataRoot::Anywhere },
        )?;
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
            let block_timeout = self.options.block_timeout;
            let gpu = gpu_options(adapter.info(), block_timeout, self.options.memory_bytes, share);
            let device = Device::Gpu(adapter, gpu);
            self.start_machine(id, WorkerOptions { device, memory_bytes, data_root: DataRoot::Anywhere })?;
            gpus.workers.push(id);
        }
        Ok(())
    }

    fn start_machine(&self, id: WorkerId, options: WorkerOptions) -> Result<(), ClusterError> {
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

impl Machines for Embedded {
    fn client(self: Arc<Self>) -> Client {
        let (id, devices) = (ClientId(NEXT_CLIENT.fetch_add(1, Ordering::Relaxed)), self.options.devices);
        let engine = Arc::clone(&self.engine);
        let client = Client::new(id, Box::new(EmbeddedLink { cluster: self, client: id }), devices);
        engine.call(Input::Connect(id, client.receiver()));
        client
    }

    fn workers(&self) -> usize {
        lock(&self.workers).len()
    }

    fn scale(&self, workers: usize) -> Result<(), ClusterError> {
        let mut present = lock(&self.workers);
        let missing = workers.saturating_sub(present.len());
        let share = lock(&self.budget).share(missing);
        for _ in 0..missing {
            present.push(self.start_worker(missing, share)?);
        }
        let keep = present.len().min(workers);
        let leaving = present.split_off(keep);
        drop(present);
        leaving.iter().for_each(|&worker| self.engine.post(Input::Leave(worker)));
        leaving.into_iter().for_each(|worker| self.end_worker(worker, HAND_OVER_PATIENCE));
        Ok(())
    }
}

impl Drop for Embedded {
    /// Ends every thread that the cluster started, and waits for it.
    fn drop(&mut self) {
        let gpus = std::mem::take(&mut lock(&self.gpus).workers);
        for worker in std::mem::take(&mut *lock(&self.workers)).into_iter().chain(gpus) {
            drop(self.remove_worker(worker));
        }
        self.engine.stop_timer();
        let timer = lock(&self.timer).take();
        // Whoever hears something on the timer's own thread may let go of the cluster there.
        if let Some(timer) = timer.filter(|timer| timer.thread().id() != thread::current().id()) {
            // It only posts and tells; it has nothing to report.
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
    cluster: Arc<Embedded>,
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

    fn fetch(&self, holder: WorkerId, parcel: Parcel, field: u32, reply: FetchReply) {
        self.cluster.engine.post(Input::Fetch { holder, parcel, field, reply });
    }

    fn traffic(&self) -> Option<BulkTraffic> {
        None
    }

    fn put(&self, worker: WorkerId, parcel: Parcel, blocks: Vec<Vec<Block>>, reply: PutReply) {
        self.cluster.engine.post(Input::Put { worker, parcel, blocks, reply });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use gridloom_worker::kernel::Kernel;

    use super::*;
    use crate::array::Array;
    use crate::client::{ClientError, Value};
    use crate::scheduler::JobError;

    /// What becomes of something that must not wait for ever.
    #[track_caller]
    fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(work()));
        told.recv_timeout(Duration::from_secs(30)).expect("nobody waits for what is broken")
    }

    #[track_caller]
    fn assert_lost<T>(result: Result<T, ClientError>) {
        let error = result.err();
        assert!(matches!(error, Some(ClientError::Job(JobError::SchedulerLost))), "{error:?}");
    }

    #[test]
    fn when_the_machines_break_nobody_waits_for_them() {
        let cluster = Embedded::start(ClusterOptions::default().workers(2).threads(NonZeroUsize::MIN)).unwrap();
        let client = Arc::clone(&cluster).client();
        let x = client.persist(&Array::random([100]).chunks([10])).unwrap();
        client.wait(std::slice::from_ref(&x)).unwrap();
        let text = "fn f(x: f64) -> f64 { var i = 0u; loop { i = i * 2u; if i == 1u { break; } } return x; }";
        let endless = x.array().map_blocks(&Kernel::element(text).unwrap());
        let computed = client.compute::<Value>(&endless).unwrap();
        cluster.engine.post(Input::Panic);
        assert_lost(soon(move || computed.wait()));
        // Whatever is asked from now on ends the same way, and so does the cluster.
        assert_lost(soon(move || x.wait()));
        let late = Arc::clone(&cluster).client();
        let y = Array::random([100]);
        assert_lost(soon(move || client.compute::<Value>(&y)?.wait()));
        let y = Array::random([100]);
        assert_lost(soon(move || late.compute::<Value>(&y)?.wait()));
        let scaled = Arc::clone(&cluster);
        soon(move || scaled.scale(3)).unwrap();
        soon(move || drop(cluster));
    }

    #[test]
    fn a_cluster_gives_memory_out_and_takes_it_back() {
        let cluster = Embedded::start(ClusterOptions::default().workers(2).threads(NonZeroUsize::MIN)).unwrap();
        let given = || lock(&cluster.budget).given();
        let first = given();
        cluster.scale(3).unwrap();
        let scaled = given();
        assert_eq!((scaled.len(), &scaled[..2]), (3, &first[..]));
        assert!(scaled[2] > 0 && scaled.iter().sum::<u64>() <= host::memory_bytes().unwrap());
        cluster.scale(1).unwrap();
        assert_eq!(given(), first[..1]);
    }
}
