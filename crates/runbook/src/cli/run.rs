//! `mainstay runbook run`: hosts and parameters from the command line, the run watched on the terminal, the transcript.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Format, library_for};
use crate::host::{BoxFuture, Stop, Stopper};
use crate::lab_state::{self, Hosts};
use crate::runner::{Observer, Plan, Select};
use crate::transcript::{Outcome, Record, Transcript, write_file};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Name of the runbook, or a path that ends in .md
    name: String,

    /// Value of a parameter of the page
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,

    /// Address of a host: loopback addresses run here, others over ssh; the running lab is then used only with --lab
    #[arg(long = "on", value_name = "HOST=ADDRESS", value_parser = pair)]
    hosts: Vec<(String, String)>,

    /// State folder of the lab whose hosts to use [default: the lab that `mainstay up` started]
    #[arg(long, value_name = "DIR", env = "MAINSTAY_LAB")]
    lab: Option<PathBuf>,

    /// Show what would run, and run nothing
    #[arg(long)]
    dry_run: bool,

    /// Run only this step
    #[arg(long, value_name = "NAME", conflicts_with_all = ["from", "section"])]
    step: Option<String>,

    /// Run from this step on
    #[arg(long, value_name = "NAME", conflicts_with = "section")]
    from: Option<String>,

    /// Run only the steps of this section, such as Checks
    #[arg(long, value_name = "TITLE")]
    section: Option<String>,

    /// Run destructive steps without asking
    #[arg(long)]
    yes: bool,

    /// Also write the transcript to this file: JSON if its name ends in .json or with --format json, else text
    #[arg(long, value_name = "FILE")]
    transcript: Option<PathBuf>,

    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

impl Arguments {
    pub(super) fn run(self, dir: Option<PathBuf>) -> Result<(), Failure> {
        let parsed = library_for(dir, &self.name).and_then(|library| library.read(&self.name));
        let parsed = parsed.map_err(|error| Failure::Usage(format!("{error:#}")))?;
        if parsed.has_errors() {
            for problem in &parsed.problems {
                terminal::note(problem);
            }
            return Err(Failure::Usage(format!(
                "run runbook `{}`: the page has errors",
                parsed.page.name
            )));
        }
        let hosts = self.hosts()?;
        let given = unique(&self.params, "--param")?;
        let plan = Plan::new(&parsed.page, &hosts, &given, &self.select()).map_err(Failure::Usage)?;
        let transcript = if self.dry_run {
            plan.dry_run(Timestamp::now())
        } else {
            self.carry_out(&plan)?
        };
        self.publish(&transcript)?;
        match transcript.outcome {
            Outcome::Passed | Outcome::Planned => Ok(()),
            Outcome::Failed | Outcome::Interrupted => Err(Failure::Said),
        }
    }

    fn select(&self) -> Select {
        match (&self.step, &self.from, &self.section) {
            (Some(name), _, _) => Select::Only(name.clone()),
            (_, Some(name), _) => Select::From(name.clone()),
            (_, _, Some(title)) => Select::Section(title.clone()),
            _ => Select::All,
        }
    }

    fn hosts(&self) -> Result<Hosts, Failure> {
        let running =
            lab_state::default_folder().filter(|folder| folder.join(lab_state::FILE_NAME).is_file());
        let usage = |error: anyhow::Error| Failure::Usage(format!("{error:#}"));
        let mut hosts = match (&self.lab, running) {
            (Some(folder), _) => Hosts::of_lab(folder).map_err(usage)?,
            (None, Some(folder)) if self.hosts.is_empty() => Hosts::of_lab(&folder).map_err(usage)?,
            _ => Hosts::local_only(),
        };
        for (name, address) in unique(&self.hosts, "--on")? {
            hosts.insert_address(&name, &address).map_err(Failure::Usage)?;
        }
        Ok(hosts)
    }

    fn carry_out(&self, plan: &Plan<'_>) -> Result<Transcript, Failure> {
        let destructive = plan.destructive();
        if !destructive.is_empty() && !self.yes && !io::stdin().is_terminal() {
            return Err(Failure::Usage(format!(
                "destructive steps ({}) want consent and stdin is no terminal; give --yes, or leave them out with \
                 --step or --section",
                destructive.join(", ")
            )));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("start the runner")?;
        let mut console = Console {
            format: self.format,
            yes: self.yes,
        };
        let transcript = runtime.block_on(async {
            let (stopper, stop) = Stop::pair();
            watch_signals(stopper).context("watch for Ctrl-C")?;
            anyhow::Ok(plan.run(&mut console, &stop, Timestamp::now).await)
        })?;
        // A question that was never answered still waits for stdin; the process ends without it.
        runtime.shutdown_background();
        Ok(transcript)
    }

    /// The transcript's file, and the rest of stdout.
    fn publish(&self, transcript: &Transcript) -> Result<(), Failure> {
        if let Some(file) = &self.transcript {
            let json = self.format == Format::Json || file.extension().is_some_and(|end| end == "json");
            let text = if json {
                transcript.json()
            } else {
                transcript.text()
            };
            write_file(file, &text).with_context(|| format!("write transcript {}", file.display()))?;
        }
        let text = match (self.format, self.dry_run) {
            (Format::Json, _) => transcript.json(),
            (Format::Text, true) => transcript.text(),
            (Format::Text, false) => transcript.summary(), // the steps were printed while they ran
        };
        terminal::out(&text);
        Ok(())
    }
}

fn unique(pairs: &[(String, String)], flag: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        if map.insert(name.clone(), value.clone()).is_some() {
            return Err(Failure::Usage(format!("{flag} names `{name}` twice; keep one")));
        }
    }
    Ok(map)
}

/// Ctrl-C and a polite end both stop the running step; the transcript is still written.
fn watch_signals(stopper: Stopper) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopper.stop();
    });
    Ok(())
}

/// Shows the run where the operator sits, and asks there.
struct Console {
    format: Format,
    yes: bool,
}

impl Console {
    /// With JSON, stdout belongs to the transcript and progress goes to stderr.
    fn show(&self, text: &str) {
        let _ = match self.format {
            Format::Text => io::stdout()
                .write_all(text.as_bytes())
                .and_then(|()| io::stdout().flush()),
            Format::Json => io::stderr().write_all(text.as_bytes()),
        }; // a reader that went away must not end a repair half-way
    }
}

impl Observer for Console {
    fn begins(&mut self, transcript: &Transcript) {
        self.show(&transcript.heading());
    }

    fn step_begins(&mut self, number: usize, total: usize, record: &Record) {
        self.show(&record.opening(number, total));
    }

    fn step_ends(&mut self, _number: usize, _total: usize, record: &Record) {
        self.show(&record.closing());
    }

    fn consents<'a>(&'a mut self, record: &'a Record) -> BoxFuture<'a, bool> {
        if self.yes {
            return Box::pin(std::future::ready(true));
        }
        let question = format!(
            "  step {} on {} is destructive: run it? [y/N] ",
            record.step, record.host
        );
        Box::pin(async move {
            let answer = tokio::task::spawn_blocking(move || {
                let mut line = String::new();
                let asked = io::stderr().write_all(question.as_bytes());
                asked
                    .and_then(|()| io::stdin().lock().read_line(&mut line))
                    .map(|_| line)
            });
            // A question that could not be asked was not answered with yes.
            matches!(answer.await, Ok(Ok(line)) if matches!(line.trim(), "y" | "Y" | "yes"))
        })
    }
}
