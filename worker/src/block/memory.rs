//! Where block bytes live: aligned memory, on huge pages when it is large, recycled through a pool.
//!
//! Fresh memory costs several times a copy (FACTS), so what a buffer leaves is kept for the next one: by size class,
//! in all at most [`POOL_BYTES_MAX`] (settable), least recently used classes given back first. Every byte that is ever
//! handed out is initialised: fresh memory is zeroed by the kernel or the allocator, recycled memory holds old data of
//! this process. Memory that cannot be had is an error here, never an abort.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::OutOfMemory;

/// From here on, memory is mapped, aligned to this, and asked to be on huge pages.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Below this, the allocator itself recycles well.
const POOLED_BYTES_MIN: usize = 4 << 10;
/// What the pool keeps unless told otherwise: eight of the largest "auto" blocks.
const POOL_BYTES_MAX: usize = 1 << 30;
/// SIMD loads and GPU copies want this much.
const ALIGNMENT: usize = 64;

/// Initialised memory with one owner, given back to the pool when dropped.
pub(super) struct Memory(Span);

impl Memory {
    /// At least `bytes` bytes, whatever they hold, and whether they are known to be zero.
    pub(super) fn new(bytes: usize) -> Result<(Memory, bool), OutOfMemory> {
        let capacity = capacity_of(bytes).ok_or(OutOfMemory { bytes: bytes as u64 })?;
        if let Some(span) = pool().take(capacity) {
            return Ok((Memory(span), false));
        }
        match Span::allocate(capacity) {
            Some(span) => Ok((Memory(span), true)),
            None => Err(OutOfMemory { bytes: bytes as u64 }),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the span is initialised, owned by `self`, and lives until `self` is dropped.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.capacity) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.capacity) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let span = std::mem::replace(&mut self.0, Span::NONE);
        // The evicted are freed after the lock is gone: unmapping takes milliseconds.
        let evicted = pool().give(span);
        drop(evicted);
    }
}

/// Bytes that wait in the pool.
pub(super) fn pool_bytes() -> usize {
    pool().bytes
}

/// Lets the pool keep at most `bytes` from now on.
pub(super) fn set_pool_bytes_max(bytes: usize) {
    let evicted = {
        let mut pool = pool();
        pool.bytes_max = bytes;
        pool.evict(0)
    };
    drop(evicted);
}

/// Gives all that waits back to the system.
pub(super) fn trim() {
    let evicted = {
        let mut pool = pool();
        pool.bytes = 0;
        std::mem::take(&mut pool.classes)
    };
    drop(evicted);
}

/// The size class of `bytes`: at most a quarter more (an eighth where huge), so that few classes serve all sizes.
fn capacity_of(bytes: usize) -> Option<usize> {
    if bytes <= POOLED_BYTES_MIN {
        return Some(bytes.next_multiple_of(ALIGNMENT));
    }
    let eighth = bytes.checked_next_power_of_two()? / 8;
    let capacity = bytes.checked_next_multiple_of(eighth)?;
    if capacity < HUGE_PAGE_BYTES {
        Some(capacity)
    } else {
        bytes.checked_next_multiple_of(HUGE_PAGE_BYTES.max(eighth / 2))
    }
}

/// An owned stretch of memory: `capacity` initialised bytes at `start`.
struct Span {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: a span is plain memory that nothing else points to.
unsafe impl Send for Span {}
// SAFETY: a shared span is only read.
unsafe impl Sync for Span {}

impl Span {
    /// No memory: aligned, and never read from or written to.
    const NONE: Span = Span { start: NonNull::<Line>::dangling().cast(), capacity: 0 };

    fn allocate(capacity: usize) -> Option<Span> {
        match capacity {
            0 => Some(Span::NONE),
            _ if is_mapped(capacity) => map(capacity),
            _ => {
                let layout = Layout::from_size_align(capacity, ALIGNMENT).ok()?;
                // SAFETY: the layout's size is not zero.
                let start = unsafe { alloc_zeroed(layout) };
                Some(Span { start: NonNull::new(start)?, capacity })
            }
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        match self.capacity {
            0 => {}
            capacity if is_mapped(capacity) => unmap(self.start, capacity),
            capacity => {
                let layout = Layout::from_size_align(capacity, ALIGNMENT).expect("it was made with this layout");
                // SAFETY: `allocate` made it with this very layout, and no one else frees it.
                unsafe { dealloc(self.start.as_ptr(), layout) }
            }
        }
    }
}

#[repr(align(64))]
struct Line;

const fn is_mapped(capacity: usize) -> bool {
    cfg!(target_os = "linux") && capacity >= HUGE_PAGE_BYTES
}

/// Maps `capacity` bytes (a multiple of the huge page) aligned to a huge page.
#[cfg(target_os = "linux")]
fn map(capacity: usize) -> Option<Span> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
    let reserved = capacity.checked_add(HUGE_PAGE_BYTES)?;
    // SAFETY: a new private mapping at an address of the system's choice touches no memory of ours.
    let mapping = unsafe {
        mmap_anonymous(std::ptr::null_mut(), reserved, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).ok()?
    };
    let mapping = NonNull::new(mapping.cast::<u8>())?;
    let before = mapping.as_ptr().align_offset(HUGE_PAGE_BYTES);
    let after = reserved - before - capacity;
    // SAFETY: `before < HUGE_PAGE_BYTES`, so all three parts lie inside the mapping made above.
    let (start, end) = unsafe { (mapping.add(before), mapping.add(before + capacity)) };
    unmap(mapping, before);
    unmap(end, after);
    // SAFETY: the advice concerns whole pages of the mapping that is left. Without huge pages it is only slower.
    let _ = unsafe { madvise(start.as_ptr().cast(), capacity, Advice::LinuxHugepage) };
    Some(Span { start, capacity })
}

/// Unmaps whole pages that `map` mapped and that nothing uses any more.
#[cfg(target_os = "linux")]
fn unmap(start: NonNull<u8>, bytes: usize) {
    if bytes > 0 {
        // SAFETY: callers own these pages and forget them.
        let _ = unsafe { rustix::mm::munmap(start.as_ptr().cast(), bytes) };
    }
}

#[cfg(not(target_os = "linux"))]
fn map(_capacity: usize) -> Option<Span> {
    None
}

#[cfg(not(target_os = "linux"))]
fn unmap(_start: NonNull<u8>, _bytes: usize) {}

/// What waits for reuse.
struct Pool {
    classes: BTreeMap<usize, Class>,
    bytes: usize,
    bytes_max: usize,
    uses: u64,
}

/// Spans of one capacity.
struct Class {
    free: Vec<Span>,
    used_last: u64,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { classes: BTreeMap::new(), bytes: 0, bytes_max: POOL_BYTES_MAX, uses: 0 });

fn pool() -> MutexGuard<'static, Pool> {
    // No code that holds the lock can leave the pool half changed.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    fn take(&mut self, capacity: usize) -> Option<Span> {
        self.uses += 1;
        let class = self.classes.get_mut(&capacity)?;
        class.used_last = self.uses;
        let span = class.free.pop()?;
        self.bytes -= capacity;
        Some(span)
    }

    /// Keeps the span if it is worth it; what has to go instead is returned, to be freed by the caller.
    fn give(&mut self, span: Span) -> Vec<Span> {
        let capacity = span.capacity;
        if capacity <= POOLED_BYTES_MIN || capacity > self.bytes_max {
            return vec![span];
        }
        self.uses += 1;
        let evicted = self.evict(capacity);
        let class = self.classes.entry(capacity).or_insert(Class { free: Vec::new(), used_last: 0 });
        class.used_last = self.uses;
        class.free.push(span);
        self.bytes += capacity;
        evicted
    }

    /// Takes out the least recently used classes' spans until `room` more bytes fit.
    fn evict(&mut self, room: usize) -> Vec<Span> {
        let mut evicted = Vec::new();
        while self.bytes + room > self.bytes_max {
            let waiting = self.classes.iter_mut().filter(|(_, class)| !class.free.is_empty());
            let Some((capacity, class)) = waiting.min_by_key(|(_, class)| class.used_last) else { break };
            self.bytes -= capacity;
            evicted.extend(class.free.pop());
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_few_aligned_and_little_larger() {
        for bytes in (1..5000).chain([1 << 20, (1 << 20) + 1, (2 << 20) - 1, 3 << 20, (128 << 20) + 5]) {
            let capacity = capacity_of(bytes).unwrap();
            assert!(capacity >= bytes && capacity.is_multiple_of(ALIGNMENT), "{bytes}");
            assert!(capacity <= bytes + (bytes / 4).max(HUGE_PAGE_BYTES.min(bytes + 64)), "{bytes} {capacity}");
            assert_eq!(capacity_of(capacity), Some(capacity), "{bytes}");
        }
        assert_eq!(capacity_of(usize::MAX), None);
        assert_eq!(capacity_of(128 << 20), Some(128 << 20));
    }

    #[test]
    fn the_least_recently_used_class_goes_first() {
        let mut pool = Pool { classes: BTreeMap::new(), bytes: 0, bytes_max: 40 << 10, uses: 0 };
        let span = |kib: usize| Span::allocate(kib << 10).unwrap();
        assert!(pool.give(span(16)).is_empty());
        assert!(pool.give(span(8)).is_empty());
        assert!(pool.take(16 << 10).is_some());
        assert!(pool.give(span(16)).is_empty());
        let evicted = pool.give(span(20));
        assert_eq!(evicted.iter().map(|span| span.capacity >> 10).collect::<Vec<_>>(), [8]);
        assert_eq!(pool.bytes, 36 << 10);
        assert_eq!(pool.give(span(64)).len(), 1, "larger than the whole pool");
    }
}
