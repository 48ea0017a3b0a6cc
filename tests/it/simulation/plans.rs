//! Random plans: maps through random views, kernels over whole blocks, reductions with their folds, relabels, several
//! fields and outputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use gridloom_worker::block::Item;
use gridloom_worker::dtype::{DType, Scalar};
use gridloom_worker::grid::{AxisGrid, Grid};
use gridloom_worker::ids::{ArrayId, BlockId, ClientId, KernelHash};
use gridloom_worker::shape::{Region, Shape};
use gridloom_worker::stage::{
    BlockCall, Body, ChunkStep, Distribution, Fold, Leaf, Map, Piece, Program, Random, ReduceOp, Reduction, Relabel,
    Source, Stage,
};
use gridloom_worker::view::{AxisRead, View};
use gridloom_worker::wire::{KernelBytes, Plan};

use super::chance::Chance;

/// Kernels that stages name; what they compute is not simulated.
const KERNELS: [KernelHash; 2] = [KernelHash([1; 32]), KernelHash([2; 32])];

/// How often each source block went into a block.
pub(crate) type Counts = BTreeMap<BlockId, u64>;

/// What later stages can read.
#[derive(Clone, Debug)]
pub(crate) struct Readable {
    pub(crate) array: ArrayId,
    pub(crate) grid: Grid,
    pub(crate) fields: u32,
    /// Of the largest field of a block.
    pub(crate) field_bytes: u64,
}

/// Every stage ever planned: the definition that results are compared with.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) stages: BTreeMap<ArrayId, Arc<Stage>>,
    known: BTreeMap<BlockId, Arc<Counts>>,
}

impl Oracle {
    /// What goes into a block, by its stage's own word and nothing else.
    pub(crate) fn counts(&mut self, block: BlockId) -> Arc<Counts> {
        if let Some(known) = self.known.get(&block) {
            return known.clone();
        }
        let inputs = self.stages.get(&block.array).map(|stage| stage.inputs(block.index)).unwrap_or_default();
        let mut counts = Counts::new();
        for (array, range) in inputs {
            for index in range {
                add(&mut counts, &self.counts(BlockId { array, index }));
            }
        }
        if counts.is_empty() {
            counts.insert(block, 1);
        }
        let counts = Arc::new(counts);
        self.known.insert(block, counts.clone());
        counts
    }
}

/// Counts grow with every level, and wrap: they are compared, never measured.
pub(crate) fn add(counts: &mut Counts, more: &Counts) {
    for (&block, &count) in more {
        let sum = counts.entry(block).or_default();
        *sum = sum.wrapping_add(count);
    }
}

/// Makes plans for one client.
pub(crate) struct Planner {
    client: ClientId,
    sequence: u64,
    /// The longest axis.
    length_max: u64,
}

/// A plan, and what of its outputs later plans can read.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) readable: Vec<Readable>,
}

impl Planner {
    pub(crate) fn new(client: ClientId, length_max: u64) -> Planner {
        Planner { client, sequence: 0, length_max }
    }

    pub(crate) fn name(&mut self) -> ArrayId {
        self.sequence += 1;
        ArrayId { client: self.client, sequence: self.sequence }
    }

    /// A random grid of one or two axes; now and then one of them is empty.
    pub(crate) fn grid(&mut self, chance: &mut Chance) -> Grid {
        let rank = chance.between(1, 2);
        let axis = |chance: &mut Chance| {
            let length_max = if rank == 1 { self.length_max } else { 1 + self.length_max.isqrt() * 2 };
            let length = if chance.permille(20) { 0 } else { chance.between(1, length_max) };
            AxisGrid::regular(length, chance.between(1, 4))
        };
        Grid { axes: (0..rank).map(|_| axis(chance)).collect() }
    }

    /// A plan of a few stages over what is `readable`.
    pub(crate) fn plan(&mut self, chance: &mut Chance, readable: &[Readable], oracle: &mut Oracle) -> Planned {
        let mut draft = Draft { stages: Vec::new(), readable: readable.to_vec(), ends: Vec::new() };
        let count = chance.between(1, 5);
        for at in 0..count {
            match chance.below(10) {
                0..2 => self.source(chance, &mut draft),
                2..6 => self.map(chance, &mut draft),
                6..9 => self.reduction(chance, &mut draft),
                _ => self.relabel(chance, &mut draft),
            }
            if at == 0 && draft.stages.is_empty() {
                self.source(chance, &mut draft);
            }
        }
        let mut outputs: Vec<ArrayId> = draft.ends.clone();
        let made = draft.stages.iter().map(|stage| stage.array);
        outputs.extend(made.filter(|_| chance.permille(250)));
        outputs.sort();
        outputs.dedup();
        for stage in &draft.stages {
            oracle.stages.insert(stage.array, stage.clone());
        }
        let kept = draft.readable.into_iter().filter(|readable| outputs.contains(&readable.array)).collect();
        let kernels = KERNELS.map(|hash| KernelBytes { hash, source: Vec::new().into() }).into();
        Planned { plan: Plan { kernels, stages: draft.stages, outputs }, readable: kept }
    }

    fn source(&mut self, chance: &mut Chance, draft: &mut Draft) {
        let grid = self.grid(chance);
        let random =
            Random { distribution: Distribution::Uniform, dtype: DType::F64, shape: grid.shape(), seed: 0, stream: 0 };
        let leaf = leaf(Source::Random(random), View::identity(&grid.shape()));
        self.finish_map(chance, draft, grid, vec![leaf]);
    }

    fn map(&mut self, chance: &mut Chance, draft: &mut Draft) {
        let Some(first) = chance.pick(&draft.readable) else { return self.source(chance, draft) };
        let grid = match chance.below(3) {
            0 => first.grid.clone(),
            1 => recut(chance, &first.grid),
            _ => self.grid(chance),
        };
        let space = grid.shape();
        let mut leaves = Vec::new();
        let blockwise = chance.permille(400) && grid == first.grid;
        for at in 0..chance.between(1, 3) {
            let Some(read) = (if at == 0 { Some(first.clone()) } else { chance.pick(&draft.readable) }) else { break };
            let source = array_source(chance, &read);
            if (blockwise && read.grid == grid) || (read.grid.shape() == space && chance.permille(300)) {
                leaves.push(leaf(source, View::identity(&space)));
            } else if let Some((before, after)) = split(chance, &space).filter(|_| chance.permille(250)) {
                let second = match chance.pick(&draft.readable).filter(|_| chance.permille(600)) {
                    Some(read) => view_of(chance, &read.grid.shape(), after.clone())
                        .map(|view| Piece { source: array_source(chance, &read), view }),
                    None => None,
                };
                let nothing = View { domain: after, axes: Vec::new() };
                let second = second.unwrap_or(Piece { source: Source::Constant(Scalar::F64(0.0)), view: nothing });
                if let Some(view) = view_of(chance, &read.grid.shape(), before) {
                    leaves.push(Leaf { dtype: DType::F64, pieces: vec![Piece { source, view }, second] });
                }
            } else if let Some(view) = view_of(chance, &read.grid.shape(), Region::whole(&space)) {
                leaves.push(leaf(source, view));
            }
        }
        match leaves.is_empty() {
            true => self.source(chance, draft),
            false => self.finish_map(chance, draft, grid, leaves),
        }
    }

    fn finish_map(&mut self, chance: &mut Chance, draft: &mut Draft, grid: Grid, leaves: Vec<Leaf>) {
        let array = self.name();
        let fields = chance.between(1, 2) as u32;
        let map = Map { grid: grid.clone(), leaves, program: Program::identity(), reduce: None };
        let (grid, body) = match chance.permille(200) {
            true => over_blocks(chance, map),
            false => (grid, Body::Map(map)),
        };
        let field_bytes = draft.add(chance, array, body, fields);
        draft.readable.push(Readable { array, grid, fields, field_bytes });
        draft.ends.push(array);
    }

    /// The chunk step over some axes, then folds, up to some level.
    fn reduction(&mut self, chance: &mut Chance, draft: &mut Draft) {
        let Some(read) = chance.pick(&draft.readable) else { return self.source(chance, draft) };
        let grid = if chance.permille(500) { read.grid.clone() } else { recut(chance, &read.grid) };
        let reduction = Reduction { op: ReduceOp::Sum, inputs: vec![DType::F64] };
        let axes: Vec<bool> = (0..grid.rank()).map(|_| chance.permille(600)).collect();
        let kept = Grid {
            axes: grid.axes.iter().zip(&axes).filter(|(_, cut)| !**cut).map(|(axis, _)| axis.clone()).collect(),
        };
        let mut count = grid.blocks() / kept.blocks().max(1);
        let leaves = vec![leaf(array_source(chance, &read), View::identity(&grid.shape()))];
        let reduce = Some(ChunkStep { reduction: reduction.clone(), axes, finish: false });
        let mut input = self.name();
        let body = Body::Map(Map { grid, leaves, program: Program::identity(), reduce });
        draft.add(chance, input, body, 1);
        while count > 1 && chance.permille(850) {
            let array = self.name();
            let fan_in = 1 << chance.between(1, 3);
            let fold = Fold { input, reduction: reduction.clone(), kept: kept.clone(), count, fan_in, finish: false };
            draft.add(chance, array, Body::Fold(fold), 1);
            (input, count) = (array, count.div_ceil(fan_in));
        }
        draft.ends.push(input);
    }

    fn relabel(&mut self, chance: &mut Chance, draft: &mut Draft) {
        let Some(read) = chance.pick(&draft.readable).filter(|read| read.grid.rank() < 4) else { return };
        let mut grid = read.grid.clone();
        grid.axes.insert(0, AxisGrid::regular(1, 1));
        let array = self.name();
        let field = chance.below(u64::from(read.fields)) as u32;
        let body = Body::Relabel(Relabel { input: read.array, field, grid: grid.clone() });
        let field_bytes = draft.add(chance, array, body, 1);
        draft.readable.push(Readable { array, grid, fields: 1, field_bytes });
        draft.ends.push(array);
    }
}

/// A plan being made.
struct Draft {
    stages: Vec<Arc<Stage>>,
    readable: Vec<Readable>,
    /// What nobody reads yet.
    ends: Vec<ArrayId>,
}

impl Draft {
    fn add(&mut self, chance: &mut Chance, array: ArrayId, body: Body, fields: u32) -> u64 {
        let field_bytes = chance.between(10, 100);
        let outputs = vec![Item::Value(DType::F64); fields as usize];
        let bytes_output = field_bytes * u64::from(fields);
        let mut stage = Stage { array, body, outputs, bytes_output, bytes_peak: 0 };
        // Each operand counts as the largest field there is.
        let operands = (0..stage.blocks()).map(|block| stage.reads(block).len() as u64).max().unwrap_or(0);
        stage.bytes_peak = bytes_output + operands * 100;
        let read = stage.input_arrays();
        self.ends.retain(|end| !read.contains(end));
        self.stages.push(Arc::new(stage));
        field_bytes
    }
}

/// A kernel over whole blocks: its output blocks are as many as its inputs', and of other shapes.
fn over_blocks(chance: &mut Chance, inputs: Map) -> (Grid, Body) {
    let kernel = KERNELS[chance.below(KERNELS.len() as u64) as usize];
    let axes = inputs.grid.axes.iter().map(|axis| {
        let chunk = chance.between(1, 5);
        AxisGrid::regular(axis.blocks() * chunk, chunk)
    });
    let output = Grid { axes: axes.collect() };
    (output.clone(), Body::Block(BlockCall { inputs, kernel, output }))
}

fn leaf(source: Source, view: View) -> Leaf {
    Leaf { dtype: DType::F64, pieces: vec![Piece { source, view }] }
}

fn array_source(chance: &mut Chance, read: &Readable) -> Source {
    Source::Array { array: read.array, field: chance.below(u64::from(read.fields)) as u32, grid: read.grid.clone() }
}

/// The same shape in other chunks.
fn recut(chance: &mut Chance, grid: &Grid) -> Grid {
    Grid { axes: grid.axes.iter().map(|axis| AxisGrid::regular(axis.length(), chance.between(1, 5))).collect() }
}

/// Two parts of a space, along one axis.
fn split(chance: &mut Chance, space: &Shape) -> Option<(Region, Region)> {
    let axis = chance.below(space.rank() as u64) as usize;
    let at = (space[axis] > 1).then(|| chance.between(1, space[axis] - 1))?;
    let (mut before, mut after) = (Region::whole(space), Region::whole(space));
    before.end[axis] = at;
    after.start[axis] = at;
    Some((before, after))
}

/// A random view of `domain` into an array of `shape`: axes that fit are read along, with steps and flips; others stay.
fn view_of(chance: &mut Chance, shape: &Shape, domain: Region) -> Option<View> {
    let mut free: Vec<usize> = (0..domain.start.rank()).collect();
    let mut axes = Vec::new();
    for &length in shape.iter() {
        let lengths = domain.shape();
        let fitting: Vec<usize> = free.iter().copied().filter(|&axis| (1..=length).contains(&lengths[axis])).collect();
        let Some(axis) = chance.pick(&fitting).filter(|_| chance.permille(900)) else {
            axes.push(AxisRead::Fixed(chance.below(length)));
            continue;
        };
        free.retain(|other| *other != axis);
        let count = lengths[axis];
        let step_max = if count > 1 { (length - 1) / (count - 1) } else { 3 };
        let step = chance.between(1, step_max.clamp(1, 3)) as i64;
        let span = (count - 1) as i64 * step;
        let low = chance.below(length - span as u64) as i64;
        let (first, step) = if chance.permille(300) { (low + span, -step) } else { (low, step) };
        axes.push(AxisRead::Along { axis: axis as u8, start: first - step * domain.start[axis] as i64, step });
    }
    (shape.elements() > 0).then_some(View { domain, axes })
}
