//! The command line: arguments in, one result out, and an exit code that says who can mend what went wrong.
//!
//! Reading order: `args` (the grammar) -> `work` (the array that is asked for) -> `run` (a cluster, and where the
//! result goes) -> `report` (what is said at the end); `reach` (how a scheduler is found) -> `rank` and `serve` (the commands that
//! stay) -> `status`. Standard output carries results only; errors are one line on
//! standard error, followed by the user's own lines where a kernel is wrong. Nothing here knows how blocks are computed.

mod args;
pub mod array_text;
mod check;
pub mod doctor;
mod error;
pub mod human;
pub mod input;
mod interrupt;
pub mod output;
mod progress;
mod rank;
mod reach;
mod report;
mod run;
mod serve;
mod status;
mod work;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use gridloom_worker::ids::ClientId;
use serde_json::json;

use args::{Action, Command, Explain, KernelAction, RunArgs, StatusCommand};
use error::CliError;
use work::Work;

use crate::client;
use crate::plan::{self, ArrayIds};

/// Names what is logged on standard error, in the words of `tracing-subscriber`'s filters: `debug`,
/// `gridloom::scheduler=trace`. Nothing is logged without it.
const LOG_VARIABLE: &str = "GRIDLOOM_LOG";

/// The whole program.
pub fn main() -> ExitCode {
    start_log();
    let command = match Command::try_parse() {
        Ok(command) => command,
        // Help and version are not errors: clap prints them on standard output.
        Err(shown) if !shown.use_stderr() => return exit(shown.print().map_err(CliError::from)),
        Err(shown) if shown.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => shown.exit(),
        Err(error) => return exit(Err(error.into())),
    };
    exit(act(command.action))
}

fn start_log() {
    if let Ok(filter) = std::env::var(LOG_VARIABLE) {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    }
}

fn act(action: Action) -> Result<(), CliError> {
    match action {
        Action::Map(command) => compute(&work::map(&command.map)?, &command.map.run, Some(&command.output)),
        Action::Reduce(command) => {
            compute(&work::reduce(&command.reduce)?, &command.reduce.run, command.output.as_deref())
        }
        Action::Explain { what: Explain::Map { map, .. } } => explain(&work::map(&map)?, &map.run),
        Action::Explain { what: Explain::Reduce { reduce, .. } } => explain(&work::reduce(&reduce)?, &reduce.run),
        Action::Kernel { what: KernelAction::Check { kernel } } => print(check::check(&kernel)?.trim_end()),
        Action::Scheduler(command) => serve::scheduler(&command),
        Action::Worker(command) => serve::worker(&command),
        Action::Rank(command) => serve::rank(&command),
        Action::Status(command) => tell_status(&command),
        Action::Doctor { json: true } => print(&json!(doctor::Doctor::examine()).to_string()),
        Action::Doctor { json: false } => print(&doctor::Doctor::examine().to_string()),
    }
}

fn tell_status(command: &StatusCommand) -> Result<(), CliError> {
    let reach = command.reach.keys.find(command.reach.scheduler.clone())?;
    let status = client::status(&reach.address, &reach.token)?;
    if command.json { print(&status::json(&status).to_string()) } else { print(&status::table(&status)) }
}

fn compute(work: &Work, args: &RunArgs, output: Option<&Path>) -> Result<(), CliError> {
    let report = run::run(work, args, output)?;
    if args.json { print(&report.json().to_string()) } else { print(&report.to_string()) }
}

fn explain(work: &Work, args: &RunArgs) -> Result<(), CliError> {
    let plan = plan::plan(std::slice::from_ref(&work.array), &mut ArrayIds::new(ClientId(0)))?;
    let plan = plan::explain(&plan);
    if args.json { print(&json!({ "plan": plan }).to_string()) } else { print(plan.trim_end()) }
}

/// One text and the end of its line on standard output.
fn print(text: &str) -> Result<(), CliError> {
    match writeln!(io::stdout().lock(), "{text}") {
        // Whoever read it has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// One line on standard error. If nobody can be told, it is done all the same.
fn warn(text: &str) {
    let _ = writeln!(io::stderr().lock(), "warning: {text}");
}

fn exit(done: Result<(), CliError>) -> ExitCode {
    let Err(error) = done else { return ExitCode::SUCCESS };
    let mut stderr = io::stderr().lock();
    // If nobody can be told, the exit code still says it.
    let _ = writeln!(stderr, "error: {error}");
    if let Some(snippet) = error.snippet() {
        let _ = writeln!(stderr, "{snippet}");
    }
    ExitCode::from(error.exit_code())
}
