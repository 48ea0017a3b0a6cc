//! How much memory a GPU has of its own. wgpu does not say; Vulkan does, through wgpu's own door to it.

#![allow(unsafe_code)]

use super::adapter::AdapterKind;

/// Vulkan's mark of a heap that is the device's own (`VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`).
#[cfg(not(target_vendor = "apple"))]
const DEVICE_LOCAL: u32 = 1;

/// The bytes of a GPU's own memory; `None` where it has the host's, or where its driver is not Vulkan's.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn own_bytes(handle: &wgpu::Adapter, kind: AdapterKind) -> Option<u64> {
    let is_hosts = matches!(kind, AdapterKind::Integrated | AdapterKind::Software);
    if is_hosts { None } else { largest_local_heap(handle) }
}

#[cfg(not(target_vendor = "apple"))]
fn largest_local_heap(handle: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the adapter is only looked at, and not destroyed: the guard lives to the end of this function.
    let adapter = unsafe { handle.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance().raw_instance();
    // SAFETY: the physical device is this instance's, which the adapter keeps alive; the call writes to its result alone.
    let memory = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

/// Apple's GPUs share the host's memory, and Metal does not say what others have.
#[cfg(target_vendor = "apple")]
pub(super) fn own_bytes(_handle: &wgpu::Adapter, _kind: AdapterKind) -> Option<u64> {
    None
}

#[cfg(all(test, not(target_vendor = "apple")))]
mod tests {
    use super::*;
    use crate::gpu::adapters;

    /// Software has a heap too, which is the host's memory.
    #[test]
    fn vulkan_tells_how_large_heaps_are() {
        for adapter in adapters().iter().filter(|adapter| adapter.info().backend == "vulkan") {
            let bytes = largest_local_heap(&adapter.handle).expect("every Vulkan device has a heap of its own");
            assert!(bytes > 100 << 20, "{} bytes of {}", bytes, adapter.info().name);
            assert!(!adapter.info().is_software() || adapter.info().memory_bytes.is_none());
        }
    }
}
