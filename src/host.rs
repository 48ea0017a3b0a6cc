//! What this process may use of its machine: cores and memory, as the affinity mask and the cgroup allow.

use std::fs;

/// The cores that this process may run on, by number. Never empty. A cgroup quota below their number shortens the list.
pub fn cores() -> Vec<usize> {
    let allowed = allowed_cores();
    let quota = cpu_quota().unwrap_or(allowed.len());
    allowed.into_iter().take(quota.max(1)).collect()
}

/// Bytes of memory that this process may use: the machine's, or the cgroup's limit if that is lower.
pub fn memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo_bytes(&text, "MemTotal:"));
    let cgroup = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    // Where nothing can be read, assume little rather than too much.
    machine.into_iter().chain(cgroup).min().unwrap_or(2 << 30)
}

/// The most memory that this process has held so far, in bytes; 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    meminfo_bytes(&status, "VmHWM:").unwrap_or(0)
}

#[cfg(target_os = "linux")]
fn allowed_cores() -> Vec<usize> {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect(),
        Err(_) => (0..count).collect(),
    }
}

#[cfg(not(target_os = "linux"))]
fn allowed_cores() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)).collect()
}

/// The cgroup's CPU quota, rounded up to whole cores.
fn cpu_quota() -> Option<usize> {
    quota_cores(&fs::read_to_string("/sys/fs/cgroup/cpu.max").ok()?)
}

/// `cpu.max` is `quota period` in microseconds, or `max period`.
fn quota_cores(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    Some(quota.div_ceil(period.max(1)) as usize)
}

/// The bytes on the line that begins with `key`, which gives kB.
fn meminfo_bytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_files_are_read() {
        assert_eq!(quota_cores("150000 100000\n"), Some(2));
        assert_eq!(quota_cores("max 100000\n"), None);
        assert_eq!(meminfo_bytes("MemTotal:       24 kB\n", "MemTotal:"), Some(24 << 10));
        assert!(!cores().is_empty());
        assert!(memory_bytes() > 0);
    }
}
