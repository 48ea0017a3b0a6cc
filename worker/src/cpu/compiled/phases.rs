//! What the invocations of a workgroup do together, and what lives longer than a phase.
//!
//! A *phase* is a run of statements of one block that all gangs go through, one gang after the other, before any goes
//! on. Between phases the workgroup moves *in step*: a frame is in step if it holds a barrier, or a way out of a frame
//! that is. This is how the interpreter walks a workgroup, but that its phases are not parted by ways out; what is
//! between two barriers is in one order for each invocation all the same.
//!
//! What one phase computes and another uses is kept in memory, per gang; but what follows cheaply from what an
//! invocation is told is computed again.

use naga::BinaryOperator;

use super::flat::{Block, FrameId, Op, Program, Statement, ValueId, Visited};

/// Operations that are computed again rather than kept.
const AGAIN_MAX: u32 = 8;

/// What is found out of a block kernel.
pub(super) struct Phases {
    in_step: Vec<bool>,
    kept: Vec<bool>,
}

impl Phases {
    pub(super) fn new(program: &Program) -> Phases {
        let mut steps = Steps { in_step: vec![false; program.frames as usize], open: Vec::new(), has_changed: true };
        while steps.has_changed {
            steps.has_changed = false;
            steps.block(&program.body);
        }
        let phases = Phases { in_step: steps.in_step, kept: vec![false; program.values.len()] };
        let places = vec![None; program.values.len()];
        let mut uses = Uses { program, phases, places, phase: 0 };
        uses.block(&program.body);
        uses.phases
    }

    /// Whether all invocations go through a frame together.
    pub(super) fn is_in_step(&self, frame: FrameId) -> bool {
        self.in_step[frame.0 as usize]
    }

    /// Whether a statement of a block that is in step is itself no part of a phase.
    pub(super) fn is_step(&self, statement: &Statement) -> bool {
        match statement {
            Statement::Evaluate(_) | Statement::Store { .. } => false,
            Statement::If { frame, .. }
            | Statement::Loop { frame, .. }
            | Statement::Once { frame, .. }
            | Statement::Call { frame, .. } => self.is_in_step(*frame),
            // They leave a frame that is around, and so in step.
            Statement::Break | Statement::Continue | Statement::Return => true,
            Statement::Barrier(_) | Statement::Cut => true,
        }
    }

    /// Whether a value is kept in memory from the phase that computes it.
    pub(super) fn is_kept(&self, value: ValueId) -> bool {
        self.kept[value.0 as usize]
    }
}

/// Whether a value follows from what an invocation is told, cheaply enough to compute it again.
pub(super) fn is_told(program: &Program, value: ValueId) -> bool {
    operations(program, value, AGAIN_MAX).is_some()
}

/// Operations from what is told to a value, if they are at most `max`.
fn operations(program: &Program, id: ValueId, max: u32) -> Option<u32> {
    let value = program.value(id);
    match value.op {
        Op::Constant(_) | Op::Told(_) | Op::Length(_) => return Some(0),
        Op::Unary(_) | Op::Select | Op::Convert | Op::Bitcast | Op::Test(_) => {}
        Op::Binary(BinaryOperator::Divide | BinaryOperator::Modulo) => return None,
        Op::Binary(_) => {}
        _ => return None,
    }
    let mut count = 1;
    for &operand in &value.operands {
        count += operations(program, operand, max.checked_sub(count)?)?;
    }
    (count <= max).then_some(count)
}

/// Finds the frames that are in step.
struct Steps {
    in_step: Vec<bool>,
    open: Vec<(FrameId, Target)>,
    has_changed: bool,
}

/// What a frame is left by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Nothing,
    Break,
    BreakOrContinue,
    Return,
}

impl Steps {
    fn block(&mut self, block: &Block) {
        for statement in block {
            match statement {
                Statement::Evaluate(_) | Statement::Store { .. } => {}
                Statement::If { frame, accept, reject, .. } => {
                    self.within(*frame, Target::Nothing, accept);
                    self.within(*frame, Target::Nothing, reject);
                }
                Statement::Loop { frame, body, continuing, .. } => {
                    self.within(*frame, Target::BreakOrContinue, body);
                    self.within(*frame, Target::BreakOrContinue, continuing);
                }
                Statement::Once { frame, body } => self.within(*frame, Target::Break, body),
                Statement::Call { frame, body, .. } => self.within(*frame, Target::Return, body),
                Statement::Break => self.leave(|target| matches!(target, Target::Break | Target::BreakOrContinue)),
                Statement::Continue => self.leave(|target| target == Target::BreakOrContinue),
                Statement::Return => self.leave(|target| target == Target::Return),
                Statement::Barrier(_) | Statement::Cut => self.mark_from(0),
            }
        }
    }

    fn within(&mut self, frame: FrameId, target: Target, block: &Block) {
        self.open.push((frame, target));
        self.block(block);
        self.open.pop();
    }

    /// A way out of a frame in step: all that is left on the way is in step as well.
    fn leave(&mut self, is_target: impl Fn(Target) -> bool) {
        let at = self.open.iter().rposition(|&(_, target)| is_target(target)).expect("validated: there is one around");
        if self.in_step[self.open[at].0.0 as usize] {
            self.mark_from(at);
        }
    }

    fn mark_from(&mut self, at: usize) {
        for &(frame, _) in &self.open[at..] {
            self.has_changed |= !self.in_step[frame.0 as usize];
            self.in_step[frame.0 as usize] = true;
        }
    }
}

/// Finds the values that one phase computes and another uses.
struct Uses<'a> {
    program: &'a Program,
    phases: Phases,
    /// The phase that computes each value.
    places: Vec<Option<u32>>,
    phase: u32,
}

impl Uses<'_> {
    /// A block in step.
    fn block(&mut self, block: &Block) {
        for statement in block {
            if !self.phases.is_step(statement) {
                let (mut uses, program) = (Vec::new(), self.program);
                program.visit(std::slice::from_ref(statement), &mut |visited| match visited {
                    Visited::Evaluate(value) => self.places[value.0 as usize] = Some(self.phase),
                    Visited::Use(value) => uses.push(value),
                    Visited::Read(_) | Visited::Write(_) => {}
                });
                uses.into_iter().for_each(|value| self.used(value));
                continue;
            }
            self.phase += 1;
            match statement {
                Statement::If { condition, accept, reject, .. } => {
                    self.asked(*condition);
                    self.block(accept);
                    self.phase += 1;
                    self.block(reject);
                }
                Statement::Loop { body, continuing, break_if, .. } => {
                    self.block(body);
                    self.phase += 1;
                    self.block(continuing);
                    break_if.iter().for_each(|&condition| self.asked(condition));
                }
                Statement::Once { body, .. } | Statement::Call { body, .. } => self.block(body),
                Statement::Evaluate(_)
                | Statement::Store { .. }
                | Statement::Break
                | Statement::Continue
                | Statement::Return
                | Statement::Barrier(_)
                | Statement::Cut => {}
            }
            self.phase += 1;
        }
    }

    fn used(&mut self, value: ValueId) {
        let computed = self.places[value.0 as usize];
        if computed.is_some_and(|phase| phase != self.phase) && !is_told(self.program, value) {
            self.phases.kept[value.0 as usize] = true;
        }
    }

    /// What the workgroup itself looks at.
    fn asked(&mut self, condition: ValueId) {
        if self.places[condition.0 as usize].is_some() {
            self.phases.kept[condition.0 as usize] = true;
        }
    }
}
