//! What each operation is made of: the interpreter's definitions, in a builder's operations.

use naga::{BinaryOperator, MathFunction, RelationalFunction, UnaryOperator};

use super::super::builder::{Binary, Builder, Unary};
use super::super::elementary::Lanes;
use super::super::flat::{Op, ValueId};
use super::super::helper::{Function, Helper};
use super::Lowering;
use crate::dtype::DType;
use crate::interpreter::{componentwise, operator};
use crate::math;

/// Calls an elementary function on lanes of either width.
macro_rules! elementary {
    ($self:ident, $dtype:ident, $single:path, $double:path, $($argument:ident),*) => {{
        let builder = $self.builder;
        match $dtype {
            DType::F32 => $single($(Lanes::<B, f32>::new(builder, $argument)),*).gang,
            _ => $double($(Lanes::<B, f64>::new(builder, $argument)),*).gang,
        }
    }};
}

impl<B: Builder> Lowering<'_, B> {
    /// The gang of a value, computed here.
    pub(super) fn evaluate(&mut self, id: ValueId) -> B::Gang {
        let value = self.program.value(id);
        let (op, to) = (value.op, value.dtype);
        if let Op::Part(part) = op {
            return self.calls[&value.operands[0]][part as usize];
        }
        let operands: Vec<B::Gang> = value.operands.iter().map(|&operand| self.gang(operand)).collect();
        let dtype = value.operands.first().map_or(to, |&operand| self.program.dtype(operand));
        match (op, &operands[..]) {
            (Op::Load(place), _) => self.load(place, to),
            (Op::Unary(UnaryOperator::Negate), &[a]) => self.unary(Unary::Negate, a),
            (Op::Unary(UnaryOperator::LogicalNot | UnaryOperator::BitwiseNot), &[a]) => self.unary(Unary::Not, a),
            (Op::Binary(op), &[a, b]) => self.operator(op, dtype, a, b),
            (Op::Select, &[condition, accept, reject]) => self.select(condition, accept, reject),
            (Op::Test(RelationalFunction::IsNan), &[a]) => self.binary(Binary::NotEqual, a, a),
            (Op::Test(_), &[a]) => {
                let (size, infinity) = (self.unary(Unary::Abs, a), self.number(dtype, f64::INFINITY));
                self.binary(Binary::Equal, size, infinity)
            }
            (Op::Math(function), operands) => self.math(function, dtype, operands),
            (Op::Convert, &[a]) => self.convert(a, dtype, to),
            (Op::Bitcast, &[a]) => {
                let a = self.canonical(a, dtype);
                self.builder().reinterpret(a, to)
            }
            (Op::Told(told), _) => self.builder().told(told),
            (Op::Length(buffer), _) => self.builder().length(buffer),
            (Op::Atomic(place, change), operands) => {
                let outside = self.outside(place).expect("validated: atomics are outside");
                let (index, mask) = (place.index.map(|index| self.gang(index)), self.mask());
                let results = self.builder().change(outside, (place.offset, index), change, operands, mask);
                self.calls.insert(id, results.to_vec());
                results[0]
            }
            (Op::Call(helper), operands) => {
                let results = self.builder().call(self.program.helpers[helper as usize].clone(), operands);
                let first = results[0];
                self.calls.insert(id, results);
                first
            }
            _ => unreachable!("the flattener gives each operation its operands"),
        }
    }

    fn unary(&self, op: Unary, a: B::Gang) -> B::Gang {
        self.builder().unary(op, a)
    }

    fn binary(&self, op: Binary, a: B::Gang, b: B::Gang) -> B::Gang {
        self.builder().binary(op, a, b)
    }

    fn select(&self, mask: B::Gang, accept: B::Gang, reject: B::Gang) -> B::Gang {
        self.builder().select(mask, accept, reject)
    }

    fn word(&self, dtype: DType, word: u64) -> B::Gang {
        self.builder().constant(dtype, word)
    }

    /// A small number of any dtype.
    fn number(&self, dtype: DType, value: f64) -> B::Gang {
        let word = match dtype {
            DType::F32 => u64::from((value as f32).to_bits()),
            DType::F64 => value.to_bits(),
            DType::I32 | DType::U32 => u64::from(value as i64 as u32),
            DType::I64 | DType::U64 | DType::Bool => value as i64 as u64,
        };
        self.word(dtype, word)
    }

    /// The canonical NaN for any NaN; what is no float stays as it is.
    pub(super) fn canonical(&self, a: B::Gang, dtype: DType) -> B::Gang {
        if !dtype.is_float() {
            return a;
        }
        let is_number = self.binary(Binary::Equal, a, a);
        let nan = self.number(dtype, f64::NAN);
        self.select(is_number, a, nan)
    }

    fn operator(&self, op: BinaryOperator, dtype: DType, a: B::Gang, b: B::Gang) -> B::Gang {
        let divide = match op {
            BinaryOperator::Add => return self.binary(Binary::Add, a, b),
            BinaryOperator::Subtract => return self.binary(Binary::Subtract, a, b),
            BinaryOperator::Multiply => return self.binary(Binary::Multiply, a, b),
            BinaryOperator::Equal => return self.binary(Binary::Equal, a, b),
            BinaryOperator::NotEqual => return self.binary(Binary::NotEqual, a, b),
            BinaryOperator::Less => return self.binary(Binary::Less, a, b),
            BinaryOperator::LessEqual => return self.binary(Binary::LessEqual, a, b),
            BinaryOperator::Greater => return self.binary(Binary::Less, b, a),
            BinaryOperator::GreaterEqual => return self.binary(Binary::LessEqual, b, a),
            BinaryOperator::And | BinaryOperator::LogicalAnd => return self.binary(Binary::And, a, b),
            BinaryOperator::InclusiveOr | BinaryOperator::LogicalOr => return self.binary(Binary::Or, a, b),
            BinaryOperator::ExclusiveOr => return self.binary(Binary::Xor, a, b),
            BinaryOperator::ShiftLeft => return self.binary(Binary::ShiftLeft, a, b),
            BinaryOperator::ShiftRight => return self.binary(Binary::ShiftRight, a, b),
            BinaryOperator::Divide => Binary::Divide,
            BinaryOperator::Modulo => Binary::Remainder,
        };
        if !dtype.is_float() {
            return self.binary(divide, a, self.divisor(dtype, a, b));
        }
        if divide == Binary::Divide {
            return self.binary(divide, a, b);
        }
        let function = Function::Map(operator(op, dtype).expect("floats have a remainder"));
        let helper = Helper { function, operands: [dtype; 2].into(), results: [dtype].into() };
        self.builder().call(helper, &[a, b])[0]
    }

    /// The divisor, but 1 where it is 0 or the quotient would overflow: x / 1 = x and x % 1 = 0 are what is defined.
    fn divisor(&self, dtype: DType, a: B::Gang, b: B::Gang) -> B::Gang {
        let (zero, one) = (self.word(dtype, 0), self.word(dtype, 1));
        let is_zero = self.binary(Binary::Equal, b, zero);
        let smallest = match dtype {
            DType::I32 => 1 << 31,
            DType::I64 => 1 << 63,
            _ => return self.select(is_zero, one, b),
        };
        let (smallest, minus_one) = (self.word(dtype, smallest), self.number(dtype, -1.0));
        let is_smallest = self.binary(Binary::Equal, a, smallest);
        let is_minus_one = self.binary(Binary::Equal, b, minus_one);
        let overflows = self.binary(Binary::And, is_smallest, is_minus_one);
        let is_bad = self.binary(Binary::Or, is_zero, overflows);
        self.select(is_bad, one, b)
    }

    fn between(&self, a: B::Gang, low: B::Gang, high: B::Gang) -> B::Gang {
        self.binary(Binary::OrLess, self.binary(Binary::OrGreater, a, low), high)
    }

    fn convert(&self, a: B::Gang, from: DType, to: DType) -> B::Gang {
        let limit = match (from, to) {
            (_, DType::Bool) => {
                let zero = self.word(from, 0);
                return self.binary(Binary::NotEqual, a, zero);
            }
            (DType::F32, DType::I32) => 2_147_483_520.0,
            (DType::F32, DType::U32) => 4_294_967_040.0,
            (DType::F32, DType::I64) => 9_223_371_487_098_961_920.0,
            (DType::F32, DType::U64) => 18_446_742_974_197_923_840.0,
            (DType::F64, DType::I32) => 2_147_483_647.0,
            (DType::F64, DType::U32) => 4_294_967_295.0,
            (DType::F64, DType::I64) => 9_223_372_036_854_774_784.0,
            (DType::F64, DType::U64) => 18_446_744_073_709_549_568.0,
            _ => return self.builder().convert(a, to),
        };
        // The largest float that is not above the integers' largest; NaN stays.
        let limit = self.number(from, limit);
        let a = self.binary(Binary::OrLess, a, limit);
        self.builder().convert(a, to)
    }

    fn math(&self, function: MathFunction, dtype: DType, operands: &[B::Gang]) -> B::Gang {
        match (function, operands) {
            (MathFunction::Abs, &[a]) if matches!(dtype, DType::U32 | DType::U64) => a,
            (MathFunction::Abs, &[a]) => self.unary(Unary::Abs, a),
            (MathFunction::Min, &[a, b]) => self.binary(Binary::OrLess, a, b),
            (MathFunction::Max, &[a, b]) => self.binary(Binary::OrGreater, a, b),
            (MathFunction::Clamp, &[a, low, high]) => self.between(a, low, high),
            (MathFunction::Sign, &[a]) => self.sign(dtype, a),
            (MathFunction::CountLeadingZeros, &[a]) => self.unary(Unary::LeadingZeros, a),
            (MathFunction::CountTrailingZeros, &[a]) => self.unary(Unary::TrailingZeros, a),
            (MathFunction::CountOneBits, &[a]) => self.unary(Unary::Ones, a),
            (MathFunction::ReverseBits, &[a]) => self.unary(Unary::ReverseBits, a),
            _ => {
                let native = if dtype.is_float() { self.float(function, dtype, operands) } else { None };
                native.unwrap_or_else(|| self.helper(function, dtype, operands))
            }
        }
    }

    fn float(&self, function: MathFunction, dtype: DType, operands: &[B::Gang]) -> Option<B::Gang> {
        let number = |value| self.number(dtype, value);
        let (one, zero) = (number(1.0), number(0.0));
        let (plus, minus) = (|a, b| self.binary(Binary::Add, a, b), |a, b| self.binary(Binary::Subtract, a, b));
        let times = |a, b| self.binary(Binary::Multiply, a, b);
        Some(match (function, operands) {
            (MathFunction::Saturate, &[a]) => self.between(a, zero, one),
            (MathFunction::Sqrt, &[a]) => self.unary(Unary::Sqrt, a),
            (MathFunction::Ceil, &[a]) => self.unary(Unary::Ceil, a),
            (MathFunction::Floor, &[a]) => self.unary(Unary::Floor, a),
            (MathFunction::Round, &[a]) => self.unary(Unary::Round, a),
            (MathFunction::Trunc, &[a]) => self.unary(Unary::Truncate, a),
            (MathFunction::Fract, &[a]) => minus(a, self.unary(Unary::Floor, a)),
            (MathFunction::Fma, &[a, b, c]) => self.builder().fma(a, b, c),
            (MathFunction::Radians, &[a]) => times(a, number(std::f64::consts::PI / 180.0)),
            (MathFunction::Degrees, &[a]) => times(a, number(180.0 / std::f64::consts::PI)),
            (MathFunction::Mix, &[a, b, t]) => plus(times(a, minus(one, t)), times(b, t)),
            (MathFunction::Step, &[edge, x]) => self.select(self.binary(Binary::LessEqual, edge, x), one, zero),
            (MathFunction::SmoothStep, &[low, high, x]) => {
                let fraction = self.binary(Binary::Divide, minus(x, low), minus(high, low));
                let t = self.between(fraction, zero, one);
                times(times(t, t), minus(number(3.0), times(number(2.0), t)))
            }
            (MathFunction::Sin, &[a]) => elementary!(self, dtype, math::sin, math::sin, a),
            (MathFunction::Cos, &[a]) => elementary!(self, dtype, math::cos, math::cos, a),
            (MathFunction::Tan, &[a]) => elementary!(self, dtype, math::tan, math::tan, a),
            (MathFunction::Asin, &[a]) => elementary!(self, dtype, math::asin, math::asin, a),
            (MathFunction::Acos, &[a]) => elementary!(self, dtype, math::acos, math::acos, a),
            (MathFunction::Atan, &[a]) => elementary!(self, dtype, math::atan, math::atan, a),
            (MathFunction::Atan2, &[y, x]) => elementary!(self, dtype, math::atan2, math::atan2, y, x),
            (MathFunction::Sinh, &[a]) => elementary!(self, dtype, math::sinh, math::sinh, a),
            (MathFunction::Cosh, &[a]) => elementary!(self, dtype, math::cosh, math::cosh, a),
            (MathFunction::Tanh, &[a]) => elementary!(self, dtype, math::tanh, math::tanh, a),
            (MathFunction::Asinh, &[a]) => elementary!(self, dtype, math::asinh, math::asinh, a),
            (MathFunction::Acosh, &[a]) => elementary!(self, dtype, math::acosh, math::acosh, a),
            (MathFunction::Atanh, &[a]) => elementary!(self, dtype, math::atanh, math::atanh, a),
            (MathFunction::Exp, &[a]) => elementary!(self, dtype, math::exp, math::exp, a),
            (MathFunction::Exp2, &[a]) => elementary!(self, dtype, math::exp2, math::exp2, a),
            (MathFunction::Log, &[a]) => elementary!(self, dtype, math::log, math::log, a),
            (MathFunction::Log2, &[a]) => elementary!(self, dtype, math::log2, math::log2, a),
            (MathFunction::InverseSqrt, &[a]) => elementary!(self, dtype, math::inverse_sqrt, math::inverse_sqrt, a),
            (MathFunction::Pow, &[a, b]) => elementary!(self, dtype, math::pow_single, math::pow_double, a, b),
            _ => return None,
        })
    }

    fn sign(&self, dtype: DType, a: B::Gang) -> B::Gang {
        let (zero, one) = (self.word(dtype, 0), self.number(dtype, 1.0));
        if matches!(dtype, DType::U32 | DType::U64) {
            return self.select(self.binary(Binary::Equal, a, zero), zero, one);
        }
        let is_positive = self.binary(Binary::Less, zero, a);
        let is_negative = self.binary(Binary::Less, a, zero);
        // What is neither is NaN, which stays, or zero, whose sign goes.
        let is_zero = self.binary(Binary::Equal, a, zero);
        let rest = self.select(is_zero, zero, a);
        let rest = self.select(is_negative, self.number(dtype, -1.0), rest);
        self.select(is_positive, one, rest)
    }

    /// A function that no instructions are made for: the interpreter's own, lane by lane.
    fn helper(&self, function: MathFunction, dtype: DType, operands: &[B::Gang]) -> B::Gang {
        let map = componentwise(function, dtype).expect("the flattener found it");
        // The operands after the first are of its dtype too, but for exponents, offsets and counts.
        let mut dtypes = vec![dtype; operands.len()];
        match function {
            MathFunction::Ldexp => dtypes[1] = DType::I32,
            MathFunction::ExtractBits => dtypes[1..].fill(DType::U32),
            MathFunction::InsertBits => dtypes[2..].fill(DType::U32),
            _ => {}
        }
        let result = if function == MathFunction::Dot4I8Packed { DType::I32 } else { dtype };
        let helper = Helper { function: Function::Map(map), operands: dtypes.into(), results: [result].into() };
        self.builder().call(helper, operands)[0]
    }
}
