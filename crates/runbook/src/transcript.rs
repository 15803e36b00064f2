//! What happened in a run: a record per step, as JSON for programs and as text for people.
//!
//! The text is made from the same records as the JSON, step by step, so that what an operator watches, what lands in the
//! transcript file and what a program reads cannot disagree.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use terminal::style::{Stream, Style, paint};

use crate::lab_state::Hosts;
use crate::model::{Form, Page};
use crate::output::Difference;

/// A whole run.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Transcript {
    /// Name of the page.
    pub runbook: String,
    /// Its title.
    pub title: String,
    /// The file it was read from.
    pub file: String,
    /// Name of the lab, if the hosts were a lab's.
    pub lab: Option<String>,
    /// The lab's directory.
    pub lab_dir: Option<PathBuf>,
    /// What the hosts were.
    pub form: Form,
    /// Values of the parameters; secret ones are hidden.
    pub parameters: BTreeMap<String, String>,
    /// When the run began.
    pub started: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What to do next, if the run did not pass.
    pub next: Option<String>,
    /// Every step that was selected, also those that did not run.
    pub steps: Vec<Record>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every step that could run passed.
    Passed,
    /// A step failed, or a person declined one.
    Failed,
    /// The operator stopped the run.
    Interrupted,
    /// Dry run: nothing was started.
    Planned,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Exit code and output were as expected.
    Passed,
    /// They were not, or the step took too long or could not be started.
    Failed,
    /// The step does not exist in this form of lab.
    Skipped,
    /// Destructive, and the operator said no.
    Declined,
    /// Stopped by the operator while it ran.
    Interrupted,
    /// A step before it, or the operator, ended the run.
    NotRun,
    /// Dry run: it would run.
    Planned,
}

/// A step of a run.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Record {
    /// Name of the step.
    pub step: String,
    /// Its line in the page.
    pub line: usize,
    /// Host it runs on.
    pub host: String,
    /// Marked destructive.
    pub destructive: bool,
    /// The shell text.
    pub command: String,
    /// What became of it.
    pub status: Status,
    /// Why, where the status alone does not say.
    pub reason: Option<String>,
    /// When the last attempt began, if there was one.
    pub started: Option<Timestamp>,
    /// How often it was tried.
    pub attempts: u32,
    /// From the first attempt's start to the last one's end.
    pub duration_ms: u64,
    /// Exit code of the last attempt, if it ended by itself.
    pub exit: Option<u8>,
    /// Standard output of the last attempt.
    pub stdout: String,
    /// Standard error of the last attempt.
    pub stderr: String,
    /// Some of the output was dropped.
    pub truncated: bool,
    /// Where the output first differed from the page.
    pub difference: Option<Difference>,
}

impl Transcript {
    /// Steps with this status.
    pub fn count(&self, status: Status) -> usize {
        self.steps.iter().filter(|record| record.status == status).count()
    }

    /// The whole run as text.
    pub fn text(&self) -> String {
        let mut text = self.heading();
        for (index, record) in self.steps.iter().enumerate() {
            text.push_str(&record.opening(index + 1, self.steps.len()));
            text.push_str(&record.closing());
        }
        text.push_str(&self.summary());
        text
    }

    /// The run as JSON, ending in a newline.
    pub fn json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("records hold only strings, numbers and lists");
        text.push('\n');
        text
    }

    /// What is known before the first step.
    pub fn heading(&self) -> String {
        let mut text = format!("{}: {} ({})\n", self.runbook, self.title, self.file);
        let place = match &self.lab {
            Some(lab) => {
                let dir = self.lab_dir.as_ref().map(|dir| format!(" in {}", dir.display()));
                format!("lab {lab}{}, form {}", dir.unwrap_or_default(), self.form)
            }
            None => "no lab".to_owned(),
        };
        put(
            &mut text,
            format_args!(
                "started {}, {place}\n",
                self.started.strftime("%Y-%m-%dT%H:%M:%SZ")
            ),
        );
        for (name, value) in &self.parameters {
            put(&mut text, format_args!("  {name}={value}\n"));
        }
        text
    }

    /// The last lines: counts, which steps failed, and what to do next after a failure.
    pub fn summary(&self) -> String {
        self.summary_on(None)
    }

    /// [`Self::summary`] for a stream, coloured if a person looks at it.
    pub fn summary_on(&self, stream: Option<Stream>) -> String {
        let parts = [
            (Status::Passed, "passed"),
            (Status::Failed, "failed"),
            (Status::Skipped, "skipped"),
            (Status::Declined, "declined"),
            (Status::Interrupted, "interrupted"),
            (Status::NotRun, "not run"),
            (Status::Planned, "planned"),
        ];
        let counts: Vec<String> = parts
            .iter()
            .map(|(status, word)| (self.count(*status), word))
            .filter(|(count, word)| *count > 0 || (**word == "failed" && self.outcome != Outcome::Planned))
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        let mut text = format!("\n{} in {}\n", counts.join(", "), milliseconds(self.duration_ms));
        let failed = self.steps.iter().filter(|record| record.status == Status::Failed);
        let failed: Vec<String> = failed
            .map(|record| format!("{} (line {})", record.step, record.line))
            .collect();
        if !failed.is_empty() {
            let word = bad(stream, "FAILED");
            put(&mut text, format_args!("{word}: {}\n", failed.join(", ")));
        }
        if let Some(next) = &self.next {
            put(&mut text, format_args!("{next}\n"));
        }
        text
    }
}

impl Record {
    /// What is shown when the step begins.
    pub fn opening(&self, number: usize, total: usize) -> String {
        let mark = if self.destructive { "  [destructive]" } else { "" };
        let mut text = format!("\n[{number}/{total}] {} on {}{mark}\n", self.step, self.host);
        for (index, line) in self.command.lines().enumerate() {
            put(
                &mut text,
                format_args!("  {} {line}\n", if index == 0 { '$' } else { '>' }),
            );
        }
        text
    }

    /// What is shown when the step has ended.
    pub fn closing(&self) -> String {
        self.closing_on(None)
    }

    /// [`Self::closing`] for a stream, coloured if a person looks at it.
    pub fn closing_on(&self, stream: Option<Stream>) -> String {
        let mut text = String::new();
        for (mark, stream) in [("  ", &self.stdout), ("  ! ", &self.stderr)] {
            for line in stream.lines() {
                put(&mut text, format_args!("{mark}{}\n", harmless(line.trim_end())));
            }
        }
        if self.truncated {
            text.push_str("  (output cut here: it is longer than what is kept)\n");
        }
        let word = match self.status {
            Status::Passed => "ok".to_owned(),
            Status::Failed => bad(stream, "FAILED"),
            Status::Skipped => "skipped".to_owned(),
            Status::Declined => "declined".to_owned(),
            Status::Interrupted => "interrupted".to_owned(),
            Status::NotRun => "not run".to_owned(),
            Status::Planned => "would run".to_owned(),
        };
        put(&mut text, format_args!("  = {word}"));
        if let Some(exit) = self.exit {
            put(&mut text, format_args!(", exit {exit}"));
        }
        if self.attempts > 0 {
            put(&mut text, format_args!(", {}", milliseconds(self.duration_ms)));
        }
        if self.attempts > 1 {
            put(&mut text, format_args!(", {} attempts", self.attempts));
        }
        if let Some(reason) = &self.reason {
            put(&mut text, format_args!(": {reason}"));
        }
        text.push('\n');
        if let Some(difference) = &self.difference {
            for line in difference.diff.lines() {
                put(&mut text, format_args!("    {}\n", harmless(line)));
            }
        }
        text
    }
}

/// Writes the text to a file that is complete or absent: a new name beside it, then a rename.
pub fn write_file(path: &Path, text: &str) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("this is not the name of a file"))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(beside);
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&beside); // the rename's error is the one to report
    })
}

/// A word that a person must not miss, in red where they see colour; files never have any.
fn bad(stream: Option<Stream>, word: &str) -> String {
    stream.map_or_else(|| word.to_owned(), |stream| paint(stream, Style::Bad, word))
}

/// The heading's part of a transcript, before any step ran.
pub(crate) fn begun(page: &Page, hosts: &Hosts, started: Timestamp) -> Transcript {
    Transcript {
        runbook: page.name.clone(),
        title: page.title.clone(),
        file: page.label.clone(),
        lab: hosts.lab.clone(),
        lab_dir: hosts.lab_dir.clone(),
        form: hosts.form,
        parameters: BTreeMap::new(),
        started,
        duration_ms: 0,
        outcome: Outcome::Passed,
        next: None,
        steps: Vec::new(),
    }
}

fn milliseconds(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        _ => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
    }
}

/// What a command printed, without characters that would steer the terminal; the JSON keeps them, escaped.
fn harmless(line: &str) -> String {
    line.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// `write!` to a `String`, which cannot fail.
fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("writing to a String cannot fail");
}
