//! Where the lanes of a gang part: which values differ from lane to lane, which statements some lanes leave early, and
//! which words a parked lane still needs.
//!
//! A frame (an `If`, a loop, a `Once`, a call) is *divergent* if lanes may part in it; those that do not take the
//! current path are parked until its end. A store there must leave the words of parked lanes alone, but only if they
//! are read later: that is what liveness is for. A word is *uniform* if all lanes that look at it see one value: it takes
//! one scalar, and a branch on it is a branch.

mod liveness;

use naga::{BinaryOperator, MathFunction};

use super::flat::{Base, Block, FrameId, Op, Place, Program, RegisterId, Statement, ValueId};
use liveness::{Liveness, liveness};

/// Rounds after which everything is taken to diverge. Few kernels need more than three.
const ROUNDS_MAX: usize = 24;

/// What is known of a program.
pub(super) struct Divergence {
    values: Vec<bool>,
    registers: Vec<bool>,
    frames: Vec<Frame>,
    liveness: Liveness,
}

/// What is known of a frame.
#[derive(Clone, Copy, Default)]
pub(super) struct Frame {
    /// Whether lanes part.
    pub is_divergent: bool,
    /// Whether a `Break`, `Continue` or `Return` inside leads out of it (for a loop or call, out of it as a whole).
    pub escapes: bool,
    /// Whether, of a loop, a `Continue` leads to its end.
    pub continues: bool,
    /// Whether a `Return` inside leads out of it.
    pub returns: bool,
}

/// Where in a frame that is open a statement stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Accept,
    Reject,
    LoopBody,
    LoopContinuing,
    Once,
    Call,
}

/// A frame that is open.
pub(super) type Open = (FrameId, Part);

impl Divergence {
    /// Finds out, beginning with the operations that vary of themselves, and the frames in which lanes part for reasons
    /// that are not in the program. In a frame that is `in_step` lanes part as soon as they do around it.
    pub(super) fn new(
        program: &Program,
        varies: &dyn Fn(Op) -> bool,
        is_parted: &dyn Fn(FrameId) -> bool,
        in_step: &dyn Fn(FrameId) -> bool,
    ) -> Divergence {
        let frame = |frame| Frame { is_divergent: is_parted(FrameId(frame)), ..Frame::default() };
        let mut found = Divergence {
            values: program.values.iter().map(|value| varies(value.op)).collect(),
            registers: vec![false; program.registers as usize],
            frames: (0..program.frames).map(frame).collect(),
            liveness: liveness(program),
        };
        for round in 0.. {
            let mut walk = Walk { program, in_step, found: &mut found, open: Vec::new(), has_changed: false };
            walk.block(&program.body);
            if !walk.has_changed {
                break;
            }
            if round == ROUNDS_MAX {
                // What is read from outside is what it is.
                let is_input = |op: Op| matches!(op, Op::Leaf(_) | Op::At(_) | Op::Told(_) | Op::Length(_));
                for (value, varies) in program.values.iter().zip(&mut found.values) {
                    *varies |= !is_input(value.op);
                }
                found.registers.iter_mut().for_each(|varies| *varies = true);
                found.frames.iter_mut().for_each(|frame| frame.is_divergent = true);
                break;
            }
        }
        found
    }

    pub(super) fn value_varies(&self, value: ValueId) -> bool {
        self.values[value.0 as usize]
    }

    pub(super) fn register_varies(&self, register: RegisterId) -> bool {
        self.registers[register.0 as usize]
    }

    pub(super) fn frame(&self, frame: FrameId) -> Frame {
        self.frames[frame.0 as usize]
    }

    pub(super) fn has_divergence(&self) -> bool {
        self.frames.iter().any(|frame| frame.is_divergent)
    }

    /// Whether a lane that is parked in one of the open frames still reads `register`.
    pub(super) fn is_needed_by_parked(&self, register: RegisterId, open: &[Open]) -> bool {
        open.iter().any(|&(frame, part)| {
            let facts = self.frame(frame);
            // Only a `Continue` leaves lanes waiting for what is after a loop's body.
            let has_second_part = part == Part::Accept || part == Part::LoopBody && facts.continues;
            facts.is_divergent
                && (self.liveness.is_live_after(frame, register)
                    || has_second_part && self.liveness.is_live_at_second_part(frame, register))
        })
    }
}

/// One round over the program.
struct Walk<'a> {
    program: &'a Program,
    in_step: &'a dyn Fn(FrameId) -> bool,
    found: &'a mut Divergence,
    open: Vec<Open>,
    has_changed: bool,
}

impl Walk<'_> {
    fn block(&mut self, block: &Block) {
        for statement in block {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Evaluate(value) => {
                if !self.found.value_varies(*value) && self.varies(*value) {
                    self.found.values[value.0 as usize] = true;
                    self.has_changed = true;
                }
            }
            Statement::Store { place, value } => self.store(*place, *value),
            Statement::If { frame, condition, accept, reject } => {
                if self.found.value_varies(*condition) {
                    self.mark(*frame, |frame| &mut frame.is_divergent);
                }
                self.within(*frame, Part::Accept, accept);
                self.within(*frame, Part::Reject, reject);
            }
            Statement::Loop { frame, body, continuing, break_if } => {
                self.within(*frame, Part::LoopBody, body);
                self.within(*frame, Part::LoopContinuing, continuing);
                if break_if.is_some_and(|condition| self.found.value_varies(condition)) {
                    self.mark(*frame, |frame| &mut frame.is_divergent);
                }
            }
            Statement::Once { frame, body } => self.within(*frame, Part::Once, body),
            Statement::Call { frame, body, .. } => self.within(*frame, Part::Call, body),
            Statement::Break => {
                self.leave(|part| matches!(part, Part::LoopBody | Part::LoopContinuing | Part::Once));
            }
            Statement::Continue => {
                let target = self.leave(|part| part == Part::LoopBody);
                self.mark(target, |frame| &mut frame.continues);
            }
            Statement::Return => {
                let target = self.leave(|part| part == Part::Call);
                // Lanes that returned are parked: no loop on the way can go by one branch.
                let is_parted = self.found.frame(target).is_divergent;
                for at in (0..self.open.len()).rev().take_while(|&at| self.open[at].0 != target).collect::<Vec<_>>() {
                    let (frame, part) = self.open[at];
                    self.mark(frame, |frame| &mut frame.returns);
                    if is_parted && matches!(part, Part::LoopBody | Part::LoopContinuing) {
                        self.mark(frame, |frame| &mut frame.is_divergent);
                    }
                }
            }
            Statement::Barrier(_) | Statement::Cut => {}
        }
    }

    fn within(&mut self, frame: FrameId, part: Part, block: &Block) {
        let is_parted = || self.open.iter().any(|&(around, _)| self.found.frame(around).is_divergent);
        if (self.in_step)(frame) && is_parted() {
            self.mark(frame, |frame| &mut frame.is_divergent);
        }
        self.open.push((frame, part));
        self.block(block);
        self.open.pop();
    }

    /// Leaves for the innermost frame that `is_target`: it is divergent if a frame on the way is.
    fn leave(&mut self, is_target: impl Fn(Part) -> bool) -> FrameId {
        let at = self.open.iter().rposition(|&(_, part)| is_target(part)).expect("validated: there is one around");
        let target = self.open[at].0;
        for inner in at + 1..self.open.len() {
            let frame = self.open[inner].0;
            self.mark(frame, |frame| &mut frame.escapes);
            if self.found.frame(frame).is_divergent {
                self.mark(target, |frame| &mut frame.is_divergent);
            }
        }
        target
    }

    fn mark(&mut self, frame: FrameId, flag: impl Fn(&mut Frame) -> &mut bool) {
        let flag = flag(&mut self.found.frames[frame.0 as usize]);
        self.has_changed |= !*flag;
        *flag = true;
    }

    fn varies(&self, value: ValueId) -> bool {
        let value = self.program.value(value);
        if let Op::Load(place) = value.op {
            let of_place = self.program.register(place).is_some_and(|register| self.found.register_varies(register));
            return of_place || place.index.is_some_and(|index| self.found.value_varies(index));
        }
        value.operands.iter().any(|&operand| self.found.value_varies(operand))
    }

    fn store(&mut self, place: Place, value: ValueId) {
        let Some(register) = self.program.register(place) else { return };
        if self.found.register_varies(register) {
            return;
        }
        let varies = self.found.value_varies(value)
            || place.index.is_some_and(|index| self.found.value_varies(index))
            || self.found.is_needed_by_parked(register, &self.open);
        if varies {
            self.found.registers[register.0 as usize] = true;
            self.has_changed = true;
        }
    }
}

/// The most statements that are computed for lanes that do not need them, rather than branched round.
pub(super) const CHEAP_MAX: usize = 12;

/// Whether a statement is cheaper to compute for nobody than a branch round it.
pub(super) fn is_cheap(program: &Program, statement: &Statement) -> bool {
    let Statement::Evaluate(value) = statement else { return false };
    let value = program.value(*value);
    match value.op {
        Op::Constant(_) | Op::Leaf(_) | Op::At(_) | Op::Unary(_) | Op::Select | Op::Test(_) | Op::Bitcast => true,
        Op::Load(place) => place.index.is_none() && matches!(place.base, Base::Variable(_) | Base::Table(_)),
        Op::Told(_) | Op::Length(_) => true,
        Op::Binary(op) => match op {
            BinaryOperator::Divide => value.dtype.is_float(),
            BinaryOperator::Modulo | BinaryOperator::ShiftLeft | BinaryOperator::ShiftRight => false,
            _ => true,
        },
        Op::Math(function) => {
            use MathFunction::*;
            matches!(function, Abs | Min | Max | Clamp | Saturate | Floor | Ceil | Trunc | Round | Fract | Fma | Sign)
        }
        Op::Convert => true,
        Op::Call(_) | Op::Part(_) | Op::Atomic(..) => false,
    }
}
