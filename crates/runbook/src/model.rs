//! What a runbook page is once it is parsed: plain data, no IO, nothing to run yet.
//!
//! Invariants kept by the parser: step names are unique in a page, every parameter a step's `on=` names is declared, an
//! output pattern belongs to exactly one step, all durations are above zero and at most
//! [`attribute::DURATION_MAX`](crate::attribute::DURATION_MAX).

use std::time::Duration;

use crate::output::Pattern;

/// A runbook page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The name commands use: the file name without `.md`.
    pub name: String,
    /// How messages name the file, as the caller gave it.
    pub label: String,
    /// Text of the `# Title` line.
    pub title: String,
    /// Alerts that send their reader here, from the `alert:` line. Empty for `alert: none` and without the line.
    pub alerts: Vec<String>,
    /// Whether there is an `alert:` line at all.
    pub has_alert_line: bool,
    /// Variables the steps use, in the order of the table.
    pub parameters: Vec<Parameter>,
    /// Level-two headings in order.
    pub sections: Vec<Section>,
    /// Steps in the order in which they run.
    pub steps: Vec<Step>,
    /// The Markdown itself, for showing the page.
    pub text: String,
}

impl Page {
    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// The parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }
}

/// A `## Heading`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The heading's text.
    pub title: String,
    /// Its line, from 1.
    pub line: usize,
}

/// A row of the table under `## Parameters`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Name of the environment variable: capitals, digits and `_`.
    pub name: String,
    /// What it is unless `--param` says otherwise.
    pub fallback: Fallback,
    /// The table's third cell.
    pub meaning: String,
    /// Line of the row, from 1.
    pub line: usize,
}

/// Where a parameter's value comes from when the operator gives none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// Empty cell: the operator must give it.
    Required,
    /// Literal text; `""` in the table is the empty text.
    Text(String),
    /// `@node1`: the address of that host.
    AddressOf(String),
}

/// One fence that is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Unique in its page.
    pub name: String,
    /// Line of the fence, from 1.
    pub line: usize,
    /// Title of the section it stands in, if any.
    pub section: Option<String>,
    /// Host it runs on.
    pub on: Place,
    /// Exit code that counts as success.
    pub expect: Expect,
    /// The step is killed after this long.
    pub timeout: Duration,
    /// If set, the step is repeated until it passes, for this long.
    pub retry: Option<Duration>,
    /// Removes or overwrites something; wants consent.
    pub destructive: bool,
    /// The step exists only in this kind of lab; elsewhere it is skipped.
    pub when: Option<Form>,
    /// The shell text.
    pub command: String,
    /// What stdout must look like.
    pub output: Option<Pattern>,
}

/// Sections whose steps collect facts and repair nothing.
const LOOKING: [&str; 2] = ["Checks", "Proof"];

impl Step {
    /// Whether it only looks: a step of `Checks` or `Proof` that is not destructive. Its failure is a finding, and the
    /// run goes on to collect the others; the failure of any other step ends the run.
    pub fn only_looks(&self) -> bool {
        !self.destructive && LOOKING.iter().any(|title| self.is_in(title))
    }

    /// Whether it stands in the section of this title, in any case of letters.
    pub fn is_in(&self, title: &str) -> bool {
        self.section
            .as_ref()
            .is_some_and(|own| own.eq_ignore_ascii_case(title))
    }
}

/// The host of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The operator's own machine (in a lab: with the first host's environment).
    Local,
    /// A host of this name.
    Host(String),
    /// The host whose name is the value of this parameter (`on=$NODE`).
    Parameter(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => out.write_str("local"),
            Self::Host(name) => out.write_str(name),
            Self::Parameter(name) => write!(out, "${name}"),
        }
    }
}

/// Exit codes that count as success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Exactly this one.
    Code(u8),
    /// Whatever it is; a step killed by a signal or its timeout still fails.
    Any,
}

impl std::fmt::Display for Expect {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(out, "exit {code}"),
            Self::Any => out.write_str("any exit code"),
        }
    }
}

/// What a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A loopback address and a directory on this machine: no systemd, no journal.
    Process,
    /// A machine with systemd: a container of the lab or a real server.
    Machine,
}

impl std::fmt::Display for Form {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Process => "process",
            Self::Machine => "machine",
        })
    }
}
