//! What clients and the scheduler say to each other, against what no one should send: see [`fuzz`](crate::fuzz).

use std::time::Duration;

use gridloom_worker::block::{Block, SmallBlock};
use gridloom_worker::executor::ExecuteError;
use gridloom_worker::ids::{ArrayId, BlockId, ClientId, JobId};
use gridloom_worker::intervals::Interval;
use gridloom_worker::shape::Shape;
use gridloom_worker::wire::{self, DeviceClass, FetchError, Register};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::array::Array;
use crate::fuzz::try_decoder;
use crate::plan::{ArrayIds, plan};
use crate::scheduler::{Chapter, Happening, Holding, JobError, PlanFault, StageFault, Wanted, WorkerStatus};

const CLIENT: ClientId = ClientId(3 << 32 | 7);

fn try_messages<T: Serialize + DeserializeOwned>(name: &str, messages: impl IntoIterator<Item = T>) {
    let first = messages.into_iter().map(|message| wire::encode(&message).unwrap()).collect();
    try_decoder(&format!("src/client/wire/corpus/{name}"), first, |bytes| {
        let message: T = wire::decode(bytes).ok()?;
        Some(wire::encode(&message).unwrap().len())
    });
}

fn array() -> ArrayId {
    ArrayId { client: CLIENT, sequence: 300 }
}

fn block() -> BlockId {
    BlockId { array: array(), index: 70_000 }
}

fn job() -> JobId {
    JobId { client: CLIENT, sequence: 12 }
}

fn holding() -> Holding {
    Holding { blocks: Interval::new(3, 900), worker: WorkerId(5) }
}

fn register() -> Register {
    let class = DeviceClass::Gpu("vulkan".to_owned());
    Register {
        name: "node7".to_owned(),
        class,
        address: "[::1]:41234".to_owned(),
        ..Register::of_cpu("gpu", 8, 8 << 30)
    }
}

#[test]
fn client_says() {
    // Views, a random source, programs, a chunk step and a fold.
    let x = Array::random([600, 70]).chunks([7, 70]);
    let standard = (&x - &x.mean(0)).std(()) + x.transpose().sum(());
    let plan = plan(&[standard, x.rechunk([11, 20])], &mut ArrayIds::new(CLIENT)).unwrap().wire();
    let classes = vec![DeviceClass::Cpu, DeviceClass::Gpu("metal".to_owned())];
    let (request, blocks) = (12, Interval::new(3, 900));
    let messages = [
        FromClient::Submit { job: job(), plan, classes },
        FromClient::Cancel { job: job() },
        FromClient::Release { arrays: vec![array(); 3] },
        FromClient::Scattered { array: array(), blocks: 900, fields: 2, bytes: 1 << 20, holders: vec![holding(); 2] },
        FromClient::Locate { request, array: array(), blocks },
        FromClient::Stream { request, array: array() },
        FromClient::Taken { array: array(), blocks: vec![blocks, Interval::one(2000)] },
        FromClient::FetchFailed { block: block(), holder: WorkerId(5), error: FetchError::Missing },
        FromClient::Close,
    ];
    try_messages("client-says", messages.map(ClientSays::Message).into_iter().chain([ClientSays::Status]));
}

#[test]
fn client_hears() {
    let worker = WorkerId(5);
    let error = ExecuteError::Source { path: "x.npy".to_owned(), what: "is gone".to_owned() };
    let (at, blocks) = (Duration::from_millis(1234), Interval::one(7));
    let chapter = |what| Chapter { at, array: array(), blocks, what };
    let story = vec![chapter(Happening::DispensedAlone { worker }), chapter(Happening::Derived)];
    let errors = [
        JobError::Execute { block: block(), attempt: 2, worker, error },
        JobError::WorkerKilled { block: block(), deaths: 3, story },
        JobError::NoWorker { array: array(), waited: at, wanted: Wanted::Class },
        JobError::Memory { array: array(), needs: 1 << 40, has: 7 },
        JobError::Plan(PlanFault::Stage { array: array(), what: StageFault::View }),
    ];
    let request = 12;
    let result = SmallBlock::of(&[Block::from_elements(Shape::ones(1), &[1.5f64])]);
    let messages = [
        ToClient::WorkerJoined { worker, register: register() },
        ToClient::WorkerLeft { worker },
        ToClient::Progress { job: job(), array: array(), done: 3, total: 900 },
        ToClient::ArrayDone { array: array(), holders: vec![holding(); 3], result: None },
        ToClient::ArrayDone { array: array(), holders: vec![holding()], result },
        ToClient::JobDone { job: job() },
        ToClient::ArrayLost { array: array(), error: JobError::BlockLost { block: block() } },
        ToClient::Located { request, result: Ok(vec![holding()]) },
        ToClient::Located { request, result: Err(JobError::UnknownArray { array: array() }) },
    ];
    let failed = errors.map(|error| ToClient::JobFailed { job: job(), error });
    let hears = messages.into_iter().chain(failed).map(ClientHears::Message);
    try_messages("client-hears", hears.chain([ClientHears::Welcome, ClientHears::Status(status())]));
}

fn status() -> ClusterStatus {
    let (worker, round_trip) = (WorkerId(5), Duration::from_micros(123));
    let known =
        WorkerStatus { worker, register: register(), is_working: true, blocks_held: 900, blocks_outstanding: 2 };
    let scheduler = Status { workers: vec![known], clients: 1, jobs: 2, arrays: 3 };
    let traffic = Traffic {
        round_trip,
        packet_bytes: 1452,
        bytes_sent: 1 << 40,
        bytes_received: 7,
        packets_sent: 1 << 30,
        packets_lost: 1,
        congestions: 2,
        window_bytes: 1 << 20,
    };
    let bulk = BulkTraffic { bytes_sent: 1 << 40, ..BulkTraffic::default() };
    ClusterStatus { scheduler, traffic: [(worker, traffic)].into(), bulk: [(worker, bulk)].into() }
}
