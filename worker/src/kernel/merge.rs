//! Puts a function of one validated module, with all it needs, into another.
//!
//! Names need no care: naga's modules know functions, types and constants by handle, and its writers tell two helpers
//! of one name apart.

use naga::{Arena, Constant, Expression, Function, Handle, Module, Range, Span, StructMember, Type, TypeInner};

use super::allowed::calls;
use super::remap::Remap;

/// What became of a module's arenas, by old index.
pub(super) struct Imported {
    types: Vec<Handle<Type>>,
    /// `None` until it is reached, and for functions that `root` does not need.
    functions: Vec<Option<Handle<Function>>>,
    constants: Vec<Option<Handle<Constant>>>,
    expressions: Vec<Handle<Expression>>,
}

impl Imported {
    pub(super) fn ty(&self, old: Handle<Type>) -> Handle<Type> {
        self.types[old.index()]
    }

    pub(super) fn function(&self, old: Handle<Function>) -> Handle<Function> {
        self.functions[old.index()].expect("a function comes after those it calls, and those were imported")
    }

    fn constant(&self, old: Handle<Constant>) -> Handle<Constant> {
        self.constants[old.index()].expect("constants are imported before what uses them")
    }

    fn expression(&self, old: Handle<Expression>) -> Handle<Expression> {
        self.expressions[old.index()]
    }
}

/// Appends `root` of `source`, the functions it calls, and the types and constants of `source`.
pub(super) fn import(target: &mut Module, source: &Module, root: Handle<Function>) -> Imported {
    let mut imported = Imported {
        types: Vec::new(),
        functions: vec![None; source.functions.len()],
        constants: vec![None; source.constants.len()],
        expressions: Vec::new(),
    };
    import_types(target, source, &mut imported);
    import_constants(target, source, &mut imported);
    let needed = reachable(source, root);
    for (handle, function) in source.functions.iter().filter(|(handle, _)| needed[handle.index()]) {
        let function = copy(function, &imported);
        imported.functions[handle.index()] = Some(target.functions.append(function, Span::UNDEFINED));
    }
    imported
}

/// By index, whether `root` is or calls a function. Callees stand before their callers, so one pass backwards will do.
fn reachable(source: &Module, root: Handle<Function>) -> Vec<bool> {
    let mut needed = vec![false; source.functions.len()];
    needed[root.index()] = true;
    for (handle, function) in source.functions.iter().rev() {
        if needed[handle.index()] {
            let mut callees = Vec::new();
            calls(&function.body, &mut callees);
            callees.iter().for_each(|callee| needed[callee.index()] = true);
        }
    }
    needed
}

/// A type refers to earlier ones only. Types that are equal become one: structs by name too, others whatever aliases
/// they were given.
fn import_types(target: &mut Module, source: &Module, imported: &mut Imported) {
    for (_, Type { name, inner }) in source.types.iter() {
        let inner = match *inner {
            TypeInner::Pointer { base, space } => TypeInner::Pointer { base: imported.ty(base), space },
            TypeInner::Array { base, size, stride } => TypeInner::Array { base: imported.ty(base), size, stride },
            TypeInner::Struct { ref members, span } => {
                let member = |member: &StructMember| StructMember { ty: imported.ty(member.ty), ..member.clone() };
                TypeInner::Struct { members: members.iter().map(member).collect(), span }
            }
            ref other => other.clone(),
        };
        let name = name.clone().filter(|_| matches!(inner, TypeInner::Struct { .. }));
        imported.types.push(target.types.insert(Type { name, inner }, Span::UNDEFINED));
    }
    for (kind, &ty) in source.special_types.predeclared_types.iter() {
        target.special_types.predeclared_types.insert(kind.clone(), imported.ty(ty));
    }
}

/// Constants and the expressions that make them refer to each other, earlier ones only.
fn import_constants(target: &mut Module, source: &Module, imported: &mut Imported) {
    for (_, expression) in source.global_expressions.iter() {
        if let Expression::Constant(constant) = *expression {
            import_constant(target, source, imported, constant);
        }
        let expression = with_remap(imported, |remap| remap.expression(expression));
        imported.expressions.push(target.global_expressions.append(expression, Span::UNDEFINED));
    }
    for (handle, _) in source.constants.iter() {
        import_constant(target, source, imported, handle);
    }
}

fn import_constant(target: &mut Module, source: &Module, imported: &mut Imported, handle: Handle<Constant>) {
    if imported.constants[handle.index()].is_none() {
        let Constant { name, ty, init } = &source.constants[handle];
        let constant = Constant { name: name.clone(), ty: imported.ty(*ty), init: imported.expression(*init) };
        imported.constants[handle.index()] = Some(target.constants.append(constant, Span::UNDEFINED));
    }
}

/// The remapping of module-level expressions.
fn with_remap<R>(imported: &Imported, run: impl FnOnce(&Remap<'_>) -> R) -> R {
    run(&Remap {
        ty: &|ty| imported.ty(ty),
        constant: &|constant| imported.constant(constant),
        function: &|function| imported.function(function),
        expression: &|expression| imported.expression(expression),
        range: &Range::new_from_bounds,
    })
}

/// The same function among the imported types, constants and functions. Its own expressions keep their handles.
fn copy(function: &Function, imported: &Imported) -> Function {
    let remap = Remap {
        ty: &|ty| imported.ty(ty),
        constant: &|constant| imported.constant(constant),
        function: &|function| imported.function(function),
        expression: &|expression| expression,
        range: &Range::new_from_bounds,
    };
    let mut expressions = Arena::new();
    for (_, expression) in function.expressions.iter() {
        expressions.append(remap.expression(expression), Span::UNDEFINED);
    }
    let mut copy = Function { name: function.name.clone(), expressions, ..Function::default() };
    copy.arguments = function.arguments.clone();
    copy.arguments.iter_mut().for_each(|argument| argument.ty = imported.ty(argument.ty));
    copy.result = function.result.clone();
    copy.result.iter_mut().for_each(|result| result.ty = imported.ty(result.ty));
    copy.local_variables = remap.locals(&function.local_variables);
    copy.named_expressions = function.named_expressions.clone();
    copy.body = remap.block(&function.body);
    copy
}
