//! How a running worker is told to end, by whoever catches signals.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What somebody wants of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    /// Hand over what is held, then end.
    Leave,
    /// End now.
    End,
}

/// Ends workers; clones end the same ones. It may be used before they run.
#[derive(Clone, Default)]
pub struct Stop(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    wish: Option<Wish>,
    /// One for every worker that runs.
    listeners: Vec<Box<dyn Fn(Wish) -> bool + Send>>,
}

impl Stop {
    /// They hand over what they hold, then end.
    pub fn leave(&self) {
        self.wish_for(Wish::Leave);
    }

    /// They end now; what they alone hold is lost.
    pub fn end(&self) {
        self.wish_for(Wish::End);
    }

    fn wish_for(&self, wish: Wish) {
        let mut state = self.lock();
        // Who is to end now is not asked to take its time.
        let wish = state.wish.map_or(wish, |before| before.max(wish));
        state.wish = Some(wish);
        state.listeners.retain(|tell| tell(wish));
    }

    pub(super) fn wish(&self) -> Option<Wish> {
        self.lock().wish
    }

    /// Calls `tell` with every wish, also one that came before, for as long as it returns whether it still listens.
    pub(super) fn tell(&self, tell: impl Fn(Wish) -> bool + Send + 'static) {
        let mut state = self.lock();
        if state.wish.is_none_or(&tell) {
            state.listeners.push(Box::new(tell));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A wish and its listeners cannot be left half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
