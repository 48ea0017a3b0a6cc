//! Waiting for a future on the thread that asks: [awake](gridloom_worker::awake) for a moment, then asleep.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use gridloom_worker::awake::Wait;

thread_local! {
    /// Whether what this thread waited for last came soon.
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
        let wait = Wait::begin(COMES_SOON.get());
        while !self.is_raised.swap(false, Ordering::Acquire) {
            if !wait.lingers() {
                thread::park();
            }
        }
        COMES_SOON.set(wait.came_soon());
    }
}
