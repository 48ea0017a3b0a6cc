//! What a kernel's functions may contain: arguments, constants, local variables, calls and loops.
//!
//! This is also what the interpreter, the code generators and [`super::remap`] must cover, and all that they must
//! cover: everything else in naga's IR is refused here, by name.

use naga::{ArraySize, Block, Expression, Function, Handle, Module, ShaderStage, Span, Statement, TypeInner};

use super::Problem;

/// The largest value, and the most local variables of one function, in bytes. WGSL itself promises 8 KiB.
const LOCAL_BYTES_MAX: u32 = 64 << 10;
/// How deep functions may call each other. GPUs inline all calls.
const CALL_DEPTH_MAX: u32 = 64;

/// A problem and where it shows.
pub(super) type Found = (Problem, Span);

/// Checks all that a parsed module contains.
pub(super) fn check(module: &Module) -> Result<(), Found> {
    check_globals(module)?;
    for (_, function) in module.functions.iter() {
        check_function(module, function)?;
    }
    for (handle, ty) in module.types.iter() {
        check_type(module, &ty.inner).map_err(|problem| (problem, module.types.get_span(handle)))?;
    }
    check_call_depth(module)
}

fn forbidden(what: impl Into<String>) -> Problem {
    Problem::Forbidden { what: what.into() }
}

fn check_globals(module: &Module) -> Result<(), Found> {
    if let Some(entry) = module.entry_points.first() {
        let span = entry.function.body.span_iter().next().map_or(Span::UNDEFINED, |(_, span)| *span);
        let problem = match entry.stage {
            ShaderStage::Compute => Problem::BlockKernel { name: entry.name.clone() },
            _ => forbidden("entry points"),
        };
        return Err((problem, span));
    }
    if let Some((handle, variable)) = module.global_variables.iter().next() {
        let name = variable.name.as_deref().unwrap_or_default();
        return Err((forbidden(format!("module variables like `{name}`")), module.global_variables.get_span(handle)));
    }
    match module.overrides.iter().next() {
        Some((handle, _)) => Err((forbidden("`override`"), module.overrides.get_span(handle))),
        None => Ok(()),
    }
}

fn check_type(module: &Module, inner: &TypeInner) -> Result<(), Problem> {
    match inner {
        TypeInner::Scalar(_) | TypeInner::Vector { .. } | TypeInner::Matrix { .. } => Ok(()),
        TypeInner::Array { size: ArraySize::Constant(_), .. } | TypeInner::Struct { .. } => {
            let fits = inner.try_size(module.to_ctx()).is_some_and(|bytes| bytes <= LOCAL_BYTES_MAX);
            if fits { Ok(()) } else { Err(too_many_bytes("bytes in one value")) }
        }
        TypeInner::Pointer { space, .. } | TypeInner::ValuePointer { space, .. } => match space {
            naga::AddressSpace::Function => Ok(()),
            _ => Err(forbidden("pointers into module variables")),
        },
        TypeInner::Array { .. } => Err(forbidden("arrays without a length")),
        TypeInner::Atomic(_) => Err(forbidden("atomics")),
        TypeInner::CooperativeMatrix { .. } => Err(forbidden("cooperative matrices")),
        TypeInner::Image { .. } | TypeInner::Sampler { .. } => Err(forbidden("textures")),
        TypeInner::AccelerationStructure { .. } | TypeInner::RayQuery { .. } => Err(forbidden("ray tracing")),
        TypeInner::BindingArray { .. } => Err(forbidden("binding arrays")),
    }
}

fn too_many_bytes(what: &str) -> Problem {
    Problem::TooMany { what: what.to_owned(), max: u64::from(LOCAL_BYTES_MAX) }
}

fn check_function(module: &Module, function: &Function) -> Result<(), Found> {
    for (index, argument) in function.arguments.iter().enumerate() {
        let span = parameter_span(function, index).unwrap_or_default();
        check_type(module, &module.types[argument.ty].inner).map_err(|problem| (problem, span))?;
    }
    let mut bytes = 0u32;
    for (handle, local) in function.local_variables.iter() {
        let size = module.types[local.ty].inner.try_size(module.to_ctx()).unwrap_or(u32::MAX);
        bytes = bytes.saturating_add(size);
        if bytes > LOCAL_BYTES_MAX {
            let problem = too_many_bytes("bytes of local variables in one function");
            return Err((problem, function.local_variables.get_span(handle)));
        }
    }
    for (handle, expression) in function.expressions.iter() {
        check_expression(expression).map_err(|problem| (problem, function.expressions.get_span(handle)))?;
    }
    check_block(&function.body)
}

fn check_expression(expression: &Expression) -> Result<(), Problem> {
    match expression {
        Expression::Literal(_)
        | Expression::Constant(_)
        | Expression::ZeroValue(_)
        | Expression::Compose { .. }
        | Expression::Access { .. }
        | Expression::AccessIndex { .. }
        | Expression::Splat { .. }
        | Expression::Swizzle { .. }
        | Expression::FunctionArgument(_)
        | Expression::LocalVariable(_)
        | Expression::Load { .. }
        | Expression::Unary { .. }
        | Expression::Binary { .. }
        | Expression::Select { .. }
        | Expression::Relational { .. }
        | Expression::Math { .. }
        | Expression::As { .. }
        | Expression::CallResult(_) => Ok(()),
        Expression::Derivative { .. } => Err(forbidden("derivatives")),
        Expression::ArrayLength(_) => Err(forbidden("arrays without a length")),
        Expression::ImageSample { .. } | Expression::ImageLoad { .. } | Expression::ImageQuery { .. } => {
            Err(forbidden("textures"))
        }
        Expression::AtomicResult { .. } => Err(forbidden("atomics")),
        Expression::WorkGroupUniformLoadResult { .. } => Err(forbidden("workgroup memory")),
        Expression::SubgroupBallotResult | Expression::SubgroupOperationResult { .. } => {
            Err(forbidden("subgroup operations"))
        }
        Expression::Override(_) | Expression::GlobalVariable(_) => Err(forbidden("module variables")),
        Expression::RayQueryVertexPositions { .. }
        | Expression::RayQueryProceedResult
        | Expression::RayQueryGetIntersection { .. } => Err(forbidden("ray tracing")),
        Expression::CooperativeLoad { .. } | Expression::CooperativeMultiplyAdd { .. } => {
            Err(forbidden("cooperative matrices"))
        }
    }
}

/// The nesting of blocks is bounded by [`super::survey`].
fn check_block(block: &Block) -> Result<(), Found> {
    for (statement, span) in block.span_iter() {
        match statement {
            Statement::Emit(_)
            | Statement::Break
            | Statement::Continue
            | Statement::Return { .. }
            | Statement::Store { .. }
            | Statement::Call { .. } => {}
            Statement::Block(block) => check_block(block)?,
            Statement::If { accept, reject, .. } => [accept, reject].into_iter().try_for_each(check_block)?,
            Statement::Switch { cases, .. } => cases.iter().try_for_each(|case| check_block(&case.body))?,
            Statement::Loop { body, continuing, .. } => [body, continuing].into_iter().try_for_each(check_block)?,
            Statement::Kill => return Err((forbidden("`discard`"), *span)),
            Statement::ControlBarrier(_) | Statement::MemoryBarrier(_) => return Err((forbidden("barriers"), *span)),
            Statement::ImageStore { .. } | Statement::ImageAtomic { .. } => return Err((forbidden("textures"), *span)),
            Statement::Atomic { .. } => return Err((forbidden("atomics"), *span)),
            Statement::WorkGroupUniformLoad { .. } => return Err((forbidden("workgroup memory"), *span)),
            Statement::RayQuery { .. } | Statement::RayPipelineFunction(_) => {
                return Err((forbidden("ray tracing"), *span));
            }
            Statement::SubgroupBallot { .. }
            | Statement::SubgroupGather { .. }
            | Statement::SubgroupCollectiveOperation { .. } => return Err((forbidden("subgroup operations"), *span)),
            Statement::CooperativeStore { .. } => return Err((forbidden("cooperative matrices"), *span)),
        }
    }
    Ok(())
}

/// A function comes after those it calls, so one pass finds how deep it goes.
fn check_call_depth(module: &Module) -> Result<(), Found> {
    let mut depths: Vec<u32> = Vec::with_capacity(module.functions.len());
    for (handle, function) in module.functions.iter() {
        let mut callees = Vec::new();
        calls(&function.body, &mut callees);
        let depth =
            callees.iter().filter_map(|callee| depths.get(callee.index())).max().map_or(0, |deepest| deepest + 1);
        if depth > CALL_DEPTH_MAX {
            let problem = Problem::TooMany { what: "calls within calls".to_owned(), max: u64::from(CALL_DEPTH_MAX) };
            return Err((problem, module.functions.get_span(handle)));
        }
        depths.push(depth);
    }
    Ok(())
}

/// Appends the functions that a block calls, in order, with repetitions.
pub(super) fn calls(block: &Block, found: &mut Vec<Handle<Function>>) {
    for statement in block.iter() {
        match statement {
            Statement::Call { function, .. } => found.push(*function),
            Statement::Block(block) => calls(block, found),
            Statement::If { accept, reject, .. } => [accept, reject].into_iter().for_each(|block| calls(block, found)),
            Statement::Switch { cases, .. } => cases.iter().for_each(|case| calls(&case.body, found)),
            Statement::Loop { body, continuing, .. } => {
                [body, continuing].into_iter().for_each(|block| calls(block, found));
            }
            // No other statement holds blocks or calls.
            _ => {}
        }
    }
}

/// Where a parameter is named.
pub(super) fn parameter_span(function: &Function, index: usize) -> Option<Span> {
    let mut expressions = function.expressions.iter();
    let is_it =
        |expression: &Expression| matches!(expression, Expression::FunctionArgument(at) if *at as usize == index);
    expressions.find(|(_, expression)| is_it(expression)).map(|(handle, _)| function.expressions.get_span(handle))
}
