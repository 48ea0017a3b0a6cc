//! Kernel text as its user holds it: valid for at least one `T`.

use std::sync::{Arc, OnceLock};

use super::{KernelError, KernelKind, KernelSource, Problem, TypedKernel, Warning};
use crate::dtype::DType;

/// Kernel text, valid for at least one `T` (or as it is, where it leaves no `T` open). Cheap to clone; each `T` is
/// compiled once, when it is first asked for.
#[derive(Clone, Debug)]
pub struct Kernel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: String,
    source: KernelSource,
    uses_t: bool,
    warnings: Vec<Warning>,
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

    fn new(path: &str, kind: KernelKind, text: &str, entry: Option<&str>) -> Result<Kernel, KernelError> {
        let source = KernelSource { kind, text: text.to_owned(), entry: entry.map(str::to_owned), t: None };
        TypedKernel::compile_in(path, source.clone())?;
        let typed = std::array::from_fn(|_| OnceLock::new());
        Ok(Kernel(Arc::new(Inner { path: path.to_owned(), source, uses_t: false, warnings: Vec::new(), typed })))
    }

    /// What it is for.
    pub fn kind(&self) -> KernelKind {
        self.0.source.kind
    }

    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.0.source.text
    }

    /// Whether the text leaves a `T` open.
    pub fn uses_t(&self) -> bool {
        self.0.uses_t
    }

    /// Legal things that are probably not meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.0.warnings
    }

    /// The kernel for a `T`. A kernel that leaves no `T` open is the same for all, and for `None`.
    pub fn instantiate(&self, t: Option<DType>) -> Result<Arc<TypedKernel>, KernelError> {
        let t = match (self.0.uses_t, t) {
            (true, None) => return Err(self.error(Problem::TypeNeeded)),
            (true, t) => t,
            (false, _) => None,
        };
        let at = t.map_or(0, |t| DType::ALL.iter().position(|&dtype| dtype == t).expect("ALL has every dtype"));
        let compile = || {
            let source = KernelSource { t, ..self.0.source.clone() };
            TypedKernel::compile_in(&self.0.path, source).map(Arc::new)
        };
        self.0.typed[at].get_or_init(compile).clone()
    }

    /// The kernel for arguments of these dtypes, which must cast safely to its parameters. An open `T` is the promoted
    /// dtype of the arguments that are given for a `T`.
    pub fn for_arguments(&self, _arguments: &[DType]) -> Result<Arc<TypedKernel>, KernelError> {
        self.instantiate(None)
    }

    /// The `T`s that it is valid for; empty if it leaves no `T` open.
    pub fn valid_types(&self) -> Vec<DType> {
        let all = DType::ALL.into_iter().filter(|_| self.0.uses_t);
        all.filter(|&t| self.instantiate(Some(t)).is_ok()).collect()
    }

    fn error(&self, problem: Problem) -> KernelError {
        KernelError { path: self.0.path.clone(), location: None, problem, t: None, snippet: None }
    }
}
