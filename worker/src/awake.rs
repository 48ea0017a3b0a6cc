//! Waiting for what comes soon: awake for a moment, then asleep.
//!
//! A small task is back within microseconds; putting a thread to sleep and waking it takes many times as long. What takes
//! longer is waited for asleep: others may need the core, those that bring it among them. So a thread stays awake as long
//! as what it waited for last came soon. How it sleeps, and what wakes it, is its own affair.

use std::thread;
use std::time::{Duration, Instant};

/// How long a thread stays awake for what it waits for: about what falling asleep and being woken would cost it.
const AWAKE: Duration = Duration::from_micros(50);

/// What came within this time asleep may come within [`AWAKE`] to who is awake: the difference is the waking of both sides.
const SOON: Duration = Duration::from_micros(200);

/// One wait of a thread.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    begun: Instant,
    stays_awake: bool,
}

impl Wait {
    /// Begins to wait; `came_soon` says whether what was waited for last did.
    pub fn begin(came_soon: bool) -> Wait {
        Wait { begun: Instant::now(), stays_awake: came_soon }
    }

    /// Lets a moment pass, awake; false when it is time to sleep. Others have the core meanwhile: whoever brings what is
    /// waited for may need this very one.
    pub fn lingers(&self) -> bool {
        let lingers = self.stays_awake && self.begun.elapsed() < AWAKE;
        if lingers {
            thread::yield_now();
        }
        lingers
    }

    /// What was waited for is here: whether it came soon.
    pub fn came_soon(&self) -> bool {
        self.begun.elapsed() < SOON
    }
}
