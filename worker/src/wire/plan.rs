//! A plan as it travels: stages in topological order, the kernels they name, and what is wanted of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{ArrayId, KernelHash};
use crate::stage::Stage;

/// A kernel's source, carried without being looked into: it is read where it is compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelBytes {
    /// What the stages call it.
    pub hash: KernelHash,
    /// The postcard bytes of its `KernelSource`; their SHA-256 is `hash`.
    pub source: Arc<[u8]>,
}

/// One submitted computation. Its size depends on the number of operations, never on the number of blocks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Every kernel that a stage names, once.
    pub kernels: Vec<KernelBytes>,
    /// Inputs before those that read them. They may also read arrays of earlier plans and scattered ones.
    pub stages: Vec<Arc<Stage>>,
    /// The arrays to be kept until their client releases them. Each is made by one of the stages.
    pub outputs: Vec<ArrayId>,
}
