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
    pub(super) fills: Vec<Fill>,
    /// Bytes of each buffer that kernels write.
    pub(super) outputs: Vec<u64>,
    pub(super) passes: Vec<Pass>,
    /// The first of the outputs that is a result: those before are scratch.
    pub(super) results: usize,
    /// Whether results may stay on the device.
    pub(super) may_stay: bool,
}

/// One dispatch.
pub(super) struct Pass {
    pub(super) pipeline: Pipeline,
    /// Where its parameters are, in bytes.
    pub(super) params: (u64, u64),
    /// What it sees after them, in order of binding.
    pub(super) sees: Vec<Seen>,
    /// How many workgroups.
    pub(super) groups: u64,
}

/// A buffer of a job.
#[derive(Clone, Copy)]
pub(super) enum Seen {
    Fill(usize),
    Output(usize),
}

/// Parameters of different dispatches begin at multiples of this: what every device wants at most.
const PARAMS_ALIGNMENT: usize = 256;
/// Uploads begin at multiples of this.
const COPY_ALIGNMENT: u64 = 16;

impl Job {
    /// Appends the parameters of a dispatch: where they are, in bytes.
    pub(super) fn add_params(&mut self, words: &[u32]) -> (u64, u64) {
        self.params.resize(self.params.len().next_multiple_of(PARAMS_ALIGNMENT / 4), 0);
        let place = (4 * self.params.len() as u64, 4 * words.len() as u64);
        self.params.extend(words);
        place
    }

    /// Runs it, and waits until it has ended.
    pub(super) fn run(&self, engine: &Engine, stop: &StopFlag) -> Result<Vec<Buffer>, ExecuteError> {
        let Engine { gpu, pool, pipelines } = engine;
        gpu.check_binding(self.fills.iter().map(Fill::bytes).chain(self.outputs.iter().copied()))?;
        let results = &self.outputs[self.results..];
        let stays = self.may_stay && pool.can_keep(results.iter().sum());
        let mut buffers = Buffers::lease(self, pool, stays)?;
        if stop.is_raised() {
            return Err(ExecuteError::Cancelled);
        }
        let copies = buffers.write(self)?;
        let evictions = pool.evictions();
        let group = |pass: &Pass| pipelines.group(gpu, evictions, &pass.pipeline, buffers.bound(self, pass));
        let groups = self.passes.iter().map(group).collect::<Result<Vec<_>, _>>()?;

        let encode = |encoder: &mut wgpu::CommandEncoder| {
            let targets = std::iter::once(&buffers.params).chain(buffers.fills.iter().flatten());
            for (&(offset, bytes), target) in copies.iter().zip(targets) {
                encoder.copy_buffer_to_buffer(&buffers.upload.buffer, offset, &target.buffer, 0, bytes);
            }
            let mut compute = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for (pass, group) in self.passes.iter().zip(&groups) {
                let [x, y] = gpu.spread(pass.groups);
                compute.set_pipeline(&pass.pipeline.pipeline);
                compute.set_bind_group(0, group, &[]);
                compute.dispatch_workgroups(x, y, 1);
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
        let download = buffers.download.as_ref().map(|lease| (lease, results.iter().sum()));
        let submission = submit(gpu, encode, download).map_err(internal)?;
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
        let (offset, bytes) = pass.params;
        let params = Bound { buffer: self.params.buffer.clone(), offset, bytes };
        let seen = pass.sees.iter().map(|&seen| {
            let (buffer, bytes) = match seen {
                Seen::Fill(at) => match (&self.fills[at], &job.fills[at]) {
                    (None, Fill::Resident(buffer, bytes)) => (buffer, *bytes),
                    (Some(lease), fill) => (&lease.buffer, fill.bytes()),
                    (None, _) => unreachable!("what is brought has a buffer"),
                },
                Seen::Output(at) => (&self.outputs[at].buffer, job.outputs[at]),
            };
            Bound { buffer: buffer.clone(), offset: 0, bytes }
        });
        std::iter::once(params).chain(seen).collect()
    }
}
