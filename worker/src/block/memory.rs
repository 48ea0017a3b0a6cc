//! Where block bytes live: aligned memory, on huge pages when it is large, recycled through a pool.
//!
//! Fresh memory costs several times a copy (FACTS), so what a buffer leaves is kept for the next one: by size class,
//! in all at most [`POOL_BYTES_MAX`] (settable), least recently used classes given back first. Where the process has a
//! limit, what is kept gives way before more is asked of the system, and what would go beyond it cannot be had. Every
//! byte that is ever handed out is initialised: fresh memory is zeroed by the kernel or the allocator, recycled memory
//! holds old data of this process. Memory that cannot be had is an error here, never an abort.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::OutOfMemory;

/// From here on, memory is aligned to this, and asked to be on huge pages.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// From here on, memory is mapped: what is given back is then gone, whatever lies beside it.
const MAPPED_BYTES_MIN: usize = 128 << 10;
/// How much smaller memory may be freed before the allocator, which keeps it, is asked to give it back.
const LOOSE_BYTES_MAX: usize = 4 << 20;
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
        let out = OutOfMemory { bytes: bytes as u64 };
        let capacity = capacity_of(bytes).ok_or(out)?;
        // The lock is let go before anything is freed: unmapping takes milliseconds.
        let granted = pool().grant(capacity).ok_or(out)?;
        match granted {
            Grant::Recycled(span) => return Ok((Memory(span), false)),
            Grant::Fresh { evicted, is_loose } => {
                drop(evicted);
                is_loose.then(trim_allocator);
            }
        }
        let Some(span) = Span::allocate(capacity) else {
            pool().used_bytes -= capacity;
            return Err(out);
        };
        Ok((Memory(span), true))
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

/// Lets all memory together, in use and kept, be at most `bytes` from now on.
pub(super) fn set_bytes_max(bytes: usize) {
    let evicted = {
        let mut pool = pool();
        pool.used_bytes_max = bytes;
        pool.make_room(0)
    };
    drop(evicted);
}

/// Lets the pool keep at most `bytes` from now on.
pub(super) fn set_pool_bytes_max(bytes: usize) {
    let evicted = {
        let mut pool = pool();
        pool.bytes_max = bytes;
        pool.evict_to(bytes)
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

/// The size class of `bytes`: at most an eighth more, so that few classes serve all sizes.
fn capacity_of(bytes: usize) -> Option<usize> {
    match bytes <= POOLED_BYTES_MIN {
        true => Some(bytes.next_multiple_of(ALIGNMENT)),
        false => bytes.checked_next_multiple_of(bytes.checked_next_power_of_two()? / 16),
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
    cfg!(target_os = "linux") && capacity >= MAPPED_BYTES_MIN
}

/// Maps `capacity` bytes (whole pages); many of them aligned to a huge page. Where the last of these is not full, small
/// ones end it.
#[cfg(target_os = "linux")]
fn map(capacity: usize) -> Option<Span> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
    let is_huge = capacity >= HUGE_PAGE_BYTES;
    let reserved = capacity.checked_add(if is_huge { HUGE_PAGE_BYTES } else { 0 })?;
    // SAFETY: a new private mapping at an address of the system's choice touches no memory of ours.
    let mapping = unsafe {
        mmap_anonymous(std::ptr::null_mut(), reserved, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).ok()?
    };
    let mapping = NonNull::new(mapping.cast::<u8>())?;
    if !is_huge {
        return Some(Span { start: mapping, capacity });
    }
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

/// Freed memory that lies between what is in use stays the allocator's until it is told.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim_allocator() {
    // SAFETY: it is always safe to call, and frees nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim_allocator() {}

/// What waits for reuse, and how much does not.
struct Pool {
    classes: BTreeMap<usize, Class>,
    bytes: usize,
    bytes_max: usize,
    /// Of spans that are in use.
    used_bytes: usize,
    /// Of those and what waits.
    used_bytes_max: usize,
    /// Freed since the allocator was last asked to give back what it keeps.
    loose_bytes: usize,
    uses: u64,
}

/// How memory may be had.
enum Grant {
    /// From what waits.
    Recycled(Span),
    /// From the system, once the evicted are freed and the allocator, if it is loose, is trimmed.
    Fresh { evicted: Vec<Span>, is_loose: bool },
}

/// Spans of one capacity.
struct Class {
    free: Vec<Span>,
    used_last: u64,
}

static POOL: Mutex<Pool> = Mutex::new(Pool::new(POOL_BYTES_MAX));

fn pool() -> MutexGuard<'static, Pool> {
    // No code that holds the lock can leave the pool half changed.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    const fn new(bytes_max: usize) -> Pool {
        let classes = BTreeMap::new();
        Pool { classes, bytes: 0, bytes_max, used_bytes: 0, used_bytes_max: usize::MAX, loose_bytes: 0, uses: 0 }
    }

    fn grant(&mut self, capacity: usize) -> Option<Grant> {
        if let Some(span) = self.take(capacity) {
            return Some(Grant::Recycled(span));
        }
        let evicted = self.make_room(capacity)?;
        Some(Grant::Fresh { evicted, is_loose: self.is_loose() })
    }

    fn take(&mut self, capacity: usize) -> Option<Span> {
        self.uses += 1;
        let class = self.classes.get_mut(&capacity)?;
        class.used_last = self.uses;
        let span = class.free.pop()?;
        self.bytes -= capacity;
        self.used_bytes += capacity;
        Some(span)
    }

    /// Counts `capacity` bytes as used, if they may be; what has to go for them is returned, to be freed by the caller.
    fn make_room(&mut self, capacity: usize) -> Option<Vec<Span>> {
        let used = self.used_bytes.checked_add(capacity).filter(|&used| used <= self.used_bytes_max)?;
        self.used_bytes = used;
        Some(self.evict_to(self.used_bytes_max - used))
    }

    /// Keeps the span if it is worth it; what has to go instead is returned, to be freed by the caller.
    fn give(&mut self, span: Span) -> Vec<Span> {
        let capacity = span.capacity;
        self.used_bytes -= capacity;
        if capacity <= POOLED_BYTES_MIN || capacity > self.bytes_max {
            self.note_freed(capacity);
            return vec![span];
        }
        self.uses += 1;
        let evicted = self.evict_to(self.bytes_max - capacity);
        let class = self.classes.entry(capacity).or_insert(Class { free: Vec::new(), used_last: 0 });
        class.used_last = self.uses;
        class.free.push(span);
        self.bytes += capacity;
        evicted
    }

    /// Takes out the least recently used classes' spans until at most `bytes` wait.
    fn evict_to(&mut self, bytes: usize) -> Vec<Span> {
        let mut evicted = Vec::new();
        while self.bytes > bytes {
            let waiting = self.classes.iter_mut().filter(|(_, class)| !class.free.is_empty());
            let Some((&capacity, class)) = waiting.min_by_key(|(_, class)| class.used_last) else { break };
            self.bytes -= capacity;
            evicted.extend(class.free.pop());
            self.note_freed(capacity);
        }
        evicted
    }

    fn note_freed(&mut self, capacity: usize) {
        if !is_mapped(capacity) {
            self.loose_bytes += capacity;
        }
    }

    /// Whether, where there is a limit, the allocator is to give back what it keeps.
    fn is_loose(&mut self) -> bool {
        let is_loose = self.used_bytes_max < usize::MAX && self.loose_bytes > LOOSE_BYTES_MAX;
        if is_loose {
            self.loose_bytes = 0;
        }
        is_loose
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
            assert!(capacity <= bytes + (bytes / 8).max(ALIGNMENT), "{bytes} {capacity}");
            assert_eq!(capacity_of(capacity), Some(capacity), "{bytes}");
        }
        assert_eq!(capacity_of(usize::MAX), None);
        assert_eq!(capacity_of(128 << 20), Some(128 << 20));
    }

    #[test]
    fn the_least_recently_used_class_goes_first() {
        let mut pool = Pool::new(40 << 10);
        assert_eq!(used(&mut pool, 16), [0; 0]);
        assert_eq!(used(&mut pool, 8), [0; 0]);
        assert!(pool.take(16 << 10).is_some_and(|span| pool.give(span).is_empty()));
        assert_eq!(used(&mut pool, 20), [8]);
        assert_eq!((pool.bytes, pool.used_bytes), (36 << 10, 0));
        assert_eq!(used(&mut pool, 64), [64], "larger than the whole pool");
    }

    #[test]
    fn what_waits_gives_way_and_what_is_used_stays_beneath_the_limit() {
        let mut pool = Pool { used_bytes_max: 40 << 10, ..Pool::new(64 << 10) };
        used(&mut pool, 16);
        used(&mut pool, 8);
        assert_eq!(kib(&pool.make_room(20 << 10).unwrap()), [16]);
        assert_eq!((pool.bytes, pool.used_bytes), (8 << 10, 20 << 10));
        assert!(pool.make_room(21 << 10).is_none(), "more than there may be");
        assert_eq!(kib(&pool.make_room(20 << 10).unwrap()), [8]);
        assert_eq!((pool.bytes, pool.used_bytes), (0, 40 << 10));
    }

    /// Uses a span and gives it back. What has to go for it, in KiB.
    fn used(pool: &mut Pool, size: usize) -> Vec<usize> {
        let mut evicted = pool.make_room(size << 10).unwrap();
        evicted.extend(pool.give(Span::allocate(size << 10).unwrap()));
        kib(&evicted)
    }

    fn kib(spans: &[Span]) -> Vec<usize> {
        spans.iter().map(|span| span.capacity >> 10).collect()
    }
}
