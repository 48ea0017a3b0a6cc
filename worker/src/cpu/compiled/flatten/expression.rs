//! Values: from naga's expressions to scalars.

use std::rc::Rc;

use naga::{BinaryOperator, Expression, Handle, Literal, MathFunction, ScalarKind, TypeInner, UnaryOperator};

use super::super::CompileError;
use super::super::flat::{Base, Block, Op, Place, Told, ValueId, VariableId};
use super::{Flat, Flattener, Frame};
use crate::dtype::DType;
use crate::interpreter::dtype_of;

/// The most elements of a value that a varying index chooses from without memory.
const CHOSEN_MAX: u64 = 4;
/// Operations that are looked through for the most that an index can be.
const BOUND_DEPTH: u32 = 6;

impl<'a> Flattener<'a> {
    /// What an expression stands for, evaluated here if nothing evaluated it before: it is constant then.
    pub(super) fn flat(
        &mut self,
        frame: &mut Frame<'a>,
        handle: Handle<Expression>,
        out: &mut Block,
    ) -> Result<Flat, CompileError> {
        match &frame.known[handle.index()] {
            Some(flat) => Ok(flat.clone()),
            None => self.evaluate(frame, handle, out),
        }
    }

    pub(super) fn words(
        &mut self,
        frame: &mut Frame<'a>,
        handle: Handle<Expression>,
        out: &mut Block,
    ) -> Result<Rc<[ValueId]>, CompileError> {
        match self.flat(frame, handle, out)? {
            Flat::Words(words) => Ok(words),
            Flat::Pointer(_) => Err(CompileError::Operation("a pointer as a value")),
        }
    }

    pub(super) fn scalar(
        &mut self,
        frame: &mut Frame<'a>,
        handle: Handle<Expression>,
        out: &mut Block,
    ) -> Result<ValueId, CompileError> {
        Ok(self.words(frame, handle, out)?[0])
    }

    pub(super) fn place(
        &mut self,
        frame: &mut Frame<'a>,
        handle: Handle<Expression>,
        out: &mut Block,
    ) -> Result<Place, CompileError> {
        match self.flat(frame, handle, out)? {
            Flat::Pointer(place) => Ok(place),
            Flat::Words(_) => Err(CompileError::Operation("a value as a pointer")),
        }
    }

    /// Evaluates an expression here.
    pub(super) fn evaluate(
        &mut self,
        frame: &mut Frame<'a>,
        handle: Handle<Expression>,
        out: &mut Block,
    ) -> Result<Flat, CompileError> {
        let words = match frame.function.expressions[handle] {
            Expression::Literal(literal) => vec![self.literal(literal)?],
            Expression::Constant(constant) => self.global(self.module.constants[constant].init)?,
            Expression::ZeroValue(ty) => self.zero(ty)?,
            Expression::FunctionArgument(index) => return Ok(frame.arguments[index as usize].clone()),
            Expression::LocalVariable(local) => {
                let base = Base::Variable(VariableId(frame.locals + local.index() as u32));
                return Ok(Flat::Pointer(Place { base, offset: 0, index: None }));
            }
            Expression::GlobalVariable(variable) => {
                let base = self.globals.get(variable.index()).copied().flatten();
                let base = base.ok_or(CompileError::Operation("this variable"))?;
                return Ok(Flat::Pointer(Place { base, offset: 0, index: None }));
            }
            Expression::ArrayLength(array) => vec![self.array_length(frame, array, out)?],
            Expression::Compose { ref components, .. } => {
                let mut words = Vec::new();
                for &component in components {
                    words.extend_from_slice(&self.words(frame, component, out)?);
                }
                self.count(words.len() / 4)?;
                words
            }
            Expression::Splat { size, value } => vec![self.scalar(frame, value, out)?; size as usize],
            Expression::Swizzle { size, vector, pattern } => {
                let words = self.words(frame, vector, out)?;
                pattern[..size as usize].iter().map(|&component| words[component as usize]).collect()
            }
            Expression::AccessIndex { base, index } => return self.member(frame, base, index, out),
            Expression::Access { base, index } => return self.element(frame, base, index, out),
            Expression::Load { pointer } => {
                let place = self.place(frame, pointer, out)?;
                let count = self.types.of(frame.info[handle].ty.inner_with(&self.module.types))? as u32;
                let places = (0..count).map(|at| Place { offset: place.offset + at, ..place });
                places.map(|place| self.load(place, out)).collect::<Result<_, _>>()?
            }
            Expression::Unary { op, expr } => {
                let words = self.words(frame, expr, out)?;
                words.iter().map(|&word| self.unary(op, word, out)).collect::<Result<_, _>>()?
            }
            Expression::Binary { op, left, right } => self.operator(frame, op, left, right, out)?,
            Expression::Select { condition, accept, reject } => self.select(frame, [condition, accept, reject], out)?,
            Expression::Relational { fun, argument } => {
                let words = self.words(frame, argument, out)?;
                self.relational(fun, &words, out)?
            }
            Expression::Math { fun, arg, arg1, arg2, arg3 } => {
                self.function(frame, (handle, fun), (arg, [arg1, arg2, arg3]), out)?
            }
            Expression::As { expr, kind, convert } => {
                let words = self.words(frame, expr, out)?;
                words.iter().map(|&word| self.cast(word, kind, convert, out)).collect::<Result<_, _>>()?
            }
            _ => return Err(CompileError::Operation("this expression")),
        };
        Ok(Flat::Words(words.into()))
    }

    /// Word by word; one condition may be for all.
    fn select(
        &mut self,
        frame: &mut Frame<'a>,
        parts: [Handle<Expression>; 3],
        out: &mut Block,
    ) -> Result<Vec<ValueId>, CompileError> {
        let [condition, accept, reject] = parts.map(|part| self.words(frame, part, out));
        let (condition, accept, reject) = (condition?, accept?, reject?);
        let each = accept.iter().zip(reject.iter()).enumerate();
        let select = |(at, (&accept, &reject)): (usize, (&ValueId, &ValueId))| {
            let operands = [condition[at.min(condition.len() - 1)], accept, reject];
            self.emit(Op::Select, self.program.dtype(accept), &operands, out)
        };
        each.map(select).collect()
    }

    /// A function of the language, of one to four arguments.
    fn function(
        &mut self,
        frame: &mut Frame<'a>,
        (handle, function): (Handle<Expression>, MathFunction),
        (first, others): (Handle<Expression>, [Option<Handle<Expression>>; 3]),
        out: &mut Block,
    ) -> Result<Vec<ValueId>, CompileError> {
        let mut arguments = Vec::new();
        for argument in std::iter::once(first).chain(others.into_iter().flatten()) {
            arguments.push(self.words(frame, argument, out)?);
        }
        let rows = match *self.inner(frame, first) {
            TypeInner::Matrix { rows, .. } => rows as usize,
            _ => 1,
        };
        let dtypes = self.dtypes(frame.info[handle].ty.inner_with(&self.module.types))?;
        self.math(function, rows, &arguments, &dtypes, out)
    }

    fn inner(&self, frame: &Frame<'a>, handle: Handle<Expression>) -> &'a TypeInner {
        let info = frame.info;
        info[handle].ty.inner_with(&self.module.types)
    }

    fn literal(&mut self, literal: Literal) -> Result<ValueId, CompileError> {
        let (dtype, word) = match literal {
            Literal::F32(value) => (DType::F32, u64::from(value.to_bits())),
            Literal::F64(value) => (DType::F64, value.to_bits()),
            Literal::I32(value) => (DType::I32, u64::from(value as u32)),
            Literal::U32(value) => (DType::U32, u64::from(value)),
            Literal::I64(value) => (DType::I64, value as u64),
            Literal::U64(value) => (DType::U64, value),
            Literal::Bool(value) => (DType::Bool, u64::from(value)),
            _ => return Err(CompileError::Operation("an abstract or 16-bit number")),
        };
        self.constant(dtype, word)
    }

    fn zero(&mut self, ty: Handle<naga::Type>) -> Result<Vec<ValueId>, CompileError> {
        let dtypes = self.dtypes(&self.module.types[ty].inner)?;
        dtypes.into_iter().map(|dtype| self.constant(dtype, 0)).collect()
    }

    /// A constant of the module.
    pub(super) fn global(&mut self, handle: Handle<Expression>) -> Result<Vec<ValueId>, CompileError> {
        match self.module.global_expressions[handle] {
            Expression::Literal(literal) => Ok(vec![self.literal(literal)?]),
            Expression::Constant(constant) => self.global(self.module.constants[constant].init),
            Expression::ZeroValue(ty) => self.zero(ty),
            Expression::Compose { ref components, .. } => {
                let mut words = Vec::new();
                for &component in components {
                    words.append(&mut self.global(component)?);
                }
                Ok(words)
            }
            Expression::Splat { size, value } => Ok(vec![self.global(value)?[0]; size as usize]),
            _ => Err(CompileError::Operation("a constant that was not folded")),
        }
    }

    fn member(
        &mut self,
        frame: &mut Frame<'a>,
        base: Handle<Expression>,
        index: u32,
        out: &mut Block,
    ) -> Result<Flat, CompileError> {
        let types = &self.module.types;
        let inner = match *self.inner(frame, base) {
            TypeInner::Pointer { base, .. } => &types[base].inner,
            ref other => other,
        };
        let words_of = |flattener: &Self, ty| flattener.types.of_type(ty).map(|words| words as u32);
        let (offset, count) = match *inner {
            TypeInner::Vector { .. } | TypeInner::ValuePointer { .. } => (index, 1),
            TypeInner::Matrix { rows, .. } => (index * rows as u32, rows as u32),
            TypeInner::Array { base, .. } => (index * words_of(self, base)?, words_of(self, base)?),
            TypeInner::Struct { ref members, .. } => {
                let mut offset = 0;
                for member in &members[..index as usize] {
                    offset += words_of(self, member.ty)?;
                }
                (offset, words_of(self, members[index as usize].ty)?)
            }
            _ => return Err(CompileError::Operation("a member of what has none")),
        };
        Ok(match self.flat(frame, base, out)? {
            Flat::Words(words) => {
                self.count(count as usize / 4)?;
                Flat::Words(words[offset as usize..(offset + count) as usize].into())
            }
            Flat::Pointer(place) => Flat::Pointer(Place { offset: place.offset + offset, ..place }),
        })
    }

    fn element(
        &mut self,
        frame: &mut Frame<'a>,
        base: Handle<Expression>,
        index: Handle<Expression>,
        out: &mut Block,
    ) -> Result<Flat, CompileError> {
        let types = &self.module.types;
        let inner = match *self.inner(frame, base) {
            TypeInner::Pointer { base, .. } => &types[base].inner,
            ref other => other,
        };
        let (length, stride) = match *inner {
            TypeInner::Vector { size, .. } | TypeInner::ValuePointer { size: Some(size), .. } => (size as u64, 1),
            TypeInner::Matrix { columns, rows, .. } => (columns as u64, rows as u64),
            TypeInner::Array { base, size: naga::ArraySize::Constant(length), .. } => {
                (u64::from(length.get()), self.types.of_type(base)?)
            }
            // The last index is outside every buffer.
            TypeInner::Array { base, size: naga::ArraySize::Dynamic, .. } => (1 << 32, self.types.of_type(base)?),
            _ => return Err(CompileError::Operation("an index into what has no elements")),
        };
        let index = self.scalar(frame, index, out)?;
        let index = self.clamped(index, length - 1, out)?;
        match self.flat(frame, base, out)? {
            Flat::Pointer(place) => {
                if let Base::Variable(variable) = place.base {
                    self.program.variables[variable.0 as usize].is_indexed = true;
                }
                let mut sum = index;
                if stride != 1 {
                    let stride = self.constant(DType::U32, stride)?;
                    sum = self.binary(BinaryOperator::Multiply, index, stride, out)?;
                }
                if let Some(before) = place.index {
                    sum = self.binary(BinaryOperator::Add, before, sum, out)?;
                }
                Ok(Flat::Pointer(Place { index: Some(sum), ..place }))
            }
            Flat::Words(words) => self.chosen(&words, index, length, stride, out),
        }
    }

    /// An index as a `u32` of at most `last`.
    fn clamped(&mut self, index: ValueId, last: u64, out: &mut Block) -> Result<ValueId, CompileError> {
        let (signed, unsigned) = match self.program.dtype(index) {
            DType::I32 | DType::U32 => (DType::I32, DType::U32),
            _ => (DType::I64, DType::U64),
        };
        let mut index = index;
        if self.program.dtype(index) == signed {
            index = self.emit(Op::Bitcast, unsigned, &[index], out)?;
        }
        if self.bound(index, BOUND_DEPTH) > last {
            let last = self.constant(unsigned, last)?;
            index = self.emit(Op::Math(naga::MathFunction::Min), unsigned, &[index, last], out)?;
        }
        if unsigned == DType::U64 {
            index = self.emit(Op::Convert, DType::U32, &[index], out)?;
        }
        Ok(index)
    }

    /// What an unsigned value never exceeds, as its operations tell, `depth` of them deep.
    fn bound(&self, id: ValueId, depth: u32) -> u64 {
        let value = self.program.value(id);
        let most = if value.dtype.bytes() == 4 { u64::from(u32::MAX) } else { u64::MAX };
        let Some(depth) = depth.checked_sub(1) else { return most };
        let of = |at: usize| self.bound(value.operands[at], depth);
        let signed = |at: usize| self.program.dtype(value.operands[at]).is_signed_integer();
        let found = match value.op {
            Op::Constant(word) => word,
            Op::Told(Told::Local(axis)) => u64::from(self.workgroup[axis]) - 1,
            Op::Told(Told::LocalIndex) => self.workgroup.iter().map(|&size| u64::from(size)).product::<u64>() - 1,
            Op::Binary(BinaryOperator::And) => of(0).min(of(1)),
            Op::Binary(_) if signed(0) => most,
            Op::Binary(BinaryOperator::Add) => of(0).saturating_add(of(1)),
            Op::Binary(BinaryOperator::Multiply) => of(0).saturating_mul(of(1)),
            Op::Binary(BinaryOperator::Divide | BinaryOperator::ShiftRight) => of(0),
            Op::Binary(BinaryOperator::Modulo) => match self.program.value(value.operands[1]).op {
                Op::Constant(divisor) if divisor > 0 => of(0).min(divisor - 1),
                _ => of(0),
            },
            Op::Math(naga::MathFunction::Min) if !signed(0) => of(0).min(of(1)),
            Op::Bitcast if !signed(0) || matches!(self.program.value(value.operands[0]).op, Op::Constant(_)) => of(0),
            _ => most,
        };
        // What may have wrapped may be anything.
        if found > most { most } else { found }
    }

    /// An element of a value.
    fn chosen(
        &mut self,
        words: &[ValueId],
        index: ValueId,
        length: u64,
        stride: u64,
        out: &mut Block,
    ) -> Result<Flat, CompileError> {
        let stride = stride as usize;
        if length <= CHOSEN_MAX {
            let mut elements = words.chunks(stride).rev();
            let mut chosen = elements.next().unwrap_or_default().to_vec();
            for (at, element) in elements.enumerate() {
                let at = self.constant(DType::U32, length - 2 - at as u64)?;
                let is_it = self.binary(BinaryOperator::Equal, index, at, out)?;
                for (chosen, &word) in chosen.iter_mut().zip(element) {
                    let dtype = self.program.dtype(word);
                    *chosen = self.emit(Op::Select, dtype, &[is_it, word, *chosen], out)?;
                }
            }
            return Ok(Flat::Words(chosen.into()));
        }
        let base = self.memory_of(words, out)?;
        let factor = self.constant(DType::U32, stride as u64)?;
        let index = Some(self.binary(BinaryOperator::Multiply, index, factor, out)?);
        let places = (0..stride as u32).map(|offset| Place { base, offset, index });
        let chosen = places.map(|place| self.load(place, out)).collect::<Result<Vec<_>, _>>()?;
        Ok(Flat::Words(chosen.into()))
    }

    /// These words in memory.
    fn memory_of(&mut self, words: &[ValueId], out: &mut Block) -> Result<Base, CompileError> {
        let dtypes: Vec<DType> = words.iter().map(|&word| self.program.dtype(word)).collect();
        let constants: Result<Vec<u64>, _> = words.iter().map(|&word| self.constant_word(word)).collect();
        if let Ok(constants) = constants
            && dtypes.iter().all(|&dtype| dtype == dtypes[0])
        {
            let known = self.program.tables.iter().position(|table| (table.0, &table.1) == (dtypes[0], &constants));
            let table = known.unwrap_or(self.program.tables.len());
            if known.is_none() {
                self.program.tables.push((dtypes[0], constants));
            }
            return Ok(Base::Table(table as u32));
        }
        let variable = self.variable(dtypes, None)?;
        self.program.variables[variable.0 as usize].is_indexed = true;
        let base = Base::Variable(variable);
        self.store_words(Place { base, offset: 0, index: None }, words, out)?;
        Ok(base)
    }

    fn unary(&mut self, op: UnaryOperator, word: ValueId, out: &mut Block) -> Result<ValueId, CompileError> {
        self.emit(Op::Unary(op), self.program.dtype(word), &[word], out)
    }

    pub(super) fn binary(
        &mut self,
        op: BinaryOperator,
        left: ValueId,
        right: ValueId,
        out: &mut Block,
    ) -> Result<ValueId, CompileError> {
        use BinaryOperator::*;
        let dtype = match op {
            Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual | LogicalAnd | LogicalOr => DType::Bool,
            Add | Subtract | Multiply | Divide | Modulo | And | ExclusiveOr | InclusiveOr | ShiftLeft | ShiftRight => {
                self.program.dtype(left)
            }
        };
        self.emit(Op::Binary(op), dtype, &[left, right], out)
    }

    fn operator(
        &mut self,
        frame: &mut Frame<'a>,
        op: BinaryOperator,
        left: Handle<Expression>,
        right: Handle<Expression>,
        out: &mut Block,
    ) -> Result<Vec<ValueId>, CompileError> {
        let is_matrix = |inner: &TypeInner| matches!(inner, TypeInner::Matrix { .. });
        let is_scalar = |inner: &TypeInner| matches!(inner, TypeInner::Scalar(_));
        let (a, b) = (self.inner(frame, left), self.inner(frame, right));
        let is_product =
            op == BinaryOperator::Multiply && (is_matrix(a) || is_matrix(b)) && !(is_scalar(a) || is_scalar(b));
        let (left, right) = (self.words(frame, left, out)?, self.words(frame, right, out)?);
        if is_product {
            let rows = if let TypeInner::Matrix { rows, .. } = *a { rows as usize } else { 1 };
            return self.product(rows, &left, &right, out);
        }
        // One scalar serves all components.
        let at = |words: &[ValueId], index: usize| words[index.min(words.len() - 1)];
        let count = left.len().max(right.len());
        (0..count).map(|index| self.binary(op, at(&left, index), at(&right, index), out)).collect()
    }

    fn cast(
        &mut self,
        word: ValueId,
        kind: ScalarKind,
        convert: Option<naga::Bytes>,
        out: &mut Block,
    ) -> Result<ValueId, CompileError> {
        let from = self.program.dtype(word);
        let (op, width) = match convert {
            Some(width) => (Op::Convert, width),
            None => (Op::Bitcast, from.bytes() as naga::Bytes),
        };
        let to = dtype_of(naga::Scalar { kind, width })?;
        if to == from { Ok(word) } else { self.emit(op, to, &[word], out) }
    }
}
