//! One submission to the device: what is brought, what is dispatched, what becomes of the results.

use std::sync::Arc;

use crate::block::Buffer;
use crate::executor::ExecuteError;
use crate::interpreter::StopFlag;

use super::device::Gpu;
use super::leaf::Fill;
use super::pipeline::{Bound, Pipeline, Pipelines, internal};
use super::pool::{Lease, Pool, Use};
use super::resident::{DeviceBytes, read, submit};

/// What all blocks of a device share.
pub(super) struct Engine {
    pub(super) gpu: Arc<Gpu>,
    pub(super) pool: Arc<Pool>,
    pub(super) pipelines: Pipelines,
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
    /// So many, which number themselves: the engine's own shaders.
    Line(u64),
    /// Exactly these along x, y and z.
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
    pub(super) fn run(mut self, engine: &Engine, stop: &StopFlag) -> Result<Vec<Buffer>, ExecuteError> {
        let Engine { gpu, pool, pipelines } = engine;
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
        let evictions = pool.evictions();
        let group = |pass: &Pass| pipelines.group(gpu, evictions, &pass.pipeline, buffers.bound(&self, pass));
        let groups = self.passes.iter().map(group).collect::<Result<Vec<_>, _>>()?;

        let encode = |encoder: &mut wgpu::CommandEncoder| {
            let targets = std::iter::once(&buffers.params).chain(buffers.fills.iter().flatten());
            for (&(offset, bytes), target) in copies.iter().zip(targets) {
                encoder.copy_buffer_to_buffer(&buffers.upload.buffer, offset, &target.buffer, 0, bytes);
            }
            let zeroed = buffers.outputs[self.results..].iter().zip(results).filter(|_| self.are_zeroed);
            zeroed.for_each(|(lease, &bytes)| encoder.clear_buffer(&lease.buffer, 0, Some(bytes)));
            let mut compute = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (pass, group) in self.passes.iter().zip(&groups) {
                let [x, y, z] = match pass.groups {
                    Groups::Line(count) => gpu.spread(count),
                    Groups::Box(counts) => counts,
                };
                compute.set_pipeline(&pass.pipeline.pipeline);
                compute.set_bind_group(0, group, &[]);
                compute.dispatch_workgroups(x, y, z);
            }
            drop(compute);
            let mut at = 0;
            for (lease, &bytes) in buffers.outputs[self.results..].iter().zip(results) {
                if let Some(download) = &buffers.download {
                    encoder.copy_buffer_to_buffer(&lease.buffer, 0, &download.buffer, at, bytes);
                    at += bytes;
                }
            }
        };
        let submission = submit(gpu, encode).map_err(internal)?;
        if let Some(download) = &mut buffers.download {
            download.map_to_read(results.iter().sum());
        }
        gpu.wait(submission)?;
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
