//! Which GPUs of this machine workers compute on.

use gridloom_worker::gpu::{self, Adapter, AdapterInfo, Visibility};

use super::ClusterError;
use crate::client::Devices;

/// Blocks in flight on a GPU: the device computes one while the host feeds it others.
pub(super) const GPU_SLOTS: usize = 3;

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
