//! Those the scheduler deals with: workers, clients, and the jobs that clients submit.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use gridloom_worker::ids::{ArrayId, BlockId, ClientId, JobId, KernelHash, WorkerId};
use gridloom_worker::intervals::IntervalSet;
use gridloom_worker::wire::Register;

use super::policy::Pace;

/// After a refusal a worker is left alone for this long, and for twice as long after each further one in a row.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);

/// A worker that refuses is asked again at least this often.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// An array that has ready blocks at a worker's home. Jobs in order, and of each the deepest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HomeKey {
    pub(super) job: Option<JobId>,
    pub(super) depth: Reverse<u32>,
    pub(super) array: ArrayId,
}

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
    /// When it last had no memory.
    pub(super) refused_last: Duration,
    /// Blocks handed out and not given back, per array. Absent and zero are the same.
    pub(super) outstanding: BTreeMap<ArrayId, u64>,
    /// Ready blocks at its home. Absent and zero are the same, here and below.
    pub(super) homes: BTreeMap<HomeKey, u64>,
    /// The same, by the depth of their arrays.
    depths: BTreeMap<u32, u64>,
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
            refused_last: Duration::ZERO,
            outstanding: BTreeMap::new(),
            homes: BTreeMap::new(),
            depths: BTreeMap::new(),
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
        self.depths.range(depth..).map(|(_, blocks)| blocks).sum()
    }

    /// What is at its home, beginning with the job whose turn comes after `turn`.
    pub(super) fn homes_in_turn(&self, turn: Option<JobId>) -> impl Iterator<Item = HomeKey> + '_ {
        let last =
            HomeKey { job: turn, depth: Reverse(0), array: ArrayId { client: ClientId(u64::MAX), sequence: u64::MAX } };
        let later = self.homes.range((Bound::Excluded(last), Bound::Unbounded));
        later.chain(self.homes.range(..=last)).map(|(&key, _)| key)
    }

    /// Its home has changed: so many blocks came and went.
    pub(super) fn move_in(&mut self, key: HomeKey, came: u64, went: u64) {
        change(&mut self.homes, key, came, went);
        change(&mut self.depths, key.depth.0, came, went);
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
        self.refused_last = now;
        self.paused_until = now + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    /// It has finished something: whatever was short may be there again.
    pub(super) fn recover(&mut self) {
        self.paused_until = Duration::ZERO;
        self.backoff = BACKOFF_FIRST;
    }
}

/// Adds and takes away; what is zero is not kept.
fn change<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, came: u64, went: u64) {
    match counts.entry(key) {
        Entry::Occupied(mut entry) => {
            *entry.get_mut() = (*entry.get() + came).saturating_sub(went);
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        Entry::Vacant(entry) if came > went => drop(entry.insert(came - went)),
        Entry::Vacant(_) => {}
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
    /// Since when blocks of it are refused and none was completed.
    pub(super) refused: Option<Duration>,
}
