//! The loop of an element program, over the gangs of a call.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, InstBuilder, types};

use super::super::Results;
use super::super::builder::Builder;
use super::super::code::{Status, field};
use super::super::prefetch::{self, prefetch};
use super::{Emitter, fixed, no_arguments};
use crate::dtype::DType;

/// The loop over a call's gangs, in strips if leaves are asked for early.
pub(in super::super) struct Gangs {
    strip: Option<ir::Block>,
    body: ir::Block,
    end: ir::Block,
    /// The strip's end, and the call's.
    until: ir::Value,
    elements: ir::Value,
}

impl Emitter<'_> {
    /// Begins the loop over the call's gangs: what is emitted next is done for each. A leaf is a dtype, and whether it is
    /// uniform.
    pub(in super::super) fn begin(&mut self, dtypes: &[(DType, bool)], count: usize, results: Results) -> Gangs {
        let mut word = |start, offset| self.function.ins().load(self.pointer, fixed(), start, offset);
        let [leaves, outs] = [(field::LEAVES, dtypes.len()), (field::RESULTS, count)].map(|(offset, count)| {
            let starts = word(self.context, offset);
            (0..count as i32).map(|at| word(starts, 8 * at)).collect()
        });
        (self.leaves, self.results) = (leaves, outs);
        let (body, end) = (self.block(), self.block());
        let zero = self.function.ins().iconst(types::I64, 0);
        self.function.def_var(self.element, zero);
        self.nans = (results == Results::Kept).then(|| {
            let (nans, zero) = (self.function.declare_var(types::I64X2), self.function.ins().splat(types::I64X2, zero));
            self.function.def_var(nans, zero);
            nans
        });
        let elements = self.context_field(field::ELEMENTS, types::I64);
        let strip = (results == Results::Reduced).then(|| self.block());
        self.function.ins().brif(elements, strip.unwrap_or(body), no_arguments(), end, no_arguments());
        let until = match strip {
            Some(strip) => {
                self.enter_loop(strip);
                let until = self.begin_strip(dtypes, elements);
                self.jump(body);
                until
            }
            None => elements,
        };
        self.enter_loop(body);
        Gangs { strip, body, end, until, elements }
    }

    /// Asks for leaves further on. Gives where the strip ends.
    fn begin_strip(&mut self, leaves: &[(DType, bool)], elements: ir::Value) -> ir::Value {
        let varying = || leaves.iter().enumerate().filter(|(_, leaf)| !leaf.1).map(|(at, leaf)| (at, leaf.0.bytes()));
        let together: u64 = varying().map(|(_, width)| width).sum();
        let strip = (prefetch::BYTES / together.max(1)).next_multiple_of(self.lanes as u64) as i64;
        let element = self.function.use_var(self.element);
        for (at, width) in varying() {
            let bytes = self.function.ins().imul_imm_s(element, width as i64);
            let start = self.function.ins().iadd(self.leaves[at], bytes);
            let start = self.function.ins().iadd_imm_s(start, prefetch::AHEAD as i64);
            let bytes = self.function.ins().iconst(types::I64, strip * width as i64);
            self.call_native(prefetch as *const (), &[start, bytes]);
        }
        let until = self.function.ins().iadd_imm_s(element, strip);
        self.function.ins().umin(until, elements)
    }

    /// Ends the loop, and the function.
    pub(in super::super) fn end(&mut self, Gangs { strip, body, end, until, elements }: Gangs) {
        let element = self.function.use_var(self.element);
        let next = self.function.ins().iadd_imm_s(element, self.lanes as i64);
        self.function.def_var(self.element, next);
        let after = if strip.is_some() { self.block() } else { end };
        let goes_on = self.function.ins().icmp(IntCC::UnsignedLessThan, next, until);
        self.function.ins().brif(goes_on, body, no_arguments(), after, no_arguments());
        self.seal(body);
        if let Some(strip) = strip {
            self.enter(after);
            let goes_on = self.function.ins().icmp(IntCC::UnsignedLessThan, next, elements);
            self.function.ins().brif(goes_on, strip, no_arguments(), end, no_arguments());
            self.seal(strip);
        }
        self.enter(end);
        let status = match self.nans {
            Some(nans) => {
                let nans = self.function.use_var(nans);
                let any = self.function.ins().vany_true(nans);
                let (noted, none) = (self.status(Status::Nans), self.status(Status::Done));
                self.function.ins().select(any, noted, none)
            }
            None => self.status(Status::Done),
        };
        self.function.ins().return_(&[status]);
        self.enter(self.stopped);
        let status = self.status(Status::Stopped);
        self.function.ins().return_(&[status]);
    }

    fn status(&mut self, status: Status) -> ir::Value {
        self.function.ins().iconst(types::I32, status as i64)
    }
}
