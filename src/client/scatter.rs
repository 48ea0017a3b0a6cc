//! The client's own data, cut into blocks and put on the workers.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gridloom_worker::ids::{ArrayId, WorkerId};
use gridloom_worker::intervals::Interval;
use gridloom_worker::wire::Parcel;

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

/// Blocks on their way.
struct Sent {
    worker: WorkerId,
    parcel: Parcel,
    since: Instant,
}

/// Waits for everything that it has sent, also when some of it has failed.
fn put_all(core: &Core, data: &Scatter, holders: &[Holding], memory: &Memory) -> Result<(), ClientError> {
    let (sender, receiver) = mpsc::channel();
    let send = |sent: Sent| {
        let (worker, parcel, sender) = (sent.worker, sent.parcel, sender.clone());
        let blocks = parcel.blocks.indices().map(|index| vec![data.block(index)]).collect();
        // The receiver lives until every reply has come.
        core.link.put(worker, parcel, blocks, Box::new(move |stored| drop(sender.send((sent, stored)))));
    };
    let block_bytes = data.grid.block_elements_max() * data.dtype.bytes();
    let together = Parcel::blocks_max(block_bytes);
    let window = window(block_bytes).div_ceil(together);
    let mut outcome = Ok(());
    let mut in_flight = 0;
    let parcels = holders.iter().flat_map(|holding| parcels(data.array, holding, together));
    for (worker, parcel) in parcels {
        if outcome.is_err() {
            break;
        }
        send(Sent { worker, parcel, since: Instant::now() });
        in_flight += 1;
        while in_flight >= window {
            in_flight -= u64::from(is_settled(data.array, memory, &receiver, &send, &mut outcome));
        }
    }
    while in_flight > 0 {
        in_flight -= u64::from(is_settled(data.array, memory, &receiver, &send, &mut outcome));
    }
    outcome
}

/// The blocks that one worker is to hold, `together` in each parcel.
fn parcels(array: ArrayId, holding: &Holding, together: u64) -> impl Iterator<Item = (WorkerId, Parcel)> + use<> {
    let Holding { blocks, worker } = *holding;
    let starts = blocks.indices().step_by(together as usize);
    starts.map(move |start| {
        let blocks = Interval::new(start, blocks.end.min(start + together));
        (worker, Parcel { array, blocks })
    })
}

type Stored = Result<(), Option<(u64, u64)>>;

/// Waits for one reply. Blocks for which there may yet be room are sent again: then nothing is settled. A worker keeps all
/// blocks of a parcel or none, and all are its share: where there is no room for them together, there is none for all.
fn is_settled(
    array: ArrayId,
    memory: &Memory,
    receiver: &mpsc::Receiver<(Sent, Stored)>,
    send: &impl Fn(Sent),
    outcome: &mut Result<(), ClientError>,
) -> bool {
    let Ok((sent, stored)) = receiver.recv() else {
        *outcome = Err(ClientError::ScatterLost { array });
        return true;
    };
    let error = match stored {
        Ok(()) => return true,
        Err(Some((needs, _)))
            if outcome.is_ok()
                && sent.since.elapsed() < ROOM_PATIENCE
                && memory.get(&sent.worker).is_some_and(|&has| needs <= has) =>
        {
            std::thread::sleep(ROOM_PAUSE);
            send(sent);
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
