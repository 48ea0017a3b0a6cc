//! Which GPUs may be used: what the environment says, as a function of the adapters and its text alone.
//!
//! `CUDA_VISIBLE_DEVICES` hides NVIDIA's GPUs as it does for CUDA (Vulkan itself ignores it): numbers count them by PCI
//! bus id, `GPU-...` are their UUIDs, and what comes after the first that is unknown is hidden. `GRIDLOOM_GPUS` names
//! those to use, of any vendor and of what is visible: PCI bus ids, or the numbers that `doctor` shows.

use super::adapter::AdapterInfo;

/// PCI's number of NVIDIA.
const NVIDIA: u32 = 0x10de;

/// What the environment says of GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visibility {
    /// `CUDA_VISIBLE_DEVICES`.
    pub cuda: Option<String>,
    /// `GRIDLOOM_GPUS`.
    pub gridloom: Option<String>,
    /// The UUIDs of NVIDIA's GPUs, each with its PCI bus id.
    pub uuids: Vec<(String, String)>,
}

/// `GRIDLOOM_GPUS` names what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// No such GPU.
    #[error("GRIDLOOM_GPUS: no GPU `{entry}` here; `gridloom doctor` shows what there is")]
    Unknown {
        /// As it was written.
        entry: String,
    },
    /// `CUDA_VISIBLE_DEVICES` says otherwise.
    #[error("GRIDLOOM_GPUS: GPU `{entry}` is hidden by CUDA_VISIBLE_DEVICES")]
    Hidden {
        /// As it was written.
        entry: String,
    },
}

impl Visibility {
    /// What this process's environment says.
    pub fn of_process() -> Visibility {
        let text = |name: &str| std::env::var(name).ok();
        Visibility { cuda: text("CUDA_VISIBLE_DEVICES"), gridloom: text("GRIDLOOM_GPUS"), uuids: nvidia_uuids() }
    }

    /// The indices of the GPUs that may be used: as `GRIDLOOM_GPUS` orders them, else real ones before software.
    ///
    /// # Errors
    /// `GRIDLOOM_GPUS` names a GPU that is not there, or hidden.
    pub fn select(&self, adapters: &[AdapterInfo]) -> Result<Vec<usize>, SelectError> {
        let hidden = self.hidden(adapters);
        let Some(text) = &self.gridloom else {
            let mut visible: Vec<usize> = (0..adapters.len()).filter(|at| !hidden.contains(at)).collect();
            visible.sort_by_key(|&at| adapters[at].is_software());
            return Ok(visible);
        };
        let mut selected = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let named = |(at, info): (usize, &AdapterInfo)| is_named(info, entry).then_some(at);
            let found = adapters.iter().enumerate().find_map(named);
            match found {
                None => return Err(SelectError::Unknown { entry: entry.to_owned() }),
                Some(at) if hidden.contains(&at) => return Err(SelectError::Hidden { entry: entry.to_owned() }),
                Some(at) if selected.contains(&at) => {}
                Some(at) => selected.push(at),
            }
        }
        Ok(selected)
    }

    /// The indices of the GPUs that `CUDA_VISIBLE_DEVICES` hides.
    fn hidden(&self, adapters: &[AdapterInfo]) -> Vec<usize> {
        let Some(text) = &self.cuda else { return Vec::new() };
        let is_cuda = |at: &usize| adapters[*at].vendor == NVIDIA && !adapters[*at].is_software();
        let mut devices: Vec<usize> = (0..adapters.len()).filter(is_cuda).collect();
        devices.sort_by(|&a, &b| adapters[a].pci_bus_id.cmp(&adapters[b].pci_bus_id));
        let named = |entry: &str| match entry.parse::<usize>() {
            Ok(number) => devices.get(number).copied(),
            Err(_) => {
                let (_, bus) = self.uuids.iter().find(|(uuid, _)| entry.len() > 4 && uuid.starts_with(entry))?;
                devices.iter().copied().find(|&at| is_bus(&adapters[at], bus))
            }
        };
        let visible: Vec<usize> = text.split(',').map(|entry| named(entry.trim())).map_while(|at| at).collect();
        devices.into_iter().filter(|at| !visible.contains(at)).collect()
    }
}

fn is_named(info: &AdapterInfo, entry: &str) -> bool {
    match entry.parse::<usize>() {
        Ok(number) => info.index == number,
        Err(_) => is_bus(info, entry),
    }
}

/// PCI bus ids are written with or without their domain, in either case.
fn is_bus(info: &AdapterInfo, written: &str) -> bool {
    let written = written.to_lowercase();
    let full = if written.matches(':').count() == 1 { format!("0000:{written}") } else { written };
    let trimmed = |id: &str| id.trim_start_matches('0').to_owned();
    info.pci_bus_id.as_ref().is_some_and(|id| trimmed(id) == trimmed(&full))
}

/// What NVIDIA's driver says of its GPUs.
fn nvidia_uuids() -> Vec<(String, String)> {
    let folders = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let uuid = |folder: std::fs::DirEntry| {
        let text = std::fs::read_to_string(folder.path().join("information")).ok()?;
        let uuid = text.lines().find_map(|line| line.strip_prefix("GPU UUID:"))?.trim().to_owned();
        Some((uuid, folder.file_name().to_string_lossy().into_owned()))
    };
    folders.filter_map(uuid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{AdapterFeatures, AdapterKind, AdapterLimits};

    fn adapter(index: usize, vendor: u32, bus: &str, kind: AdapterKind) -> AdapterInfo {
        AdapterInfo {
            index,
            name: String::new(),
            backend: "vulkan".to_owned(),
            driver: String::new(),
            pci_bus_id: Some(bus.to_owned()).filter(|bus| !bus.is_empty()),
            kind,
            memory_bytes: None,
            vendor,
            device: 0,
            features: AdapterFeatures::default(),
            limits: AdapterLimits::default(),
        }
    }

    /// Software first, as loaders like to have it; NVIDIA's in another order than their buses.
    fn machine() -> Vec<AdapterInfo> {
        vec![
            adapter(0, 0x10005, "", AdapterKind::Software),
            adapter(1, NVIDIA, "0000:c1:00.0", AdapterKind::Discrete),
            adapter(2, 0x1002, "0000:03:00.0", AdapterKind::Integrated),
            adapter(3, NVIDIA, "0000:0a:00.0", AdapterKind::Discrete),
        ]
    }

    fn check(cuda: Option<&str>, gridloom: Option<&str>, expected: Result<&[usize], SelectError>) {
        let uuids = vec![("GPU-5f1a".to_owned(), "0000:c1:00.0".to_owned())];
        let visibility = Visibility { cuda: cuda.map(str::to_owned), gridloom: gridloom.map(str::to_owned), uuids };
        assert_eq!(visibility.select(&machine()), expected.map(<[usize]>::to_vec), "{cuda:?} {gridloom:?}");
    }

    #[test]
    fn all_are_visible_and_software_comes_last() {
        check(None, None, Ok(&[1, 2, 3, 0]));
    }

    #[test]
    fn cuda_hides_nvidias_by_their_buses() {
        check(Some("0"), None, Ok(&[2, 3, 0]));
        check(Some("1,0"), None, Ok(&[1, 2, 3, 0]));
        check(Some(""), None, Ok(&[2, 0]));
        check(Some("-1"), None, Ok(&[2, 0]));
        check(Some("1, 7, 0"), None, Ok(&[1, 2, 0]));
        check(Some("GPU-5f1a"), None, Ok(&[1, 2, 0]));
        check(Some("GPU-5f"), None, Ok(&[1, 2, 0]));
        check(Some("GPU-9"), None, Ok(&[2, 0]));
    }

    #[test]
    fn ours_names_what_is_used_in_order() {
        check(None, Some("3,1"), Ok(&[3, 1]));
        check(None, Some("0A:00.0, 0000:03:00.0,3"), Ok(&[3, 2]));
        check(None, Some("00000000:0A:00.0"), Ok(&[3]));
        check(None, Some(""), Ok(&[]));
        check(None, Some("4"), Err(SelectError::Unknown { entry: "4".to_owned() }));
        check(Some("0"), Some("1"), Err(SelectError::Hidden { entry: "1".to_owned() }));
        check(Some("0"), Some("0,3"), Ok(&[0, 3]));
    }
}
