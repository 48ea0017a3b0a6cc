//! Built-in functions of whole vectors and matrices, and matrix products, as the scalar operations they are made of, in
//! the interpreter's order.

use std::rc::Rc;

use naga::{BinaryOperator, MathFunction, RelationalFunction, UnaryOperator};

use super::super::CompileError;
use super::super::flat::{Block, Op, ValueId};
use super::super::helper::{Function, Helper};
use super::Flattener;
use crate::dtype::DType;
use crate::interpreter::{componentwise, whole};

impl Flattener<'_> {
    /// The words of a built-in function's result, whose dtypes are `dtypes`; `rows` are the first argument's.
    pub(super) fn math(
        &mut self,
        function: MathFunction,
        rows: usize,
        arguments: &[Rc<[ValueId]>],
        dtypes: &[DType],
        out: &mut Block,
    ) -> Result<Vec<ValueId>, CompileError> {
        let a = &*arguments[0];
        let dtype = self.program.dtype(a[0]);
        if componentwise(function, dtype).is_some() {
            let component = |(at, &dtype): (usize, &DType)| {
                let operands: Vec<ValueId> = arguments.iter().map(|words| words[at.min(words.len() - 1)]).collect();
                self.emit(Op::Math(function), dtype, &operands, out)
            };
            return dtypes.iter().enumerate().map(component).collect();
        }
        match (function, arguments) {
            (MathFunction::Dot, [a, b]) => Ok(vec![self.dot(a, b, out)?]),
            (MathFunction::Length, [a]) => Ok(vec![self.length(a, out)?]),
            (MathFunction::Distance, [a, b]) => {
                let difference = self.zip(BinaryOperator::Subtract, a, b, out)?;
                Ok(vec![self.length(&difference, out)?])
            }
            (MathFunction::Normalize, [a]) => {
                let length = self.length(a, out)?;
                self.zip(BinaryOperator::Divide, a, &vec![length; a.len()], out)
            }
            (MathFunction::Cross, [a, b]) => {
                let component = |at: usize| {
                    let (next, after) = ((at + 1) % 3, (at + 2) % 3);
                    let left = self.binary(BinaryOperator::Multiply, a[next], b[after], out)?;
                    let right = self.binary(BinaryOperator::Multiply, b[next], a[after], out)?;
                    self.binary(BinaryOperator::Subtract, left, right, out)
                };
                (0..3).map(component).collect()
            }
            (MathFunction::FaceForward, [normal, incident, reference]) => {
                let dot = self.dot(incident, reference, out)?;
                let zero = self.constant(dtype, 0)?;
                let is_facing = self.binary(BinaryOperator::Less, dot, zero, out)?;
                let component = |&x: &ValueId| {
                    let negated = self.emit(Op::Unary(UnaryOperator::Negate), dtype, &[x], out)?;
                    self.emit(Op::Select, dtype, &[is_facing, x, negated], out)
                };
                normal.iter().map(component).collect()
            }
            (MathFunction::Reflect, [incident, normal]) => {
                let dot = self.dot(normal, incident, out)?;
                let two =
                    self.constant(dtype, if dtype == DType::F32 { 2f32.to_bits().into() } else { 2f64.to_bits() })?;
                let twice = self.binary(BinaryOperator::Multiply, two, dot, out)?;
                let along = self.zip(BinaryOperator::Multiply, &vec![twice; normal.len()], normal, out)?;
                self.zip(BinaryOperator::Subtract, incident, &along, out)
            }
            (MathFunction::Modf, [a]) => {
                let mut results = Vec::new();
                let mut wholes = Vec::new();
                for &x in a.iter() {
                    let whole = self.emit(Op::Math(MathFunction::Trunc), dtype, &[x], out)?;
                    results.push(self.binary(BinaryOperator::Subtract, x, whole, out)?);
                    wholes.push(whole);
                }
                results.append(&mut wholes);
                Ok(results)
            }
            (MathFunction::Transpose, [a]) => {
                let columns = a.len() / rows;
                Ok((0..a.len()).map(|to| a[(to % columns) * rows + to / columns]).collect())
            }
            _ => self.call_whole(function, rows, arguments, dtypes, out),
        }
    }

    /// A function that no instructions are made for: the interpreter's own, lane by lane.
    fn call_whole(
        &mut self,
        function: MathFunction,
        rows: usize,
        arguments: &[Rc<[ValueId]>],
        dtypes: &[DType],
        out: &mut Block,
    ) -> Result<Vec<ValueId>, CompileError> {
        let operands = arguments.concat();
        let first = self.program.dtype(operands[0]);
        let whole = whole(function, first).ok_or(CompileError::Operation("this built-in function"))?;
        let mut words = [0; 3];
        words.iter_mut().zip(arguments).for_each(|(words, argument)| *words = argument.len());
        self.program.helpers.push(Helper {
            function: Function::Whole { whole, rows, words },
            operands: operands.iter().map(|&operand| self.program.dtype(operand)).collect(),
            results: dtypes.into(),
        });
        let call = Op::Call(self.program.helpers.len() as u32 - 1);
        let call = self.emit(call, dtypes[0], &operands, out)?;
        dtypes.iter().zip(0..).map(|(&dtype, part)| self.emit(Op::Part(part), dtype, &[call], out)).collect()
    }

    pub(super) fn relational(
        &mut self,
        function: RelationalFunction,
        words: &[ValueId],
        out: &mut Block,
    ) -> Result<Vec<ValueId>, CompileError> {
        let join = match function {
            RelationalFunction::All => BinaryOperator::LogicalAnd,
            RelationalFunction::Any => BinaryOperator::LogicalOr,
            RelationalFunction::IsNan | RelationalFunction::IsInf => {
                let test = |&word| self.emit(Op::Test(function), DType::Bool, &[word], out);
                return words.iter().map(test).collect();
            }
        };
        let mut joined = words[0];
        for &word in &words[1..] {
            joined = self.binary(join, joined, word, out)?;
        }
        Ok(vec![joined])
    }

    /// The product of matrices, or of a matrix and a vector; `rows` are those of `a`.
    pub(super) fn product(
        &mut self,
        rows: usize,
        a: &[ValueId],
        b: &[ValueId],
        out: &mut Block,
    ) -> Result<Vec<ValueId>, CompileError> {
        let inner = a.len() / rows;
        let word = |index: usize| {
            let (column, row) = (index / rows, index % rows);
            let left: Vec<ValueId> = (0..inner).map(|k| a[k * rows + row]).collect();
            self.dot(&left, &b[column * inner..(column + 1) * inner], out)
        };
        (0..b.len() / inner * rows).map(word).collect()
    }

    fn zip(
        &mut self,
        op: BinaryOperator,
        a: &[ValueId],
        b: &[ValueId],
        out: &mut Block,
    ) -> Result<Vec<ValueId>, CompileError> {
        a.iter().zip(b).map(|(&a, &b)| self.binary(op, a, b, out)).collect()
    }

    fn dot(&mut self, a: &[ValueId], b: &[ValueId], out: &mut Block) -> Result<ValueId, CompileError> {
        let terms = self.zip(BinaryOperator::Multiply, a, b, out)?;
        let mut sum = terms[0];
        for &term in &terms[1..] {
            sum = self.binary(BinaryOperator::Add, sum, term, out)?;
        }
        Ok(sum)
    }

    fn length(&mut self, a: &[ValueId], out: &mut Block) -> Result<ValueId, CompileError> {
        let dtype = self.program.dtype(a[0]);
        match a {
            &[scalar] => self.emit(Op::Math(MathFunction::Abs), dtype, &[scalar], out),
            _ => {
                let square = self.dot(a, a, out)?;
                self.emit(Op::Math(MathFunction::Sqrt), dtype, &[square], out)
            }
        }
    }
}
