//! Runs work on a cluster, inside this process or of a scheduler elsewhere, and brings its result where it belongs.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::args::RunArgs;
use super::array_text::Corners;
use super::error::CliError;
use super::interrupt::Interrupt;
use super::output::{NpyOutput, Output};
use super::progress::Progress;
use super::reach::Reach;
use super::report::Report;
use super::warn;
use super::work::Work;
use crate::array::Array;
use crate::client::{Blocks, Client, Future, JobHandle};
use crate::cluster::LocalCluster;
use crate::host;

/// How often the bar moves.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// How long a cluster may have no worker at all.
const WORKER_PATIENCE: Duration = Duration::from_secs(30);

/// Computes `work` and writes the result to `output` as it comes; the file appears when all of it is there.
pub(super) fn run(work: &Work, args: &RunArgs, output: Option<&Path>) -> Result<Report, CliError> {
    let interrupt = Interrupt::catch()?;
    let done = run_interruptible(work, args, output, &interrupt);
    // What Ctrl-C would stop holds the connection, whose last words are to leave before the process ends.
    interrupt.on_press(|| {});
    // Whatever failed after Ctrl-C failed because of it.
    interrupt.check().and(done)
}

fn run_interruptible(
    work: &Work,
    args: &RunArgs,
    output: Option<&Path>,
    interrupt: &Interrupt,
) -> Result<Report, CliError> {
    // Before anything is computed: an output that cannot be written is known at once.
    let file = output.map(Output::create).transpose()?;
    interrupt.guard(file.as_ref().map(|file| file.temporary_path().to_owned()));
    let client = match args.reach.find()? {
        Some(reach) => connect(reach, interrupt)?.on(args.device.devices()),
        None => start(args)?.client(),
    };
    let started = Instant::now();
    let future: Future<Array> = client.compute(&work.array)?;
    let job = future.job();
    let cancelled = job.clone();
    interrupt.on_press(move || cancelled.cancel());
    let computers = future.computers();
    if computers.has_software_gpu() {
        warn("there is no real GPU: a software one computes, rightly and slowly");
    }
    let devices = computers.lines();
    let corners = with_progress(&job, || collect(&work.array, future.blocks(), file, interrupt))?;
    let (wall, bulk) = (started.elapsed(), client.traffic());
    client.close()?;
    Ok(Report {
        dtype: work.array.dtype(),
        shape: work.array.shape().clone(),
        corners,
        output: output.map(Path::to_owned),
        elements: work.elements,
        bytes: work.bytes,
        wall,
        devices,
        bulk,
        memory_peak_bytes: host::memory_peak_bytes(),
    })
}

/// Who computes is chosen among those who are there: the first worker of a new cluster is waited for.
fn connect(Reach { address, token }: Reach, interrupt: &Interrupt) -> Result<Client, CliError> {
    let client = Client::connect_with(&address, &token)?;
    let begun = Instant::now();
    while client.wait_for_workers(1, PROGRESS_EVERY) == 0 {
        interrupt.check()?;
        if begun.elapsed() >= WORKER_PATIENCE {
            return Err(CliError::NoWorker { address, waited: WORKER_PATIENCE });
        }
    }
    Ok(client)
}

fn start(args: &RunArgs) -> Result<LocalCluster, CliError> {
    let options = LocalCluster::options().workers(args.workers as usize).devices(args.device.devices());
    let mut options = options.block_timeout(args.block_timeout);
    if let Some(threads) = args.threads.and_then(|threads| NonZeroUsize::new(threads as usize)) {
        options = options.threads(threads);
    }
    Ok(options.start()?)
}

/// Does `work` with a bar that a thread of its own keeps moving.
fn with_progress<T>(job: &JobHandle, work: impl FnOnce() -> T) -> T {
    let mut progress = Progress::start();
    let (ended, end) = mpsc::channel::<()>();
    thread::scope(|scope| {
        if progress.is_wanted() {
            scope.spawn(|| {
                let end = end;
                while end.recv_timeout(PROGRESS_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                    if let Some((done, all)) = job.progress() {
                        progress.set(done, all);
                    }
                }
            });
        }
        let done = work();
        drop(ended);
        done
    })
}

/// Takes the blocks as they come: the printed elements out of each, and all of it into the output.
fn collect(array: &Array, blocks: Blocks, output: Option<Output>, interrupt: &Interrupt) -> Result<Corners, CliError> {
    let mut corners = Corners::new(array.dtype(), array.shape());
    let npy: Option<NpyOutput> = output.map(|output| output.into_npy(array.dtype(), array.shape())).transpose()?;
    for arrived in blocks {
        interrupt.check()?;
        let (region, block) = arrived?;
        corners.place(&region, &block);
        if let Some(npy) = &npy {
            npy.place(&region, &block)?;
        }
    }
    interrupt.check()?;
    npy.map_or(Ok(()), NpyOutput::persist)?;
    Ok(corners)
}

#[cfg(test)]
mod tests {
    use gridloom_worker::kernel::Kernel;

    use super::*;

    #[test]
    fn a_file_is_the_same_however_little_memory_the_workers_have() {
        let poly = Kernel::element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }").unwrap();
        let array = Array::random([512, 1024]).chunks([4, 1024]).map_blocks(&poly);
        let folder = tempfile::tempdir().unwrap();
        // A result of 4 MiB on workers of an eighth of that, and on others.
        let files = [512 << 10, 64 << 20].map(|limit| {
            let cluster = LocalCluster::options().workers(2).threads(NonZeroUsize::MIN).memory_limit(limit).start();
            let client = cluster.unwrap().client();
            let path = folder.path().join(format!("{limit}.npy"));
            let future: Future<Array> = client.compute(&array).unwrap();
            collect(&array, future.blocks(), Some(Output::create(&path).unwrap()), &Interrupt::default()).unwrap();
            std::fs::read(path).unwrap()
        });
        assert!(files[0] == files[1] && files[0].len() > 512 * 1024 * 8);
    }
}
