//! The one SPMD lowering: from a flat [`Program`] to a [`Builder`]'s operations, all lanes of a gang at once.
//!
//! Lanes that do not take the current path are *parked*: while any frame around is divergent, the register `active`
//! holds the mask of those that do. A `Break`, `Continue` or `Return` in a divergent frame only clears it, and remembers
//! where they go on; where nothing diverges it is a jump, and no mask exists.

mod operation;

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;

use super::builder::{Binary, Builder, Memory, Unary};
use super::divergence::{CHEAP_MAX, Divergence, Open, Part, is_cheap};
use super::flat::{Base, Block, FrameId, Op, Place, Program, RegisterId, Statement, ValueId};
use crate::dtype::DType;

/// Emits a program once, for one gang; gives its results, and the bytes of scratch memory that it takes.
pub(super) fn lower<B: Builder>(
    program: &Program,
    divergence: &Divergence,
    builder: &RefCell<B>,
) -> (Vec<B::Gang>, u64) {
    let active = builder.borrow_mut().register(DType::Bool, true);
    let mut lowering = Lowering {
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
    };
    lowering.inputs();
    let ends = lowering.block(&program.body);
    assert!(!ends, "the entry's call ends where its returns lead");
    let results = program.results.iter().map(|&result| {
        let dtype = program.dtype(result);
        let gang = lowering.gang(result);
        if dtype.is_float() { lowering.canonical(gang, dtype) } else { gang }
    });
    (results.collect(), lowering.memory_max)
}

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
}

/// Where lanes go that leave a frame.
struct Ways<B: Builder> {
    /// Of a divergent frame, those that wait for its end.
    parked: Option<B::Register>,
    /// Of a divergent loop, those that wait for its continuing part.
    continued: Option<B::Register>,
    /// Of a frame that does not diverge, its end.
    end: Option<B::Block>,
    /// And of a loop, its continuing part.
    continuing: Option<B::Block>,
    /// Whether anything jumps to the end, or to the continuing part.
    is_left: bool,
    is_continued: bool,
}

impl<B: Builder> Ways<B> {
    fn none() -> Ways<B> {
        Ways { parked: None, continued: None, end: None, continuing: None, is_left: false, is_continued: false }
    }
}

impl<'a, B: Builder> Lowering<'a, B> {
    fn builder(&self) -> RefMut<'a, B> {
        self.builder.borrow_mut()
    }

    /// What is there before the first statement.
    fn inputs(&mut self) {
        let mut is_used = vec![false; self.program.values.len()];
        let operands = self.program.values.iter().flat_map(|value| value.operands.iter());
        operands.chain(&self.program.results).for_each(|operand| is_used[operand.0 as usize] = true);
        let mut pending = vec![&self.program.body];
        while let Some(block) = pending.pop() {
            for statement in block {
                match statement {
                    Statement::Store { place, value } => {
                        is_used[value.0 as usize] = true;
                        place.index.iter().for_each(|index| is_used[index.0 as usize] = true);
                    }
                    Statement::Evaluate(value) => {
                        if let Op::Load(Place { index: Some(index), .. }) = self.program.value(*value).op {
                            is_used[index.0 as usize] = true;
                        }
                    }
                    Statement::If { condition, accept, reject, .. } => {
                        is_used[condition.0 as usize] = true;
                        pending.extend([accept, reject]);
                    }
                    Statement::Loop { body, continuing, break_if, .. } => {
                        break_if.iter().for_each(|condition| is_used[condition.0 as usize] = true);
                        pending.extend([body, continuing]);
                    }
                    Statement::Once { body, .. } | Statement::Call { body, .. } => pending.push(body),
                    Statement::Break | Statement::Continue | Statement::Return => {}
                }
            }
        }
        for (at, value) in self.program.values.iter().enumerate().filter(|&(at, _)| is_used[at]) {
            let varies = self.divergence.value_varies(ValueId(at as u32));
            self.values[at] = match value.op {
                Op::Leaf(leaf) => Some(self.builder().leaf(leaf, value.dtype, varies)),
                Op::At(word) => Some(self.builder().at(word, varies)),
                _ => None,
            };
        }
    }

    fn gang(&self, value: ValueId) -> B::Gang {
        if let Op::Constant(word) = self.program.value(value).op {
            return self.builder().constant(self.program.dtype(value), word);
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
        self.builder().constant(DType::Bool, 1)
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
    fn block(&mut self, block: &Block) -> bool {
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
        }
    }

    fn uniform_if(&mut self, frame: FrameId, condition: ValueId, accept: &Block, reject: &Block) -> bool {
        let condition = self.gang(condition);
        let (otherwise, end) = {
            let mut builder = self.builder();
            let (then, otherwise, end) = (builder.block(), builder.block(), builder.block());
            builder.branch(condition, then, otherwise);
            builder.enter(then);
            (otherwise, end)
        };
        let accept_ends = self.within(frame, Part::Accept, accept);
        if !accept_ends {
            self.builder().jump(end);
        }
        self.builder().enter(otherwise);
        let reject_ends = self.within(frame, Part::Reject, reject);
        if !reject_ends {
            self.builder().jump(end);
        }
        let ends = accept_ends && reject_ends;
        if !ends {
            self.builder().enter(end);
        }
        ends
    }

    fn divergent_if(&mut self, frame: FrameId, condition: ValueId, accept: &Block, reject: &Block) -> bool {
        let outer = self.mask();
        let condition = self.gang(condition);
        let (accepting, rejecting) = {
            let mut builder = self.builder();
            let not = builder.unary(Unary::Not, condition);
            match outer {
                Some(outer) => (builder.binary(Binary::And, outer, condition), builder.binary(Binary::And, outer, not)),
                None => (condition, not),
            }
        };
        let escapes = self.divergence.frame(frame).escapes;
        let accepted = self.arm(frame, Part::Accept, accept, accepting, escapes);
        let rejected = self.arm(frame, Part::Reject, reject, rejecting, escapes);
        let mut builder = self.builder();
        if escapes {
            let left = builder.binary(Binary::Or, accepted, rejected);
            builder.set(self.active, left);
        } else if let Some(outer) = outer {
            builder.set(self.active, outer);
        }
        false
    }

    /// One arm of a divergent `If`, for the lanes of `mask`; gives those that reach its end, if some may not.
    fn arm(&mut self, frame: FrameId, part: Part, block: &Block, mask: B::Gang, escapes: bool) -> B::Gang {
        if block.is_empty() {
            return mask;
        }
        if self.is_straight(block) {
            self.builder().set(self.active, mask);
            self.within(frame, part, block);
            return match block.last() {
                Some(Statement::Break | Statement::Continue | Statement::Return) => self.no_lanes(),
                _ => mask,
            };
        }
        let left = escapes.then(|| self.new_mask(mask));
        let end = {
            let mut builder = self.builder();
            let (begin, end) = (builder.block(), builder.block());
            let any = builder.any(mask);
            builder.branch(any, begin, end);
            builder.enter(begin);
            builder.set(self.active, mask);
            end
        };
        self.within(frame, part, block);
        let mut builder = self.builder();
        if let Some(left) = left {
            let active = builder.get(self.active);
            builder.set(left, active);
        }
        builder.jump(end);
        builder.enter(end);
        left.map_or(mask, |left| builder.get(left))
    }

    /// Whether computing a block for nobody is cheaper than a branch round it.
    fn is_straight(&self, block: &Block) -> bool {
        let is_cheap = |statement: &Statement| match statement {
            Statement::Store { place, .. } => place.index.is_none(),
            Statement::Break | Statement::Continue | Statement::Return => true,
            _ => is_cheap(self.program, statement),
        };
        block.len() <= CHEAP_MAX && block.iter().all(is_cheap)
    }

    fn divergent_loop(&mut self, frame: FrameId, body: &Block, continuing: &Block, break_if: Option<ValueId>) -> bool {
        let facts = self.divergence.frame(frame);
        let outer = self.mask();
        let entering = outer.unwrap_or_else(|| self.all_lanes());
        let continued = facts.continues.then(|| self.new_mask(self.no_lanes()));
        self.frames.push(Ways { continued, ..Ways::none() });
        let (head, end) = {
            let mut builder = self.builder();
            builder.set(self.active, entering);
            let (head, end) = (builder.block(), builder.block());
            builder.jump(head);
            builder.enter_loop(head);
            (head, end)
        };
        if let Some(continued) = continued {
            let none = self.no_lanes();
            self.builder().set(continued, none);
        }
        self.within(frame, Part::LoopBody, body);
        if let Some(continued) = continued {
            self.rejoin(continued);
        }
        self.within(frame, Part::LoopContinuing, continuing);
        if let Some(condition) = break_if {
            let condition = self.gang(condition);
            let mut builder = self.builder();
            let (active, goes_on) = (builder.get(self.active), builder.unary(Unary::Not, condition));
            let active = builder.binary(Binary::And, active, goes_on);
            builder.set(self.active, active);
        }
        {
            let mut builder = self.builder();
            builder.poll();
            let active = builder.get(self.active);
            let any = builder.any(active);
            builder.branch(any, head, end);
            builder.seal(head);
            builder.enter(end);
        }
        self.frames.pop();
        if let Some(outer) = outer {
            let left = match self.returned().filter(|_| facts.returns) {
                Some(returned) => {
                    let mut builder = self.builder();
                    let returned = builder.get(returned);
                    let stayed = builder.unary(Unary::Not, returned);
                    builder.binary(Binary::And, outer, stayed)
                }
                None => outer,
            };
            self.builder().set(self.active, left);
        }
        false
    }

    /// The lanes that returned from the innermost call, if lanes part in it.
    fn returned(&self) -> Option<B::Register> {
        let call = self.open.iter().rposition(|&(_, part)| part == Part::Call)?;
        self.frames[self.depth_of(call)].parked
    }

    /// The entry of `frames` for what is open at `at`: `If`s have none.
    fn depth_of(&self, at: usize) -> usize {
        self.open[..at].iter().filter(|(_, part)| !matches!(part, Part::Accept | Part::Reject)).count()
    }

    /// Lanes that waited in `register` are active again.
    fn rejoin(&self, register: B::Register) {
        let mut builder = self.builder();
        let (active, waiting) = (builder.get(self.active), builder.get(register));
        let active = builder.binary(Binary::Or, active, waiting);
        builder.set(self.active, active);
    }

    fn uniform_loop(&mut self, frame: FrameId, body: &Block, continuing: &Block, break_if: Option<ValueId>) -> bool {
        let (head, next, end) = {
            let mut builder = self.builder();
            (builder.block(), builder.block(), builder.block())
        };
        // With no lane active, what decides when to stop may never come about.
        let guard = self.mask();
        {
            let mut builder = self.builder();
            match guard {
                Some(active) => {
                    let any = builder.any(active);
                    builder.branch(any, head, end);
                }
                None => builder.jump(head),
            }
            builder.enter_loop(head);
        }
        self.frames.push(Ways { end: Some(end), continuing: Some(next), ..Ways::none() });
        let ends = self.within(frame, Part::LoopBody, body);
        if !ends {
            self.builder().jump(next);
        }
        let is_continued = self.frames.last().is_some_and(|ways| ways.is_continued);
        if !ends || is_continued {
            self.builder().enter(next);
            let ends = self.within(frame, Part::LoopContinuing, continuing);
            assert!(!ends, "validated: nothing leaves the continuing part");
            let condition = break_if.map(|condition| self.gang(condition));
            let mut builder = self.builder();
            builder.poll();
            match condition {
                Some(condition) => builder.branch(condition, end, head),
                None => builder.jump(head),
            }
        }
        self.builder().seal(head);
        let ways = self.frames.pop().expect("pushed above");
        let ends = !(ways.is_left || guard.is_some() || break_if.is_some());
        if !ends {
            self.builder().enter(end);
        }
        ends
    }

    /// A block that runs once and can be left.
    fn once(&mut self, frame: FrameId, part: Part, body: &Block) -> bool {
        if !self.divergence.frame(frame).is_divergent {
            let end = self.builder().block();
            self.frames.push(Ways { end: Some(end), ..Ways::none() });
            let ends = self.within(frame, part, body);
            let ways = self.frames.pop().expect("pushed above");
            if !ends && ways.is_left {
                self.builder().jump(end);
            }
            if ways.is_left {
                self.builder().enter(end);
            }
            return ends && !ways.is_left;
        }
        let outer = self.mask();
        let parked = self.new_mask(self.no_lanes());
        if outer.is_none() {
            let all = self.all_lanes();
            self.builder().set(self.active, all);
        }
        self.frames.push(Ways { parked: Some(parked), ..Ways::none() });
        self.within(frame, part, body);
        self.frames.pop();
        match (part, outer) {
            // Whoever entered a call comes back from it.
            (Part::Call, Some(outer)) => self.builder().set(self.active, outer),
            (Part::Call, None) => {}
            _ => self.rejoin(parked),
        }
        false
    }

    /// `Break` and `Return`.
    fn leave(&mut self, is_target: impl Fn(Part) -> bool) -> bool {
        let at = self.open.iter().rposition(|&(_, part)| is_target(part)).expect("validated: there is one around");
        let depth = self.depth_of(at);
        if let Some(end) = self.frames[depth].end {
            self.frames[depth].is_left = true;
            self.builder().jump(end);
            return true;
        }
        let parked = self.frames[depth].parked;
        self.park(parked);
        false
    }

    fn continues(&mut self) -> bool {
        let at = self.open.iter().rposition(|&(_, part)| part == Part::LoopBody);
        let depth = self.depth_of(at.expect("validated: there is a loop around"));
        if let Some(continuing) = self.frames[depth].continuing {
            self.frames[depth].is_continued = true;
            self.builder().jump(continuing);
            return true;
        }
        let continued = self.frames[depth].continued;
        self.park(continued);
        false
    }

    /// No lane is active any more; those that were wait in `register`, if they need to be told apart.
    fn park(&self, register: Option<B::Register>) {
        let none = self.no_lanes();
        let mut builder = self.builder();
        if let Some(register) = register {
            let (active, waiting) = (builder.get(self.active), builder.get(register));
            let waiting = builder.binary(Binary::Or, waiting, active);
            builder.set(register, waiting);
        }
        builder.set(self.active, none);
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
        let lanes = if varies { self.builder().lanes() as u64 } else { 1 };
        self.memory_end = (memory.at + u64::from(memory.words) * width * lanes).next_multiple_of(64);
        self.memory_max = self.memory_max.max(self.memory_end);
        self.memory[variable as usize] = Some(memory);
        memory
    }

    fn store(&mut self, place: Place, value: ValueId) {
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
        let variable = match place.base {
            Base::Table(table) => {
                let index = place.index.expect("tables are indexed");
                let index = self.gang(index);
                return self.builder().lookup(table, place.offset, index);
            }
            Base::Variable(variable) => variable,
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
