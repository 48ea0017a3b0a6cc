//! Waiting for a future on the thread that asks: awake for a moment, then asleep.
//!
//! A small task is back within microseconds; putting a thread to sleep and waking it takes many times as long. What takes
//! longer is waited for asleep: others may need the core, those that compute it among them. So a thread stays awake as
//! long as what it waited for last came soon.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a thread stays awake for what it waits for: about what falling asleep and waking would cost it.
const AWAKE: Duration = Duration::from_micros(50);

/// What came within this time asleep may come within [`AWAKE`] to who is awake: the difference is the waking of both sides.
const SOON: Duration = Duration::from_micros(200);

thread_local! {
    /// Whether what this thread waited for last came [`SOON`].
    static COMES_SOON: Cell<bool> = const { Cell::new(true) };
}

/// Polls `future` on this thread until it is ready.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let signal = Arc::new(Signal { is_raised: AtomicBool::new(false), waiter: thread::current() });
    let waker = Waker::from(Arc::clone(&signal));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        signal.wait();
    }
}

/// Says that a future is to be polled again.
struct Signal {
    is_raised: AtomicBool,
    waiter: Thread,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.is_raised.store(true, Ordering::Release);
        self.waiter.unpark();
    }
}

impl Signal {
    fn wait(&self) {
        let begun = Instant::now();
        while !self.is_raised.swap(false, Ordering::Acquire) {
            match COMES_SOON.get() && begun.elapsed() < AWAKE {
                // Whoever makes the result may need this very core.
                true => thread::yield_now(),
                false => thread::park(),
            }
        }
        COMES_SOON.set(begun.elapsed() < SOON);
    }
}
