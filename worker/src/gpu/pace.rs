//! How much is dispatched at once: about as much as a device does in a tenth of a second, so that displays and other
//! processes get their turn, and no watchdog takes a large block for a hang.
//!
//! Nothing is known of a pipeline at first, so its first dispatch is small. How long a dispatch took then says how much
//! fits. It never decides what is computed: workgroups have the same numbers however they are dispatched.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bounded::Bounded;
use super::pipeline::Pipeline;

/// What a dispatch should take at most.
const TURN: Duration = Duration::from_millis(100);
/// Elements of a pipeline's first dispatch: a slow GPU takes 100 ms for them where each takes 10,000 operations.
const FIRST_ELEMENTS: u64 = 1 << 20;
/// How many times as much as before may be dispatched: the elements to come may be harder than those that were measured.
const GROWTH_MAX: u64 = 16;
/// Pipelines whose pace is remembered.
const PACES_MAX: usize = 1024;

/// Workgroups that fit, by pipeline.
type Fitting = Bounded<Pipeline, u64, PACES_MAX>;

/// Workgroups in a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// How many.
    pub(super) groups: u64,
    /// Elements that each of them works on.
    pub(super) group_elements: u64,
}

/// What is known of each pipeline.
pub(super) struct Pace {
    fitting: Mutex<Fitting>,
    /// The most that are dispatched at once whatever fits.
    groups_max: AtomicU64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { fitting: Mutex::default(), groups_max: AtomicU64::new(u64::MAX) }
    }
}

impl Pace {
    /// Dispatches at most so many workgroups at once, whatever fits.
    pub(super) fn set_groups_max(&self, groups: u64) {
        self.groups_max.store(groups.max(1), Ordering::Relaxed);
    }

    /// How many workgroups may be dispatched at once.
    pub(super) fn groups(&self, pipeline: &Pipeline, line: Line) -> u64 {
        let fitting = self.lock().get(pipeline).copied();
        fitting.unwrap_or_else(|| line.first()).min(self.groups_max.load(Ordering::Relaxed))
    }

    /// Takes note of how long so many workgroups took.
    pub(super) fn note(&self, pipeline: &Pipeline, line: Line, groups: u64, took: Duration) {
        let mut fitting = self.lock();
        let known = fitting.get(pipeline).copied().unwrap_or_else(|| line.first());
        fitting.insert(pipeline.clone(), next(known, groups, took));
    }

    fn lock(&self) -> MutexGuard<'_, Fitting> {
        self.fitting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// What is dispatched before anything is known.
    fn first(self) -> u64 {
        (FIRST_ELEMENTS / self.group_elements).max(1)
    }
}

/// What fits, if `known` did and `groups` took so long. Submitting takes time too, so few groups say nothing against
/// many; they only do when they take too long themselves.
fn next(known: u64, groups: u64, took: Duration) -> u64 {
    let fits = (groups as f64 * TURN.as_secs_f64() / took.as_secs_f64().max(1e-9)) as u64;
    let fits = fits.clamp(1, groups.saturating_mul(GROWTH_MAX));
    if took <= TURN { known.max(fits) } else { fits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(known: u64, groups: u64, took_ms: u64, expected: u64) {
        assert_eq!(next(known, groups, Duration::from_millis(took_ms)), expected);
    }

    #[test]
    fn a_pace_grows_by_what_was_fast_and_falls_by_what_was_slow() {
        check(1000, 1000, 50, 2000);
        check(1000, 1000, 1, 16_000);
        check(1000, 1000, 0, 16_000);
        check(1000, 1000, 400, 250);
        check(1000, 1, 90, 1000);
        check(1000, 1, 5000, 1);
    }

    #[test]
    fn the_first_dispatch_is_a_million_elements() {
        assert_eq!(Line { groups: 9, group_elements: 256 }.first(), 4096);
        assert_eq!(Line { groups: 9, group_elements: 1 << 40 }.first(), 1);
    }
}
