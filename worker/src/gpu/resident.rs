//! Results that stay on the device until somebody looks at them.

use std::sync::Arc;

use crate::block::{BufferMut, Remote, RemoteError};
use crate::executor::ExecuteError;

use super::device::{Gpu, Refused};
use super::pipeline::internal;
use super::pool::{Lease, Pool, Use};

/// A field of a block in a buffer of a device.
pub(super) struct DeviceBytes {
    lease: Lease,
    bytes: u64,
    gpu: Arc<Gpu>,
    pool: Arc<Pool>,
}

impl DeviceBytes {
    pub(super) fn new(lease: Lease, bytes: u64, gpu: &Arc<Gpu>, pool: &Arc<Pool>) -> DeviceBytes {
        DeviceBytes { lease, bytes, gpu: Arc::clone(gpu), pool: Arc::clone(pool) }
    }

    /// The buffer, for kernels of the same device.
    pub(super) fn buffer_on(&self, gpu: &Arc<Gpu>) -> Option<&wgpu::Buffer> {
        Arc::ptr_eq(&self.gpu, gpu).then_some(&self.lease.buffer)
    }

    fn download(&self) -> Result<BufferMut, ExecuteError> {
        self.gpu.check()?;
        let mut leases = self.pool.lease(&[(Use::Download, self.bytes)])?;
        let mut staging = leases.pop().expect("one buffer was asked for");
        let encode = |encoder: &mut wgpu::CommandEncoder| {
            encoder.copy_buffer_to_buffer(&self.lease.buffer, 0, &staging.buffer, 0, self.bytes);
        };
        let submission = submit(&self.gpu, encode).map_err(internal)?;
        staging.map_to_read(self.bytes);
        self.gpu.wait(submission)?;
        let [bytes] = <[BufferMut; 1]>::try_from(read(staging, &[self.bytes])?)
            .unwrap_or_else(|_| unreachable!("one size gives one buffer"));
        Ok(bytes)
    }
}

impl Remote for DeviceBytes {
    fn len(&self) -> usize {
        self.bytes as usize
    }

    fn fetch(&self) -> Result<BufferMut, RemoteError> {
        self.download().map_err(|error| RemoteError { why: self.gpu.blame(error).to_string() })
    }
}

/// Submits what is encoded.
pub(super) fn submit(
    gpu: &Gpu,
    encode: impl FnOnce(&mut wgpu::CommandEncoder),
) -> Result<wgpu::SubmissionIndex, Refused> {
    gpu.guarded(|| {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encode(&mut encoder);
        gpu.queue.submit([encoder.finish()])
    })
}

/// What was downloaded and mapped, one buffer for each of `sizes`.
pub(super) fn read(download: Lease, sizes: &[u64]) -> Result<Vec<BufferMut>, ExecuteError> {
    let total: u64 = sizes.iter().sum();
    let unmapped = |error| ExecuteError::Internal { what: format!("a download buffer is not mapped: {error}") };
    let view = download.buffer.get_mapped_range(..total).map_err(unmapped)?;
    let mut at = 0;
    let mut buffers = Vec::with_capacity(sizes.len());
    for &bytes in sizes {
        let mut buffer = BufferMut::try_new(bytes as usize)?;
        buffer.bytes_mut().copy_from_slice(&view[at..at + bytes as usize]);
        at += bytes as usize;
        buffers.push(buffer);
    }
    Ok(buffers)
}
