//! `gridloom kernel check`: what a kernel takes and returns, or where it is wrong.

use std::fmt::Write;

use gridloom_worker::kernel::{Kernel, KernelError, Problem};

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
        Err(KernelError { problem: Problem::SeveralFunctions(names), .. }) if is_reduction(&names) => {
            Kernel::reduction_in(&path, &text)?
        }
        element => element?,
    };
    Ok(described(&path, &kernel)?)
}

fn is_reduction(names: &[String]) -> bool {
    REDUCTION.iter().all(|needed| names.iter().any(|name| name == needed))
}

fn described(path: &str, kernel: &Kernel) -> Result<String, KernelError> {
    let types = kernel.valid_types();
    let mut text = format!("{path}: {}", kernel.instantiate(types.first().copied())?);
    if kernel.uses_t() {
        let names: Vec<&str> = types.iter().map(|dtype| dtype.name()).collect();
        // Writing to a string cannot fail.
        let _ = write!(text, "\nT may be {}", names.join(", "));
    }
    for warning in kernel.warnings() {
        let _ = write!(
            text,
            "\nwarning: {path}:{}:{}: {}",
            warning.location.line, warning.location.column, warning.message
        );
    }
    Ok(text)
}
