//! Runs a [`Program`].

use super::code::{Element, Function, Program, Statement, Step};
use super::operator::Map;
use super::stop::{StopFlag, Stopped};

/// What comes after a statement.
enum Flow {
    Next,
    Break,
    Continue,
    Return,
}

/// One invocation.
pub(super) struct Machine<'a> {
    pub program: &'a Program,
    pub stack: &'a mut [u64],
    pub stop: &'a StopFlag,
}

impl Machine<'_> {
    /// Runs a function whose arguments are at the start of its frame.
    pub(super) fn call(&mut self, function: &Function, base: usize) -> Result<(), Stopped> {
        if self.stop.is_raised() {
            return Err(Stopped);
        }
        let locals = base + function.argument_words + function.result.words;
        self.stack[locals..locals + function.locals.len()].copy_from_slice(&function.locals);
        for &(pointer, local) in &function.pointers {
            self.stack[base + pointer] = (base + local) as u64;
        }
        self.block(function, base, &function.body).map(|_| ())
    }

    fn block(&mut self, function: &Function, base: usize, block: &[Statement]) -> Result<Flow, Stopped> {
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
            Statement::Evaluate(steps) => steps.iter().for_each(|step| evaluate(step, self.stack, base)),
            Statement::If { condition, accept, reject } => {
                let holds = self.stack[condition.index(base)] != 0;
                return self.block(function, base, if holds { accept } else { reject });
            }
            Statement::Switch { selector, cases, default } => {
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
            Statement::Loop { body, continuing, break_if } => loop {
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
                let to = self.stack[pointer.index(base)] as usize;
                self.stack.copy_within(value.range(base), to);
            }
            Statement::Call { function: callee, arguments, result } => {
                let callee = &self.program.functions[*callee];
                let callee_base = base + function.frame_words;
                let mut to = callee_base;
                for argument in arguments {
                    self.stack.copy_within(argument.range(base), to);
                    to += argument.words;
                }
                self.call(callee, callee_base)?;
                let from = callee.result.range(callee_base).start;
                self.stack.copy_within(from..from + result.words, result.range(base).start);
            }
        }
        Ok(Flow::Next)
    }
}

/// Evaluates one expression in the frame that starts at `base`.
pub(super) fn evaluate(step: &Step, stack: &mut [u64], base: usize) {
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
            let from = stack[pointer.index(base)] as usize;
            stack.copy_within(from..from + to.words, to.range(base).start);
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
