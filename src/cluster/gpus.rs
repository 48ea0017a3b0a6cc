//! Which GPUs of this machine workers compute on.

use std::time::Duration;

use gridloom_worker::gpu::{self, Adapter, AdapterInfo, GpuOptions, Visibility};

use super::ClusterError;
use crate::client::Devices;

/// Blocks in flight on a GPU: the device computes one while the host feeds it others.
pub(super) const GPU_SLOTS: usize = 3;

/// How a worker of this process computes on a GPU.
pub(super) fn gpu_options(info: &AdapterInfo, block_timeout: Duration, asked: Option<u64>, share: u64) -> GpuOptions {
    let memory_bytes = ledger_bytes(info.usable_bytes(), asked, share);
    GpuOptions { slots: GPU_SLOTS, block_timeout, memory_bytes }
}

/// What a worker takes of a GPU's memory: as much as was `asked`, else most of its own, else as much as the worker's
/// `share` of the host's; never more than it has.
pub(super) fn ledger_bytes(usable: Option<u64>, asked: Option<u64>, share: u64) -> u64 {
    asked.or(usable).unwrap_or(share).min(usable.unwrap_or(u64::MAX))
}

/// What one GPU is called among those of this machine, by this process and its children.
pub(super) fn name_of(info: &AdapterInfo) -> String {
    info.pci_bus_id.clone().unwrap_or_else(|| info.index.to_string())
}

/// The GPU that is called so.
pub(super) fn gpu_of_name(name: &str) -> Result<Adapter, ClusterError> {
    let adapters = gpu::adapters();
    let infos: Vec<AdapterInfo> = adapters.iter().map(|adapter| adapter.info().clone()).collect();
    let alone = Visibility { gridloom: Some(name.to_owned()), ..Visibility::default() };
    let found = alone.select(&infos)?.first().map(|&at| adapters[at].clone());
    found.ok_or(ClusterError::NoGpu { missing: Vec::new() })
}

/// Whether it is worth looking: to look at software GPUs takes time and memory, and some of them speak on standard error.
pub(super) fn may_have_real() -> bool {
    !cfg!(target_arch = "x86_64") || !gpu::missing().contains(&gpu::Missing::Hardware)
}

/// The GPUs of this machine that `devices` means and the environment leaves to us.
pub(super) fn usable_gpus(devices: Devices) -> Result<Vec<Adapter>, ClusterError> {
    if devices != Devices::Gpu && !may_have_real() {
        return Ok(Vec::new());
    }
    let adapters = gpu::adapters();
    let infos: Vec<AdapterInfo> = adapters.iter().map(|adapter| adapter.info().clone()).collect();
    let visible = Visibility::of_process().select(&infos)?;
    let usable = visible.into_iter().map(|at| adapters[at].clone());
    let (software, real): (Vec<Adapter>, Vec<Adapter>) = usable.partition(|adapter| adapter.info().is_software());
    match (devices, real.is_empty()) {
        (Devices::Gpu, true) if software.is_empty() => {
            Err(ClusterError::NoGpu { missing: gpu::missing().iter().map(ToString::to_string).collect() })
        }
        (Devices::Gpu, true) => {
            software.iter().for_each(|gpu| {
                tracing::warn!(gpu = gpu.info().name, "there is no real GPU: this one computes on the CPU");
            });
            Ok(software)
        }
        _ => Ok(real),
    }
}

#[cfg(test)]
mod tests {
    use super::ledger_bytes;

    #[test]
    fn a_gpu_never_uses_more_than_it_has_or_was_allowed() {
        assert_eq!(ledger_bytes(Some(80), None, 10), 80);
        assert_eq!(ledger_bytes(Some(80), Some(20), 10), 20);
        assert_eq!(ledger_bytes(Some(80), Some(200), 100), 80);
        assert_eq!(ledger_bytes(None, None, 10), 10);
        assert_eq!(ledger_bytes(None, Some(20), 10), 20);
    }
}
