//! Gangs as vectors: splats, masks of either width, and operations part by part or lane by lane.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self, InstBuilder, MemFlagsData, Type, types};

use super::super::builder::Binary;
use super::gang::{Form, Gang, Parts, vector_type};
use super::{Emitter, VECTOR_BYTES};
use crate::dtype::DType;

/// The sign bit of floats.
fn sign(dtype: DType) -> u64 {
    if dtype == DType::F32 { 1 << 31 } else { 1 << 63 }
}

impl Emitter<'_> {
    /// A uniform gang as one number.
    pub(super) fn scalar(&mut self, gang: Gang) -> ir::Value {
        match gang.form {
            Form::Constant(word) => self.scalar_constant(gang.dtype, word),
            Form::Uniform(value) => value,
            Form::Varying(_) => unreachable!("asked only of uniform gangs"),
        }
    }

    /// Any gang as vectors.
    pub(super) fn parts(&mut self, gang: Gang) -> Parts {
        let width = if gang.dtype == DType::Bool { self.mask_width } else { gang.dtype.bytes() as usize };
        let count = self.lanes * width / VECTOR_BYTES;
        let part = match gang.form {
            Form::Varying(parts) => return parts,
            Form::Constant(word) => {
                let bytes = match (gang.dtype, width) {
                    (DType::Bool, _) => [if word != 0 { 0xff } else { 0 }; VECTOR_BYTES].to_vec(),
                    (_, 4) => (word as u32).to_le_bytes().repeat(4),
                    _ => word.to_le_bytes().repeat(2),
                };
                let constant = self.function.func.dfg.constants.insert(bytes.into());
                self.function.ins().vconst(vector_type(gang.dtype, width), constant)
            }
            Form::Uniform(value) => {
                let value = match gang.dtype {
                    DType::Bool => {
                        let lane = if width == 4 { types::I32 } else { types::I64 };
                        self.function.ins().bmask(lane, value)
                    }
                    _ => value,
                };
                self.function.ins().splat(vector_type(gang.dtype, width), value)
            }
        };
        Parts::new(&vec![part; count], width)
    }

    /// A mask whose lanes have this width.
    pub(super) fn mask_parts(&mut self, gang: Gang, width: usize) -> Parts {
        let parts = self.parts(gang);
        match (parts.width, width) {
            (4, 8) => {
                let halves = parts
                    .values()
                    .iter()
                    .flat_map(|&part| [self.function.ins().swiden_low(part), self.function.ins().swiden_high(part)]);
                Parts::new(&halves.collect::<Vec<_>>(), 8)
            }
            (8, 4) => {
                let pairs = parts.values().chunks(2).map(|pair| self.low_halves(pair[0], pair[1]));
                Parts::new(&pairs.collect::<Vec<_>>(), 4)
            }
            _ => parts,
        }
    }

    /// The low 32 bits of four 64-bit lanes.
    pub(super) fn low_halves(&mut self, low: ir::Value, high: ir::Value) -> ir::Value {
        let (low, high) = (self.cast(types::I8X16, low), self.cast(types::I8X16, high));
        let joined = self.shuffle(low, high, [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27]);
        self.cast(types::I32X4, joined)
    }

    pub(super) fn shuffle(&mut self, a: ir::Value, b: ir::Value, lanes: [u8; 16]) -> ir::Value {
        let lanes = self.function.func.dfg.immediates.push(lanes.to_vec().into());
        self.function.ins().shuffle(a, b, lanes)
    }

    /// The same bits as another type.
    pub(super) fn cast(&mut self, to: Type, value: ir::Value) -> ir::Value {
        if self.function.func.dfg.value_type(value) == to {
            return value;
        }
        let flags = MemFlagsData::new().with_endianness(ir::Endianness::Little);
        self.function.ins().bitcast(to, flags, value)
    }

    /// `accept` where the mask is set, which is all bits of a lane or none. Of a comparison just made, Cranelift knows
    /// that; of others it must be told.
    pub(super) fn blend(&mut self, ty: Type, mask: ir::Value, accept: ir::Value, reject: ir::Value) -> ir::Value {
        let dfg = &self.function.func.dfg;
        let is_compared = dfg
            .value_def(mask)
            .inst()
            .is_some_and(|inst| matches!(dfg.insts[inst].opcode(), ir::Opcode::Fcmp | ir::Opcode::Icmp));
        if is_compared || !self.has_blend {
            let mask = self.cast(ty, mask);
            return self.function.ins().bitselect(mask, accept, reject);
        }
        let lanes = if ty.lane_bits() == 64 { types::I64X2 } else { types::I32X4 };
        let [mask, accept, reject] = [mask, accept, reject].map(|value| self.cast(lanes, value));
        let blended = self.function.ins().blendv(mask, accept, reject);
        self.cast(ty, blended)
    }

    pub(super) fn uniform(dtype: DType, value: ir::Value) -> Gang {
        Gang { dtype, form: Form::Uniform(value) }
    }

    pub(super) fn varying(dtype: DType, parts: Parts) -> Gang {
        Gang { dtype, form: Form::Varying(parts) }
    }

    pub(super) fn map(&mut self, dtype: DType, a: Gang, mut f: impl FnMut(&mut Self, ir::Value) -> ir::Value) -> Gang {
        if !a.varies() {
            let a = self.scalar(a);
            return Self::uniform(dtype, f(self, a));
        }
        let parts = self.parts(a);
        let mapped: Vec<_> = parts.values().iter().map(|&part| f(self, part)).collect();
        Self::varying(dtype, Parts::new(&mapped, parts.width))
    }

    /// Part by part; `dtype` is the result's.
    pub(super) fn zip(
        &mut self,
        dtype: DType,
        a: Gang,
        b: Gang,
        mut f: impl FnMut(&mut Self, ir::Value, ir::Value) -> ir::Value,
    ) -> Gang {
        if !a.varies() && !b.varies() {
            let (a, b) = (self.scalar(a), self.scalar(b));
            return Self::uniform(dtype, f(self, a, b));
        }
        let (a, b) = match a.dtype {
            DType::Bool => {
                let width = if a.varies() { self.parts(a).width } else { self.parts(b).width };
                (self.mask_parts(a, width), self.mask_parts(b, width))
            }
            _ => (self.parts(a), self.parts(b)),
        };
        let pairs = a.values().iter().zip(b.values());
        let mapped: Vec<_> = pairs.map(|(&a, &b)| f(self, a, b)).collect();
        Self::varying(dtype, Parts::new(&mapped, a.width))
    }

    /// One lane of a gang, as a scalar.
    pub(super) fn lane(&mut self, gang: Gang, lane: usize) -> ir::Value {
        match gang.form {
            Form::Varying(parts) => {
                let per_part = VECTOR_BYTES / parts.width;
                let part = parts.values()[lane / per_part];
                self.function.ins().extractlane(part, (lane % per_part) as u8)
            }
            _ => self.scalar(gang),
        }
    }

    /// A gang of these lanes.
    pub(super) fn joined_lanes(&mut self, dtype: DType, lanes: &[ir::Value]) -> Gang {
        let width = dtype.bytes() as usize;
        let vector = vector_type(dtype, width);
        let parts = lanes.chunks(VECTOR_BYTES / width).map(|lanes| {
            let mut part = self.function.ins().scalar_to_vector(vector, lanes[0]);
            for (lane, &value) in lanes.iter().enumerate().skip(1) {
                part = self.function.ins().insertlane(part, value, lane as u8);
            }
            part
        });
        Self::varying(dtype, Parts::new(&parts.collect::<Vec<_>>(), width))
    }

    /// What has no vector instruction, lane by lane.
    pub(super) fn each_lane(
        &mut self,
        dtype: DType,
        operands: &[Gang],
        mut f: impl FnMut(&mut Self, &[ir::Value]) -> ir::Value,
    ) -> Gang {
        let count = if operands.iter().any(Gang::varies) { self.lanes } else { 1 };
        let mut lanes = Vec::new();
        for lane in 0..count {
            let scalars: Vec<_> = operands.iter().map(|&operand| self.lane(operand, lane)).collect();
            lanes.push(f(self, &scalars));
        }
        match count {
            1 => Self::uniform(dtype, lanes[0]),
            _ => self.joined_lanes(dtype, &lanes),
        }
    }

    /// Floats with the other sign. (`fneg` would make the mask of signs again for every vector.)
    pub(super) fn flip_sign(&mut self, a: Gang) -> Gang {
        if !a.varies() {
            return self.map(a.dtype, a, |it, a| it.function.ins().fneg(a));
        }
        let signs = Gang { dtype: a.dtype, form: Form::Constant(sign(a.dtype)) };
        self.zip(a.dtype, a, signs, |it, a, signs| it.function.ins().bxor(a, signs))
    }

    /// Floats without their sign, likewise.
    pub(super) fn clear_sign(&mut self, a: Gang) -> Gang {
        if !a.varies() {
            return self.map(a.dtype, a, |it, a| it.function.ins().fabs(a));
        }
        let others = Gang { dtype: a.dtype, form: Form::Constant(sign(a.dtype) - 1) };
        self.zip(a.dtype, a, others, |it, a, others| it.function.ins().band(a, others))
    }

    /// [`Binary::OrLess`] or [`Binary::OrGreater`] of floats: in this form Cranelift has one instruction for it.
    pub(super) fn better(&mut self, op: Binary, a: ir::Value, b: ir::Value) -> ir::Value {
        let (less, greater) = if op == Binary::OrLess { (b, a) } else { (a, b) };
        let is_better = self.function.ins().fcmp(FloatCC::LessThan, less, greater);
        let ty = self.function.func.dfg.value_type(a);
        if !ty.is_vector() {
            return self.function.ins().select(is_better, b, a);
        }
        let mask = self.cast(ty, is_better);
        self.function.ins().bitselect(mask, b, a)
    }

    pub(super) fn compare(&mut self, op: Binary, dtype: DType, a: ir::Value, b: ir::Value) -> ir::Value {
        let is_signed = dtype.is_signed_integer();
        let (float, integer) = match op {
            Binary::Equal => (FloatCC::Equal, IntCC::Equal),
            Binary::NotEqual => (FloatCC::NotEqual, IntCC::NotEqual),
            Binary::Less if is_signed => (FloatCC::LessThan, IntCC::SignedLessThan),
            Binary::Less => (FloatCC::LessThan, IntCC::UnsignedLessThan),
            _ if is_signed => (FloatCC::LessThanOrEqual, IntCC::SignedLessThanOrEqual),
            _ => (FloatCC::LessThanOrEqual, IntCC::UnsignedLessThanOrEqual),
        };
        match dtype.is_float() {
            true => self.function.ins().fcmp(float, a, b),
            false => self.function.ins().icmp(integer, a, b),
        }
    }
}
