//! Loads and stores: inputs, variables in scratch memory, tables, and the slots of helper calls.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, InstBuilder, types};

use super::super::builder::Memory;
use super::super::code::field;
use super::super::helper::zero;
use super::gang::{Form, Gang, Parts, lane_type, vector_type};
use super::{Emitter, Register, VECTOR_BYTES, plain};
use crate::dtype::DType;

/// Bytes that are zeroed by plain stores.
const CLEARED_INLINE_MAX: u64 = 512;

impl Emitter<'_> {
    /// The gang's elements of what begins at `start`, or its one element.
    pub(super) fn input(&mut self, start: ir::Value, dtype: DType, varies: bool) -> Gang {
        let mut start = start;
        if varies {
            let element = self.function.use_var(self.element);
            let bytes = self.function.ins().ishl_imm_u(element, i64::from(dtype.bytes().ilog2()));
            start = self.function.ins().iadd(start, bytes);
        }
        // A bool is stored as a `u32`.
        let stored = if dtype == DType::Bool { DType::U32 } else { dtype };
        let gang = self.read_words(start, 0, stored, varies);
        match dtype {
            DType::Bool => {
                let zero = Gang { dtype: stored, form: Form::Constant(0) };
                super::Builder::binary(self, super::Binary::NotEqual, gang, zero)
            }
            _ => gang,
        }
    }

    /// Stores a result of the gang.
    pub(in super::super) fn output(&mut self, index: usize, gang: Gang) {
        let element = self.function.use_var(self.element);
        let bytes = self.function.ins().ishl_imm_u(element, i64::from(gang.dtype.bytes().ilog2()));
        let start = self.function.ins().iadd(self.results[index], bytes);
        let stored = if gang.dtype == DType::Bool { self.converted(gang, DType::U32) } else { gang };
        let parts = self.parts(stored);
        self.store_parts(start, 0, parts);
    }

    fn store_parts(&mut self, start: ir::Value, offset: i32, parts: Parts) {
        for (at, &part) in parts.values().iter().enumerate() {
            self.function.ins().store(plain(), part, start, offset + (at * VECTOR_BYTES) as i32);
        }
    }

    pub(super) fn lanes_width(&self, register: Register) -> usize {
        if register.dtype == DType::Bool { self.mask_width } else { register.dtype.bytes() as usize }
    }

    fn read_words(&mut self, start: ir::Value, offset: i32, dtype: DType, varies: bool) -> Gang {
        if !varies {
            let value = self.function.ins().load(lane_type(dtype), plain(), start, offset);
            return Self::uniform(dtype, value);
        }
        let width = dtype.bytes() as usize;
        let ty = vector_type(dtype, width);
        let at = |part: usize| offset + (part * VECTOR_BYTES) as i32;
        let parts = 0..self.lanes * width / VECTOR_BYTES;
        let parts: Vec<_> = parts.map(|part| self.function.ins().load(ty, plain(), start, at(part))).collect();
        Self::varying(dtype, Parts::new(&parts, width))
    }

    /// Reads what [`Emitter::write`] wrote: bools are 32 bits, all set or none.
    pub(super) fn read(&mut self, start: ir::Value, offset: i32, dtype: DType, varies: bool) -> Gang {
        match (dtype, varies) {
            (DType::Bool, true) => {
                let Gang { form, .. } = self.read_words(start, offset, DType::U32, true);
                Gang { dtype, form }
            }
            (DType::Bool, false) => {
                let word = self.function.ins().load(types::I32, plain(), start, offset);
                Self::uniform(dtype, self.function.ins().icmp_imm_s(IntCC::NotEqual, word, 0))
            }
            _ => self.read_words(start, offset, dtype, varies),
        }
    }

    /// Writes the lanes of a gang side by side, or its one number.
    pub(super) fn write(&mut self, start: ir::Value, offset: i32, gang: Gang, varies: bool) {
        if varies {
            let parts = if gang.dtype == DType::Bool { self.mask_parts(gang, 4) } else { self.parts(gang) };
            return self.store_parts(start, offset, parts);
        }
        let value = self.scalar(gang);
        let value = if gang.dtype == DType::Bool { self.function.ins().bmask(types::I32, value) } else { value };
        self.function.ins().store(plain(), value, start, offset);
    }

    /// Bytes from one word to the next.
    fn stride(&self, memory: Memory) -> i64 {
        memory.width as i64 * if memory.varies { self.lanes as i64 } else { 1 }
    }

    /// Where the gang's scratch memory begins.
    fn scratch(&mut self) -> ir::Value {
        match &self.workgroup {
            Some(workgroup) => self.function.use_var(workgroup.frame),
            None => self.context_field(field::SCRATCH, self.pointer),
        }
    }

    /// Where a word begins whose index is uniform or none.
    fn address(&mut self, memory: Memory, offset: u32, index: Option<Gang>) -> ir::Value {
        let scratch = self.scratch();
        let stride = self.stride(memory);
        let start = self.function.ins().iadd_imm_s(scratch, memory.at as i64 + i64::from(offset) * stride);
        let Some(index) = index else { return start };
        let index = self.scalar(index);
        let index = self.function.ins().uextend(types::I64, index);
        let bytes = self.function.ins().imul_imm_s(index, stride);
        self.function.ins().iadd(start, bytes)
    }

    /// Where one lane's word lies.
    fn lane_address(&mut self, memory: Memory, start: ir::Value, index: Gang, lane: usize, width: u64) -> ir::Value {
        let index = self.lane(index, lane);
        let index = self.function.ins().uextend(types::I64, index);
        let stride = self.stride(memory);
        let bytes = self.function.ins().imul_imm_s(index, stride);
        let address = self.function.ins().iadd(start, bytes);
        let offset = if memory.varies { lane as u64 * width } else { 0 };
        self.function.ins().iadd_imm_s(address, offset as i64)
    }

    pub(super) fn clear_memory(&mut self, memory: Memory) {
        let start = self.address(memory, 0, None);
        let bytes = (i64::from(memory.words) * self.stride(memory)) as u64;
        // Places are apart by whole cache lines: the last vector may reach beyond the variable.
        if bytes <= CLEARED_INLINE_MAX {
            let zero = Gang { dtype: DType::U32, form: Form::Constant(0) };
            let zero = self.parts(zero).values()[0];
            for at in (0..bytes).step_by(VECTOR_BYTES) {
                self.function.ins().store(plain(), zero, start, at as i32);
            }
            return;
        }
        let bytes = self.function.ins().iconst(types::I64, bytes as i64);
        self.call_native(zero as *const (), &[start, bytes]);
    }

    pub(super) fn load_word(&mut self, memory: Memory, offset: u32, index: Option<Gang>, dtype: DType) -> Gang {
        let Some(index) = index.filter(Gang::varies) else {
            let start = self.address(memory, offset, index);
            return self.read(start, 0, dtype, memory.varies);
        };
        let start = self.address(memory, offset, None);
        let width = if dtype == DType::Bool { 4 } else { dtype.bytes() };
        let ty = if dtype == DType::Bool { types::I32 } else { lane_type(dtype) };
        let mut lanes = Vec::new();
        for lane in 0..self.lanes {
            let address = self.lane_address(memory, start, index, lane, width);
            lanes.push(self.function.ins().load(ty, plain(), address, 0));
        }
        let stored = if dtype == DType::Bool { DType::U32 } else { dtype };
        let Gang { form, .. } = self.joined_lanes(stored, &lanes);
        Gang { dtype, form }
    }

    pub(super) fn store_word(
        &mut self,
        memory: Memory,
        offset: u32,
        index: Option<Gang>,
        gang: Gang,
        mask: Option<Gang>,
    ) {
        let Some(index) = index.filter(Gang::varies) else {
            let start = self.address(memory, offset, index);
            let gang = match mask.filter(|_| memory.varies) {
                Some(mask) => {
                    let before = self.read(start, 0, gang.dtype, true);
                    super::Builder::select(self, mask, gang, before)
                }
                None => gang,
            };
            return self.write(start, 0, gang, memory.varies);
        };
        let start = self.address(memory, offset, None);
        let trash = self.trash();
        let is_bool = gang.dtype == DType::Bool;
        let width = if is_bool { 4 } else { gang.dtype.bytes() };
        let parts = if is_bool { self.mask_parts(gang, 4) } else { self.parts(gang) };
        let gang = Self::varying(gang.dtype, parts);
        let mask = mask.map(|mask| {
            let parts = self.mask_parts(mask, 4);
            Self::varying(DType::Bool, parts)
        });
        for lane in 0..self.lanes {
            let mut address = self.lane_address(memory, start, index, lane, width);
            if let Some(mask) = mask {
                let is_set = self.lane(mask, lane);
                address = self.function.ins().select(is_set, address, trash);
            }
            let value = self.lane(gang, lane);
            self.function.ins().store(plain(), value, address, 0);
        }
    }

    pub(super) fn trash(&mut self) -> ir::Value {
        let data = || ir::StackSlotData::new(ir::StackSlotKind::ExplicitSlot, 8, 3);
        let slot = *self.trash.get_or_insert_with(|| self.function.create_sized_stack_slot(data()));
        self.function.ins().stack_addr(self.pointer, slot, 0)
    }

    pub(super) fn look_up(&mut self, table: u32, offset: u32, index: Gang) -> Gang {
        let (dtype, ref words) = self.tables[table as usize];
        let address = words.as_ptr() as i64 + 8 * i64::from(offset);
        let start = self.function.ins().iconst(self.pointer, address);
        let ty = if dtype == DType::Bool { types::I8 } else { lane_type(dtype) };
        let gang = self.each_lane(if dtype == DType::Bool { DType::U32 } else { dtype }, &[index], |it, index| {
            let index = it.function.ins().uextend(types::I64, index[0]);
            let bytes = it.function.ins().imul_imm_s(index, 8);
            let address = it.function.ins().iadd(start, bytes);
            let word = it.function.ins().load(ty, plain(), address, 0);
            if ty == types::I8 { it.function.ins().uextend(types::I32, word) } else { word }
        });
        match dtype {
            DType::Bool => {
                let zero = Gang { dtype: DType::U32, form: Form::Constant(0) };
                super::Builder::binary(self, super::Binary::NotEqual, gang, zero)
            }
            _ => gang,
        }
    }
}
