//! The constants and variables of a module: what all its functions share.

use std::collections::BTreeMap;

use naga::proc::ResolveContext;
use naga::{AddressSpace, Arena, ArraySize, GlobalVariable, Handle, Module, Type, TypeInner};

use super::InterpretError;
use super::expression::{Expressions, Shared, check_words};
use super::layout::words_of;
use super::memory::Pointer;
use super::types::{TypeWords, dtype_of};
use crate::dtype::DType;

/// What lies outside the stacks of a block kernel's invocations.
#[derive(Default)]
pub(super) struct Spaces {
    /// Words of workgroup memory.
    pub workgroup_words: usize,
    /// What the elements of each storage buffer are, by binding.
    pub buffers: BTreeMap<u32, DType>,
}

/// Places the module's variables and evaluates its constants. Without `spaces` private variables are all there may be.
pub(super) fn share<'a>(module: &'a Module, spaces: Option<&mut Spaces>) -> Result<Shared<'a>, InterpretError> {
    let is_block = spaces.is_some();
    let types = TypeWords::new(module);
    let mut shared = Shared {
        module,
        types,
        is_block,
        words: Vec::new(),
        private_words: 0,
        globals: Vec::new(),
        variables: Vec::new(),
    };
    place_variables(&mut shared, spaces)?;
    shared.private_words = shared.words.len();
    let none = Arena::new();
    let context = ResolveContext::with_locals(module, &none, &[]);
    let mut expressions = Expressions::new(&mut shared, &module.global_expressions, context, &[], &[], 0);
    let globals: Vec<_> = module.global_expressions.iter().map(|(handle, _)| expressions.place_next(handle)).collect();
    shared.globals = globals;
    for (handle, variable) in module.global_variables.iter() {
        initialise(&mut shared, handle, variable);
    }
    Ok(shared)
}

/// An unusable variable is an error only where it is used; in an entry point's module all buffers are.
fn place_variables(shared: &mut Shared<'_>, mut spaces: Option<&mut Spaces>) -> Result<(), InterpretError> {
    for (_, variable) in shared.module.global_variables.iter() {
        let words = || shared.types.of_type(variable.ty).map(|words| words as usize);
        let pointer = match (variable.space, &mut spaces) {
            (AddressSpace::Private, _) => {
                words().and_then(|words| shared.room(words)).map(|span| Pointer::Stack(span.place.at))
            }
            (AddressSpace::WorkGroup, Some(spaces)) => words().and_then(|words| spaces.workgroup(words)),
            (AddressSpace::Storage { .. }, Some(spaces)) => Ok(spaces.buffer(shared.module, variable)?),
            (AddressSpace::WorkGroup, None) => Err(InterpretError::Operation("workgroup memory")),
            _ => Err(InterpretError::Operation("a buffer or other resource")),
        };
        shared.variables.push(pointer);
    }
    Ok(())
}

/// Copies a private variable's initial value to where it is at first.
fn initialise(shared: &mut Shared<'_>, handle: Handle<GlobalVariable>, variable: &GlobalVariable) {
    let (Some(init), Ok(Pointer::Stack(to))) = (variable.init, shared.variables[handle.index()].clone()) else {
        return;
    };
    match &shared.globals[init.index()] {
        Ok(from) if from.place.in_frame => {
            shared.variables[handle.index()] = Err(InterpretError::Operation("override"));
        }
        Ok(from) => shared.words.copy_within(from.range(0), to),
        Err(error) => shared.variables[handle.index()] = Err(error.clone()),
    }
}

impl Spaces {
    fn workgroup(&mut self, words: usize) -> Result<Pointer, InterpretError> {
        let at = self.workgroup_words;
        check_words(at.saturating_add(words))?;
        self.workgroup_words += words;
        Ok(Pointer::Workgroup(at))
    }

    fn buffer(&mut self, module: &Module, variable: &GlobalVariable) -> Result<Pointer, InterpretError> {
        let binding = variable.binding.as_ref().ok_or(InterpretError::Invalid("a buffer without a binding"))?.binding;
        self.buffers.insert(binding, element_of(module, variable.ty)?);
        Ok(Pointer::Buffer(binding as usize, 0))
    }

    /// The elements of all buffers, in binding order.
    pub(super) fn buffers(&self) -> Result<Vec<DType>, InterpretError> {
        match self.buffers.keys().zip(0..).all(|(&binding, expected)| binding == expected) {
            true => Ok(self.buffers.values().copied().collect()),
            false => Err(InterpretError::Operation("a gap between bindings")),
        }
    }
}

/// What a storage buffer holds, if it is nothing but scalars of one dtype without gaps.
fn element_of(module: &Module, ty: Handle<Type>) -> Result<DType, InterpretError> {
    match module.types[ty].inner {
        TypeInner::Array { base, size: ArraySize::Dynamic, .. } => match module.types[base].inner {
            TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => dtype_of(scalar),
            _ => Err(InterpretError::Type("buffer of structured")),
        },
        _ => {
            let words = words_of(module, ty).map_err(|_| InterpretError::Type("buffer of structured"))?;
            let is_dense = words.iter().zip(0..).all(|(word, at)| word.dtype == DType::U32 && word.offset == 4 * at);
            if is_dense { Ok(DType::U32) } else { Err(InterpretError::Type("buffer of structured")) }
        }
    }
}
