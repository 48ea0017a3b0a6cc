//! Sets of block indices as intervals: what the scheduler knows of an array of ten million blocks is a handful of them.
//!
//! An [`IntervalSet`] never holds two intervals that touch, so equal sets are equal values and its size is the number
//! of gaps, not of members. It knows nothing of what it counts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The blocks `start..end`, as plain data that can be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Interval {
    /// The first.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

impl Interval {
    /// `start..end`.
    pub const fn new(start: u64, end: u64) -> Interval {
        Interval { start, end }
    }

    /// Just `at`.
    pub const fn one(at: u64) -> Interval {
        Interval { start: at, end: at.saturating_add(1) }
    }

    /// How many.
    pub const fn count(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether `at` is one of them.
    pub const fn contains(self, at: u64) -> bool {
        self.start <= at && at < self.end
    }

    /// What both have; empty if nothing.
    pub fn intersect(self, other: Interval) -> Interval {
        Interval { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    /// Every index, in order.
    pub fn indices(self) -> std::ops::Range<u64> {
        self.start..self.end
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count() {
            1 => write!(f, "[{}]", self.start),
            _ => write!(f, "[{}..{}]", self.start, self.end),
        }
    }
}

/// A set of indices, stored as its maximal intervals.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IntervalSet {
    /// Start to end; disjoint, and no end is another's start.
    runs: BTreeMap<u64, u64>,
    /// How many indices there are in all.
    count: u64,
}

impl IntervalSet {
    /// Nothing.
    pub const fn new() -> IntervalSet {
        IntervalSet { runs: BTreeMap::new(), count: 0 }
    }

    /// `0..count`.
    pub fn whole(count: u64) -> IntervalSet {
        Interval::new(0, count).into()
    }

    /// How many indices are in it.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many intervals it takes to say so.
    pub fn interval_count(&self) -> usize {
        self.runs.len()
    }

    /// Its maximal intervals, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Interval> + '_ {
        self.runs.iter().map(|(&start, &end)| Interval { start, end })
    }

    /// Every index, in order.
    pub fn indices(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter().flat_map(Interval::indices)
    }

    /// The lowest interval.
    pub fn first(&self) -> Option<Interval> {
        self.runs.first_key_value().map(|(&start, &end)| Interval { start, end })
    }

    /// The interval with the most indices; the lowest of equals.
    pub fn largest(&self) -> Option<Interval> {
        self.iter().max_by_key(|interval| (interval.count(), std::cmp::Reverse(interval.start)))
    }

    /// The maximal interval that `at` is in.
    pub fn interval_at(&self, at: u64) -> Option<Interval> {
        let (&start, &end) = self.runs.range(..=at).next_back()?;
        (at < end).then_some(Interval { start, end })
    }

    /// Whether `at` is in it.
    pub fn contains(&self, at: u64) -> bool {
        self.interval_at(at).is_some()
    }

    /// Whether all of `interval` is; true for an empty one.
    pub fn covers(&self, interval: Interval) -> bool {
        self.first_gap(interval).is_none()
    }

    /// The lowest index of `interval` that is not in the set.
    pub fn first_gap(&self, interval: Interval) -> Option<u64> {
        if interval.is_empty() {
            return None;
        }
        match self.interval_at(interval.start) {
            None => Some(interval.start),
            Some(run) => (run.end < interval.end).then_some(run.end),
        }
    }

    /// The parts of `interval` that are in the set, in order.
    pub fn within(&self, interval: Interval) -> impl Iterator<Item = Interval> + '_ {
        let first = self.runs.range(..=interval.start).next_back().map_or(interval.start, |(&start, _)| start);
        let runs = self.runs.range(first..interval.end.max(first));
        runs.map(move |(&start, &end)| Interval { start, end }.intersect(interval)).filter(|part| !part.is_empty())
    }

    /// Whether any of `interval` is in the set.
    pub fn touches(&self, interval: Interval) -> bool {
        self.within(interval).next().is_some()
    }

    /// Adds `interval`.
    pub fn insert(&mut self, interval: Interval) {
        if interval.is_empty() {
            return;
        }
        let Interval { mut start, mut end } = interval;
        // What overlaps or touches on the left, then all that begins inside or at the end.
        if let Some((&left, &left_end)) = self.runs.range(..start).next_back()
            && left_end >= start
        {
            start = left;
        }
        while let Some((&inner, &inner_end)) = self.runs.range(start..=end).next() {
            self.runs.remove(&inner);
            self.count -= inner_end - inner;
            end = end.max(inner_end);
        }
        self.runs.insert(start, end);
        self.count += end - start;
    }

    /// Takes `interval` away.
    pub fn remove(&mut self, interval: Interval) {
        if interval.is_empty() {
            return;
        }
        while let Some((&start, &end)) = self.runs.range(..interval.end).next_back() {
            if end <= interval.start {
                return;
            }
            self.runs.remove(&start);
            self.count -= end - start;
            for part in [Interval::new(start, interval.start), Interval::new(interval.end, end)] {
                if !part.is_empty() {
                    self.runs.insert(part.start, part.end);
                    self.count += part.count();
                }
            }
        }
    }

    /// Adds all of `other`.
    pub fn insert_all(&mut self, other: &IntervalSet) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        other.iter().for_each(|interval| self.insert(interval));
    }

    /// Takes all of `other` away.
    pub fn remove_all(&mut self, other: &IntervalSet) {
        if other.runs.len() <= self.runs.len() {
            other.iter().for_each(|interval| self.remove(interval));
            return;
        }
        // Few intervals here, many there: look only at those that matter.
        let hit: Vec<Interval> = self.iter().flat_map(|run| other.within(run).collect::<Vec<_>>()).collect();
        hit.into_iter().for_each(|interval| self.remove(interval));
    }

    /// What both have.
    pub fn intersection(&self, other: &IntervalSet) -> IntervalSet {
        let (few, many) = if self.runs.len() <= other.runs.len() { (self, other) } else { (other, self) };
        few.iter().flat_map(|run| many.within(run)).collect()
    }

    /// What this has and `other` has not.
    pub fn difference(&self, other: &IntervalSet) -> IntervalSet {
        let mut rest = self.clone();
        rest.remove_all(other);
        rest
    }

    /// Whether they have anything in common.
    pub fn overlaps(&self, other: &IntervalSet) -> bool {
        let (few, many) = if self.runs.len() <= other.runs.len() { (self, other) } else { (other, self) };
        few.iter().any(|run| many.touches(run))
    }

    /// Whether all of `other` is in it.
    pub fn covers_all(&self, other: &IntervalSet) -> bool {
        other.iter().all(|interval| self.covers(interval))
    }

    /// Takes everything out.
    pub fn take(&mut self) -> IntervalSet {
        std::mem::take(self)
    }
}

impl From<Interval> for IntervalSet {
    fn from(interval: Interval) -> IntervalSet {
        let mut set = IntervalSet::new();
        set.insert(interval);
        set
    }
}

impl FromIterator<Interval> for IntervalSet {
    fn from_iter<I: IntoIterator<Item = Interval>>(intervals: I) -> IntervalSet {
        let mut set = IntervalSet::new();
        set.extend(intervals);
        set
    }
}

impl Extend<Interval> for IntervalSet {
    fn extend<I: IntoIterator<Item = Interval>>(&mut self, intervals: I) {
        intervals.into_iter().for_each(|interval| self.insert(interval));
    }
}

impl fmt::Debug for IntervalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        self.iter().try_for_each(|interval| write!(f, "{interval}"))?;
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const BOUND: u64 = 40;

    fn interval() -> impl Strategy<Value = Interval> {
        (0..BOUND, 0..12u64).prop_map(|(start, count)| Interval::new(start, (start + count).min(BOUND)))
    }

    fn set() -> impl Strategy<Value = (IntervalSet, BTreeSet<u64>)> {
        prop::collection::vec((any::<bool>(), interval()), 0..12).prop_map(|edits| {
            let (mut set, mut naive) = (IntervalSet::new(), BTreeSet::new());
            for (insert, interval) in edits {
                if insert {
                    set.insert(interval);
                    naive.extend(interval.indices());
                } else {
                    set.remove(interval);
                    naive.retain(|&at| !interval.contains(at));
                }
            }
            (set, naive)
        })
    }

    /// Same members, maximal disjoint intervals, the right count.
    #[track_caller]
    fn check(set: &IntervalSet, naive: &BTreeSet<u64>) {
        assert_eq!(set.indices().collect::<Vec<_>>(), naive.iter().copied().collect::<Vec<_>>());
        assert_eq!(set.count(), naive.len() as u64);
        let intervals: Vec<Interval> = set.iter().collect();
        assert!(intervals.iter().all(|interval| !interval.is_empty()));
        assert!(intervals.windows(2).all(|pair| pair[0].end < pair[1].start), "{set:?} is not in its least form");
    }

    proptest! {
        #[test]
        fn edits_agree_with_a_naive_set((set, naive) in set()) {
            check(&set, &naive);
        }

        #[test]
        fn questions_agree_with_a_naive_set((set, naive) in set(), interval in interval()) {
            let gap = interval.indices().find(|at| !naive.contains(at));
            prop_assert_eq!(set.first_gap(interval), gap);
            prop_assert_eq!(set.covers(interval), gap.is_none());
            prop_assert_eq!(set.touches(interval), interval.indices().any(|at| naive.contains(&at)));
            let within: Vec<u64> = set.within(interval).flat_map(Interval::indices).collect();
            prop_assert_eq!(within, interval.indices().filter(|at| naive.contains(at)).collect::<Vec<_>>());
            prop_assert_eq!(set.contains(interval.start), naive.contains(&interval.start));
            let largest = set.iter().map(Interval::count).max();
            prop_assert_eq!(set.largest().map(Interval::count), largest);
        }

        #[test]
        fn algebra_agrees_with_naive_sets((a, naive_a) in set(), (b, naive_b) in set()) {
            check(&a.intersection(&b), &naive_a.intersection(&naive_b).copied().collect());
            check(&a.difference(&b), &naive_a.difference(&naive_b).copied().collect());
            let mut both = a.clone();
            both.insert_all(&b);
            check(&both, &naive_a.union(&naive_b).copied().collect());
            prop_assert_eq!(a.overlaps(&b), !naive_a.is_disjoint(&naive_b));
            prop_assert_eq!(a.covers_all(&b), naive_b.is_subset(&naive_a));
        }
    }
}
