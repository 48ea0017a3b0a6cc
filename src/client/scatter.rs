//! The client's own data, cut into blocks and put on the workers.

use std::sync::mpsc;

use gridloom_worker::block::{Block, BufferMut, Item};
use gridloom_worker::dtype::DType;
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, BlockId, WorkerId};
use gridloom_worker::intervals::Interval;

use super::value::runs;
use super::{ClientError, Core};
use crate::scheduler::{FromClient, Holding};

/// Blocks on their way at once.
const WINDOW: u64 = 8;

/// Puts `bytes` (C order, stored form of `dtype`) on the workers, each of them a contiguous share of the blocks, and
/// tells the scheduler.
pub(super) fn scatter(
    core: &Core,
    array: ArrayId,
    grid: &Grid,
    dtype: DType,
    bytes: &[u8],
) -> Result<(), ClientError> {
    let workers: Vec<WorkerId> = core.state.workers().into_iter().map(|(worker, _)| worker).collect();
    if workers.is_empty() {
        return Err(ClientError::NoWorkers);
    }
    let holders = shares(grid.blocks(), &workers);
    let (sender, receiver) = mpsc::channel();
    let mut in_flight = 0;
    for holding in &holders {
        for index in holding.blocks.indices() {
            if in_flight == WINDOW {
                receive(array, &receiver)?;
                in_flight -= 1;
            }
            let block = cut(grid, dtype, bytes, index)?;
            let sender = sender.clone();
            let reply = Box::new(move |result| {
                // If nobody listens any more, the scatter has failed already.
                let _ = sender.send(result);
            });
            core.link.put(holding.worker, BlockId { array, index }, vec![block], reply);
            in_flight += 1;
        }
    }
    for _ in 0..in_flight {
        receive(array, &receiver)?;
    }
    core.state.track_scattered(array, holders.clone());
    let bytes = grid.block_elements_max() * dtype.bytes();
    core.link.send(FromClient::Scattered { array, blocks: grid.blocks(), fields: 1, bytes, holders });
    Ok(())
}

type Stored = Result<(), Option<(u64, u64)>>;

fn receive(array: ArrayId, receiver: &mpsc::Receiver<Stored>) -> Result<(), ClientError> {
    match receiver.recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Some((needs, has)))) => Err(ClientError::ScatterMemory { array, needs, has }),
        // The worker went, or the whole cluster did.
        Ok(Err(None)) | Err(mpsc::RecvError) => Err(ClientError::ScatterLost { array }),
    }
}

/// Contiguous shares of `blocks`, as equal as can be.
fn shares(blocks: u64, workers: &[WorkerId]) -> Vec<Holding> {
    let count = workers.len() as u64;
    let bound = |at: u64| (u128::from(blocks) * u128::from(at) / u128::from(count)) as u64;
    let share = |(at, &worker): (usize, &WorkerId)| {
        let at = at as u64;
        Holding { blocks: Interval::new(bound(at), bound(at + 1)), worker }
    };
    workers.iter().enumerate().map(share).filter(|holding| !holding.blocks.is_empty()).collect()
}

/// Block `index` of the array whose C-order bytes these are.
fn cut(grid: &Grid, dtype: DType, bytes: &[u8], index: u64) -> Result<Block, ClientError> {
    let region = grid.region(&grid.block_counts().index_at(index));
    let shape = region.shape();
    let width = dtype.bytes() as usize;
    let needed = shape.elements() * dtype.bytes();
    let mut buffer = BufferMut::try_new(needed as usize).map_err(|_| ClientError::Memory { bytes: needed })?;
    let target = buffer.bytes_mut();
    for (from, to, elements) in runs(&grid.shape(), &region) {
        let (from, to, count) = (from as usize * width, to as usize * width, elements as usize * width);
        target[to..to + count].copy_from_slice(&bytes[from..from + count]);
    }
    Ok(Block::new(Item::Value(dtype), shape, buffer.freeze()))
}
