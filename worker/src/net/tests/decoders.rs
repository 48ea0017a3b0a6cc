//! Every decoder against what no one should send: see [`fuzz`].

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::identity::{CertificateRequest, Token};
use super::super::join::{JoinReply, JoinRequest};
use super::*;
use crate::block::{Block, Item, SmallBlock};
use crate::dtype::{DType, Scalar};
use crate::executor::ExecuteError;
use crate::fuzz;
use crate::grid::Grid;
use crate::ids::{ArrayId, BlockId, ClientId, KernelHash, WorkerId};
use crate::intervals::Interval;
use crate::shape::{Region, Shape};
use crate::stage::{
    BlockCall, Body, ChunkStep, Distribution, Fold, Leaf, Map, NpyFile, Piece, Program, Random, ReduceOp, Reduction,
    Relabel, Source, Stage, Step, Stored, Value,
};
use crate::view::{AxisRead, View};
use crate::wire::codec::frame_length;
use crate::wire::peer::PARCEL_BYTES_MAX;
use crate::wire::{
    BlockHeader, BulkTraffic, DeviceClass, FetchError, FromWorker, KernelBytes, Parcel, PeerReply, PeerRequest, Plan,
    Register, RequestId, Run, ToScheduler, ToWorker, Whereabouts, decode, encode,
};

/// Tries a decoder whose corpus is beside this file.
#[track_caller]
fn try_decoder(name: &str, first: Vec<Vec<u8>>, decoder: impl Fn(&[u8]) -> Option<usize>) {
    fuzz::try_decoder(&format!("src/net/tests/corpus/{name}"), first, decoder);
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

/// Three blocks.
fn parcel() -> Parcel {
    Parcel { array: array(), blocks: Interval::new(70_000, 70_003) }
}

/// Of a block that travels with others.
fn small() -> BlockHeader {
    BlockHeader { item: Item::Value(DType::I64), shape: [1].into_iter().collect() }
}

/// A stage of every kind. The first reads from every source, by every kind of view, and reduces what a program makes.
fn stages() -> Vec<Arc<Stage>> {
    let shape: Shape = [60, 70].into_iter().collect();
    let grid = Grid::regular(&shape, &[7, 9]);
    let map = map(&shape, &grid);
    let reduction = Reduction { op: ReduceOp::User(KernelHash([8; 32])), inputs: vec![DType::I32, DType::F64] };
    let fold = Fold { input: array(), reduction, kept: grid.clone(), count: 70_000, fan_in: 64, finish: true };
    let inputs = Map { reduce: None, ..map.clone() };
    let bodies = [
        Body::Map(map),
        Body::Fold(fold),
        Body::Relabel(Relabel { input: array(), field: 1, grid: grid.clone() }),
        Body::Block(BlockCall { inputs, kernel: KernelHash([9; 32]), output: grid }),
    ];
    let outputs = vec![Item::Value(DType::Bool), Item::Partial { bytes: 24 }];
    let stage =
        |body| Stage { array: array(), body, outputs: outputs.clone(), bytes_output: 8 << 20, bytes_peak: 1 << 30 };
    bodies.map(|body| Arc::new(stage(body))).into()
}

fn map(shape: &Shape, grid: &Grid) -> Map {
    let npy = NpyFile {
        path: "/data/x.npy".into(),
        bytes: 16_928,
        mtime_ns: -1,
        header: [7; 32],
        offset: 128,
        stored: Stored::I16,
        big_endian: true,
        shape: shape.clone(),
        fortran: true,
    };
    let random = Random {
        distribution: Distribution::Normal,
        dtype: DType::F64,
        shape: shape.clone(),
        seed: u64::MAX,
        stream: 2,
    };
    let (start, step, shape_of) = (Scalar::I64(-3), Scalar::I64(i64::MIN), || shape.clone());
    let sources = [
        Source::Array { array: array(), field: 2, grid: grid.clone() },
        Source::Constant(Scalar::F32(0.5)),
        Source::Iota { start, step, shape: shape_of() },
        Source::Linspace { start: 0.0, stop: 1.0, step: 0.25, last: 4, shape: shape_of() },
        Source::Random(random),
        Source::Literal { shape: shape_of(), bytes: vec![1; 40].into() },
        Source::Npy(npy),
    ];
    let axes = vec![AxisRead::Along { axis: 1, start: 69, step: -1 }, AxisRead::Fixed(3)];
    let view = View { domain: Region::whole(shape), axes };
    let leaf = |source| Leaf { dtype: DType::I64, pieces: vec![Piece { source, view: view.clone() }] };
    let value = Value::Step { step: 0, field: 1 };
    let step = Step { kernel: KernelHash([6; 32]), arguments: vec![Value::Leaf(0), value] };
    let reduction = Reduction { op: ReduceOp::Var { ddof: 1.0 }, inputs: vec![DType::F32] };
    Map {
        grid: grid.clone(),
        leaves: sources.map(leaf).into(),
        program: Program { steps: vec![step], results: vec![value] },
        reduce: Some(ChunkStep { reduction, axes: vec![false, true], finish: false }),
    }
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
        ToWorker::Keep { array: array(), blocks: Interval::one(7), fields: 2, bytes: 1 << 20, holder: worker },
        ToWorker::Forget { array: array() },
        ToWorker::ForgetClient { client: ClientId(3) },
    ];
    let stages = stages().into_iter().map(|stage| ToWorker::Stage { stage, depth: 3, is_result: true });
    try_decoder("to-worker", encoded(messages.into_iter().chain(stages)), message::<ToWorker>);
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
    let (kernel, barrier) = ("f".to_owned(), "workgroupBarrier".to_owned());
    let barrier = ExecuteError::Barrier { kernel, barrier, line: 7, reached: 1, invocations: 64 };
    let fields = [Block::from_elements(Shape::ones(1), &[1.5f64]), Block::from_elements(Shape::ones(2), &[7i64])];
    let result = SmallBlock::of(&fields);
    let messages = [
        FromWorker::Done { array: array(), blocks: vec![Interval::one(7)], bytes: 4096, busy, result: None },
        FromWorker::Failed { array: array(), block: 1, attempt: 2, error },
        FromWorker::FetchFailed { block: block(), input: block(), holder: None, error: FetchError::Missing },
        FromWorker::Leaving,
        FromWorker::Refused { array: array(), blocks: vec![Interval { start: 3, end: 900 }], needs: 1 << 40, has: 7 },
        FromWorker::Failed { array: array(), block: 70_000, attempt: 1, error: barrier },
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
        PeerRequest::Fetch { request, parcel: Parcel::one(block()), field: 0, region: None },
        PeerRequest::Fetch { request, parcel: parcel(), field: 1, region: Some(region) },
        PeerRequest::Put { request, parcel: Parcel::one(block()), headers: vec![vec![header(), header()]] },
        PeerRequest::Put { request, parcel: parcel(), headers: vec![vec![small()]; 3] },
    ];
    try_decoder("peer-request", encoded(messages), |bytes| {
        let request = decode::<PeerRequest>(bytes).ok()?;
        if let PeerRequest::Put { parcel, headers, .. } = &request
            && let Some(bytes) = parcel.bytes(headers.iter().flatten())
        {
            // What is asked of headers before they are used.
            assert!(parcel.blocks.count() <= 1 || bytes <= PARCEL_BYTES_MAX);
            assert!(parcel.ids().len() as u64 == parcel.blocks.count());
        }
        Some(encode(&request).unwrap().len())
    });
}

#[test]
fn peer_reply() {
    let request = RequestId(12);
    let messages = [
        PeerReply::Data { request, headers: vec![Some(header())] },
        PeerReply::Data { request, headers: vec![Some(small()), None, Some(small())] },
        PeerReply::Refused { request, needs: 1 << 40, has: 0 },
        PeerReply::Stored { request },
    ];
    try_decoder("peer-reply", encoded(messages), message::<PeerReply>);
}

#[test]
fn plan() {
    let kernel = KernelBytes { hash: KernelHash([1; 32]), source: vec![9; 20].into() };
    let empty = Plan { kernels: vec![kernel], stages: Vec::new(), outputs: vec![array()] };
    let full = Plan { stages: stages(), ..empty.clone() };
    try_decoder("plan", encoded([empty, full]), message::<Plan>);
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
