//! Conversions. What vectors cannot do, scalars do lane by lane: both are exact to the bit.

use cranelift_codegen::ir::{self, InstBuilder, types};

use super::gang::{Gang, Parts};
use super::{Emitter, Form};
use crate::dtype::DType;

impl Emitter<'_> {
    /// Floats to integers saturate, NaN gives 0; bools give 0 or 1. Nothing is converted to bool here.
    pub(super) fn converted(&mut self, a: Gang, to: DType) -> Gang {
        let from = a.dtype;
        if from == DType::Bool {
            return self.bool_to(a, to);
        }
        if !a.varies() {
            let a = self.scalar(a);
            return Self::uniform(to, self.convert_scalar(from, to, a));
        }
        let parts = self.parts(a);
        let (is_float, to_float) = (from.is_float(), to.is_float());
        match (from.bytes(), to.bytes()) {
            (4, 4) | (8, 8) if is_float == to_float => return self.relabelled(a, to),
            (4, 4) if to_float || is_float => {
                let convert = |it: &mut Self, part| match (from, to) {
                    (DType::I32, _) => it.function.ins().fcvt_from_sint(types::F32X4, part),
                    (DType::U32, _) => it.function.ins().fcvt_from_uint(types::F32X4, part),
                    (_, DType::I32) => it.function.ins().fcvt_to_sint_sat(types::I32X4, part),
                    _ => it.function.ins().fcvt_to_uint_sat(types::I32X4, part),
                };
                return self.map(to, a, convert);
            }
            (4, 8) if is_float == to_float || to_float => {
                let mut wide = Vec::new();
                for &part in parts.values() {
                    let high = self.high_half(part);
                    wide.push(self.widen(from, to, part));
                    wide.push(self.widen(from, to, high));
                }
                return Self::varying(to, Parts::new(&wide, 8));
            }
            (8, 4) if is_float == to_float => {
                let mut narrow = Vec::new();
                for pair in parts.values().chunks(2) {
                    narrow.push(match is_float {
                        true => self.demote(pair[0], pair[1]),
                        false => self.low_halves(pair[0], pair[1]),
                    });
                }
                return Self::varying(to, Parts::new(&narrow, 4));
            }
            (8, 8) if to_float => {
                let convert = |it: &mut Self, part| match from {
                    DType::I64 => it.function.ins().fcvt_from_sint(types::F64X2, part),
                    _ => it.function.ins().fcvt_from_uint(types::F64X2, part),
                };
                return self.map(to, a, convert);
            }
            _ => {}
        }
        self.each_lane(to, &[a], |it, a| it.convert_scalar(from, to, a[0]))
    }

    /// Integers of one width: the same bits.
    fn relabelled(&mut self, a: Gang, to: DType) -> Gang {
        Gang { dtype: to, ..a }
    }

    fn bool_to(&mut self, a: Gang, to: DType) -> Gang {
        let one = match to {
            DType::F32 => u64::from(1f32.to_bits()),
            DType::F64 => 1f64.to_bits(),
            _ => 1,
        };
        let accept = Gang { dtype: to, form: Form::Constant(one) };
        let reject = Gang { dtype: to, form: Form::Constant(0) };
        super::Builder::select(self, a, accept, reject)
    }

    /// The two high lanes of four, as the low ones.
    fn high_half(&mut self, part: ir::Value) -> ir::Value {
        let ty = self.function.func.dfg.value_type(part);
        let bytes = self.cast(types::I8X16, part);
        let high = self.shuffle(bytes, bytes, [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15]);
        self.cast(ty, high)
    }

    /// The two low lanes of four.
    fn widen(&mut self, from: DType, to: DType, part: ir::Value) -> ir::Value {
        match (from, to) {
            (DType::F32, _) => self.function.ins().fvpromote_low(part),
            (DType::I32, DType::F64) => {
                let wide = self.function.ins().swiden_low(part);
                self.function.ins().fcvt_from_sint(types::F64X2, wide)
            }
            (_, DType::F64) => {
                let wide = self.function.ins().uwiden_low(part);
                self.function.ins().fcvt_from_uint(types::F64X2, wide)
            }
            (DType::I32, _) => self.function.ins().swiden_low(part),
            _ => self.function.ins().uwiden_low(part),
        }
    }

    fn demote(&mut self, low: ir::Value, high: ir::Value) -> ir::Value {
        let [low, high] = [low, high].map(|part| {
            let narrow = self.function.ins().fvdemote(part);
            self.cast(types::I8X16, narrow)
        });
        let joined = self.shuffle(low, high, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
        self.cast(types::F32X4, joined)
    }

    fn convert_scalar(&mut self, from: DType, to: DType, a: ir::Value) -> ir::Value {
        let ty = super::lane_type(to);
        let signed = from.is_signed_integer();
        match (from.is_float(), to.is_float()) {
            (true, true) => match (from, to) {
                (DType::F32, DType::F64) => self.function.ins().fpromote(ty, a),
                (DType::F64, DType::F32) => self.function.ins().fdemote(ty, a),
                _ => a,
            },
            (true, false) if to.is_signed_integer() => self.function.ins().fcvt_to_sint_sat(ty, a),
            (true, false) => self.function.ins().fcvt_to_uint_sat(ty, a),
            (false, true) if signed => self.function.ins().fcvt_from_sint(ty, a),
            (false, true) => self.function.ins().fcvt_from_uint(ty, a),
            (false, false) => match (from.bytes(), to.bytes()) {
                (4, 8) if signed => self.function.ins().sextend(ty, a),
                (4, 8) => self.function.ins().uextend(ty, a),
                (8, 4) => self.function.ins().ireduce(ty, a),
                _ => a,
            },
        }
    }
}
