//! The GPUs of this machine, as their drivers describe them.

use serde::Serialize;

use super::memory::own_bytes;

/// What a GPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A card of its own.
    Discrete,
    /// A part of the processor.
    Integrated,
    /// A share of a GPU elsewhere.
    Virtual,
    /// A CPU that speaks a GPU's language: right, and slow.
    Software,
    /// The driver does not say.
    Unknown,
}

/// What kernels can use on a GPU beyond what all have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AdapterFeatures {
    /// f64 values.
    pub f64: bool,
    /// i64 and u64 values.
    pub i64: bool,
    /// f16 values.
    pub f16: bool,
    /// Operations across a subgroup.
    pub subgroup: bool,
}

/// How much of everything there may be at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AdapterLimits {
    /// Bytes of a buffer.
    pub buffer_bytes: u64,
    /// Bytes of a buffer that a kernel sees: the largest field of a block.
    pub binding_bytes: u64,
    /// Buffers that a kernel sees.
    pub bindings: u32,
    /// Workgroups along one dimension.
    pub workgroups: u32,
    /// Invocations of a workgroup along x, y and z.
    pub workgroup_size: [u32; 3],
    /// Invocations of a workgroup in all.
    pub workgroup_invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// The fewest invocations of a subgroup.
    pub subgroup_min: u32,
    /// The most.
    pub subgroup_max: u32,
}

/// One GPU behind one driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdapterInfo {
    /// Its number among all of this machine, as `doctor` shows it.
    pub index: usize,
    /// As its driver calls it.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// Such as `0000:01:00.0`; `None` where the driver does not say.
    pub pci_bus_id: Option<String>,
    /// What it is.
    pub kind: AdapterKind,
    /// Bytes of memory of its own; `None` where it has the host's, or its driver does not say.
    pub memory_bytes: Option<u64>,
    /// The PCI vendor.
    pub vendor: u32,
    /// The PCI device.
    pub device: u32,
    /// What kernels can use.
    pub features: AdapterFeatures,
    /// How much of it.
    pub limits: AdapterLimits,
}

/// A GPU that can be opened.
#[derive(Clone, Debug)]
pub struct Adapter {
    info: AdapterInfo,
    pub(super) handle: wgpu::Adapter,
}

/// Of what a driver says may be used now, other processes' use considered, in percent.
const BUDGET_PERCENT: u8 = 95;
/// Of a GPU's own memory, in percent: displays, drivers and other processes have the rest.
const USABLE_PERCENT: u64 = 85;

/// Every GPU of this machine, each behind one driver only: Vulkan, then Metal, then DX12.
pub fn adapters() -> Vec<Adapter> {
    let mut description = wgpu::InstanceDescriptor::new_without_display_handle();
    description.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    // Layers that check what we do belong to debugging, and forbid buffers over 4 GiB.
    description.flags = wgpu::InstanceFlags::empty();
    // A buffer that others' memory leaves no room for is refused, before the device is lost over it.
    description.memory_budget_thresholds.for_resource_creation = Some(BUDGET_PERCENT);
    let instance = wgpu::Instance::new(description);
    let mut handles = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    handles.sort_by_key(|handle| rank(handle.get_info().backend));
    let mut found: Vec<Adapter> = Vec::new();
    for handle in handles {
        let info = describe(found.len(), &handle);
        let is_known = |other: &Adapter| info.pci_bus_id.is_some() && other.info.pci_bus_id == info.pci_bus_id;
        if !found.iter().any(is_known) {
            found.push(Adapter { info, handle });
        }
    }
    found
}

impl Adapter {
    /// What its driver says of it.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// The same GPU as if it had no numbers of 64 bits but these: what other GPUs lack can be tried on it.
    pub fn limited(mut self, has_f64: bool, has_i64: bool) -> Adapter {
        let features = &mut self.info.features;
        (features.f64, features.i64) = (features.f64 && has_f64, features.i64 && has_i64);
        self
    }
}

impl AdapterFeatures {
    /// Whether the engine computes with its f64: it moves them by their bits, which takes 64-bit integers too.
    pub(super) fn has_f64(self) -> bool {
        self.f64 && self.i64
    }

    /// What is asked of the driver.
    pub(super) fn wanted(self) -> wgpu::Features {
        let mut wanted = wgpu::Features::empty();
        wanted.set(wgpu::Features::SHADER_F64, self.f64);
        wanted.set(wgpu::Features::SHADER_INT64, self.i64);
        wanted
    }
}

impl AdapterInfo {
    /// Whether it computes on the CPU.
    pub fn is_software(&self) -> bool {
        self.kind == AdapterKind::Software
    }

    /// What buffers may take of its own memory, if it has any: most of it.
    pub fn usable_bytes(&self) -> Option<u64> {
        self.memory_bytes.map(|own| own / 100 * USABLE_PERCENT)
    }

    /// What devices must have in common to give the same bits: backend, vendor, device, driver and features.
    pub fn class(&self) -> String {
        let AdapterInfo { backend, vendor, device, driver, features, .. } = self;
        let named =
            [(features.f64, "f64"), (features.i64, "i64"), (features.f16, "f16"), (features.subgroup, "subgroup")];
        let names: Vec<&str> = named.into_iter().filter_map(|(has, name)| has.then_some(name)).collect();
        format!("{backend} {vendor:04x}:{device:04x} {driver} [{}]", names.join(" "))
    }
}

fn rank(backend: wgpu::Backend) -> u8 {
    match backend {
        wgpu::Backend::Vulkan => 0,
        wgpu::Backend::Metal => 1,
        _ => 2,
    }
}

fn describe(index: usize, handle: &wgpu::Adapter) -> AdapterInfo {
    let info = handle.get_info();
    let (features, limits) = (handle.features(), handle.limits());
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
        wgpu::DeviceType::Other => AdapterKind::Unknown,
    };
    AdapterInfo {
        index,
        name: info.name,
        backend: info.backend.to_str().to_owned(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        pci_bus_id: Some(info.device_pci_bus_id.to_lowercase()).filter(|id| !id.is_empty()),
        kind,
        memory_bytes: own_bytes(handle, kind),
        vendor: info.vendor,
        device: info.device,
        features: AdapterFeatures {
            f64: features.contains(wgpu::Features::SHADER_F64),
            i64: features.contains(wgpu::Features::SHADER_INT64),
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroup: features.contains(wgpu::Features::SUBGROUP),
        },
        limits: AdapterLimits {
            buffer_bytes: limits.max_buffer_size,
            binding_bytes: limits.max_storage_buffer_binding_size,
            bindings: limits.max_storage_buffers_per_shader_stage,
            workgroups: limits.max_compute_workgroups_per_dimension,
            workgroup_size: [
                limits.max_compute_workgroup_size_x,
                limits.max_compute_workgroup_size_y,
                limits.max_compute_workgroup_size_z,
            ],
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            subgroup_min: info.subgroup_min_size,
            subgroup_max: info.subgroup_max_size,
        },
    }
}
