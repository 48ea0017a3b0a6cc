//! Whether a plan that came from somewhere is sound: asked once, before any of its arithmetic is used.

use std::collections::{BTreeMap, BTreeSet};

use gridloom_worker::grid::Grid;
use gridloom_worker::ids::{ArrayId, ClientId, KernelHash};
use gridloom_worker::shape::Shape;
use gridloom_worker::stage::{
    BlockCall, Body, Fold, Map, NpyFile, Piece, Program, Random, ReduceOp, Reduction, Relabel, Source, Stage, Value,
};
use gridloom_worker::view::{AxisRead, View};
use gridloom_worker::wire::Plan;

use super::array::Array;
use super::error::{JobError, PlanFault, StageFault};
use super::relation::Relation;

/// Blocks of one array at most: what is counted in 60 bits.
const BLOCKS_MAX: u64 = 1 << 60;

/// Blocks of a stage, and of each array it reads, where they do not map in ranges and are looked at one by one.
const BLOCKS_IRREGULAR_MAX: u64 = 1 << 26;

/// What a stage may read: how many blocks and fields it has.
#[derive(Clone, Copy)]
struct Readable {
    blocks: u64,
    fields: u32,
}

/// Refuses a plan that does not fit together, or reads what is not there.
pub(super) fn check(plan: &Plan, client: ClientId, arrays: &BTreeMap<ArrayId, Array>) -> Result<(), JobError> {
    let kernels: BTreeSet<KernelHash> = plan.kernels.iter().map(|kernel| kernel.hash).collect();
    let mut made: BTreeMap<ArrayId, Readable> = BTreeMap::new();
    for stage in &plan.stages {
        let array = stage.array;
        if array.client != client || arrays.contains_key(&array) || made.contains_key(&array) {
            return Err(PlanFault::Name { array }.into());
        }
        let known = |input: ArrayId| {
            let readable = |array: &Array| Readable { blocks: array.blocks, fields: array.fields };
            let whole = |array: &&Array| array.pinned && array.taken.is_empty() && input.client == client;
            let earlier = || arrays.get(&input).filter(whole).map(readable);
            made.get(&input).copied().or_else(earlier)
        };
        fits(stage, known).map_err(|what| PlanFault::Stage { array, what })?;
        if let Some(input) = stage.input_arrays().into_iter().find(|input| known(*input).is_none()) {
            return Err(JobError::UnknownArray { array: input });
        }
        let read = stage.input_arrays().into_iter().filter_map(known).map(|readable| readable.blocks);
        let blocks = read.chain([stage.blocks()]).max().unwrap_or(0);
        if blocks > BLOCKS_IRREGULAR_MAX && !Relation::new(stage.clone()).is_regular() {
            return Err(PlanFault::TooManyBlocks { array, blocks, blocks_max: BLOCKS_IRREGULAR_MAX }.into());
        }
        if !kernels_of(stage).iter().all(|kernel| kernels.contains(kernel)) {
            return Err(PlanFault::Kernel { array }.into());
        }
        made.insert(array, Readable { blocks: stage.blocks(), fields: stage.outputs.len() as u32 });
    }
    match plan.outputs.iter().find(|output| !made.contains_key(output)) {
        Some(&array) => Err(PlanFault::Output { array }.into()),
        None => Ok(()),
    }
}

/// Every kernel that a stage names.
pub(super) fn kernels_of(stage: &Stage) -> Vec<KernelHash> {
    let user = |reduction: &Reduction| if let ReduceOp::User(kernel) = reduction.op { Some(kernel) } else { None };
    match &stage.body {
        Body::Map(map) => {
            let reduce = map.reduce.as_ref().and_then(|reduce| user(&reduce.reduction));
            map.program.steps.iter().map(|step| step.kernel).chain(reduce).collect()
        }
        Body::Fold(fold) => user(&fold.reduction).into_iter().collect(),
        Body::Relabel(_) => Vec::new(),
        Body::Block(BlockCall { inputs, kernel, .. }) => {
            inputs.program.steps.iter().map(|step| step.kernel).chain([*kernel]).collect()
        }
    }
}

fn fits(stage: &Stage, known: impl Fn(ArrayId) -> Option<Readable>) -> Result<(), StageFault> {
    ensure(!stage.outputs.is_empty(), StageFault::Numbers)?;
    // An input that is not there has an error of its own, later.
    let agrees = |input: ArrayId, blocks: u64, field: u32| {
        let fits = |readable: Readable| readable.blocks == blocks && field < readable.fields;
        ensure(known(input).is_none_or(fits), StageFault::Input)
    };
    match &stage.body {
        Body::Map(map) => fits_map(map, agrees),
        Body::Fold(Fold { input, kept, count, fan_in, .. }) => {
            ensure(kept.is_sound(), StageFault::Grid)?;
            ensure(*count > 0 && fan_in.is_power_of_two(), StageFault::Numbers)?;
            let partials = kept.blocks().checked_mul(*count).filter(|&partials| partials < BLOCKS_MAX);
            agrees(*input, partials.ok_or(StageFault::Numbers)?, 0)
        }
        Body::Relabel(Relabel { input, field, grid }) => {
            ensure(grid.is_sound(), StageFault::Grid)?;
            agrees(*input, grid.blocks(), *field)
        }
        Body::Block(BlockCall { inputs, output, .. }) => {
            ensure(output.is_sound(), StageFault::Grid)?;
            fits_map(inputs, agrees)?;
            ensure(inputs.reduce.is_none(), StageFault::Numbers)?;
            ensure(inputs.grid.block_counts() == output.block_counts(), StageFault::Grid)
        }
    }
}

fn fits_map(map: &Map, agrees: impl Fn(ArrayId, u64, u32) -> Result<(), StageFault>) -> Result<(), StageFault> {
    ensure(map.grid.is_sound(), StageFault::Grid)?;
    let rank = map.grid.rank();
    ensure(map.reduce.as_ref().is_none_or(|reduce| reduce.axes.len() == rank), StageFault::Numbers)?;
    ensure(program_fits(&map.program, map.leaves.len()), StageFault::Numbers)?;
    let space = map.grid.shape();
    for Piece { source, view } in map.leaves.iter().flat_map(|leaf| &leaf.pieces) {
        let shape = match source {
            Source::Array { array, field, grid } => {
                ensure(grid.is_sound(), StageFault::Grid)?;
                agrees(*array, grid.blocks(), *field)?;
                Some(Grid::shape(grid))
            }
            Source::Random(Random { shape, .. }) | Source::Npy(NpyFile { shape, .. }) => Some(shape.clone()),
            Source::Literal { shape, .. } | Source::Iota { shape, .. } | Source::Linspace { shape, .. } => {
                Some(shape.clone())
            }
            Source::Constant(_) => None,
        };
        ensure(shape.as_ref().is_none_or(|shape| Shape::new(shape).is_ok()), StageFault::Grid)?;
        ensure(view_fits(view, &space, shape.as_ref()), StageFault::View)?;
    }
    Ok(())
}

/// Values that a program uses were there before.
fn program_fits(program: &Program, leaves: usize) -> bool {
    let known = |value: &Value, steps: usize| match *value {
        Value::Leaf(leaf) => (leaf as usize) < leaves,
        Value::Step { step, .. } => (step as usize) < steps,
    };
    let mut steps = program.steps.iter().enumerate();
    steps.all(|(at, step)| step.arguments.iter().all(|value| known(value, at)))
        && program.results.iter().all(|value| known(value, program.steps.len()))
}

/// Whether a view of `space` stays inside `shape` (where that is known), and names each axis of the space once.
fn view_fits(view: &View, space: &Shape, shape: Option<&Shape>) -> bool {
    let View { domain, axes } = view;
    let rank = space.rank();
    if domain.start.rank() != rank || domain.end.rank() != rank {
        return false;
    }
    if (0..rank).any(|axis| domain.start[axis] > domain.end[axis] || domain.end[axis] > space[axis]) {
        return false;
    }
    if shape.is_some_and(|shape| shape.rank() != axes.len()) {
        return false;
    }
    let mut named = [false; gridloom_worker::shape::RANK_MAX];
    axes.iter().enumerate().all(|(at, read)| {
        let length = shape.map_or(i128::from(i64::MAX), |shape| i128::from(shape[at]));
        let inside = |index: i128| domain.is_empty() || (0..length).contains(&index);
        match *read {
            AxisRead::Fixed(index) => inside(i128::from(index)),
            AxisRead::Along { axis, start, step } => {
                let axis = usize::from(axis);
                let place = |output: u64| i128::from(start) + i128::from(step) * i128::from(output);
                axis < rank
                    && step != 0
                    && !std::mem::replace(&mut named[axis], true)
                    && step.unsigned_abs() < BLOCKS_MAX
                    && start.unsigned_abs() < BLOCKS_MAX
                    && inside(place(domain.start[axis]))
                    && inside(place(domain.end[axis].saturating_sub(1)))
            }
        }
    })
}

fn ensure(holds: bool, fault: StageFault) -> Result<(), StageFault> {
    if holds { Ok(()) } else { Err(fault) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gridloom_worker::ids::{JobId, WorkerId};
    use gridloom_worker::wire::{self, DeviceClass, Register};
    use proptest::prelude::*;

    use super::*;
    use crate::scheduler::testing::{StageOf, array};
    use crate::scheduler::{Action, Event, FromClient, Limits, Scheduler, ToClient};

    fn plan() -> Plan {
        let stages = vec![
            StageOf::map(array(1), &[], 12),
            StageOf::rechunk(array(2), array(1), 12, 1, 5),
            StageOf::flip(array(3), array(1), 12),
            StageOf::fold(array(4), array(3), 2, 6, 4),
        ];
        let outputs = vec![array(2), array(4)];
        Plan { kernels: Vec::new(), stages: stages.into_iter().map(Arc::new).collect(), outputs }
    }

    #[track_caller]
    fn check_refused(expected: &str, spoil: impl Fn(&mut Vec<Stage>)) {
        let mut plan = plan();
        let mut stages: Vec<Stage> = plan.stages.iter().map(|stage| (**stage).clone()).collect();
        spoil(&mut stages);
        plan.stages = stages.into_iter().map(Arc::new).collect();
        let error = check(&plan, ClientId(1), &BTreeMap::new()).expect_err("an unsound plan is refused");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn sound_plans_pass_and_each_fault_has_its_name() {
        check(&plan(), ClientId(1), &BTreeMap::new()).unwrap();
        let unsound = |what| format!("the plan is not sound: the stage of {what}");
        check_refused("the plan is not sound: a1.1 is not a new array of this client", |stages| {
            stages[1].array = array(1);
        });
        check_refused("a1.7 is not there: it was released, or never made", |stages| {
            stages[2] = StageOf::flip(array(3), array(7), 12);
        });
        check_refused(&unsound("a1.2 does not fit together: the grid of an input"), |stages| {
            stages[0] = StageOf::map(array(1), &[], 11);
        });
        check_refused(&unsound("a1.4 does not fit together: its numbers"), |stages| {
            if let Body::Fold(fold) = &mut stages[3].body {
                fold.fan_in = 3;
            }
        });
        check_refused(&unsound("a1.3 does not fit together: a view"), |stages| {
            if let Body::Map(map) = &mut stages[2].body {
                map.leaves[0].pieces[0].view.axes[0] = AxisRead::Along { axis: 0, start: 12, step: -1 };
            }
        });
        check_refused(&unsound("a1.3 does not fit together: its grid"), |stages| {
            if let Body::Map(inputs) = stages[2].body.clone() {
                let output = Grid::single(&inputs.grid.shape());
                stages[2].body = Body::Block(BlockCall { inputs, kernel: KernelHash([0; 32]), output });
            }
        });
    }

    proptest! {
        /// Whatever decodes is refused or computed; nothing panics, and the state stays sound.
        #[test]
        fn spoilt_plans_break_nothing(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
            let mut bytes = wire::encode(&plan()).unwrap();
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let Ok(plan) = wire::decode::<Plan>(&bytes) else { return Ok(()) };
            let client = ClientId(1);
            let mut scheduler = Scheduler::new(Limits::default());
            let zero = std::time::Duration::ZERO;
            scheduler.handle(zero, Event::ClientJoined { client });
            let (job, classes) = (JobId { client, sequence: 1 }, vec![DeviceClass::Cpu]);
            let message = FromClient::Submit { job, plan, classes };
            scheduler.handle(zero, Event::Client { client, message });
            // A look at every block of an array that is sound and huge would take for ever.
            if scheduler.arrays.values().map(|array| array.blocks).sum::<u64>() < 10_000 {
                prop_assert_eq!(scheduler.check(), Ok(()));
                let register = Register::of_cpu("cpu", 1, 1 << 30);
                scheduler.handle(zero, Event::WorkerJoined { worker: WorkerId(1), register });
                prop_assert_eq!(scheduler.check(), Ok(()));
            }
            let told: Vec<Action> = std::iter::from_fn(|| scheduler.poll()).collect();
            let is_failure = |action: &Action| matches!(action, Action::ToClient { message: ToClient::JobFailed { .. }, .. });
            prop_assert!(!told.iter().any(is_failure) || scheduler.arrays.is_empty(), "what failed leaves nothing");
        }
    }
}
