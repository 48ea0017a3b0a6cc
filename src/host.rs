//! What this process may use of its machine: cores and memory, as the system tells. What cannot be found out is `None`.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

/// Threads that can run at once, by the affinity mask and the cgroup's quota; at least 1.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// What the machine is called.
pub fn name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// Bytes of memory in the machine.
pub fn memory_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")
}

/// Bytes of memory that nobody uses, or that can be had at once.
pub fn memory_available_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

/// The least limit of the cgroups that this process is in, where there is one (version 2).
pub fn memory_limit_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Inside a container the group's own path may not be mounted; its root then is the group.
    let limit = |group: &Path| {
        let file = Path::new("/sys/fs/cgroup").join(group.strip_prefix("/").ok()?).join("memory.max");
        fs::read_to_string(file).ok()?.trim().parse().ok()
    };
    Path::new(group).ancestors().filter_map(limit).min()
}

/// The most memory that this process has held so far, in bytes.
pub fn memory_peak_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
}

/// `name:  123 kB`, as files in /proc have it, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let meminfo = "MemTotal:       24605012 kB\nMemFree:         100 kB\nMemAvailable:   23000000 kB\n";
        assert_eq!(kibibytes(meminfo, "MemTotal"), Some(24_605_012 * 1024));
        assert_eq!(kibibytes(meminfo, "Mem"), None);
        assert_eq!(kibibytes(meminfo, "Swap"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_is_known() {
        assert!(cores() >= 1);
        assert!(memory_available_bytes() <= memory_bytes());
        assert!(memory_peak_bytes() > Some(1 << 20));
    }
}
