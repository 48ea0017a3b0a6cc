//! Which GPUs of this machine workers compute on.

use gridloom_worker::gpu::{self, Adapter, AdapterInfo, Visibility};

use super::ClusterError;
use crate::client::Devices;

/// Blocks in flight on a GPU: the device computes one while the host feeds it others.
pub(super) const GPU_SLOTS: usize = 3;

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
