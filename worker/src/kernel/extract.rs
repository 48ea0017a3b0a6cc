//! Finds a kernel's functions in its module and reads their signatures.

use naga::proc::Layouter;
use naga::{ArraySize, Function, Handle, Module, Scalar, Span, Type, TypeInner};

use super::allowed::{calls, parameter_span};
use super::names::{dtype, scalar_dtype, type_name};
use super::text::Text;
use super::typed::{ElementFunction, Functions, ReductionFunctions};
use super::{
    ACCUMULATOR_BYTES_MAX, Field, KernelKind, KernelSource, Layout, Parameter, Problem, ReductionSignature, Signature,
    Slot, block,
};
use crate::dtype::DType;

/// A problem and where it shows.
type Found = (Problem, Span);

/// The functions of a validated module that are called from outside. An `At` or `BlockInfo` that the user declared is a
/// struct like any other.
pub(super) fn functions(module: &Module, source: &KernelSource, text: &Text<'_>) -> Result<Functions, Found> {
    match source.kind {
        KernelKind::Element => element(module, source.entry.as_deref(), text.has_at()).map(Functions::Element),
        KernelKind::Reduction => reduction(module, text.has_at()).map(Functions::Reduction),
        KernelKind::Block => block::function(module, text.has_info()).map(Functions::Block),
    }
}

fn element(module: &Module, entry: Option<&str>, has_at: bool) -> Result<ElementFunction, Found> {
    let function = match entry {
        Some(name) => named(module, name).ok_or_else(|| {
            let functions = module.functions.iter().map(|(_, function)| name_of(function)).collect();
            (Problem::NoSuchFunction { name: name.to_owned(), functions }, Span::UNDEFINED)
        })?,
        None => uncalled(module)?,
    };
    let Function { arguments, .. } = &module.functions[function];
    let uses_at = arguments.last().is_some_and(|argument| has_at && is_at(module, argument.ty));
    let parameters = parameters(module, function, arguments.len() - usize::from(uses_at), has_at)?;
    let name = name_of(&module.functions[function]);
    let signature = Signature { name, parameters, uses_at, results: results(module, function)? };
    Ok(ElementFunction { function, signature })
}

fn named(module: &Module, name: &str) -> Option<Handle<Function>> {
    module.functions.iter().find(|(_, function)| function.name.as_deref() == Some(name)).map(|(handle, _)| handle)
}

fn name_of(function: &Function) -> String {
    function.name.clone().unwrap_or_default()
}

/// The one function that no other calls.
fn uncalled(module: &Module) -> Result<Handle<Function>, Found> {
    let mut is_called = vec![false; module.functions.len()];
    let mut callees = Vec::new();
    module.functions.iter().for_each(|(_, function)| calls(&function.body, &mut callees));
    callees.iter().for_each(|callee| is_called[callee.index()] = true);
    let candidates: Vec<_> = module.functions.iter().filter(|(handle, _)| !is_called[handle.index()]).collect();
    match candidates.as_slice() {
        [] => Err((Problem::NoFunction, Span::UNDEFINED)),
        [(handle, _)] => Ok(*handle),
        several => {
            let names = several.iter().map(|(_, function)| name_of(function)).collect();
            Err((Problem::SeveralFunctions(names), module.functions.get_span(several[1].0)))
        }
    }
}

/// The first `count` parameters, all scalars.
fn parameters(module: &Module, handle: Handle<Function>, count: usize, has_at: bool) -> Result<Vec<Parameter>, Found> {
    let function = &module.functions[handle];
    let parameter = |(index, argument): (usize, &naga::FunctionArgument)| {
        let name = argument.name.clone().unwrap_or_default();
        let problem = match dtype(module, argument.ty) {
            Some(dtype) => return Ok(Parameter { name, dtype }),
            None if has_at && is_at(module, argument.ty) => {
                Problem::AtMisplaced { function: name_of(function), parameter: name }
            }
            None => {
                let found = type_name(module, argument.ty);
                Problem::ParameterType { function: name_of(function), parameter: name, found }
            }
        };
        Err((problem, parameter_span(function, index).unwrap_or(module.functions.get_span(handle))))
    };
    function.arguments.iter().take(count).enumerate().map(parameter).collect()
}

/// The result, or the members of a struct of results.
fn results(module: &Module, handle: Handle<Function>) -> Result<Vec<Field>, Found> {
    let function = &module.functions[handle];
    let fields = function.result.as_ref().and_then(|result| match &module.types[result.ty].inner {
        TypeInner::Struct { members, .. } => {
            let field = |member: &naga::StructMember| {
                Some(Field { name: member.name.clone().unwrap_or_default(), dtype: dtype(module, member.ty)? })
            };
            members.iter().map(field).collect()
        }
        _ => dtype(module, result.ty).map(|dtype| vec![Field { name: String::new(), dtype }]),
    });
    fields.ok_or_else(|| {
        let found = function.result.as_ref().map_or("nothing".to_owned(), |result| type_name(module, result.ty));
        (Problem::ResultType { function: name_of(function), found }, module.functions.get_span(handle))
    })
}

fn reduction(module: &Module, has_at: bool) -> Result<ReductionFunctions, Found> {
    let function = |name: &str| {
        named(module, name).ok_or_else(|| (Problem::MissingFunction { name: name.to_owned() }, Span::UNDEFINED))
    };
    let (identity, lift) = (function("identity")?, function("lift")?);
    let (combine, finish) = (function("combine")?, function("finish")?);
    let Some(result) = &module.functions[identity].result else {
        return Err(misfit(module, identity, "fn identity() -> A"));
    };
    let accumulator = result.ty;
    let is_a = |ty: Handle<Type>| same_type(module, ty, accumulator);
    let returns_a = |function: Handle<Function>| module.functions[function].result.as_ref().is_some_and(|r| is_a(r.ty));
    let takes = |function: Handle<Function>, count: usize| {
        let arguments = &module.functions[function].arguments;
        arguments.len() == count && arguments.iter().all(|argument| is_a(argument.ty))
    };
    let must = |fits: bool, function, expected| if fits { Ok(()) } else { Err(misfit(module, function, expected)) };
    must(takes(identity, 0), identity, "fn identity() -> A")?;
    let lifts = module.functions[lift].arguments.len();
    must(lifts > 0 && returns_a(lift), lift, "fn lift(x: T, ...) -> A")?;
    must(takes(combine, 2) && returns_a(combine), combine, "fn combine(a: A, b: A) -> A")?;
    must(takes(finish, 1), finish, "fn finish(a: A) -> R")?;
    let layout = layout(module, accumulator).map_err(|why| {
        let problem = Problem::Accumulator { name: type_name(module, accumulator), why };
        (problem, module.functions.get_span(identity))
    })?;
    let parameters = parameters(module, lift, lifts, has_at)?;
    let signature = ReductionSignature { parameters, accumulator: layout, results: results(module, finish)? };
    Ok(ReductionFunctions { identity, lift, combine, finish, accumulator, signature })
}

fn misfit(module: &Module, handle: Handle<Function>, expected: &str) -> Found {
    let function = &module.functions[handle];
    let argument = |argument: &naga::FunctionArgument| {
        format!("{}: {}", argument.name.as_deref().unwrap_or("_"), type_name(module, argument.ty))
    };
    let arguments: Vec<String> = function.arguments.iter().map(argument).collect();
    let result = function.result.as_ref().map_or(String::new(), |r| format!(" -> {}", type_name(module, r.ty)));
    let found = format!("fn {}({}){result}", name_of(function), arguments.join(", "));
    (Problem::Signature { found, expected: expected.to_owned() }, module.functions.get_span(handle))
}

/// Aliases give one type several handles; a struct is only itself.
fn same_type(module: &Module, a: Handle<Type>, b: Handle<Type>) -> bool {
    let is_struct = matches!(module.types[a].inner, TypeInner::Struct { .. });
    a == b || !is_struct && module.types[a].inner == module.types[b].inner
}

/// How `ty` is stored, if it is a number or a struct, small enough and without bools.
fn layout(module: &Module, ty: Handle<Type>) -> Result<Layout, String> {
    match &module.types[ty].inner {
        TypeInner::Scalar(_) | TypeInner::Struct { .. } => {}
        _ => return Err("is neither a number nor a struct".to_owned()),
    }
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|error| error.to_string())?;
    let bytes = layouter[ty].to_stride();
    if bytes > ACCUMULATOR_BYTES_MAX {
        return Err(format!("takes {bytes} bytes"));
    }
    let mut slots = Vec::new();
    flatten(module, ty, Slot { path: String::new(), offset: 0, dtype: DType::U32 }, &mut slots)?;
    Ok(Layout { name: type_name(module, ty), bytes, slots })
}

/// Appends the scalars of a value of type `ty` that stands at `base`, whose dtype does not matter.
fn flatten(module: &Module, ty: Handle<Type>, base: Slot, slots: &mut Vec<Slot>) -> Result<(), String> {
    let Slot { path, offset, .. } = base;
    let mut push = |path: String, offset: u32, scalar: Scalar| {
        let dtype = scalar_dtype(scalar).ok_or("has a type that cannot be stored")?;
        if dtype == DType::Bool {
            return Err("has a bool, which WGSL cannot store (use a u32)".to_owned());
        }
        slots.push(Slot { path, offset, dtype });
        Ok(())
    };
    const COMPONENTS: [char; 4] = ['x', 'y', 'z', 'w'];
    match module.types[ty].inner {
        TypeInner::Scalar(scalar) => push(path, offset, scalar),
        TypeInner::Vector { size, scalar } => COMPONENTS[..size as usize]
            .iter()
            .zip(0..)
            .try_for_each(|(name, at)| push(format!("{path}.{name}"), offset + at * u32::from(scalar.width), scalar)),
        TypeInner::Matrix { columns, rows, scalar } => {
            let rows_stored: u32 = if rows == naga::VectorSize::Bi { 2 } else { 4 };
            for column in 0..columns as u32 {
                let start = offset + column * rows_stored * u32::from(scalar.width);
                for (name, at) in COMPONENTS[..rows as usize].iter().zip(0..) {
                    push(format!("{path}[{column}].{name}"), start + at * u32::from(scalar.width), scalar)?;
                }
            }
            Ok(())
        }
        TypeInner::Array { base, size: ArraySize::Constant(count), stride } => (0..count.get()).try_for_each(|at| {
            let element = Slot { path: format!("{path}[{at}]"), offset: offset + at * stride, dtype: DType::U32 };
            flatten(module, base, element, slots)
        }),
        TypeInner::Struct { ref members, .. } => members.iter().try_for_each(|member| {
            let name = member.name.as_deref().unwrap_or_default();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let slot = Slot { path, offset: offset + member.offset, dtype: DType::U32 };
            flatten(module, member.ty, slot, slots)
        }),
        _ => Err("has a type that cannot be stored".to_owned()),
    }
}

fn is_at(module: &Module, ty: Handle<Type>) -> bool {
    module.types[ty].name.as_deref() == Some("At")
}
