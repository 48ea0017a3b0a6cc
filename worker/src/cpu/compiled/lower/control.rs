//! Branches, loops and the ways out of them, where lanes part and where they do not.

use super::super::builder::{Binary, Builder, Memory, Unary};
use super::super::divergence::{CHEAP_MAX, Part, is_cheap};
use super::super::flat::{Base, Block, FrameId, Statement, ValueId};
use super::Lowering;

/// Where lanes go that leave a frame or, in a loop, what is left of its body.
pub(super) struct Ways<B: Builder> {
    pub(super) end: Way<B>,
    pub(super) continuing: Way<B>,
}

/// One way.
pub(super) enum Way<B: Builder> {
    /// All go there, where lanes do not part; and whether any do.
    Jump { to: B::Block, is_taken: bool },
    /// They wait there, if they need to be told apart.
    Wait(Option<B::Register>),
    /// The same in a frame that is in step.
    WaitInStep(Option<Memory>),
}

impl<B: Builder> Ways<B> {
    /// Of a frame that is no loop.
    pub(super) fn out(end: Way<B>) -> Ways<B> {
        Ways { end, continuing: Way::Wait(None) }
    }
}

impl<B: Builder> Way<B> {
    pub(super) fn to(to: B::Block) -> Way<B> {
        Way::Jump { to, is_taken: false }
    }

    fn is_taken(&self) -> bool {
        matches!(self, Way::Jump { is_taken: true, .. })
    }
}

/// Which of a frame's ways.
pub(super) type Which<B> = fn(&mut Ways<B>) -> &mut Way<B>;

impl<B: Builder> Lowering<'_, B> {
    pub(super) fn uniform_if(&mut self, frame: FrameId, condition: ValueId, accept: &Block, reject: &Block) -> bool {
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

    pub(super) fn divergent_if(&mut self, frame: FrameId, condition: ValueId, accept: &Block, reject: &Block) -> bool {
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
            Statement::Store { place, .. } => place.index.is_none() && matches!(place.base, Base::Variable(_)),
            Statement::Break | Statement::Continue | Statement::Return => true,
            _ => is_cheap(self.program, statement),
        };
        block.len() <= CHEAP_MAX && block.iter().all(is_cheap)
    }

    pub(super) fn divergent_loop(
        &mut self,
        frame: FrameId,
        body: &Block,
        continuing: &Block,
        break_if: Option<ValueId>,
    ) -> bool {
        let facts = self.divergence.frame(frame);
        let outer = self.mask();
        let entering = outer.unwrap_or_else(|| self.all_lanes());
        let continued = facts.continues.then(|| self.new_mask(self.no_lanes()));
        self.frames.push(Ways { end: Way::Wait(None), continuing: Way::Wait(continued) });
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
        match self.frames[self.depth_of(call)].end {
            Way::Wait(register) => register,
            Way::Jump { .. } | Way::WaitInStep(_) => None,
        }
    }

    /// The entry of `frames` for what is open at `at`: `If`s have none.
    pub(super) fn depth_of(&self, at: usize) -> usize {
        self.open[..at].iter().filter(|(_, part)| !matches!(part, Part::Accept | Part::Reject)).count()
    }

    /// Lanes that waited in `register` are active again.
    fn rejoin(&self, register: B::Register) {
        let mut builder = self.builder();
        let (active, waiting) = (builder.get(self.active), builder.get(register));
        let active = builder.binary(Binary::Or, active, waiting);
        builder.set(self.active, active);
    }

    pub(super) fn uniform_loop(
        &mut self,
        frame: FrameId,
        body: &Block,
        continuing: &Block,
        break_if: Option<ValueId>,
    ) -> bool {
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
        self.frames.push(Ways { end: Way::to(end), continuing: Way::to(next) });
        let ends = self.within(frame, Part::LoopBody, body);
        if !ends {
            self.builder().jump(next);
        }
        let is_continued = self.frames.last().is_some_and(|ways| ways.continuing.is_taken());
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
        let ends = !(ways.end.is_taken() || guard.is_some() || break_if.is_some());
        if !ends {
            self.builder().enter(end);
        }
        ends
    }

    /// A block that runs once and can be left.
    pub(super) fn once(&mut self, frame: FrameId, part: Part, body: &Block) -> bool {
        if !self.divergence.frame(frame).is_divergent {
            let end = self.builder().block();
            self.frames.push(Ways::out(Way::to(end)));
            let ends = self.within(frame, part, body);
            let is_left = self.frames.pop().expect("pushed above").end.is_taken();
            if !ends && is_left {
                self.builder().jump(end);
            }
            if is_left {
                self.builder().enter(end);
            }
            return ends && !is_left;
        }
        let outer = self.mask();
        let parked = self.new_mask(self.no_lanes());
        if outer.is_none() {
            let all = self.all_lanes();
            self.builder().set(self.active, all);
        }
        self.frames.push(Ways::out(Way::Wait(Some(parked))));
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
    pub(super) fn leave(&mut self, is_target: impl Fn(Part) -> bool) -> bool {
        self.go(is_target, |ways| &mut ways.end)
    }

    pub(super) fn continues(&mut self) -> bool {
        self.go(|part| part == Part::LoopBody, |ways| &mut ways.continuing)
    }

    /// The active lanes go one of the innermost target's ways; says whether nothing comes after that.
    pub(super) fn go(&mut self, is_target: impl Fn(Part) -> bool, which: Which<B>) -> bool {
        let register = match self.way(is_target, which) {
            Way::Jump { to, is_taken } => {
                *is_taken = true;
                let to = *to;
                self.builder().jump(to);
                return true;
            }
            Way::Wait(register) => *register,
            Way::WaitInStep(_) => None,
        };
        self.park(register);
        false
    }

    pub(super) fn way(&mut self, is_target: impl Fn(Part) -> bool, which: Which<B>) -> &mut Way<B> {
        let at = self.open.iter().rposition(|&(_, part)| is_target(part)).expect("validated: there is one around");
        let depth = self.depth_of(at);
        which(&mut self.frames[depth])
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
}
