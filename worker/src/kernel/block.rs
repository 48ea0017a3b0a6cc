//! The contract of block kernels: one `@compute` entry point, and its storage buffers in order.
//!
//! All storage buffers are in `@group(0)`, numbered from `@binding(0)` without gaps: the inputs, read only; then the
//! outputs, read and written; then the block info, if it is declared. What else the text may contain is said by
//! [`super::allowed`].

use naga::compact::KeepUnused;
use naga::{
    AddressSpace, ArraySize, Binding, BuiltIn, Function, GlobalVariable, Handle, Module, Scalar, Span, StorageAccess,
    Type, TypeInner,
};

use super::allowed::{LOCAL_BYTES_MAX, check_count};
use super::names::{scalar_dtype, type_name};
use super::typed::BlockFunction;
use super::{BlockSignature, Field, Parameter, Problem, STORAGE_BUFFERS_MAX, WORKGROUP_BYTES_MAX};
use crate::dtype::DType;

/// A problem and where it shows.
type Found = (Problem, Span);

/// Leaves the module the one entry point that is meant. Says what becomes of what it does not use: of several entry
/// points each has buffers and workgroup memory of its own, and one alone may leave an input unread.
pub(super) fn keep_entry(module: &mut Module, name: Option<&str>) -> Result<KeepUnused, Found> {
    let names = || module.entry_points.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
    match (module.entry_points.as_slice(), name) {
        ([], None) => Err((Problem::NoEntryPoint, Span::UNDEFINED)),
        ([_], None) => Ok(KeepUnused::Yes),
        ([_, second, ..], None) => Err((Problem::SeveralEntryPoints(names()), span(&second.function))),
        (entries, Some(name)) if entries.iter().any(|entry| entry.name == name) => {
            let unused = if entries.len() == 1 { KeepUnused::Yes } else { KeepUnused::No };
            module.entry_points.retain(|entry| entry.name == name);
            Ok(unused)
        }
        (_, Some(name)) => {
            Err((Problem::NoSuchFunction { name: name.to_owned(), functions: names() }, Span::UNDEFINED))
        }
    }
}

/// The entry point of a validated module that has one. `has_info` says that `BlockInfo` is the engine's.
pub(super) fn function(module: &Module, has_info: bool) -> Result<BlockFunction, Found> {
    let entry = &module.entry_points[0];
    let globals = storage_buffers(module)?;
    variable_bytes(module, AddressSpace::Private, "bytes of private variables", LOCAL_BYTES_MAX)?;
    let mut signature = BlockSignature {
        name: entry.name.clone(),
        workgroup: entry.workgroup_size,
        inputs: Vec::new(),
        outputs: Vec::new(),
        uses_info: false,
        workgroup_bytes: variable_bytes(
            module,
            AddressSpace::WorkGroup,
            "bytes of workgroup memory",
            WORKGROUP_BYTES_MAX,
        )?,
    };
    for &handle in &globals {
        let variable = &module.global_variables[handle];
        let bound = bind(module, variable, has_info, &mut signature);
        bound.map_err(|why| (buffer_problem(variable, why), module.global_variables.get_span(handle)))?;
    }
    match signature.outputs.is_empty() {
        true => Err((Problem::NoOutput, span(&entry.function))),
        false => Ok(BlockFunction { entry: 0, signature, globals }),
    }
}

/// Bytes of all variables in a space as devices count them, each rounded up to 16.
fn variable_bytes(module: &Module, space: AddressSpace, what: &str, max: u32) -> Result<u32, Found> {
    let mut sum = 0u32;
    for (handle, variable) in module.global_variables.iter().filter(|(_, variable)| variable.space == space) {
        let bytes = module.types[variable.ty].inner.try_size(module.to_ctx());
        let bytes = bytes.and_then(|bytes| bytes.checked_next_multiple_of(16)).unwrap_or(u32::MAX);
        sum = sum.saturating_add(bytes);
        check_count(what, sum.into(), max, module.global_variables.get_span(handle))?;
    }
    Ok(sum)
}

/// Where an entry point begins: naga keeps no span of its head.
pub(super) fn span(function: &Function) -> Span {
    function.body.span_iter().next().map_or(Span::UNDEFINED, |(_, span)| *span)
}

/// The storage buffers in binding order, which has no gaps.
fn storage_buffers(module: &Module) -> Result<Vec<Handle<GlobalVariable>>, Found> {
    let variables = module.global_variables.iter();
    let storage = variables.filter(|(_, variable)| matches!(variable.space, AddressSpace::Storage { .. }));
    let mut placed = storage
        .map(|(handle, variable)| match &variable.binding {
            Some(binding) => Ok(((binding.group, binding.binding), handle)),
            None => Err((buffer_problem(variable, "has no place"), module.global_variables.get_span(handle))),
        })
        .collect::<Result<Vec<_>, Found>>()?;
    placed.sort();
    for (&((group, binding), handle), expected) in placed.iter().zip(0..) {
        let found = |problem| Err((problem, module.global_variables.get_span(handle)));
        if (group, binding) != (0, expected) {
            let why = format!("is at @group({group}) @binding({binding}), and @group(0) @binding({expected}) is next");
            return found(buffer_problem(&module.global_variables[handle], why));
        }
        if expected as usize >= STORAGE_BUFFERS_MAX {
            return found(Problem::TooMany { what: "storage buffers".to_owned(), max: STORAGE_BUFFERS_MAX as u64 });
        }
    }
    Ok(placed.into_iter().map(|(_, handle)| handle).collect())
}

/// Takes the next buffer into the signature, or says why it cannot be there.
fn bind(
    module: &Module,
    variable: &GlobalVariable,
    has_info: bool,
    signature: &mut BlockSignature,
) -> Result<(), String> {
    let name = variable.name.clone().unwrap_or_default();
    let is_written = variable.space == AddressSpace::Storage { access: StorageAccess::LOAD | StorageAccess::STORE };
    if signature.uses_info {
        return Err("comes after the block info, which is the last".to_owned());
    }
    if has_info && module.types[variable.ty].name.as_deref() == Some("BlockInfo") {
        signature.uses_info = true;
        return if is_written { Err("is the block info, and can only be read".to_owned()) } else { Ok(()) };
    }
    let element = element(module, variable.ty).ok_or_else(|| format!("is {}", type_name(module, variable.ty)))?;
    match (is_written, element) {
        (true, Elements { dtype, .. }) => signature.outputs.push(Field { name, dtype }),
        (false, Elements { is_atomic: true, .. }) => return Err("is of atomics, and can only be read".to_owned()),
        (false, _) if !signature.outputs.is_empty() => return Err("is read, and comes after an output".to_owned()),
        (false, Elements { dtype, .. }) => signature.inputs.push(Parameter { name, dtype }),
    }
    Ok(())
}

/// What a runtime-sized array holds.
struct Elements {
    dtype: DType,
    is_atomic: bool,
}

fn element(module: &Module, ty: Handle<Type>) -> Option<Elements> {
    let TypeInner::Array { base, size: ArraySize::Dynamic, .. } = module.types[ty].inner else { return None };
    let (scalar, is_atomic): (Scalar, bool) = match module.types[base].inner {
        TypeInner::Scalar(scalar) => (scalar, false),
        TypeInner::Atomic(scalar) => (scalar, true),
        _ => return None,
    };
    let dtype = scalar_dtype(scalar).filter(|&dtype| dtype != DType::Bool)?;
    Some(Elements { dtype, is_atomic })
}

fn buffer_problem(variable: &GlobalVariable, why: impl Into<String>) -> Problem {
    Problem::Buffer { name: variable.name.clone().unwrap_or_default(), why: why.into() }
}

/// An entry point's arguments are built-in values, alone or in structs.
pub(super) fn check_arguments(module: &Module, function: &Function) -> Result<(), Found> {
    for argument in &function.arguments {
        let bindings: Vec<Option<&Binding>> = match &module.types[argument.ty].inner {
            TypeInner::Struct { members, .. } => members.iter().map(|member| member.binding.as_ref()).collect(),
            _ => vec![argument.binding.as_ref()],
        };
        let is_known = |binding: &Option<&Binding>| {
            let Some(Binding::BuiltIn(builtin)) = binding else { return false };
            matches!(
                builtin,
                BuiltIn::GlobalInvocationId
                    | BuiltIn::LocalInvocationId
                    | BuiltIn::LocalInvocationIndex
                    | BuiltIn::WorkGroupId
                    | BuiltIn::NumWorkGroups
            )
        };
        if !bindings.iter().all(is_known) {
            let name = argument.name.clone().unwrap_or_default();
            return Err((Problem::BuiltIn { name }, span(function)));
        }
    }
    Ok(())
}
