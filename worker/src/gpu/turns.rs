//! The passes of a job, cut into submissions that leave others their turn.

use std::time::Duration;

use super::device::Gpu;
use super::job::{Groups, Pass, Seen};
use super::pace::Pace;
use super::params::FIRST_GROUP_AT;

/// The passes of a job, of which some are submitted.
pub(super) struct Turns<'a> {
    passes: &'a [Pass],
    /// The pass that is next, and the first of its workgroups that is.
    next: (usize, u64),
}

/// Workgroups of a pass that are dispatched at once.
pub(super) struct Part<'a> {
    pass: &'a Pass,
    /// Which pass of the job it is.
    at: usize,
    first: u64,
    groups: [u32; 3],
}

impl<'a> Turns<'a> {
    pub(super) fn new(passes: &'a [Pass]) -> Turns<'a> {
        Turns { passes, next: (0, 0) }
    }

    pub(super) fn are_at_start(&self) -> bool {
        self.next == (0, 0)
    }

    pub(super) fn are_over(&self) -> bool {
        self.next.0 == self.passes.len()
    }

    /// What is submitted next: pass after pass, up to the first that does not fit whole.
    pub(super) fn next(&mut self, gpu: &Gpu, pace: &Pace) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        while let Some(pass) = self.passes.get(self.next.0) {
            let (at, first) = self.next;
            let (groups, end) = match pass.groups {
                Groups::Box(groups) => (groups, None),
                Groups::Line(line) => {
                    let count = gpu.part_of(line.groups - first, pace.groups(&pass.pipeline, line));
                    (gpu.spread(count), Some(first + count).filter(|&end| end < line.groups))
                }
            };
            parts.push(Part { pass, at, first, groups });
            self.next = end.map_or((at + 1, 0), |end| (at, end));
            if end.is_some() {
                break;
            }
        }
        parts
    }
}

impl Part<'_> {
    /// Dispatches it. `groups` are the bind groups of all passes, `params` holds the parameters of all.
    pub(super) fn encode(
        &self,
        gpu: &Gpu,
        groups: &[wgpu::BindGroup],
        params: &wgpu::Buffer,
        encoder: &mut wgpu::CommandEncoder,
    ) {
        if let Some(Seen::Params(start, _)) = self.pass.sees.first().filter(|_| self.first > 0) {
            let first = (self.first as u32).to_le_bytes();
            gpu.queue.write_buffer(params, start + 4 * FIRST_GROUP_AT as u64, &first);
        }
        let mut compute = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        compute.set_pipeline(&self.pass.pipeline.pipeline);
        compute.set_bind_group(0, &groups[self.at], &[]);
        let [x, y, z] = self.groups;
        compute.dispatch_workgroups(x, y, z);
    }

    /// Takes note of how long it took, all by itself.
    pub(super) fn note(&self, pace: &Pace, took: Duration) {
        if let Groups::Line(line) = self.pass.groups {
            let groups = self.groups.iter().map(|&count| u64::from(count)).product();
            pace.note(&self.pass.pipeline, line, groups, took);
        }
    }
}
