//! The one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    keep_vulkan_quiet();
    outlive_file_limits();
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

/// A file that may grow no more is an error of whoever writes it, as a full disk is. Unless told otherwise the system
/// ends the program instead, and leaves its temporary file behind.
#[cfg(unix)]
#[allow(unsafe_code)]
fn outlive_file_limits() {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

#[cfg(not(unix))]
fn outlive_file_limits() {}
