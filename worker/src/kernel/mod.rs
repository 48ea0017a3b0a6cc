//! Kernels: WGSL text made into typed, validated, hashed, contracted and composed functions.
//!
//! Reading order: [`Kernel`] (text as its user holds it, perhaps generic over `T`) -> [`KernelSource`] (what goes over
//! the wire) -> [`TypedKernel`] (validated, with its signature, naga's module and the proof that it is valid) ->
//! [`compose`](fn@compose) (a stage's program over typed kernels, as one module).
//!
//! ```text
//! text -> survey (limits, T, At, BlockInfo) -> text (parse, validate) -> allowed -> contract
//!      -> extract (signature), for block kernels block (their contract) -> TypedKernel
//!                                                                 Program of TypedKernels -> merge -> compose -> Composed
//! ```
//!
//! User text is parsed and validated alone, with at most `alias T`, `struct At` and `struct BlockInfo` appended after
//! it, so that an error shows the user's own line. Composition works on validated modules, never on text. Nothing here
//! runs a kernel, knows a device, or uses a thread, a clock or wgpu.

mod allowed;
mod block;
mod compose;
mod contract;
mod error;
mod extract;
mod info;
mod lengths;
mod merge;
mod names;
mod portable;
mod reason;
mod rebuild;
mod remap;
mod report;
mod requirements;
mod signature;
mod splice;
mod survey;
#[cfg(test)]
mod tests;
mod text;
mod tokens;
mod typed;
mod user;
mod warn;

pub use compose::{ComposeError, Composed, compose};
pub use error::{KernelError, Location, Problem, Warning};
pub use info::BlockInfo;
pub use portable::portable;
pub use report::{Report, TypedReport};
pub use requirements::Requirements;
pub use signature::{BlockSignature, Field, Layout, Parameter, ReductionSignature, Signature, Slot};
pub use splice::splice;
pub use typed::{BlockFunction, ElementFunction, Functions, ReductionFunctions, TypedKernel};
pub use user::Kernel;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dtype::DType;
use crate::ids::KernelHash;

/// The longest kernel text, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// The widest accumulator of a reduction kernel, in bytes.
pub const ACCUMULATOR_BYTES_MAX: u32 = 64;
/// The most invocations of one workgroup. WebGPU guarantees 256.
pub const WORKGROUP_INVOCATIONS_MAX: u32 = 1024;
/// The most invocations of one workgroup along z.
pub const WORKGROUP_DEPTH_MAX: u32 = 64;
/// The most workgroup memory of a block kernel, in bytes. WebGPU guarantees half of it.
pub const WORKGROUP_BYTES_MAX: u32 = 32 << 10;
/// The most workgroups along x, y or z of one block.
pub const WORKGROUPS_MAX: u64 = 65_535;
/// The most storage buffers of a block kernel: what WebGPU guarantees.
pub const STORAGE_BUFFERS_MAX: usize = 8;

/// What a kernel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KernelKind {
    /// One function, called once per element.
    Element,
    /// `identity`, `lift`, `combine` and `finish`.
    Reduction,
    /// One `@compute` entry point, run over whole blocks.
    Block,
}

/// A kernel as it travels: its text, and what is left open in it. Equal sources are the same kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KernelSource {
    /// What it is for.
    pub kind: KernelKind,
    /// The user's text, unchanged.
    pub text: String,
    /// Which function is meant, where several would do.
    pub entry: Option<String>,
    /// What `T` is; `None` for a text that leaves no `T` open.
    pub t: Option<DType>,
}

impl KernelSource {
    /// The kernel's name everywhere: the SHA-256 of its postcard bytes.
    pub fn hash(&self) -> KernelHash {
        let bytes = postcard::to_stdvec(self).expect("strings and enums always serialize to memory");
        KernelHash(Sha256::digest(bytes).into())
    }
}
