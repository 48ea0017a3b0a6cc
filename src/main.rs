//! The one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    keep_vulkan_quiet();
    gridloom::cli::main()
}

/// Mesa's device selection asks Wayland which GPU is the default one, and without a session Wayland's client complains
/// on standard error. We choose GPUs ourselves.
#[allow(unsafe_code)]
fn keep_vulkan_quiet() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: no other thread has been started that could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
