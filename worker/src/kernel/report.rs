//! What can be said about a kernel without running it: the text of `kernel check`.

use std::fmt;

use super::{Kernel, KernelKind, Requirements, Warning};
use crate::dtype::DType;

/// All that is known of a kernel. `Display` is the text of `kernel check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it is for.
    pub kind: KernelKind,
    /// Its signature for each valid `T`; one, without a `T`, where the text leaves none open.
    pub signatures: Vec<TypedReport>,
    /// The `T`s that it is not valid for, each with the error.
    pub refused: Vec<(DType, String)>,
    /// Legal things that are probably not meant.
    pub warnings: Vec<Warning>,
    path: String,
}

/// What is known of a kernel with its `T` given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedReport {
    /// What `T` is.
    pub t: Option<DType>,
    /// The signature, as text.
    pub signature: String,
    /// What a device must have.
    pub requirements: Requirements,
    /// The kernel's hash, in hex.
    pub hash: String,
}

impl Report {
    /// Compiles a kernel for every `T`.
    pub fn new(kernel: &Kernel) -> Report {
        let mut report = Report {
            kind: kernel.kind(),
            signatures: Vec::new(),
            refused: Vec::new(),
            warnings: kernel.warnings(),
            path: kernel.path().to_owned(),
        };
        let types = if kernel.uses_t() { DType::ALL.map(Some).to_vec() } else { vec![None] };
        for t in types {
            match (kernel.instantiate(t), t) {
                (Ok(typed), _) => report.signatures.push(TypedReport {
                    t,
                    signature: typed.to_string(),
                    requirements: typed.requirements(),
                    hash: typed.hash().0.iter().map(|byte| format!("{byte:02x}")).collect(),
                }),
                (Err(error), Some(t)) => report.refused.push((t, error.problem().to_string())),
                (Err(_), None) => {}
            }
        }
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            KernelKind::Element => "element kernel",
            KernelKind::Reduction => "reduction kernel",
            KernelKind::Block => "block kernel",
        };
        writeln!(f, "{}: a valid {kind}", self.path)?;
        for TypedReport { t, signature, requirements, .. } in &self.signatures {
            let t = t.map_or(String::new(), |t| format!("T = {t}: "));
            let needs = match requirements.names().as_slice() {
                [] => String::new(),
                names => format!("    needs {}", names.join(", ")),
            };
            writeln!(f, "  {t}{signature}{needs}")?;
        }
        for (t, problem) in &self.refused {
            writeln!(f, "  T = {t}: no, {problem}")?;
        }
        for Warning { location, message } in &self.warnings {
            writeln!(f, "{}:{}:{}: warning: {message}", self.path, location.line, location.column)?;
        }
        Ok(())
    }
}
