//! The blocks of an array on their way to the client: waited for, fetched in a window, handed out in order.
//!
//! Where a reduction's last level of partials is what the workers hold, its root is folded and finished here.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use gridloom_worker::block::Block;
use gridloom_worker::executor::ExecuteError;
use gridloom_worker::ids::{BlockId, WorkerId};
use gridloom_worker::intervals::Interval;
use gridloom_worker::reduce::{Reducer, StopFlag};
use gridloom_worker::shape::Region;
use gridloom_worker::wire::FetchError;

use super::state::Phase;
use super::{ClientError, Core};
use crate::array::Root;
use crate::plan::Output;
use crate::scheduler::{FromClient, Holding};

/// Blocks asked for and not yet handed out. Each is at most one GPU binding, and most are far smaller.
const WINDOW: u64 = 8;

/// How often blocks are located again, with none handed out in between, that were not where they were said to be.
const RETRIES_MAX: u32 = 8;

/// How long a user's kernel may take over one root.
const ROOT_TIMEOUT: Duration = Duration::from_secs(60);

/// The blocks of an output, in order.
pub(crate) struct Gather {
    core: Arc<Core>,
    output: Output,
    /// Blocks to fetch: of the array, or its partials.
    blocks: u64,
    holders: Vec<Holding>,
    /// The question where blocks are, if one is open.
    request: Option<u64>,
    /// The next block to ask for, and the next to hand out.
    asked: u64,
    taken: u64,
    retries: u32,
    mailbox: Arc<Mailbox>,
    arrived: BTreeMap<u64, Block>,
    /// Partials of the result block that is next.
    partials: Vec<Block>,
    /// How many result blocks were handed out.
    given: u64,
}

/// What was asked for of whom, and what came.
type Letter = (u64, WorkerId, Result<Block, FetchError>);

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
    pub(crate) fn new(core: Arc<Core>, output: Output) -> Gather {
        let blocks = output.grid.blocks() * output.root.as_ref().map_or(1, |root| root.count);
        Gather {
            core,
            output,
            blocks,
            holders: Vec::new(),
            request: None,
            asked: 0,
            taken: 0,
            retries: 0,
            mailbox: Arc::default(),
            arrived: BTreeMap::new(),
            partials: Vec::new(),
            given: 0,
        }
    }

    /// The next block and where it belongs; `None` after the last.
    pub(crate) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Result<(Region, Block), ClientError>>> {
        loop {
            if self.taken == self.blocks {
                return Poll::Ready(None);
            }
            if let Some(block) = self.arrived.remove(&self.taken) {
                self.taken += 1;
                self.retries = 0;
                if self.request.is_none() {
                    self.ask();
                }
                match self.rooted(block) {
                    Ok(None) => continue,
                    Ok(Some(block)) => return Poll::Ready(Some(Ok((self.next_region(), block)))),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            match self.poll_arrivals(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn next_region(&mut self) -> Region {
        let index = self.output.grid.block_counts().index_at(self.given);
        self.given += 1;
        self.output.grid.region(&index)
    }

    /// The block itself or, of a reduction, the finished result once the last of its partials is there.
    fn rooted(&mut self, block: Block) -> Result<Option<Block>, ClientError> {
        let Some(Root { reduction, kernel, count, .. }) = &self.output.root else {
            return Ok(Some(block));
        };
        self.partials.push(block);
        if (self.partials.len() as u64) < *count {
            return Ok(None);
        }
        let partials = std::mem::take(&mut self.partials);
        let reducer = Reducer::new(reduction, &|_| kernel.clone()).map_err(ClientError::Root)?;
        let root = |stop: &StopFlag| reducer.finish(&reducer.fold(&partials, stop)?, stop);
        let fields = if kernel.is_some() { within_limit(root) } else { root(&StopFlag::new()) };
        let mut fields = fields.map_err(ClientError::Root)?;
        Ok(Some(fields.swap_remove(self.output.field as usize)))
    }

    /// Ready when something happened: blocks came, or it became known where they are.
    fn poll_arrivals(&mut self, context: &Context<'_>) -> Poll<Result<(), ClientError>> {
        if let Some(request) = self.request {
            match self.core.state.answer(request, context.waker()) {
                None => return Poll::Pending,
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                Some(Ok(holders)) => {
                    self.request = None;
                    self.holders = holders;
                }
            }
        }
        if self.asked == 0 && self.holders.is_empty() {
            match self.core.state.phase(self.output.array, Some(context.waker())) {
                Phase::Pending => return Poll::Pending,
                Phase::Failed(error) => return Poll::Ready(Err(error.into())),
                Phase::Done(holders) => self.holders = holders,
            }
        }
        self.ask();
        if self.request.is_some() {
            return Poll::Ready(Ok(()));
        }
        let letters = self.mailbox.take(context.waker());
        if letters.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(letters.into_iter().try_for_each(|letter| self.receive(letter)))
    }

    /// Asks for blocks until the window is full, or for where the next is.
    fn ask(&mut self) {
        while self.asked < self.blocks.min(self.taken + WINDOW) {
            let at = self.holders.partition_point(|holding| holding.blocks.end <= self.asked);
            match self.holders.get(at) {
                Some(holding) if holding.blocks.start <= self.asked => self.fetch(self.asked, holding.worker),
                _ => return self.locate(Interval { start: self.asked, end: self.blocks }),
            }
            self.asked += 1;
        }
    }

    fn fetch(&self, index: u64, holder: WorkerId) {
        let block = BlockId { array: self.output.array, index };
        // Partials have one field; which field of the result is wanted shows only at the root.
        let field = if self.output.root.is_some() { 0 } else { self.output.field };
        let mailbox = Arc::clone(&self.mailbox);
        self.core.link.fetch(holder, block, field, Box::new(move |result| mailbox.put((index, holder, result))));
    }

    fn locate(&mut self, blocks: Interval) {
        let request = self.core.next();
        self.request = Some(request);
        self.core.state.ask(request);
        self.core.link.send(FromClient::Locate { request, array: self.output.array, blocks });
    }

    /// A block came, or did not: then it is located again.
    fn receive(&mut self, (index, holder, result): Letter) -> Result<(), ClientError> {
        // A device's bytes come here now: a device that is lost has them no more.
        let fetched = result.and_then(|block| match block.buffer.fetch() {
            Ok(_) => Ok(block),
            Err(_) => Err(FetchError::Missing),
        });
        match fetched {
            Ok(block) => {
                // What was asked for twice, and handed out already, is dropped.
                if index >= self.taken {
                    self.arrived.insert(index, block);
                }
            }
            Err(error) => {
                let block = BlockId { array: self.output.array, index };
                self.core.link.send(FromClient::FetchFailed { block, holder, error });
                // What was asked for beyond it comes all the same; only what did not come is asked for again.
                self.asked = self.asked.min(index);
                if self.request.is_none() {
                    self.retries += 1;
                    if self.retries > RETRIES_MAX {
                        return Err(ClientError::Fetch { block, error });
                    }
                    self.locate(Interval { start: self.asked, end: self.blocks });
                }
            }
        }
        Ok(())
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
