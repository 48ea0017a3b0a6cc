//! `gridloom kernel check`: what a kernel takes and returns, or where it is wrong.

use gridloom_worker::kernel::{Kernel, KernelError, Problem, Report};

use super::error::CliError;
use super::input::KernelPath;
use super::work::{kernel_text, map_kernel};

/// The functions that make a text a reduction kernel.
const REDUCTION: [&str; 4] = ["identity", "lift", "combine", "finish"];

/// The kernel in words, with its warnings.
pub(super) fn check(kernel: &KernelPath) -> Result<String, CliError> {
    let kernel = match map_kernel(kernel) {
        Err(CliError::Kernel(error)) if is_reduction(&error) => {
            Kernel::reduction_in(&kernel.path.to_string_lossy(), &kernel_text(kernel)?)?
        }
        other => other?,
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
