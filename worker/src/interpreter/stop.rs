//! A flag that ends computations from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared between who computes and who may want it to end. Every clone is the same flag.
///
/// Computations poll it with a relaxed load at loop back edges and calls: nothing else is ordered by it.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// A flag that is not raised.
    pub fn new() -> StopFlag {
        StopFlag::default()
    }

    /// Ends what polls this flag, soon.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Makes the flag usable for the next computation.
    pub fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the computation is to end.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for generated code that polls it by address.
    pub fn shared(&self) -> &Arc<AtomicBool> {
        &self.0
    }
}

/// A computation ended early because its [`StopFlag`] was raised; its results are undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;
