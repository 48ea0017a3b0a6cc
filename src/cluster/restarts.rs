//! How soon, and how often, a process that died is started again.

use std::time::Duration;

/// Deaths in a row after which it is of no use to go on. A block that kills whoever computes it costs four before its job
/// fails, and those must not count for more than bad luck.
pub(super) const DEATHS_MAX: u32 = 6;

/// What lived so long did not die at once.
const SETTLED: Duration = Duration::from_secs(10);

/// After the second death in a row, for the first is bad luck; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What is remembered from one life to the next.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    deaths_in_a_row: u32,
}

impl Restarts {
    /// It died, having `lived` so long: how long to wait before the next, or nothing if there is to be none.
    pub(super) fn after(&mut self, lived: Duration) -> Option<Duration> {
        if lived >= SETTLED {
            self.deaths_in_a_row = 0;
        }
        self.deaths_in_a_row += 1;
        match self.deaths_in_a_row {
            1 => Some(Duration::ZERO),
            deaths => (deaths < DEATHS_MAX).then(|| FIRST_PAUSE * (1 << (deaths - 2))),
        }
    }

    /// It ended because of what it was given to do: none of its deaths count.
    pub(super) fn forgive(&mut self) {
        self.deaths_in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_it_is_given_up_and_a_long_life_or_a_good_reason_begins_anew() {
        let mut restarts = Restarts::default();
        let mut pause_ms = |lived| restarts.after(Duration::from_secs(lived)).map(|pause| pause.as_millis());
        assert_eq!([0, 9, 1, 0].map(&mut pause_ms), [0, 200, 400, 800].map(Some));
        assert_eq!([10, 0, 0, 0, 0].map(&mut pause_ms), [0, 200, 400, 800, 1600].map(Some));
        assert_eq!(pause_ms(0), None);
        let mut restarts = Restarts::default();
        for _ in 0..3 * DEATHS_MAX {
            restarts.forgive();
            assert_eq!(restarts.after(Duration::ZERO), Some(Duration::ZERO));
        }
    }
}
