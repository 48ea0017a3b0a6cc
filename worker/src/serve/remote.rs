//! A worker in a process of its own: it joins, serves one registration after the other, and ends when it is told to or
//! has had no scheduler for too long.
//!
//! A registration that ends takes everything with it: blocks, connections, threads. The next one has a new id, and
//! begins with nothing. A device that is lost ends the worker: it is its process's to lose, and another's to have again.

use std::thread;
use std::time::{Duration, Instant};

use super::registration::{End, Registration};
use super::stop::Stop;
use super::worker::{StartError, WorkerOptions};
use crate::block;
use crate::executor::ExecuteError;
use crate::net::identity::Token;
use crate::net::{Dialer, NetError, Refusal};

/// How long a worker looks for its scheduler before it gives up, unless told otherwise.
pub const REDIAL_FOR: Duration = Duration::from_secs(60);

/// Between two times that it looks.
const REDIAL_PAUSE: Duration = Duration::from_millis(200);

/// How a [`RemoteWorker`] is made.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Where the scheduler is.
    pub scheduler: String,
    /// What lets it join.
    pub token: Token,
    /// What people call it.
    pub name: String,
    /// Where peers reach it, `host` or `host:port`, if not at the address from which it reaches the scheduler.
    pub advertise: Option<String>,
    /// When it leaves by itself.
    pub lifetime: Option<Duration>,
    /// How long it looks for its scheduler before it gives up; [`REDIAL_FOR`] as a rule.
    pub redial_for: Duration,
    /// What it computes with.
    pub worker: WorkerOptions,
}

/// Why a worker ended that was not told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It may not join, or not be reached where it says.
    #[error("scheduler {address}: {error}")]
    Net {
        /// Where the scheduler is.
        address: String,
        /// Why not.
        error: NetError,
    },
    /// It cannot compute here.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its device is lost, and can be had again by another process at most.
    #[error(transparent)]
    DeviceLost(ExecuteError),
    /// No scheduler for too long.
    #[error("no scheduler at {address} for {redialled_for:?}: {last}")]
    SchedulerGone {
        /// Where it should be.
        address: String,
        /// How long that is.
        redialled_for: Duration,
        /// What was wrong last.
        last: NetError,
    },
}

/// A worker that has not begun.
pub struct RemoteWorker {
    options: RemoteOptions,
    dialer: Dialer,
    stop: Stop,
    begun: Instant,
}

impl RemoteWorker {
    /// Opens a socket. It ends when `stop` says so.
    ///
    /// # Errors
    /// If the system has none.
    pub fn new(options: RemoteOptions, stop: Stop) -> Result<RemoteWorker, NetError> {
        Ok(RemoteWorker { options, dialer: Dialer::new()?, stop, begun: Instant::now() })
    }

    /// One that reaches its scheduler by this dialer.
    #[cfg(test)]
    pub(crate) fn with_dialer(options: RemoteOptions, dialer: Dialer, stop: Stop) -> RemoteWorker {
        RemoteWorker { options, dialer, stop, begun: Instant::now() }
    }

    /// Serves until it is told to end, by the scheduler or by its stop.
    ///
    /// # Errors
    /// If it is refused, loses its device, or finds no scheduler.
    pub fn run(&self) -> Result<(), RemoteError> {
        let mut since = Instant::now();
        let mut has_served = false;
        while self.stop.wish().is_none() {
            let last = match Registration::begin(&self.options, &self.dialer, &self.stop, self.left()) {
                Ok(registration) => {
                    let end = registration.serve();
                    // What its blocks leave does not wait for those of another, who may never come.
                    block::trim();
                    (since, has_served) = (Instant::now(), true);
                    match end {
                        End::Told => return Ok(()),
                        End::DeviceLost(error) => return Err(RemoteError::DeviceLost(error)),
                        End::Broken => {
                            tracing::error!("the worker broke and begins anew");
                            NetError::Closed
                        }
                        End::SchedulerGone(error) => {
                            tracing::warn!(%error, scheduler = self.options.scheduler, "the scheduler is gone");
                            error
                        }
                    }
                }
                Err(RemoteError::Net { error, .. }) if may_pass(&error, has_served) => error,
                Err(error) => return Err(error),
            };
            let redialled_for = self.options.redial_for;
            if since.elapsed() > redialled_for {
                let address = self.options.scheduler.clone();
                return Err(RemoteError::SchedulerGone { address, redialled_for, last });
            }
            thread::sleep(REDIAL_PAUSE);
        }
        Ok(())
    }

    /// What is left of its lifetime.
    fn left(&self) -> Option<Duration> {
        self.options.lifetime.map(|lifetime| lifetime.saturating_sub(self.begun.elapsed()))
    }
}

/// Whether who dials again may find another answer. An address at which there was a scheduler may have one again, also
/// where its name cannot be looked up or there is no way to it for a while.
fn may_pass(error: &NetError, has_served: bool) -> bool {
    match error {
        NetError::Timeout { .. }
        | NetError::NoAnswer
        | NetError::Lost
        | NetError::Closed
        | NetError::Quic { .. }
        | NetError::Refused(Refusal::Busy | Refusal::Retired | Refusal::Slow) => true,
        NetError::Address { .. } | NetError::System { .. } => has_served,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_looked_up_passes_only_where_there_was_a_scheduler() {
        let error = NetError::Address { address: "node1:8786".to_owned(), why: "no such host".to_owned() };
        assert!(!may_pass(&error, false) && may_pass(&error, true));
        assert!(may_pass(&NetError::NoAnswer, false));
        assert!(!may_pass(&NetError::WrongToken, true));
    }
}
