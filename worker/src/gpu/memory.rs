//! How much memory a GPU has of its own. wgpu does not say; Vulkan does, through wgpu's own door to it.

#![allow(unsafe_code)]

use super::adapter::AdapterKind;

/// Vulkan's mark of a heap that is the device's own (`VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`).
#[cfg(not(target_vendor = "apple"))]
const DEVICE_LOCAL: u32 = 1;

/// The bytes of the largest heap that is the device's alone; `None` where it shares the host's memory, or where its
/// driver is not Vulkan's.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn own_bytes(handle: &wgpu::Adapter, kind: AdapterKind) -> Option<u64> {
    if matches!(kind, AdapterKind::Integrated | AdapterKind::Software) {
        return None;
    }
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
