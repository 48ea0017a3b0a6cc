//! Who has registered, for whoever started workers and waits for them.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use gridloom_worker::ids::WorkerId;

use super::lock;

/// The names of the workers that have registered and are not gone.
#[derive(Default)]
pub(super) struct Roll {
    names: Mutex<BTreeMap<WorkerId, String>>,
    changed: Condvar,
}

impl Roll {
    /// Waits until all of `names` are there or `gives_up` says that it is no use, at most `patience`. Returns the first
    /// that is missing.
    pub(super) fn miss<'a>(
        &self,
        names: &[&'a str],
        patience: Duration,
        gives_up: impl Fn() -> bool,
    ) -> Option<&'a str> {
        let missing = |there: &BTreeMap<WorkerId, String>| {
            names.iter().copied().find(|name| there.values().all(|other| other != name))
        };
        let waits = |there: &mut BTreeMap<WorkerId, String>| missing(there).is_some() && !gives_up();
        let waited = self.changed.wait_timeout_while(lock(&self.names), patience, waits);
        missing(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Somebody came or went, or whoever waits is to look whether it is of use.
    pub(super) fn change(&self, change: impl FnOnce(&mut BTreeMap<WorkerId, String>)) {
        change(&mut lock(&self.names));
        self.changed.notify_all();
    }
}
