//! A stage's program over typed kernels, as one validated module with one function.

use std::collections::BTreeMap;
use std::sync::Arc;

use naga::back::wgsl;
use naga::valid::ModuleInfo;
use naga::{
    Expression, Function, FunctionArgument, FunctionResult, Handle, Module, Scalar, Span, Statement, StructMember,
    Type, TypeInner,
};
use sha2::{Digest, Sha256};

use super::merge::import;
use super::text::{causes, validate};
use super::{ElementFunction, Requirements, Signature, TypedKernel};
use crate::dtype::DType;
use crate::ids::KernelHash;
use crate::stage::{Program, Step, Value};

/// A program as one function: it takes the leaves in order, then `at: At` if any kernel uses it, and returns its one
/// result, or a struct with one member per result.
#[derive(Debug)]
pub struct Composed {
    /// Holds the function and all it calls.
    pub module: Module,
    /// The proof that it is valid.
    pub info: ModuleInfo,
    /// The program.
    pub function: Handle<Function>,
    /// What it takes. A bool is WGSL's `bool` here; who calls converts the stored `u32`.
    pub leaves: Vec<DType>,
    /// Whether it takes `at: At` after them.
    pub uses_at: bool,
    /// What it returns.
    pub results: Vec<DType>,
    /// What a device must have to run it.
    pub requirements: Requirements,
    hash: [u8; 32],
}

impl Composed {
    /// SHA-256 of the program, the leaves and the kernels: equal hashes, equal code.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// The module as WGSL, by naga's writer: for people and golden tests.
    pub fn wgsl(&self) -> String {
        let written = wgsl::write_string(&self.module, &self.info, wgsl::WriterFlags::empty());
        written.unwrap_or_else(|error| format!("// cannot be written as WGSL: {error}\n"))
    }
}

/// A program that does not fit its kernels. A plan never makes one; a worker checks all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// A kernel was never sent.
    #[error("kernel {0} is not known here")]
    KernelMissing(KernelHash),
    /// A step calls a reduction kernel.
    #[error("kernel {0} is called per element, but is no element kernel")]
    NotElement(KernelHash),
    /// A step's arguments are not its kernel's parameters.
    #[error("step {step} calls {signature} with ({})", names(.found))]
    Arguments {
        /// Which step.
        step: u32,
        /// What its kernel takes.
        signature: String,
        /// What it is given.
        found: Vec<DType>,
    },
    /// A value that does not exist, or does not exist yet.
    #[error("the program uses {0:?}, which does not exist there")]
    NoSuchValue(Value),
    /// A program without results.
    #[error("the program has no result")]
    NoResult,
    /// naga's validator refuses the merged module: a bug of the engine.
    #[error("the composed kernel is invalid: {0}")]
    Invalid(String),
}

fn names(dtypes: &[DType]) -> String {
    dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ")
}

/// Makes one function of a program. `leaves` are the dtypes of its leaves; `kernel` finds a kernel by hash.
pub fn compose(
    program: &Program,
    leaves: &[DType],
    kernel: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
) -> Result<Composed, ComposeError> {
    let mut composer = Composer::new(leaves);
    for step in &program.steps {
        composer.add_kernel(step.kernel, kernel)?;
    }
    composer.add_parameters();
    for step in &program.steps {
        composer.call(step)?;
    }
    composer.finish(program)
}

/// A kernel in the module that is being composed.
struct Placed {
    function: Handle<Function>,
    result: Handle<Type>,
    signature: Signature,
}

/// One step's call in the function that is being composed.
struct Called {
    result: Handle<Expression>,
    fields: Vec<DType>,
    /// Whether `result` is a struct of the fields.
    is_struct: bool,
}

struct Composer<'a> {
    leaves: &'a [DType],
    module: Module,
    kernels: BTreeMap<KernelHash, Placed>,
    /// The type `At`, if any kernel takes one.
    at: Option<Handle<Type>>,
    requirements: Requirements,
    function: Function,
    arguments: Vec<Handle<Expression>>,
    steps: Vec<Called>,
}

impl<'a> Composer<'a> {
    fn new(leaves: &'a [DType]) -> Composer<'a> {
        Composer {
            leaves,
            module: Module::default(),
            kernels: BTreeMap::new(),
            at: None,
            requirements: leaves.iter().fold(Requirements::default(), |sum, &leaf| sum | Requirements::of_dtype(leaf)),
            function: Function { name: Some("element".to_owned()), ..Function::default() },
            arguments: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Puts a kernel into the module, once.
    fn add_kernel(
        &mut self,
        hash: KernelHash,
        find: &dyn Fn(KernelHash) -> Option<Arc<TypedKernel>>,
    ) -> Result<(), ComposeError> {
        if self.kernels.contains_key(&hash) {
            return Ok(());
        }
        let kernel = find(hash).ok_or(ComposeError::KernelMissing(hash))?;
        let ElementFunction { function, signature } = kernel.element().ok_or(ComposeError::NotElement(hash))?;
        let Function { arguments, result, .. } = &kernel.module().functions[*function];
        let result = result.as_ref().ok_or(ComposeError::NotElement(hash))?;
        let imported = import(&mut self.module, kernel.module(), *function);
        if let Some(argument) = arguments.last().filter(|_| signature.uses_at) {
            self.at.get_or_insert(imported.ty(argument.ty));
        }
        self.requirements = self.requirements | kernel.requirements();
        let placed = Placed {
            function: imported.function(*function),
            result: imported.ty(result.ty),
            signature: signature.clone(),
        };
        self.kernels.insert(hash, placed);
        Ok(())
    }

    fn add_parameters(&mut self) {
        let scalars = self.leaves.iter().map(|&leaf| scalar_type(&mut self.module, leaf));
        let leaves: Vec<_> = scalars.enumerate().map(|(index, ty)| (format!("x{index}"), ty)).collect();
        let at = self.at.map(|at| ("at".to_owned(), at));
        for (index, (name, ty)) in leaves.into_iter().chain(at).enumerate() {
            self.function.arguments.push(FunctionArgument { name: Some(name), ty, binding: None });
            let argument = self.append(Expression::FunctionArgument(index as u32));
            self.arguments.push(argument);
        }
    }

    fn append(&mut self, expression: Expression) -> Handle<Expression> {
        self.function.expressions.append(expression, Span::UNDEFINED)
    }

    /// Appends an expression that is computed here and now.
    fn emit(&mut self, expression: Expression) -> Handle<Expression> {
        let before = self.function.expressions.len();
        let handle = self.append(expression);
        let range = self.function.expressions.range_from(before);
        self.function.body.push(Statement::Emit(range), Span::UNDEFINED);
        handle
    }

    fn call(&mut self, step: &Step) -> Result<(), ComposeError> {
        let values: Vec<_> = step.arguments.iter().map(|&value| self.value(value)).collect::<Result<_, _>>()?;
        let placed = self.kernels.get(&step.kernel).ok_or(ComposeError::KernelMissing(step.kernel))?;
        let Placed { function, result, ref signature } = *placed;
        let (expressions, dtypes): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        if !signature.parameters.iter().map(|parameter| parameter.dtype).eq(dtypes.iter().copied()) {
            let signature = signature.to_string();
            return Err(ComposeError::Arguments { step: self.steps.len() as u32, signature, found: dtypes });
        }
        let at = signature.uses_at.then(|| self.arguments[self.leaves.len()]);
        let fields: Vec<DType> = signature.results.iter().map(|field| field.dtype).collect();
        let is_struct = matches!(self.module.types[result].inner, TypeInner::Struct { .. });
        let result = self.append(Expression::CallResult(function));
        let arguments = expressions.into_iter().chain(at).collect();
        let call = Statement::Call { function, arguments, result: Some(result) };
        self.function.body.push(call, Span::UNDEFINED);
        self.steps.push(Called { result, fields, is_struct });
        Ok(())
    }

    /// The expression and dtype of a leaf, or of a field of an earlier step.
    fn value(&mut self, value: Value) -> Result<(Handle<Expression>, DType), ComposeError> {
        let missing = ComposeError::NoSuchValue(value);
        match value {
            Value::Leaf(leaf) => {
                let &dtype = self.leaves.get(leaf as usize).ok_or(missing)?;
                Ok((self.arguments[leaf as usize], dtype))
            }
            Value::Step { step, field } => {
                let called = self.steps.get(step as usize).ok_or(missing.clone())?;
                let (base, is_struct) = (called.result, called.is_struct);
                let &dtype = called.fields.get(field as usize).ok_or(missing)?;
                let value = if is_struct { self.emit(Expression::AccessIndex { base, index: field }) } else { base };
                Ok((value, dtype))
            }
        }
    }

    /// Returns the results, validates the module and hands everything over.
    fn finish(mut self, program: &Program) -> Result<Composed, ComposeError> {
        let values: Vec<_> = program.results.iter().map(|&value| self.value(value)).collect::<Result<_, _>>()?;
        let (values, results): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        let (value, ty) = match values.as_slice() {
            [] => return Err(ComposeError::NoResult),
            &[value] => (value, scalar_type(&mut self.module, results[0])),
            _ => {
                let ty = results_type(&mut self.module, &results);
                (self.emit(Expression::Compose { ty, components: values }), ty)
            }
        };
        self.function.result = Some(FunctionResult { ty, binding: None });
        self.function.body.push(Statement::Return { value: Some(value) }, Span::UNDEFINED);
        let Composer { mut module, function, leaves, at, requirements, .. } = self;
        let function = module.functions.append(function, Span::UNDEFINED);
        let info = validate(&module).map_err(|error| ComposeError::Invalid(causes(&error)))?;
        let (leaves, uses_at, hash) = (leaves.to_vec(), at.is_some(), hash(program, leaves));
        Ok(Composed { module, info, function, leaves, uses_at, results, requirements, hash })
    }
}

fn hash(program: &Program, leaves: &[DType]) -> [u8; 32] {
    let bytes = postcard::to_stdvec(&(program, leaves)).expect("numbers and lists always serialize to memory");
    Sha256::digest(bytes).into()
}

fn scalar_type(module: &mut Module, dtype: DType) -> Handle<Type> {
    module.types.insert(Type { name: None, inner: TypeInner::Scalar(scalar(dtype)) }, Span::UNDEFINED)
}

/// A struct with one member per result.
fn results_type(module: &mut Module, results: &[DType]) -> Handle<Type> {
    let mut members = Vec::new();
    let (mut end, mut alignment) = (0u32, 1u32);
    for (index, &dtype) in results.iter().enumerate() {
        let width = u32::from(scalar(dtype).width);
        let offset = end.next_multiple_of(width);
        let ty = scalar_type(module, dtype);
        members.push(StructMember { name: Some(format!("r{index}")), ty, binding: None, offset });
        (end, alignment) = (offset + width, alignment.max(width));
    }
    let inner = TypeInner::Struct { members, span: end.next_multiple_of(alignment) };
    module.types.insert(Type { name: Some("Results".to_owned()), inner }, Span::UNDEFINED)
}

fn scalar(dtype: DType) -> Scalar {
    match dtype {
        DType::F32 => Scalar::F32,
        DType::F64 => Scalar::F64,
        DType::I32 => Scalar::I32,
        DType::U32 => Scalar::U32,
        DType::I64 => Scalar::I64,
        DType::U64 => Scalar::U64,
        DType::Bool => Scalar::BOOL,
    }
}
