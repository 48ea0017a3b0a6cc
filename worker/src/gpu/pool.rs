//! The buffers of a device: leased for one block, kept for the next, never more than the ledger allows.
//!
//! Memory is reserved before anything is dispatched: a block gets all its buffers at once or waits for those of others,
//! and what could never fit is refused. Sizes come in buckets, so that few buffers serve all blocks. The bind groups of
//! buffers are kept here too, since they keep buffers from being freed.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use crate::executor::ExecuteError;

use super::bounded::Bounded;
use super::device::{Gpu, Refused};
use super::pipeline::{Bound, Pipeline};

/// The smallest buffer.
const BYTES_MIN: u64 = 256;

/// Bind groups that are kept: more than the shapes and buffers that a few stages in flight have.
const BIND_GROUPS_MAX: usize = 1024;

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Use {
    /// Kernels read and write it.
    Storage,
    /// The host writes it, and it is copied from. Waits mapped.
    Upload,
    /// It is copied to, and the host reads it. Waits unmapped.
    Download,
}

impl Use {
    fn usages(self) -> wgpu::BufferUsages {
        use wgpu::BufferUsages as Usages;
        match self {
            Use::Storage => Usages::STORAGE | Usages::COPY_SRC | Usages::COPY_DST,
            Use::Upload => Usages::MAP_WRITE | Usages::COPY_SRC,
            Use::Download => Usages::MAP_READ | Usages::COPY_DST,
        }
    }
}

/// All buffers of a device.
pub(super) struct Pool {
    gpu: Arc<Gpu>,
    bytes_max: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes of buffers that blocks in flight use.
    leased: u64,
    /// Bytes of results that stay on the device.
    resident: u64,
    /// Bytes of buffers that wait.
    idle: u64,
    free: HashMap<(Use, u64), Vec<wgpu::Buffer>>,
    groups: Bounded<(Pipeline, Vec<Bound>), wgpu::BindGroup, BIND_GROUPS_MAX>,
}

/// A buffer for one block; dropped, it waits for the next.
pub(super) struct Lease {
    pub(super) buffer: wgpu::Buffer,
    kind: Use,
    is_mapped: bool,
    is_resident: bool,
    pool: Weak<Pool>,
}

impl Pool {
    /// A pool of at most `bytes_max` bytes.
    pub(super) fn new(gpu: Arc<Gpu>, bytes_max: u64) -> Arc<Pool> {
        Arc::new(Pool { gpu, bytes_max, state: Mutex::default(), freed: Condvar::new() })
    }

    /// Buffers of at least these sizes, all of them at once. Waits while others hold the memory.
    ///
    /// # Errors
    /// More than the ledger allows, or than the device has; a device that is lost.
    pub(super) fn lease(self: &Arc<Pool>, wanted: &[(Use, u64)]) -> Result<Vec<Lease>, ExecuteError> {
        let sizes: Vec<(Use, u64)> = wanted.iter().map(|&(kind, bytes)| (kind, capacity_of(bytes))).collect();
        let total = sizes.iter().map(|(_, bytes)| bytes).sum::<u64>();
        if total > self.bytes_max {
            return Err(ExecuteError::Memory { bytes: total });
        }
        let mut state = self.lock();
        while state.leased + state.resident + total > self.bytes_max {
            // Only blocks in flight are sure to end.
            if state.leased == 0 {
                return Err(ExecuteError::Memory { bytes: total });
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
            self.gpu.check()?;
        }
        state.leased += total;
        let found: Vec<Option<wgpu::Buffer>> = sizes.iter().map(|&key| state.take(key)).collect();
        if state.leased + state.resident + state.idle > self.bytes_max {
            state.evict();
        }
        drop(state);
        let mut leases = Vec::with_capacity(sizes.len());
        let mut missing = total;
        for ((kind, bytes), found) in sizes.into_iter().zip(found) {
            let buffer = match found {
                Some(buffer) => Ok(buffer),
                None => self.create(kind, bytes),
            };
            match buffer {
                Ok(buffer) => {
                    let is_mapped = kind == Use::Upload;
                    leases.push(Lease { buffer, kind, is_mapped, is_resident: false, pool: Arc::downgrade(self) });
                    missing -= bytes;
                }
                Err(error) => {
                    self.lock().leased -= missing;
                    return Err(error);
                }
            }
        }
        Ok(leases)
    }

    /// Whether so many more bytes of results may stay: they leave half of the memory to blocks in flight.
    pub(super) fn can_keep(&self, bytes: u64) -> bool {
        self.lock().resident + bytes <= self.bytes_max / 2
    }

    /// Lets these buffers stay when their block has ended.
    pub(super) fn keep(&self, leases: &mut [Lease]) {
        let bytes = leases.iter().map(|lease| lease.buffer.size()).sum::<u64>();
        let mut state = self.lock();
        (state.leased, state.resident) = (state.leased - bytes, state.resident + bytes);
        leases.iter_mut().for_each(|lease| lease.is_resident = true);
        drop(state);
        self.freed.notify_all();
    }

    /// The bind group of a pipeline and these leased buffers, in order of binding.
    pub(super) fn group(&self, pipeline: &Pipeline, bound: Vec<Bound>) -> Result<wgpu::BindGroup, ExecuteError> {
        let key = (pipeline.clone(), bound);
        if let Some(known) = self.lock().groups.get(&key) {
            return Ok(known.clone());
        }
        let group = pipeline.bind(&self.gpu, &key.1)?;
        self.lock().groups.insert(key, group.clone());
        Ok(group)
    }

    /// A new buffer. If the device has no memory, what waits is given back, and it is asked once more.
    fn create(&self, kind: Use, bytes: u64) -> Result<wgpu::Buffer, ExecuteError> {
        let description = wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: kind.usages(),
            mapped_at_creation: kind == Use::Upload,
        };
        let create = || self.gpu.guarded(|| self.gpu.device.create_buffer(&description));
        let created = create().or_else(|refused| match refused {
            Refused::Memory => {
                self.lock().evict();
                // The driver frees what was let go of when it is asked how it is doing.
                self.gpu.poll_now();
                create()
            }
            Refused::Invalid(_) => Err(refused),
        });
        created.map_err(|refused| match refused {
            Refused::Memory => ExecuteError::Memory { bytes },
            Refused::Invalid(what) => ExecuteError::Internal { what },
        })
    }

    /// A buffer that is ready for its next use waits for it.
    fn put_back(&self, kind: Use, buffer: wgpu::Buffer) {
        let mut state = self.lock();
        state.idle += buffer.size();
        state.free.entry((kind, buffer.size())).or_default().push(buffer);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, key: (Use, u64)) -> Option<wgpu::Buffer> {
        let buffer = self.free.get_mut(&key)?.pop()?;
        self.idle -= key.1;
        Some(buffer)
    }

    /// Gives all that waits back to the device.
    fn evict(&mut self) {
        self.free.clear();
        self.groups.clear();
        self.idle = 0;
    }
}

impl Lease {
    /// Ends the host's writing, so that the device can read.
    pub(super) fn unmap(&mut self) {
        self.buffer.unmap();
        self.is_mapped = false;
    }

    /// Has so many bytes mapped for reading when what was submitted has ended. If that fails, so does reading.
    pub(super) fn map_to_read(&mut self, bytes: u64) {
        self.is_mapped = true;
        self.buffer.map_async(wgpu::MapMode::Read, ..bytes, |_| {});
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let bytes = self.buffer.size();
        let mut state = pool.lock();
        match self.is_resident {
            true => state.resident -= bytes,
            false => state.leased -= bytes,
        }
        drop(state);
        pool.freed.notify_all();
        let (kind, buffer) = (self.kind, self.buffer.clone());
        match (kind, self.is_mapped) {
            (Use::Storage, _) | (Use::Upload, true) | (Use::Download, false) => pool.put_back(kind, buffer),
            (Use::Download, true) => {
                buffer.unmap();
                pool.put_back(kind, buffer);
            }
            // Mapped again as soon as the device has read it: at once, where its block has ended.
            (Use::Upload, false) => {
                let (home, kept) = (Weak::clone(&self.pool), buffer.clone());
                buffer.map_async(wgpu::MapMode::Write, .., move |mapped| {
                    if let (Ok(()), Some(pool)) = (mapped, home.upgrade()) {
                        pool.put_back(kind, kept);
                    }
                });
                pool.gpu.poll_now();
            }
        }
    }
}

/// The bucket of a size: at most a quarter more.
fn capacity_of(bytes: u64) -> u64 {
    let bytes = bytes.max(BYTES_MIN);
    bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(BYTES_MIN / 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::tests::any_gpu;

    /// Bytes that are leased, resident, idle.
    #[track_caller]
    fn check(pool: &Pool, expected: [u64; 3]) {
        let State { leased, resident, idle, .. } = &*pool.lock();
        assert_eq!([*leased, *resident, *idle], expected);
    }

    /// What is leased comes back, mapped as it was, and nothing is made twice.
    #[test]
    fn what_is_given_back_serves_the_next() {
        let Some(gpu) = any_gpu() else { return };
        let pool = Pool::new(gpu, 1 << 20);
        let wanted = [(Use::Upload, 1000), (Use::Storage, 5000), (Use::Download, 300)];
        let capacity: u64 = wanted.iter().map(|&(_, bytes)| capacity_of(bytes)).sum();
        for _ in 0..5 {
            let mut leases = pool.lease(&wanted).unwrap();
            check(&pool, [capacity, 0, 0]);
            leases[0].unmap();
            drop(leases);
            check(&pool, [0, 0, capacity]);
        }
        let mut kept = pool.lease(&[(Use::Storage, 5000)]).unwrap();
        pool.keep(&mut kept);
        check(&pool, [0, capacity_of(5000), capacity - capacity_of(5000)]);
        assert!(!pool.can_keep(1 << 19) && pool.can_keep(1 << 18));
        drop(kept);
        check(&pool, [0, 0, capacity]);
        // Another size makes room for itself, and more than there is is refused.
        let large = pool.lease(&[(Use::Storage, (1 << 20) - 1000)]).unwrap();
        check(&pool, [large[0].buffer.size(), 0, 0]);
        let error = pool.lease(&[(Use::Storage, 2 << 20)]).err();
        assert_eq!(error, Some(ExecuteError::Memory { bytes: 2 << 20 }));
        drop(large);
        check(&pool, [0, 0, 1 << 20]);
    }

    #[test]
    fn buckets_are_few_and_little_larger() {
        for bytes in (0..3000).chain([1 << 20, (1 << 20) + 1, 3 << 20, (128 << 20) - 5, 128 << 20]) {
            let capacity = capacity_of(bytes);
            assert!(capacity >= bytes && capacity.is_multiple_of(64), "{bytes}");
            assert!(capacity <= bytes + (bytes / 4).max(BYTES_MIN), "{bytes} {capacity}");
            assert_eq!(capacity_of(capacity), capacity, "{bytes}");
        }
    }
}
