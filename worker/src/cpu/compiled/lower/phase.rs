//! Phases of a block kernel: gang after gang goes through the same statements, and what lives longer is kept in memory.

use super::super::builder::{Builder, Memory};
use super::super::flat::{Base, Op, Place, Program, RegisterId, Statement, ValueId, Visited};
use super::super::phases::{Phases, is_told};
use super::Lowering;
use crate::dtype::DType;

/// What is kept of each gang between its phases.
pub(super) struct Kept<'a> {
    pub phases: &'a Phases,
    /// Whether code is emitted for one gang.
    is_in_phase: bool,
    /// The mask of those that have not left the statements in step, if some may have.
    pub active: Option<Memory>,
    values: Vec<Option<Memory>>,
    registers: Vec<Option<Memory>>,
    /// See [`super::LoweredBlock::reached`].
    pub reached: Vec<Option<u64>>,
}

/// What the statements of a phase need of others, and leave to them.
#[derive(Default)]
struct Needs {
    /// Values that they use and do not compute.
    taken: Vec<ValueId>,
    /// Values that they compute and others use.
    left: Vec<ValueId>,
    /// Words of variables that live longer, and what they are.
    registers: Vec<(RegisterId, DType)>,
    /// Those that are set.
    set: Vec<(RegisterId, DType)>,
}

impl<'a> Kept<'a> {
    pub(super) fn new(program: &Program, phases: &'a Phases) -> Kept<'a> {
        Kept {
            phases,
            is_in_phase: false,
            active: None,
            values: vec![None; program.values.len()],
            registers: vec![None; program.registers as usize],
            reached: vec![None; program.barriers.len()],
        }
    }
}

impl<'a, B: Builder> Lowering<'a, B> {
    /// Whether code is emitted for the workgroup as a whole.
    pub(super) fn is_between_phases(&self) -> bool {
        self.in_step.as_ref().is_some_and(|kept| !kept.is_in_phase)
    }

    pub(super) fn kept(&mut self) -> &mut Kept<'a> {
        self.in_step.as_mut().expect("only block kernels have phases")
    }

    /// Emits code for each gang.
    pub(super) fn each_gang(&mut self, emit: impl FnOnce(&mut Self)) {
        let gangs = self.builder().begin_gangs();
        self.kept().is_in_phase = true;
        emit(self);
        self.kept().is_in_phase = false;
        self.builder().end_gangs(gangs);
    }

    /// Statements that are no step, for each gang with a lane that is there.
    pub(super) fn phase(&mut self, statements: &[Statement]) {
        let needs = self.needs(statements);
        self.each_gang(|it| {
            let end = it.kept().active.map(|active| it.enter_if_any(active));
            for &value in &needs.taken {
                it.values[value.0 as usize] = Some(it.fetched(value));
            }
            for &(id, dtype) in &needs.registers {
                let (register, memory) = (it.register(id, dtype), it.memory_of_register(id, dtype));
                let gang = it.builder().load(memory, 0, None, dtype);
                it.builder().set(register, gang);
            }
            if it.block(statements) {
                // No lane ever comes here.
                let unreachable = it.builder().block();
                it.builder().enter(unreachable);
            } else {
                it.keep(&needs);
            }
            if let Some(end) = end {
                it.builder().jump(end);
                it.builder().enter(end);
            }
        });
    }

    /// Keeps what a phase leaves to others.
    fn keep(&mut self, needs: &Needs) {
        for &value in &needs.left {
            let (memory, gang) = (self.memory_of_value(value), self.gang(value));
            self.builder().store(memory, 0, None, gang, None);
        }
        for &(id, dtype) in &needs.set {
            let (register, memory) = (self.register(id, dtype), self.memory_of_register(id, dtype));
            let gang = self.builder().get(register);
            self.builder().store(memory, 0, None, gang, None);
        }
    }

    /// Makes the lanes of a kept mask active, if there are any; else goes to the block that is given.
    fn enter_if_any(&mut self, active: Memory) -> B::Block {
        let mut builder = self.builder();
        let mask = builder.load(active, 0, None, DType::Bool);
        let (begin, end, any) = (builder.block(), builder.block(), builder.any(mask));
        builder.branch(any, begin, end);
        builder.enter(begin);
        builder.set(self.active, mask);
        end
    }

    /// First values of the variables of a call in step, which from now on are kept.
    pub(super) fn initialise_in_step(&mut self, variables: std::ops::Range<u32>) {
        let mut words = Vec::new();
        for variable in &self.program.variables[variables.start as usize..variables.end as usize] {
            let named = variable.words.iter().zip(&variable.dtypes).filter(|_| !variable.is_indexed);
            words.extend(named.filter_map(|(&word, &dtype)| word.map(|word| (word, dtype))));
        }
        if variables.is_empty() {
            return;
        }
        for &(id, dtype) in &words {
            let memory = self.memory_of_register(id, dtype);
            self.kept().registers[id.0 as usize] = Some(memory);
        }
        let active = self.kept().active;
        self.each_gang(|it| {
            let end = active.map(|active| it.enter_if_any(active));
            it.initialise(variables);
            for (id, dtype) in words {
                let (register, memory) = (it.register(id, dtype), it.memory_of_register(id, dtype));
                let (gang, mask) = (it.builder().get(register), it.kept().active.map(|_| it.active));
                let mask = mask.map(|active| it.builder().get(active));
                it.builder().store(memory, 0, None, gang, mask);
            }
            if let Some(end) = end {
                it.builder().jump(end);
                it.builder().enter(end);
            }
        });
    }

    /// A value that another phase computed, for the gang that is at work.
    pub(super) fn fetched(&mut self, value: ValueId) -> B::Gang {
        if !is_told(self.program, value) {
            let (memory, dtype) = (self.memory_of_value(value), self.program.dtype(value));
            return self.builder().load(memory, 0, None, dtype);
        }
        for &operand in &self.program.value(value).operands {
            if !matches!(self.program.value(operand).op, Op::Constant(_)) {
                self.values[operand.0 as usize] = Some(self.fetched(operand));
            }
        }
        self.evaluate(value)
    }

    /// What the first gang kept of a value that is uniform.
    pub(super) fn of_first_gang(&self, value: ValueId) -> B::Gang {
        let kept = self.in_step.as_ref().expect("asked only between phases");
        let memory = kept.values[value.0 as usize].expect("the workgroup looks at what a phase computed");
        let mut builder = self.builder();
        builder.first_gang();
        builder.load(memory, 0, None, self.program.dtype(value))
    }

    /// A place for a mask, or for another word of each gang.
    pub(super) fn place(&mut self, dtype: DType, varies: bool) -> Memory {
        let width = if dtype == DType::Bool { 4 } else { dtype.bytes() };
        self.reserve(Memory { at: self.memory_end, words: 1, width, varies })
    }

    fn memory_of_value(&mut self, value: ValueId) -> Memory {
        if let Some(memory) = self.kept().values[value.0 as usize] {
            return memory;
        }
        let memory = self.place(self.program.dtype(value), self.divergence.value_varies(value));
        self.kept().values[value.0 as usize] = Some(memory);
        memory
    }

    fn memory_of_register(&mut self, id: RegisterId, dtype: DType) -> Memory {
        if let Some(memory) = self.kept().registers[id.0 as usize] {
            return memory;
        }
        let memory = self.place(dtype, self.divergence.register_varies(id));
        self.kept().registers[id.0 as usize] = Some(memory);
        memory
    }

    fn needs(&mut self, statements: &[Statement]) -> Needs {
        let mut needs = Needs::default();
        let (mut computed, mut used) = (Vec::new(), Vec::new());
        let (program, kept) = (self.program, self.in_step.as_ref().expect("only block kernels have phases"));
        let word = |place: Place| match place.base {
            Base::Variable(variable) if !program.variable(variable).is_indexed => {
                let id = program.register(place).filter(|id| kept.registers[id.0 as usize].is_some())?;
                Some((id, program.variable(variable).dtypes[place.offset as usize]))
            }
            _ => None,
        };
        program.visit(statements, &mut |visited| match visited {
            Visited::Evaluate(value) => computed.push(value),
            Visited::Use(value) => used.push(value),
            Visited::Read(place) => needs.registers.extend(word(place)),
            Visited::Write(place) => {
                needs.registers.extend(word(place));
                needs.set.extend(word(place));
            }
        });
        for values in [&mut computed, &mut used] {
            values.sort();
            values.dedup();
        }
        for words in [&mut needs.registers, &mut needs.set] {
            words.sort_by_key(|(id, _)| id.0);
            words.dedup();
        }
        let is_constant = |value: ValueId| matches!(program.value(value).op, Op::Constant(_));
        used.retain(|&value| !is_constant(value) && computed.binary_search(&value).is_err());
        computed.retain(|&value| kept.phases.is_kept(value));
        // Their places are theirs from here on: none within an inlined call is.
        for &value in &computed {
            self.memory_of_value(value);
        }
        Needs { taken: used, left: computed, ..needs }
    }
}
