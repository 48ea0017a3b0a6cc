//! A workgroup in step.
//!
//! Statements that hold no barrier, one after the other in a block, are a phase: the first invocation runs all of it,
//! then the next. A statement that holds a barrier is walked for all invocations together, each taking the way that its
//! own conditions choose.

use super::code::{Block, Case, Function, Place, Program, Statement};
use super::memory::{Outside, Pointer};
use super::run::{Flow, Machine, copy};
use super::stop::StopFlag;
use super::{BarrierMissed, BlockError};

/// Some of a group's invocations, in local index order.
type Invocations = Vec<usize>;

/// The invocations of one workgroup.
pub(super) struct Group<'a, 'b> {
    pub program: &'a Program,
    /// One per invocation.
    pub stacks: &'a mut [Vec<u64>],
    pub outside: &'a mut Outside<'b>,
    pub stop: &'a StopFlag,
    /// Per invocation, how it left the block in which it was last: what is around that block takes note of it.
    pub left: Vec<Flow>,
}

impl Group<'_, '_> {
    /// Runs a function whose arguments are at the start of each invocation's frame.
    pub(super) fn call(&mut self, function: &Function, base: usize, all: &[usize]) -> Result<(), BlockError> {
        self.check_stop()?;
        all.iter().for_each(|&invocation| function.enter(&mut self.stacks[invocation], base));
        self.block(function, base, &function.body, all.to_vec())?;
        self.took(all, Flow::Return);
        Ok(())
    }

    /// Those of `active` that come to the block's end.
    fn block(
        &mut self,
        function: &Function,
        base: usize,
        block: &[Statement],
        mut active: Invocations,
    ) -> Result<Invocations, BlockError> {
        let mut rest = block;
        while !rest.is_empty() && !active.is_empty() {
            let phase = rest.iter().position(Statement::holds_barrier).unwrap_or(rest.len());
            let (now, later) = rest.split_at(phase.max(1));
            active = match phase {
                0 => self.step(function, base, &now[0], active)?,
                _ => self.phase(function, base, now, active)?,
            };
            rest = later;
        }
        Ok(active)
    }

    /// Statements without barriers: one invocation after the other.
    fn phase(
        &mut self,
        function: &Function,
        base: usize,
        statements: &[Statement],
        active: Invocations,
    ) -> Result<Invocations, BlockError> {
        let mut finished = Vec::with_capacity(active.len());
        for invocation in active {
            let (program, stop) = (self.program, self.stop);
            let stack = &mut self.stacks[invocation];
            let mut machine = Machine { program, stack, outside: self.outside, stop };
            match machine.block(function, base, statements)? {
                Flow::Next => finished.push(invocation),
                flow => self.left[invocation] = flow,
            }
        }
        Ok(finished)
    }

    /// A statement that holds a barrier.
    fn step(
        &mut self,
        function: &Function,
        base: usize,
        statement: &Statement,
        active: Invocations,
    ) -> Result<Invocations, BlockError> {
        match statement {
            Statement::If { condition, accept, reject, .. } => {
                let (yes, no) = self.split(&active, *condition, base);
                let yes = self.block(function, base, accept, yes)?;
                let no = self.block(function, base, reject, no)?;
                Ok(joined(yes, no))
            }
            Statement::Switch { selector, cases, default, .. } => {
                self.switch(function, base, *selector, (cases, *default), active)
            }
            Statement::Loop { body, continuing, break_if, .. } => {
                self.repeat(function, base, (body, continuing, *break_if), active)
            }
            Statement::Call { function: callee, arguments, result, .. } => {
                let callee = &self.program.functions[*callee];
                let callee_base = base + function.frame_words;
                for &invocation in &active {
                    callee.pass(&mut self.stacks[invocation], base, callee_base, arguments);
                }
                self.call(callee, callee_base, &active)?;
                for &invocation in &active {
                    copy(&mut self.stacks[invocation], callee.result.range(callee_base), result.range(base));
                }
                Ok(active)
            }
            Statement::Barrier { name, offset } => self.gathered(name, *offset, active),
            Statement::UniformLoad { pointer, to, offset } => {
                let active = self.gathered("workgroupUniformLoad", *offset, active)?;
                for &invocation in &active {
                    let stack = &mut self.stacks[invocation];
                    let from = Pointer::of(stack[pointer.index(base)]);
                    for (word, to) in to.range(base).enumerate() {
                        stack[to] = self.outside.load(from.plus(word)).unwrap_or(0);
                    }
                }
                Ok(active)
            }
            Statement::Evaluate(_)
            | Statement::Break
            | Statement::Continue
            | Statement::Return { .. }
            | Statement::Store { .. }
            | Statement::Atomic { .. } => unreachable!("these hold no barrier"),
        }
    }

    /// A barrier: all of the group, or an error.
    fn gathered(&self, name: &'static str, offset: usize, active: Invocations) -> Result<Invocations, BlockError> {
        let (reached, invocations) = (active.len(), self.stacks.len());
        match reached == invocations {
            true => Ok(active),
            false => Err(BlockError::Barrier(BarrierMissed { name, offset, reached, invocations })),
        }
    }

    fn switch(
        &mut self,
        function: &Function,
        base: usize,
        selector: Place,
        (cases, default): (&[Case], usize),
        active: Invocations,
    ) -> Result<Invocations, BlockError> {
        let chosen = |stack: &[u64]| {
            let selector = stack[selector.index(base)];
            cases.iter().position(|case| case.value == Some(selector)).unwrap_or(default)
        };
        let chosen: Vec<usize> = active.iter().map(|&invocation| chosen(&self.stacks[invocation])).collect();
        let (mut after, mut falling) = (Vec::new(), Vec::new());
        for (at, case) in cases.iter().enumerate() {
            let own = active.iter().zip(&chosen).filter(|(_, chosen)| **chosen == at).map(|(own, _)| *own);
            let inside = joined(own.collect(), std::mem::take(&mut falling));
            let finished = self.block(function, base, &case.body, inside.clone())?;
            after = joined(after, self.took(&inside, Flow::Break));
            match case.falls_through {
                true => falling = finished,
                false => after = joined(after, finished),
            }
        }
        Ok(joined(after, falling))
    }

    fn repeat(
        &mut self,
        function: &Function,
        base: usize,
        (body, continuing, break_if): (&Block, &Block, Option<Place>),
        active: Invocations,
    ) -> Result<Invocations, BlockError> {
        let (mut inside, mut after) = (active, Vec::new());
        while !inside.is_empty() {
            let finished = self.block(function, base, body, inside.clone())?;
            after = joined(after, self.took(&inside, Flow::Break));
            let again = joined(finished, self.took(&inside, Flow::Continue));
            inside = self.block(function, base, continuing, again)?;
            if let Some(condition) = break_if {
                let (done, go_on) = self.split(&inside, condition, base);
                after = joined(after, done);
                inside = go_on;
            }
            self.check_stop()?;
        }
        Ok(after)
    }

    /// Those of `among` that left a block this way, which from now on is over.
    fn took(&mut self, among: &[usize], flow: Flow) -> Invocations {
        let took: Invocations = among.iter().copied().filter(|&invocation| self.left[invocation] == flow).collect();
        took.iter().for_each(|&invocation| self.left[invocation] = Flow::Next);
        took
    }

    /// Those for which the condition holds, and the others.
    fn split(&self, among: &[usize], condition: Place, base: usize) -> (Invocations, Invocations) {
        among.iter().partition(|&&invocation| self.stacks[invocation][condition.index(base)] != 0)
    }

    fn check_stop(&self) -> Result<(), BlockError> {
        if self.stop.is_raised() { Err(BlockError::Stopped) } else { Ok(()) }
    }
}

/// Both, in local index order.
fn joined(mut some: Invocations, others: Invocations) -> Invocations {
    some.extend(others);
    some.sort_unstable();
    some
}
