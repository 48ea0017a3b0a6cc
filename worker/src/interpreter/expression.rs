//! From naga's expressions to [`Step`]s.

use naga::front::Typifier;
use naga::proc::{ExpressionKindTracker, ResolveContext};
use naga::{AddressSpace, Arena, Expression, Handle, Literal, MathFunction, Module, ScalarKind, TypeInner};

use super::code::{Element, Lanes, Place, Span, Step};
use super::memory::{Outside, Pointer};
use super::number::Word;
use super::operator::{self, Map};
use super::run::evaluate;
use super::types::{TypeWords, dtype_of};
use super::{InterpretError, STACK_BYTES_MAX, builtin, vector};
use crate::dtype::DType;

/// What the functions of a program share.
pub(super) struct Shared<'a> {
    pub module: &'a Module,
    pub types: TypeWords,
    /// Whether barriers and atomics may be used.
    pub is_block: bool,
    /// The start of the stack: private variables, then constants.
    pub words: Vec<u64>,
    /// How many of the words are private variables.
    pub private_words: usize,
    /// The module's own constant expressions; an unusable one is an error only where it is used.
    pub globals: Vec<Result<Span, InterpretError>>,
    /// What points at each module variable; an unusable variable is an error only where it is used.
    pub variables: Vec<Result<Pointer, InterpretError>>,
}

impl Shared<'_> {
    /// Room at the end, zeroed.
    pub(super) fn room(&mut self, words: usize) -> Result<Span, InterpretError> {
        let at = self.words.len();
        check_words(at.saturating_add(words))?;
        self.words.resize(at + words, 0);
        Ok(Span { place: Place { at, in_frame: false }, words })
    }
}

/// An error if a stack of this many words would be too large.
pub(super) fn check_words(words: usize) -> Result<(), InterpretError> {
    if words as u64 > STACK_BYTES_MAX / 8 { Err(InterpretError::FrameTooLarge) } else { Ok(()) }
}

/// The length that stands for that of an array of no fixed length: its last index is outside every buffer.
const BEYOND_BUFFERS: u64 = 1 << 32;

/// The expressions of one arena, digested in order.
pub(super) struct Expressions<'s, 'a> {
    shared: &'s mut Shared<'a>,
    arena: &'a Arena<Expression>,
    context: ResolveContext<'s>,
    typifier: Typifier,
    constness: ExpressionKindTracker,
    /// Where the value of each expression is, so far as it is known.
    spans: Vec<Span>,
    /// Where each argument and local variable is in the frame.
    arguments: &'s [Span],
    locals: &'s [Span],
    /// The words of the frame so far.
    frame_words: usize,
    /// See [`super::code::Function::pointers`].
    pub pointers: Vec<(usize, usize)>,
}

impl<'s, 'a> Expressions<'s, 'a> {
    /// For expressions whose frame begins with these arguments and local variables.
    pub(super) fn new(
        shared: &'s mut Shared<'a>,
        arena: &'a Arena<Expression>,
        context: ResolveContext<'s>,
        arguments: &'s [Span],
        locals: &'s [Span],
        frame_words: usize,
    ) -> Expressions<'s, 'a> {
        let constness = ExpressionKindTracker::from_arena(arena);
        let (typifier, spans, pointers) = (Typifier::new(), Vec::with_capacity(arena.len()), Vec::new());
        Expressions { shared, arena, context, typifier, constness, spans, arguments, locals, frame_words, pointers }
    }

    /// Finds a place for the next expression of the arena, and its value if it is constant.
    pub(super) fn place_next(&mut self, handle: Handle<Expression>) -> Result<Span, InterpretError> {
        let span = self.place(handle);
        self.spans.push(span.clone().unwrap_or(Span::EMPTY));
        let span = span?;
        if self.constness.is_const(handle) {
            for step in self.steps(handle)? {
                evaluate(&step, &mut self.shared.words, &Outside::default(), 0);
            }
        }
        Ok(span)
    }

    /// Where an expression's value is.
    pub(super) fn span(&self, handle: Handle<Expression>) -> Span {
        self.spans[handle.index()]
    }

    /// The value of a constant expression.
    pub(super) fn constant_words(&self, span: Span) -> Result<&[u64], InterpretError> {
        match span.place.in_frame {
            true => Err(InterpretError::Invalid("an initializer that is not constant")),
            false => Ok(&self.shared.words[span.range(0)]),
        }
    }

    /// The steps that evaluate an expression where naga emits it: none for what was known before.
    pub(super) fn emitted(&self, handle: Handle<Expression>) -> Result<Vec<Step>, InterpretError> {
        if self.constness.is_const(handle) { Ok(Vec::new()) } else { self.steps(handle) }
    }

    /// Whether barriers and atomics may be used.
    pub(super) fn is_block(&self) -> bool {
        self.shared.is_block
    }

    /// All words of the frame.
    pub(super) fn frame_words(&self) -> usize {
        self.frame_words
    }

    fn place(&mut self, handle: Handle<Expression>) -> Result<Span, InterpretError> {
        let invalid = |_| InterpretError::Invalid("an expression has no type");
        self.typifier.grow(handle, self.arena, &self.context).map_err(invalid)?;
        let words = self.shared.types.of(self.inner(handle))? as usize;
        match self.arena[handle] {
            Expression::Override(_) => Err(InterpretError::Operation("override")),
            Expression::FunctionArgument(index) => Ok(self.arguments[index as usize]),
            Expression::Constant(constant) => {
                let init = self.shared.module.constants[constant].init;
                self.shared.globals[init.index()].clone()
            }
            Expression::Literal(literal) => {
                let span = self.shared.room(1)?;
                self.shared.words[span.place.at] = literal_word(literal)?;
                Ok(span)
            }
            Expression::GlobalVariable(variable) => {
                let target = self.shared.variables[variable.index()].clone()?;
                let span = self.shared.room(1)?;
                self.shared.words[span.place.at] = target.word();
                Ok(span)
            }
            Expression::LocalVariable(variable) => {
                let span = self.frame(1)?;
                self.pointers.push((span.place.at, self.locals[variable.index()].place.at));
                Ok(span)
            }
            Expression::AccessIndex { base, index } if !is_pointer(self.inner(base)) => {
                Ok(Span { place: self.span(base).place.plus(self.member_offset(base, index)?), words })
            }
            _ if self.constness.is_const(handle) => self.shared.room(words),
            _ => self.frame(words),
        }
    }

    fn frame(&mut self, words: usize) -> Result<Span, InterpretError> {
        let at = self.frame_words;
        check_words(at.saturating_add(words))?;
        self.frame_words += words;
        Ok(Span { place: Place { at, in_frame: true }, words })
    }

    fn steps(&self, handle: Handle<Expression>) -> Result<Vec<Step>, InterpretError> {
        let to = self.span(handle);
        let step = match self.arena[handle] {
            Expression::Literal(_)
            | Expression::Constant(_)
            | Expression::ZeroValue(_)
            | Expression::FunctionArgument(_)
            | Expression::GlobalVariable(_)
            | Expression::LocalVariable(_)
            | Expression::CallResult(_)
            | Expression::AtomicResult { .. }
            | Expression::WorkGroupUniformLoadResult { .. } => return Ok(Vec::new()),
            Expression::Compose { ref components, .. } => return Ok(self.compose(components, to)),
            Expression::AccessIndex { base, index } => {
                if !is_pointer(self.inner(base)) {
                    return Ok(Vec::new());
                }
                let offset = self.member_offset(base, index)?;
                Step::Member { pointer: self.span(base).place, offset, to: to.place }
            }
            Expression::Access { base, index } => self.access(base, index, to)?,
            Expression::Splat { value, .. } => Step::Swizzle { from: self.span(value).place, pattern: [0; 4], to },
            Expression::Swizzle { vector, pattern, .. } => {
                Step::Swizzle { from: self.span(vector).place, pattern: pattern.map(|component| component as u8), to }
            }
            Expression::Load { pointer } => Step::Load { pointer: self.span(pointer).place, to },
            Expression::Unary { op, expr } => {
                let map = operator::unary(op, self.dtype(expr)?).ok_or(InterpretError::Invalid("unary operator"))?;
                self.map(map, &[expr], to)
            }
            Expression::Binary { op, left, right } => self.binary(op, left, right, to)?,
            Expression::Select { condition, accept, reject } => {
                self.map(operator::select(), &[condition, accept, reject], to)
            }
            Expression::Relational { fun, argument } => match vector::relational(fun) {
                Some(whole) => self.whole(whole, &[argument], to),
                None => {
                    let map = operator::float_test(fun, self.dtype(argument)?);
                    self.map(map.ok_or(InterpretError::Invalid("relational function"))?, &[argument], to)
                }
            },
            Expression::Math { fun, arg, arg1, arg2, arg3 } => {
                let arguments: Vec<_> = [Some(arg), arg1, arg2, arg3].into_iter().flatten().collect();
                self.math(fun, &arguments, to)?
            }
            Expression::As { expr, kind, convert } => self.cast(expr, kind, convert, to)?,
            Expression::Override(_) => return Err(InterpretError::Operation("override")),
            Expression::ImageSample { .. } => return Err(InterpretError::Operation("textureSample")),
            Expression::ImageLoad { .. } => return Err(InterpretError::Operation("textureLoad")),
            Expression::ImageQuery { .. } => return Err(InterpretError::Operation("texture query")),
            Expression::Derivative { .. } => return Err(InterpretError::Operation("derivative")),
            Expression::ArrayLength(array) => Step::Length { pointer: self.span(array).place, to: to.place },
            Expression::RayQueryVertexPositions { .. }
            | Expression::RayQueryProceedResult
            | Expression::RayQueryGetIntersection { .. } => return Err(InterpretError::Operation("ray query")),
            Expression::SubgroupBallotResult | Expression::SubgroupOperationResult { .. } => {
                return Err(InterpretError::Operation("subgroup operation"));
            }
            Expression::CooperativeLoad { .. } | Expression::CooperativeMultiplyAdd { .. } => {
                return Err(InterpretError::Operation("cooperative matrix"));
            }
        };
        Ok(vec![step])
    }

    fn compose(&self, components: &[Handle<Expression>], to: Span) -> Vec<Step> {
        let mut place = to.place;
        let mut steps = Vec::new();
        for &component in components {
            let from = self.span(component);
            steps.push(Step::Copy { from: from.place, to: Span { place, words: from.words } });
            place = place.plus(from.words);
        }
        steps
    }

    fn access(&self, base: Handle<Expression>, index: Handle<Expression>, to: Span) -> Result<Step, InterpretError> {
        let (from, index) = (self.span(base).place, self.span(index).place);
        let types = &self.shared.module.types;
        let (pointee, is_pointer) = match *self.inner(base) {
            TypeInner::Pointer { base, .. } => (types[base].inner.clone(), true),
            TypeInner::ValuePointer { size: Some(size), scalar, .. } => (TypeInner::Vector { size, scalar }, true),
            ref other => (other.clone(), false),
        };
        let (length, stride) = match pointee {
            TypeInner::Vector { size, .. } => (size as u64, 1),
            TypeInner::Matrix { columns, rows, .. } => (columns as u64, rows as usize),
            TypeInner::Array { base, size: naga::ArraySize::Constant(length), .. } => {
                (u64::from(length.get()), self.shared.types.of_type(base)? as usize)
            }
            TypeInner::Array { base, size: naga::ArraySize::Dynamic, .. } => {
                (BEYOND_BUFFERS, self.shared.types.of_type(base)? as usize)
            }
            _ => return Err(InterpretError::Invalid("an index into what has no elements")),
        };
        let element = Element { index, last: length - 1, stride };
        Ok(match is_pointer {
            true => Step::Element { pointer: from, element, to: to.place },
            false => Step::Pick { from, element, to },
        })
    }

    /// Words from the start of a value, or of what a pointer points at, to a member.
    fn member_offset(&self, base: Handle<Expression>, index: u32) -> Result<usize, InterpretError> {
        let types = &self.shared.types;
        let inner = match *self.inner(base) {
            TypeInner::Pointer { base, .. } => &self.shared.module.types[base].inner,
            ref other => other,
        };
        let index = index as usize;
        match *inner {
            TypeInner::Vector { .. } | TypeInner::ValuePointer { size: Some(_), .. } => Ok(index),
            TypeInner::Matrix { rows, .. } => Ok(index * rows as usize),
            TypeInner::Array { base, .. } => Ok(index * types.of_type(base)? as usize),
            TypeInner::Struct { ref members, .. } => {
                members[..index].iter().try_fold(0, |sum, member| Ok(sum + types.of_type(member.ty)? as usize))
            }
            _ => Err(InterpretError::Invalid("a member of what has none")),
        }
    }

    fn binary(
        &self,
        op: naga::BinaryOperator,
        left: Handle<Expression>,
        right: Handle<Expression>,
        to: Span,
    ) -> Result<Step, InterpretError> {
        let dtype = self.dtype(left)?;
        let is_matrix = |inner: &TypeInner| matches!(inner, TypeInner::Matrix { .. });
        let is_scalar = |inner: &TypeInner| matches!(inner, TypeInner::Scalar(_));
        let (a, b) = (self.inner(left), self.inner(right));
        let is_product =
            op == naga::BinaryOperator::Multiply && (is_matrix(a) || is_matrix(b)) && !(is_scalar(a) || is_scalar(b));
        if is_product {
            let whole = vector::product(dtype).ok_or(InterpretError::Invalid("matrix product"))?;
            return Ok(self.whole(whole, &[left, right], to));
        }
        let map = operator::binary(op, dtype).ok_or(InterpretError::Invalid("binary operator"))?;
        Ok(self.map(map, &[left, right], to))
    }

    fn math(&self, function: MathFunction, arguments: &[Handle<Expression>], to: Span) -> Result<Step, InterpretError> {
        let dtype = self.dtype(arguments[0])?;
        if let Some(map) = builtin::componentwise(function, dtype) {
            return Ok(self.map(map, arguments, to));
        }
        // WGSL has no words for `inverse` and `outerProduct`: only other languages' front ends make them.
        let whole = vector::whole(function, dtype).ok_or(InterpretError::Operation("this built-in function"))?;
        Ok(self.whole(whole, arguments, to))
    }

    fn cast(
        &self,
        value: Handle<Expression>,
        kind: ScalarKind,
        convert: Option<naga::Bytes>,
        to: Span,
    ) -> Result<Step, InterpretError> {
        let from = self.dtype(value)?;
        let map = match convert {
            Some(width) => operator::convert(from, dtype_of(naga::Scalar { kind, width })?),
            None => {
                let width = from.bytes() as naga::Bytes;
                let into = dtype_of(naga::Scalar { kind, width })?;
                operator::bitcast(from, into).ok_or(InterpretError::Invalid("bitcast"))?
            }
        };
        Ok(self.map(map, &[value], to))
    }

    fn map(&self, map: Map, arguments: &[Handle<Expression>], to: Span) -> Step {
        let mut from = [Lanes { place: Span::EMPTY.place, stride: 0 }; 4];
        for (lanes, &argument) in from.iter_mut().zip(arguments) {
            let span = self.span(argument);
            *lanes = Lanes { place: span.place, stride: usize::from(span.words > 1) };
        }
        Step::Map { map, from, to }
    }

    fn whole(&self, whole: vector::Whole, arguments: &[Handle<Expression>], to: Span) -> Step {
        let mut from = [Span::EMPTY; 3];
        for (span, &argument) in from.iter_mut().zip(arguments) {
            *span = self.span(argument);
        }
        let rows = match *self.inner(arguments[0]) {
            TypeInner::Matrix { rows, .. } => rows as usize,
            _ => 1,
        };
        Step::Whole { whole, rows, from, to }
    }

    /// The dtype of a scalar or of a vector's or matrix's components.
    pub(super) fn dtype(&self, handle: Handle<Expression>) -> Result<DType, InterpretError> {
        match *self.inner(handle) {
            TypeInner::Scalar(scalar) | TypeInner::Vector { scalar, .. } | TypeInner::Matrix { scalar, .. } => {
                dtype_of(scalar)
            }
            _ => Err(InterpretError::Invalid("an operand that is no number")),
        }
    }

    fn inner(&self, handle: Handle<Expression>) -> &TypeInner {
        self.typifier.get(handle, &self.shared.module.types)
    }
}

fn is_pointer(inner: &TypeInner) -> bool {
    inner.pointer_space().is_some_and(|space| space != AddressSpace::Handle)
}

fn literal_word(literal: Literal) -> Result<u64, InterpretError> {
    match literal {
        Literal::F32(value) => Ok(value.word()),
        Literal::F64(value) => Ok(value.word()),
        Literal::I32(value) => Ok(value.word()),
        Literal::U32(value) => Ok(value.word()),
        Literal::I64(value) => Ok(value.word()),
        Literal::U64(value) => Ok(value),
        Literal::Bool(value) => Ok(value.word()),
        Literal::F16(_) => Err(InterpretError::Type("f16")),
        Literal::I16(_) | Literal::U16(_) => Err(InterpretError::Type("16-bit integer")),
        Literal::AbstractInt(_) | Literal::AbstractFloat(_) => Err(InterpretError::Type("abstract number")),
    }
}
