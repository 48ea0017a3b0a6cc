//! Threads that compute tasks, one at a time each: what an executor is made of, whatever its tasks do.
//!
//! [`Slots`] keeps the executor's contract (one event per task, in whatever way it ends) and knows nothing of what is
//! computed. A watchdog raises a task's stop flag when it runs longer than its limit; what computes polls it.
//! A driver that hangs does not: its task fails without it, and its thread is left where it is.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::awake::Wait;
use crate::block::Block;
use crate::executor::{Event, EventSink, ExecuteError, Task, TaskToken};
use crate::ids::ArrayId;
use crate::interpreter::StopFlag;

/// How long after its deadline a task that does not heed its stop flag is given up, where tasks can be.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);

/// What a task fails with that is given up: its slot's thread is in a driver that does not return, and is left there.
pub(crate) type GiveUp = Box<dyn Fn() -> ExecuteError + Send + Sync>;

/// A stage made ready.
pub(crate) trait Compute: Send + Sync {
    /// Computes one block, one result per field, and ends with `Cancelled` soon after `stop` is raised.
    fn compute(&self, task: Task, stop: &StopFlag) -> Result<Vec<Block>, ExecuteError>;
}

/// A stage made ready, or why its tasks fail.
pub(crate) type Ready = Result<Arc<dyn Compute>, ExecuteError>;

/// The threads, and the tasks that wait for them.
pub(crate) struct Slots {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    count: usize,
}

struct Shared {
    state: Mutex<State>,
    /// Woken when work arrives or all ends.
    work: Condvar,
    /// Wakes the watchdog at the end.
    closing: Condvar,
    /// Set where a task is queued, for the slots that are awake.
    is_queued: AtomicBool,
    sink: EventSink,
    give_up: Option<GiveUp>,
    block_timeout: Duration,
}

#[derive(Default)]
struct State {
    stages: HashMap<ArrayId, Ready>,
    queue: VecDeque<(Task, Arc<dyn Compute>)>,
    running: Vec<Option<Running>>,
    /// How many slots look for work without sleeping.
    awake: usize,
    closed: bool,
}

/// What a slot is busy with.
struct Running {
    token: TaskToken,
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
    /// Its event was sent without it.
    GivenUp,
}

impl Slots {
    /// Starts `count` threads (at least one), named after `name`. Events of all tasks go to `sink`. A block may take
    /// `block_timeout`, from 1 ms to 136 years. With `give_up`, one that does not stop then is not waited for.
    pub(crate) fn new(
        name: &str,
        count: usize,
        block_timeout: Duration,
        sink: EventSink,
        give_up: Option<GiveUp>,
    ) -> std::io::Result<Slots> {
        let count = count.max(1);
        let state = State { running: (0..count).map(|_| None).collect(), ..State::default() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            closing: Condvar::new(),
            is_queued: AtomicBool::new(false),
            sink,
            give_up,
            // Within what clocks can add, and long enough for the watchdog to sleep.
            block_timeout: block_timeout.clamp(Duration::from_millis(1), Duration::from_secs(1 << 32)),
        });
        let mut slots = Slots { shared, threads: Vec::new(), count };
        for slot in 0..count {
            slots.spawn(format!("gridloom-{name}-{slot}"), move |shared| shared.run_slot(slot))?;
        }
        slots.spawn("gridloom-watchdog".to_owned(), Shared::watch)?;
        Ok(slots)
    }

    fn spawn(&mut self, name: String, body: impl FnOnce(&Shared) + Send + 'static) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        self.threads.push(std::thread::Builder::new().name(name).spawn(move || body(&shared))?);
        Ok(())
    }

    /// How many threads there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Makes a stage known. A panic of `prepare` is what its tasks fail with.
    pub(crate) fn prepare(&self, array: ArrayId, prepare: impl FnOnce() -> Ready) {
        let ready = catch_unwind(AssertUnwindSafe(prepare))
            .unwrap_or_else(|panic| Err(ExecuteError::Internal { what: panic_message(panic.as_ref()) }));
        self.shared.lock().stages.insert(array, ready);
    }

    /// Queues a task. `executor` is who an unknown stage's error speaks of.
    pub(crate) fn submit(&self, executor: &str, task: Task) {
        let mut state = self.shared.lock();
        let error = match state.stages.get(&task.array).cloned() {
            Some(Ok(prepared)) => {
                state.queue.push_back((task, prepared));
                self.shared.is_queued.store(true, Ordering::Release);
                let somebody_sleeps_over_it = state.queue.len() > state.awake;
                drop(state);
                if somebody_sleeps_over_it {
                    self.shared.work.notify_one();
                }
                return;
            }
            Some(Err(error)) => error,
            None => {
                let what = format!("stage {} was not prepared", task.array);
                ExecuteError::Unsupported { executor: executor.to_owned(), what }
            }
        };
        drop(state);
        (self.shared.sink)(Event { token: task.token, result: Err(error), busy: Duration::ZERO });
    }

    /// Forgets a stage, drops its queued tasks and stops those that run.
    pub(crate) fn cancel(&self, array: ArrayId) {
        let mut state = self.shared.lock();
        state.stages.remove(&array);
        for running in state.running.iter_mut().flatten().filter(|running| running.array == array) {
            running.reason = StopReason::Cancelled;
            running.stop.raise();
        }
        let queue = std::mem::take(&mut state.queue);
        let (dropped, kept): (VecDeque<_>, _) = queue.into_iter().partition(|(task, _)| task.array == array);
        state.queue = kept;
        drop(state);
        for (task, _) in dropped {
            (self.shared.sink)(Event { token: task.token, result: Err(ExecuteError::Cancelled), busy: Duration::ZERO });
        }
    }
}

impl Drop for Slots {
    /// Stops what runs and waits for the threads. What was queued yields no event: nobody is there to hear it.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.queue.clear();
        let mut given_up = Vec::new();
        for (slot, running) in state.running.iter_mut().enumerate() {
            match running {
                Some(running) if running.reason == StopReason::GivenUp => given_up.push(slot),
                Some(running) => {
                    running.reason = StopReason::Cancelled;
                    running.stop.raise();
                }
                None => {}
            }
        }
        drop(state);
        self.shared.work.notify_all();
        self.shared.closing.notify_all();
        // The last handle may be dropped by what a slot's own event set off; that thread ends by itself.
        let own = std::thread::current().id();
        for (slot, thread) in self.threads.drain(..).enumerate() {
            if thread.thread().id() == own || given_up.contains(&slot) {
                continue;
            }
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
        let mut comes_soon = true;
        while let Some((task, prepared, stop)) = self.next_task(slot, &mut comes_soon) {
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
            if reason != StopReason::GivenUp {
                (self.sink)(Event { token, result, busy });
            }
        }
    }

    /// Waits for a task and marks the slot busy with it; `None` when all ends. `comes_soon` says whether the one before
    /// came soon, and then whether this one did.
    fn next_task(&self, slot: usize, comes_soon: &mut bool) -> Option<(Task, Arc<dyn Compute>, StopFlag)> {
        let mut state = self.lock();
        let mut wait = None;
        loop {
            if state.closed {
                return None;
            }
            if let Some((task, prepared)) = state.queue.pop_front() {
                *comes_soon = wait.is_none_or(|wait: Wait| wait.came_soon());
                let stop = StopFlag::new();
                state.running[slot] = Some(Running {
                    token: task.token,
                    array: task.array,
                    deadline: Instant::now() + self.block_timeout,
                    stop: stop.clone(),
                    reason: StopReason::None,
                });
                return Some((task, prepared, stop));
            }
            state = match wait {
                None => self.stay_awake(state, wait.insert(Wait::begin(*comes_soon))),
                Some(_) => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Looks for work without sleeping, for a moment: a small task often follows another.
    fn stay_awake<'a>(&'a self, mut state: MutexGuard<'a, State>, wait: &Wait) -> MutexGuard<'a, State> {
        state.awake += 1;
        self.is_queued.store(!state.queue.is_empty(), Ordering::Relaxed);
        drop(state);
        while wait.lingers() {
            if self.is_queued.load(Ordering::Acquire) {
                break;
            }
        }
        let mut state = self.lock();
        state.awake -= 1;
        state
    }

    /// Stops tasks at their deadline. All tasks have the same limit, so none that starts while this sleeps can be due
    /// before it wakes, and starting a task need not wake it.
    fn watch(&self) {
        let mut state = self.lock();
        while !state.closed {
            let now = Instant::now();
            let mut wake = now + self.block_timeout;
            let mut given_up = Vec::new();
            for running in state.running.iter_mut().flatten() {
                if running.reason == StopReason::None && running.deadline <= now {
                    running.reason = StopReason::Deadline;
                    running.stop.raise();
                }
                let last = running.deadline + GIVE_UP_AFTER;
                match running.reason {
                    StopReason::None => wake = wake.min(running.deadline),
                    StopReason::Deadline | StopReason::Cancelled if self.give_up.is_some() && last <= now => {
                        running.reason = StopReason::GivenUp;
                        given_up.push(running.token);
                    }
                    StopReason::Deadline | StopReason::Cancelled if self.give_up.is_some() => wake = wake.min(last),
                    StopReason::Deadline | StopReason::Cancelled | StopReason::GivenUp => {}
                }
            }
            if let Some(give_up) = self.give_up.as_ref().filter(|_| !given_up.is_empty()) {
                drop(state);
                let failed = |token| Event { token, result: Err(give_up()), busy: self.block_timeout };
                given_up.into_iter().map(failed).for_each(&self.sink);
                state = self.lock();
                continue;
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::ids::ClientId;

    /// Does not return before it is let go, whatever its stop flag says.
    struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>);

    impl Compute for Stuck {
        fn compute(&self, _: Task, _: &StopFlag) -> Result<Vec<Block>, ExecuteError> {
            let _ = self.0.lock().unwrap().recv();
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_task_that_does_not_stop_is_given_up_once_and_not_waited_for() {
        let (sender, events) = channel();
        let sink: EventSink = Box::new(move |event| drop(sender.send(event)));
        let given_up = ExecuteError::Deadline { limit_ms: 7 };
        let give_up: GiveUp = Box::new({
            let given_up = given_up.clone();
            move || given_up.clone()
        });
        let slots = Slots::new("test", 1, Duration::from_millis(50), sink, Some(give_up)).unwrap();
        let array = ArrayId { client: ClientId(1), sequence: 1 };
        let (let_go, held) = channel();
        slots.prepare(array, || Ok(Arc::new(Stuck(Mutex::new(held)))));
        let task = |token| Task { token: TaskToken(token), array, block: 0, operands: Vec::new() };
        slots.submit("test", task(1));
        let event = events.recv().unwrap();
        assert_eq!((event.token, event.result.unwrap_err()), (TaskToken(1), given_up.clone()));
        // Its thread comes back after all, says nothing more of it, and goes on.
        let_go.send(()).unwrap();
        slots.submit("test", task(2));
        let_go.send(()).unwrap();
        let event = events.recv().unwrap();
        assert!(event.token == TaskToken(2) && event.result.is_ok());
        slots.submit("test", task(3));
        assert_eq!(events.recv().unwrap().result.unwrap_err(), given_up);
        // The thread is still in there.
        drop(slots);
        drop(let_go);
        assert!(events.recv().is_err(), "nothing more is said");
    }
}
