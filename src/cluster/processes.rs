//! A local cluster whose workers are processes: a scheduler's door on loopback in this one, and `gridloom worker`s that
//! are given its token in their environment.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::budget::Budget;
use super::child::{Child, program};
use super::gpus::may_have_real;
use super::server::SchedulerServer;
use super::worker::name_on_gpu;
use super::{ClusterError, ClusterOptions, HAND_OVER_PATIENCE, Machines, REGISTER_PATIENCE, lock, near};
use crate::client::{Client, Devices, TOKEN_VARIABLE};
use crate::host;
use crate::scheduler::Limits;

/// How long children may take to end that are told to end now.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Owns the processes.
pub(super) struct Processes {
    options: ClusterOptions,
    program: PathBuf,
    /// The oldest first, each with its number.
    children: Mutex<Vec<(u64, Child)>>,
    server: Arc<SchedulerServer>,
    budget: Mutex<Budget>,
    next_child: AtomicU64,
}

impl Processes {
    pub(super) fn start(options: ClusterOptions) -> Result<Arc<Processes>, ClusterError> {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // One process starts those of all GPUs.
        let workers = if options.devices == Devices::Gpu { 1 } else { options.workers };
        let cluster = Processes {
            program: program()?,
            children: Mutex::default(),
            server: Arc::new(SchedulerServer::start(any_port, Limits::default())?),
            budget: Mutex::new(Budget::of_this_process()),
            next_child: AtomicU64::new(0),
            options,
        };
        cluster.scale(workers)?;
        Ok(Arc::new(cluster))
    }

    /// Starts `missing` workers and waits until all have registered. If one does not, none of them stays.
    fn add(&self, missing: usize) -> Result<Vec<(u64, Child)>, ClusterError> {
        let share = lock(&self.budget).share(missing);
        let memory_bytes = self.options.memory_bytes.unwrap_or(share);
        let slots = self.options.threads.map_or((host::cores() / missing.max(1)).max(1), NonZeroUsize::get);
        let started = (0..missing).map(|_| self.start_child(slots, memory_bytes));
        let added = started.collect::<Result<Vec<(u64, Child)>, ClusterError>>()?;
        let names: Vec<String> = added.iter().map(|(_, child)| self.worker_of(child)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let has_failed = || added.iter().any(|(_, child)| child.has_ended());
        let missed = self.server.roll().miss(&names, REGISTER_PATIENCE, has_failed);
        let ended = added.iter().find_map(|(_, child)| Some((child.name(), child.status()?)));
        match (ended, missed.map(str::to_owned)) {
            (Some((name, status)), _) => return Err(ClusterError::ChildEnded { name: name.to_owned(), status }),
            (None, Some(name)) => return Err(ClusterError::ChildSilent { name }),
            (None, None) => {}
        }
        added.iter().for_each(|(number, _)| lock(&self.budget).give(*number, memory_bytes));
        Ok(added)
    }

    /// The worker by which it is known that a child is of use.
    fn worker_of(&self, child: &Child) -> String {
        match self.options.devices {
            Devices::Gpu => name_on_gpu(child.name(), 0),
            Devices::All | Devices::Auto | Devices::Cpu => child.name().to_owned(),
        }
    }

    fn start_child(&self, slots: usize, memory_bytes: u64) -> Result<(u64, Child), ClusterError> {
        let number = self.next_child.fetch_add(1, Ordering::Relaxed);
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
                server.lose(lost);
            }
        };
        let token = self.server.token().reveal();
        Ok((number, Child::start(name, &self.program, &arguments, (TOKEN_VARIABLE, &token), ended)?))
    }

    /// Takes back what those had that are no more, and takes them off the system's list.
    fn bury(&self, dead: Vec<(u64, Child)>) {
        for (number, child) in dead {
            lock(&self.budget).take_back(number);
            drop(child);
        }
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
        lock(&self.children).iter().filter(|(_, child)| !child.has_ended()).count()
    }

    fn process_ids(&self) -> Vec<u32> {
        lock(&self.children).iter().filter(|(_, child)| !child.has_ended()).map(|(_, child)| child.id()).collect()
    }

    fn scale(&self, workers: usize) -> Result<(), ClusterError> {
        let mut children = lock(&self.children);
        let (dead, alive) = std::mem::take(&mut *children).into_iter().partition(|(_, child)| child.has_ended());
        *children = alive;
        self.bury(dead);
        let missing = workers.saturating_sub(children.len());
        children.extend(self.add(missing)?);
        let keep = children.len().min(workers);
        let leaving = children.split_off(keep);
        drop(children);
        leaving.iter().for_each(|(_, child)| child.ask_to_leave());
        leaving.iter().for_each(|(_, child)| child.wait(HAND_OVER_PATIENCE));
        self.bury(leaving);
        Ok(())
    }
}

impl Drop for Processes {
    /// Ends every process, and waits for it.
    fn drop(&mut self) {
        let children = std::mem::take(&mut *lock(&self.children));
        children.iter().for_each(|(_, child)| child.end());
        children.iter().for_each(|(_, child)| child.wait(END_PATIENCE));
    }
}
