//! What this machine offers: what Gridloom sees of it and what it will use.
//!
//! Everything is read from the system as it is; what cannot be found out is said to be unknown, never guessed.

use std::fmt;
use std::fs;

use gridloom_worker::gpu::{self, AdapterInfo, AdapterKind};
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
    /// As they can be named in `GRIDLOOM_GPUS`.
    gpus: Vec<Gpu>,
    /// Why no more GPUs are there.
    gpus_missing: Vec<String>,
    /// What is wrong with the environment's choice of GPUs.
    gpus_error: Option<String>,
}

/// A GPU.
#[derive(Clone, Debug, Serialize)]
struct Gpu {
    #[serde(flatten)]
    info: AdapterInfo,
    /// Whether `CUDA_VISIBLE_DEVICES` and `GRIDLOOM_GPUS` leave it to us.
    is_visible: bool,
}

/// Something that computes, or that will.
#[derive(Clone, Debug, Serialize)]
struct Executor {
    name: &'static str,
    is_there: bool,
    note: &'static str,
}

const EXECUTORS: &[Executor] =
    &[Executor { name: "cpu cranelift", is_there: true, note: "kernels, sources and reductions are native code" }];

/// The GPUs, and what is wrong with the environment's choice of them.
fn gpus() -> (Vec<Gpu>, Option<String>) {
    let infos: Vec<AdapterInfo> = gpu::adapters().iter().map(|adapter| adapter.info().clone()).collect();
    let (visible, error) = match gpu::Visibility::of_process().select(&infos) {
        Ok(visible) => (visible, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let gpus = infos.into_iter().map(|info| Gpu { is_visible: visible.contains(&info.index), info });
    (gpus.collect(), error)
}

impl Doctor {
    /// Looks.
    pub fn examine() -> Doctor {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let (gpus, gpus_error) = gpus();
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
            gpus,
            gpus_missing: gpu::missing().iter().map(ToString::to_string).collect(),
            gpus_error,
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
        self.gpus.iter().try_for_each(|gpu| write!(f, "\n{gpu}"))?;
        let wrong = self.gpus_error.iter().map(|error| ("wrong", error));
        let missing = self.gpus_missing.iter().map(|missing| ("missing", missing));
        wrong.chain(missing).try_for_each(|(word, what)| write!(f, "\n{word:<10} gpu: {what}"))
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdapterInfo { index, name, backend, driver, pci_bus_id, kind, memory_bytes, features, limits, .. } =
            &self.info;
        let kind = match kind {
            AdapterKind::Discrete => "discrete",
            AdapterKind::Integrated => "integrated",
            AdapterKind::Virtual => "virtual",
            AdapterKind::Software => "software: right, and slow",
            AdapterKind::Unknown => "of unknown kind",
        };
        let bus = pci_bus_id.as_deref().unwrap_or("no PCI bus id");
        let hidden = if self.is_visible { "" } else { ", hidden by the environment" };
        writeln!(f, "gpu {index:<6} {name} ({kind}), {bus}, {backend}, {driver}{hidden}")?;
        match (memory_bytes, self.info.usable_bytes()) {
            (Some(own), Some(usable)) => {
                let (own, usable) = (Bytes(*own as f64), Bytes(usable as f64));
                writeln!(f, "           {own} of memory, of which a worker uses up to {usable}")?;
            }
            _ => writeln!(f, "           of its memory a worker uses as much as its share of the host's")?,
        }
        let offered =
            [(features.f64, "f64"), (features.i64, "i64"), (features.f16, "f16"), (features.subgroup, "subgroups")];
        let words = |wanted: bool| -> String {
            let names = offered.iter().filter(|(has, _)| *has == wanted).map(|(_, name)| *name);
            names.collect::<Vec<_>>().join(" ")
        };
        let lacks = if words(false).is_empty() { String::new() } else { format!(", lacks {}", words(false)) };
        let (binding, bindings) = (Bytes(limits.binding_bytes as f64), limits.bindings);
        writeln!(f, "           has {}{lacks}; fields of blocks up to {binding}, {bindings} at once", words(true))?;
        let ([x, y, z], invocations) = (limits.workgroup_size, limits.workgroup_invocations);
        let bytes = Bytes(limits.workgroup_bytes.into());
        write!(f, "           workgroups of up to {invocations} invocations ({x}x{y}x{z}) with {bytes}")
    }
}

#[cfg(test)]
mod tests {
    use gridloom_worker::gpu::{AdapterFeatures, AdapterLimits};

    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(field("model name\t: AMD EPYC\n", "model name"), Some("AMD EPYC".to_owned()));
    }

    #[test]
    fn gpus_are_shown_with_what_they_offer_and_lack() {
        let info = AdapterInfo {
            index: 0,
            name: "Card".to_owned(),
            backend: "vulkan".to_owned(),
            driver: "driver 1.2".to_owned(),
            pci_bus_id: Some("0000:01:00.0".to_owned()),
            kind: AdapterKind::Discrete,
            memory_bytes: Some(100_000_000_000),
            vendor: 1,
            device: 2,
            features: AdapterFeatures { i64: true, f16: true, ..AdapterFeatures::default() },
            limits: AdapterLimits {
                binding_bytes: 1_000_000_000,
                bindings: 8,
                workgroup_size: [1024, 1024, 64],
                workgroup_invocations: 1024,
                workgroup_bytes: 49_000,
                ..AdapterLimits::default()
            },
        };
        let gpu = Gpu { info, is_visible: false };
        let expected = "gpu 0      Card (discrete), 0000:01:00.0, vulkan, driver 1.2, hidden by the environment
           100 GB of memory, of which a worker uses up to 85.0 GB
           has i64 f16, lacks f64 subgroups; fields of blocks up to 1.00 GB, 8 at once
           workgroups of up to 1024 invocations (1024x1024x64) with 49.0 kB";
        assert_eq!(gpu.to_string(), expected);
        assert_eq!(serde_json::to_value(&gpu).unwrap()["kind"], "discrete");
    }

    #[test]
    fn what_is_missing_is_said() {
        let text = Doctor::examine().to_string();
        assert!(text.contains("executor   cpu cranelift: "), "{text}");
        assert!(serde_json::to_value(Doctor::examine()).unwrap()["executors"].is_array());
    }
}
