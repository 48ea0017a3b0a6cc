//! How a local cluster is made.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{BLOCK_TIMEOUT, ClusterError, LocalCluster};
use crate::client::Devices;

/// How a [`LocalCluster`] is made.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    pub(super) workers: usize,
    pub(super) threads: Option<NonZeroUsize>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) block_timeout: Duration,
    pub(super) devices: Devices,
    pub(super) processes: bool,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions {
            workers: 1,
            threads: None,
            memory_bytes: None,
            block_timeout: BLOCK_TIMEOUT,
            devices: Devices::Auto,
            processes: false,
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

    /// Bytes that the blocks of each worker may take; with [`ClusterOptions::processes`], what each process may take in
    /// all, the program itself included. By default all workers have one budget, fixed at the start: 80% of
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
    /// CPUs; with [`Devices::Gpu`] there are only those. With [`ClusterOptions::processes`] each GPU has a process of its own,
    /// which is started again when a kernel hangs there; else such a GPU is of no use any more.
    pub fn devices(mut self, devices: Devices) -> ClusterOptions {
        self.devices = devices;
        self
    }

    /// Whether each worker is a process of its own, as `gridloom worker`, reached over QUIC on this machine; not so by
    /// default. Its binary is the one that `GRIDLOOM_BIN` names, or else a `gridloom` beside this program, in the folder
    /// above, or in `PATH`. A worker that dies is lost at once, and what it had is computed again by the others; it is
    /// not started again.
    pub fn processes(mut self, processes: bool) -> ClusterOptions {
        self.processes = processes;
        self
    }

    /// Starts the cluster.
    pub fn start(self) -> Result<LocalCluster, ClusterError> {
        LocalCluster::with(self)
    }
}
