//! The program `slo`: its argument tree, and which file carries which command out.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed or invalid input, 2 the endpoint
//! failed, 3 what `--check` asks for is so, 64 wrong usage.

mod eval;
mod generate;
mod import;
mod report;
mod routes;
mod run;
mod runbooks;
mod simulate;
mod status;
mod validate;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::document::{self, Findings, Input};
use crate::objective::{self, Objective};

/// Objectives as OpenSLO, and the rules, routes and runbooks that follow from them.
#[derive(Debug, Parser)]
#[command(
    name = "slo",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check objectives, and that the runbook of each alert exists and names it.
    Validate(validate::Validate),
    /// Make recording rules and alerts for Prometheus.
    Generate(generate::Generate),
    /// Make a configuration for Alertmanager: pages and tickets.
    Routes(routes::Routes),
    /// Write the runbooks of objectives, with computed numbers.
    Runbooks(runbooks::Runbooks),
    /// Evaluate objectives against Prometheus, and tell Slack and PagerDuty.
    Run(run::Run),
    /// Say once what the alerts of objectives see at a moment.
    Eval(eval::Eval),
    /// Show how budgets stand, and which alerts would fire.
    Status(status::Status),
    /// Tell what budgets were spent on, as text, page, chart or data.
    Report(report::Report),
    /// Write objectives of Sloth or Pyrra as OpenSLO.
    Import(import::Import),
    /// Say when an outage makes alerts fire and when they are quiet again.
    Simulate(simulate::Simulate),
}

/// The argument tree, for help, completions and man pages.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program; `args` includes its name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() {
                service::exit::USAGE
            } else {
                service::exit::OK
            };
            // Nothing can be done about a terminal that is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let done = match arguments.command {
        Command::Validate(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Routes(command) => command.run(),
        Command::Runbooks(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Simulate(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::from(service::exit::OK),
        Err(error) => {
            // Findings have been told one by one.
            if !error.to_string().is_empty() {
                terminal::note(&format!("error: {}", terminal::chain(&error)));
            }
            ExitCode::from(service::exit::code_of(&error))
        }
    }
}

/// Files of objectives, as most commands take them.
#[derive(Debug, clap::Args)]
struct Files {
    /// OpenSLO files, and folders with them
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,

    /// Take unknown fields for notices
    #[arg(long)]
    lenient: bool,
}

/// What files say.
struct Read {
    inputs: Vec<Input>,
    objectives: Vec<Objective>,
}

impl Files {
    /// Reads the files. Notices and mistakes are told; with mistakes nothing is returned.
    fn read(&self) -> Result<Read> {
        let inputs = document::read_all(&self.files)?;
        let mut findings = Findings::default();
        let mut documents = Vec::new();
        for input in &inputs {
            documents.extend(document::parse(
                &input.file,
                &input.text,
                self.lenient,
                &mut findings,
            ));
        }
        // What refers to a document with a mistake would be said to refer to nothing.
        let objectives = if findings.mistakes.is_empty() {
            objective::resolve(&documents, &mut findings)
        } else {
            Vec::new()
        };
        tell(&mut findings)?;
        if objectives.is_empty() {
            bail!("there is no objective: no document has `kind: SLO`");
        }
        Ok(Read { inputs, objectives })
    }
}

/// Tells what was found; mistakes are an error without a text of its own.
fn tell(findings: &mut Findings) -> Result<()> {
    findings.notices.sort();
    findings.mistakes.sort();
    for notice in &findings.notices {
        terminal::note(&format!("notice: {notice}"));
    }
    for mistake in &findings.mistakes {
        terminal::note(&format!("error: {mistake}"));
    }
    if findings.mistakes.is_empty() {
        return Ok(());
    }
    bail!("")
}

/// Replaces a file as a whole, so that whoever reads it (a reload of Prometheus) sees the old text or the new one.
fn write(path: &Path, text: &str) -> Result<()> {
    let context = || format!("write {}", path.display());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(context)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let done = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    if done.is_err() {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    done.with_context(context)
}
