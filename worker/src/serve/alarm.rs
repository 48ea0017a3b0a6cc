//! What the own thread of a state machine sleeps on: an alarm that can be set again at any time, and rung.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// An alarm for one sleeper.
#[derive(Default)]
pub(super) struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    due: Option<Instant>,
    is_rung: bool,
    is_stopped: bool,
    sleeps: Sleep,
}

/// What the sleeper does.
#[derive(Default, PartialEq)]
enum Sleep {
    #[default]
    Awake,
    Until(Instant),
    UntilCalled,
}

impl Alarm {
    /// When the sleeper is to wake, if ever, in place of what was set before.
    pub(super) fn set(&self, due: Option<Instant>) {
        let mut state = self.lock();
        state.due = due;
        // One that wakes too early looks again: it is called only if it would sleep too long.
        let sleeps_too_long = due.is_some_and(|due| match state.sleeps {
            Sleep::Awake => false,
            Sleep::Until(until) => due < until,
            Sleep::UntilCalled => true,
        });
        drop(state);
        if sleeps_too_long {
            self.changed.notify_one();
        }
    }

    /// Wakes the sleeper now.
    pub(super) fn ring(&self) {
        let mut state = self.lock();
        state.is_rung = true;
        let sleeps = state.sleeps != Sleep::Awake;
        drop(state);
        if sleeps {
            self.changed.notify_one();
        }
    }

    /// Wakes the sleeper for the last time.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_one();
    }

    /// Sleeps until the time that is set, or until it rings, and then has no time set; false when it was stopped.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.is_stopped {
                return false;
            }
            if state.is_rung || state.due.is_some_and(|due| due <= now) {
                (state.is_rung, state.due) = (false, None);
                return true;
            }
            state = match state.due {
                Some(due) => {
                    state.sleeps = Sleep::Until(due);
                    self.changed.wait_timeout(state, due - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    state.sleeps = Sleep::UntilCalled;
                    self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
            };
            state.sleeps = Sleep::Awake;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
