//! From arrays to stages: what is computed together, how it is cut, and how much memory it takes.
//!
//! A plan is a pure function of the arrays: the same whatever the cluster, the clock or the number of workers. Its size
//! depends on the number of operations, never on the number of blocks.
//!
//! Passes, in order: `graph` (which computations there are, each once) -> `fuse` (which of them are stored, and which
//! are computed inside the one that reads them) -> `lower` (a stored one as a stage: views composed, one program) ->
//! `tree` (the levels of a reduction above its blocks) -> `memory` (bytes of a block in flight; it may refuse, never
//! reshape). [`explain`] prints a plan as stable text.
//!
//! This room knows arrays and stages; it knows no scheduler, no worker and no device.

mod error;
mod explain;
mod fuse;
mod graph;
mod lower;
mod memory;
mod scatter;
#[cfg(test)]
mod tests;
mod tree;

use std::sync::Arc;

use gridloom_worker::dtype::DType;
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, ClientId};
use gridloom_worker::kernel::{Requirements, TypedKernel};
use gridloom_worker::shape::Shape;
use gridloom_worker::stage::{Body, Map, Stage};
use gridloom_worker::wire;

use crate::array::{Array, Keep, Resident, Root};

pub use error::PlanError;
pub use explain::explain;
pub use memory::FAN_IN_MAX;
pub use scatter::Scatter;
pub use tree::ROOT_BYTES_MAX;

/// What is to be run: a small graph of stages, and what a client needs to know about their results.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kernels that the stages name, each once.
    pub kernels: Vec<Arc<TypedKernel>>,
    /// The stages, each after those that it reads.
    pub stages: Vec<Arc<Stage>>,
    /// The client's own data that is to be put on workers before the stages read it.
    pub scatters: Vec<Scatter>,
    /// One per array that was asked for, in that order.
    pub outputs: Vec<Output>,
}

/// Where an array that was asked for is found.
#[derive(Clone, Debug)]
pub struct Output {
    /// The array of blocks: made by a stage of the plan, scattered by it, or already on workers.
    pub array: ArrayId,
    /// Which field of the blocks; of what the root yields, where there is one.
    pub field: u32,
    /// How the result is cut. Block `i` of `array` is block `i` of this grid; where there is a root, blocks
    /// `i * count .. (i + 1) * count` make it.
    pub grid: Grid,
    /// The shape of the result. It differs from the grid's by axes of length 1 only.
    pub shape: Shape,
    /// What its elements are.
    pub dtype: DType,
    /// What is left to do with the blocks where they are partials: at most [`ROOT_BYTES_MAX`] of them.
    pub root: Option<Root>,
}

impl Output {
    /// The result as an array for further expressions: its blocks are read where they are, and kept there by `keep`.
    pub fn to_array(&self, keep: Keep) -> Array {
        let resident = Resident { array: self.array, field: self.field, root: self.root.clone(), keep };
        Array::resident(resident, self.grid.clone(), self.dtype).reshape(&self.shape)
    }
}

/// The names that one client gives to its arrays: a count that never goes back.
#[derive(Debug)]
pub struct ArrayIds {
    client: ClientId,
    next: u64,
}

impl ArrayIds {
    /// The names of a client that has given none yet.
    pub fn new(client: ClientId) -> ArrayIds {
        ArrayIds { client, next: 0 }
    }

    /// A name that was never given.
    pub fn make(&mut self) -> ArrayId {
        let sequence = self.next;
        self.next += 1;
        ArrayId { client: self.client, sequence }
    }
}

/// Plans the arrays together: what they share is computed once.
///
/// ```
/// use gridloom::array::Array;
/// use gridloom::plan::{ArrayIds, plan};
/// use gridloom_worker::ids::ClientId;
/// let parts = (0..10).map(|k| Array::random([1000, 1000, 1000]).stream(k));
/// let mean = Array::concatenate(parts, 0).mean(-1);
/// let plan = plan(&[mean], &mut ArrayIds::new(ClientId(1))).unwrap();
/// assert_eq!(plan.stages.len(), 1);
/// ```
///
/// # Errors
/// An array that carries an error; a block above the cap; a block that reads too many others.
pub fn plan(arrays: &[Array], ids: &mut ArrayIds) -> Result<Plan, PlanError> {
    if let Some(error) = arrays.iter().find_map(Array::error) {
        return Err(PlanError::Array(Box::new(error.clone())));
    }
    let graph = graph::Graph::new(arrays);
    let stored = fuse::stored(&graph);
    lower::lower(&graph, &stored, ids)
}

impl Plan {
    /// Host bytes that the largest block in flight of any stage takes.
    pub fn bytes_peak(&self) -> u64 {
        self.stages.iter().map(|stage| stage.bytes_peak).max().unwrap_or(0)
    }

    /// What a device must have to run all of it.
    pub fn requirements(&self) -> Requirements {
        let known = |hash| self.kernels.iter().find(|kernel| kernel.hash() == hash);
        let kernel = |hash| known(hash).map_or(Requirements::default(), |kernel| kernel.requirements());
        let stages = self.stages.iter().map(|stage| Requirements::of_stage(stage, &kernel));
        stages.fold(Requirements::default(), |all, stage| all | stage)
    }

    /// Bytes that go into its element programs, from wherever they come.
    pub fn bytes_read(&self) -> u64 {
        let of_map = |map: &Map| {
            let widths = map.leaves.iter().map(|leaf| leaf.dtype.bytes());
            map.grid.shape().elements().saturating_mul(widths.sum())
        };
        let maps = self.stages.iter().filter_map(|stage| match &stage.body {
            Body::Map(map) => Some(map),
            Body::Block(call) => Some(&call.inputs),
            Body::Fold(_) | Body::Relabel(_) => None,
        });
        maps.map(of_map).fold(0, u64::saturating_add)
    }

    /// The plan as it travels. Its outputs are what the plan makes and a client asked for.
    pub fn wire(&self) -> wire::Plan {
        let kernel = |kernel: &Arc<TypedKernel>| {
            let source = wire::encode(kernel.source()).expect("a kernel's text is far below a message's cap");
            wire::KernelBytes { hash: kernel.hash(), source: source.into() }
        };
        let mut outputs: Vec<ArrayId> = Vec::new();
        for array in self.outputs.iter().map(|output| output.array) {
            if !outputs.contains(&array) && self.stages.iter().any(|stage| stage.array == array) {
                outputs.push(array);
            }
        }
        wire::Plan { kernels: self.kernels.iter().map(kernel).collect(), stages: self.stages.clone(), outputs }
    }
}
