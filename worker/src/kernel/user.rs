//! Kernel text as its user holds it: valid for at least one `T`.

use std::sync::{Arc, OnceLock};

use super::{KernelError, KernelKind, KernelSource, Problem, TypedKernel, Warning};
use crate::dtype::DType;

/// Kernel text, valid for at least one `T` (or as it is, where it leaves no `T` open). Cheap to clone; each `T` is
/// compiled once, when it is first asked for.
///
/// ```
/// use gridloom_worker::dtype::DType;
/// use gridloom_worker::kernel::Kernel;
///
/// let poly = Kernel::element("fn f(x: T) -> T { return 2*x*x + 3*x + 1; }")?;
/// let typed = poly.instantiate(Some(DType::F64))?;
/// assert_eq!(typed.to_string(), "f(x: f64) -> f64");
/// # Ok::<(), gridloom_worker::kernel::KernelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Kernel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: String,
    source: KernelSource,
    uses_t: bool,
    /// One per [`DType::ALL`]; only the first is used where no `T` is open.
    typed: [OnceLock<Result<Arc<TypedKernel>, KernelError>>; DType::ALL.len()],
}

impl Kernel {
    /// An element kernel: the function that no other function calls.
    pub fn element(text: &str) -> Result<Kernel, KernelError> {
        Kernel::element_in("kernel", text, None)
    }

    /// An element kernel: the function called `name`.
    pub fn element_named(text: &str, name: &str) -> Result<Kernel, KernelError> {
        Kernel::element_in("kernel", text, Some(name))
    }

    /// An element kernel whose errors call the text `path`.
    pub fn element_in(path: &str, text: &str, name: Option<&str>) -> Result<Kernel, KernelError> {
        Kernel::new(path, KernelKind::Element, text, name)
    }

    /// A reduction kernel.
    pub fn reduction(text: &str) -> Result<Kernel, KernelError> {
        Kernel::reduction_in("kernel", text)
    }

    /// A reduction kernel whose errors call the text `path`.
    pub fn reduction_in(path: &str, text: &str) -> Result<Kernel, KernelError> {
        Kernel::new(path, KernelKind::Reduction, text, None)
    }

    /// A block kernel: the text's one `@compute` entry point.
    ///
    /// ```
    /// use gridloom_worker::kernel::Kernel;
    ///
    /// let reverse = Kernel::block("
    ///     @group(0) @binding(0) var<storage, read> x: array<T>;
    ///     @group(0) @binding(1) var<storage, read_write> y: array<T>;
    ///     @compute @workgroup_size(64) fn reverse(@builtin(global_invocation_id) id: vec3<u32>) {
    ///         y[id.x] = x[arrayLength(&x) - 1 - id.x];
    ///     }",
    /// )?;
    /// assert!(reverse.uses_t());
    /// # Ok::<(), gridloom_worker::kernel::KernelError>(())
    /// ```
    pub fn block(text: &str) -> Result<Kernel, KernelError> {
        Kernel::block_in("kernel", text, None)
    }

    /// A block kernel: the `@compute` entry point called `name`, with the buffers that it uses. (Those that only other
    /// entry points use are not its own.)
    pub fn block_named(text: &str, name: &str) -> Result<Kernel, KernelError> {
        Kernel::block_in("kernel", text, Some(name))
    }

    /// A block kernel whose errors call the text `path`.
    pub fn block_in(path: &str, text: &str, name: Option<&str>) -> Result<Kernel, KernelError> {
        Kernel::new(path, KernelKind::Block, text, name)
    }

    fn new(path: &str, kind: KernelKind, text: &str, entry: Option<&str>) -> Result<Kernel, KernelError> {
        let source = KernelSource { kind, text: text.to_owned(), entry: entry.map(str::to_owned), t: None };
        let typed = std::array::from_fn(|_| OnceLock::new());
        let open = Inner { path: path.to_owned(), source, uses_t: true, typed };
        match open.compile(None) {
            Err(error) if *error.problem() == Problem::TypeNeeded => open.first_valid(),
            Err(error) => Err(error),
            Ok(kernel) => {
                let closed = Inner { uses_t: false, ..open };
                closed.typed[0].get_or_init(|| Ok(kernel));
                Ok(Kernel(Arc::new(closed)))
            }
        }
    }

    /// What it is for.
    pub fn kind(&self) -> KernelKind {
        self.0.source.kind
    }

    /// What messages call its text: a file, or `kernel`.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.0.source.text
    }

    /// Whether the text leaves a `T` open.
    pub fn uses_t(&self) -> bool {
        self.0.uses_t
    }

    /// Legal things that are probably not meant, for any `T`.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings: Vec<Warning> =
            self.instances().iter().flat_map(|kernel| kernel.warnings().iter().cloned()).collect();
        warnings.sort_by_key(|warning| (warning.location.line, warning.location.column));
        warnings.dedup();
        warnings
    }

    /// The kernel for a `T`. A kernel that leaves no `T` open is the same for all, and for `None`.
    pub fn instantiate(&self, t: Option<DType>) -> Result<Arc<TypedKernel>, KernelError> {
        match (self.0.uses_t, t) {
            (true, None) => Err(self.error(Problem::TypeNeeded)),
            (true, Some(t)) => self.0.for_type(t),
            (false, _) => self.0.for_type(DType::ALL[0]),
        }
    }

    /// The kernel for arguments of these dtypes, which must cast safely to its parameters. An open `T` is the promoted
    /// dtype of the arguments that are given for a `T`.
    pub fn for_arguments(&self, arguments: &[DType]) -> Result<Arc<TypedKernel>, KernelError> {
        let kernel = match self.0.uses_t {
            true => self.instantiate(Some(self.infer(arguments)?))?,
            false => self.instantiate(None)?,
        };
        let parameters = kernel.parameters();
        let fits = parameters.len() == arguments.len()
            && parameters.iter().zip(arguments).all(|(parameter, from)| from.casts_safely_to(parameter.dtype));
        if fits { Ok(kernel) } else { Err(self.misfit(&kernel, arguments)) }
    }

    /// What `T` is for arguments of these dtypes. A parameter is a `T` if its dtype follows `T`.
    fn infer(&self, arguments: &[DType]) -> Result<DType, KernelError> {
        let instances = self.instances();
        let (Some(first), Some(last)) = (instances.first(), instances.last()) else {
            return Err(self.error(Problem::TypeNeeded));
        };
        if let [only] = instances.as_slice() {
            return only.source().t.ok_or_else(|| self.error(Problem::TypeNeeded));
        }
        if first.parameters().len() != arguments.len() {
            return Err(self.misfit(first, arguments));
        }
        let pairs = first.parameters().iter().zip(last.parameters()).zip(arguments);
        let given = pairs.filter(|((one, other), _)| one.dtype != other.dtype).map(|(_, argument)| *argument);
        given.reduce(DType::promote).ok_or_else(|| self.error(Problem::TypeNeeded))
    }

    /// The `T`s that it is valid for; empty if it leaves no `T` open.
    pub fn valid_types(&self) -> Vec<DType> {
        self.instances().iter().filter_map(|kernel| kernel.source().t).collect()
    }

    /// All that it can be, by `T`.
    fn instances(&self) -> Vec<Arc<TypedKernel>> {
        let types = if self.0.uses_t { &DType::ALL[..] } else { &DType::ALL[..1] };
        types.iter().filter_map(|&t| self.0.for_type(t).ok()).collect()
    }

    fn error(&self, problem: Problem) -> KernelError {
        KernelError::new(&self.0.path, problem)
    }

    fn misfit(&self, kernel: &TypedKernel, arguments: &[DType]) -> KernelError {
        let names = |dtypes: &mut dyn Iterator<Item = DType>| dtypes.map(DType::name).collect::<Vec<_>>().join(", ");
        self.error(Problem::Arguments {
            function: kernel.name().to_owned(),
            expected: names(&mut kernel.parameters().iter().map(|parameter| parameter.dtype)),
            found: names(&mut arguments.iter().copied()),
        })
    }
}

impl Inner {
    /// A kernel that leaves `T` open must be valid for one at least. If it is valid for none, the error that most `T`s
    /// give is the one to mend; which `T` it was is told only if no other gives the same.
    fn first_valid(self) -> Result<Kernel, KernelError> {
        let mut errors: Vec<(KernelError, u32)> = Vec::new();
        for t in DType::ALL {
            let error = match self.for_type(t) {
                Ok(_) => return Ok(Kernel(Arc::new(self))),
                Err(error) => error,
            };
            let is_same =
                |other: &KernelError| other.problem() == error.problem() && other.location() == error.location();
            match errors.iter_mut().find(|(other, _)| is_same(other)) {
                Some((_, count)) => *count += 1,
                None => errors.push((error, 1)),
            }
        }
        errors.reverse();
        let (error, count) = errors.into_iter().max_by_key(|(_, count)| *count).expect("every T gave an error");
        let t = error.t().filter(|_| count == 1);
        Err(error.with_t(t))
    }

    fn for_type(&self, t: DType) -> Result<Arc<TypedKernel>, KernelError> {
        let at = DType::ALL.iter().position(|&dtype| dtype == t).expect("ALL has every dtype");
        self.typed[at].get_or_init(|| self.compile(Some(t).filter(|_| self.uses_t))).clone()
    }

    fn compile(&self, t: Option<DType>) -> Result<Arc<TypedKernel>, KernelError> {
        TypedKernel::compile_in(&self.path, KernelSource { t, ..self.source.clone() }).map(Arc::new)
    }
}
