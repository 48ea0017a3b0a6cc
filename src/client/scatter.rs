//! The client's own data, cut into blocks and put on the workers.

use std::sync::mpsc;

use gridloom_worker::ids::{ArrayId, BlockId, WorkerId};
use gridloom_worker::intervals::Interval;

use super::{ClientError, Core};
use crate::plan::Scatter;
use crate::scheduler::{FromClient, Holding};

/// Blocks on their way at once.
const WINDOW: u64 = 8;

/// Puts an array on the workers, each of them a contiguous share of the blocks, and tells the scheduler.
pub(super) fn scatter(core: &Core, data: &Scatter) -> Result<(), ClientError> {
    let Scatter { array, grid, dtype, .. } = data;
    let array = *array;
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
            let block = data.block(index);
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
