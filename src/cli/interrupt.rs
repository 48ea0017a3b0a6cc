//! Ctrl-C: the first press ends the work cleanly; a second one, or work that does not end, ends the process.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::error::CliError;

/// How long cancelled work may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether somebody pressed Ctrl-C, and what then is to be stopped.
#[derive(Clone, Default)]
pub(super) struct Interrupt(Arc<Inner>);

#[derive(Default)]
struct Inner {
    was_pressed: AtomicBool,
    stop: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// What must not be left behind when the process ends at once.
    partial: Mutex<Option<PathBuf>>,
}

impl Interrupt {
    /// Takes over Ctrl-C (and termination, where the system has it). Once per process.
    pub(super) fn catch() -> Result<Interrupt, CliError> {
        let interrupt = Interrupt(Arc::default());
        let caught = interrupt.clone();
        ctrlc::set_handler(move || caught.press())?;
        Ok(interrupt)
    }

    fn press(&self) {
        if self.0.was_pressed.swap(true, Ordering::SeqCst) {
            self.end();
        }
        let late = self.clone();
        // Without it a second press ends the process.
        let _ = thread::Builder::new().name("gridloom-interrupt".to_owned()).spawn(move || {
            thread::sleep(PATIENCE);
            late.end();
        });
        if let Some(stop) = lock(&self.0.stop).as_ref() {
            stop();
        }
    }

    /// Ends the process as it stands, without its temporary file.
    fn end(&self) -> ! {
        if let Some(partial) = lock(&self.0.partial).as_ref() {
            // If it is gone already, so much the better.
            let _ = fs::remove_file(partial);
        }
        std::process::exit(i32::from(CliError::Interrupted.exit_code()))
    }

    /// From now on the first press calls `stop`; if it was pressed already, at once.
    pub(super) fn on_press(&self, stop: impl Fn() + Send + 'static) {
        let mut slot = lock(&self.0.stop);
        if self.0.was_pressed.load(Ordering::SeqCst) {
            stop();
        }
        let before = slot.replace(Box::new(stop));
        // What it held may take its time to end.
        drop(slot);
        drop(before);
    }

    /// Names the file that a second press removes.
    pub(super) fn guard(&self, partial: Option<PathBuf>) {
        *lock(&self.0.partial) = partial;
    }

    /// `Interrupted` after a press; whatever failed since then failed because of it.
    pub(super) fn check(&self) -> Result<(), CliError> {
        if self.0.was_pressed.load(Ordering::SeqCst) { Err(CliError::Interrupted) } else { Ok(()) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
