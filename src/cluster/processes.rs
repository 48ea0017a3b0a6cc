//! A local cluster whose workers are processes: a scheduler's door on loopback in this one, and `gridloom worker`s that
//! are given its token in their environment.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gridloom_worker::serve::Stop;

use super::budget::Budget;
use super::child::program;
use super::gpus::may_have_real;
use super::kept::{KeptProcess, LivingId};
use super::server::SchedulerServer;
use super::worker::name_on_gpu;
use super::{ClusterError, ClusterOptions, HAND_OVER_PATIENCE, Machines, REGISTER_PATIENCE, lock, near};
use crate::client::{Client, Devices};
use crate::host;
use crate::scheduler::Limits;

/// How often it is looked whether a worker that is to leave has left.
const LEAVE_PAUSE: Duration = Duration::from_millis(2);

/// Owns the processes.
pub(super) struct Processes {
    options: ClusterOptions,
    program: PathBuf,
    /// The oldest first.
    workers: Mutex<Vec<Worker>>,
    server: Arc<SchedulerServer>,
    budget: Mutex<Budget>,
    next_worker: AtomicU64,
}

/// A worker: one process after the other, until it is told to end or given up. Dropped, it ends.
struct Worker {
    number: u64,
    name: String,
    process: LivingId,
    stop: Stop,
    /// Why it ended, if it was not told to.
    failure: Arc<Mutex<Option<ClusterError>>>,
    /// `None` once it is waited for.
    keeper: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(number: u64, kept: KeptProcess, server: Weak<SchedulerServer>) -> Result<Worker, ClusterError> {
        let (name, process) = (kept.name.clone(), kept.process.clone());
        let (stop, failure) = (Stop::default(), Arc::<Mutex<_>>::default());
        let (told, why) = (stop.clone(), Arc::clone(&failure));
        let keep = move || {
            if let Err(error) = kept.run(&told) {
                tracing::warn!(%error, "a worker of this cluster is no more");
                *lock(&why) = Some(error);
                if let Some(server) = server.upgrade() {
                    // Whoever waits until it registers waits in vain.
                    server.roll().change(|_| {});
                }
            }
        };
        let keeper = Some(thread::Builder::new().name("gridloom-keeper".to_owned()).spawn(keep)?);
        Ok(Worker { number, name, process, stop, failure, keeper })
    }

    fn has_ended(&self) -> bool {
        self.keeper.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until it has handed over what it holds, at most `patience`.
    fn wait(&self, patience: Duration) {
        let begun = Instant::now();
        while !self.has_ended() && begun.elapsed() < patience {
            thread::sleep(LEAVE_PAUSE);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.end();
        if let Some(keeper) = self.keeper.take() {
            // Its panics have been printed; there is nobody else to tell.
            let _ = keeper.join();
        }
    }
}

impl Processes {
    pub(super) fn start(options: ClusterOptions) -> Result<Arc<Processes>, ClusterError> {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // One process starts those of all GPUs.
        let workers = if options.devices == Devices::Gpu { 1 } else { options.workers };
        let cluster = Processes {
            program: program()?,
            workers: Mutex::default(),
            server: Arc::new(SchedulerServer::start(any_port, Limits::default())?),
            budget: Mutex::new(Budget::of_this_process()),
            next_worker: AtomicU64::new(0),
            options,
        };
        cluster.scale(workers)?;
        Ok(Arc::new(cluster))
    }

    /// Starts `missing` workers and waits until all have registered. If one does not, none of them stays.
    fn add(&self, missing: usize) -> Result<Vec<Worker>, ClusterError> {
        let share = lock(&self.budget).share(missing);
        let memory_bytes = self.options.memory_bytes.unwrap_or(share);
        let slots = self.options.threads.map_or((host::cores() / missing.max(1)).max(1), NonZeroUsize::get);
        let started = (0..missing).map(|_| self.start_worker(slots, memory_bytes));
        let added = started.collect::<Result<Vec<Worker>, ClusterError>>()?;
        let names: Vec<String> = added.iter().map(|worker| self.registered_name(worker)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let failure = || added.iter().find_map(|worker| lock(&worker.failure).take());
        let has_failed = || added.iter().any(|worker| lock(&worker.failure).is_some());
        let missed = self.server.roll().miss(&names, REGISTER_PATIENCE, has_failed);
        match (failure(), missed.map(str::to_owned)) {
            (Some(error), _) => return Err(error),
            (None, Some(name)) => return Err(ClusterError::ChildSilent { name }),
            (None, None) => {}
        }
        added.iter().for_each(|worker| lock(&self.budget).give(worker.number, memory_bytes));
        Ok(added)
    }

    /// What registers when a worker is of use.
    fn registered_name(&self, worker: &Worker) -> String {
        match self.options.devices {
            Devices::Gpu => name_on_gpu(&worker.name, 0),
            Devices::All | Devices::Auto | Devices::Cpu => worker.name.clone(),
        }
    }

    fn start_worker(&self, slots: usize, memory_bytes: u64) -> Result<Worker, ClusterError> {
        let number = self.next_worker.fetch_add(1, Ordering::Relaxed);
        let name = format!("worker-{number}");
        let device = match self.options.devices {
            Devices::Gpu => "gpu",
            // The oldest outlives the others.
            Devices::All if number == 0 => "all",
            Devices::Auto if number == 0 && may_have_real() => "all",
            Devices::All | Devices::Auto | Devices::Cpu => "cpu",
        };
        let block_timeout_ms = self.options.block_timeout.as_millis().max(1);
        let arguments: Vec<OsString> = [
            "worker".to_owned(),
            self.server.address().to_string(),
            format!("--name={name}"),
            format!("--device={device}"),
            format!("--threads={slots}"),
            format!("--memory-limit={memory_bytes}"),
            format!("--block-timeout={block_timeout_ms}ms"),
            // Its user is ours: it may open what we may.
            "--data-root=/".to_owned(),
            "--with-parent".to_owned(),
        ]
        .map(OsString::from)
        .into();
        let (server, lost) = (Arc::downgrade(&self.server), name.clone());
        let ended = move || {
            if let Some(server) = server.upgrade() {
                server.lose(lost.clone());
            }
        };
        let (program, token) = (self.program.clone(), self.server.token().clone());
        let (ended, process) = (Arc::new(ended), LivingId::default());
        let process = KeptProcess { name, program, arguments, token, leaves: None, ended, process };
        Worker::start(number, process, Arc::downgrade(&self.server))
    }

    /// Takes back what those had that are no more.
    fn bury(&self, dead: Vec<Worker>) {
        dead.iter().for_each(|worker| lock(&self.budget).take_back(worker.number));
    }
}

impl Machines for Processes {
    fn client(self: Arc<Self>) -> Client {
        let (server, devices) = (Arc::clone(&self.server), self.options.devices);
        near::connect(&server, devices, Box::new(self)).unwrap_or_else(|error| {
            tracing::error!(%error, "a client cannot reach its own cluster");
            Client::lost(devices)
        })
    }

    fn workers(&self) -> usize {
        lock(&self.workers).iter().filter(|worker| !worker.has_ended()).count()
    }

    fn process_ids(&self) -> Vec<u32> {
        lock(&self.workers).iter().filter_map(|worker| worker.process.get()).collect()
    }

    fn scale(&self, workers: usize) -> Result<(), ClusterError> {
        let mut here = lock(&self.workers);
        let (dead, alive) = std::mem::take(&mut *here).into_iter().partition(Worker::has_ended);
        *here = alive;
        self.bury(dead);
        let missing = workers.saturating_sub(here.len());
        here.extend(self.add(missing)?);
        let keep = here.len().min(workers);
        let leaving = here.split_off(keep);
        drop(here);
        leaving.iter().for_each(|worker| worker.stop.leave());
        leaving.iter().for_each(|worker| worker.wait(HAND_OVER_PATIENCE));
        self.bury(leaving);
        Ok(())
    }
}

impl Drop for Processes {
    /// Ends every process, and waits for it.
    fn drop(&mut self) {
        let workers = std::mem::take(&mut *lock(&self.workers));
        // All at once, before any is waited for.
        workers.iter().for_each(|worker| worker.stop.end());
    }
}
