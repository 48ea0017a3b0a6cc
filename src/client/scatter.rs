//! The client's own data, cut into blocks and put on the workers.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gridloom_worker::block::Block;
use gridloom_worker::ids::{ArrayId, BlockId, WorkerId};
use gridloom_worker::intervals::Interval;

use super::window::window;
use super::{ClientError, Core};
use crate::plan::Scatter;
use crate::scheduler::{FromClient, Holding};

/// How long a worker without room may take to find some, and how often it is asked.
const ROOM_PATIENCE: Duration = Duration::from_secs(30);
const ROOM_PAUSE: Duration = Duration::from_millis(10);

/// Puts an array on the workers, each of them a contiguous share of the blocks, and tells the scheduler.
///
/// # Errors
/// If it does not fit, or a worker goes: then what was put is released.
pub(super) fn scatter(core: &Core, data: &Scatter) -> Result<(), ClientError> {
    let Scatter { array, grid, dtype, .. } = data;
    let registers = core.state.workers();
    let workers: Vec<WorkerId> = registers.iter().map(|(worker, _)| *worker).collect();
    if workers.is_empty() {
        return Err(ClientError::NoWorkers);
    }
    let holders = shares(grid.blocks(), &workers);
    let memory = registers.into_iter().map(|(worker, register)| (worker, register.memory_bytes)).collect();
    let put = put_all(core, data, &holders, &memory);
    // The scheduler is told in any case: only it can release what some worker holds already.
    let bytes = grid.block_elements_max() * dtype.bytes();
    let (array, blocks) = (*array, grid.blocks());
    if put.is_ok() {
        // Before the scheduler may say that some of it is lost.
        core.state.track_scattered(array, holders.clone());
    }
    core.link.send(FromClient::Scattered { array, blocks, fields: 1, bytes, holders });
    if put.is_err() {
        core.link.send(FromClient::Release { arrays: vec![array] });
    }
    put
}

/// What the workers may use, in bytes.
type Memory = HashMap<WorkerId, u64>;

/// A block on its way.
struct Parcel {
    worker: WorkerId,
    index: u64,
    block: Block,
    since: Instant,
}

/// Waits for every block that it has sent, also when one has failed.
fn put_all(core: &Core, data: &Scatter, holders: &[Holding], memory: &Memory) -> Result<(), ClientError> {
    let (sender, receiver) = mpsc::channel();
    let send = |parcel: Parcel| {
        let (worker, id, sender) = (parcel.worker, BlockId { array: data.array, index: parcel.index }, sender.clone());
        let block = parcel.block.clone();
        // The receiver lives until every reply has come.
        let reply = Box::new(move |stored| drop(sender.send((parcel, stored))));
        core.link.put(worker, id, vec![block], reply);
    };
    let window = window(data.grid.block_elements_max() * data.dtype.bytes());
    let mut outcome = Ok(());
    let mut in_flight = 0;
    let places = holders.iter().flat_map(|holding| holding.blocks.indices().map(|index| (holding.worker, index)));
    for (worker, index) in places {
        if outcome.is_err() {
            break;
        }
        send(Parcel { worker, index, block: data.block(index), since: Instant::now() });
        in_flight += 1;
        while in_flight >= window {
            in_flight -= usize::from(is_settled(data.array, memory, &receiver, &send, &mut outcome));
        }
    }
    while in_flight > 0 {
        in_flight -= usize::from(is_settled(data.array, memory, &receiver, &send, &mut outcome));
    }
    outcome
}

type Stored = Result<(), Option<(u64, u64)>>;

/// Waits for one reply. A block for which there may yet be room is sent again: then nothing is settled.
fn is_settled(
    array: ArrayId,
    memory: &Memory,
    receiver: &mpsc::Receiver<(Parcel, Stored)>,
    send: &impl Fn(Parcel),
    outcome: &mut Result<(), ClientError>,
) -> bool {
    let Ok((parcel, stored)) = receiver.recv() else {
        *outcome = Err(ClientError::ScatterLost { array });
        return true;
    };
    let error = match stored {
        Ok(()) => return true,
        Err(Some((needs, _)))
            if outcome.is_ok()
                && parcel.since.elapsed() < ROOM_PATIENCE
                && memory.get(&parcel.worker).is_some_and(|&has| needs <= has) =>
        {
            std::thread::sleep(ROOM_PAUSE);
            send(parcel);
            return false;
        }
        Err(Some((needs, has))) => ClientError::ScatterMemory { array, needs, has },
        // The worker went, or the whole cluster did.
        Err(None) => ClientError::ScatterLost { array },
    };
    if outcome.is_ok() {
        *outcome = Err(error);
    }
    true
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
