//! A dispatch over the elements of a block: its leaves, its structure, its parameters. What becomes of the results is
//! the sink's affair.

use std::sync::Arc;

use crate::dtype::DType;
use crate::executor::{ExecuteError, Task};
use crate::ids::KernelHash;
use crate::kernel::{Composed, TypedKernel, compose, portable};
use crate::shape::{RANK_MAX, Region, Shape};
use crate::source::parts;
use crate::stage::{Leaf, Map};

use super::device::Gpu;
use super::job::{Engine, Groups, Job, Pass, Seen};
use super::leaf::{Fill, LeafInput};
use super::origin::LeafShader;
use super::pace::Line;
use super::params::{AXES_AT, at_at, data_at, leaf_at, params_words};
use super::pipeline::Code;
use super::shader::{ELEMENT, GROUP, Shader, Sink};
use super::space::Space;
use super::user::UserReduction;

/// The element program of a map, as devices run it; `None` where leaf 0 is the result.
///
/// # Errors
/// Kernels that are not there, or do not fit together.
pub(super) fn program(
    gpu: &Gpu,
    map: &Map,
    kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
) -> Result<Option<Composed>, ExecuteError> {
    if map.program.is_identity() {
        return Ok(None);
    }
    let leaves: Vec<DType> = map.leaves.iter().map(|leaf| leaf.dtype).collect();
    let mut composed = compose(&map.program, &leaves, kernel).map_err(|error| gpu.unsupported(error.to_string()))?;
    // The portable module is another than the one that was proved valid: wgpu validates it again.
    composed.module = portable(&composed.module, &composed.info);
    Ok(Some(composed))
}

/// The leaves of a map over `region`, in order.
///
/// # Errors
/// A file that is not what it was.
pub(super) fn leaf_inputs(
    gpu: &Arc<Gpu>,
    map: &Map,
    region: &Region,
    task: &Task,
) -> Result<Vec<LeafInput>, ExecuteError> {
    let mut operands = task.operands.iter();
    let input = |leaf: &Leaf| Ok(LeafInput::new(leaf.dtype, region, parts(leaf, region, &mut operands)?, gpu));
    map.leaves.iter().map(input).collect()
}

/// What is computed of the elements of a block.
pub(super) struct Elements<'a> {
    /// The element program, if leaf 0 is not the result.
    pub(super) program: Option<&'a Composed>,
    /// The user's reduction whose functions the sink names.
    pub(super) user: Option<&'a UserReduction>,
    /// Where the block is in the element space.
    pub(super) region: &'a Region,
    /// Its index per axis.
    pub(super) block: Shape,
}

/// A dispatch in the making.
pub(super) struct Dispatch<'a> {
    of: &'a Elements<'a>,
    shader: Shader<'a>,
    pub(super) params: Vec<u32>,
    fills: Vec<Fill>,
}

impl<'a> Dispatch<'a> {
    /// The structure and the parameters that all dispatches over leaves have. The block's axes are taken in `order`.
    pub(super) fn new(of: &'a Elements<'a>, inputs: Vec<LeafInput>, order: &[usize], sink: Sink<'a>) -> Dispatch<'a> {
        let addresses = inputs.iter().map(|input| input.address.clone()).collect();
        let space = Space::new(&of.region.shape(), order, addresses);
        let mut params = vec![0; params_words(inputs.len())];
        let mut put = |at: usize, words: &[u32]| params[at..at + words.len()].copy_from_slice(words);
        put(AXES_AT, &space.axes_words());
        for (at, input) in inputs.iter().enumerate() {
            put(leaf_at(at), &space.address_words(at));
            put(data_at(at), &input.data);
        }
        let uses_at = of.program.is_some_and(|program| program.uses_at);
        if uses_at {
            put(at_at(inputs.len()), &at_words(of.region, &of.block, order));
        }
        let leaf = |(at, input): (usize, &LeafInput)| LeafShader {
            dtype: input.dtype,
            origin: input.origin,
            is_linear: space.is_linear(at),
        };
        let shader = Shader {
            leaves: inputs.iter().enumerate().map(leaf).collect(),
            results: of.program.map_or_else(|| vec![inputs[0].dtype], |program| program.results.clone()),
            is_identity: of.program.is_none(),
            uses_at,
            sink,
        };
        Dispatch { of, shader, params, fills: inputs.into_iter().filter_map(|input| input.fill).collect() }
    }

    /// One that stores every result, each field in an output of its own, in row-major order.
    pub(super) fn store(of: &'a Elements<'a>, inputs: Vec<LeafInput>) -> Dispatch<'a> {
        let order: Vec<usize> = (0..of.region.start.rank()).collect();
        let mut dispatch = Dispatch::new(of, inputs, &order, Sink::Store);
        dispatch.params[0] = of.region.shape().elements() as u32;
        dispatch
    }

    /// Appends it to a job, with what it reads and new outputs of so many bytes. What those outputs are.
    pub(super) fn add_to(
        self,
        job: &mut Job,
        engine: &Engine,
        line: Line,
        outputs: &[u64],
    ) -> Result<Vec<Seen>, ExecuteError> {
        let Dispatch { of, shader, params, fills } = self;
        let element = of.program.map(|program| (ELEMENT, &program.module, program.function));
        let code = Code::Engine {
            text: shader.text(engine.gpu.info.features),
            kernels: of.program.map(Composed::hash).into_iter().chain(of.user.map(UserReduction::hash)).collect(),
            splices: element.into_iter().chain(of.user.into_iter().flat_map(UserReduction::splices)).collect(),
        };
        let mut sees = vec![job.add_params(&params)];
        sees.extend(fills.into_iter().map(|fill| job.add_fill(fill)));
        let inputs = sees.len();
        sees.extend(outputs.iter().map(|&bytes| job.add_output(bytes)));
        let written = sees[inputs..].to_vec();
        let is_read: Vec<bool> = (0..sees.len()).map(|at| at < inputs).collect();
        let pipeline = engine.pipelines.pipeline(&engine.gpu, code, &is_read)?;
        job.passes.push(Pass { pipeline, sees, groups: Groups::Line(line) });
        Ok(written)
    }

    /// [`Dispatch::add_to`] for one that [`Dispatch::store`] made.
    pub(super) fn add_store_to(self, job: &mut Job, engine: &Engine) -> Result<Vec<Seen>, ExecuteError> {
        let elements = self.of.region.shape().elements();
        let outputs: Vec<u64> = self.shader.results.iter().map(|dtype| elements * dtype.bytes()).collect();
        self.add_to(job, engine, Line { groups: elements.div_ceil(GROUP), group_elements: GROUP }, &outputs)
    }
}

/// What `At` is made of: the rank, and per axis the block's first index, its index, its length, and how many elements
/// in the order of computation come before the index goes up.
fn at_words(region: &Region, block: &Shape, order: &[usize]) -> [u32; 1 + 4 * RANK_MAX] {
    let shape = region.shape();
    let mut words = [0; 1 + 4 * RANK_MAX];
    words[0] = shape.rank() as u32;
    for axis in 0..shape.rank() {
        let later = order.iter().skip_while(|&&at| at != axis).skip(1);
        let divisor: u64 = later.map(|&axis| shape[axis]).product();
        let values = [region.start[axis], block[axis], shape[axis], divisor];
        values.iter().enumerate().for_each(|(at, &value)| words[1 + at * RANK_MAX + axis] = value as u32);
    }
    words
}
