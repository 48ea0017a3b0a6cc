//! Who computes a job: chosen when it is submitted, from what it needs and which workers are there.
//!
//! A job runs on devices of one class, whose bits are the same wherever and in whatever order its blocks run, unless
//! every device is to share it. The choice is a pure function; it never changes while the job runs, and the result
//! names it.

use std::collections::BTreeMap;
use std::fmt;

use gridloom_worker::kernel::Requirements;
use gridloom_worker::wire::{DeviceClass, Register};

/// Which devices may compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    /// GPUs for large jobs, where there are real ones that can run all of it; else CPUs.
    #[default]
    Auto,
    /// CPUs only.
    Cpu,
    /// GPUs only; real ones before software ones.
    Gpu,
    /// Every device that can run the job shares it, each at its rate. Floats may then differ in their last bits from
    /// run to run.
    All,
}

/// A job whose leaves have fewer bytes than this is computed on CPUs before a GPU has begun with it.
pub(crate) const GPU_BYTES_MIN: u64 = 256 << 20;

/// No device that may be used can run a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no device for this job: it needs {needs}; there {}", .found.sentence())]
#[non_exhaustive]
pub struct NoDevice {
    /// What the job needs.
    pub needs: Requirements,
    /// Who is there and may be used.
    pub found: Computers,
}

/// The executors of some workers, with how many workers and slots of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Computers {
    executors: BTreeMap<String, (usize, u64)>,
    has_software_gpu: bool,
}

impl Computers {
    fn of<'a>(workers: impl IntoIterator<Item = &'a Register>) -> Computers {
        let mut computers = Computers::default();
        for worker in workers {
            let (count, slots) = computers.executors.entry(worker.executor.clone()).or_default();
            *count += 1;
            *slots += u64::from(worker.slots);
            computers.has_software_gpu |= worker.is_software;
        }
        computers
    }

    /// Whether a GPU among them computes on a CPU: right, and slow.
    pub fn has_software_gpu(&self) -> bool {
        self.has_software_gpu
    }

    /// One line per executor, such as `cpu cranelift: 2 workers, 4 slots`.
    pub fn lines(&self) -> Vec<String> {
        let counted = |count: u64, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let line = |(name, &(workers, slots)): (&String, &(usize, u64))| {
            format!("{name}: {}, {}", counted(workers as u64, "worker"), counted(slots, "slot"))
        };
        self.executors.iter().map(line).collect()
    }

    fn sentence(&self) -> String {
        match self.executors.len() {
            0 => "is none that may be used".to_owned(),
            _ => format!("is {}", self.lines().join("; ")),
        }
    }
}

impl fmt::Display for Computers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.lines().join("; "))
    }
}

/// Who computes a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// The classes whose workers may.
    pub(super) classes: Vec<DeviceClass>,
    /// Those of them that are there.
    pub(super) computers: Computers,
}

/// Chooses for a job that needs `needs` of a device and whose leaves have `bytes`. Without workers the choice falls on
/// CPUs, for which the job then waits.
pub(super) fn choose(
    devices: Devices,
    needs: Requirements,
    bytes: u64,
    workers: &[Register],
) -> Result<Choice, NoDevice> {
    let may = |worker: &&Register| match devices {
        Devices::Auto => !worker.is_software,
        Devices::Cpu => worker.class == DeviceClass::Cpu,
        Devices::Gpu => worker.class != DeviceClass::Cpu,
        Devices::All => true,
    };
    let found: Vec<&Register> = workers.iter().filter(may).collect();
    let able: Vec<&Register> = found.iter().copied().filter(|worker| worker.offers.meets(needs)).collect();
    let prefers_gpu = devices == Devices::Gpu || bytes >= GPU_BYTES_MIN;
    // Real devices first, then those preferred, then those that most workers have.
    let rank = |worker: &Register| {
        let is_gpu = worker.class != DeviceClass::Cpu;
        let alike = able.iter().filter(|other| other.class == worker.class).count();
        (!worker.is_software, is_gpu == prefers_gpu, alike)
    };
    let chosen = able.iter().copied().max_by_key(|worker| rank(worker));
    let classes = match (devices, chosen) {
        (Devices::All, Some(_)) => {
            let mut classes: Vec<DeviceClass> = able.iter().map(|worker| worker.class.clone()).collect();
            classes.sort();
            classes.dedup();
            classes
        }
        (_, Some(worker)) => vec![worker.class.clone()],
        (_, None) if workers.is_empty() && devices != Devices::Gpu => vec![DeviceClass::Cpu],
        (_, None) => return Err(NoDevice { needs, found: Computers::of(found) }),
    };
    let computers = Computers::of(able.into_iter().filter(|worker| classes.contains(&worker.class)));
    Ok(Choice { classes, computers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(class: &str, is_software: bool, has_f64: bool) -> Register {
        let class = if class == "cpu" { DeviceClass::Cpu } else { DeviceClass::Gpu(class.to_owned()) };
        Register {
            name: String::new(),
            slots: 2,
            memory_bytes: 1 << 30,
            executor: format!("{class:?}"),
            class,
            is_software,
            offers: Requirements { f64: has_f64, ..Requirements::default() },
            process: 0,
            address: String::new(),
            fetch_bytes_per_second: 1,
        }
    }

    #[track_caller]
    fn check(devices: Devices, bytes: u64, workers: &[Register], expected: &[&str]) {
        let needs = Requirements { f64: true, ..Requirements::default() };
        let name = |class: &DeviceClass| match class {
            DeviceClass::Cpu => "cpu".to_owned(),
            DeviceClass::Gpu(name) => name.clone(),
            _ => unreachable!("the tests know no other class"),
        };
        let classes = choose(devices, needs, bytes, workers).map(|choice| choice.classes.iter().map(name).collect());
        assert_eq!(classes.unwrap_or_else(|_: NoDevice| Vec::new()), expected.to_vec());
    }

    #[test]
    fn one_class_computes_a_job_unless_all_are_to() {
        let (cpu, gpu) = (worker("cpu", false, true), worker("a", false, true));
        let (weak, soft) = (worker("b", false, false), worker("s", true, true));
        let all = [cpu.clone(), weak.clone(), gpu.clone(), gpu.clone(), soft.clone()];
        check(Devices::Auto, GPU_BYTES_MIN, &all, &["a"]);
        check(Devices::Auto, GPU_BYTES_MIN - 1, &all, &["cpu"]);
        check(Devices::Auto, GPU_BYTES_MIN, &[cpu.clone(), weak.clone(), soft.clone()], &["cpu"]);
        check(Devices::Cpu, GPU_BYTES_MIN, &all, &["cpu"]);
        check(Devices::Gpu, 0, &all, &["a"]);
        check(Devices::Gpu, 0, &[cpu.clone(), weak.clone(), soft.clone()], &["s"]);
        check(Devices::All, 0, &all, &["cpu", "a", "s"]);
        check(Devices::Gpu, 0, &[cpu, weak], &[]);
        check(Devices::Auto, GPU_BYTES_MIN, &[], &["cpu"]);
        check(Devices::Gpu, 0, &[], &[]);
    }

    #[test]
    fn a_job_that_nobody_can_run_says_what_it_needs_and_who_is_there() {
        let needs = Requirements { f64: true, ..Requirements::default() };
        let error = choose(Devices::Gpu, needs, 0, &[worker("weak", false, false)]).unwrap_err().to_string();
        assert_eq!(error, "no device for this job: it needs f64; there is Gpu(\"weak\"): 1 worker, 2 slots");
        let error = choose(Devices::Gpu, needs, 0, &[]).unwrap_err().to_string();
        assert_eq!(error, "no device for this job: it needs f64; there is none that may be used");
    }
}
