//! Every decoder against what no one should send: messages of the corpus with bytes changed, cut, doubled and added,
//! and bytes of chance alone, for a second each from one seed. Nothing panics, and nothing grows: what a decoder makes
//! of bytes is never more than they were.
//!
//! The corpus (`corpus/<decoder>/`) also holds what was refused once; a file that decodes must go on decoding, for it
//! is what another process of this version says. `GRIDLOOM_WRITE_CORPUS=1` writes its first entries anew.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::identity::{CertificateRequest, Token};
use super::super::join::{JoinReply, JoinRequest};
use super::*;
use crate::block::{Block, Item, SmallBlock};
use crate::dtype::DType;
use crate::executor::ExecuteError;
use crate::ids::{ArrayId, BlockId, ClientId, KernelHash, WorkerId};
use crate::intervals::Interval;
use crate::shape::{Region, Shape};
use crate::wire::codec::frame_length;
use crate::wire::{
    BlockHeader, BulkTraffic, DeviceClass, FetchError, FromWorker, KernelBytes, PeerReply, PeerRequest, Plan, Register,
    RequestId, Run, ToScheduler, ToWorker, Whereabouts, decode, encode,
};

/// How long each decoder is tried.
const TRIED: Duration = Duration::from_secs(1);

/// SplitMix64: chance that is the same every time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Bytes of chance, or an entry with a few things done to it.
    fn bytes(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        if self.below(8) == 0 {
            let length = self.below(200);
            return (0..length).map(|_| self.next() as u8).collect();
        }
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.next() as u8),
                2 => bytes.extend_from_within(at.min(bytes.len())..),
                // The longest varint: lengths and numbers beyond all bounds.
                3 if !bytes.is_empty() => drop(bytes.splice(at..=at, [0xff; 9].into_iter().chain([1]))),
                4 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                _ if !bytes.is_empty() => bytes[at] = self.next() as u8,
                _ => {}
            }
        }
        bytes
    }
}

/// Tries a decoder that says how many bytes what it made would take again.
#[track_caller]
fn try_decoder(name: &str, first: Vec<Vec<u8>>, decoder: impl Fn(&[u8]) -> Option<usize>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/net/tests/corpus").join(name);
    if std::env::var_os("GRIDLOOM_WRITE_CORPUS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for (at, entry) in first.iter().enumerate() {
            fs::write(folder.join(format!("good-{at}")), entry).unwrap();
        }
    }
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut corpus = first;
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let is_good = file.file_name().unwrap().to_string_lossy().starts_with("good");
        assert_eq!(decoder(&bytes).is_some(), is_good, "{}", file.display());
        corpus.push(bytes);
    }
    let (mut chance, begun, mut tries) = (Chance(7), Instant::now(), 0u64);
    while begun.elapsed() < TRIED {
        let bytes = chance.bytes(&corpus);
        if let Some(made) = decoder(&bytes) {
            assert!(made <= bytes.len(), "{name}: {made} bytes of {bytes:?}");
        }
        tries += 1;
    }
    assert!(tries > 100, "{name}: {tries} tries");
}

/// A message's decoder.
fn message<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<usize> {
    decode::<T>(bytes).ok().map(|message| encode(&message).unwrap().len())
}

fn encoded<T: Serialize>(messages: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    messages.into_iter().map(|message| encode(&message).unwrap()).collect()
}

fn array() -> ArrayId {
    ArrayId { client: ClientId(3), sequence: 300 }
}

fn block() -> BlockId {
    BlockId { array: array(), index: 70_000 }
}

fn header() -> BlockHeader {
    BlockHeader { item: Item::Value(DType::F32), shape: [1000, 30].into_iter().collect() }
}

#[test]
fn hello() {
    try_decoder("hello", encoded([Hello::ours()]), message::<Hello>);
}

#[test]
fn join() {
    let request = JoinRequest { role: Role::Worker, request: vec![0x30; 100], proof: [0xa5; 32] };
    try_decoder("join-request", encoded([request]), message::<JoinRequest>);
    let reply = JoinReply { certificate: vec![0x30; 300], issuer: vec![0x31; 200], proof: [0x5a; 32] };
    try_decoder("join-reply", encoded([reply]), message::<JoinReply>);
}

#[test]
fn to_worker() {
    let worker = WorkerId(5);
    let inputs = vec![Whereabouts { array: array(), blocks: Interval::one(9), holders: vec![worker] }];
    let run = Run { array: array(), blocks: Interval { start: 3, end: 900 }, attempt: 1, bytes_spare: 64, inputs };
    let kernel = KernelBytes { hash: KernelHash([7; 32]), source: vec![1, 2, 3].into() };
    let messages = [
        ToWorker::Welcome { worker },
        ToWorker::Peer { worker, address: "[::1]:8786".to_owned() },
        ToWorker::PeerGone { worker },
        ToWorker::Kernel(kernel),
        ToWorker::Run(run),
        ToWorker::Free { array: array(), blocks: vec![Interval::one(1), Interval { start: 4, end: 40 }] },
        ToWorker::Close,
    ];
    try_decoder("to-worker", encoded(messages), message::<ToWorker>);
}

#[test]
fn from_worker() {
    let register = Register {
        name: "node7".to_owned(),
        class: DeviceClass::Gpu("vulkan".to_owned()),
        address: "10.0.0.7:41234".to_owned(),
        ..Register::of_cpu("gpu", 8, 8 << 30)
    };
    try_decoder("register", encoded([ToScheduler::Register(register)]), message::<ToScheduler>);
    let busy = Duration::from_micros(1234);
    let error = ExecuteError::Source { path: "x.npy".to_owned(), what: "is gone".to_owned() };
    let fields = [Block::from_elements(Shape::ones(1), &[1.5f64]), Block::from_elements(Shape::ones(2), &[7i64])];
    let result = SmallBlock::of(&fields);
    let messages = [
        FromWorker::Done { array: array(), blocks: vec![Interval::one(7)], bytes: 4096, busy, result: None },
        FromWorker::Failed { array: array(), block: 1, attempt: 2, error },
        FromWorker::FetchFailed { block: block(), input: block(), holder: None, error: FetchError::Missing },
        FromWorker::Leaving,
        FromWorker::Done { array: array(), blocks: vec![Interval::one(0)], bytes: 24, busy, result },
    ];
    let bulk = ToScheduler::Bulk(BulkTraffic { bytes_sent: 1 << 40, ..BulkTraffic::default() });
    let messages = messages.map(ToScheduler::Worker).into_iter().chain([bulk]);
    try_decoder("from-worker", encoded(messages), message::<ToScheduler>);
}

#[test]
fn peer_request() {
    let region = Region { start: Shape::zeros(2), end: [10, 20].into_iter().collect() };
    let request = RequestId(12);
    let messages = [
        PeerRequest::Fetch { request, block: block(), field: 0, region: None },
        PeerRequest::Fetch { request, block: block(), field: 1, region: Some(region) },
        PeerRequest::Put { request, block: block(), fields: vec![header(), header()] },
    ];
    try_decoder("peer-request", encoded(messages), |bytes| {
        let request = decode::<PeerRequest>(bytes).ok()?;
        if let PeerRequest::Put { fields, .. } = &request {
            // What is asked of a header before it is used.
            assert!(fields.iter().filter_map(BlockHeader::bytes).all(|bytes| bytes <= crate::block::BLOCK_BYTES_MAX));
        }
        Some(encode(&request).unwrap().len())
    });
}

#[test]
fn peer_reply() {
    let request = RequestId(12);
    let messages = [
        PeerReply::Data { request, header: header() },
        PeerReply::Missing { request },
        PeerReply::Refused { request, needs: 1 << 40, has: 0 },
    ];
    try_decoder("peer-reply", encoded(messages), message::<PeerReply>);
}

#[test]
fn plan() {
    let kernel = KernelBytes { hash: KernelHash([1; 32]), source: vec![9; 20].into() };
    let plan = Plan { kernels: vec![kernel], stages: Vec::new(), outputs: vec![array()] };
    try_decoder("plan", encoded([plan]), message::<Plan>);
}

/// The four bytes before a message.
#[test]
fn length() {
    const BYTES_MAX: usize = 1000;
    try_decoder("length", vec![vec![0xe8, 3, 0, 0], vec![0; 4]], |bytes| {
        let length = frame_length(bytes.try_into().ok()?, BYTES_MAX).ok()?;
        assert!(length <= BYTES_MAX);
        Some(0)
    });
}

#[test]
fn token() {
    let text = format!("gl1.{}.{}", "0a".repeat(32), "b1".repeat(16)).into_bytes();
    try_decoder("token", vec![text], |bytes| {
        let token: Token = std::str::from_utf8(bytes).ok()?.parse().ok()?;
        Some(token.reveal().len())
    });
}

/// What a stranger may show as its certificate, or ask to have certified.
#[test]
fn certificates_and_requests() {
    let authority = Authority::new().unwrap();
    let worker = authority.new_party(Role::Worker);
    let certificate = authority.identity(worker, now()).unwrap().chain()[0].to_vec();
    let request = CertificateRequest::new().unwrap().der().to_vec();
    try_decoder("certificate", vec![certificate, request], |bytes| {
        let is_signed = authority.sign(bytes, worker, now()).is_ok();
        let is_named = super::super::identity::party_of(&bytes.to_vec().into()).is_ok();
        (is_signed || is_named).then_some(0)
    });
}
