//! An open GPU: what is asked of it, with every answer an error can be turned into a typed one.
//!
//! wgpu reports errors to scopes, by callbacks and by panics. Nothing here lets one pass: calls go through
//! [`Gpu::guarded`], waiting through [`Gpu::wait`], and a device that is lost stays lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::executor::ExecuteError;
use crate::kernel::Requirements;

use super::adapter::{Adapter, AdapterInfo};

/// An open device and its queue.
pub(super) struct Gpu {
    pub(super) info: AdapterInfo,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    /// Why it was lost, once it was.
    lost: Arc<OnceLock<String>>,
    /// When it last ended something: until then it was not late with what came after.
    ended: Mutex<Instant>,
    block_timeout: Duration,
}

/// A call that the device refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// There is no memory for it.
    #[error("out of memory")]
    Memory,
    /// It does not lower this shader, or this is a bug of ours.
    #[error("{0}")]
    Invalid(String),
}

/// A GPU that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} could not be opened: {why}")]
pub struct OpenError {
    /// Its name.
    pub device: String,
    /// What its driver says.
    pub why: String,
}

impl Gpu {
    /// Opens a device with all its limits and with what kernels can use.
    pub(super) fn open(adapter: &Adapter, block_timeout: Duration) -> Result<Gpu, OpenError> {
        // Within what clocks can add.
        let block_timeout = block_timeout.min(Duration::from_secs(1 << 32));
        let info = adapter.info().clone();
        let description = wgpu::DeviceDescriptor {
            label: Some("gridloom"),
            required_features: info.features.wanted(),
            required_limits: adapter.handle.limits(),
            ..wgpu::DeviceDescriptor::default()
        };
        let opened = pollster::block_on(adapter.handle.request_device(&description));
        let (device, queue) =
            opened.map_err(|error| OpenError { device: info.name.clone(), why: error.to_string() })?;
        let lost = Arc::new(OnceLock::new());
        let reported = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                reported.get_or_init(|| message);
            }
        });
        device.on_uncaptured_error(Arc::new(
            |error| tracing::error!(%error, "an error of the GPU that nobody asked for"),
        ));
        Ok(Gpu { info, device, queue, lost, ended: Mutex::new(Instant::now()), block_timeout })
    }

    /// Whether work can still end well.
    pub(super) fn check(&self) -> Result<(), ExecuteError> {
        match self.lost.get() {
            Some(why) => Err(ExecuteError::DeviceLost { device: self.info.name.clone(), why: why.clone() }),
            None => Ok(()),
        }
    }

    /// What results name as their executor.
    pub(super) fn executor(&self) -> String {
        format!("gpu {} {}", self.info.backend, self.info.name)
    }

    /// What kernels may need and the device has. Shader writers get functions of 64 bits wrong: none has those.
    pub(super) fn offers(&self) -> Requirements {
        let AdapterInfo { features, limits, .. } = &self.info;
        Requirements {
            f64: features.has_f64(),
            int64: features.i64,
            f64_math: false,
            int64_math: false,
            workgroup_size: limits.workgroup_size,
            workgroup_invocations: limits.workgroup_invocations,
            workgroup_bytes: limits.workgroup_bytes,
            storage_buffers: limits.bindings,
        }
    }

    /// Whether it has what a stage needs.
    pub(super) fn check_needed(&self, needed: Requirements) -> Result<(), ExecuteError> {
        let has = self.offers();
        match has.meets(needed) {
            true => Ok(()),
            false => Err(self.unsupported(format!("the stage needs {needed}; the device has {has}"))),
        }
    }

    /// Whether a kernel can see so many buffers at once.
    pub(super) fn check_bindings(&self, count: usize) -> Result<(), ExecuteError> {
        match self.info.limits.bindings {
            max if count as u64 > u64::from(max) => {
                Err(self.unsupported(format!("the stage needs {count} buffers at once; the device has {max}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether kernels can see buffers of these sizes.
    pub(super) fn check_binding(&self, sizes: impl Iterator<Item = u64>) -> Result<(), ExecuteError> {
        let max = self.info.limits.binding_bytes.min(self.info.limits.buffer_bytes);
        match sizes.max() {
            Some(bytes) if bytes > max => {
                Err(self.unsupported(format!("a block takes {bytes} bytes, and it sees at most {max} at once")))
            }
            _ => Ok(()),
        }
    }

    /// The x and y that make at least so many workgroups: few devices have many on one dimension.
    pub(super) fn spread(&self, groups: u64) -> [u32; 3] {
        let x = groups.min(u64::from(self.info.limits.workgroups)).max(1);
        [x as u32, groups.div_ceil(x) as u32, 1]
    }

    /// How many of `left` workgroups to spread, where `fitting` fit: whole rows, so that none is added.
    pub(super) fn part_of(&self, left: u64, fitting: u64) -> u64 {
        let row = u64::from(self.info.limits.workgroups);
        match fitting {
            _ if fitting >= left => left,
            _ if fitting > row => fitting - fitting % row,
            _ => fitting,
        }
    }

    /// What this device cannot do.
    pub(super) fn unsupported(&self, what: String) -> ExecuteError {
        ExecuteError::Unsupported { executor: self.executor(), what }
    }

    /// Runs calls on the device and turns whatever they report into an error.
    pub(super) fn guarded<T>(&self, calls: impl FnOnce() -> T) -> Result<T, Refused> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        let scopes = [Internal, OutOfMemory, Validation].map(|filter| self.device.push_error_scope(filter));
        let outcome = catch_unwind(AssertUnwindSafe(calls));
        // Scopes are a stack: the last one is closed first.
        let errors: Vec<_> = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop())).collect();
        match (errors.into_iter().next(), outcome) {
            (Some(wgpu::Error::OutOfMemory { .. }), _) => Err(Refused::Memory),
            (Some(error), _) => Err(Refused::Invalid(error.to_string())),
            (None, Ok(value)) => Ok(value),
            (None, Err(_)) => Err(Refused::Invalid("the shader compiler panicked".to_owned())),
        }
    }

    /// Waits until the device has ended `submission`: how long it worked on it. A device that works longer than a block
    /// may take is lost.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<Duration, ExecuteError> {
        let submitted = Instant::now();
        loop {
            self.check()?;
            // What came before it on the device does not count against it.
            let due = submitted.max(self.last_ended()) + self.block_timeout;
            let left = due.saturating_duration_since(Instant::now());
            let wait = wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout: Some(left) };
            match self.poll(wait)? {
                Ok(_) => {
                    let begun = submitted.max(self.last_ended());
                    let now = Instant::now();
                    *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = now;
                    return self.check().map(|()| now.saturating_duration_since(begun));
                }
                Err(wgpu::PollError::Timeout)
                    if Instant::now() < submitted.max(self.last_ended()) + self.block_timeout => {}
                Err(wgpu::PollError::Timeout) => return Err(self.give_up()),
                Err(error) => return Err(ExecuteError::Internal { what: error.to_string() }),
            }
        }
    }

    /// Lets wgpu do what is due, and waits for nothing.
    pub(super) fn poll_now(&self) {
        // Who waits for something is told when it fails.
        let _ = self.poll(wgpu::PollType::Poll);
    }

    /// Asks the device how it is doing. wgpu panics when the answer is that it is lost.
    fn poll(&self, how: wgpu::PollType) -> Result<Result<wgpu::PollStatus, wgpu::PollError>, ExecuteError> {
        catch_unwind(AssertUnwindSafe(|| self.device.poll(how))).or_else(|_| {
            self.lose("its driver does not answer".to_owned());
            self.check().map(|()| unreachable!("it was just lost"))
        })
    }

    /// What an error is, where the device was lost meanwhile: that it was.
    pub(super) fn blame(&self, error: ExecuteError) -> ExecuteError {
        match error {
            ExecuteError::Deadline { .. } => error,
            _ => self.check().err().unwrap_or(error),
        }
    }

    /// Whether a block that took `spent` of the device's time may go on.
    pub(super) fn check_spent(&self, spent: Duration) -> Result<(), ExecuteError> {
        if spent < self.block_timeout { Ok(()) } else { Err(ExecuteError::Deadline { limit_ms: self.limit_ms() }) }
    }

    fn limit_ms(&self) -> u64 {
        self.block_timeout.as_millis() as u64
    }

    /// Gives the device up, which cannot be freed of a kernel that hangs: what the kernel's block fails with.
    pub(super) fn give_up(&self) -> ExecuteError {
        let limit_ms = self.limit_ms();
        self.lose(format!("a kernel did not end within {limit_ms} ms on one block"));
        ExecuteError::Deadline { limit_ms }
    }

    /// From now on no work on it ends well.
    pub(super) fn lose(&self, why: String) {
        self.lost.get_or_init(|| why);
    }

    fn last_ended(&self) -> Instant {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::gpu::adapters;

    /// A GPU of this machine, a real one if there is one. Without any, says so, or fails where one is required.
    pub(crate) fn any_gpu() -> Option<Arc<Gpu>> {
        let mut found = adapters();
        found.sort_by_key(|adapter| adapter.info().is_software());
        let gpu = found.first().map(|adapter| Arc::new(Gpu::open(adapter, Duration::from_secs(60)).unwrap()));
        assert!(gpu.is_some() || std::env::var_os("GRIDLOOM_REQUIRE_GPU").is_none(), "there is no GPU");
        gpu
    }

    #[test]
    fn what_fails_on_a_lost_device_fails_because_it_is_lost() {
        let Some(gpu) = any_gpu() else { return };
        let error = ExecuteError::Internal { what: "a download buffer is not mapped".to_owned() };
        assert_eq!(gpu.blame(error.clone()), error);
        gpu.device.destroy();
        let description = wgpu::BufferDescriptor {
            label: None,
            size: 256,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        };
        // Whatever wgpu answers, it is an answer.
        let _ = gpu.guarded(|| gpu.device.create_buffer(&description));
        gpu.poll_now();
        gpu.lose("unplugged".to_owned());
        assert!(matches!(gpu.blame(error), ExecuteError::DeviceLost { why, .. } if why == "unplugged"));
        assert_eq!(gpu.blame(ExecuteError::Deadline { limit_ms: 1 }), ExecuteError::Deadline { limit_ms: 1 });
    }

    #[test]
    fn parts_of_a_line_are_whole_rows() {
        let Some(gpu) = any_gpu() else { return };
        let row = u64::from(gpu.info.limits.workgroups);
        assert_eq!([gpu.part_of(10, 20), gpu.part_of(10, 3), gpu.part_of(9 * row + 5, 3 * row + 7)], [10, 3, 3 * row]);
        assert_eq!(gpu.part_of(3 * row + 5, 4 * row), 3 * row + 5);
        assert_eq!([gpu.spread(5), gpu.spread(3 * row)], [[5, 1, 1], [row as u32, 3, 1]]);
    }
}
