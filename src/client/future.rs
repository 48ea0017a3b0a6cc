//! Futures: results that stay on the workers until they are asked for.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use gridloom_worker::block::Block;
use gridloom_worker::ids::ArrayId;
use gridloom_worker::shape::{Region, Shape};

use super::awake::block_on;
use super::devices::Computers;
use super::gather::Gather;
use super::state::Phase;
use super::value::{FromValue, Value};
use super::{ClientError, Core};
use crate::array::{Array, Keep};
use crate::plan::Output;
use crate::scheduler::FromClient;

/// A result that is on its way, or stays on the workers: [`Future::wait`] for it, or `.await` it.
///
/// `T` is what it becomes: an `ndarray` array, a `Vec`, a number, a [`Value`] of any dtype, `()` for its completion
/// alone, or an [`Array`] that stays where it is. The result is released when the last handle to it is dropped.
///
/// What is brought to the client through the last handle is taken off the workers block by block, as it is computed:
/// such a result may be larger than their memory. Clone the future, or keep its [`Future::array`], for it to stay.
pub struct Future<T> {
    held: Held,
    gathering: Option<(Gather, Value)>,
    becomes: PhantomData<fn() -> T>,
}

/// An array on the workers.
#[derive(Clone)]
pub(crate) struct Held {
    core: Arc<Core>,
    /// For further expressions. It keeps the blocks where they are.
    array: Array,
    output: Output,
}

impl Held {
    /// An output, kept on the workers as long as `keep` is.
    pub(crate) fn new(core: &Arc<Core>, output: Output, keep: Keep) -> Held {
        Held { core: Arc::clone(core), array: output.to_array(keep), output }
    }
}

/// Keeps an array on the workers until it is dropped.
pub(crate) struct Pinned {
    core: Arc<Core>,
    array: ArrayId,
}

impl Pinned {
    pub(crate) fn new(core: &Arc<Core>, array: ArrayId) -> Pinned {
        Pinned { core: Arc::clone(core), array }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.core.state.forget(self.array);
        self.core.link.send(FromClient::Release { arrays: vec![self.array] });
    }
}

impl<T> Future<T> {
    pub(crate) fn new(held: Held) -> Future<T> {
        Future { held, gathering: None, becomes: PhantomData }
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    /// The result as an array for further expressions, whether it is there yet or not.
    pub fn array(&self) -> Array {
        self.held.array.clone()
    }

    /// Whether the result is complete, or never will be.
    pub fn is_done(&self) -> bool {
        matches!(self.phase(None), Phase::Done(_) | Phase::Failed(_))
    }

    /// Blocks computed and blocks in all, over every stage of the job, while it runs and as far as is known.
    pub fn progress(&self) -> Option<(u64, u64)> {
        self.job().progress()
    }

    /// Who computes it: the workers of the device class that was chosen when it was submitted. None for data that was
    /// scattered.
    pub fn computers(&self) -> Computers {
        self.held.core.state.computers(self.held.output.array)
    }

    /// Gives up the job that makes it, if that has not ended. Everything else that the job makes is given up too.
    pub fn cancel(&self) {
        self.job().cancel();
    }

    /// The job that makes it, to be watched and given up by others than who waits for the result.
    pub fn job(&self) -> JobHandle {
        JobHandle { core: Arc::clone(&self.held.core), array: self.held.output.array }
    }

    /// The result's blocks, each with its place, in the order in which they come: for results that are larger than
    /// this program wants to hold at once.
    pub fn blocks(self) -> Blocks {
        Blocks { gather: self.gather(), ended: false, held: self.held }
    }

    fn gather(&self) -> Gather {
        Gather::new(Arc::clone(&self.held.core), self.held.output.clone(), self.held.array.is_last())
    }

    /// Ready when the result is complete on the workers.
    fn poll_done(&self, context: &Context<'_>) -> Poll<Result<(), ClientError>> {
        match self.phase(Some(context.waker())) {
            Phase::Pending | Phase::Begun => Poll::Pending,
            Phase::Done(_) => Poll::Ready(Ok(())),
            Phase::Failed(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// How a future that is done has ended.
    pub(super) fn outcome(&self) -> Result<(), ClientError> {
        match self.phase(None) {
            Phase::Failed(error) => Err(error.into()),
            Phase::Pending | Phase::Begun | Phase::Done(_) => Ok(()),
        }
    }

    fn phase(&self, waker: Option<&Waker>) -> Phase {
        self.held.core.state.phase(self.held.output.array, waker)
    }

    /// Ready when the whole result is here.
    fn poll_value(&mut self, context: &Context<'_>) -> Poll<Result<Value, ClientError>> {
        if self.gathering.is_none() {
            // Room is made once it is known that there is something to put there.
            match self.phase(Some(context.waker())) {
                Phase::Pending => return Poll::Pending,
                Phase::Begun | Phase::Done(_) => {}
                Phase::Failed(error) => return Poll::Ready(Err(error.into())),
            }
            let value = Value::zeroed(self.held.output.dtype, self.held.output.grid.shape())?;
            self.gathering = Some((self.gather(), value));
        }
        let (gather, value) = self.gathering.as_mut().expect("set above");
        loop {
            match gather.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok((region, block)))) => value.place(&region, &block),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => break,
            }
        }
        let (_, value) = self.gathering.take().expect("set above");
        Poll::Ready(Ok(value.reshaped(&self.held.output.shape)))
    }
}

/// A job, from outside: it keeps no result, and none keeps it.
#[derive(Clone)]
pub struct JobHandle {
    core: Arc<Core>,
    /// One that it makes.
    array: ArrayId,
}

impl JobHandle {
    /// Blocks computed and blocks in all, over every stage of the job, while it runs and as far as is known.
    pub fn progress(&self) -> Option<(u64, u64)> {
        self.core.state.progress(self.array)
    }

    /// Gives it up, if it has not ended.
    pub fn cancel(&self) {
        if let Some(job) = self.core.state.job_of(self.array) {
            self.core.link.send(FromClient::Cancel { job });
        }
    }
}

impl<T: FromFuture> Future<T> {
    /// Waits for the result.
    pub fn wait(self) -> Result<T, ClientError> {
        block_on(self)
    }
}

impl<T: FromFuture> std::future::Future for Future<T> {
    type Output = Result<T, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        T::poll(&mut self, context)
    }
}

impl<T> Unpin for Future<T> {}

/// Another handle to the same result; each is waited for on its own.
impl<T> Clone for Future<T> {
    fn clone(&self) -> Future<T> {
        Future::new(self.held.clone())
    }
}

impl<T> fmt::Debug for Future<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase(None) {
            Phase::Pending | Phase::Begun => "pending",
            Phase::Done(_) => "done",
            Phase::Failed(_) => "failed",
        };
        write!(f, "Future({} {} {} {phase})", self.held.output.array, self.held.array.dtype(), self.held.array.shape())
    }
}

/// What a [`Future`] can become.
pub trait FromFuture: Sized {
    /// Polls the future for it.
    fn poll(future: &mut Future<Self>, context: &Context<'_>) -> Poll<Result<Self, ClientError>>;
}

/// Gathered to the client.
impl<V: FromValue> FromFuture for V {
    fn poll(future: &mut Future<V>, context: &Context<'_>) -> Poll<Result<V, ClientError>> {
        future.poll_value(context).map(|value| Ok(V::from_value(value?)?))
    }
}

/// Complete, and still on the workers.
impl FromFuture for Array {
    fn poll(future: &mut Future<Array>, context: &Context<'_>) -> Poll<Result<Array, ClientError>> {
        future.poll_done(context).map(|done| done.map(|()| future.array()))
    }
}

/// Complete.
impl FromFuture for () {
    fn poll(future: &mut Future<()>, context: &Context<'_>) -> Poll<Result<(), ClientError>> {
        future.poll_done(context)
    }
}

/// The blocks of a result, waited for one by one, up to the first error. See [`Future::blocks`].
pub struct Blocks {
    gather: Gather,
    ended: bool,
    held: Held,
}

impl Iterator for Blocks {
    type Item = Result<(Region, Block), ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = block_on(std::future::poll_fn(|context| self.gather.poll_next(context)));
        self.ended = !matches!(next, Some(Ok(_)));
        Some(next?.map(|(region, Block { item, buffer, .. })| {
            let region = with_ones_of(&self.held.output.shape, &region, &self.held.output.grid.shape());
            let shape = region.shape();
            (region, Block { item, shape, buffer })
        }))
    }
}

/// A region of an array of shape `from` as one of shape `to`, which differs by axes of length 1 only.
fn with_ones_of(to: &Shape, region: &Region, from: &Shape) -> Region {
    let mut kept = (0..from.rank()).filter(|&axis| from[axis] != 1);
    let ranges = to.iter().map(|&length| match length {
        1 => (0, 1),
        _ => kept.next().map_or((0, length), |axis| (region.start[axis], region.end[axis])),
    });
    let (start, end): (Vec<u64>, Vec<u64>) = ranges.unzip();
    Region { start: start.into_iter().collect(), end: end.into_iter().collect() }
}

/// The results of one stage of independent tasks, made by [`super::Client::map`]: block `i` is task `i`'s.
#[derive(Clone)]
pub struct Futures {
    held: Held,
}

impl Futures {
    pub(crate) fn new(held: Held) -> Futures {
        Futures { held }
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.held.array.shape().first().copied().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them as one array, one element each.
    pub fn array(&self) -> Array {
        self.held.array.clone()
    }

    /// All results together: `Vec<i64>`, `Array1<f64>`, ...
    pub fn gather<T: FromFuture>(&self) -> Future<T> {
        Future::new(self.held.clone())
    }
}

/// Futures in the order in which they are complete, or never will be.
pub(super) struct Completed<T> {
    pending: Vec<Option<Future<T>>>,
    left: usize,
    woken: mpsc::Receiver<usize>,
}

/// Tells which future has something new.
struct Notify {
    index: usize,
    woken: mpsc::Sender<usize>,
}

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        // If nobody listens any more, nobody waits.
        let _ = self.woken.send(self.index);
    }
}

impl<T> Completed<T> {
    pub(super) fn new(futures: impl IntoIterator<Item = Future<T>>) -> Completed<T> {
        let (sender, woken) = mpsc::channel();
        let pending: Vec<Option<Future<T>>> = futures.into_iter().map(Some).collect();
        for (index, future) in pending.iter().flatten().enumerate() {
            let notify = Arc::new(Notify { index, woken: sender.clone() });
            if future.poll_done(&Context::from_waker(&Waker::from(Arc::clone(&notify)))).is_ready() {
                notify.wake();
            }
        }
        Completed { left: pending.len(), pending, woken }
    }
}

impl<T> Iterator for Completed<T> {
    type Item = Future<T>;

    fn next(&mut self) -> Option<Future<T>> {
        while self.left > 0 {
            // Every pending future holds its waker, and with it a sender.
            let index = self.woken.recv().ok()?;
            if self.pending[index].as_ref().is_some_and(Future::is_done) {
                self.left -= 1;
                return self.pending[index].take();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_gain_and_lose_axes_of_length_one() {
        let shape = |lengths: &[u64]| Shape::new(lengths).unwrap();
        let region = Region { start: shape(&[0, 2, 3]), end: shape(&[1, 4, 5]) };
        let placed = with_ones_of(&shape(&[6, 1, 7, 1]), &region, &shape(&[1, 6, 7]));
        assert_eq!(format!("{placed:?}"), "[2..4, 0..1, 3..5, 0..1]");
        let whole = Region::whole(&shape(&[]));
        assert_eq!(format!("{:?}", with_ones_of(&shape(&[1]), &whole, &shape(&[]))), "[0..1]");
    }
}
