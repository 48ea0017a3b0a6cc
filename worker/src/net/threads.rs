//! The threads that drive an endpoint.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// How often it is looked whether a thread has ended.
const END_PAUSE: Duration = Duration::from_micros(200);

/// A runtime and its threads. Dropped, they end by themselves.
pub(super) enum Threads {
    /// One thread does everything in its turn: a message is passed on within it, and wakes nobody else.
    One(One),
    /// Several, where there is enough to encrypt for them.
    Many(Runtime),
}

/// A runtime that a thread of its own drives until it is told to stop.
pub(super) struct One {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Threads {
    pub(super) fn start(name: &str, count: usize) -> io::Result<Threads> {
        if count > 1 {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(count).thread_name(name);
            return Ok(Threads::Many(builder.max_blocking_threads(1).enable_all().build()?));
        }
        let runtime = Builder::new_current_thread().max_blocking_threads(1).enable_all().build()?;
        let (handle, (stop, stopped)) = (runtime.handle().clone(), oneshot::channel());
        let drive = move || {
            // Told by the other end's being dropped.
            let _: Result<(), _> = runtime.block_on(stopped);
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(drive)?;
        Ok(Threads::One(One { handle, stop, thread }))
    }

    pub(super) fn handle(&self) -> &Handle {
        match self {
            Threads::One(one) => &one.handle,
            Threads::Many(runtime) => runtime.handle(),
        }
    }

    /// Ends them, and waits for that at most `patience`. Without any, also on one of them.
    pub(super) fn end(self, patience: Duration) {
        match self {
            Threads::Many(runtime) if patience.is_zero() => runtime.shutdown_background(),
            Threads::Many(runtime) => runtime.shutdown_timeout(patience),
            Threads::One(One { stop, thread, .. }) => {
                drop(stop);
                let begun = Instant::now();
                while !thread.is_finished() && begun.elapsed() < patience {
                    thread::sleep(END_PAUSE);
                }
            }
        }
    }
}
