//! Small stages for tests: one axis, one element type, nothing computed.

use gridloom_worker::block::Item;
use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, ClientId};
use gridloom_worker::shape::Shape;
use gridloom_worker::stage::{Body, Fold, Leaf, Map, Piece, Program, ReduceOp, Reduction, Source, Stage};
use gridloom_worker::view::{AxisRead, View};

pub(super) fn array(sequence: u64) -> ArrayId {
    ArrayId { client: ClientId(1), sequence }
}

/// Makers of stages over arrays of one axis.
pub(super) struct StageOf;

impl StageOf {
    fn stage(array: ArrayId, body: Body) -> Stage {
        Stage { array, body, outputs: vec![Item::Value(DType::F64)], bytes_output: 8, bytes_peak: 32 }
    }

    fn grid(length: u64, chunk: u64) -> Grid {
        Grid::regular(&[length].into_iter().collect(), &[chunk])
    }

    fn leaf(source: Source, view: View) -> Leaf {
        Leaf { dtype: DType::F64, pieces: vec![Piece { source, view }] }
    }

    /// `blocks` blocks of one element that read block by block what is given (with its number of blocks).
    pub(super) fn map(array: ArrayId, inputs: &[(ArrayId, u64)], blocks: u64) -> Stage {
        let grid = StageOf::grid(blocks, 1);
        let view = View::identity(&grid.shape());
        let leaf = |&(array, blocks): &(ArrayId, u64)| {
            StageOf::leaf(Source::Array { array, field: 0, grid: StageOf::grid(blocks, 1) }, view.clone())
        };
        let mut leaves: Vec<Leaf> = inputs.iter().map(leaf).collect();
        if leaves.is_empty() {
            leaves.push(StageOf::leaf(Source::Constant(Scalar::F64(0.0)), view.clone()));
        }
        StageOf::stage(array, Body::Map(Map { grid, leaves, program: Program::identity(), reduce: None }))
    }

    /// The same blocks in reverse order.
    pub(super) fn flip(array: ArrayId, input: ArrayId, blocks: u64) -> Stage {
        let grid = StageOf::grid(blocks, 1);
        let mut view = View::identity(&grid.shape());
        view.axes[0] = AxisRead::Along { axis: 0, start: blocks as i64 - 1, step: -1 };
        let leaves = vec![StageOf::leaf(Source::Array { array: input, field: 0, grid: grid.clone() }, view)];
        StageOf::stage(array, Body::Map(Map { grid, leaves, program: Program::identity(), reduce: None }))
    }

    /// `length` elements from chunks of `from` into chunks of `to`.
    pub(super) fn rechunk(array: ArrayId, input: ArrayId, length: u64, from: u64, to: u64) -> Stage {
        let grid = StageOf::grid(length, to);
        let view = View::identity(&grid.shape());
        let source = Source::Array { array: input, field: 0, grid: StageOf::grid(length, from) };
        let leaves = vec![StageOf::leaf(source, view)];
        StageOf::stage(array, Body::Map(Map { grid, leaves, program: Program::identity(), reduce: None }))
    }

    /// `count` partials for each of `kept` results, combined `fan_in` at a time.
    pub(super) fn fold(array: ArrayId, input: ArrayId, kept: u64, count: u64, fan_in: u64) -> Stage {
        let reduction = Reduction { op: ReduceOp::Sum, inputs: vec![DType::F64] };
        let kept = Grid::regular(&[kept].into_iter().collect::<Shape>(), &[1]);
        let fold = Fold { input, reduction, kept, count, fan_in, finish: false };
        StageOf::stage(array, Body::Fold(fold))
    }
}
