//! What a kernel's functions may contain: arguments, constants, local variables, calls and loops. Block kernels also see
//! storage buffers, workgroup and private variables, and have barriers and atomics.
//!
//! This is also what the interpreter, the code generators and [`super::remap`] must cover, and all that they must
//! cover: everything else in naga's IR is refused here, by name.

use naga::{
    AddressSpace, ArraySize, Barrier, Block, Expression, Function, Handle, Module, Scalar, ShaderStage, Span,
    Statement, TypeInner,
};

use super::{KernelKind, Problem, WORKGROUP_DEPTH_MAX, WORKGROUP_INVOCATIONS_MAX, block};

/// The largest value, the most local variables of one function and the most private ones, in bytes. WGSL itself
/// promises 8 KiB.
pub(super) const LOCAL_BYTES_MAX: u32 = 64 << 10;
/// How deep functions may call each other. GPUs inline all calls.
const CALL_DEPTH_MAX: u32 = 64;

/// A problem and where it shows.
pub(super) type Found = (Problem, Span);

/// Checks all that a parsed module contains.
pub(super) fn check(module: &Module, kind: KernelKind) -> Result<(), Found> {
    let rules = Rules { module, is_block: kind == KernelKind::Block };
    rules.check_entry_points()?;
    rules.check_variables()?;
    all_functions(module).try_for_each(|function| rules.check_function(function))?;
    for (handle, ty) in module.types.iter() {
        rules.check_type(&ty.inner).map_err(|problem| (problem, module.types.get_span(handle)))?;
    }
    check_call_depth(module)
}

/// Functions and entry points.
pub(super) fn all_functions(module: &Module) -> impl Iterator<Item = &Function> {
    let entries = module.entry_points.iter().map(|entry| &entry.function);
    module.functions.iter().map(|(_, function)| function).chain(entries)
}

/// What a kernel of one kind may contain.
struct Rules<'a> {
    module: &'a Module,
    is_block: bool,
}

impl Rules<'_> {
    fn forbidden(&self, what: impl Into<String>) -> Problem {
        let what = what.into();
        if self.is_block { Problem::ForbiddenInBlock { what } } else { Problem::Forbidden { what } }
    }

    /// Refuses, by name, what block kernels alone may have.
    fn in_blocks(&self, what: &str) -> Result<(), Problem> {
        if self.is_block { Ok(()) } else { Err(self.forbidden(what)) }
    }

    fn check_entry_points(&self) -> Result<(), Found> {
        for entry in &self.module.entry_points {
            let span = block::span(&entry.function);
            if entry.stage != ShaderStage::Compute {
                return Err((self.forbidden("entry points for drawing"), span));
            }
            if !self.is_block {
                return Err((Problem::BlockKernel { name: entry.name.clone() }, span));
            }
            let [x, y, z] = entry.workgroup_size.map(u64::from);
            check_count("invocations in one workgroup", x * y * z, WORKGROUP_INVOCATIONS_MAX, span)?;
            check_count("invocations of one workgroup along z", z, WORKGROUP_DEPTH_MAX, span)?;
            block::check_arguments(self.module, &entry.function)?;
        }
        Ok(())
    }

    fn check_variables(&self) -> Result<(), Found> {
        let Module { global_variables, overrides, .. } = self.module;
        for (handle, variable) in global_variables.iter() {
            let span = global_variables.get_span(handle);
            let name = variable.name.as_deref().unwrap_or_default();
            let refused = |what: &str| Err((self.forbidden(format!("{what} like `{name}`")), span));
            match variable.space {
                _ if !self.is_block => return refused("module variables"),
                AddressSpace::Storage { .. } | AddressSpace::WorkGroup | AddressSpace::Private => {}
                AddressSpace::Uniform => return refused("uniform buffers"),
                AddressSpace::Handle => return refused("textures and samplers"),
                _ => return refused("module variables"),
            }
        }
        match overrides.iter().next() {
            Some((handle, _)) => Err((self.forbidden("`override`"), overrides.get_span(handle))),
            None => Ok(()),
        }
    }

    fn check_type(&self, inner: &TypeInner) -> Result<(), Problem> {
        match inner {
            TypeInner::Scalar(_) | TypeInner::Vector { .. } | TypeInner::Matrix { .. } => Ok(()),
            TypeInner::Array { size: ArraySize::Constant(_), .. } | TypeInner::Struct { .. } => {
                let fits = inner.try_size(self.module.to_ctx()).is_some_and(|bytes| bytes <= LOCAL_BYTES_MAX);
                if fits { Ok(()) } else { Err(too_many("bytes in one value", LOCAL_BYTES_MAX)) }
            }
            TypeInner::Pointer { space, .. } | TypeInner::ValuePointer { space, .. } => match space {
                AddressSpace::Function => Ok(()),
                _ => self.in_blocks("pointers into module variables"),
            },
            TypeInner::Array { size: ArraySize::Dynamic, .. } => self.in_blocks("arrays without a length"),
            TypeInner::Array { size: ArraySize::Pending(_), .. } => Err(self.forbidden("arrays without a length")),
            TypeInner::Atomic(scalar) if *scalar == Scalar::U32 || *scalar == Scalar::I32 => self.in_blocks("atomics"),
            TypeInner::Atomic(_) => Err(self.forbidden("atomics but of u32 and i32")),
            TypeInner::CooperativeMatrix { .. } => Err(self.forbidden("cooperative matrices")),
            TypeInner::Image { .. } | TypeInner::Sampler { .. } => Err(self.forbidden("textures")),
            TypeInner::AccelerationStructure { .. } | TypeInner::RayQuery { .. } => Err(self.forbidden("ray tracing")),
            TypeInner::BindingArray { .. } => Err(self.forbidden("binding arrays")),
        }
    }

    fn check_function(&self, function: &Function) -> Result<(), Found> {
        let types = &self.module.types;
        for (index, argument) in function.arguments.iter().enumerate() {
            let located = |problem| (problem, parameter_span(function, index).unwrap_or_default());
            self.check_type(&types[argument.ty].inner).map_err(located)?;
        }
        let mut bytes = 0u32;
        for (handle, local) in function.local_variables.iter() {
            let size = types[local.ty].inner.try_size(self.module.to_ctx()).unwrap_or(u32::MAX);
            bytes = bytes.saturating_add(size);
            let span = function.local_variables.get_span(handle);
            check_count("bytes of local variables in one function", bytes.into(), LOCAL_BYTES_MAX, span)?;
        }
        for (handle, expression) in function.expressions.iter() {
            self.check_expression(expression).map_err(|problem| (problem, function.expressions.get_span(handle)))?;
        }
        self.check_block(&function.body)
    }

    fn check_expression(&self, expression: &Expression) -> Result<(), Problem> {
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
            Expression::GlobalVariable(_) => self.in_blocks("module variables"),
            Expression::ArrayLength(_) => self.in_blocks("arrays without a length"),
            Expression::AtomicResult { .. } => self.in_blocks("atomics"),
            Expression::WorkGroupUniformLoadResult { .. } => self.in_blocks("workgroup memory"),
            Expression::Override(_) => Err(self.forbidden("module variables")),
            Expression::Derivative { .. } => Err(self.forbidden("derivatives")),
            Expression::ImageSample { .. } | Expression::ImageLoad { .. } | Expression::ImageQuery { .. } => {
                Err(self.forbidden("textures"))
            }
            Expression::SubgroupBallotResult | Expression::SubgroupOperationResult { .. } => {
                Err(self.forbidden("subgroup operations"))
            }
            Expression::RayQueryVertexPositions { .. }
            | Expression::RayQueryProceedResult
            | Expression::RayQueryGetIntersection { .. } => Err(self.forbidden("ray tracing")),
            Expression::CooperativeLoad { .. } | Expression::CooperativeMultiplyAdd { .. } => {
                Err(self.forbidden("cooperative matrices"))
            }
        }
    }

    /// The nesting of blocks is bounded by [`super::survey`].
    fn check_block(&self, block: &Block) -> Result<(), Found> {
        block.span_iter().try_for_each(|(statement, span)| {
            self.check_statement(statement).map_err(|problem| (problem, *span))?;
            inner_blocks(statement).into_iter().try_for_each(|block| self.check_block(block))
        })
    }

    /// A statement without the blocks that it holds.
    fn check_statement(&self, statement: &Statement) -> Result<(), Problem> {
        match statement {
            Statement::Emit(_)
            | Statement::Break
            | Statement::Continue
            | Statement::Return { .. }
            | Statement::Store { .. }
            | Statement::Call { .. }
            | Statement::Block(_)
            | Statement::If { .. }
            | Statement::Switch { .. }
            | Statement::Loop { .. } => Ok(()),
            Statement::ControlBarrier(barrier) if barrier.contains(Barrier::TEXTURE) => Err(self.forbidden("textures")),
            Statement::ControlBarrier(barrier) if barrier.contains(Barrier::SUB_GROUP) => {
                Err(self.forbidden("subgroup operations"))
            }
            Statement::ControlBarrier(_) => self.in_blocks("barriers"),
            Statement::Atomic { .. } => self.in_blocks("atomics"),
            Statement::WorkGroupUniformLoad { .. } => self.in_blocks("workgroup memory"),
            Statement::MemoryBarrier(_) => Err(self.forbidden("memory barriers")),
            Statement::Kill => Err(self.forbidden("`discard`")),
            Statement::ImageStore { .. } | Statement::ImageAtomic { .. } => Err(self.forbidden("textures")),
            Statement::RayQuery { .. } | Statement::RayPipelineFunction(_) => Err(self.forbidden("ray tracing")),
            Statement::SubgroupBallot { .. }
            | Statement::SubgroupGather { .. }
            | Statement::SubgroupCollectiveOperation { .. } => Err(self.forbidden("subgroup operations")),
            Statement::CooperativeStore { .. } => Err(self.forbidden("cooperative matrices")),
        }
    }
}

fn too_many(what: &str, max: u32) -> Problem {
    Problem::TooMany { what: what.to_owned(), max: max.into() }
}

pub(super) fn check_count(what: &str, count: u64, max: u32, span: Span) -> Result<(), Found> {
    if count > u64::from(max) { Err((too_many(what, max), span)) } else { Ok(()) }
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
            return Err((too_many("calls within calls", CALL_DEPTH_MAX), module.functions.get_span(handle)));
        }
        depths.push(depth);
    }
    Ok(())
}

/// Appends the functions that a block calls, in order, with repetitions.
pub(super) fn calls(block: &Block, found: &mut Vec<Handle<Function>>) {
    for statement in block.iter() {
        if let Statement::Call { function, .. } = statement {
            found.push(*function);
        }
        inner_blocks(statement).into_iter().for_each(|block| calls(block, found));
    }
}

/// The blocks that a statement holds, in order.
pub(super) fn inner_blocks(statement: &Statement) -> Vec<&Block> {
    match statement {
        Statement::Block(block) => vec![block],
        Statement::If { accept, reject, .. } => vec![accept, reject],
        Statement::Switch { cases, .. } => cases.iter().map(|case| &case.body).collect(),
        Statement::Loop { body, continuing, .. } => vec![body, continuing],
        // No other statement holds blocks.
        _ => Vec::new(),
    }
}

/// Where a parameter is named.
pub(super) fn parameter_span(function: &Function, index: usize) -> Option<Span> {
    let mut expressions = function.expressions.iter();
    let is_it =
        |expression: &Expression| matches!(expression, Expression::FunctionArgument(at) if *at as usize == index);
    expressions.find(|(_, expression)| is_it(expression)).map(|(handle, _)| function.expressions.get_span(handle))
}
