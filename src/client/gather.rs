//! The blocks of an array on their way to the client: waited for, fetched in a window, handed out as they come.
//!
//! Where a reduction's last level of partials is what the workers hold, its root is folded and finished here: of each
//! result block alone, over its own partials in order, so that the order in which they come changes no bit.
//!
//! Blocks that nobody else wants are *taken*: fetched as soon as they are computed, while others still are, and freed
//! on the workers. So a result may be larger than all their memory, and of this program's it takes a window.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use gridloom_worker::block::{Block, Item};
use gridloom_worker::executor::ExecuteError;
use gridloom_worker::ids::{BlockId, WorkerId};
use gridloom_worker::intervals::{Interval, IntervalSet};
use gridloom_worker::net::Fetched;
use gridloom_worker::reduce::{Reducer, StopFlag};
use gridloom_worker::shape::Region;
use gridloom_worker::wire::{FetchError, Parcel};

use super::state::{Phase, Settled};
use super::window::window;
use super::{ClientError, Core};
use crate::array::Root;
use crate::plan::Output;
use crate::scheduler::{FromClient, Holding, JobError};

/// How often one block may fail to come, each time from where it was said to be.
const FAILURES_MAX: u32 = 32;

/// How long a user's kernel may take over one root.
const ROOT_TIMEOUT: Duration = Duration::from_secs(60);

/// The blocks of an output, in the order in which they come.
pub(crate) struct Gather {
    core: Arc<Core>,
    output: Output,
    /// Blocks to fetch: of the array, or its partials.
    blocks: u64,
    /// How many may be asked for and not yet handed out.
    window: u64,
    /// How many may be asked for together.
    together: u64,
    /// Whether they are taken.
    takes: bool,
    /// Whether there is something to fetch: not before the array has begun or, if nothing is taken, is complete.
    begun: bool,
    /// Where blocks are that are still to be fetched. Those that were fetched meanwhile are passed over.
    places: VecDeque<Holding>,
    /// The question where more are, if one is open.
    request: Option<u64>,
    /// Blocks on their way, or here.
    asked: IntervalSet,
    in_flight: u64,
    /// How often blocks that are missing failed to come. One worker's death may meet very many, each of them once.
    failures: BTreeMap<u64, u32>,
    mailbox: Arc<Mailbox>,
    arrived: VecDeque<(u64, Block)>,
    /// Partials of result blocks that miss others.
    partials: BTreeMap<u64, BTreeMap<u64, Block>>,
    /// What combines and finishes them.
    reducer: Option<Reducer>,
}

/// What was asked for of whom, and what came.
type Letter = (Parcel, WorkerId, Fetched);

#[derive(Default)]
struct Mailbox(Mutex<(Vec<Letter>, Option<Waker>)>);

impl Mailbox {
    fn put(&self, letter: Letter) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0.push(letter);
        let waker = inner.1.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    /// What arrived. If nothing did, the waker is kept.
    fn take(&self, waker: &Waker) -> Vec<Letter> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.0.is_empty() {
            inner.1 = Some(waker.clone());
        }
        std::mem::take(&mut inner.0)
    }
}

impl Gather {
    pub(crate) fn new(core: Arc<Core>, output: Output, takes: bool) -> Gather {
        let (count, item_bytes) = match &output.root {
            Some(root) => (root.count, u64::from(root.partial_bytes)),
            None => (1, output.dtype.bytes()),
        };
        let blocks = output.grid.blocks() * count;
        let block_bytes = output.grid.block_elements_max().saturating_mul(item_bytes);
        Gather {
            core,
            output,
            blocks,
            window: window(block_bytes),
            together: Parcel::blocks_max(block_bytes),
            takes,
            begun: false,
            places: VecDeque::new(),
            request: None,
            asked: IntervalSet::new(),
            in_flight: 0,
            failures: BTreeMap::new(),
            mailbox: Arc::default(),
            arrived: VecDeque::new(),
            partials: BTreeMap::new(),
            reducer: None,
        }
    }

    /// The next block and where it belongs; `None` after the last.
    pub(crate) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Result<(Region, Block), ClientError>>> {
        loop {
            if let Some((index, block)) = self.arrived.pop_front() {
                self.ask();
                match self.rooted(index, block) {
                    Ok(None) => continue,
                    Ok(Some((index, block))) => return Poll::Ready(Some(Ok((self.region(index), block)))),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            if self.is_all_here() {
                return Poll::Ready(None);
            }
            match self.poll_arrivals(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn is_all_asked(&self) -> bool {
        self.asked.covers(Interval::new(0, self.blocks))
    }

    fn is_all_here(&self) -> bool {
        self.in_flight == 0 && self.is_all_asked()
    }

    fn region(&self, index: u64) -> Region {
        self.output.grid.region(&self.output.grid.block_counts().index_at(index))
    }

    /// The block itself or, of a reduction, the finished result once the last of its partials is there.
    fn rooted(&mut self, index: u64, block: Block) -> Result<Option<(u64, Block)>, ClientError> {
        let Some(Root { reduction, kernel, count, .. }) = &self.output.root else {
            return Ok(Some((index, block)));
        };
        let result = index / count;
        let partials = self.partials.entry(result).or_default();
        partials.insert(index, block);
        if (partials.len() as u64) < *count {
            return Ok(None);
        }
        let partials: Vec<Block> = self.partials.remove(&result).unwrap_or_default().into_values().collect();
        let reducer = match &mut self.reducer {
            Some(reducer) => reducer,
            none => none.insert(Reducer::new(reduction, &|_| kernel.clone()).map_err(ClientError::Root)?),
        };
        let root = |stop: &StopFlag| reducer.finish(&reducer.fold(&partials, stop)?, stop);
        let fields = if kernel.is_some() { within_limit(root) } else { root(&StopFlag::new()) };
        let mut fields = fields.map_err(ClientError::Root)?;
        Ok(Some((result, fields.swap_remove(self.output.field as usize))))
    }

    /// Ready when something happened: blocks came, or it became known where they are.
    fn poll_arrivals(&mut self, context: &Context<'_>) -> Poll<Result<(), ClientError>> {
        if !self.begun {
            let array = self.output.array;
            let settled = match self.core.state.phase(array, Some(context.waker())) {
                Phase::Failed(error) => return Poll::Ready(Err(error.into())),
                Phase::Done(settled) => settled,
                Phase::Begun if self.takes => Settled::default(),
                Phase::Pending | Phase::Begun => return Poll::Pending,
            };
            self.begun = true;
            if !self.core.state.begin_gather(array, self.takes) {
                return Poll::Ready(Err(ClientError::Taken { array }));
            }
            self.settle(settled);
            if !self.arrived.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        self.ask();
        if let Some(answer) = self.request.and_then(|request| self.core.state.answer(request, context.waker())) {
            self.request = None;
            return Poll::Ready(self.located(answer));
        }
        let letters = self.mailbox.take(context.waker());
        match letters.is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(self.receive(letters)),
        }
    }

    /// The array is complete: its block is here already, or it is known where to look.
    fn settle(&mut self, settled: Settled) {
        self.places.extend(settled.holders);
        let block = settled.result.and_then(|result| result.field(self.field() as usize)?.ok());
        if let Some(block) = block.filter(|block| self.blocks == 1 && self.can_be(0, block)) {
            self.asked.insert(Interval::one(0));
            self.arrived.push_back((0, block));
        }
    }

    /// Which field of the blocks is fetched. Partials have one; which field of the result is wanted shows only at the
    /// root.
    fn field(&self) -> u32 {
        if self.output.root.is_some() { 0 } else { self.output.field }
    }

    fn located(&mut self, answer: Result<Vec<Holding>, JobError>) -> Result<(), ClientError> {
        match (answer, self.core.state.phase(self.output.array, None)) {
            (Ok(places), _) => self.places.extend(places),
            // The scheduler forgets what has failed; here it is known why.
            (Err(_), Phase::Failed(error)) | (Err(error), _) => return Err(error.into()),
        }
        Ok(())
    }

    /// Fetches blocks until the window is full; asks where more are when it knows no place of those that it misses.
    fn ask(&mut self) {
        while let Some(place) = self.places.front_mut() {
            let Holding { blocks: Interval { start, end }, worker } = *place;
            let blocks = Interval::new(start, end.min(start.saturating_add(self.together)));
            // Whole parcels, or the first block that is handed out would be followed by one alone, and so on.
            if self.in_flight + self.arrived.len() as u64 + blocks.count() > self.window {
                break;
            }
            place.blocks.start = blocks.end;
            if place.blocks.is_empty() {
                self.places.pop_front();
            }
            let missing = IntervalSet::from(blocks).difference(&self.asked);
            missing.iter().for_each(|blocks| self.fetch(blocks, worker));
        }
        if self.places.is_empty() && self.request.is_none() && !self.is_all_asked() {
            self.locate();
        }
    }

    fn fetch(&mut self, blocks: Interval, holder: WorkerId) {
        self.asked.insert(blocks);
        self.in_flight += blocks.count();
        let parcel = Parcel { array: self.output.array, blocks };
        let field = self.field();
        let mailbox = Arc::clone(&self.mailbox);
        self.core.link.fetch(holder, parcel, field, Box::new(move |fetched| mailbox.put((parcel, holder, fetched))));
    }

    /// Asks where blocks are: of those that are to be taken any, of others the first that are missing.
    fn locate(&mut self) {
        let (request, array) = (self.core.next(), self.output.array);
        self.request = Some(request);
        self.core.state.ask(request);
        let start = self.asked.first_gap(Interval::new(0, self.blocks)).unwrap_or(0);
        let end = self.asked.within(Interval::new(start, self.blocks)).next().map_or(self.blocks, |next| next.start);
        self.core.link.send(match self.takes {
            true => FromClient::Stream { request, array },
            false => FromClient::Locate { request, array, blocks: Interval { start, end } },
        });
    }

    /// Blocks came, or did not: then they are located again.
    fn receive(&mut self, letters: Vec<Letter>) -> Result<(), ClientError> {
        let array = self.output.array;
        let mut taken = IntervalSet::new();
        for (parcel, holder, fetched) in letters {
            self.in_flight -= parcel.blocks.count();
            for (BlockId { index, .. }, block) in parcel.unpack(fetched) {
                // What is on a device comes now: a device that is lost has it no more. Nor has one who sends another.
                let here = |block: Block| match block.buffer.fetch() {
                    Ok(_) if self.can_be(index, &block) => Ok(block),
                    Ok(_) | Err(_) => Err(FetchError::Missing),
                };
                match block.and_then(here) {
                    Ok(block) => {
                        self.failures.remove(&index);
                        taken.insert(Interval::one(index));
                        self.arrived.push_back((index, block));
                    }
                    Err(error) => self.missed(index, holder, error)?,
                }
            }
        }
        // The last ones are released with the array.
        if self.takes && !taken.is_empty() && !self.is_all_here() {
            self.core.link.send(FromClient::Taken { array, blocks: taken.iter().collect() });
        }
        Ok(())
    }

    /// Whether a block has the item and as many elements as the one of this index: its holder is not believed.
    fn can_be(&self, index: u64, block: &Block) -> bool {
        let (item, count) = match &self.output.root {
            Some(root) => (Item::Partial { bytes: root.partial_bytes }, root.count),
            None => (Item::Value(self.output.dtype), 1),
        };
        block.item == item && block.shape.elements() == self.region(index / count).shape().elements()
    }

    /// A block did not come.
    fn missed(&mut self, index: u64, holder: WorkerId, error: FetchError) -> Result<(), ClientError> {
        let block = BlockId { array: self.output.array, index };
        self.core.link.send(FromClient::FetchFailed { block, holder, error });
        self.asked.remove(Interval::one(index));
        let failures = self.failures.entry(index).or_default();
        *failures += 1;
        match *failures > FAILURES_MAX {
            true => Err(ClientError::Fetch { block, error }),
            false => Ok(()),
        }
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            self.core.state.forget_question(request);
        }
    }
}

/// Does work that runs a user's kernel, which may not end by itself. The thread that watches it ends with it.
fn within_limit<T>(work: impl FnOnce(&StopFlag) -> Result<T, ExecuteError>) -> Result<T, ExecuteError> {
    let stop = StopFlag::new();
    let (working, ended) = mpsc::channel::<()>();
    let flag = stop.clone();
    let watch = move || {
        if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(ROOT_TIMEOUT) {
            flag.raise();
        }
    };
    let result = thread::scope(|scope| {
        let watching = thread::Builder::new().name("gridloom-root".to_owned()).spawn_scoped(scope, watch);
        if let Err(error) = watching {
            tracing::warn!(%error, "a user's kernel runs without a limit: no thread could be had");
        }
        let result = work(&stop);
        drop(working);
        result
    });
    result.map_err(|error| match error {
        ExecuteError::Cancelled => ExecuteError::Deadline { limit_ms: ROOT_TIMEOUT.as_millis() as u64 },
        other => other,
    })
}
