//! What block kernels have beyond other functions: an entry point, buffers, workgroup memory, barriers and atomics.

use std::rc::Rc;

use naga::valid::ModuleInfo;
use naga::{
    AddressSpace, ArraySize, AtomicFunction, Binding, BuiltIn, Expression, GlobalVariable, Handle, Module, Span, Type,
    TypeInner,
};

use super::super::CompileError;
use super::super::flat::{Barrier, Base, Block, Buffer, Change, Op, Place, Program, Shared, Statement, Told, ValueId};
use super::{Flat, Flattener, Frame};
use crate::dtype::DType;
use crate::interpreter::{InterpretError, dtype_of};

/// Variables in workgroup memory begin at multiples of this, so that vectors of one reach no other's cache line.
const SHARED_ALIGNMENT: u64 = 64;

/// Flattens the entry point of this index in a validated module, and all it calls.
pub(in super::super) fn flatten_block(
    module: &Module,
    info: &ModuleInfo,
    entry: usize,
) -> Result<Program, CompileError> {
    let mut flattener = Flattener::new(module, info);
    let (function, info) = (&module.entry_points[entry].function, info.get_entry_point(entry));
    flattener.workgroup = module.entry_points[entry].workgroup_size;
    for (_, variable) in module.global_variables.iter() {
        let base = flattener.global_variable(variable)?;
        flattener.globals.push(base);
    }
    flattener.program.buffers = buffers(module)?;
    let (mut arguments, mut body) = (Vec::new(), Vec::new());
    for argument in &function.arguments {
        let bindings: Vec<Option<&Binding>> = match &module.types[argument.ty].inner {
            TypeInner::Struct { members, .. } => members.iter().map(|member| member.binding.as_ref()).collect(),
            _ => vec![argument.binding.as_ref()],
        };
        let mut words = Vec::new();
        for binding in bindings {
            words.append(&mut flattener.told(binding, &mut body)?);
        }
        arguments.push(Flat::Words(words.into()));
    }
    let begun = std::mem::take(&mut body);
    flattener.call(function, info, arguments, &mut body)?;
    // What is told is computed, and private variables begin, where the entry point does.
    if let Some(Statement::Call { locals, body, .. }) = body.first_mut() {
        locals.start = 0;
        body.splice(0..0, begun);
    }
    let mut program = flattener.program;
    program.body = body;
    Ok(program)
}

/// The storage buffers in binding order.
fn buffers(module: &Module) -> Result<Vec<Buffer>, CompileError> {
    let storage = module.global_variables.iter();
    let storage = storage.filter(|(_, variable)| matches!(variable.space, AddressSpace::Storage { .. }));
    let mut buffers = Vec::new();
    for (_, variable) in storage {
        let Some(binding) = &variable.binding else { return Err(CompileError::Operation("a buffer without a place")) };
        buffers.push((binding.binding, element(module, variable.ty)?));
    }
    buffers.sort_by_key(|&(binding, _)| binding);
    match buffers.iter().zip(0..).all(|(&(binding, _), expected)| binding == expected) {
        true => Ok(buffers.into_iter().map(|(_, buffer)| buffer).collect()),
        false => Err(InterpretError::Operation("a gap between bindings").into()),
    }
}

/// What a buffer holds: scalars side by side. A struct is the block info, which is nothing but `u32`.
fn element(module: &Module, ty: Handle<Type>) -> Result<Buffer, CompileError> {
    let (scalar, is_atomic) = match module.types[ty].inner {
        TypeInner::Array { base, size: ArraySize::Dynamic, .. } => match module.types[base].inner {
            TypeInner::Scalar(scalar) => (scalar, false),
            TypeInner::Atomic(scalar) => (scalar, true),
            _ => return Err(InterpretError::Type("buffer of structured").into()),
        },
        TypeInner::Struct { .. } => (naga::Scalar::U32, false),
        _ => return Err(InterpretError::Type("buffer of structured").into()),
    };
    Ok(Buffer { dtype: dtype_of(scalar)?, is_atomic })
}

impl<'a> Flattener<'a> {
    /// What stands for a variable of the module; nothing for what no kernel can use.
    fn global_variable(&mut self, variable: &GlobalVariable) -> Result<Option<Base>, CompileError> {
        let ty = &self.module.types[variable.ty].inner;
        Ok(match (variable.space, &variable.binding) {
            (AddressSpace::Private, _) => {
                let initial = match variable.init {
                    Some(init) => {
                        let words = self.global(init)?;
                        Some(words.iter().map(|&word| self.constant_word(word)).collect::<Result<_, _>>()?)
                    }
                    None => None,
                };
                let dtypes = self.dtypes(ty)?;
                Some(Base::Variable(self.variable(dtypes, initial)?))
            }
            (AddressSpace::WorkGroup, _) => {
                let dtypes = self.dtypes(ty)?;
                let is_narrow = |dtype: &DType| dtype.bytes() == 4;
                let width = if dtypes.iter().all(is_narrow) { 4 } else { 8 };
                let (at, bytes) = (self.program.workgroup_bytes, dtypes.len() as u64 * width);
                self.program.workgroup_bytes = (at + bytes).next_multiple_of(SHARED_ALIGNMENT);
                let holds_atomics = holds_atomics(self.module, ty);
                self.program.workgroup.push(Shared { dtypes: dtypes.into(), at, width, holds_atomics });
                Some(Base::Workgroup(self.program.workgroup.len() as u32 - 1))
            }
            (AddressSpace::Storage { .. }, Some(binding)) => Some(Base::Buffer(binding.binding)),
            _ => None,
        })
    }

    /// The words of an entry point's argument.
    fn told(&mut self, binding: Option<&Binding>, out: &mut Block) -> Result<Vec<ValueId>, CompileError> {
        let Some(Binding::BuiltIn(builtin)) = binding else { return Err(CompileError::Operation("this argument")) };
        let mut told = |told| self.value(Op::Told(told), DType::U32, &[]);
        match builtin {
            BuiltIn::LocalInvocationId => (0..3).map(|axis| told(Told::Local(axis))).collect(),
            BuiltIn::LocalInvocationIndex => Ok(vec![told(Told::LocalIndex)?]),
            BuiltIn::WorkGroupId => (0..3).map(|axis| told(Told::Group(axis))).collect(),
            BuiltIn::NumWorkGroups => (0..3).map(|axis| told(Told::Groups(axis))).collect(),
            BuiltIn::GlobalInvocationId => (0..3).map(|axis| self.global_id(axis, out)).collect(),
            _ => Err(CompileError::Operation("this argument")),
        }
    }

    fn global_id(&mut self, axis: usize, out: &mut Block) -> Result<ValueId, CompileError> {
        let size = self.constant(DType::U32, self.workgroup[axis].into())?;
        let group = self.value(Op::Told(Told::Group(axis)), DType::U32, &[])?;
        let local = self.value(Op::Told(Told::Local(axis)), DType::U32, &[])?;
        let first = self.binary(naga::BinaryOperator::Multiply, group, size, out)?;
        self.binary(naga::BinaryOperator::Add, first, local, out)
    }

    pub(super) fn array_length(
        &mut self,
        frame: &mut Frame<'a>,
        array: Handle<Expression>,
        out: &mut Block,
    ) -> Result<ValueId, CompileError> {
        match self.place(frame, array, out)?.base {
            Base::Buffer(buffer) => self.value(Op::Length(buffer), DType::U32, &[]),
            _ => Err(CompileError::Operation("the length of this")),
        }
    }

    pub(super) fn barrier(&mut self, barrier: naga::Barrier, span: Span, out: &mut Block) -> Result<(), CompileError> {
        let name = match barrier {
            naga::Barrier::WORK_GROUP => "workgroupBarrier",
            naga::Barrier::STORAGE => "storageBarrier",
            _ => return Err(InterpretError::Operation("this barrier").into()),
        };
        self.named_barrier(name, span, out);
        Ok(())
    }

    fn named_barrier(&mut self, name: &'static str, span: Span, out: &mut Block) {
        let offset = span.to_range().map_or(0, |range| range.start);
        self.program.barriers.push(Barrier { name, offset });
        out.push(Statement::Barrier(self.program.barriers.len() as u32 - 1));
    }

    /// All have loaded before anyone goes on.
    pub(super) fn uniform_load(
        &mut self,
        frame: &mut Frame<'a>,
        (pointer, result): (Handle<Expression>, Handle<Expression>),
        span: Span,
        out: &mut Block,
    ) -> Result<(), CompileError> {
        let place = self.place(frame, pointer, out)?;
        self.named_barrier("workgroupUniformLoad", span, out);
        let count = self.types.of(frame.info[result].ty.inner_with(&self.module.types))? as u32;
        let places = (0..count).map(|at| Place { offset: place.offset + at, ..place });
        let words = places.map(|place| self.load(place, out)).collect::<Result<Rc<[ValueId]>, _>>()?;
        out.push(Statement::Cut);
        frame.known[result.index()] = Some(Flat::Words(words));
        Ok(())
    }

    /// The words of an atomic's result: what it was, and of a comparing exchange whether it was made.
    pub(super) fn atomic(
        &mut self,
        frame: &mut Frame<'a>,
        pointer: Handle<Expression>,
        function: AtomicFunction,
        value: Handle<Expression>,
        out: &mut Block,
    ) -> Result<Rc<[ValueId]>, CompileError> {
        let place = self.place(frame, pointer, out)?;
        let mut operands = vec![self.scalar(frame, value, out)?];
        let change = match function {
            AtomicFunction::Add => Change::Add,
            AtomicFunction::Subtract => Change::Subtract,
            AtomicFunction::And => Change::And,
            AtomicFunction::InclusiveOr => Change::Or,
            AtomicFunction::ExclusiveOr => Change::Xor,
            AtomicFunction::Min => Change::Min,
            AtomicFunction::Max => Change::Max,
            AtomicFunction::Exchange { compare: None } => Change::Exchange,
            AtomicFunction::Exchange { compare: Some(compare) } => {
                operands.push(self.scalar(frame, compare, out)?);
                Change::CompareExchange
            }
        };
        let dtype = self.program.dtype(operands[0]);
        if dtype.bytes() != 4 || dtype.is_float() {
            return Err(CompileError::Operation("an atomic that is no 32-bit integer"));
        }
        let changed = self.emit(Op::Atomic(place, change), dtype, &operands, out)?;
        let mut words = vec![self.emit(Op::Part(0), dtype, &[changed], out)?];
        if change == Change::CompareExchange {
            words.push(self.emit(Op::Part(1), DType::Bool, &[changed], out)?);
        }
        Ok(words.into())
    }
}

fn holds_atomics(module: &Module, inner: &TypeInner) -> bool {
    match *inner {
        TypeInner::Atomic(_) => true,
        TypeInner::Array { base, .. } => holds_atomics(module, &module.types[base].inner),
        TypeInner::Struct { ref members, .. } => {
            members.iter().any(|member| holds_atomics(module, &module.types[member.ty].inner))
        }
        _ => false,
    }
}
