//! Block kernels over arrays: whole blocks in, whole blocks out.
//!
//! The arrays are brought to one grid; block `i` of each makes block `i` of every output. Output blocks have the input
//! blocks' shape, or one that is given, the same for all.

use std::sync::Arc;

use gridloom_worker::dtype::DType;
use gridloom_worker::grid::{AxisGrid, Grid, Segment};
use gridloom_worker::kernel::{BlockSignature, TypedKernel, WORKGROUPS_MAX};
use gridloom_worker::shape::Shape;

use super::chunks::{Cut, broadcast_cut};
use super::elementwise::{aligned, broadcast_shape, converted};
use super::{Array, ArrayError, BlocksCall, Expression, Failure};

/// A block kernel over arrays whose dtypes cast to its inputs': one array per output. `block` is the shape of the output
/// blocks, unless it is that of the input blocks.
pub(super) fn map(
    kernel: Arc<TypedKernel>,
    arguments: &[Array],
    block: Option<&[i128]>,
) -> Result<Vec<Array>, Failure> {
    let function = kernel.block().expect("a block kernel has an entry point");
    let signature = &function.signature;
    let inputs = arguments.iter().zip(&signature.inputs);
    let inputs: Vec<Array> = inputs.map(|(argument, input)| converted(argument, input.dtype)).collect();
    let shape = broadcast_shape(&inputs)?;
    let cut = broadcast_cut(&inputs.iter().collect::<Vec<_>>(), &shape, widest(signature));
    let (cut, output) = match block {
        None => {
            let cut = covered(cut, signature);
            (cut.clone(), cut)
        }
        Some(block) => {
            let grid = uniform_grid(&cut.grid, block)?;
            (cut, Cut { grid, auto: false })
        }
    };
    check(signature, &output.grid)?;
    let inputs = inputs.iter().map(|input| aligned(input, &shape, &cut)).collect::<Result<Vec<Array>, Failure>>()?;
    let dtypes: Vec<DType> = signature.outputs.iter().map(|output| output.dtype).collect();
    let call = Arc::new(BlocksCall { kernel, inputs, grid: cut.grid });
    let field = |(dtype, field)| {
        let expression = Expression::Blocks { call: call.clone(), field };
        Array::node(output.grid.shape(), dtype, output.clone(), expression)
    };
    Ok(dtypes.into_iter().zip(0..).map(field).collect())
}

fn widest(signature: &BlockSignature) -> DType {
    let inputs = signature.inputs.iter().map(|input| input.dtype);
    let all = inputs.chain(signature.outputs.iter().map(|output| output.dtype));
    all.max_by_key(|dtype| dtype.bytes()).unwrap_or(DType::F64)
}

/// A cut that nobody chose, in blocks that as many workgroups cover as a device runs.
fn covered(mut cut: Cut, signature: &BlockSignature) -> Cut {
    let mut room = signature.workgroup.map(|length| u64::from(length) * WORKGROUPS_MAX);
    for (from_last, axis) in cut.grid.axes.iter_mut().rev().enumerate().filter(|_| cut.auto) {
        let room = &mut room[from_last.min(2)];
        if axis.chunk_max() > *room {
            *axis = AxisGrid::regular(axis.length(), *room);
        }
        *room = (*room / axis.chunk_max().max(1)).max(1);
    }
    cut
}

/// The grid of as many blocks per axis, all of one shape.
fn uniform_grid(grid: &Grid, block: &[i128]) -> Result<Grid, ArrayError> {
    if block.len() != grid.rank() {
        return Err(ArrayError::EntryCount { what: "block shape", given: block.len(), rank: grid.rank() });
    }
    let axis = |(axis, &length): (&AxisGrid, &i128)| match u64::try_from(length) {
        Ok(chunk @ 1..) => Ok((Segment { chunk, count: axis.blocks() }, chunk.saturating_mul(axis.blocks()))),
        _ => Err(ArrayError::Chunk { chunk: length }),
    };
    let axes = grid.axes.iter().zip(block).map(axis).collect::<Result<Vec<_>, _>>()?;
    Shape::new(&axes.iter().map(|(_, length)| *length).collect::<Vec<u64>>())?;
    Ok(Grid { axes: axes.into_iter().map(|(segment, _)| vec![segment].into()).collect() })
}

/// Refuses blocks that a device's workgroups cannot cover, and places that a kernel cannot be told.
fn check(signature: &BlockSignature, output: &Grid) -> Result<(), ArrayError> {
    let kernel = || signature.name.clone();
    let largest: Shape = output.axes.iter().map(AxisGrid::chunk_max).collect();
    if let Some(groups) = signature.workgroups(&largest).into_iter().max().filter(|&groups| groups > WORKGROUPS_MAX) {
        let block = largest.to_string();
        return Err(ArrayError::Workgroups { kernel: kernel(), block, groups, max: WORKGROUPS_MAX });
    }
    match output.shape().iter().position(|&length| length > 1 << 32).filter(|_| signature.uses_info) {
        Some(axis) => {
            let length = output.shape()[axis];
            Err(ArrayError::IndexBits { kernel: kernel(), parameter: "info: BlockInfo", axis, length })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use gridloom_worker::kernel::Kernel;

    use super::super::tests::check_error;
    use super::*;

    fn kernel(x: u32, y: u32, z: u32, info: &str) -> Kernel {
        let text = format!(
            "@group(0) @binding(0) var<storage, read> x: array<T>;
             @group(0) @binding(1) var<storage, read_write> y: array<T>;
             {info}
             @compute @workgroup_size({x}, {y}, {z}) fn f() {{ y[0] = x[0]; }}"
        );
        Kernel::block(&text).unwrap_or_else(|error| panic!("{}", error.rendered()))
    }

    #[test]
    fn output_blocks_have_the_input_blocks_shape_or_a_given_one() {
        let x = Array::random([100, 50]).chunks([30, 20]);
        let same = x.map_blocks(&kernel(8, 8, 1, ""));
        assert_eq!((same.dtype(), same.grid()), (DType::F64, x.grid()));
        let given = x.map_blocks_to(&kernel(8, 8, 1, ""), [1, 64]);
        assert_eq!((given.grid().to_string(), given.shape().to_string()), ("[1x4, 64x3]".into(), "(4, 192)".into()));
        let row = Array::random([50]).with_dtype(DType::F32);
        let pair = "@group(0) @binding(0) var<storage, read> a: array<T>;
            @group(0) @binding(1) var<storage, read> b: array<T>;
            @group(0) @binding(2) var<storage, read_write> u: array<T>;
            @group(0) @binding(3) var<storage, read_write> v: array<atomic<u32>>;
            @compute @workgroup_size(1) fn f() { u[0] = a[0] + b[0]; atomicStore(&v[0], 1u); }";
        let fields = Array::map_fields(&Kernel::block(pair).unwrap(), &[&x, &row]);
        assert_eq!(fields.iter().map(Array::dtype).collect::<Vec<_>>(), [DType::F64, DType::U32]);
        assert_eq!((fields[1].grid(), fields[0].identity()), (x.grid(), fields[1].identity()));
        check_error(&x.map_blocks(&Kernel::block(pair).unwrap()), "kernel: `f` takes (f32, f32), and was given (f64)");
        let two = "`f` returns 2 fields: use map_fields_to";
        check_error(&Array::map_with_to(&Kernel::block(pair).unwrap(), &[&x, &x], [1, 1]), two);
        assert_eq!(Array::ones([0, 5]).map_blocks_to(&kernel(1, 1, 1, ""), [3, 2]).shape().to_string(), "(0, 2)");
    }

    #[test]
    fn automatic_blocks_are_covered_by_the_workgroups_that_devices_run() {
        let long = Array::random([1i64 << 34]);
        assert_eq!(long.map_blocks(&kernel(64, 1, 1, "")).grid().axes[0].chunk_max(), 64 * 65_535);
        let leading = Array::random([1i64 << 22, 3, 5, 7]);
        let grid = leading.map_blocks(&kernel(1, 1, 1, "")).grid().clone();
        assert!(grid.axes[0].chunk_max() * grid.axes[1].chunk_max() <= 65_535, "{grid}");
        assert_eq!(&grid.axes[2..], &leading.grid().axes[2..]);
    }

    #[test]
    fn errors() {
        let x = Array::random([1 << 20]).chunks([1 << 20]);
        check_error(
            &x.map_blocks(&kernel(8, 1, 1, "")),
            "`f` would take 131072 workgroups along one axis to cover a block of shape (1048576,): at most 65535 run; cut the arrays into smaller blocks, or make its workgroups larger",
        );
        check_error(&x.map_blocks_to(&kernel(1, 1, 1, ""), [1, 2]), "block shape: 2 entries for 1 axes");
        check_error(
            &x.map_blocks_to(&kernel(1, 1, 1, ""), [0]),
            "chunks of length 0: a chunk has at least one element (-1 is the whole axis)",
        );
        let info = "@group(0) @binding(2) var<storage, read> info: BlockInfo;";
        let long = Array::random([(1i64 << 32) + 1]);
        assert!(long.map_blocks(&kernel(64, 1, 1, "")).error().is_none());
        let message =
            "`f` takes `info: BlockInfo`, whose indices have 32 bits: axis 0 of length 4294967297 is too long for it";
        check_error(&long.map_blocks(&kernel(64, 1, 1, info)), message);
        let element = Kernel::element("fn f(x: T) -> T { return x; }").unwrap();
        check_error(&x.map_blocks_to(&element, [1]), "a map to blocks of a given shape needs a block kernel");
    }
}
