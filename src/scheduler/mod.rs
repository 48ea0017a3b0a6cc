//! Who decides: which block is computed where, kept for how long, and made again after a loss.
//!
//! Pure: `handle(now, event)`, `poll() -> action`, `next_timeout()`. No clock, thread, socket or random source; time
//! is what it is told.

pub mod error;
pub mod message;
pub mod story;

use std::collections::VecDeque;
use std::time::Duration;

use gridloom_worker::ids::BlockId;

pub use error::{JobError, PlanError, StageFault, Wanted};
pub use message::{Action, Event, FromClient, Holding, Limits, ToClient};
pub use story::{Chapter, Happening};

/// The state of everything that was submitted.
pub struct Scheduler {
    limits: Limits,
    actions: VecDeque<Action>,
}

impl Scheduler {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Scheduler {
        Scheduler { limits, actions: VecDeque::new() }
    }

    /// Takes note of what happened at `now` (time since any epoch; it never goes back).
    pub fn handle(&mut self, _now: Duration, _event: Event) {
        let _ = self.limits;
    }

    /// What is to be done next, if anything.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due, if ever.
    pub fn next_timeout(&self) -> Option<Duration> {
        None
    }

    /// What is remembered of a block, oldest first.
    pub fn story(&self, _block: BlockId) -> Vec<Chapter> {
        Vec::new()
    }

    /// Bytes of state, roughly: what the sets of blocks take.
    pub fn state_bytes(&self) -> usize {
        0
    }

    /// Derives every invariant again from what is stored.
    ///
    /// # Errors
    /// The first that does not hold, in words.
    pub fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
