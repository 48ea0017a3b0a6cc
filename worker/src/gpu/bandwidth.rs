//! How fast a device copies its own memory: the floor that benches hold its work against.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::executor::ExecuteError;

use super::adapter::Adapter;
use super::device::Gpu;
use super::pipeline::internal;
use super::pool::{Pool, Use};
use super::resident::submit;
use super::{GpuOptions, StartError};

/// Copies in one submission: enough that submitting does not show.
const COPIES: u32 = 16;
/// Submissions, of which the fastest counts.
const TURNS: u32 = 5;

/// Bytes read and written per second by copies of `bytes` bytes from one buffer to another.
///
/// # Errors
/// A device that cannot be opened, has not the memory, or is lost meanwhile.
pub fn copy_bytes_per_second(adapter: &Adapter, options: &GpuOptions, bytes: u64) -> Result<f64, BandwidthError> {
    let gpu = Arc::new(Gpu::open(adapter, options.block_timeout).map_err(StartError::from)?);
    let pool = Pool::new(Arc::clone(&gpu), options.memory_bytes);
    let buffers = pool.lease(&[(Use::Storage, bytes), (Use::Storage, bytes)])?;
    let copy = |encoder: &mut wgpu::CommandEncoder| {
        for turn in 0..COPIES as usize {
            let [from, to] = [turn % 2, 1 - turn % 2].map(|at| &buffers[at].buffer);
            encoder.copy_buffer_to_buffer(from, 0, to, 0, bytes);
        }
    };
    let mut shortest = Duration::MAX;
    for _ in 0..TURNS {
        let begun = Instant::now();
        let submission = submit(&gpu, copy).map_err(internal)?;
        gpu.wait(submission)?;
        shortest = shortest.min(begun.elapsed());
    }
    Ok(2.0 * (u64::from(COPIES) * bytes) as f64 / shortest.as_secs_f64())
}

/// The copies could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BandwidthError {
    /// The device could not be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It failed.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}
