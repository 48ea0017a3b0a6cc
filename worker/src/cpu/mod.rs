//! The executor on CPUs: one slot per thread, a task runs on one thread.
//!
//! A block is computed by the tile pipeline of `pipeline`: native source -> element program -> native reduction or
//! store. The element program is walked by the interpreter; its name says so ([`NAME`]), and no other executor ever
//! takes over in silence.
//!
//! A watchdog sets a slot's stop flag when a task runs longer than its limit; the pipeline and the interpreter poll it.

mod block;
mod pipeline;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::executor::{Event, ExecuteError, Executor, Task};
use crate::ids::{ArrayId, KernelHash};
use crate::interpreter::StopFlag;
use crate::kernel::TypedKernel;
use crate::stage::Stage;

use pipeline::Prepared;

/// What results name as their executor.
pub const NAME: &str = "cpu interpreter";

/// Where events go. Called on the slot's own thread; it must not block.
pub type EventSink = Box<dyn Fn(Event) + Send + Sync>;

/// How a [`CpuExecutor`] is made.
#[derive(Clone, Debug)]
pub struct CpuOptions {
    /// Slots, one thread each; at least 1.
    pub slots: usize,
    /// The longest that one block may take, from 1 ms to 136 years.
    pub block_timeout: Duration,
}

/// Computes blocks on threads of this process.
pub struct CpuExecutor {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    kernels: HashMap<KernelHash, Arc<TypedKernel>>,
    slots: usize,
}

struct Shared {
    state: Mutex<State>,
    /// Woken when work arrives or all ends.
    work: Condvar,
    /// Wakes the watchdog at the end.
    closing: Condvar,
    sink: EventSink,
    block_timeout: Duration,
}

#[derive(Default)]
struct State {
    /// Ready, or why its tasks fail.
    stages: HashMap<ArrayId, Result<Arc<Prepared>, ExecuteError>>,
    queue: VecDeque<(Task, Arc<Prepared>)>,
    running: Vec<Option<Running>>,
    closed: bool,
}

/// What a slot is busy with.
struct Running {
    array: ArrayId,
    deadline: Instant,
    stop: StopFlag,
    reason: StopReason,
}

#[derive(Clone, Copy, PartialEq)]
enum StopReason {
    None,
    Deadline,
    Cancelled,
}

impl CpuExecutor {
    /// Starts the slots' threads. Events of all tasks go to `sink`.
    pub fn new(options: &CpuOptions, sink: EventSink) -> std::io::Result<CpuExecutor> {
        let slots = options.slots.max(1);
        let state = State { running: (0..slots).map(|_| None).collect(), ..State::default() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            closing: Condvar::new(),
            sink,
            // Within what clocks can add, and long enough for the watchdog to sleep.
            block_timeout: options.block_timeout.clamp(Duration::from_millis(1), Duration::from_secs(1 << 32)),
        });
        let mut executor = CpuExecutor { shared, threads: Vec::new(), kernels: HashMap::new(), slots };
        for slot in 0..slots {
            executor.spawn(format!("gridloom-cpu-{slot}"), move |shared| shared.run_slot(slot))?;
        }
        executor.spawn("gridloom-watchdog".to_owned(), Shared::watch)?;
        Ok(executor)
    }

    /// Makes a kernel known to stages prepared from now on.
    pub fn add_kernel(&mut self, kernel: Arc<TypedKernel>) {
        self.kernels.insert(kernel.hash(), kernel);
    }

    fn spawn(&mut self, name: String, body: impl FnOnce(&Shared) + Send + 'static) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        self.threads.push(std::thread::Builder::new().name(name).spawn(move || body(&shared))?);
        Ok(())
    }
}

impl Executor for CpuExecutor {
    fn name(&self) -> &str {
        NAME
    }

    fn slots(&self) -> usize {
        self.slots
    }

    fn prepare(&mut self, stage: Arc<Stage>) {
        let array = stage.array;
        let prepare = || Prepared::new(stage, &|hash| self.kernels.get(&hash).cloned()).map(Arc::new);
        let prepared = catch_unwind(AssertUnwindSafe(prepare))
            .unwrap_or_else(|panic| Err(ExecuteError::Internal { what: panic_message(panic.as_ref()) }));
        self.shared.lock().stages.insert(array, prepared);
    }

    fn submit(&mut self, task: Task) {
        let mut state = self.shared.lock();
        let error = match state.stages.get(&task.array).cloned() {
            Some(Ok(prepared)) => {
                state.queue.push_back((task, prepared));
                drop(state);
                return self.shared.work.notify_one();
            }
            Some(Err(error)) => error,
            None => {
                let what = format!("stage {} was not prepared", task.array);
                ExecuteError::Unsupported { executor: NAME.to_owned(), what }
            }
        };
        drop(state);
        (self.shared.sink)(Event { token: task.token, result: Err(error), busy: Duration::ZERO });
    }

    fn cancel(&mut self, array: ArrayId) {
        let mut state = self.shared.lock();
        state.stages.remove(&array);
        for running in state.running.iter_mut().flatten().filter(|running| running.array == array) {
            running.reason = StopReason::Cancelled;
            running.stop.raise();
        }
        let queue = std::mem::take(&mut state.queue);
        let (dropped, kept) = queue.into_iter().partition(|(task, _)| task.array == array);
        state.queue = kept;
        drop(state);
        let dropped: VecDeque<(Task, Arc<Prepared>)> = dropped;
        for (task, _) in dropped {
            (self.shared.sink)(Event { token: task.token, result: Err(ExecuteError::Cancelled), busy: Duration::ZERO });
        }
    }
}

impl Drop for CpuExecutor {
    /// Stops what runs and waits for the threads. What was queued yields no event: nobody is there to hear it.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.queue.clear();
        for running in state.running.iter_mut().flatten() {
            running.reason = StopReason::Cancelled;
            running.stop.raise();
        }
        drop(state);
        self.shared.work.notify_all();
        self.shared.closing.notify_all();
        // The last handle may be dropped by what a slot's own event set off; that thread ends by itself.
        let own = std::thread::current().id();
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != own) {
            // A slot's panics are caught where they happen; a thread that ended otherwise has nothing to say here.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The state. A panic elsewhere leaves it usable: every change to it is complete before anything can panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_slot(&self, slot: usize) {
        while let Some((task, prepared, stop)) = self.next_task(slot) {
            let begun = Instant::now();
            let token = task.token;
            let computed = catch_unwind(AssertUnwindSafe(|| prepared.compute(task, &stop)));
            let busy = begun.elapsed();
            let reason = self.lock().running[slot].take().map_or(StopReason::None, |running| running.reason);
            let result = match (computed, reason) {
                (Ok(Ok(blocks)), _) => Ok(blocks),
                (Ok(Err(ExecuteError::Cancelled)), StopReason::Deadline) => {
                    Err(ExecuteError::Deadline { limit_ms: self.block_timeout.as_millis() as u64 })
                }
                (Ok(Err(error)), _) => Err(error),
                (Err(panic), _) => Err(ExecuteError::Internal { what: panic_message(panic.as_ref()) }),
            };
            (self.sink)(Event { token, result, busy });
        }
    }

    /// Waits for a task and marks the slot busy with it; `None` when all ends.
    fn next_task(&self, slot: usize) -> Option<(Task, Arc<Prepared>, StopFlag)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some((task, prepared)) = state.queue.pop_front() {
                let stop = StopFlag::new();
                state.running[slot] = Some(Running {
                    array: task.array,
                    deadline: Instant::now() + self.block_timeout,
                    stop: stop.clone(),
                    reason: StopReason::None,
                });
                return Some((task, prepared, stop));
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Stops tasks at their deadline. All tasks have the same limit, so none that starts while this sleeps can be due
    /// before it wakes, and starting a task need not wake it.
    fn watch(&self) {
        let mut state = self.lock();
        while !state.closed {
            let now = Instant::now();
            let mut wake = now + self.block_timeout;
            for running in state.running.iter_mut().flatten().filter(|running| running.reason == StopReason::None) {
                if running.deadline <= now {
                    running.reason = StopReason::Deadline;
                    running.stop.raise();
                } else {
                    wake = wake.min(running.deadline);
                }
            }
            let woken = self.closing.wait_timeout(state, wake - now);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}
