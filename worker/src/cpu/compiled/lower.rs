//! The one SPMD lowering: from a flat [`Program`] to a [`Builder`]'s operations, all lanes of a gang at once.
//!
//! Lanes that do not take the current path are *parked*: while any frame around is divergent, the register `active`
//! holds the mask of those that do. A `Break`, `Continue` or `Return` in a divergent frame only clears it, and remembers
//! where they go on; where nothing diverges it is a jump, and no mask exists. That is `control`; what operations are made
//! of is `operation`; here is where words live. A block kernel's workgroup goes from phase to phase: that is `phase` and,
//! where its invocations move in step, `step`.

mod control;
mod operation;
mod phase;
mod step;

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;

use super::Results;
use super::builder::{Builder, Memory, Outside};
use super::divergence::{Divergence, Open, Part};
use super::flat::{Base, Block, FrameId, Op, Place, Program, RegisterId, Statement, ValueId};
use super::phases::Phases;
use crate::dtype::DType;
use control::Ways;
use phase::Kept;

/// Emits a program once, for one gang; gives its results, and the bytes of scratch memory that it takes. If only one NaN
/// may be among the results, which are many and rarely NaN, they are noted, and the caller sees to them.
pub(super) fn lower<B: Builder>(
    program: &Program,
    divergence: &Divergence,
    results: Results,
    builder: &RefCell<B>,
) -> (Vec<B::Gang>, u64) {
    let mut lowering = Lowering::new(program, divergence, builder);
    lowering.inputs();
    for statement in &program.body {
        if lowering.statement(statement) {
            // No lane ever comes here: only the stop flag ends such a kernel.
            let unreachable = builder.borrow_mut().block();
            builder.borrow_mut().enter(unreachable);
        }
    }
    let gangs = program.results.iter().map(|&result| {
        let dtype = program.dtype(result);
        let gang = lowering.gang(result);
        if !dtype.is_float() || results == Results::Reduced {
            return gang;
        }
        if !builder.borrow().varies(gang) {
            return lowering.canonical(gang, dtype);
        }
        builder.borrow_mut().note_nans(gang);
        gang
    });
    (gangs.collect(), lowering.memory_max)
}

/// What lowering a block kernel leaves beside code.
pub(super) struct LoweredBlock {
    /// Bytes of scratch memory that each gang takes.
    pub frame_bytes: u64,
    /// Per barrier, where in a gang's frame the mask of those that reached it is, if not all always do.
    pub reached: Vec<Option<u64>>,
}

/// Emits a block kernel once, for one workgroup.
pub(super) fn lower_block<B: Builder>(
    program: &Program,
    divergence: &Divergence,
    phases: &Phases,
    builder: &RefCell<B>,
) -> LoweredBlock {
    let mut lowering = Lowering::new(program, divergence, builder);
    lowering.in_step = Some(Kept::new(program, phases));
    if lowering.block(&program.body) {
        // No lane ever comes here: only the stop flag ends such a kernel.
        let unreachable = builder.borrow_mut().block();
        builder.borrow_mut().enter(unreachable);
    }
    let reached = lowering.in_step.map_or(Vec::new(), |kept| kept.reached);
    LoweredBlock { frame_bytes: lowering.memory_max.max(LINE), reached }
}

/// Variables in memory are apart by whole cache lines.
const LINE: u64 = 64;

struct Lowering<'a, B: Builder> {
    program: &'a Program,
    divergence: &'a Divergence,
    builder: &'a RefCell<B>,
    values: Vec<Option<B::Gang>>,
    registers: Vec<Option<B::Register>>,
    memory: Vec<Option<Memory>>,
    memory_end: u64,
    memory_max: u64,
    /// Results of helper calls, by value.
    calls: HashMap<ValueId, Vec<B::Gang>>,
    active: B::Register,
    frames: Vec<Ways<B>>,
    open: Vec<Open>,
    /// Of a block kernel, what is kept between phases.
    in_step: Option<Kept<'a>>,
}

impl<'a, B: Builder> Lowering<'a, B> {
    fn new(program: &'a Program, divergence: &'a Divergence, builder: &'a RefCell<B>) -> Lowering<'a, B> {
        let active = builder.borrow_mut().register(DType::Bool, true);
        Lowering {
            program,
            divergence,
            builder,
            values: vec![None; program.values.len()],
            registers: vec![None; program.registers as usize],
            memory: vec![None; program.variables.len()],
            memory_end: 0,
            memory_max: 0,
            calls: HashMap::new(),
            active,
            frames: Vec::new(),
            open: Vec::new(),
            in_step: None,
        }
    }

    fn builder(&self) -> RefMut<'a, B> {
        self.builder.borrow_mut()
    }

    /// What is there before the first statement.
    fn inputs(&mut self) {
        for &id in &self.program.inputs {
            let (value, varies) = (self.program.value(id), self.divergence.value_varies(id));
            self.values[id.0 as usize] = match value.op {
                Op::Leaf(leaf) => Some(self.builder().leaf(leaf, value.dtype, varies)),
                Op::At(word) => Some(self.builder().at(word, varies)),
                _ => unreachable!("inputs are leaves and words of `At`"),
            };
        }
    }

    fn gang(&self, value: ValueId) -> B::Gang {
        if let Op::Constant(word) = self.program.value(value).op {
            return self.builder().constant(self.program.dtype(value), word);
        }
        if self.is_between_phases() {
            return self.of_first_gang(value);
        }
        self.values[value.0 as usize].expect("a value is evaluated before it is used")
    }

    /// Whether some lanes may be parked here.
    fn is_masked(&self) -> bool {
        self.open.iter().any(|&(frame, _)| self.divergence.frame(frame).is_divergent)
    }

    fn mask(&self) -> Option<B::Gang> {
        self.is_masked().then(|| self.builder().get(self.active))
    }

    fn all_lanes(&self) -> B::Gang {
        match self.in_step {
            Some(_) => self.builder().valid(),
            None => self.builder().constant(DType::Bool, 1),
        }
    }

    fn no_lanes(&self) -> B::Gang {
        self.builder().constant(DType::Bool, 0)
    }

    fn new_mask(&self, gang: B::Gang) -> B::Register {
        let mut builder = self.builder();
        let register = builder.register(DType::Bool, true);
        builder.set(register, gang);
        register
    }

    /// Emits a block; says whether nothing comes after it.
    fn block(&mut self, block: &[Statement]) -> bool {
        if self.is_between_phases() {
            return self.block_in_step(block);
        }
        block.iter().any(|statement| self.statement(statement))
    }

    fn within(&mut self, frame: FrameId, part: Part, block: &Block) -> bool {
        self.open.push((frame, part));
        let ends = self.block(block);
        self.open.pop();
        ends
    }

    fn statement(&mut self, statement: &Statement) -> bool {
        match statement {
            Statement::Evaluate(value) => {
                let gang = self.evaluate(*value);
                self.values[value.0 as usize] = Some(gang);
                false
            }
            Statement::Store { place, value } => {
                self.store(*place, *value);
                false
            }
            Statement::If { frame, condition, accept, reject } => match self.divergence.frame(*frame).is_divergent {
                true => self.divergent_if(*frame, *condition, accept, reject),
                false => self.uniform_if(*frame, *condition, accept, reject),
            },
            Statement::Loop { frame, body, continuing, break_if } => match self.divergence.frame(*frame).is_divergent {
                true => self.divergent_loop(*frame, body, continuing, *break_if),
                false => self.uniform_loop(*frame, body, continuing, *break_if),
            },
            Statement::Once { frame, body } => self.once(*frame, Part::Once, body),
            Statement::Call { frame, locals, body } => {
                let memory_end = self.memory_end;
                self.initialise(locals.clone());
                let ends = self.once(*frame, Part::Call, body);
                self.memory_end = memory_end;
                ends
            }
            Statement::Break => self.leave(|part| matches!(part, Part::LoopBody | Part::LoopContinuing | Part::Once)),
            Statement::Continue => self.continues(),
            Statement::Return => self.leave(|part| part == Part::Call),
            Statement::Barrier(_) | Statement::Cut => unreachable!("no part of a phase"),
        }
    }

    /// First values of a call's variables.
    fn initialise(&mut self, variables: std::ops::Range<u32>) {
        for at in variables {
            let variable = &self.program.variables[at as usize];
            let word = |offset: usize| variable.initial.as_ref().map_or(0, |initial| initial[offset]);
            if variable.is_indexed {
                let memory = self.memory(at);
                self.builder().clear(memory);
                for (offset, &dtype) in variable.dtypes.iter().enumerate().filter(|&(offset, _)| word(offset) != 0) {
                    let mut builder = self.builder();
                    let gang = builder.constant(dtype, word(offset));
                    builder.store(memory, offset as u32, None, gang, None);
                }
                continue;
            }
            for (offset, register) in variable.words.iter().enumerate() {
                if let Some(register) = register {
                    let dtype = variable.dtypes[offset];
                    let gang = self.builder().constant(dtype, word(offset));
                    let register = self.register(*register, dtype);
                    self.builder().set(register, gang);
                }
            }
        }
    }

    fn register(&mut self, id: RegisterId, dtype: DType) -> B::Register {
        let varies = self.divergence.register_varies(id);
        let builder = self.builder;
        *self.registers[id.0 as usize].get_or_insert_with(|| builder.borrow_mut().register(dtype, varies))
    }

    /// Where a variable in memory lies: given out where it is first named, until its call ends.
    fn memory(&mut self, variable: u32) -> Memory {
        if let Some(memory) = self.memory[variable as usize] {
            return memory;
        }
        let facts = &self.program.variables[variable as usize];
        let varies = self.divergence.register_varies(facts.whole);
        let width = if facts.dtypes.iter().all(|dtype| dtype.bytes() == 4) { 4 } else { 8 };
        let memory = Memory { at: self.memory_end, words: facts.dtypes.len() as u32, width, varies };
        self.memory[variable as usize] = Some(memory);
        self.reserve(memory)
    }

    fn reserve(&mut self, memory: Memory) -> Memory {
        let lanes = if memory.varies { self.builder().lanes() as u64 } else { 1 };
        self.memory_end = (memory.at + u64::from(memory.words) * memory.width * lanes).next_multiple_of(LINE);
        self.memory_max = self.memory_max.max(self.memory_end);
        memory
    }

    /// What invocations share, if a place is there.
    fn outside(&self, place: Place) -> Option<Outside> {
        match place.base {
            Base::Buffer(buffer) => Some(Outside::Buffer(buffer)),
            Base::Workgroup(shared) => {
                let shared = &self.program.workgroup[shared as usize];
                Some(Outside::Workgroup { at: shared.at, width: shared.width })
            }
            Base::Variable(_) | Base::Table(_) => None,
        }
    }

    fn store(&mut self, place: Place, value: ValueId) {
        if let Some(outside) = self.outside(place) {
            let (gang, index) = (self.gang(value), place.index.map(|index| self.gang(index)));
            let gang = match outside {
                Outside::Buffer(_) => self.canonical(gang, self.program.dtype(value)),
                Outside::Workgroup { .. } => gang,
            };
            let mask = self.mask();
            return self.builder().store_outside(outside, (place.offset, index), gang, mask);
        }
        let Some(id) = self.program.register(place) else { return };
        let gang = self.gang(value);
        let is_needed = self.divergence.is_needed_by_parked(id, &self.open);
        let mask = if is_needed { self.mask() } else { None };
        let Base::Variable(variable) = place.base else { return };
        if self.program.variable(variable).is_indexed {
            let memory = self.memory(variable.0);
            let index = place.index.map(|index| self.gang(index));
            return self.builder().store(memory, place.offset, index, gang, mask);
        }
        let register = self.register(id, self.program.dtype(value));
        let mut builder = self.builder();
        let gang = match mask {
            Some(mask) => {
                let before = builder.get(register);
                builder.select(mask, gang, before)
            }
            None => gang,
        };
        builder.set(register, gang);
    }

    fn load(&mut self, place: Place, dtype: DType) -> B::Gang {
        if let Some(outside) = self.outside(place) {
            let index = place.index.map(|index| self.gang(index));
            return self.builder().load_outside(outside, (place.offset, index), dtype);
        }
        let variable = match place.base {
            Base::Table(table) => {
                let index = place.index.expect("tables are indexed");
                let index = self.gang(index);
                return self.builder().lookup(table, place.offset, index);
            }
            Base::Variable(variable) => variable,
            Base::Buffer(_) | Base::Workgroup(_) => unreachable!("these are outside"),
        };
        if self.program.variable(variable).is_indexed {
            let memory = self.memory(variable.0);
            let index = place.index.map(|index| self.gang(index));
            return self.builder().load(memory, place.offset, index, dtype);
        }
        let id = self.program.register(place).expect("a word that is named has a number");
        let register = self.register(id, dtype);
        self.builder().get(register)
    }
}
