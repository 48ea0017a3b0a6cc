//! What is submitted to the device for a block: what is brought, what is dispatched, what becomes of the results.
//!
//! One submission does it all, unless a dispatch would keep the device for too long: then there are several.

use std::sync::Arc;
use std::time::Duration;

use crate::block::Buffer;
use crate::executor::ExecuteError;
use crate::interpreter::StopFlag;

use super::device::Gpu;
use super::leaf::Fill;
use super::pace::{Line, Pace};
use super::pipeline::{Bound, Pipeline, Pipelines, internal};
use super::pool::{Lease, Pool, Use};
use super::resident::{DeviceBytes, read, submit};
use super::turns::Turns;

/// What all blocks of a device share.
pub(super) struct Engine {
    pub(super) gpu: Arc<Gpu>,
    pub(super) pool: Arc<Pool>,
    pub(super) pipelines: Pipelines,
    pub(super) pace: Pace,
}

/// What a block needs of the device.
#[derive(Default)]
pub(super) struct Job {
    params: Vec<u32>,
    /// What kernels read.
    fills: Vec<Fill>,
    /// Bytes of each buffer that kernels write.
    outputs: Vec<u64>,
    pub(super) passes: Vec<Pass>,
    /// The first of the outputs that is a result: those before are scratch.
    pub(super) results: usize,
    /// Whether results begin as zeros: the engine's own shaders write all of theirs.
    pub(super) are_zeroed: bool,
    /// Whether results may stay on the device.
    pub(super) may_stay: bool,
}

/// One dispatch.
pub(super) struct Pass {
    pub(super) pipeline: Pipeline,
    /// What it sees, in order of binding.
    pub(super) sees: Vec<Seen>,
    pub(super) groups: Groups,
}

/// The workgroups of a dispatch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Groups {
    /// The engine's own shaders': they number themselves from where their parameters say, so that they can be dispatched
    /// in parts.
    Line(Line),
    /// A block kernel's: exactly these along x, y and z.
    Box([u32; 3]),
}

/// A buffer of a job, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen {
    /// Parameters: where they are, and how many bytes.
    Params(u64, u64),
    Fill(usize),
    Output(usize),
}

/// Parameters of different dispatches begin at multiples of this: what every device wants at most.
const PARAMS_ALIGNMENT: usize = 256;
/// Uploads begin at multiples of this.
const COPY_ALIGNMENT: u64 = 16;

impl Job {
    /// Appends the parameters of a dispatch.
    pub(super) fn add_params(&mut self, words: &[u32]) -> Seen {
        self.params.resize(self.params.len().next_multiple_of(PARAMS_ALIGNMENT / 4), 0);
        let start = 4 * self.params.len() as u64;
        self.params.extend(words);
        Seen::Params(start, 4 * words.len() as u64)
    }

    /// Appends what is read.
    pub(super) fn add_fill(&mut self, fill: Fill) -> Seen {
        self.fills.push(fill);
        Seen::Fill(self.fills.len() - 1)
    }

    /// Appends what is written.
    pub(super) fn add_output(&mut self, bytes: u64) -> Seen {
        self.outputs.push(bytes);
        Seen::Output(self.outputs.len() - 1)
    }

    /// How many outputs there are.
    pub(super) fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// Runs it, and waits until it has ended.
    pub(super) fn run(self, engine: &Engine, stop: &StopFlag) -> Result<Vec<Buffer>, ExecuteError> {
        self.try_run(engine, stop).map_err(|error| engine.gpu.blame(error))
    }

    fn try_run(mut self, engine: &Engine, stop: &StopFlag) -> Result<Vec<Buffer>, ExecuteError> {
        let Engine { gpu, pool, pace, .. } = engine;
        gpu.check_binding(self.fills.iter().map(Fill::bytes).chain(self.outputs.iter().copied()))?;
        // What comes from elsewhere comes before memory is taken here, so that nobody waits with memory in hand.
        self.fills.iter_mut().try_for_each(Fill::open)?;
        let results = &self.outputs[self.results..];
        let stays = self.may_stay && pool.can_keep(results.iter().sum());
        let mut buffers = Buffers::lease(&self, pool, stays)?;
        if stop.is_raised() {
            return Err(ExecuteError::Cancelled);
        }
        let copies = buffers.write(&self)?;
        let group = |pass: &Pass| pool.group(&pass.pipeline, buffers.bound(&self, pass));
        let groups = self.passes.iter().map(group).collect::<Result<Vec<_>, _>>()?;

        let mut turns = Turns::new(&self.passes);
        let mut spent = Duration::ZERO;
        loop {
            let is_first = turns.are_at_start();
            let parts = turns.next(gpu, pace);
            let is_last = turns.are_over();
            let submission = submit(gpu, |encoder| {
                if is_first {
                    buffers.encode_uploads(&self, &copies, encoder);
                }
                parts.iter().for_each(|part| part.encode(gpu, &groups, &buffers.params.buffer, encoder));
                if is_last {
                    buffers.encode_downloads(&self, encoder);
                }
            });
            let submission = submission.map_err(internal)?;
            if let Some(download) = buffers.download.as_mut().filter(|_| is_last) {
                download.map_to_read(results.iter().sum());
            }
            let took = gpu.wait(submission)?;
            if let [part] = &parts[..] {
                part.note(pace, took);
            }
            if is_last {
                break;
            }
            // Between its dispatches a block can be stopped, and the device goes on.
            spent += took;
            if stop.is_raised() {
                return Err(ExecuteError::Cancelled);
            }
            gpu.check_spent(spent)?;
        }
        match buffers.download {
            Some(download) => Ok(read(download, results)?.into_iter().map(|buffer| buffer.freeze()).collect()),
            None => {
                let mut kept = buffers.outputs.split_off(self.results);
                pool.keep(&mut kept);
                let kept = kept.into_iter().zip(results);
                Ok(kept.map(|(lease, &bytes)| Buffer::remote(DeviceBytes::new(lease, bytes, gpu, pool))).collect())
            }
        }
    }
}

/// The buffers of a job.
struct Buffers {
    upload: Lease,
    params: Lease,
    /// `None` for what is on the device already.
    fills: Vec<Option<Lease>>,
    outputs: Vec<Lease>,
    download: Option<Lease>,
}

impl Buffers {
    /// All of them at once. Results that stay need no buffer to be downloaded to.
    fn lease(job: &Job, pool: &Arc<Pool>, stays: bool) -> Result<Buffers, ExecuteError> {
        let params = 4 * job.params.len() as u64;
        let brought = || job.fills.iter().filter(|fill| fill.is_brought()).map(Fill::bytes);
        let upload = brought().fold(params, |sum, bytes| sum.next_multiple_of(COPY_ALIGNMENT) + bytes);
        let download = (!stays).then(|| (Use::Download, job.outputs[job.results..].iter().sum()));
        let storage = brought().chain(job.outputs.iter().copied()).map(|bytes| (Use::Storage, bytes));
        let first = [(Use::Upload, upload), (Use::Storage, params)];
        let wanted: Vec<(Use, u64)> = first.into_iter().chain(storage).chain(download).collect();
        let mut leases = pool.lease(&wanted)?.into_iter();
        let mut next = || leases.next().expect("as many buffers come as were asked for");
        Ok(Buffers {
            upload: next(),
            params: next(),
            fills: job.fills.iter().map(|fill| fill.is_brought().then(&mut next)).collect(),
            outputs: job.outputs.iter().map(|_| next()).collect(),
            download: download.map(|_| next()),
        })
    }

    /// Fills the upload buffer. Where in it the contents of each buffer are, from the parameters on.
    fn write(&mut self, job: &Job) -> Result<Vec<(u64, u64)>, ExecuteError> {
        let unmapped = |error| ExecuteError::Internal { what: format!("an upload buffer is not mapped: {error}") };
        let mut view = self.upload.buffer.get_mapped_range_mut(..).map_err(unmapped)?;
        let params: &[u8] = bytemuck::cast_slice(&job.params);
        view.slice(..params.len()).copy_from_slice(params);
        let mut copies = vec![(0, params.len() as u64)];
        let mut at = params.len();
        for fill in job.fills.iter().filter(|fill| fill.is_brought()) {
            at = at.next_multiple_of(COPY_ALIGNMENT as usize);
            let start = at;
            fill.write(|bytes| {
                view.slice(at..at + bytes.len()).copy_from_slice(bytes);
                at += bytes.len();
            })?;
            copies.push((start as u64, (at - start) as u64));
        }
        drop(view);
        self.upload.unmap();
        Ok(copies)
    }

    /// Copies what was written to where it is read, and clears what is to begin as zeros.
    fn encode_uploads(&self, job: &Job, copies: &[(u64, u64)], encoder: &mut wgpu::CommandEncoder) {
        let targets = std::iter::once(&self.params).chain(self.fills.iter().flatten());
        for (&(offset, bytes), target) in copies.iter().zip(targets) {
            encoder.copy_buffer_to_buffer(&self.upload.buffer, offset, &target.buffer, 0, bytes);
        }
        for (lease, &bytes) in self.results(job).filter(|_| job.are_zeroed) {
            encoder.clear_buffer(&lease.buffer, 0, Some(bytes));
        }
    }

    /// Copies the results to where the host reads them, unless they stay.
    fn encode_downloads(&self, job: &Job, encoder: &mut wgpu::CommandEncoder) {
        let Some(download) = &self.download else { return };
        let mut at = 0;
        for (lease, &bytes) in self.results(job) {
            encoder.copy_buffer_to_buffer(&lease.buffer, 0, &download.buffer, at, bytes);
            at += bytes;
        }
    }

    fn results<'a>(&'a self, job: &'a Job) -> impl Iterator<Item = (&'a Lease, &'a u64)> {
        self.outputs[job.results..].iter().zip(&job.outputs[job.results..])
    }

    /// What a dispatch sees.
    fn bound(&self, job: &Job, pass: &Pass) -> Vec<Bound> {
        let bound = |&seen: &Seen| {
            let (buffer, offset, bytes) = match seen {
                Seen::Params(offset, bytes) => (&self.params.buffer, offset, bytes),
                Seen::Fill(at) => match (&self.fills[at], &job.fills[at]) {
                    (None, Fill::Resident(buffer, bytes)) => (buffer, 0, *bytes),
                    (Some(lease), fill) => (&lease.buffer, 0, fill.bytes()),
                    (None, _) => unreachable!("what is brought has a buffer"),
                },
                Seen::Output(at) => (&self.outputs[at].buffer, 0, job.outputs[at]),
            };
            Bound { buffer: buffer.clone(), offset, bytes }
        };
        pass.sees.iter().map(bound).collect()
    }
}
