//! Blocks between workers.

mod hostile;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Condvar, Mutex};

use super::super::hello::welcome;
use super::super::{frame, identity};
use super::*;
use crate::agent::{Answer, FETCHES_MAX, Part, REPLIES_MAX};
use crate::block::{Block, BufferMut, Item};
use crate::dtype::DType;
use crate::ids::{ArrayId, BlockId, ClientId, WorkerId};
use crate::intervals::Interval;
use crate::shape::{Region, Shape};
use crate::wire::codec::write_frame;
use crate::wire::peer::{PARCEL_BLOCKS_MAX, PARCEL_BYTES_MAX};
use crate::wire::{BlockHeader, FetchError, Parcel, PeerReply, PeerRequest, RequestId};

/// A cluster's workers: whoever is made here trusts the others.
struct Cluster {
    authority: Authority,
}

impl Cluster {
    fn new() -> Cluster {
        Cluster { authority: Authority::new().unwrap() }
    }

    fn identity(&self, role: Role) -> Arc<Identity> {
        Arc::new(self.authority.identity(self.authority.new_party(role), now()).unwrap())
    }

    fn worker(&self, asked: impl Fn(Party, Question, Reply) + Send + Sync + 'static) -> (WorkerId, Bulk) {
        let identity = self.identity(Role::Worker);
        let worker = WorkerId(identity.party().id);
        let options = BulkOptions { listen: Some(ANY_PORT), put_bytes_max: 3 << 20, ..BulkOptions::default() };
        (worker, Bulk::open(identity, options, asked).unwrap())
    }

    /// One that only asks.
    fn asker(&self) -> Bulk {
        Bulk::open(self.identity(Role::Client), BulkOptions::default(), |_, _, _| {}).unwrap()
    }
}

fn id(index: u64) -> BlockId {
    BlockId { array: ArrayId { client: ClientId(1), sequence: 1 }, index }
}

fn block(lengths: &[u64]) -> Block {
    let shape: Shape = lengths.iter().copied().collect();
    let mut buffer = BufferMut::zeroed(shape.elements() as usize * 4);
    let values = buffer.elements_mut::<u32>();
    values.iter_mut().zip(0u32..).for_each(|(value, at)| *value = at.wrapping_mul(2_654_435_761));
    Block::new(Item::Value(DType::U32), shape, buffer.freeze())
}

/// Holds blocks and keeps what it is brought, up to a limit.
#[derive(Default)]
struct Shelf {
    blocks: Mutex<HashMap<BlockId, Block>>,
    left: AtomicUsize,
}

impl Shelf {
    fn answer(self: &Arc<Shelf>, question: Question, reply: Reply) {
        let mut blocks = self.blocks.lock().unwrap();
        let answer = match question {
            Question::Fetch { parcel, region, .. } => {
                let part = |data: &Block| Part { data: data.clone(), region: region.clone() };
                Answer::Data(parcel.ids().map(|id| blocks.get(&id).map(part)).collect())
            }
            Question::Put { blocks: brought, .. } if brought.iter().any(|fields| fields.len() != 1) => {
                Answer::Refused { needs: 9, has: 5 }
            }
            Question::Put { parcel, blocks: brought } => {
                blocks.extend(parcel.ids().zip(brought.into_iter().flatten()));
                Answer::Stored
            }
        };
        let shelf = Arc::clone(self);
        reply.answer(answer, move || _ = shelf.left.fetch_add(1, Ordering::SeqCst));
    }

    fn wait_left(&self, count: usize) {
        let begun = Instant::now();
        while self.left.load(Ordering::SeqCst) < count {
            assert!(begun.elapsed() < PATIENCE, "{} of {count} replies have left", self.left.load(Ordering::SeqCst));
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A worker with a shelf, and an asker that knows it.
fn shelf_and_asker(cluster: &Cluster) -> (Arc<Shelf>, WorkerId, Bulk, Bulk) {
    let shelf = Arc::new(Shelf::default());
    let (worker, bulk) = {
        let shelf = Arc::clone(&shelf);
        cluster.worker(move |_, question, reply| shelf.answer(question, reply))
    };
    let asker = cluster.asker();
    asker.meet(worker, bulk.address().unwrap().to_string());
    (shelf, worker, bulk, asker)
}

fn parcel(start: u64, end: u64) -> Parcel {
    Parcel { array: id(0).array, blocks: Interval::new(start, end) }
}

fn fetch_all(bulk: &Bulk, holder: WorkerId, parcel: Parcel, region: Option<Region>) -> Fetched {
    let (tell, told) = mpsc::channel();
    bulk.fetch(holder, parcel, 0, region, move |fetched| _ = tell.send(fetched));
    told.recv_timeout(PATIENCE).unwrap()
}

fn fetch(bulk: &Bulk, holder: WorkerId, block: BlockId, region: Option<Region>) -> Result<Block, FetchError> {
    alone(fetch_all(bulk, holder, Parcel::one(block), region))
}

/// The block that was asked for alone.
fn alone(fetched: Fetched) -> Result<Block, FetchError> {
    let [block] = &fetched?[..] else { panic!("one answer per block") };
    block.clone().ok_or(FetchError::Missing)
}

fn put_all(bulk: &Bulk, holder: WorkerId, parcel: Parcel, blocks: Vec<Vec<Block>>) -> Result<(), PutError> {
    let (tell, told) = mpsc::channel();
    bulk.put(holder, parcel, blocks, move |result| _ = tell.send(result));
    told.recv_timeout(PATIENCE).unwrap()
}

fn put(bulk: &Bulk, holder: WorkerId, block: BlockId, fields: Vec<Block>) -> Result<(), PutError> {
    put_all(bulk, holder, Parcel::one(block), vec![fields])
}

fn region(start: &[u64], end: &[u64]) -> Region {
    Region { start: start.iter().copied().collect(), end: end.iter().copied().collect() }
}

#[test]
fn a_block_of_64_mib_arrives_as_it_left() {
    let cluster = Cluster::new();
    let (shelf, worker, bulk, asker) = shelf_and_asker(&cluster);
    let sent = block(&[16, 1024, 1024]);
    shelf.blocks.lock().unwrap().insert(id(0), sent.clone());
    let received = fetch(&asker, worker, id(0), None).unwrap();
    assert_eq!((received.item, &received.shape), (sent.item, &sent.shape));
    assert!(received.bytes() == sent.bytes(), "every byte");
    assert!(received.bytes().as_ptr().addr().is_multiple_of(64), "aligned");
    shelf.wait_left(1);
    let [(of, traffic)] = asker.traffic()[..] else { panic!("one connection") };
    assert_eq!(of, worker);
    assert!(traffic.bytes_received > 64 << 20, "{traffic:?}");
    drop((bulk, asker));
}

/// Loopback takes packets of any size, so both sides must find the largest that they were told to try.
#[test]
fn the_largest_packets_are_found() {
    // Discovery stops when the next step would be as small as this.
    const STEP: u16 = 20;
    let cluster = Cluster::new();
    for packet_bytes_max in [PACKET_BYTES_MAX, PACKET_BYTES_LOOPBACK] {
        let (holder, tally) = (cluster.identity(Role::Worker), Arc::new(Mutex::new(None)));
        let worker = WorkerId(holder.party().id);
        let options = BulkOptions { packet_bytes_max, ..BulkOptions::default() };
        let listens = BulkOptions { listen: Some(ANY_PORT), ..options };
        let answer = |_, _, reply: Reply| {
            let part = Part { data: block(&[1 << 16]), region: None };
            reply.answer(Answer::Data(vec![Some(part)]), || {});
        };
        let bulk = Bulk::open(holder, listens, answer).unwrap();
        let heard = Arc::clone(&tally);
        bulk.report(move |news| {
            *heard.lock().unwrap() = Some(news.packet_bytes);
            true
        });
        let asker = Bulk::open(cluster.identity(Role::Client), options, |_, _, _| {}).unwrap();
        asker.meet(worker, bulk.address().unwrap().to_string());
        let begun = Instant::now();
        let is_found = |bytes: u16| (packet_bytes_max - STEP..=packet_bytes_max).contains(&bytes);
        loop {
            fetch(&asker, worker, id(0), None).unwrap();
            let [(_, traffic)] = asker.traffic()[..] else { panic!("one connection") };
            let theirs = tally.lock().unwrap().unwrap_or(0);
            if is_found(traffic.packet_bytes) && is_found(theirs) {
                break;
            }
            let found = (traffic.packet_bytes, theirs);
            assert!(begun.elapsed() < PATIENCE, "{found:?} of {packet_bytes_max}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn rates_are_of_late() {
    let cluster = Cluster::new();
    let (shelf, worker, _bulk, asker) = shelf_and_asker(&cluster);
    shelf.blocks.lock().unwrap().insert(id(0), block(&[16, 1024, 1024]));
    let (tell, told) = mpsc::channel();
    asker.report(move |news| tell.send(news).is_ok());
    fetch(&asker, worker, id(0), None).unwrap();
    let mut rates = told.iter().map(|news| news.bytes_received_per_second);
    // All of it came between two reports, or two of them share it.
    assert!(rates.by_ref().take(3).any(|rate| rate > 8 << 20));
    // Some packets keep the connection alive.
    assert!(rates.take(5).any(|rate| rate < 8 << 10), "what came once does not come for ever");
    let all = asker.all_traffic();
    assert!(all.connections == 1 && all.bytes_received > 64 << 20, "{all:?}");
}

#[test]
fn parts_arrive_as_parts() {
    let cluster = Cluster::new();
    let (shelf, worker, _bulk, asker) = shelf_and_asker(&cluster);
    let sent = block(&[40, 30, 50]);
    shelf.blocks.lock().unwrap().insert(id(0), sent.clone());
    let parts = [
        region(&[0, 0, 0], &[40, 30, 50]),
        region(&[3, 0, 0], &[9, 30, 50]),
        region(&[3, 7, 0], &[39, 20, 50]),
        region(&[1, 2, 3], &[40, 29, 48]),
        region(&[5, 5, 5], &[5, 6, 7]),
    ];
    for part in &parts {
        let received = fetch(&asker, worker, id(0), Some(part.clone())).unwrap();
        assert_eq!(received.shape, part.shape());
        let expected = part.indices().map(|index| sent.elements::<u32>()[sent.shape.linear(&index) as usize]);
        assert_eq!(received.elements::<u32>(), expected.collect::<Vec<_>>());
    }
    // What is not inside the block is not there.
    for part in [region(&[0, 0, 0], &[40, 31, 50]), region(&[2, 0, 0], &[1, 30, 50]), region(&[0], &[1])] {
        assert_eq!(fetch(&asker, worker, id(0), Some(part)).err(), Some(FetchError::Missing));
    }
    shelf.wait_left(parts.len() + 3);
}

#[test]
fn what_is_brought_is_kept_or_refused() {
    let cluster = Cluster::new();
    let (shelf, worker, _bulk, asker) = shelf_and_asker(&cluster);
    let brought = block(&[1000, 700]);
    assert_eq!(put(&asker, worker, id(4), vec![brought.clone()]), Ok(()));
    assert_eq!(shelf.blocks.lock().unwrap()[&id(4)].bytes(), brought.bytes());
    assert_eq!(fetch(&asker, worker, id(4), None).unwrap().bytes(), brought.bytes());
    let two = vec![brought.clone(), block(&[])];
    assert_eq!(put(&asker, worker, id(5), two), Err(PutError::Refused { needs: 9, has: 5 }));
    assert_eq!(fetch(&asker, worker, id(5), None).err(), Some(FetchError::Missing));
    // One for which there will never be room is refused before it is read, also if it is more than is sent ahead.
    let huge = put(&asker, worker, id(6), vec![block(&[20 << 20])]);
    assert_eq!(huge, Err(PutError::Refused { needs: 80 << 20, has: 3 << 20 }));
    assert_eq!(put(&asker, worker, id(6), vec![brought]), Ok(()));
}

/// Every block of a parcel is its own: whatever its shape, whether it is there or not.
#[test]
fn small_blocks_travel_together() {
    let cluster = Cluster::new();
    let (shelf, worker, _bulk, asker) = shelf_and_asker(&cluster);
    let shapes: [&[u64]; 5] = [&[], &[3], &[0, 7], &[40, 25], &[2, 3, 4]];
    let brought = shapes.map(block);
    let parcel_of = |blocks: &[Block]| blocks.iter().map(|block| vec![block.clone()]).collect::<Vec<_>>();
    assert_eq!(put_all(&asker, worker, parcel(10, 15), parcel_of(&brought)), Ok(()));
    let check = |fetched: Vec<Option<Block>>, expected: &[Option<&Block>]| {
        assert_eq!(fetched.len(), expected.len());
        for (came, expected) in fetched.iter().zip(expected) {
            let known = |block: &Block| (block.item, block.shape.clone(), block.bytes().to_vec());
            assert_eq!(came.as_ref().map(known), expected.map(known));
            assert!(came.as_ref().is_none_or(|block| block.bytes().as_ptr().addr().is_multiple_of(64)), "aligned");
        }
    };
    let all: Vec<Option<&Block>> = brought.iter().map(Some).collect();
    check(fetch_all(&asker, worker, parcel(10, 15), None).unwrap(), &all);
    shelf.blocks.lock().unwrap().remove(&id(12));
    let missing = [None, all[0], all[1], None, all[3], all[4], None];
    check(fetch_all(&asker, worker, parcel(9, 16), None).unwrap(), &missing);
    check(fetch_all(&asker, worker, parcel(100, 100 + PARCEL_BLOCKS_MAX), None).unwrap(), &[None; 1024]);
    // A part of each: who has no such part has none.
    let part = fetch_all(&asker, worker, parcel(11, 14), Some(region(&[1], &[3]))).unwrap();
    check(
        part,
        &[Some(&Block::from_elements([2].into_iter().collect(), &brought[1].elements::<u32>()[1..])), None, None],
    );
    // A worker keeps all, or none.
    let refused = vec![vec![block(&[1])], vec![block(&[1]); 2]];
    assert_eq!(put_all(&asker, worker, parcel(20, 22), refused), Err(PutError::Refused { needs: 9, has: 5 }));
    // As many, and as large, as may be; and blocks of several fields.
    let most = vec![vec![block(&[PARCEL_BYTES_MAX / PARCEL_BLOCKS_MAX / 4])]; PARCEL_BLOCKS_MAX as usize];
    assert_eq!(put_all(&asker, worker, parcel(0, PARCEL_BLOCKS_MAX), most.clone()), Ok(()));
    let all: Vec<Option<&Block>> = most.iter().flatten().map(Some).collect();
    check(fetch_all(&asker, worker, parcel(0, PARCEL_BLOCKS_MAX), None).unwrap(), &all);
    // What is beyond what may travel together is as if it were not there.
    let large = block(&[PARCEL_BYTES_MAX / 4 - 1]);
    shelf.blocks.lock().unwrap().extend([(id(30), large.clone()), (id(31), large.clone()), (id(32), block(&[]))]);
    check(fetch_all(&asker, worker, parcel(30, 33), None).unwrap(), &[Some(&large), None, Some(&block(&[]))]);
    // One block more is refused by who keeps to the rules, and harms nobody.
    let beyond = vec![vec![block(&[1])]; PARCEL_BLOCKS_MAX as usize + 1];
    assert_eq!(put_all(&asker, worker, parcel(0, PARCEL_BLOCKS_MAX + 1), beyond), Err(PutError::Unreachable));
    assert!(fetch(&asker, worker, id(0), None).is_ok());
}

/// What is copied is over once it is written: also to one who never reads it.
#[test]
fn small_answers_wait_for_nobody() {
    let cluster = Cluster::new();
    let (shelf, worker, bulk, asker) = shelf_and_asker(&cluster);
    let wire = Wire::to(bulk.address().unwrap());
    asker.meet(worker, wire.address.to_string());
    shelf.blocks.lock().unwrap().insert(id(0), block(&[PARCEL_BYTES_MAX / 4]));
    assert!(fetch(&asker, worker, id(0), None).is_ok());
    shelf.wait_left(1);
}

/// Sixteen at once pass one after another where there is room for one.
#[test]
fn what_is_brought_waits_for_room() {
    let cluster = Cluster::new();
    let (shelf, worker, _bulk, asker) = shelf_and_asker(&cluster);
    let (tell, told) = mpsc::channel();
    for index in 0..16 {
        let tell = tell.clone();
        asker.put(worker, Parcel::one(id(index)), vec![vec![block(&[500_000])]], move |result| _ = tell.send(result));
    }
    (0..16).for_each(|_| assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(()))));
    assert_eq!(shelf.blocks.lock().unwrap().len(), 16);
}

#[test]
fn who_is_unknown_gone_or_another_is_unreachable() {
    let cluster = Cluster::new();
    let (_shelf, worker, bulk, asker) = shelf_and_asker(&cluster);
    let unreachable = Some(FetchError::Unreachable);
    assert_eq!(fetch(&asker, WorkerId(999), id(0), None).err(), unreachable, "nobody said where");
    // Another worker answers there: an id is never taken for another's.
    asker.meet(WorkerId(999), bulk.address().unwrap().to_string());
    assert_eq!(fetch(&asker, WorkerId(999), id(0), None).err(), unreachable);
    assert_eq!(put(&asker, WorkerId(999), id(0), vec![block(&[3])]), Err(PutError::Unreachable));
    assert_eq!(fetch(&asker, worker, id(0), None).err(), Some(FetchError::Missing), "it is there");
    drop(bulk);
    assert_eq!(fetch(&asker, worker, id(0), None).err(), unreachable, "its process has ended");
    asker.forget(worker);
    assert_eq!(fetch(&asker, worker, id(0), None).err(), unreachable);
}

#[test]
fn a_connection_that_nobody_uses_is_closed_and_dialled_again() {
    let cluster = Cluster::new();
    let (shelf, worker, bulk, asker) = shelf_and_asker(&cluster);
    shelf.blocks.lock().unwrap().insert(id(0), block(&[3]));
    assert!(fetch(&asker, worker, id(0), None).is_ok());
    asker.close_idle(Duration::from_secs(60));
    assert_eq!(asker.traffic().len(), 1, "it was used a moment ago");
    asker.close_idle(Duration::ZERO);
    assert_eq!(asker.traffic().len(), 0);
    assert!(fetch(&asker, worker, id(0), None).is_ok());
    assert_eq!(asker.traffic().len(), 1);
    drop(bulk);
}

#[test]
fn a_connection_that_was_closed_is_dialled_again() {
    let cluster = Cluster::new();
    let (shelf, worker, bulk, asker) = shelf_and_asker(&cluster);
    shelf.blocks.lock().unwrap().insert(id(0), block(&[5]));
    assert!(fetch(&asker, worker, id(0), None).is_ok());
    let address = bulk.address().unwrap().to_string();
    asker.forget(worker);
    asker.meet(worker, address);
    assert!(fetch(&asker, worker, id(0), None).is_ok());
}

/// Replies to be given, each with who asked.
type Asked = Vec<(usize, Reply)>;

/// Counts the questions that are open, and answers them all when told.
#[derive(Default)]
struct Gate {
    /// How many are open, the most there ever were, and each with who asked.
    open: Mutex<(usize, usize, Asked)>,
    more: Condvar,
}

#[test]
fn no_more_are_on_their_way_than_may_be() {
    const EACH: usize = 40;
    let cluster = Cluster::new();
    let gate = Arc::new(Gate::default());
    let (worker, bulk) = {
        let gate = Arc::clone(&gate);
        cluster.worker(move |_, question, reply| {
            let Question::Fetch { parcel, .. } = question else { panic!("nobody brings anything") };
            let mut open = gate.open.lock().unwrap();
            open.0 += 1;
            open.1 = open.1.max(open.0);
            open.2.push((parcel.blocks.start as usize / EACH, reply));
            gate.more.notify_all();
        })
    };
    // Seven that may have ten each would have 70 at once.
    let askers: Vec<Bulk> = (0..7).map(|_| cluster.asker()).collect();
    let (tell, told) = mpsc::channel();
    for (at, asker) in askers.iter().enumerate() {
        asker.meet(worker, bulk.address().unwrap().to_string());
        for index in 0..EACH {
            let tell = tell.clone();
            let parcel = Parcel::one(id((at * EACH + index) as u64));
            asker.fetch(worker, parcel, 0, None, move |fetched| _ = tell.send(alone(fetched).err()));
        }
    }
    let mut left = [EACH; 7];
    while left.iter().any(|&left| left > 0) {
        // Wait until as many are open as ever will be, then let them all go.
        let expected = REPLIES_MAX.min(left.iter().map(|&left| left.min(FETCHES_MAX)).sum());
        let mut open = gate.open.lock().unwrap();
        while open.0 < expected {
            let (next, timeout) = gate.more.wait_timeout(open, PATIENCE).unwrap();
            open = next;
            assert!(!timeout.timed_out(), "{} open of {expected}, left {left:?}", open.0);
        }
        drop(open);
        // Were there a hole in the cap, more would come now.
        thread::sleep(Duration::from_millis(50));
        let mut open = gate.open.lock().unwrap();
        open.0 = 0;
        let replies = std::mem::take(&mut open.2);
        drop(open);
        for (asker, reply) in replies {
            left[asker] -= 1;
            reply.answer(Answer::Data(vec![None]), || {});
        }
    }
    assert_eq!(gate.open.lock().unwrap().1, REPLIES_MAX);
    (0..7 * EACH).for_each(|_| assert_eq!(told.recv_timeout(PATIENCE), Ok(Some(FetchError::Missing))));
    // One alone has ten.
    let lone = &askers[0];
    (0..EACH).for_each(|index| lone.fetch(worker, Parcel::one(id(index as u64)), 0, None, |_| {}));
    let open = gate.open.lock().unwrap();
    let is_short = |open: &mut (usize, usize, Asked)| open.0 < FETCHES_MAX;
    drop(gate.more.wait_timeout_while(open, PATIENCE, is_short).unwrap());
    thread::sleep(Duration::from_millis(50));
    assert_eq!(gate.open.lock().unwrap().0, FETCHES_MAX);
}

#[test]
fn a_holder_that_falls_silent_is_noticed_and_its_reply_is_over() {
    let cluster = Cluster::new();
    let (ask, asked) = mpsc::channel();
    let ask = Mutex::new(ask);
    let (worker, bulk) = cluster.worker(move |_, _, reply| drop(ask.lock().unwrap().send(reply)));
    let wire = Wire::to(bulk.address().unwrap());
    let asker = cluster.asker();
    asker.meet(worker, wire.address.to_string());
    let (tell, told) = mpsc::channel();
    asker.fetch(worker, Parcel::one(id(0)), 0, None, move |result| _ = tell.send(result.err()));
    let reply = asked.recv_timeout(PATIENCE).unwrap();
    // Longer than the dead-time: a holder may think for as long as it is alive.
    assert!(told.recv_timeout(DEAD_AFTER + Duration::from_millis(500)).is_err());
    let cut = wire.cut();
    let (leave, left) = mpsc::channel();
    let part = Part { data: block(&[1 << 20]), region: None };
    reply.answer(Answer::Data(vec![Some(part)]), move || _ = leave.send(()));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Some(FetchError::Unreachable)));
    left.recv_timeout(PATIENCE).unwrap();
    let took = cut.elapsed();
    assert!(took < DEAD_AFTER + SLACK, "{took:?}");
}

#[test]
fn a_reply_that_is_forgotten_and_an_end_in_between_are_answers_too() {
    let cluster = Cluster::new();
    let (worker, bulk) = cluster.worker(|_, _, reply| drop(reply));
    let asker = cluster.asker();
    asker.meet(worker, bulk.address().unwrap().to_string());
    assert_eq!(fetch(&asker, worker, id(0), None).err(), Some(FetchError::Unreachable));
    let (tell, told) = mpsc::channel();
    (0..100).for_each(|index| {
        let tell = tell.clone();
        asker.fetch(worker, Parcel::one(id(index)), 0, None, move |result| _ = tell.send(result.err()));
    });
    drop(asker);
    (0..100).for_each(|_| assert_eq!(told.recv_timeout(PATIENCE), Ok(Some(FetchError::Unreachable))));
}

/// What is at the other end of control while bulk is busy answers all the same.
#[test]
fn control_answers_beside_bulk() {
    let door = Door::open();
    let dialer = Dialer::new().unwrap();
    let identity = dialer.join(&door.address(), &door.authority.token(), Role::Worker).unwrap();
    let (hear, heard) = mpsc::channel();
    let session = dialer.connect(&door.address(), &identity).unwrap();
    let control = session.start::<u64, u64>(move |received| drop(hear.send(received)));
    let echo: Arc<Mutex<Option<Control<u64>>>> = Arc::default();
    let accepted = door.sessions.recv_timeout(PATIENCE).unwrap();
    let answers = Arc::clone(&echo);
    *echo.lock().unwrap() = Some(accepted.start::<u64, u64>(move |received| {
        if let (Received::Message(number), Some(control)) = (received, &*answers.lock().unwrap()) {
            control.send(&number).unwrap();
        }
    }));
    let cluster = Cluster::new();
    let (shelf, worker, _bulk, asker) = shelf_and_asker(&cluster);
    shelf.blocks.lock().unwrap().insert(id(0), block(&[4, 1024, 1024]));
    let (tell, told) = mpsc::channel();
    for _ in 0..4 {
        let tell = tell.clone();
        asker.fetch(worker, Parcel::one(id(0)), 0, None, move |result| _ = tell.send(result.is_ok()));
    }
    let mut turns = 0;
    let mut fetched = 0;
    while fetched < 4 {
        control.send(&turns).unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(Received::Message(turns)));
        turns += 1;
        while let Ok(is_ok) = told.try_recv() {
            assert!(is_ok);
            fetched += 1;
        }
    }
    assert!(turns > 10, "{turns} round trips while 64 MiB passed");
    echo.lock().unwrap().take();
}

#[test]
fn a_renewed_identity_is_used_from_then_on() {
    let cluster = Cluster::new();
    let (shelf, worker, bulk, asker) = shelf_and_asker(&cluster);
    shelf.blocks.lock().unwrap().insert(id(0), block(&[5]));
    let party = Party { role: Role::Worker, id: worker.0 };
    let expired = now() - 3 * identity::CERTIFICATE_LIFETIME;
    let old = Arc::new(cluster.authority.identity(party, expired).unwrap());
    bulk.renewed(old).unwrap();
    assert_eq!(fetch(&asker, worker, id(0), None).err(), Some(FetchError::Unreachable), "it is expired");
    bulk.renewed(Arc::new(cluster.authority.identity(party, now()).unwrap())).unwrap();
    assert!(fetch(&asker, worker, id(0), None).is_ok());
}
