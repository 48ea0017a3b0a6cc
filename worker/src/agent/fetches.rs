//! The blocks on their way in: each part is fetched once however many tasks wait for it, ten at a time, from one
//! holder after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::message::FetchId;
use crate::executor::TaskToken;
use crate::ids::WorkerId;
use crate::store::PartKey;
use crate::wire::FetchError;

/// Fetches on their way in at once: enough to hide the round trip, few enough not to crowd out each other.
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
}

/// A fetch to be made now.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) fetch: FetchId,
    pub(super) holder: WorkerId,
    pub(super) key: PartKey,
}

/// What became of a fetch.
#[derive(Debug)]
pub(super) enum Arrival {
    /// These wait for the part.
    Landed(PartKey, Vec<Waiter>),
    /// Nobody is left who might have it.
    Lost { key: PartKey, waiters: Vec<Waiter>, holder: WorkerId, error: FetchError },
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
    flying: BTreeMap<FetchId, (PartKey, WorkerId)>,
}

impl Fetches {
    /// `waiter` wants a part that one of `holders` (at least one) has.
    pub(super) fn want(&mut self, key: PartKey, holders: &[WorkerId], waiter: Waiter) {
        match self.wanted.get_mut(&key) {
            Some(wanted) => wanted.waiters.push(waiter),
            None => {
                self.queue.push_back(key.clone());
                let holders = holders.iter().copied().collect();
                self.wanted.insert(key, Wanted { holders, waiters: vec![waiter] });
            }
        }
    }

    /// The next fetch, if one may leave.
    pub(super) fn depart(&mut self) -> Option<Departure> {
        while self.flying.len() < FETCHES_MAX {
            let key = self.queue.pop_front()?;
            if let Some(wanted) = self.wanted.get_mut(&key)
                && let Some(holder) = wanted.holders.pop_front()
            {
                let fetch = FetchId(self.next);
                self.next += 1;
                self.flying.insert(fetch, (key.clone(), holder));
                return Some(Departure { fetch, holder, key });
            }
        }
        None
    }

    /// A fetch has ended.
    pub(super) fn arrive(&mut self, fetch: FetchId, outcome: Result<(), FetchError>) -> Arrival {
        let Some((key, holder)) = self.flying.remove(&fetch) else {
            return Arrival::Nothing;
        };
        let Some(wanted) = self.wanted.remove(&key) else {
            return Arrival::Nothing;
        };
        match outcome {
            Ok(()) => Arrival::Landed(key, wanted.waiters),
            Err(_) if wanted.waiters.is_empty() => Arrival::Nothing,
            Err(_) if !wanted.holders.is_empty() => {
                self.queue.push_front(key.clone());
                self.wanted.insert(key, wanted);
                Arrival::Nothing
            }
            Err(error) => Arrival::Lost { key, waiters: wanted.waiters, holder, error },
        }
    }

    /// Tasks are given up: what only they wanted and has not left is not fetched.
    pub(super) fn give_up(&mut self, tokens: &BTreeSet<TaskToken>) {
        if tokens.is_empty() {
            return;
        }
        let flying: Vec<&PartKey> = self.flying.values().map(|(key, _)| key).collect();
        self.wanted.retain(|key, wanted| {
            wanted.waiters.retain(|waiter| !tokens.contains(&waiter.token));
            !wanted.waiters.is_empty() || flying.contains(&key)
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
    use crate::ids::{ArrayId, BlockId, ClientId};

    fn key(index: u64) -> PartKey {
        let array = ArrayId { client: ClientId(1), sequence: 1 };
        PartKey::new(BlockId { array, index }, 0, None)
    }

    fn waiter(token: u64) -> Waiter {
        Waiter { token: TaskToken(token), operand: 0 }
    }

    #[test]
    fn the_same_part_is_fetched_once_and_ten_at_a_time() {
        let mut fetches = Fetches::default();
        for at in 0..24 {
            fetches.want(key(at / 2), &[WorkerId(1)], waiter(at));
        }
        let away: Vec<Departure> = std::iter::from_fn(|| fetches.depart()).collect();
        assert_eq!(away.len(), FETCHES_MAX);
        let Arrival::Landed(landed, waiters) = fetches.arrive(away[0].fetch, Ok(())) else { panic!("it landed") };
        assert_eq!((landed, waiters), (key(0), vec![waiter(0), waiter(1)]));
        assert!(fetches.depart().is_some());
        // What nobody waits for any more, and has not left, is not fetched.
        fetches.give_up(&[TaskToken(22), TaskToken(23)].into());
        assert!(matches!(fetches.arrive(away[1].fetch, Ok(())), Arrival::Landed(..)));
        assert!(fetches.depart().is_none());
    }
}
