//! What a program computes with: plans are submitted, results awaited, gathered or kept on the workers.
//!
//! A [`Client`] speaks over a `Link` and never knows what carries it: the machines of this process, or QUIC (`remote`). [`Future`] is the one type for results on
//! their way, blocking and `async` alike.

mod awake;
mod devices;
mod future;
mod gather;
pub(crate) mod link;
mod op;
pub(crate) mod peers;
mod remote;
mod scatter;
mod state;
#[cfg(test)]
mod tests;
pub mod value;
mod window;
pub mod wire;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gridloom_worker::executor::ExecuteError;
use gridloom_worker::ids::{ArrayId, BlockId, ClientId, JobId};
use gridloom_worker::kernel::Kernel;
use gridloom_worker::shape::{Shape, ShapeError};
use gridloom_worker::wire::{BulkTraffic, FetchError};

use crate::array::{Array, HostElement, Keep, auto_grid};
use crate::plan::{self, ArrayIds, Output, Plan, PlanError, Scatter};
use crate::scheduler::{FromClient, JobError};

use link::{Link, Receiver};
use state::{Phase, State};

pub(crate) use devices::GPU_BYTES_MIN;
pub use devices::{Computers, Devices, NoDevice};
pub use future::{Blocks, FromFuture, Future, Futures, JobHandle};
pub use op::{Inputs, Reduce, Task};
pub(crate) use remote::TOKEN_VARIABLE;
pub use remote::{ConnectError, find_token, status};
pub use value::{FromValue, ResultElement, Value, ValueError};
pub use wire::ClusterStatus;

use devices::Choice;
use future::{Completed, Held, Pinned};

/// What can go wrong between an expression and its result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The expression cannot be, or cannot be planned; nothing was sent.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The job failed, or its result is gone.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The result is not what was asked for.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The last step of a reduction failed at the client.
    #[error("the last step of the reduction failed: {0}")]
    Root(ExecuteError),
    /// A block that should be there could not be fetched, however often it was located again.
    #[error("block {block} could not be fetched: {error}")]
    Fetch {
        /// Which.
        block: BlockId,
        /// What was said last.
        error: FetchError,
    },
    /// Another handle takes the result off the workers, or has: it was the last one when it began.
    #[error("{array} is already being taken off the workers: gather it once, or persist it and gather it often")]
    Taken {
        /// The array.
        array: ArrayId,
    },
    /// No device that may be used can run the job.
    #[error(transparent)]
    Device(#[from] NoDevice),
    /// Data with more axes than an array has.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// There is nobody to put data on.
    #[error("there is no worker to put data on")]
    NoWorkers,
    /// Data does not fit the workers.
    #[error("data for {array} does not fit: {needs} bytes more are needed where a worker has {has}")]
    ScatterMemory {
        /// The array.
        array: ArrayId,
        /// Of a block, or of several small ones.
        needs: u64,
        /// At the worker.
        has: u64,
    },
    /// A worker went while data was put on it.
    #[error("data for {array} was lost on its way: a worker is gone")]
    ScatterLost {
        /// The array.
        array: ArrayId,
    },
    /// No memory at the client.
    #[error("{bytes} bytes of memory could not be had")]
    Memory {
        /// How much.
        bytes: u64,
    },
}

/// A connection to a cluster. Cheap to clone; the connection ends with [`Client::close`], or when the last handle (also
/// those that futures hold) is dropped.
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
    devices: Devices,
}

/// What all handles of a client share.
pub(crate) struct Core {
    id: ClientId,
    state: Arc<State>,
    link: Box<dyn Link>,
    /// Names arrays.
    arrays: Mutex<ArrayIds>,
    /// Names jobs and questions.
    sequence: AtomicU64,
}

impl Core {
    /// A number never given before.
    fn next(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    fn arrays(&self) -> MutexGuard<'_, ArrayIds> {
        self.arrays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.link.send(FromClient::Close);
    }
}

impl Client {
    pub(crate) fn new(id: ClientId, link: Box<dyn Link>, devices: Devices) -> Client {
        Client::with_state(id, Arc::default(), link, devices)
    }

    /// One whose link tells `state` what it hears.
    fn with_state(id: ClientId, state: Arc<State>, link: Box<dyn Link>, devices: Devices) -> Client {
        let arrays = Mutex::new(ArrayIds::new(id));
        let core = Core { id, state, link, arrays, sequence: AtomicU64::new(0) };
        Client { core: Arc::new(core), devices }
    }

    /// The same connection, whose jobs run on other devices from now on.
    pub fn on(&self, devices: Devices) -> Client {
        Client { core: Arc::clone(&self.core), devices }
    }

    pub(crate) fn receiver(&self) -> Arc<dyn Receiver> {
        Arc::clone(&self.core.state) as Arc<dyn Receiver>
    }

    /// Computes an array. Wait for it as what you need: an `ndarray` array, a number, a [`Value`].
    ///
    /// # Errors
    /// Whatever is wrong with the expression or its plan, before anything is sent.
    pub fn compute<T: FromFuture>(&self, array: &Array) -> Result<Future<T>, ClientError> {
        let mut held = self.submit_arrays(std::slice::from_ref(array))?;
        Ok(Future::new(held.swap_remove(0)))
    }

    /// Computes an array and keeps it on the workers, for further expressions over [`Future::array`].
    ///
    /// # Errors
    /// As [`Client::compute`].
    pub fn persist(&self, array: &Array) -> Result<Future<Array>, ClientError> {
        self.compute(array)
    }

    /// Computes several arrays as one job, so that what they have in common is computed once.
    ///
    /// # Errors
    /// As [`Client::compute`].
    pub fn persist_all(&self, arrays: &[Array]) -> Result<Vec<Future<Array>>, ClientError> {
        Ok(self.submit_arrays(arrays)?.into_iter().map(Future::new).collect())
    }

    /// Brings a result to the client: wait for it as what you need.
    ///
    /// # Errors
    /// None yet; a result that was lost shows when it is waited for.
    pub fn gather<S, T: FromFuture>(&self, future: &Future<S>) -> Result<Future<T>, ClientError> {
        Ok(Future::new(future.held().clone()))
    }

    /// Puts the client's own data on the workers, where it stays as long as the future or an array made from it.
    ///
    /// # Errors
    /// If it does not fit the workers' memory.
    pub fn scatter<A: HostElement, D: ndarray::Dimension>(
        &self,
        data: &ndarray::Array<A, D>,
    ) -> Result<Future<Array>, ClientError> {
        let lengths: Vec<u64> = data.shape().iter().map(|&length| length as u64).collect();
        let shape = Shape::new(&lengths)?;
        let mut bytes = Vec::with_capacity(data.len() * A::DTYPE.bytes() as usize);
        data.iter().for_each(|&value| value.store(&mut bytes));
        let (array, dtype) = (self.core.arrays().make(), A::DTYPE);
        let grid = auto_grid(&shape, dtype);
        let scatter = Scatter { array, grid: grid.clone(), dtype, bytes: bytes.into() };
        scatter::scatter(&self.core, &scatter)?;
        let output = Output { array, field: 0, grid, shape, dtype, root: None };
        Ok(Future::new(Held::new(&self.core, output, Keep::of(Arc::new(Pinned::new(&self.core, array))))))
    }

    /// Applies a kernel of one parameter to every input: one stage of independent tasks.
    ///
    /// # Errors
    /// If the kernel does not take such an input.
    pub fn map<V: HostElement>(
        &self,
        kernel: &Kernel,
        inputs: impl IntoIterator<Item = V>,
    ) -> Result<Futures, ClientError> {
        let inputs: Vec<V> = inputs.into_iter().collect();
        let tasks = Array::literal(inputs).chunks([1]).map_blocks(kernel);
        let mut held = self.submit_arrays(&[tasks])?;
        Ok(Futures::new(held.swap_remove(0)))
    }

    /// Submits one task: a kernel with one input per parameter, or a [`Reduce`] over a list of futures of one shape and
    /// dtype.
    ///
    /// # Errors
    /// If they do not fit each other.
    pub fn submit<T: FromFuture>(&self, task: impl Into<Task>, inputs: impl Inputs) -> Result<Future<T>, ClientError> {
        self.compute(&task.into().over(inputs))
    }

    /// Waits until all are complete, or one has failed.
    ///
    /// # Errors
    /// The first failure.
    pub fn wait<T>(&self, futures: &[Future<T>]) -> Result<(), ClientError> {
        self.as_completed(futures.iter().cloned()).try_for_each(|future| future.outcome())
    }

    /// The futures in the order in which they are complete (or have failed).
    pub fn as_completed<T>(&self, futures: impl IntoIterator<Item = Future<T>>) -> impl Iterator<Item = Future<T>> {
        Completed::new(futures)
    }

    /// Waits until there are at least `count` workers, at most `patience`; how many there are then.
    pub fn wait_for_workers(&self, count: usize, patience: Duration) -> usize {
        self.core.state.wait_for_workers(count, patience)
    }

    /// What this client's connections to workers have seen, with the rates since it was asked last, or else since it
    /// connected. `None` in a cluster of this process, where nothing travels.
    pub fn traffic(&self) -> Option<BulkTraffic> {
        self.core.link.traffic()
    }

    /// Ends the connection: every job is cancelled, every result released. Futures that are still held fail.
    ///
    /// # Errors
    /// None yet: a cluster of this process always hears it.
    pub fn close(self) -> Result<(), ClientError> {
        self.core.link.send(FromClient::Close);
        self.core.state.close();
        Ok(())
    }

    /// Who is to compute a plan.
    fn choose(&self, plan: &Plan) -> Result<Choice, NoDevice> {
        let (needs, bytes) = (plan.requirements(), plan.bytes_read());
        self.core.link.reinforce(self.devices, bytes);
        let (there, left) = (self.core.state.registers(), self.core.state.just_left());
        // Where nobody can, the job waits for those that may be back.
        devices::choose(self.devices, needs, bytes, &there)
            .or_else(|none| devices::choose(self.devices, needs, bytes, &left).map_err(|_| none))
    }

    /// Plans and submits; what was computed before is not computed again.
    fn submit_arrays(&self, arrays: &[Array]) -> Result<Vec<Held>, ClientError> {
        let core = &self.core;
        let plan = plan::plan(arrays, &mut core.arrays())?;
        let mut pins: HashMap<ArrayId, Arc<Pinned>> = HashMap::new();
        // What is scattered for the job is pinned until the job is submitted, which then keeps what it reads.
        for scattered in &plan.scatters {
            scatter::scatter(core, scattered)?;
            pins.insert(scattered.array, Arc::new(Pinned::new(core, scattered.array)));
        }
        let wire = plan.wire();
        for array in wire.stages.iter().flat_map(|stage| stage.input_arrays()) {
            // The scheduler forgets what has failed; here it is known why.
            if let Phase::Failed(error) = core.state.phase(array, None)
                && !matches!(error, JobError::UnknownArray { .. })
            {
                return Err(error.into());
            }
        }
        if !wire.stages.is_empty() {
            let job = JobId { client: core.id, sequence: core.next() };
            let choice = self.choose(&plan)?;
            core.state.track(job, &wire.outputs, &choice.computers);
            pins.extend(wire.outputs.iter().map(|&array| (array, Arc::new(Pinned::new(core, array)))));
            core.link.send(FromClient::Submit { job, plan: wire, classes: choice.classes });
        }
        let held = |(output, asked): (Output, &Array)| match pins.get(&output.array) {
            Some(pin) => Held::new(core, output, Keep::of(Arc::clone(pin) as _)),
            // It was on the workers before, kept there by the array that was asked for.
            None => Held::new(core, output, asked.keep()),
        };
        Ok(plan.outputs.into_iter().zip(arrays).map(held).collect())
    }
}
