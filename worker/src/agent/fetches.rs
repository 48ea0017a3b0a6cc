//! The blocks on their way in: each part is fetched once however many tasks wait for it, ten parcels at a time, from
//! one holder after the other. Small parts of neighbouring blocks that wait for the same holder go together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::message::FetchId;
use crate::executor::TaskToken;
use crate::ids::{BlockId, WorkerId};
use crate::store::PartKey;
use crate::wire::Parcel;
use crate::wire::peer::{PARCEL_BLOCKS_MAX, PARCEL_BYTES_MAX};

/// Fetches on their way in at once, each of a parcel: enough to hide the round trip, few enough not to crowd out each
/// other.
pub const FETCHES_MAX: usize = 10;

/// An operand of a task that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) token: TaskToken,
    /// Which of its operands.
    pub(super) operand: usize,
}

/// One part that is wanted.
#[derive(Debug)]
struct Wanted {
    /// Not tried yet, in order.
    holders: VecDeque<WorkerId>,
    waiters: Vec<Waiter>,
    /// What it takes at most.
    bytes_max: u64,
}

/// A fetch to be made now: of the first part, and of the same of the blocks that follow it.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) fetch: FetchId,
    pub(super) holder: WorkerId,
    pub(super) parcel: Parcel,
    pub(super) first: PartKey,
}

/// A fetch that was made: what is to come, and from whom.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) holder: WorkerId,
    pub(super) parcel: Parcel,
    first: PartKey,
}

impl Flight {
    /// The part of one of its blocks.
    pub(super) fn key(&self, block: BlockId) -> PartKey {
        PartKey::new(block, self.first.field(), self.first.region().as_ref())
    }
}

/// What became of a part that was fetched.
#[derive(Debug)]
pub(super) enum Arrival {
    /// These wait for it.
    Landed(Vec<Waiter>),
    /// Nobody is left who might have it; these wait in vain.
    Lost(Vec<Waiter>),
    /// Another holder is tried, or nobody waits any more.
    Nothing,
}

/// Every part that is wanted and not here.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    next: u64,
    wanted: BTreeMap<PartKey, Wanted>,
    /// Wanted and not asked for yet.
    queue: VecDeque<PartKey>,
    flying: BTreeMap<FetchId, Flight>,
}

impl Fetches {
    /// `waiter` wants a part, of at most `bytes_max`, that one of `holders` (at least one) has.
    pub(super) fn want(&mut self, key: PartKey, holders: &[WorkerId], waiter: Waiter, bytes_max: u64) {
        match self.wanted.get_mut(&key) {
            Some(wanted) => wanted.waiters.push(waiter),
            None => {
                self.queue.push_back(key.clone());
                let holders = holders.iter().copied().collect();
                self.wanted.insert(key, Wanted { holders, waiters: vec![waiter], bytes_max });
            }
        }
    }

    /// The next fetch, if one may leave.
    pub(super) fn depart(&mut self) -> Option<Departure> {
        while self.flying.len() < FETCHES_MAX {
            let first = self.queue.pop_front()?;
            let Some(wanted) = self.wanted.get_mut(&first) else { continue };
            let (Some(holder), bytes) = (wanted.holders.pop_front(), wanted.bytes_max) else { continue };
            let parcel = self.pack(&first, holder, bytes);
            let fetch = FetchId(self.next);
            self.next += 1;
            self.flying.insert(fetch, Flight { holder, parcel, first: first.clone() });
            return Some(Departure { fetch, holder, parcel, first });
        }
        None
    }

    /// Takes those off the queue that follow `first` and may be fetched together with it.
    fn pack(&mut self, first: &PartKey, holder: WorkerId, mut bytes: u64) -> Parcel {
        let mut parcel = Parcel::one(first.block());
        let mut last = first.clone();
        while parcel.blocks.count() < PARCEL_BLOCKS_MAX
            && let Some(key) = self.queue.pop_front_if(|key| key.follows(&last))
        {
            let together = |wanted: &&mut Wanted| {
                wanted.holders.front() == Some(&holder) && bytes.saturating_add(wanted.bytes_max) <= PARCEL_BYTES_MAX
            };
            let Some(wanted) = self.wanted.get_mut(&key).filter(together) else {
                self.queue.push_front(key);
                break;
            };
            wanted.holders.pop_front();
            bytes += wanted.bytes_max;
            parcel.blocks.end += 1;
            last = key;
        }
        parcel
    }

    /// A fetch has ended: what was on its way.
    pub(super) fn land(&mut self, fetch: FetchId) -> Option<Flight> {
        self.flying.remove(&fetch)
    }

    /// A part has come, or has not.
    pub(super) fn arrive(&mut self, key: &PartKey, is_here: bool) -> Arrival {
        let Some(wanted) = self.wanted.remove(key) else { return Arrival::Nothing };
        match is_here {
            true => Arrival::Landed(wanted.waiters),
            false if wanted.waiters.is_empty() => Arrival::Nothing,
            false if wanted.holders.is_empty() => Arrival::Lost(wanted.waiters),
            false => {
                // In order, so that what did not come together is asked for together again.
                self.queue.push_back(key.clone());
                self.wanted.insert(key.clone(), wanted);
                Arrival::Nothing
            }
        }
    }

    /// Tasks are given up: what only they wanted and has not left is not fetched.
    pub(super) fn give_up(&mut self, tokens: &BTreeSet<TaskToken>) {
        if tokens.is_empty() {
            return;
        }
        let flying: BTreeSet<PartKey> =
            self.flying.values().flat_map(|flight| flight.parcel.ids().map(|block| flight.key(block))).collect();
        self.wanted.retain(|key, wanted| {
            wanted.waiters.retain(|waiter| !tokens.contains(&waiter.token));
            !wanted.waiters.is_empty() || flying.contains(key)
        });
        self.queue.retain(|key| self.wanted.contains_key(key));
    }

    /// How many are on their way.
    pub(super) fn in_flight(&self) -> usize {
        self.flying.len()
    }

    /// Whether nothing is wanted and nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.flying.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ArrayId, ClientId};

    fn key(index: u64) -> PartKey {
        let array = ArrayId { client: ClientId(1), sequence: 1 };
        PartKey::new(BlockId { array, index }, 0, None)
    }

    fn waiter(token: u64) -> Waiter {
        Waiter { token: TaskToken(token), operand: 0 }
    }

    fn all_away(fetches: &mut Fetches) -> Vec<Departure> {
        std::iter::from_fn(|| fetches.depart()).collect()
    }

    #[test]
    fn the_same_part_is_fetched_once_and_ten_at_a_time() {
        let mut fetches = Fetches::default();
        for at in 0..24 {
            fetches.want(key(at / 2), &[WorkerId(1)], waiter(at), PARCEL_BYTES_MAX);
        }
        let away = all_away(&mut fetches);
        assert_eq!(away.len(), FETCHES_MAX);
        assert_eq!(fetches.land(away[0].fetch).unwrap().key(key(0).block()), key(0));
        let Arrival::Landed(waiters) = fetches.arrive(&key(0), true) else { panic!("it landed") };
        assert_eq!(waiters, vec![waiter(0), waiter(1)]);
        assert!(fetches.depart().is_some());
        // What nobody waits for any more, and has not left, is not fetched.
        fetches.give_up(&[TaskToken(22), TaskToken(23)].into());
        assert!(fetches.land(away[1].fetch).is_some());
        assert!(matches!(fetches.arrive(&key(1), true), Arrival::Landed(..)));
        assert!(fetches.depart().is_none());
    }

    #[test]
    fn small_neighbours_of_one_holder_go_together() {
        let mut fetches = Fetches::default();
        // A gap before 12; from 15 on from another worker.
        for index in (2..8).chain(12..20) {
            let holders = [WorkerId(if index < 15 { 1 } else { 2 }), WorkerId(3)];
            fetches.want(key(index), &holders, waiter(index), PARCEL_BYTES_MAX / 4);
        }
        let away: Vec<(u64, u64, WorkerId)> = all_away(&mut fetches)
            .iter()
            .map(|Departure { parcel, holder, .. }| (parcel.blocks.start, parcel.blocks.end, *holder))
            .collect();
        let [one, two] = [1, 2].map(WorkerId);
        assert_eq!(away, [(2, 6, one), (6, 8, one), (12, 15, one), (15, 19, two), (19, 20, two)]);
        // One that did not come is asked of the next, alone; the others are here.
        let flight = fetches.land(FetchId(0)).unwrap();
        assert!(matches!(fetches.arrive(&flight.key(key(2).block()), true), Arrival::Landed(..)));
        assert!(matches!(fetches.arrive(&flight.key(key(3).block()), false), Arrival::Nothing));
        let again = fetches.depart().unwrap();
        assert_eq!((again.holder, again.parcel), (WorkerId(3), Parcel::one(key(3).block())));
        assert!(fetches.land(again.fetch).is_some());
        assert!(matches!(fetches.arrive(&key(3), false), Arrival::Lost(..)));
    }
}
