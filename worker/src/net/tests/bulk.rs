//! Blocks between workers.

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
use crate::shape::{Region, Shape};
use crate::wire::{BlockHeader, FetchError, PeerReply, PeerRequest};

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
            Question::Fetch { block, region, .. } => match blocks.get(&block) {
                Some(data) => Answer::Data(Part { data: data.clone(), region }),
                None => Answer::Missing,
            },
            Question::Put { fields, .. } if fields.len() != 1 => Answer::Refused { needs: 9, has: 5 },
            Question::Put { block, fields } => {
                blocks.extend(fields.into_iter().map(|field| (block, field)));
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

fn fetch(bulk: &Bulk, holder: WorkerId, block: BlockId, region: Option<Region>) -> Result<Block, FetchError> {
    let (tell, told) = mpsc::channel();
    bulk.fetch(holder, block, 0, region, move |result| _ = tell.send(result));
    told.recv_timeout(PATIENCE).unwrap()
}

fn put(bulk: &Bulk, holder: WorkerId, block: BlockId, fields: Vec<Block>) -> Result<(), PutError> {
    let (tell, told) = mpsc::channel();
    bulk.put(holder, block, fields, move |result| _ = tell.send(result));
    told.recv_timeout(PATIENCE).unwrap()
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
            reply.answer(Answer::Data(part), || {});
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

/// Sixteen at once pass one after another where there is room for one.
#[test]
fn what_is_brought_waits_for_room() {
    let cluster = Cluster::new();
    let (shelf, worker, _bulk, asker) = shelf_and_asker(&cluster);
    let (tell, told) = mpsc::channel();
    for index in 0..16 {
        let tell = tell.clone();
        asker.put(worker, id(index), vec![block(&[500_000])], move |result| _ = tell.send(result));
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
            let Question::Fetch { block, .. } = question else { panic!("nobody brings anything") };
            let mut open = gate.open.lock().unwrap();
            open.0 += 1;
            open.1 = open.1.max(open.0);
            open.2.push((block.index as usize / EACH, reply));
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
            asker.fetch(worker, id((at * EACH + index) as u64), 0, None, move |result| _ = tell.send(result.err()));
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
            reply.answer(Answer::Missing, || {});
        }
    }
    assert_eq!(gate.open.lock().unwrap().1, REPLIES_MAX);
    (0..7 * EACH).for_each(|_| assert_eq!(told.recv_timeout(PATIENCE), Ok(Some(FetchError::Missing))));
    // One alone has ten.
    let lone = &askers[0];
    (0..EACH).for_each(|index| lone.fetch(worker, id(index as u64), 0, None, |_| {}));
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
    asker.fetch(worker, id(0), 0, None, move |result| _ = tell.send(result.err()));
    let reply = asked.recv_timeout(PATIENCE).unwrap();
    // Longer than the dead-time: a holder may think for as long as it is alive.
    assert!(told.recv_timeout(DEAD_AFTER + Duration::from_millis(500)).is_err());
    let cut = wire.cut();
    let (leave, left) = mpsc::channel();
    reply.answer(Answer::Data(Part { data: block(&[1 << 20]), region: None }), move || _ = leave.send(()));
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
        asker.fetch(worker, id(index), 0, None, move |result| _ = tell.send(result.err()));
    });
    drop(asker);
    (0..100).for_each(|_| assert_eq!(told.recv_timeout(PATIENCE), Ok(Some(FetchError::Unreachable))));
}

/// Whoever has no certificate, or the scheduler's, gets no block; nor does one whose requests are none.
#[test]
fn strangers_and_malformed_requests_are_refused() {
    let cluster = Cluster::new();
    let (shelf, worker, bulk, asker) = shelf_and_asker(&cluster);
    shelf.blocks.lock().unwrap().insert(id(0), block(&[5]));
    let (rogue, address) = (Rogue::new(), bulk.address().unwrap());
    let party = Expected::Party(Party { role: Role::Worker, id: worker.0 });
    let connect =
        |identity: Option<&Identity>| rogue.connect(address, &cluster.authority, identity, party, Purpose::Bulk);
    assert_eq!(rogue.end(&connect(None).unwrap()), NetError::Refused(Refusal::Stranger));
    let forged = Authority::new().unwrap().identity(Party { role: Role::Worker, id: 1 }, now()).unwrap();
    assert_eq!(rogue.end(&connect(Some(&forged)).unwrap()), NetError::Refused(Refusal::Stranger));
    let scheduler = cluster.authority.scheduler(now()).unwrap();
    let end = rogue.end(&connect(Some(&scheduler)).unwrap());
    assert!(matches!(end, NetError::Refused(Refusal::Stranger | Refusal::Unexpected)), "{end}");

    let member = cluster.identity(Role::Client);
    let huge = BlockHeader { item: Item::Value(DType::F64), shape: [u64::MAX, 3].into_iter().collect() };
    let put = PeerRequest::Put { request: crate::wire::RequestId(1), block: id(1), fields: vec![huge] };
    let mut put_bytes = Vec::new();
    crate::wire::codec::write_frame(&put, &mut put_bytes).unwrap();
    let cases = [
        (vec![0xff; 4], Refusal::TooLong),
        (put_bytes, Refusal::TooLong),
        (vec![3, 0, 0, 0, 0xff, 0xff, 0xff], Refusal::Malformed),
    ];
    for (bytes, refusal) in cases {
        let connection = connect(Some(&member)).unwrap();
        let sent = rogue.does(async {
            super::super::hello::greet(&connection).await?;
            let (mut send, _receive) = connection.open_bi().await?;
            send.write_all(&bytes).await?;
            Ok(connection.closed().await.into())
        });
        assert_eq!(sent, Ok(NetError::Refused(refusal)), "{bytes:?}");
    }
    assert!(fetch(&asker, worker, id(0), None).is_ok(), "unharmed");
}

/// A holder that lies about what it sends costs no memory and is answered for.
#[test]
fn a_holder_that_lies_is_unreachable() {
    let cluster = Cluster::new();
    let identity = cluster.identity(Role::Worker);
    let worker = WorkerId(identity.party().id);
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let verifier = PeerVerifier::new(identity.authority(), Expected::Member);
    let crypto = tls::server(&identity, verifier, &[Purpose::Bulk]).unwrap();
    let liar = runtime
        .block_on(async { quinn::Endpoint::server(tuning::server(crypto, tuning::bulk(9, 1452)), ANY_PORT).unwrap() });
    let address = liar.local_addr().unwrap().to_string();
    runtime.spawn(async move {
        let connection = liar.accept().await.unwrap().await.unwrap();
        let _hello = welcome(&connection).await.unwrap();
        for lie in 0.. {
            let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
            let request: PeerRequest = frame::read(&mut receive, 1 << 16).await.unwrap();
            let PeerRequest::Fetch { request, .. } = request else { return };
            let item = Item::Value(DType::U32);
            let shape = |lengths: &[u64]| lengths.iter().copied().collect::<Shape>();
            let reply = match lie {
                0 => PeerReply::Data { request, header: BlockHeader { item, shape: shape(&[1 << 40]) } },
                1 => PeerReply::Data { request, header: BlockHeader { item, shape: shape(&[7]) } },
                2 => PeerReply::Stored { request },
                3 => PeerReply::Missing { request: crate::wire::RequestId(request.0 + 1) },
                // Less than it promised.
                _ => PeerReply::Data { request, header: BlockHeader { item, shape: shape(&[3]) } },
            };
            frame::write(&mut send, &reply).await.unwrap();
            send.write_all(&[1; 11]).await.unwrap();
            let _ = send.finish();
        }
    });
    let asker = cluster.asker();
    asker.meet(worker, address);
    for _ in 0..6 {
        let part = Some(region(&[0], &[3]));
        assert_eq!(fetch(&asker, worker, id(0), part).err(), Some(FetchError::Unreachable));
    }
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
        asker.fetch(worker, id(0), 0, None, move |result| _ = tell.send(result.is_ok()));
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
