//! Whoever begins something at a door for blocks and does not go on is given up, and what was kept for it is free again.
//! All of them at once: each takes as long as it is waited for.

use std::sync::Mutex;

use quinn::{RecvStream, SendStream};

use super::super::bulk::STALL_LIMIT;
use super::super::frame;
use super::super::hello::{greet, welcome};
use super::*;
use crate::agent::{Answer, Part};
use crate::block::{Block, BufferMut, Item};
use crate::dtype::DType;
use crate::ids::{ArrayId, BlockId, ClientId, WorkerId};
use crate::shape::Shape;
use crate::wire::{BlockHeader, FetchError, Parcel, PeerReply, PeerRequest, RequestId};

/// The memory for what others bring.
const PUT_BYTES_MAX: u64 = 4 << 20;

const BLOCK: BlockId = BlockId { array: ArrayId { client: ClientId(1), sequence: 1 }, index: 0 };

/// Of a block of so many bytes.
fn header(bytes: u64) -> BlockHeader {
    BlockHeader { item: Item::Value(DType::U32), shape: [bytes / 4].into_iter().collect() }
}

fn block(bytes: u64) -> Block {
    let shape: Shape = [bytes / 4].into_iter().collect();
    Block::new(Item::Value(DType::U32), shape, BufferMut::zeroed(bytes as usize).freeze())
}

fn fetch_of(block: BlockId) -> PeerRequest {
    PeerRequest::Fetch { request: RequestId(1), parcel: Parcel::one(block), field: 0, region: None }
}

fn put_of(header: BlockHeader) -> PeerRequest {
    PeerRequest::Put { request: RequestId(1), parcel: Parcel::one(BLOCK), headers: vec![vec![header]] }
}

/// A reply to whatever is asked that promises a block.
fn promise(request: PeerRequest) -> PeerReply {
    let PeerRequest::Fetch { request, .. } = request else { panic!("nobody brings anything") };
    PeerReply::Data { request, headers: vec![Some(header(1 << 20))] }
}

struct Scene {
    authority: Authority,
    rogue: Rogue,
}

impl Scene {
    fn identity(&self, role: Role) -> Arc<Identity> {
        Arc::new(self.authority.identity(self.authority.new_party(role), now()).unwrap())
    }

    /// A worker that keeps what it is brought; what it is asked for is a large block, and `left` hears when that has
    /// left. Questions for block 1 are never answered.
    fn holder(&self, left: mpsc::Sender<Instant>) -> (WorkerId, Bulk) {
        let (identity, kept) = (self.identity(Role::Worker), Mutex::new(Vec::new()));
        let worker = WorkerId(identity.party().id);
        let options = BulkOptions { listen: Some(ANY_PORT), put_bytes_max: PUT_BYTES_MAX, ..BulkOptions::default() };
        let asked = move |_, question: Question, reply: Reply| match question {
            Question::Put { .. } => reply.answer(Answer::Stored, || {}),
            Question::Fetch { parcel, .. } if parcel.blocks.contains(1) => kept.lock().unwrap().push(reply),
            Question::Fetch { .. } => {
                let left = left.clone();
                let part = Part { data: block(16 << 20), region: None };
                reply.answer(Answer::Data(vec![Some(part)]), move || _ = left.send(Instant::now()));
            }
        };
        (worker, Bulk::open(identity, options, asked).unwrap())
    }

    /// A worker that promises a block and sends nothing of it.
    fn promiser(&self) -> (WorkerId, String) {
        let identity = self.identity(Role::Worker);
        let verifier = PeerVerifier::new(identity.authority(), Expected::Member);
        let crypto = tls::server(&identity, verifier, &[Purpose::Bulk]).unwrap();
        let config = tuning::server(crypto, tuning::bulk(9, 1452));
        let endpoint = self.rogue.does(async { Ok(quinn::Endpoint::server(config, ANY_PORT).unwrap()) }).unwrap();
        let address = endpoint.local_addr().unwrap().to_string();
        self.rogue.runtime.spawn(async move {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            let _hello = welcome(&connection).await.unwrap();
            let (mut send, mut receive) = connection.accept_bi().await.unwrap();
            let reply = promise(frame::read(&mut receive, 1 << 16).await.unwrap());
            frame::write(&mut send, &reply).await.unwrap();
            connection.closed().await;
        });
        (WorkerId(identity.party().id), address)
    }

    fn connect(&self, worker: WorkerId, bulk: &Bulk) -> Connection {
        let (expected, member) =
            (Expected::Party(Party { role: Role::Worker, id: worker.0 }), self.identity(Role::Client));
        let address = bulk.address().unwrap();
        self.rogue.connect(address, &self.authority, Some(&member), expected, Purpose::Bulk).unwrap()
    }

    /// A stream on which `bytes` are said, and nothing more.
    fn says(&self, connection: &Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
        let says = async {
            let (mut send, receive) = connection.open_bi().await?;
            send.write_all(bytes).await?;
            Ok((send, receive))
        };
        self.rogue.does(says).unwrap()
    }
}

fn asked(asker: &Bulk, worker: WorkerId, block: BlockId) -> mpsc::Receiver<(Option<FetchError>, Instant)> {
    let (tell, told) = mpsc::channel();
    asker.fetch(worker, Parcel::one(block), 0, None, move |result| _ = tell.send((result.err(), Instant::now())));
    told
}

#[test]
fn whoever_stalls_is_given_up() {
    let scene = Scene { authority: Authority::new().unwrap(), rogue: Rogue::new() };
    let (leave, left) = mpsc::channel();
    let (worker, bulk) = scene.holder(leave);
    let (promiser, address) = scene.promiser();
    let asker = Bulk::open(scene.identity(Role::Client), BulkOptions::default(), |_, _, _| {}).unwrap();
    asker.meet(worker, bulk.address().unwrap().to_string());
    asker.meet(promiser, address);
    let begun = Instant::now();
    // One that says nothing at all.
    let silent = scene.connect(worker, &bulk);
    let connection = scene.connect(worker, &bulk);
    let _hello = scene.rogue.does(greet(&connection)).unwrap();
    // One that says half a length, one that reads nothing of what it asked for, one that brings half of what it said.
    let (_half, mut half_answer) = scene.says(&connection, &[7, 0]);
    let _unread = scene.says(&connection, &frame::framed(&fetch_of(BLOCK)).unwrap());
    let head = frame::framed(&put_of(header(PUT_BYTES_MAX))).unwrap();
    let _brings = scene.says(&connection, &[head, vec![0; 1 << 20]].concat());
    // Holders that do not answer, or not to the end.
    let unanswered = asked(&asker, worker, BlockId { index: 1, ..BLOCK });
    let promised = asked(&asker, promiser, BLOCK);

    let limit = |at: Instant| assert!(at - begun >= STALL_LIMIT.min(HANDSHAKE_LIMIT), "too soon: {:?}", at - begun);
    assert_eq!(scene.rogue.end(&silent), NetError::Refused(Refusal::Slow));
    limit(Instant::now());
    let answer = scene.rogue.does(async { Ok(half_answer.read_to_end(9).await.unwrap_or_default()) });
    assert_eq!(answer, Ok(Vec::new()), "its stream ends without an answer");
    for told in [unanswered, promised] {
        let (error, at) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(error, Some(FetchError::Unreachable));
        limit(at);
    }
    limit(left.recv_timeout(PATIENCE).expect("what nobody reads is not kept for ever"));
    // There is room again for what others bring, which takes all of it.
    let (tell, told) = mpsc::channel();
    asker.put(worker, Parcel::one(BLOCK), vec![vec![block(PUT_BYTES_MAX)]], move |stored| _ = tell.send(stored));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(())));
    assert!(connection.close_reason().is_none(), "a stream that is given up is not its connection's end");
}
