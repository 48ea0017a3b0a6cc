//! Those the scheduler deals with: workers, clients, and the jobs that clients submit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gridloom_worker::ids::{ArrayId, BlockId, JobId, KernelHash, WorkerId};
use gridloom_worker::intervals::IntervalSet;
use gridloom_worker::wire::Register;

use super::policy::Pace;

/// After a refusal a worker is left alone for this long, and for twice as long after each further one in a row.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);

/// A worker that refuses is asked again at least this often.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Whether a worker is to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It takes work.
    Working,
    /// It leaves: what it was handed ends, what it alone holds moves elsewhere.
    Leaving,
    /// It was told to close.
    Closing,
}

/// One registration of a worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) register: Register,
    pub(super) presence: Presence,
    /// No work before this time.
    pub(super) paused_until: Duration,
    backoff: Duration,
    /// Blocks handed out and not given back, per array. Absent and zero are the same.
    pub(super) outstanding: BTreeMap<ArrayId, u64>,
    /// Ready blocks at its home, by the depth of their arrays. Absent and zero are the same.
    pub(super) homes: BTreeMap<u32, u64>,
    /// How long a block of any array takes a slot.
    pub(super) pace: Pace,
    /// The suspect that it works on, with nothing beside it.
    pub(super) alone: Option<BlockId>,
    /// What it was sent.
    pub(super) stages: BTreeSet<ArrayId>,
    pub(super) kernels: BTreeSet<KernelHash>,
    pub(super) peers: BTreeSet<WorkerId>,
    /// What it alone holds and nobody could take, when it leaves.
    pub(super) stuck: BTreeMap<ArrayId, IntervalSet>,
    /// Whose turn was last.
    pub(super) turn: Option<JobId>,
}

impl Worker {
    pub(super) fn new(register: Register) -> Worker {
        Worker {
            register,
            presence: Presence::Working,
            paused_until: Duration::ZERO,
            backoff: BACKOFF_FIRST,
            outstanding: BTreeMap::new(),
            homes: BTreeMap::new(),
            pace: Pace::default(),
            alone: None,
            stages: BTreeSet::new(),
            kernels: BTreeSet::new(),
            peers: BTreeSet::new(),
            stuck: BTreeMap::new(),
            turn: None,
        }
    }

    pub(super) fn slots(&self) -> u64 {
        u64::from(self.register.slots.max(1))
    }

    pub(super) fn is_working(&self) -> bool {
        self.presence == Presence::Working
    }

    pub(super) fn outstanding_blocks(&self) -> u64 {
        self.outstanding.values().sum()
    }

    /// Ready blocks at its home that go before or with those of `depth`.
    pub(super) fn home_blocks(&self, depth: u32) -> u64 {
        self.homes.range(depth..).map(|(_, blocks)| blocks).sum()
    }

    /// Its home has changed: so many blocks of `depth` came and went.
    pub(super) fn move_in(&mut self, depth: u32, came: u64, went: u64) {
        let blocks = self.homes.entry(depth).or_default();
        *blocks = (*blocks + came).saturating_sub(went);
        if *blocks == 0 {
            self.homes.remove(&depth);
        }
    }

    /// `count` blocks more were handed out.
    pub(super) fn hand(&mut self, array: ArrayId, count: u64) {
        *self.outstanding.entry(array).or_default() += count;
    }

    /// `count` blocks came back, done or not.
    pub(super) fn give_back(&mut self, array: ArrayId, count: u64) {
        if let Some(left) = self.outstanding.get_mut(&array) {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.outstanding.remove(&array);
            }
        }
        if self.outstanding.is_empty() {
            self.alone = None;
        }
    }

    /// It had no memory: it is asked again later, and later each time.
    pub(super) fn back_off(&mut self, now: Duration) {
        self.paused_until = now + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    /// It has finished something: whatever was short may be there again.
    pub(super) fn recover(&mut self) {
        self.paused_until = Duration::ZERO;
        self.backoff = BACKOFF_FIRST;
    }
}

/// One client.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// Since when it is silent.
    pub(super) gone: Option<Duration>,
}

/// One submitted plan, as long as an array of it is alive.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) arrays: BTreeSet<ArrayId>,
    /// Outputs that are not complete yet.
    pub(super) missing: BTreeSet<ArrayId>,
    /// Whether its client was told how it ended.
    pub(super) ended: bool,
    /// Its arrays with ready blocks, deepest first.
    pub(super) ready: BTreeSet<(Reverse<u32>, ArrayId)>,
    /// Since when blocks of it are refused and none was completed.
    pub(super) refused: Option<Duration>,
}
