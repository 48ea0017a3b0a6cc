//! What is missing on this machine to get a GPU: the loader, a driver's manifest, the driver, or the right to use it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Something that stands between a program and a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Vulkan's loader.
    Loader,
    /// Any manifest of a Vulkan driver.
    Icd,
    /// The manifest of the driver of a GPU that is there.
    VendorIcd {
        /// Whose GPU.
        vendor: &'static str,
    },
    /// A kernel driver for a GPU that is there.
    Driver {
        /// Whose GPU.
        vendor: &'static str,
    },
    /// The right to open the GPU's device file.
    Access {
        /// The file.
        path: String,
    },
    /// A GPU.
    Hardware,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Missing::Loader => write!(f, "the Vulkan loader, libvulkan.so.1 (Debian's package libvulkan1)"),
            Missing::Icd => write!(
                f,
                "a Vulkan driver: there is no manifest in vulkan/icd.d (mesa-vulkan-drivers has AMD's, Intel's and a software one; NVIDIA's comes with its driver)"
            ),
            Missing::VendorIcd { vendor } => {
                write!(f, "the Vulkan part of {vendor}'s driver: a GPU of {vendor}'s is there, and no manifest for it")
            }
            Missing::Driver { vendor } => {
                write!(f, "{vendor}'s kernel driver: a GPU is there, and no device file for it")
            }
            Missing::Access { path } => write!(f, "the right to open {path} (in containers, hand the device in)"),
            Missing::Hardware => write!(f, "a GPU: none is on the PCI bus"),
        }
    }
}

/// What was seen of a machine.
#[derive(Clone, Debug, Default)]
struct Evidence {
    loader: bool,
    /// The manifests' file names.
    icds: Vec<String>,
    /// The vendors of display controllers on the PCI bus.
    vendors: Vec<u32>,
    /// Device files, and whether they can be opened.
    files: Vec<(String, bool)>,
}

/// What is missing here to use the GPUs that there are, or any. Systems other than Linux bring it all along.
pub fn missing() -> Vec<Missing> {
    if cfg!(target_os = "linux") { judge(&Evidence::gather()) } else { Vec::new() }
}

/// Vendors that we can name: PCI's number, name, words in their manifests' names, and how their device files begin.
const VENDORS: [(u32, &str, &[&str], &str); 3] = [
    (0x10de, "NVIDIA", &["nvidia", "nouveau"], "/dev/nvidia"),
    (0x1002, "AMD", &["radeon", "amd"], "/dev/dri/render"),
    (0x8086, "Intel", &["intel"], "/dev/dri/render"),
];

fn judge(evidence: &Evidence) -> Vec<Missing> {
    let mut missing = Vec::new();
    if !evidence.loader {
        missing.push(Missing::Loader);
    }
    if evidence.icds.is_empty() {
        missing.push(Missing::Icd);
    }
    let present = |&&(vendor, ..): &&(u32, _, _, _)| evidence.vendors.contains(&vendor);
    for &(_, vendor, words, prefix) in VENDORS.iter().filter(present) {
        let files: Vec<_> = evidence.files.iter().filter(|(path, _)| path.starts_with(prefix)).collect();
        if files.is_empty() {
            missing.push(Missing::Driver { vendor });
        }
        let closed = files.iter().filter(|(_, opens)| !opens);
        missing.extend(closed.map(|(path, _)| Missing::Access { path: path.clone() }));
        if !evidence.icds.is_empty() && !evidence.icds.iter().any(|icd| words.iter().any(|word| icd.contains(word))) {
            missing.push(Missing::VendorIcd { vendor });
        }
    }
    if evidence.vendors.is_empty() {
        missing.push(Missing::Hardware);
    }
    missing
}

impl Evidence {
    fn gather() -> Evidence {
        let devices = entries(Path::new("/sys/bus/pci/devices"));
        // Base class 3 of PCI: display controllers. 12 is what some accelerators call themselves.
        let is_display = |device: &PathBuf| {
            let class = trimmed(&device.join("class"));
            class.starts_with("0x03") || class.starts_with("0x12")
        };
        let vendor =
            |device: PathBuf| u32::from_str_radix(trimmed(&device.join("vendor")).trim_start_matches("0x"), 16);
        let numbered = |path: &PathBuf| path.to_string_lossy().ends_with(|last: char| last.is_ascii_digit());
        let nvidia =
            entries(Path::new("/dev")).into_iter().filter(|path| path.to_string_lossy().starts_with("/dev/nvidia"));
        let render =
            entries(Path::new("/dev/dri")).into_iter().filter(|path| path.to_string_lossy().contains("render"));
        let opens = |path: PathBuf| {
            let can = fs::OpenOptions::new().read(true).write(true).open(&path).is_ok();
            (path.to_string_lossy().into_owned(), can)
        };
        Evidence {
            loader: library_folders().iter().any(|folder| folder.join("libvulkan.so.1").exists()),
            icds: manifests(),
            vendors: devices.into_iter().filter(is_display).filter_map(|device| vendor(device).ok()).collect(),
            files: nvidia.filter(numbered).chain(render).map(opens).collect(),
        }
    }
}

/// The manifests of Vulkan's drivers, by the loader's rules.
fn manifests() -> Vec<String> {
    for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        if let Some(files) = std::env::var_os(name) {
            return std::env::split_paths(&files).map(|file| file.to_string_lossy().to_lowercase()).collect();
        }
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let folders = ["/etc", "/usr/share", "/usr/local/share", "/usr/local/etc"].map(PathBuf::from);
    let files = folders.into_iter().chain(home).flat_map(|folder| entries(&folder.join("vulkan/icd.d")));
    files.filter_map(|file| Some(file.file_name()?.to_string_lossy().to_lowercase())).collect()
}

/// Where libraries are, short of asking the dynamic loader.
fn library_folders() -> Vec<PathBuf> {
    let named = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let architecture = format!("{}-linux-gnu", std::env::consts::ARCH);
    let usual = ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let multiarch = ["/lib", "/usr/lib"].map(|folder| Path::new(folder).join(&architecture));
    std::env::split_paths(&named).chain(usual).chain(multiarch).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn trimmed(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_lacks_is_named() {
        let nothing = Evidence::default();
        assert_eq!(judge(&nothing), [Missing::Loader, Missing::Icd, Missing::Hardware]);
        let whole = Evidence {
            loader: true,
            icds: vec!["nvidia_icd.json".to_owned()],
            vendors: vec![0x10de],
            files: vec![("/dev/nvidia0".to_owned(), true)],
        };
        assert_eq!(judge(&whole), []);
        let closed = Evidence { files: vec![("/dev/nvidia0".to_owned(), false)], ..whole.clone() };
        assert_eq!(judge(&closed), [Missing::Access { path: "/dev/nvidia0".to_owned() }]);
        let bare = Evidence { files: Vec::new(), icds: vec!["lvp_icd.x86_64.json".to_owned()], ..whole };
        assert_eq!(judge(&bare), [Missing::Driver { vendor: "NVIDIA" }, Missing::VendorIcd { vendor: "NVIDIA" }]);
    }
}
