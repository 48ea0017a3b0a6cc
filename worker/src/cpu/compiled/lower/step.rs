//! A workgroup in step: control flow that holds barriers, for all gangs together.
//!
//! Where it is uniform, it is the code that [`super::control`] emits, on what the first gang has found out. Where lanes
//! part, the masks of all gangs are kept in memory, each step is taken as long as any lane takes it, and a barrier that
//! not all lanes reach ends the kernel. This mirrors the interpreter's walk of a workgroup.

use super::super::builder::{Binary, Builder, Memory, Unary};
use super::super::divergence::Part;
use super::super::flat::{Block, FrameId, Statement, ValueId};
use super::Lowering;
use super::control::{Way, Ways, Which};
use crate::dtype::DType;

impl<B: Builder> Lowering<'_, B> {
    /// Emits a block whose frame is in step; says whether nothing comes after it.
    pub(super) fn block_in_step(&mut self, block: &[Statement]) -> bool {
        let mut rest = block;
        let mut end = None;
        while let Some(first) = rest.first() {
            let phases = self.kept().phases;
            let count = rest.iter().position(|statement| phases.is_step(statement)).unwrap_or(rest.len());
            if count > 0 {
                self.phase(&rest[..count]);
                rest = &rest[count..];
                continue;
            }
            let ends = self.step(first);
            rest = &rest[1..];
            if ends {
                return self.join(end).is_none();
            }
            if self.may_leave(first) && !rest.is_empty() {
                let end = *end.get_or_insert_with(|| self.builder().block());
                self.go_on_if_any(end);
            }
        }
        if let Some(end) = end {
            self.builder().jump(end);
        }
        self.join(end);
        false
    }

    fn join(&mut self, end: Option<B::Block>) -> Option<B::Block> {
        let end = end?;
        self.builder().enter(end);
        Some(end)
    }

    /// Whether no lane may be active after a statement that did not end the code.
    fn may_leave(&self, statement: &Statement) -> bool {
        match statement {
            Statement::If { frame, .. }
            | Statement::Loop { frame, .. }
            | Statement::Once { frame, .. }
            | Statement::Call { frame, .. } => {
                let facts = self.divergence.frame(*frame);
                facts.is_divergent && (facts.escapes || facts.returns)
            }
            _ => false,
        }
    }

    /// Goes on if any lane of the workgroup is active, else to `end`.
    fn go_on_if_any(&mut self, end: B::Block) {
        let Some(active) = self.kept().active else { return };
        let any = self.any_of(active);
        let mut builder = self.builder();
        let goes_on = builder.block();
        builder.branch(any, goes_on, end);
        builder.enter(goes_on);
    }

    fn step(&mut self, statement: &Statement) -> bool {
        match statement {
            Statement::If { frame, condition, accept, reject } => match self.divergence.frame(*frame).is_divergent {
                true => self.parted_if(*frame, *condition, accept, reject),
                false => self.uniform_if(*frame, *condition, accept, reject),
            },
            Statement::Loop { frame, body, continuing, break_if } => match self.divergence.frame(*frame).is_divergent {
                true => self.parted_loop(*frame, body, continuing, *break_if),
                false => self.uniform_loop(*frame, body, continuing, *break_if),
            },
            Statement::Once { frame, body } => self.once_in_step(*frame, Part::Once, body),
            Statement::Call { frame, locals, body } => {
                self.initialise_in_step(locals.clone());
                self.once_in_step(*frame, Part::Call, body)
            }
            Statement::Break => {
                self.leave_in_step(|part| matches!(part, Part::LoopBody | Part::LoopContinuing | Part::Once))
            }
            Statement::Continue => self.go_in_step(|part| part == Part::LoopBody, |ways| &mut ways.continuing),
            Statement::Return => self.leave_in_step(|part| part == Part::Call),
            Statement::Barrier(barrier) => {
                self.barrier(*barrier);
                false
            }
            Statement::Cut => false,
            Statement::Evaluate(_) | Statement::Store { .. } => unreachable!("part of a phase"),
        }
    }

    /// A barrier, which whoever has not left must be all of the workgroup.
    fn barrier(&mut self, barrier: u32) {
        let Some(active) = self.kept().active else { return };
        self.kept().reached[barrier as usize] = Some(active.at);
        let is_missed = self.any_gang(|it| {
            let mut builder = it.builder();
            let (valid, active) = (builder.valid(), builder.load(active, 0, None, DType::Bool));
            let away = builder.unary(Unary::Not, active);
            builder.binary(Binary::And, valid, away)
        });
        self.builder().miss(is_missed, barrier);
    }

    fn parted_if(&mut self, frame: FrameId, condition: ValueId, accept: &Block, reject: &Block) -> bool {
        let outer = self.kept().active;
        let arms = [(Part::Accept, accept), (Part::Reject, reject)];
        let masks = arms.map(|_| self.place(DType::Bool, true));
        let any = arms.map(|_| self.new_flag());
        self.each_gang(|it| {
            let (outer, condition) = (it.lanes_of(outer), it.fetched_or_constant(condition));
            let not = it.builder().unary(Unary::Not, condition);
            for ((mask, any), condition) in masks.into_iter().zip(any).zip([condition, not]) {
                let lanes = it.builder().binary(Binary::And, outer, condition);
                it.builder().store(mask, 0, None, lanes, None);
                it.raise(any, lanes);
            }
        });
        for (((part, block), mask), any) in arms.into_iter().zip(masks).zip(any) {
            if block.is_empty() {
                continue;
            }
            let end = self.enter_if(any);
            self.kept().active = Some(mask);
            self.within(frame, part, block);
            self.builder().jump(end);
            self.builder().enter(end);
        }
        self.kept().active = outer;
        if let (Some(outer), true) = (outer, self.divergence.frame(frame).escapes) {
            self.each_gang(|it| it.join_masks(outer, masks));
        }
        false
    }

    fn parted_loop(&mut self, frame: FrameId, body: &Block, continuing: &Block, break_if: Option<ValueId>) -> bool {
        let facts = self.divergence.frame(frame);
        let outer = self.kept().active;
        let inside = self.place(DType::Bool, true);
        let continued = facts.continues.then(|| self.place(DType::Bool, true));
        self.each_gang(|it| {
            let lanes = it.lanes_of(outer);
            it.builder().store(inside, 0, None, lanes, None);
            continued.into_iter().for_each(|continued| it.clear_mask(continued));
        });
        self.kept().active = Some(inside);
        self.frames.push(Ways { end: Way::WaitInStep(None), continuing: Way::WaitInStep(continued) });
        let (head, end) = {
            let mut builder = self.builder();
            let (head, end) = (builder.block(), builder.block());
            builder.jump(head);
            builder.enter_loop(head);
            (head, end)
        };
        self.within(frame, Part::LoopBody, body);
        if let Some(continued) = continued {
            self.each_gang(|it| {
                it.join_masks(inside, [inside, continued]);
                it.clear_mask(continued);
            });
        }
        self.kept().active = Some(inside);
        if !continuing.is_empty() {
            let any = self.any_of(inside);
            let next = self.enter_if_set(any);
            self.within(frame, Part::LoopContinuing, continuing);
            self.builder().jump(next);
            self.builder().enter(next);
        }
        if let Some(condition) = break_if {
            self.each_gang(|it| {
                let condition = it.fetched_or_constant(condition);
                let goes_on = it.builder().unary(Unary::Not, condition);
                it.narrow(inside, goes_on);
            });
        }
        let any = self.any_of(inside);
        {
            let mut builder = self.builder();
            builder.poll();
            builder.branch(any, head, end);
            builder.seal(head);
            builder.enter(end);
        }
        self.frames.pop();
        self.kept().active = outer;
        if let (Some(outer), Some(returned), true) = (outer, self.returned_in(), facts.returns) {
            self.each_gang(|it| {
                let returned = it.builder().load(returned, 0, None, DType::Bool);
                let stayed = it.builder().unary(Unary::Not, returned);
                it.narrow(outer, stayed);
            });
        }
        false
    }

    fn once_in_step(&mut self, frame: FrameId, part: Part, body: &Block) -> bool {
        let facts = self.divergence.frame(frame);
        if !facts.is_divergent {
            return self.once(frame, part, body);
        }
        let outer = self.kept().active;
        let (inside, parked) = (self.place(DType::Bool, true), self.place(DType::Bool, true));
        self.each_gang(|it| {
            let lanes = it.lanes_of(outer);
            it.builder().store(inside, 0, None, lanes, None);
            it.clear_mask(parked);
        });
        self.kept().active = Some(inside);
        self.frames.push(Ways::out(Way::WaitInStep(Some(parked))));
        self.within(frame, part, body);
        self.frames.pop();
        // Whoever entered a call comes back from it; whoever is not out of a `Once` altogether goes on after it.
        self.kept().active = outer;
        if let (Some(outer), Part::Once, true) = (outer, part, facts.escapes) {
            self.each_gang(|it| it.join_masks(outer, [inside, parked]));
        }
        false
    }

    /// `Break` and `Return`.
    fn leave_in_step(&mut self, is_target: impl Fn(Part) -> bool) -> bool {
        self.go_in_step(is_target, |ways| &mut ways.end)
    }

    /// As [`Lowering::go`].
    fn go_in_step(&mut self, is_target: impl Fn(Part) -> bool, which: Which<B>) -> bool {
        let waiting = match *self.way(&is_target, which) {
            Way::Jump { .. } => return self.go(is_target, which),
            Way::WaitInStep(waiting) => waiting,
            Way::Wait(_) => None,
        };
        self.park_in_step(waiting)
    }

    /// No lane is active any more; those that were wait in `waiting`, if they need to be told apart.
    fn park_in_step(&mut self, waiting: Option<Memory>) -> bool {
        let active = self.kept().active.expect("lanes part around");
        self.each_gang(|it| {
            waiting.into_iter().for_each(|waiting| it.join_masks(waiting, [waiting, active]));
            it.clear_mask(active);
        });
        false
    }

    /// Where the lanes wait that returned from the innermost call, if lanes part in it.
    fn returned_in(&self) -> Option<Memory> {
        let call = self.open.iter().rposition(|&(_, part)| part == Part::Call)?;
        match self.frames[self.depth_of(call)].end {
            Way::WaitInStep(waiting) => waiting,
            Way::Jump { .. } | Way::Wait(_) => None,
        }
    }

    /// The lanes of a kept mask, or all.
    fn lanes_of(&mut self, mask: Option<Memory>) -> B::Gang {
        match mask {
            Some(mask) => self.builder().load(mask, 0, None, DType::Bool),
            None => self.builder().valid(),
        }
    }

    fn fetched_or_constant(&mut self, value: ValueId) -> B::Gang {
        match self.program.value(value).op {
            super::Op::Constant(_) => self.gang(value),
            _ => self.fetched(value),
        }
    }

    fn join_masks(&mut self, to: Memory, masks: [Memory; 2]) {
        let mut builder = self.builder();
        let [a, b] = masks.map(|mask| builder.load(mask, 0, None, DType::Bool));
        let both = builder.binary(Binary::Or, a, b);
        builder.store(to, 0, None, both, None);
    }

    fn narrow(&mut self, mask: Memory, to: B::Gang) {
        let mut builder = self.builder();
        let lanes = builder.load(mask, 0, None, DType::Bool);
        let lanes = builder.binary(Binary::And, lanes, to);
        builder.store(mask, 0, None, lanes, None);
    }

    fn clear_mask(&mut self, mask: Memory) {
        let none = self.no_lanes();
        self.builder().store(mask, 0, None, none, None);
    }

    /// A uniform bool, not set.
    fn new_flag(&mut self) -> B::Register {
        let none = self.no_lanes();
        let mut builder = self.builder();
        let flag = builder.register(DType::Bool, false);
        builder.set(flag, none);
        flag
    }

    /// Sets a flag if any lane of a mask is set.
    fn raise(&mut self, flag: B::Register, mask: B::Gang) {
        let mut builder = self.builder();
        let (any, before) = (builder.any(mask), builder.get(flag));
        let raised = builder.binary(Binary::Or, before, any);
        builder.set(flag, raised);
    }

    /// Whether any lane of any gang is set in a mask.
    fn any_gang(&mut self, mask: impl FnOnce(&mut Self) -> B::Gang) -> B::Gang {
        let flag = self.new_flag();
        self.each_gang(|it| {
            let mask = mask(it);
            it.raise(flag, mask);
        });
        self.builder().get(flag)
    }

    fn any_of(&mut self, mask: Memory) -> B::Gang {
        self.any_gang(|it| it.builder().load(mask, 0, None, DType::Bool))
    }

    fn enter_if(&mut self, flag: B::Register) -> B::Block {
        let is_set = self.builder().get(flag);
        self.enter_if_set(is_set)
    }

    /// Goes on if a flag is set, else to the block that is given.
    fn enter_if_set(&mut self, is_set: B::Gang) -> B::Block {
        let mut builder = self.builder();
        let (begin, end) = (builder.block(), builder.block());
        builder.branch(is_set, begin, end);
        builder.enter(begin);
        end
    }
}
