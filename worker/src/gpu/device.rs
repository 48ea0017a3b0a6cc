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
        let useful = wgpu::Features::SHADER_F64 | wgpu::Features::SHADER_INT64;
        let description = wgpu::DeviceDescriptor {
            label: Some("gridloom"),
            required_features: adapter.handle.features() & useful,
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
            // The engine moves f64 by its bits.
            f64: features.f64 && features.i64,
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
            match self.device.poll(wait) {
                Ok(_) => {
                    let begun = submitted.max(self.last_ended());
                    let now = Instant::now();
                    *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = now;
                    return self.check().map(|()| now.saturating_duration_since(begun));
                }
                Err(wgpu::PollError::Timeout)
                    if Instant::now() < submitted.max(self.last_ended()) + self.block_timeout => {}
                Err(wgpu::PollError::Timeout) => {
                    let limit_ms = self.limit_ms();
                    self.lose(format!("a kernel did not end within {limit_ms} ms on one block"));
                    return Err(ExecuteError::Deadline { limit_ms });
                }
                Err(error) => return Err(ExecuteError::Internal { what: error.to_string() }),
            }
        }
    }

    /// Whether a block that took `spent` of the device's time may go on.
    pub(super) fn check_spent(&self, spent: Duration) -> Result<(), ExecuteError> {
        if spent < self.block_timeout { Ok(()) } else { Err(ExecuteError::Deadline { limit_ms: self.limit_ms() }) }
    }

    fn limit_ms(&self) -> u64 {
        self.block_timeout.as_millis() as u64
    }

    /// Gives the device up: it cannot be freed of a kernel that hangs.
    pub(super) fn lose(&self, why: String) {
        self.lost.get_or_init(|| why);
    }

    fn last_ended(&self) -> Instant {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
