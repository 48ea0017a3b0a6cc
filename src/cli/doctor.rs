//! What this machine offers: what Gridloom sees of it and what it will use.
//!
//! Everything is read from the system as it is; what cannot be found out is said to be unknown, never guessed.

use std::fmt;
use std::fs;

use serde::Serialize;

use super::human::Bytes;
use crate::host;

/// One look at the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Doctor {
    gridloom: &'static str,
    system: Option<String>,
    kernel: Option<String>,
    architecture: &'static str,
    cpu: Option<String>,
    cores: Option<usize>,
    /// What the affinity mask and the cgroup quota leave: as many threads as a cluster starts by itself.
    cores_usable: usize,
    simd: Vec<&'static str>,
    memory_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
    executors: Vec<Executor>,
}

/// Something that computes, or that will.
#[derive(Clone, Debug, Serialize)]
struct Executor {
    name: &'static str,
    is_there: bool,
    note: &'static str,
}

const EXECUTORS: &[Executor] = &[
    Executor { name: "cpu cranelift", is_there: true, note: "kernels, sources and reductions are native code" },
    Executor { name: "gpu", is_there: false, note: "the GPU executor is not there yet; --device gpu is refused" },
];

impl Doctor {
    /// Looks.
    pub fn examine() -> Doctor {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        Doctor {
            gridloom: env!("CARGO_PKG_VERSION"),
            system: system_name(),
            kernel: trimmed("/proc/sys/kernel/osrelease"),
            architecture: std::env::consts::ARCH,
            cpu: field(&cpuinfo, "model name"),
            cores: (cores > 0).then_some(cores),
            cores_usable: host::cores(),
            simd: simd_features(),
            memory_bytes: host::memory_bytes(),
            memory_available_bytes: host::memory_available_bytes(),
            memory_limit_bytes: host::memory_limit_bytes(),
            executors: EXECUTORS.to_vec(),
        }
    }
}

fn trimmed(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn system_name() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map(|name| name.trim_matches('"').to_owned()).or_else(|| Some(std::env::consts::OS.to_owned()))
}

/// `model name : AMD ...` as /proc writes it.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start().strip_prefix(':')?.trim().to_owned())
}

/// The instruction sets that native sources and reductions choose among when they run.
fn simd_features() -> Vec<&'static str> {
    let mut features = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("fma", std::arch::is_x86_feature_detected!("fma")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ];
        features.extend(found.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)));
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        features.push("neon");
    }
    features
}

impl fmt::Display for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn or_unknown<T: ToString>(value: &Option<T>) -> String {
            value.as_ref().map_or_else(|| "unknown".to_owned(), T::to_string)
        }
        let bytes = |value: Option<u64>| or_unknown(&value.map(|bytes| Bytes(bytes as f64)));
        let simd = if self.simd.is_empty() { "none that is used".to_owned() } else { self.simd.join(" ") };
        writeln!(f, "gridloom   {}", self.gridloom)?;
        writeln!(f, "system     {}, kernel {}", or_unknown(&self.system), or_unknown(&self.kernel))?;
        writeln!(f, "cpu        {} ({})", or_unknown(&self.cpu), self.architecture)?;
        writeln!(f, "cores      {} usable of {}", self.cores_usable, or_unknown(&self.cores))?;
        writeln!(f, "simd       {simd}")?;
        write!(f, "memory     {}, {} available", bytes(self.memory_bytes), bytes(self.memory_available_bytes))?;
        if let Some(limit) = self.memory_limit_bytes {
            write!(f, ", limited to {}", Bytes(limit as f64))?;
        }
        for Executor { name, is_there, note } in &self.executors {
            write!(f, "\n{:<10} {name}: {note}", if *is_there { "executor" } else { "missing" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(field("model name\t: AMD EPYC\n", "model name"), Some("AMD EPYC".to_owned()));
    }

    #[test]
    fn what_is_missing_is_said() {
        let text = Doctor::examine().to_string();
        assert!(text.contains("missing    gpu: the GPU executor is not there yet"), "{text}");
        assert!(serde_json::to_value(Doctor::examine()).unwrap()["executors"].is_array());
    }
}
