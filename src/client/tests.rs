//! A client whose workers are played by the test.

use std::collections::BTreeMap;
use std::sync::Weak;

use gridloom_worker::block::{Block, SmallBlock};
use gridloom_worker::dtype::DType;
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::WorkerId;
use gridloom_worker::intervals::Interval;
use gridloom_worker::wire::{Parcel, Register};

use super::link::{FetchReply, PutReply};
use super::*;
use crate::scheduler::{Holding, ToClient};

const WORKERS: [WorkerId; 2] = [WorkerId(1), WorkerId(2)];

/// What the workers hold, and what was said.
#[derive(Default)]
struct Play {
    held: BTreeMap<u64, Block>,
    /// Held, and not to be had before it is located again.
    lost: BTreeMap<u64, Block>,
    /// How many puts are still refused.
    refusals: usize,
    puts: Vec<Parcel>,
    fetches: Vec<Parcel>,
    failed: Vec<u64>,
}

/// To workers that are played.
struct PlayedLink {
    play: Arc<Mutex<Play>>,
    state: Weak<State>,
}

impl Link for PlayedLink {
    fn reinforce(&self, _devices: Devices, _bytes: u64) {}

    fn send(&self, message: FromClient) {
        let mut play = self.play.lock().unwrap();
        match message {
            FromClient::FetchFailed { block, .. } => play.failed.push(block.index),
            FromClient::Locate { request, blocks, .. } => {
                let found = std::mem::take(&mut play.lost);
                play.held.extend(found);
                let result = Ok(vec![Holding { blocks, worker: WORKERS[0] }]);
                drop(play);
                self.state.upgrade().unwrap().receive(ToClient::Located { request, result });
            }
            _ => {}
        }
    }

    fn fetch(&self, _holder: WorkerId, parcel: Parcel, _field: u32, reply: FetchReply) {
        let mut play = self.play.lock().unwrap();
        play.fetches.push(parcel);
        let blocks = parcel.ids().map(|block| play.held.get(&block.index).cloned()).collect();
        drop(play);
        reply(Ok(blocks));
    }

    fn traffic(&self) -> Option<BulkTraffic> {
        None
    }

    fn put(&self, _worker: WorkerId, parcel: Parcel, blocks: Vec<Vec<Block>>, reply: PutReply) {
        let mut play = self.play.lock().unwrap();
        play.puts.push(parcel);
        if play.refusals > 0 {
            play.refusals -= 1;
            let needs = blocks.iter().flatten().map(|block| block.buffer.len() as u64).sum();
            drop(play);
            return reply(Err(Some((needs, 0))));
        }
        play.held.extend(parcel.blocks.indices().zip(blocks.into_iter().flatten()));
        drop(play);
        reply(Ok(()));
    }
}

/// A client of workers with so much memory each.
fn client(memory_bytes: u64) -> (Client, Arc<Mutex<Play>>) {
    let (state, play) = (Arc::<State>::default(), Arc::<Mutex<Play>>::default());
    for worker in WORKERS {
        state.receive(ToClient::WorkerJoined { worker, register: Register::of_cpu("played", 1, memory_bytes) });
    }
    let link = PlayedLink { play: Arc::clone(&play), state: Arc::downgrade(&state) };
    (Client::with_state(ClientId(1), state, Box::new(link), Devices::default()), play)
}

/// Puts the numbers below `count` on the workers, each a block.
fn scattered(client: &Client, count: u64) -> Result<Future<Array>, ClientError> {
    let (core, shape) = (&client.core, Shape::new(&[count]).unwrap());
    let (array, grid, dtype) = (core.arrays().make(), Grid::regular(&shape, &[1]), DType::U64);
    let bytes: Vec<u8> = (0..count).flat_map(u64::to_le_bytes).collect();
    scatter::scatter(core, &Scatter { array, grid: grid.clone(), dtype, bytes: bytes.into() })?;
    let output = Output { array, field: 0, grid, shape, dtype, root: None };
    Ok(Future::new(Held::new(core, output, Keep::of(Arc::new(Pinned::new(core, array))))))
}

fn intervals(parcels: &[Parcel]) -> Vec<(u64, u64)> {
    parcels.iter().map(|Parcel { blocks: Interval { start, end }, .. }| (*start, *end)).collect()
}

#[test]
fn small_blocks_are_put_and_fetched_together_and_missed_one_by_one() {
    let (client, play) = client(1 << 30);
    let future = scattered(&client, 3000).unwrap();
    let parcels = [(0, 1024), (1024, 1500), (1500, 2524), (2524, 3000)];
    assert_eq!(intervals(&play.lock().unwrap().puts), parcels);
    {
        let mut play = play.lock().unwrap();
        let lost = [5, 6, 2999].map(|index| (index, play.held.remove(&index).unwrap()));
        play.lost.extend(lost);
    }
    let values: Vec<u64> = client.gather(&future).unwrap().wait().unwrap();
    assert!(values.iter().copied().eq(0..3000), "each in its place");
    let play = play.lock().unwrap();
    assert_eq!(play.failed, [5, 6, 2999]);
    assert_eq!(intervals(&play.fetches), [&parcels[..], &[(5, 7), (2999, 3000)]].concat());
}

#[test]
fn blocks_that_are_refused_together_are_brought_again_together() {
    let (client, play) = client(1 << 30);
    play.lock().unwrap().refusals = 2;
    scattered(&client, 3000).unwrap();
    let play = play.lock().unwrap();
    assert_eq!((play.puts.len(), play.held.len()), (6, 3000));
    assert!(play.held.iter().all(|(&index, block)| block.elements::<u64>() == [index]));
}

#[test]
fn what_never_fits_is_a_typed_error() {
    let (client, play) = client(4000);
    play.lock().unwrap().refusals = usize::MAX;
    let error = scattered(&client, 3000).map(drop).unwrap_err();
    assert!(matches!(error, ClientError::ScatterMemory { needs: 8192, has: 0, .. }), "{error}");
}

#[test]
fn who_sends_another_block_than_was_asked_for_is_not_believed() {
    let (client, play) = client(1 << 30);
    let future = scattered(&client, 2).unwrap();
    let one: Shape = [1].into_iter().collect();
    let others = [Block::from_elements([2].into_iter().collect(), &[1u64, 2]), Block::from_elements(one, &[1i32])];
    for other in others {
        let honest = play.lock().unwrap().held.insert(1, other).unwrap();
        let error = client.gather::<_, Vec<u64>>(&future).unwrap().wait().unwrap_err();
        assert!(matches!(error, ClientError::Fetch { block: BlockId { index: 1, .. }, error: FetchError::Missing }));
        play.lock().unwrap().held.insert(1, honest);
        assert_eq!(client.gather::<_, Vec<u64>>(&future).unwrap().wait().unwrap(), [0, 1]);
    }
}

#[test]
fn a_result_that_comes_with_its_word_is_taken_if_it_can_be_it() {
    let (client, play) = client(1 << 30);
    let future = scattered(&client, 1).unwrap();
    let array = play.lock().unwrap().puts[0].array;
    let said = |result: Block| {
        let holders = vec![Holding { blocks: Interval::one(0), worker: WORKERS[0] }];
        client.core.state.receive(ToClient::ArrayDone { array, holders, result: SmallBlock::of(&[result]) });
        client.gather::<_, Vec<u64>>(&future).unwrap().wait().unwrap()
    };
    let one: Shape = [1].into_iter().collect();
    assert_eq!(said(Block::from_elements(one.clone(), &[7u64])), [7]);
    assert!(play.lock().unwrap().fetches.is_empty());
    assert_eq!(said(Block::from_elements(one, &[7i32])), [0], "what the worker holds");
    assert_eq!(play.lock().unwrap().fetches.len(), 1);
}
