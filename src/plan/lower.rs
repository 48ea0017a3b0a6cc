//! Stored computations as stages: views composed, one program over leaves.

use std::collections::HashMap;
use std::sync::Arc;

use gridloom_worker::block::Item;
use gridloom_worker::dtype::DType;
use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, KernelHash};
use gridloom_worker::kernel::TypedKernel;
use gridloom_worker::shape::Region;
use gridloom_worker::stage::{
    BlockCall, Body, ChunkStep, Leaf, Map, Piece, Program, Reduction, Relabel, Source, Step, Value,
};
use gridloom_worker::view::{AxisRead, View};

use super::fuse::space;
use super::graph::{Graph, Target, Unit};
use super::{ArrayIds, Output, Plan, PlanError, Scatter, memory, tree};
use crate::array::{Array, BlocksCall, Call, Expression, ReduceCall, Resident, Root};

/// Makes a stage of every stored computation.
pub(super) fn lower(graph: &Graph, stored: &[bool], ids: &mut ArrayIds) -> Result<Plan, PlanError> {
    let mut lowering = Lowering {
        graph,
        stored,
        ids,
        homes: vec![None; graph.units.len()],
        plan: Plan { kernels: Vec::new(), stages: Vec::new(), scatters: Vec::new(), outputs: Vec::new() },
    };
    let read = read_by_stages(graph, stored);
    for (at, unit) in graph.units.iter().enumerate().filter(|(at, _)| stored[*at]) {
        let home = lowering.store(at, unit)?;
        lowering.homes[at] = Some(if read[at] { lowering.rooted(home)? } else { home });
    }
    let outputs = graph.targets.iter().map(|target| lowering.output(target));
    lowering.plan.outputs = outputs.collect();
    Ok(lowering.plan)
}

/// Whether a view of `input` differs from it by axes of length 1 only, so that the blocks are the same.
pub(super) fn is_relabelling(array: &Array, input: &Array, view: &View) -> bool {
    let mut next = 0;
    let mut in_order = |read: &AxisRead, length: u64, own: usize| match *read {
        _ if length == 1 => true,
        AxisRead::Fixed(_) => false,
        AxisRead::Along { axis, start, step } => {
            let axis = usize::from(axis);
            let is_next = axis >= next && (next..axis).all(|skipped| array.shape()[skipped] == 1);
            next = axis + 1;
            is_next && start == 0 && step == 1 && array.grid().axes[axis] == input.grid().axes[own]
        }
    };
    let all = view.axes.iter().enumerate().all(|(own, read)| in_order(read, input.shape()[own], own));
    all && (next..array.rank()).all(|rest| array.shape()[rest] == 1)
}

/// Per unit, whether a stage reads it (an output alone does not).
fn read_by_stages(graph: &Graph, stored: &[bool]) -> Vec<bool> {
    let mut read = vec![false; graph.units.len()];
    // Consumers first: what is read through a unit is read if the unit is, or is stored.
    for (at, unit) in graph.units.iter().enumerate().rev() {
        if stored[at] || read[at] {
            unit.array.expression().inputs().iter().for_each(|input| read[graph.unit_of(input)] = true);
        }
    }
    read
}

/// Where a stored unit's blocks are.
#[derive(Clone, Debug)]
struct Home {
    array: ArrayId,
    grid: Grid,
    /// Per field of the unit, which field of the blocks.
    fields: Vec<u32>,
    root: Option<Root>,
}

struct Lowering<'a> {
    graph: &'a Graph,
    stored: &'a [bool],
    ids: &'a mut ArrayIds,
    homes: Vec<Option<Home>>,
    plan: Plan,
}

impl Lowering<'_> {
    fn store(&mut self, at: usize, unit: &Unit) -> Result<Home, PlanError> {
        let grid = unit.array.grid().clone();
        match unit.array.expression() {
            Expression::Failed(error) => Err(PlanError::Array(Box::new(error.clone()))),
            Expression::Scattered(bytes) => {
                let (array, dtype) = (self.ids.make(), unit.array.dtype());
                self.plan.scatters.push(Scatter { array, grid: grid.clone(), dtype, bytes: bytes.clone() });
                Ok(Home { array, grid, fields: vec![0], root: None })
            }
            Expression::Resident(Resident { array, field, root, .. }) => {
                root.iter().for_each(|root| self.add_kernels(root.kernel.iter()));
                // A resident array is one field, whichever of its blocks' fields that is.
                Ok(Home { array: *array, grid, fields: vec![*field], root: root.clone() })
            }
            Expression::Relabel(input) => self.relabel(input, grid),
            Expression::Reduced { reduce, .. } => self.reduction(at, reduce, grid),
            Expression::Call { call, .. } => self.call(at, unit, call, grid),
            Expression::Blocks { call, .. } => self.blocks(at, call, grid),
            Expression::Source(_) | Expression::View { .. } | Expression::Concatenation { .. } => {
                let array = unit.array.clone();
                let program = self.program(at, |reader, view| vec![reader.inline(&array, view)]);
                let home = Home { array: self.ids.make(), grid, fields: vec![0], root: None };
                self.map_stage(&home, program, unit.array.grid().clone(), None, vec![Item::Value(unit.array.dtype())])?;
                Ok(home)
            }
        }
    }

    fn relabel(&mut self, input: &Array, grid: Grid) -> Result<Home, PlanError> {
        let (from, field) = self.home_of(input);
        let body = Body::Relabel(Relabel { input: from.array, field, grid: grid.clone() });
        let home = Home { array: self.ids.make(), grid, fields: vec![0], root: None };
        let stage = memory::stage(home.array, body, &home.grid, vec![Item::Value(input.dtype())], 0)?;
        self.plan.stages.push(Arc::new(stage));
        Ok(home)
    }

    fn call(&mut self, at: usize, unit: &Unit, call: &Call, grid: Grid) -> Result<Home, PlanError> {
        let program = self.program(at, |reader, view| {
            let step = reader.call(call, view);
            unit.fields.iter().map(|&field| Value::Step { step, field }).collect()
        });
        let mut fields = vec![0; call.results.len()];
        unit.fields.iter().zip(0..).for_each(|(&field, place)| fields[field as usize] = place);
        let items = unit.fields.iter().map(|&field| Item::Value(call.results[field as usize])).collect();
        let home = Home { array: self.ids.make(), grid: grid.clone(), fields, root: None };
        self.map_stage(&home, program, grid, None, items)?;
        Ok(home)
    }

    /// A block kernel over what the program of its inputs makes. All its outputs are fields of the blocks.
    fn blocks(&mut self, at: usize, call: &BlocksCall, output: Grid) -> Result<Home, PlanError> {
        self.add_kernels(std::iter::once(&call.kernel));
        let (leaves, program) =
            self.program(at, |reader, view| call.inputs.iter().map(|input| reader.value(input, view)).collect());
        let inputs = Map { grid: call.grid.clone(), leaves, program, reduce: None };
        let values = |dtypes: &mut dyn Iterator<Item = DType>| dtypes.map(Item::Value).collect::<Vec<Item>>();
        let read = values(&mut call.kernel.parameters().iter().map(|parameter| parameter.dtype));
        let items = values(&mut call.kernel.results().iter().map(|result| result.dtype));
        let home = Home { array: self.ids.make(), grid: output, fields: (0..items.len() as u32).collect(), root: None };
        memory::check_space(home.array, &inputs, &read)?;
        let input_bytes = read.iter().map(|item| call.grid.block_elements_max().saturating_mul(item.bytes()));
        let operands = input_bytes.fold(memory::operands(home.array, &inputs)?, u64::saturating_add);
        let body = Body::Block(BlockCall { inputs, kernel: call.kernel.hash(), output: home.grid.clone() });
        let stage = memory::stage(home.array, body, &home.grid, items, operands)?;
        self.plan.stages.push(Arc::new(stage));
        Ok(home)
    }

    /// The chunk stage of a reduction, and the levels above it but for the root.
    fn reduction(&mut self, at: usize, reduce: &ReduceCall, kept: Grid) -> Result<Home, PlanError> {
        self.add_kernels(reduce.kernel.iter());
        let program =
            self.program(at, |reader, view| reduce.inputs.iter().map(|input| reader.value(input, view)).collect());
        let reduction = Reduction { op: reduce.op, inputs: reduce.inputs.iter().map(Array::dtype).collect() };
        let reduced = reduce.axes.iter().zip(&reduce.grid.axes).filter(|(reduced, _)| **reduced);
        let count = reduced.map(|(_, axis)| axis.blocks()).product();
        let mut root = Root {
            partial_bytes: partial_bytes(&reduction, reduce.kernel.as_deref()),
            reduction: reduction.clone(),
            kernel: reduce.kernel.clone(),
            results: reduce.results.clone(),
            kept: kept.clone(),
            count,
        };
        let finish = count == 1;
        let items = match finish {
            true => reduce.results.iter().map(|&dtype| Item::Value(dtype)).collect(),
            false => vec![Item::Partial { bytes: root.partial_bytes }],
        };
        let fields = (0..reduce.results.len() as u32).collect();
        let mut home = Home { array: self.ids.make(), grid: kept, fields, root: None };
        let chunk = ChunkStep { reduction, axes: reduce.axes.clone(), finish };
        self.map_stage(&home, program, reduce.grid.clone(), Some(chunk), items)?;
        if !finish {
            home.array = tree::folded(home.array, &mut root, self.ids, &mut self.plan.stages)?;
            home.root = Some(root);
            if !home.root.as_ref().is_some_and(tree::is_light) {
                home = self.rooted(home)?;
            }
        }
        Ok(home)
    }

    /// The same values with nothing left to do: the root as a stage of its own.
    fn rooted(&mut self, mut home: Home) -> Result<Home, PlanError> {
        if let Some(root) = home.root.take() {
            let stage = tree::rooted(home.array, &root, self.ids)?;
            home.array = stage.array;
            self.plan.stages.push(Arc::new(stage));
        }
        Ok(home)
    }

    /// The leaves and steps that make `results` in the space of unit `root`.
    fn program<F>(&mut self, root: usize, results: F) -> (Vec<Leaf>, Program)
    where
        F: FnOnce(&mut Reader<'_>, &View) -> Vec<Value>,
    {
        let shape = space(&self.graph.units[root].array).shape();
        let whole = Region::whole(&shape);
        let mut reader = Reader {
            lowering: self,
            whole,
            leaves: Vec::new(),
            steps: Vec::new(),
            units: HashMap::new(),
            called: HashMap::new(),
            kernels: Vec::new(),
        };
        let results = results(&mut reader, &View::identity(&shape));
        let Reader { leaves, steps, kernels, .. } = reader;
        self.add_kernels(kernels.iter());
        (leaves, Program { steps, results })
    }

    fn map_stage(
        &mut self,
        home: &Home,
        (leaves, program): (Vec<Leaf>, Program),
        grid: Grid,
        reduce: Option<ChunkStep>,
        items: Vec<Item>,
    ) -> Result<(), PlanError> {
        let map = Map { grid, leaves, program, reduce };
        memory::check_space(home.array, &map, &items)?;
        let operands = memory::operands(home.array, &map)?;
        let stage = memory::stage(home.array, Body::Map(map), &home.grid, items, operands)?;
        self.plan.stages.push(Arc::new(stage));
        Ok(())
    }

    fn add_kernels<'k>(&mut self, kernels: impl Iterator<Item = &'k Arc<TypedKernel>>) {
        for kernel in kernels {
            if self.plan.kernels.iter().all(|known| known.hash() != kernel.hash()) {
                self.plan.kernels.push(kernel.clone());
            }
        }
    }

    fn home_of(&self, array: &Array) -> (&Home, u32) {
        let home = self.homes[self.graph.unit_of(array)].as_ref().expect("producers are stored before consumers");
        (home, home.fields[array.field() as usize])
    }

    fn output(&self, target: &Target) -> Output {
        debug_assert!(self.stored[target.unit], "what was asked for is stored");
        let (home, field) = self.home_of(&target.array);
        let (array, grid, root) = (home.array, home.grid.clone(), home.root.clone());
        Output { array, field, grid, shape: target.shape.clone(), dtype: target.array.dtype(), root }
    }
}

fn partial_bytes(reduction: &Reduction, kernel: Option<&TypedKernel>) -> u32 {
    match kernel.and_then(TypedKernel::reduction) {
        Some(functions) => functions.signature.accumulator.bytes,
        None => gridloom_worker::reduce::accumulator(reduction).bytes() as u32,
    }
}

/// Makes leaves and steps, each once.
struct Reader<'a> {
    lowering: &'a Lowering<'a>,
    whole: Region,
    leaves: Vec<Leaf>,
    steps: Vec<Step>,
    /// The steps of units. Each is read through one view here: else it would be stored.
    units: HashMap<usize, u32>,
    /// Equal calls are one step.
    called: HashMap<(KernelHash, Vec<Value>), u32>,
    kernels: Vec<Arc<TypedKernel>>,
}

impl Reader<'_> {
    /// The value of `array` where the space reads it through `view`.
    fn value(&mut self, array: &Array, view: &View) -> Value {
        let unit = self.lowering.graph.unit_of(array);
        if self.lowering.stored[unit] {
            let source = self.stored(array);
            return self.leaf(array.dtype(), vec![Piece { source, view: view.clone() }]);
        }
        self.inline(array, view)
    }

    fn stored(&self, array: &Array) -> Source {
        let (home, field) = self.lowering.home_of(array);
        Source::Array { array: home.array, field, grid: home.grid.clone() }
    }

    /// The same, computed here though the array may be stored.
    fn inline(&mut self, array: &Array, view: &View) -> Value {
        match array.expression() {
            Expression::View { input, view: inner } => self.value(input, &view.then(inner)),
            Expression::Call { call, field } => {
                let unit = self.lowering.graph.unit_of(array);
                let step = match self.units.get(&unit) {
                    Some(&step) => step,
                    None => self.call(call, view),
                };
                self.units.insert(unit, step);
                Value::Step { step, field: *field }
            }
            Expression::Source(source) => {
                let piece = self.piece(source.clone(), view.clone());
                self.leaf(array.dtype(), vec![piece])
            }
            Expression::Concatenation { .. } => {
                let pieces = self.pieces(array, view);
                self.leaf(array.dtype(), pieces)
            }
            Expression::Failed(_)
            | Expression::Scattered(_)
            | Expression::Resident(_)
            | Expression::Relabel(_)
            | Expression::Reduced { .. }
            | Expression::Blocks { .. } => unreachable!("these are always stored"),
        }
    }

    fn call(&mut self, call: &Call, view: &View) -> u32 {
        let arguments: Vec<Value> = call.arguments.iter().map(|argument| self.value(argument, view)).collect();
        let kernel = call.function.kernel();
        let key = (kernel.hash(), arguments.clone());
        if let Some(&step) = self.called.get(&key) {
            return step;
        }
        let step = self.steps.len() as u32;
        self.steps.push(Step { kernel: kernel.hash(), arguments });
        self.kernels.push(kernel);
        self.called.insert(key, step);
        step
    }

    /// The members of a join, and of joins within it, that the space reads at all.
    fn pieces(&mut self, array: &Array, view: &View) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut open = vec![(array.clone(), view.clone(), true)];
        while let Some((array, view, inline)) = open.pop() {
            if view.domain.is_empty() {
                continue;
            }
            if self.lowering.stored[self.lowering.graph.unit_of(&array)] && !inline {
                pieces.push(Piece { source: self.stored(&array), view });
                continue;
            }
            match array.expression() {
                Expression::Source(source) => pieces.push(self.piece(source.clone(), view)),
                Expression::View { input, view: inner } => open.push((input.clone(), view.then(inner), false)),
                Expression::Concatenation { parts, views } => {
                    let parts = parts.iter().zip(views).filter(|(_, inner)| may_read(&view, inner));
                    let parts: Vec<_> = parts.map(|(part, inner)| (part.clone(), view.then(inner), false)).collect();
                    open.extend(parts.into_iter().rev());
                }
                _ => unreachable!("what is computed is stored before it is joined"),
            }
        }
        pieces
    }

    /// A constant has no axes, and so reads none.
    fn piece(&self, source: Source, mut view: View) -> Piece {
        if let Source::Constant(_) = source {
            view.axes.clear();
        }
        Piece { source, view }
    }

    fn leaf(&mut self, dtype: DType, pieces: Vec<Piece>) -> Value {
        let leaf = Leaf { dtype, pieces };
        debug_assert!(leaf.pieces.iter().all(|piece| piece.view.domain.intersect(&self.whole) == piece.view.domain));
        let known = self.leaves.iter().position(|known| is_same(known, &leaf));
        let at = known.unwrap_or_else(|| {
            self.leaves.push(leaf);
            self.leaves.len() - 1
        });
        Value::Leaf(at as u32)
    }
}

/// Whether the fixed indices of `view` lie in the domain of a member. (A space without axes has no empty domain that
/// could tell.)
fn may_read(view: &View, member: &View) -> bool {
    view.axes.iter().enumerate().all(|(axis, read)| match read {
        AxisRead::Fixed(at) => (member.domain.start[axis]..member.domain.end[axis]).contains(at),
        AxisRead::Along { .. } => true,
    })
}

/// Whether two leaves hold the same values, bit for bit. (As numbers, 0 would be -0.)
fn is_same(a: &Leaf, b: &Leaf) -> bool {
    let ([a], [b]) = (&a.pieces[..], &b.pieces[..]) else { return false };
    let same_source = match (&a.source, &b.source) {
        (Source::Constant(a), Source::Constant(b)) => a.dtype() == b.dtype() && a.to_bytes() == b.to_bytes(),
        (Source::Array { array: a, field: f, .. }, Source::Array { array: b, field: g, .. }) => (a, f) == (b, g),
        (Source::Random(a), Source::Random(b)) => a == b,
        _ => false,
    };
    same_source && a.view == b.view
}
