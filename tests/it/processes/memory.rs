//! `--memory-limit` is a promise: what a worker's process takes at its peak, as the system counts it, stays beneath.

use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;

use gridloom::client::ClientError;
use gridloom::scheduler::JobError;
use gridloom::{Array, Client, DType, Future, Kernel, LocalCluster, Value};
use gridloom_worker::shape::Shape;
use gridloom_worker::source::npy::header_bytes;

use super::command::refuses;
use super::harness::{Scheduler, WORKER_BYTES, peak};

const LIMIT: u64 = 192 << 20;
/// More than both workers may take together.
const STREAMED: u64 = 512 << 20;
/// What one of them could not hold, and both can.
const HELD: u64 = 160 << 20;

fn cluster() -> LocalCluster {
    let options = LocalCluster::options().processes(true).workers(2).threads(NonZeroUsize::MIN);
    options.memory_limit(LIMIT).start().unwrap()
}

/// A file of so many bytes of zeros, but for its header.
fn file(folder: &Path, bytes: u64) -> Array {
    let path = folder.join("x.npy");
    let rows = Shape::new(&[bytes / 8192, 1024]).unwrap();
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&header_bytes(DType::F64, &rows)).unwrap();
    let header = file.metadata().unwrap().len();
    file.set_len(header + bytes).unwrap();
    Array::from_npy(path)
}

fn random(bytes: u64) -> Array {
    Array::random([bytes / 8192, 1024])
}

/// All of it comes here, block by block.
fn stream(client: &Client, array: &Array) {
    let future: Future<Array> = client.compute(array).unwrap();
    let elements: u64 = future.blocks().map(|block| block.unwrap().1.shape.elements()).sum();
    assert_eq!(elements, array.shape().elements());
}

fn reduced(client: &Client, array: &Array) {
    let _: Value = client.compute(array).unwrap().wait().unwrap();
}

/// Its blocks stay on the workers for several others that read them.
fn held(client: &Client, array: &Array) {
    let x = client.persist(array).unwrap().wait().unwrap();
    for consumer in [x.sum(()), x.mean(0), (&x - &x.mean(0)).std(()), x.rechunk([512, 512]).max(1)] {
        reduced(client, &consumer);
    }
}

/// Parts of many blocks that lie apart go into each of these.
fn turned(client: &Client, array: &Array) {
    let x = client.persist(array).unwrap().wait().unwrap();
    stream(client, &x.transpose().rechunk([128, 4000]));
}

/// What it is called, and what it does.
type Job<'a> = (&'static str, Box<dyn Fn(&Client) + 'a>);

fn job<'a>(name: &'static str, work: impl Fn(&Client) + 'a) -> Job<'a> {
    (name, Box::new(work))
}

/// In a cluster of its own. The most that any of its workers took.
fn run(jobs: &[Job<'_>]) -> u64 {
    let cluster = cluster();
    let client = cluster.client();
    jobs.iter().for_each(|(_, work)| work(&client));
    let peaks: Vec<u64> = cluster.process_ids().into_iter().map(|process| peak(process).unwrap()).collect();
    let names: Vec<&str> = jobs.iter().map(|(name, _)| *name).collect();
    let shown: Vec<u64> = peaks.iter().map(|peak| peak >> 20).collect();
    eprintln!("{}: {shown:?} MiB of {}", names.join(", "), LIMIT >> 20);
    peaks.into_iter().max().unwrap()
}

const HISTOGRAM: &str = "@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>>;
@compute @workgroup_size(256) fn histogram(@builtin(local_invocation_index) id: u32) {
    for (var i = id; i < arrayLength(&x); i += 256) { atomicAdd(&counts[u32(x[i] * 16)], 1u); }
}";

#[test]
fn what_a_worker_takes_stays_beneath_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let read = file(folder.path(), STREAMED);
    let poly = Kernel::element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }").unwrap();
    let histogram = Kernel::block(HISTOGRAM).unwrap();
    let mapped = |bytes, rows: u64| random(bytes).chunks([rows, 1024]).map_blocks(&poly);
    let binned = Array::random([STREAMED / 4]).with_dtype(DType::F32).map_blocks_to(&histogram, [16]);
    let data = ndarray::Array2::<f64>::ones((HELD as usize / 8192, 1024));
    let jobs = [
        job("map of a file", |client| stream(client, &read.map_blocks(&poly))),
        job("map in blocks of 20 MiB", |client| stream(client, &mapped(STREAMED, 2500))),
        job("map in blocks of a little more than 2 MiB", |client| stream(client, &mapped(STREAMED, 260))),
        job("map in blocks of 24 KiB", |client| stream(client, &mapped(STREAMED / 4, 3))),
        job("transpose", |client| turned(client, &mapped(HELD / 2, 512))),
        job("reduction of a file", |client| reduced(client, &read.var(0))),
        job("block kernel", |client| reduced(client, &binned.sum(()))),
        job("several consumers", |client| held(client, &mapped(HELD, 512))),
        job("scattered", |client| reduced(client, &client.scatter(&data).unwrap().array().sum(0))),
    ];
    let mut peaks: Vec<u64> = jobs.chunks(1).map(run).collect();
    // What one leaves behind is no more than the next may take.
    peaks.push(run(&jobs));
    assert!(peaks.iter().all(|&peak| peak <= LIMIT), "{peaks:?} of {LIMIT}");
    assert!(peaks.iter().any(|&peak| peak > LIMIT / 3 * 2), "nothing came near it: {peaks:?}");
}

#[test]
fn what_cannot_fit_is_refused_with_the_numbers() {
    const LARGE: u64 = 256 << 20;
    let scheduler = Scheduler::start();
    let _worker = scheduler.worker("small", &[]);
    let memory_bytes = scheduler.find("small").unwrap().register.memory_bytes;
    assert!(memory_bytes < WORKER_BYTES);
    let client = scheduler.client();
    let whole = Array::random([LARGE / 8]).chunks([LARGE / 8]);
    let error = client.compute::<Value>(&(&whole + 1.0)).unwrap().wait().unwrap_err();
    let ClientError::Job(JobError::Memory { needs, has, .. }) = error else { panic!("{error}") };
    assert!(needs >= LARGE && has == memory_bytes, "{needs} {has}");
    std::fs::write(scheduler.folder().join("inc.wgsl"), "fn inc(x: f64) -> f64 { return x + 1; }").unwrap();
    let (input, chunk) = (format!("random:{}", LARGE / 8), (LARGE / 8).to_string());
    let address = scheduler.address();
    let map = ["map", "inc.wgsl", &input, "--chunks", &chunk, "-o", "out.npy", "--scheduler", &address];
    refuses(&mut scheduler.command(&map), &format!("needs {needs} bytes and no worker has more than {has}"));
    assert!(!scheduler.folder().join("out.npy").exists());
    // What does fit is computed afterwards, beneath the limit as ever.
    let sum: f64 = client.compute(&Array::ones([10]).sum(())).unwrap().wait().unwrap();
    assert_eq!(sum, 10.0);
}
