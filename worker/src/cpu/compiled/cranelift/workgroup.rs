//! The loops of a block kernel, over workgroups and over a workgroup's gangs, and what invocations are told.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, InstBuilder, types};
use cranelift_frontend::Variable;

use super::super::block::field;
use super::super::builder::Builder;
use super::super::code::field::SCRATCH;
use super::super::flat::Told;
use super::super::helper::zero;
use super::super::invocations::Invocations;
use super::gang::{Form, Gang};
use super::{Emitter, no_arguments};
use crate::dtype::DType;

/// Of a block kernel that is emitted.
pub(super) struct Workgroup {
    invocations: Invocations,
    /// Where the gang's scratch memory begins.
    pub frame: Variable,
    /// The workgroup's place along x.
    group: Variable,
    /// What is told, per gang and lane: the code holds their addresses.
    tables: Vec<(Told, Box<[u32]>)>,
    valid: Box<[u32]>,
    /// Gangs that count up from lane to lane, by their first vector, and what they are in the first lane.
    counting: HashMap<ir::Value, ir::Value>,
    /// Where missed barriers lead, and the status that tells of them.
    missed: Vec<(ir::Block, i64)>,
}

/// The loop over workgroups.
pub(in super::super) struct Groups {
    head: ir::Block,
    end: ir::Block,
}

impl Workgroup {
    pub(super) fn into_tables(self) -> Vec<Box<[u32]>> {
        self.tables.into_iter().map(|(_, table)| table).chain([self.valid]).collect()
    }
}

impl Emitter<'_> {
    /// Begins the loop over a row of workgroups, whose memory is that many bytes.
    pub(in super::super) fn begin_groups(&mut self, invocations: Invocations, workgroup_bytes: u64) -> Groups {
        let (frame, group) = (self.function.declare_var(self.pointer), self.function.declare_var(types::I32));
        self.workgroup = Some(Workgroup {
            invocations,
            frame,
            group,
            tables: Vec::new(),
            valid: invocations.valid(),
            counting: HashMap::new(),
            missed: Vec::new(),
        });
        let (head, body, end) = (self.block(), self.block(), self.block());
        let zeroth = self.function.ins().iconst(types::I32, 0);
        self.function.def_var(group, zeroth);
        self.jump(head);
        self.enter_loop(head);
        let (at, count) = (self.function.use_var(group), self.context_field(field::GROUPS, types::I32));
        let goes_on = self.function.ins().icmp(IntCC::UnsignedLessThan, at, count);
        self.function.ins().brif(goes_on, body, no_arguments(), end, no_arguments());
        self.enter(body);
        if workgroup_bytes > 0 {
            let start = self.context_field(field::WORKGROUP, self.pointer);
            let bytes = self.function.ins().iconst(types::I64, workgroup_bytes as i64);
            self.call_native(zero as *const (), &[start, bytes]);
        }
        Groups { head, end }
    }

    /// Ends the loop, and the function.
    pub(in super::super) fn end_groups(&mut self, Groups { head, end }: Groups) {
        self.poll();
        let group = self.workgroup().group;
        let at = self.function.use_var(group);
        let next = self.function.ins().iadd_imm_s(at, 1);
        self.function.def_var(group, next);
        self.jump(head);
        self.seal(head);
        let missed = std::mem::take(&mut self.workgroup().missed);
        for (block, status) in [(end, 0), (self.stopped, 1)].into_iter().chain(missed) {
            self.enter(block);
            let status = self.function.ins().iconst(types::I32, status);
            self.function.ins().return_(&[status]);
        }
    }

    fn workgroup(&mut self) -> &mut Workgroup {
        self.workgroup.as_mut().expect("only block kernels have workgroups")
    }

    pub(super) fn go_to_first_gang(&mut self) {
        let frame = self.workgroup().frame;
        let scratch = self.context_field(SCRATCH, self.pointer);
        self.function.def_var(frame, scratch);
    }

    pub(super) fn begin_gangs_of_workgroup(&mut self) -> ir::Block {
        self.go_to_first_gang();
        let zeroth = self.function.ins().iconst(types::I64, 0);
        self.function.def_var(self.element, zeroth);
        let head = self.block();
        self.jump(head);
        self.enter_loop(head);
        head
    }

    pub(super) fn end_gangs_of_workgroup(&mut self, head: ir::Block) {
        let &mut Workgroup { invocations, frame, .. } = self.workgroup();
        let lanes = invocations.lanes as i64;
        let element = self.function.use_var(self.element);
        let next = self.function.ins().iadd_imm_s(element, lanes);
        self.function.def_var(self.element, next);
        let at = self.function.use_var(frame);
        let bytes = self.context_field(field::FRAME_BYTES, types::I64);
        let after = self.function.ins().iadd(at, bytes);
        self.function.def_var(frame, after);
        let end = self.block();
        let all = lanes * invocations.gangs() as i64;
        let goes_on = self.function.ins().icmp_imm_u(IntCC::UnsignedLessThan, next, all);
        self.function.ins().brif(goes_on, head, no_arguments(), end, no_arguments());
        self.seal(head);
        self.enter(end);
    }

    pub(super) fn end_if_missed(&mut self, is_missed: Gang, barrier: u32) {
        let (missed, goes_on) = (self.block(), self.block());
        self.is_rare(missed);
        self.branch(is_missed, missed, goes_on);
        self.workgroup().missed.push((missed, field::MISSED + i64::from(barrier)));
        self.enter(goes_on);
    }

    pub(super) fn told_of(&mut self, told: Told) -> Gang {
        let invocations = self.workgroup().invocations;
        match told {
            Told::Group(0) => {
                let group = self.workgroup().group;
                Self::uniform(DType::U32, self.function.use_var(group))
            }
            Told::Group(axis) => self.told_field(field::GROUP + 4 * axis as i32),
            Told::Groups(axis) => self.told_field(field::GROUPS + 4 * axis as i32),
            Told::Local(_) | Told::LocalIndex if !invocations.differ(told) => {
                Gang { dtype: DType::U32, form: Form::Constant(0) }
            }
            Told::LocalIndex if invocations.are_whole() => {
                let element = self.function.use_var(self.element);
                let first = self.function.ins().ireduce(types::I32, element);
                self.counting_from(first)
            }
            Told::Local(0) if invocations.are_rows() => {
                let Form::Uniform(first) = self.told_word(told).form else { unreachable!("one word") };
                self.counting_from(first)
            }
            Told::Local(_) if !invocations.differ_in_gang(told) => self.told_word(told),
            Told::Local(_) | Told::LocalIndex => {
                let start = self.told_table(told);
                self.read(start, 0, DType::U32, true)
            }
        }
    }

    pub(super) fn valid_lanes(&mut self) -> Gang {
        let Workgroup { invocations, valid, .. } = self.workgroup();
        if invocations.are_whole() {
            return Gang { dtype: DType::Bool, form: Form::Constant(1) };
        }
        let address = valid.as_ptr();
        let start = self.of_gang(address);
        self.read(start, 0, DType::Bool, true)
    }

    fn told_field(&mut self, offset: i32) -> Gang {
        Self::uniform(DType::U32, self.context_field(offset, types::I32))
    }

    /// What the first lane is told.
    fn told_word(&mut self, told: Told) -> Gang {
        let start = self.told_table(told);
        self.read(start, 0, DType::U32, false)
    }

    /// Where the gang's part of a table lies.
    fn told_table(&mut self, told: Told) -> ir::Value {
        let workgroup = self.workgroup();
        if !workgroup.tables.iter().any(|&(known, _)| known == told) {
            workgroup.tables.push((told, workgroup.invocations.table(told)));
        }
        let table = workgroup.tables.iter().find(|&&(known, _)| known == told);
        let address = table.map_or(std::ptr::null(), |(_, table)| table.as_ptr());
        self.of_gang(address)
    }

    fn of_gang(&mut self, table: *const u32) -> ir::Value {
        let start = self.function.ins().iconst(self.pointer, table as i64);
        let element = self.function.use_var(self.element);
        let bytes = self.function.ins().ishl_imm_u(element, 2);
        self.function.ins().iadd(start, bytes)
    }

    /// `first`, `first + 1` and so on.
    fn counting_from(&mut self, first: ir::Value) -> Gang {
        let lanes: Vec<u8> = (0..4u32).flat_map(u32::to_le_bytes).collect();
        let constant = self.function.func.dfg.constants.insert(lanes.into());
        let steps = self.function.ins().vconst(types::I32X4, constant);
        let parts: Vec<_> = (0..self.lanes / 4)
            .map(|part| {
                let first = self.function.ins().iadd_imm_s(first, 4 * part as i64);
                let first = self.function.ins().splat(types::I32X4, first);
                self.function.ins().iadd(first, steps)
            })
            .collect();
        let gang = Self::varying(DType::U32, super::Parts::new(&parts, 4));
        self.counts(gang, first);
        gang
    }

    fn counts(&mut self, gang: Gang, first: ir::Value) {
        if let (Form::Varying(parts), Some(workgroup)) = (gang.form, &mut self.workgroup) {
            workgroup.counting.insert(parts.values()[0], first);
        }
    }

    /// What a gang is in the first lane, if it counts up from there.
    pub(super) fn first_of(&self, gang: Gang) -> Option<ir::Value> {
        match (gang.form, &self.workgroup) {
            (Form::Varying(parts), Some(workgroup)) => workgroup.counting.get(&parts.values()[0]).copied(),
            _ => None,
        }
    }

    /// Notes that a sum of a gang that counts and of a uniform one counts as well.
    pub(super) fn follow(
        &mut self,
        sum: Gang,
        a: Gang,
        b: Gang,
        add: impl FnOnce(&mut Self, ir::Value, ir::Value) -> ir::Value,
    ) -> Gang {
        let (first, by) = match (self.first_of(a), self.first_of(b)) {
            (Some(first), None) if !b.varies() => (first, self.scalar(b)),
            (None, Some(first)) if !a.varies() => (first, self.scalar(a)),
            _ => return sum,
        };
        let first = add(self, first, by);
        self.counts(sum, first);
        sum
    }
}
