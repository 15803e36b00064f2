//! `mainstay runbook run`: hosts and parameters from the command line, the run watched on the terminal, the transcript.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use terminal::style::Stream;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Format, read, usage};
use crate::host::{BoxFuture, Stop, Stopper};
use crate::lab_state::{self, Hosts};
use crate::programs::Programs;
use crate::runner::{Observer, Plan, Select};
use crate::transcript::{Outcome, Record, Transcript, write_file};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Name of the runbook or of an alert, or a path that ends in .md
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
    pub(super) fn run(self, dir: Option<PathBuf>, programs: &[&str]) -> Result<(), Failure> {
        let parsed = read(dir, &self.name)?;
        if parsed.has_errors() {
            for problem in &parsed.problems {
                terminal::note(problem);
            }
            return Err(Failure::Usage(format!(
                "run runbook `{}`: the page has errors",
                parsed.page.name
            )));
        }
        let lab = self.lab();
        // A lab has links of its own for its hosts; where nothing runs, none are needed.
        let programs = if lab.is_none() && !self.dry_run {
            Some(Programs::link(programs).context("link the programs that steps call")?)
        } else {
            None
        };
        let hosts = self.hosts(lab, programs.as_ref())?;
        let given = unique(&self.params, "--param")?;
        let plan = if self.dry_run { Plan::sketch } else { Plan::new };
        let plan = plan(&parsed.page, &hosts, &given, &self.select()).map_err(Failure::Usage)?;
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

    /// The lab whose hosts are meant: the named one, or the one that runs if no host is named.
    fn lab(&self) -> Option<PathBuf> {
        let running = || {
            lab_state::default_folder()
                .filter(|folder| self.hosts.is_empty() && folder.join(lab_state::FILE_NAME).is_file())
        };
        self.lab.clone().or_else(running)
    }

    fn hosts(&self, lab: Option<PathBuf>, programs: Option<&Programs>) -> Result<Hosts, Failure> {
        let mut hosts = if let Some(folder) = lab {
            Hosts::of_lab(&folder).map_err(usage)?
        } else {
            let folders = programs.iter().map(|programs| programs.folder().to_owned());
            Hosts::with_programs(folders.collect())
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
            (Format::Text, false) => transcript.summary_on(Some(Stream::Stdout)), // the steps were printed while they ran
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
    /// The stream that [`Self::show`] writes to.
    fn stream(&self) -> Stream {
        match self.format {
            Format::Text => Stream::Stdout,
            Format::Json => Stream::Stderr,
        }
    }

    /// With JSON, stdout belongs to the transcript and progress goes to stderr.
    fn show(&self, text: &str) {
        let _ = match self.stream() {
            Stream::Stdout => io::stdout()
                .write_all(text.as_bytes())
                .and_then(|()| io::stdout().flush()),
            Stream::Stderr => io::stderr().write_all(text.as_bytes()),
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
        self.show(&record.closing_on(Some(self.stream())));
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
