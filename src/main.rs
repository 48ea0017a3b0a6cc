//! The one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    gridloom::cli::main()
}
