//! `gridloom kernel check`: what a kernel takes and returns, or where it is wrong.

use gridloom_worker::kernel::{Kernel, KernelError, Problem, Report};

use super::error::CliError;
use super::input::KernelPath;
use super::work::kernel_text;

/// The functions that make a text a reduction kernel.
const REDUCTION: [&str; 4] = ["identity", "lift", "combine", "finish"];

/// The kernel in words, with its warnings.
pub(super) fn check(kernel: &KernelPath) -> Result<String, CliError> {
    let text = kernel_text(kernel)?;
    let path = kernel.path.to_string_lossy();
    let kernel = match Kernel::element_in(&path, &text, kernel.entry.as_deref()) {
        Err(error) if is_reduction(&error) => Kernel::reduction_in(&path, &text)?,
        element => element?,
    };
    Ok(Report::new(&kernel).to_string())
}

/// Nothing calls the four functions, so as an element kernel the text is ambiguous: it is meant as the other kind.
fn is_reduction(error: &KernelError) -> bool {
    match error.problem() {
        Problem::SeveralFunctions(names) => REDUCTION.iter().all(|needed| names.iter().any(|name| name == needed)),
        _ => false,
    }
}
