//! Runs a [`Program`], one invocation of it.

use std::ops::Range;

use super::code::{Change, Element, Function, Program, Statement, Step};
use super::memory::{Outside, Pointer};
use super::operator::Map;
use super::stop::{StopFlag, Stopped};

/// What comes after a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
    Return,
}

/// One invocation.
pub(super) struct Machine<'a, 'b> {
    pub program: &'a Program,
    pub stack: &'a mut [u64],
    pub outside: &'a mut Outside<'b>,
    pub stop: &'a StopFlag,
}

impl Machine<'_, '_> {
    /// Runs a function whose arguments are at the start of its frame.
    pub(super) fn call(&mut self, function: &Function, base: usize) -> Result<(), Stopped> {
        if self.stop.is_raised() {
            return Err(Stopped);
        }
        function.enter(self.stack, base);
        self.block(function, base, &function.body).map(|_| ())
    }

    /// Runs statements up to the end, or to one that leaves them.
    pub(super) fn block(&mut self, function: &Function, base: usize, block: &[Statement]) -> Result<Flow, Stopped> {
        for statement in block {
            match self.statement(function, base, statement)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, function: &Function, base: usize, statement: &Statement) -> Result<Flow, Stopped> {
        match statement {
            Statement::Evaluate(steps) => {
                steps.iter().for_each(|step| evaluate(step, self.stack, self.outside, base));
            }
            Statement::If { condition, accept, reject, .. } => {
                let holds = self.stack[condition.index(base)] != 0;
                return self.block(function, base, if holds { accept } else { reject });
            }
            Statement::Switch { selector, cases, default, .. } => {
                let selector = self.stack[selector.index(base)];
                let chosen = cases.iter().position(|case| case.value == Some(selector)).unwrap_or(*default);
                for case in &cases[chosen..] {
                    match self.block(function, base, &case.body)? {
                        Flow::Next if case.falls_through => {}
                        Flow::Next | Flow::Break => break,
                        flow @ (Flow::Continue | Flow::Return) => return Ok(flow),
                    }
                }
            }
            Statement::Loop { body, continuing, break_if, .. } => loop {
                match self.block(function, base, body)? {
                    Flow::Next | Flow::Continue => {}
                    Flow::Break => break,
                    Flow::Return => return Ok(Flow::Return),
                }
                self.block(function, base, continuing)?;
                if break_if.is_some_and(|condition| self.stack[condition.index(base)] != 0) {
                    break;
                }
                if self.stop.is_raised() {
                    return Err(Stopped);
                }
            },
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
            Statement::Return { value } => {
                if let Some(value) = value {
                    let from = value.index(base);
                    self.stack.copy_within(from..from + function.result.words, function.result.range(base).start);
                }
                return Ok(Flow::Return);
            }
            Statement::Store { pointer, value } => {
                let value = value.range(base);
                match Pointer::of(self.stack[pointer.index(base)]) {
                    Pointer::Stack(to) => self.stack.copy_within(value, to),
                    to => {
                        value.enumerate().for_each(|(word, from)| self.outside.store(to.plus(word), self.stack[from]))
                    }
                }
            }
            Statement::Call { function: callee, arguments, result, .. } => {
                let callee = &self.program.functions[*callee];
                let callee_base = base + function.frame_words;
                callee.pass(self.stack, base, callee_base, arguments);
                self.call(callee, callee_base)?;
                copy(self.stack, callee.result.range(callee_base), result.range(base));
            }
            Statement::Atomic { pointer, change, value, result } => {
                let pointer = Pointer::of(self.stack[pointer.index(base)]);
                let (old, exchanged) = self.change(pointer, change, self.stack[value.index(base)], base);
                if let Some(result) = result {
                    self.stack[result.index(base)] = old;
                    if let Change::CompareExchange(_) = change {
                        self.stack[result.index(base) + 1] = exchanged.into();
                    }
                }
            }
            Statement::Barrier { .. } | Statement::UniformLoad { .. } => {
                unreachable!("an invocation is run alone only through what holds no barrier")
            }
        }
        Ok(Flow::Next)
    }

    /// Changes an atomic: what it was, and whether it was what an exchange compares with. Outside a buffer both are 0.
    fn change(&mut self, pointer: Pointer, change: &Change, value: u64, base: usize) -> (u64, bool) {
        let Some(old) = self.outside.load(pointer) else { return (0, false) };
        let (new, exchanged) = match change {
            Change::Apply(function) => (function(old, value), false),
            Change::Exchange => (value, false),
            Change::CompareExchange(compare) => match self.stack[compare.index(base)] == old {
                true => (value, true),
                false => (old, false),
            },
        };
        self.outside.store(pointer, new);
        (old, exchanged)
    }
}

/// Copies as many words as the result takes, which may be none.
pub(super) fn copy(stack: &mut [u64], from: Range<usize>, to: Range<usize>) {
    stack.copy_within(from.start..from.start + to.len(), to.start);
}

/// Evaluates one expression in the frame that starts at `base`.
pub(super) fn evaluate(step: &Step, stack: &mut [u64], outside: &Outside<'_>, base: usize) {
    match step {
        Step::Map { map, from: [a, b, c, d], to } => {
            let to = to.range(base);
            let [(a, a_stride), (b, b_stride), (c, c_stride), (d, d_stride)] =
                [a, b, c, d].map(|lanes| (lanes.place.index(base), lanes.stride));
            for (index, to) in to.enumerate() {
                let word = |at: usize, stride: usize| stack[at + index * stride];
                stack[to] = match map {
                    Map::One(f) => f(word(a, a_stride)),
                    Map::Two(f) => f(word(a, a_stride), word(b, b_stride)),
                    Map::Three(f) => f(word(a, a_stride), word(b, b_stride), word(c, c_stride)),
                    Map::Four(f) => f(word(a, a_stride), word(b, b_stride), word(c, c_stride), word(d, d_stride)),
                };
            }
        }
        Step::Whole { whole, rows, from: [a, b, c], to } => {
            let mut out = [0; 16];
            let out = &mut out[..to.words];
            whole(*rows, &stack[a.range(base)], &stack[b.range(base)], &stack[c.range(base)], out);
            stack[to.range(base)].copy_from_slice(out);
        }
        Step::Copy { from, to } => {
            let from = from.index(base);
            stack.copy_within(from..from + to.words, to.range(base).start);
        }
        Step::Swizzle { from, pattern, to } => {
            for (to, &component) in to.range(base).zip(pattern) {
                stack[to] = stack[from.index(base) + usize::from(component)];
            }
        }
        Step::Load { pointer, to } => {
            let to = to.range(base);
            match Pointer::of(stack[pointer.index(base)]) {
                Pointer::Stack(from) => stack.copy_within(from..from + to.len(), to.start),
                from => to.enumerate().for_each(|(word, to)| stack[to] = outside.load(from.plus(word)).unwrap_or(0)),
            }
        }
        Step::Length { pointer, to } => {
            stack[to.index(base)] = outside.length(Pointer::of(stack[pointer.index(base)]));
        }
        Step::Member { pointer, offset, to } => {
            stack[to.index(base)] = stack[pointer.index(base)] + *offset as u64;
        }
        Step::Element { pointer, element, to } => {
            let offset = offset_of(element, stack, base);
            stack[to.index(base)] = stack[pointer.index(base)] + offset as u64;
        }
        Step::Pick { from, element, to } => {
            let from = from.index(base) + offset_of(element, stack, base);
            stack.copy_within(from..from + to.words, to.range(base).start);
        }
    }
}

/// Words from the start of an array, vector or matrix to an element of it.
fn offset_of(element: &Element, stack: &[u64], base: usize) -> usize {
    stack[element.index.index(base)].min(element.last) as usize * element.stride
}
