//! Which words are read after a frame, or in a loop's continuing part: the words that parked lanes still need.

use super::super::flat::{Base, Block, FrameId, Op, Program, RegisterId, Statement, Visited};

/// Loops within loops that are followed exactly: each takes two passes over its body, so the cost doubles with each.
const EXACT_DEPTH_MAX: usize = 4;

/// A set of registers.
#[derive(Clone, Default)]
struct Set(Vec<u64>);

impl Set {
    fn contains(&self, register: RegisterId) -> bool {
        self.0.get(register.0 as usize / 64).is_some_and(|word| word >> (register.0 % 64) & 1 == 1)
    }

    fn insert(&mut self, register: RegisterId) {
        let at = register.0 as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (register.0 % 64);
    }

    fn remove(&mut self, register: RegisterId) {
        if let Some(word) = self.0.get_mut(register.0 as usize / 64) {
            *word &= !(1 << (register.0 % 64));
        }
    }

    fn join(&mut self, other: &Set) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(word, &more)| *word |= more);
    }
}

/// What is live where.
pub(super) struct Liveness {
    after: Vec<Set>,
    later: Vec<Set>,
}

impl Liveness {
    pub(super) fn is_live_after(&self, frame: FrameId, register: RegisterId) -> bool {
        self.after[frame.0 as usize].contains(register)
    }

    /// At a loop's continuing part, or before what an `If` rejects: where lanes that are not in its first part go on.
    pub(super) fn is_live_at_second_part(&self, frame: FrameId, register: RegisterId) -> bool {
        self.later[frame.0 as usize].contains(register)
    }
}

/// What is live where the ways out of a block lead.
#[derive(Clone, Default)]
struct Exits {
    at_break: Set,
    at_continue: Set,
    at_return: Set,
}

pub(super) fn liveness(program: &Program) -> Liveness {
    let sets = vec![Set::default(); program.frames as usize];
    let mut walk = Walk { program, found: Liveness { after: sets.clone(), later: sets }, depth: 0 };
    // The results are read by values, which are evaluated in the body.
    walk.block(&program.body, Set::default(), &Exits::default());
    walk.found
}

struct Walk<'a> {
    program: &'a Program,
    found: Liveness,
    depth: usize,
}

impl Walk<'_> {
    /// What is live before a block, from what is after it.
    fn block(&mut self, block: &Block, after: Set, exits: &Exits) -> Set {
        block.iter().rev().fold(after, |live, statement| self.statement(statement, live, exits))
    }

    fn statement(&mut self, statement: &Statement, mut live: Set, exits: &Exits) -> Set {
        match statement {
            Statement::Evaluate(value) => {
                if let Op::Load(place) = self.program.value(*value).op
                    && let Some(register) = self.program.register(place)
                {
                    live.insert(register);
                }
                live
            }
            Statement::Store { place, .. } => {
                // No store overwrites the whole of a variable in memory.
                if let Base::Variable(variable) = place.base
                    && !self.program.variable(variable).is_indexed
                    && let Some(register) = self.program.register(*place)
                {
                    live.remove(register);
                }
                live
            }
            Statement::If { frame, accept, reject, .. } => {
                self.found.after[frame.0 as usize] = live.clone();
                let mut before = self.block(reject, live.clone(), exits);
                self.found.later[frame.0 as usize] = before.clone();
                before.join(&self.block(accept, live, exits));
                before
            }
            Statement::Loop { frame, body, continuing, break_if } => {
                self.found.after[frame.0 as usize] = live.clone();
                self.loops(*frame, [body, continuing], break_if.is_some(), live, exits)
            }
            Statement::Once { frame, body } => {
                self.found.after[frame.0 as usize] = live.clone();
                self.block(body, live.clone(), &Exits { at_break: live, ..exits.clone() })
            }
            Statement::Call { frame, locals, body } => {
                self.found.after[frame.0 as usize] = live.clone();
                let mut before = self.block(body, live.clone(), &Exits { at_return: live, ..Exits::default() });
                for variable in &self.program.variables[locals.start as usize..locals.end as usize] {
                    variable.words.iter().flatten().for_each(|&word| before.remove(word));
                    before.remove(variable.whole);
                }
                before
            }
            Statement::Barrier(_) | Statement::Cut => live,
            Statement::Break => exits.at_break.clone(),
            Statement::Continue => exits.at_continue.clone(),
            Statement::Return => exits.at_return.clone(),
        }
    }

    fn loops(
        &mut self,
        frame: FrameId,
        [body, continuing]: [&Block; 2],
        may_end: bool,
        after: Set,
        exits: &Exits,
    ) -> Set {
        let mut head = Set::default();
        self.depth += 1;
        let passes = if self.depth <= EXACT_DEPTH_MAX { 2 } else { 1 };
        if passes == 1 {
            // Whatever the loop reads at all.
            self.reads(body, &mut head);
            self.reads(continuing, &mut head);
            head.join(&after);
        }
        for _ in 0..passes {
            let mut end = head.clone();
            if may_end {
                end.join(&after);
            }
            let inner = Exits { at_break: after.clone(), ..exits.clone() };
            let next = self.block(continuing, end, &inner);
            self.found.later[frame.0 as usize] = next.clone();
            let before = self.block(body, next.clone(), &Exits { at_continue: next, ..inner });
            head.join(&before);
        }
        self.depth -= 1;
        head
    }

    fn reads(&self, block: &Block, reads: &mut Set) {
        self.program.visit(block, &mut |visited| {
            if let Visited::Read(place) = visited
                && let Some(register) = self.program.register(place)
            {
                reads.insert(register);
            }
        });
    }
}
