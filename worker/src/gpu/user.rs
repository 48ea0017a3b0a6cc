//! A user's reduction kernel as the engine's shaders see it: its accumulator declared, its functions spliced in.

use std::fmt::Write;

use naga::{ArraySize, Function, Handle, Module, ScalarKind, StructMember, Type, TypeInner};

use crate::kernel::{TypedKernel, portable};

use super::accumulate::Accumulator;

/// The stub of `lift`.
const LIFT: &str = "lift";
/// The stub of `combine`.
const COMBINE: &str = "combine";

/// A reduction kernel, ready to be spliced in.
pub(super) struct UserReduction {
    module: Module,
    lift: Handle<Function>,
    combine: Handle<Function>,
    hash: [u8; 32],
}

impl UserReduction {
    /// The kernel and its accumulator; `None` if it is no reduction, or its accumulator cannot be declared again.
    pub(super) fn new(kernel: &TypedKernel) -> Option<(UserReduction, Accumulator)> {
        let functions = kernel.reduction()?;
        let mut module = portable(kernel.module(), kernel.info());
        rename_structs(&mut module);
        let parameters = functions.signature.parameters.iter().enumerate();
        let parameters: Vec<String> = parameters.map(|(at, parameter)| format!("x{at}: {}", parameter.dtype)).collect();
        let text = format!(
            "{}alias Acc = {};\nalias Run = Acc;\nfn {LIFT}({}) -> Acc {{ return Acc(); }}\nfn {COMBINE}(a: Acc, b: Acc) -> Acc {{ return a; }}\n",
            structs(&module)?,
            type_text(&module, functions.accumulator)?,
            parameters.join(", ")
        );
        let accumulator = Accumulator {
            text,
            lift: LIFT,
            gather: COMBINE,
            end: "",
            combine: COMBINE,
            seal: "",
            bytes: u64::from(functions.signature.accumulator.bytes),
            uses_floats: false,
            uses_place: false,
            takes_bool: true,
        };
        let (lift, combine) = (functions.lift, functions.combine);
        Some((UserReduction { module, lift, combine, hash: kernel.hash().0 }, accumulator))
    }

    /// What names it among pipelines.
    pub(super) fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Stub, module, function.
    pub(super) fn splices(&self) -> [(&'static str, &Module, Handle<Function>); 2] {
        [(LIFT, &self.module, self.lift), (COMBINE, &self.module, self.combine)]
    }
}

/// Gives every struct a name that the engine's own text has not.
fn rename_structs(module: &mut Module) {
    let structs = module.types.iter().filter(|(_, ty)| matches!(ty.inner, TypeInner::Struct { .. }));
    for handle in structs.map(|(handle, _)| handle).collect::<Vec<_>>() {
        let name = Some(format!("User{}_", handle.index()));
        let inner = module.types[handle].inner.clone();
        module.types.replace(handle, Type { name, inner });
    }
}

/// The declarations of all structs that can be declared: types refer to earlier ones only.
fn structs(module: &Module) -> Option<String> {
    let mut text = String::new();
    for (_, ty) in module.types.iter() {
        let (Some(name), TypeInner::Struct { members, span }) = (&ty.name, &ty.inner) else { continue };
        let _ = write!(text, "struct {name} {{ ");
        for (at, member) in members.iter().enumerate() {
            let StructMember { name, ty, offset, .. } = member;
            // With its size said, a member ends where the next begins, whatever attributes the user wrote.
            let size = members.get(at + 1).map_or(*span, |next| next.offset) - offset;
            let (name, ty) = (name.as_ref()?, type_text(module, *ty)?);
            let size = if ty == "bool" { String::new() } else { format!("@size({size}) ") };
            let _ = write!(text, "{size}{name}: {ty}, ");
        }
        text.push_str("}\n");
    }
    Some(text)
}

fn type_text(module: &Module, ty: Handle<Type>) -> Option<String> {
    let scalar = |scalar: naga::Scalar| match (scalar.kind, scalar.width) {
        (ScalarKind::Bool, _) => Some("bool".to_owned()),
        (ScalarKind::Float, width) => Some(format!("f{}", u32::from(width) * 8)),
        (ScalarKind::Sint, width) => Some(format!("i{}", u32::from(width) * 8)),
        (ScalarKind::Uint, width) => Some(format!("u{}", u32::from(width) * 8)),
        (ScalarKind::AbstractInt | ScalarKind::AbstractFloat, _) => None,
    };
    match module.types[ty].inner {
        TypeInner::Scalar(found) => scalar(found),
        TypeInner::Vector { size, scalar: found } => Some(format!("vec{}<{}>", size as u32, scalar(found)?)),
        TypeInner::Matrix { columns, rows, scalar: found } => {
            Some(format!("mat{}x{}<{}>", columns as u32, rows as u32, scalar(found)?))
        }
        TypeInner::Array { base, size: ArraySize::Constant(count), .. } => {
            Some(format!("array<{}, {count}>", type_text(module, base)?))
        }
        TypeInner::Struct { .. } => module.types[ty].name.clone(),
        _ => None,
    }
}
