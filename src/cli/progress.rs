//! A progress bar, on a terminal and for long work only.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Work that ends sooner shows no bar.
const SHOWN_AFTER: Duration = Duration::from_millis(500);

/// A bar on standard error; gone without a trace when dropped.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    is_wanted: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar that shows itself only if the work lasts and standard error is a terminal.
    pub(super) fn start() -> Progress {
        Progress { started: Instant::now(), is_wanted: std::io::stderr().is_terminal(), bar: None }
    }

    /// Whether there is anybody to show it to.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// So many of so many blocks are done.
    pub(super) fn set(&mut self, done: u64, all: u64) {
        if !self.is_wanted || self.started.elapsed() < SHOWN_AFTER {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| bar(self.started.elapsed()));
        bar.set_length(all);
        bar.set_position(done);
    }
}

fn bar(elapsed: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {percent:>3}%  {pos}/{len} blocks  {elapsed} (left: {eta})");
    let bar = ProgressBar::new(0).with_elapsed(elapsed);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
