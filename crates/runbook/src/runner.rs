//! Carrying out a page: first a [`Plan`] that settles every question that needs no command, then the steps in order.
//!
//! Everything that could be wrong with the call (unknown step, host or parameter, destructive steps nobody can allow) is
//! found while planning, before anything runs. A run ends at the first step that fails, is declined or is stopped; the
//! transcript lists the remaining ones as not run. The runner itself prints nothing: an [`Observer`] hears of each step.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::host::{BoxFuture, Ended, Host, Output, Stop, Task};
use crate::lab_state::Hosts;
use crate::model::{Expect, Fallback, Page, Place, Step};
use crate::problem::{excerpt, suggestion};
use crate::transcript::{Outcome, Record, Status, Transcript, begun};

/// Pause between attempts of a step with `retry=`.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Parameters whose names end like this are not shown.
const SECRET_ENDS: [&str; 3] = ["PASSWORD", "SECRET", "TOKEN"];

/// Which steps of a page to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// All, in order.
    All,
    /// Only this one.
    Only(String),
    /// This one and those after it.
    From(String),
    /// Those of a section.
    Section(String),
}

/// Steps with their hosts, and the variables they get.
pub struct Plan<'a> {
    page: &'a Page,
    hosts: &'a Hosts,
    steps: Vec<Planned<'a>>,
    env: BTreeMap<String, String>,
}

struct Planned<'a> {
    step: &'a Step,
    host_name: String,
    /// Absent for a step that is skipped in this form of lab.
    host: Option<&'a dyn Host>,
}

impl std::fmt::Debug for Plan<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let steps: Vec<&str> = self
            .steps
            .iter()
            .map(|planned| planned.step.name.as_str())
            .collect();
        out.debug_struct("Plan")
            .field("page", &self.page.name)
            .field("steps", &steps)
            .finish_non_exhaustive()
    }
}

/// Hears of a run's progress and gives consent.
pub trait Observer: Send {
    /// The run begins; the transcript has no steps yet.
    fn begins(&mut self, transcript: &Transcript);

    /// A step begins.
    fn step_begins(&mut self, number: usize, total: usize, record: &Record);

    /// A step has ended, or was settled without running.
    fn step_ends(&mut self, number: usize, total: usize, record: &Record);

    /// Whether a destructive step may run. Asked once, right before the step.
    fn consents<'a>(&'a mut self, record: &'a Record) -> BoxFuture<'a, bool>;
}

impl<'a> Plan<'a> {
    /// Settles steps, hosts and parameters. The error is one line for the operator.
    pub fn new(
        page: &'a Page,
        hosts: &'a Hosts,
        given: &BTreeMap<String, String>,
        select: &Select,
    ) -> Result<Self, String> {
        let env = parameters(page, hosts, given)?;
        let mut steps = Vec::new();
        for step in selected(page, select)? {
            let host_name = match &step.on {
                Place::Local => "local".to_owned(),
                Place::Host(name) => name.clone(),
                Place::Parameter(name) => env.get(name).cloned().unwrap_or_default(),
            };
            let host = match step.when {
                Some(form) if form != hosts.form => None,
                _ => Some(
                    hosts
                        .get(&host_name)
                        .ok_or_else(|| no_host(&host_name, &step.name, hosts))?,
                ),
            };
            steps.push(Planned {
                step,
                host_name,
                host,
            });
        }
        if steps.iter().all(|planned| planned.host.is_none()) {
            return Err(format!(
                "nothing to run: no chosen step of `{}` exists in a {} lab",
                page.name, hosts.form
            ));
        }
        Ok(Self {
            page,
            hosts,
            steps,
            env,
        })
    }

    /// Names of the destructive steps that would run.
    pub fn destructive(&self) -> Vec<&str> {
        let runs = self
            .steps
            .iter()
            .filter(|planned| planned.host.is_some() && planned.step.destructive);
        runs.map(|planned| planned.step.name.as_str()).collect()
    }

    /// What would run, as a transcript.
    pub fn dry_run(&self, now: Timestamp) -> Transcript {
        let mut transcript = self.begin(now);
        transcript.outcome = Outcome::Planned;
        transcript.steps = self
            .steps
            .iter()
            .map(|planned| self.record(planned, Status::Planned))
            .collect();
        transcript
    }

    /// Runs the steps. `now` reads the wall clock for the transcript's time stamps.
    pub async fn run(&self, observer: &mut dyn Observer, stop: &Stop, now: fn() -> Timestamp) -> Transcript {
        let begun = Instant::now();
        let mut transcript = self.begin(now());
        observer.begins(&transcript);
        let total = self.steps.len();
        for (index, planned) in self.steps.iter().enumerate() {
            let mut record = self.record(planned, Status::NotRun);
            if transcript.outcome == Outcome::Passed && stop.is_stopped() {
                transcript.outcome = Outcome::Interrupted;
            }
            observer.step_begins(index + 1, total, &record);
            if transcript.outcome == Outcome::Passed
                && let Some(host) = planned.host
            {
                if planned.step.destructive && !consent(observer, &record, stop).await {
                    record.status = Status::Declined;
                } else {
                    self.attempts(planned.step, host, &mut record, stop, now).await;
                }
            }
            self.hide(&mut record);
            observer.step_ends(index + 1, total, &record);
            transcript.outcome = match record.status {
                _ if stop.is_stopped() => Outcome::Interrupted,
                Status::Failed | Status::Declined => Outcome::Failed,
                _ => transcript.outcome,
            };
            transcript.steps.push(record);
        }
        transcript.duration_ms = milliseconds(begun.elapsed());
        transcript
    }

    /// Tries a step until it passes, or once if it has no `retry=`.
    async fn attempts(
        &self,
        step: &Step,
        host: &dyn Host,
        record: &mut Record,
        stop: &Stop,
        now: fn() -> Timestamp,
    ) {
        let begun = Instant::now();
        loop {
            record.started = Some(now());
            record.attempts += 1;
            let task = Task {
                command: &step.command,
                env: &self.env,
                timeout: step.timeout,
            };
            match host.run(&task, stop).await {
                Ok(output) => judge(step, output, record),
                Err(error) => {
                    record.status = Status::Failed;
                    record.reason = Some(format!("start command on {}: {error}", record.host));
                }
            }
            record.duration_ms = milliseconds(begun.elapsed());
            let retry = step.retry.filter(|limit| begun.elapsed() + RETRY_PAUSE < *limit);
            if record.status != Status::Failed || retry.is_none() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_PAUSE) => {}
                () = stop.stopped() => {
                    record.status = Status::Interrupted;
                    return;
                }
            }
        }
    }

    fn begin(&self, now: Timestamp) -> Transcript {
        let mut transcript = begun(self.page, self.hosts.lab.clone(), self.hosts.form, now);
        let shown = |(name, value): (&String, &String)| {
            (
                name.clone(),
                if is_secret(name) {
                    "(hidden)".to_owned()
                } else {
                    value.clone()
                },
            )
        };
        transcript.parameters = self.env.iter().map(shown).collect();
        transcript
    }

    fn record(&self, planned: &Planned<'_>, status: Status) -> Record {
        let step = planned.step;
        let elsewhere = step.when.filter(|_| planned.host.is_none());
        Record {
            step: step.name.clone(),
            line: step.line,
            host: planned.host_name.clone(),
            destructive: step.destructive,
            command: step.command.clone(),
            status: if elsewhere.is_some() {
                Status::Skipped
            } else {
                status
            },
            reason: elsewhere.map(|form| format!("only in form {form}, this is {}", self.hosts.form)),
            started: None,
            attempts: 0,
            duration_ms: 0,
            exit: None,
            stdout: String::new(),
            stderr: String::new(),
            truncated: false,
            difference: None,
        }
    }

    /// Takes the values of secret parameters out of what a step printed.
    fn hide(&self, record: &mut Record) {
        for (_, value) in self
            .env
            .iter()
            .filter(|(name, value)| is_secret(name) && !value.is_empty())
        {
            let difference = record.difference.iter_mut();
            let texts =
                difference.flat_map(|found| std::iter::once(&mut found.diff).chain(found.got.as_mut()));
            for text in texts
                .chain([&mut record.stdout, &mut record.stderr])
                .chain(record.reason.as_mut())
            {
                *text = text.replace(value, "(hidden)");
            }
        }
    }
}

/// Asks for consent; a run that is stopped meanwhile has none.
async fn consent(observer: &mut dyn Observer, record: &Record, stop: &Stop) -> bool {
    tokio::select! {
        answer = observer.consents(record) => answer,
        () = stop.stopped() => false,
    }
}

fn is_secret(name: &str) -> bool {
    SECRET_ENDS
        .iter()
        .any(|end| name == *end || name.ends_with(&format!("_{end}")))
}

/// Compares what a step did with what the page says.
fn judge(step: &Step, output: Output, record: &mut Record) {
    record.exit = None;
    record.difference = None;
    record.reason = None;
    record.status = Status::Failed;
    match (output.ended, step.expect) {
        (Ended::Stopped, _) => record.status = Status::Interrupted,
        (Ended::TimedOut, _) => {
            record.reason = Some(format!("took longer than its timeout of {:?}", step.timeout));
        }
        (Ended::Signal(number), _) => record.reason = Some(format!("killed by signal {number}")),
        (Ended::Exit(code), Expect::Code(wanted)) if code != wanted => {
            record.exit = Some(code);
            record.reason = Some(format!("expected exit {wanted}"));
        }
        (Ended::Exit(code), _) => {
            record.exit = Some(code);
            match step
                .output
                .as_ref()
                .map_or(Ok(()), |pattern| pattern.compare(&output.stdout))
            {
                Ok(()) => record.status = Status::Passed,
                Err(difference) => {
                    record.reason = Some(differs(&difference));
                    record.difference = Some(difference);
                }
            }
        }
    }
    record.stdout = output.stdout;
    record.stderr = output.stderr;
    record.truncated = output.truncated;
}

fn differs(difference: &crate::output::Difference) -> String {
    let at = difference.output_line;
    match (&difference.expected, &difference.got) {
        (Some(expected), Some(got)) => format!(
            "output line {at} is `{}`, line {} of the page wants `{}`",
            excerpt(got),
            difference.page_line,
            excerpt(expected)
        ),
        (Some(expected), None) => format!(
            "output ends before line {at}, line {} of the page wants `{}`",
            difference.page_line,
            excerpt(expected)
        ),
        (None, got) => format!(
            "output line {at} is `{}`, the page wants the output to end there",
            excerpt(got.as_deref().unwrap_or_default())
        ),
    }
}

fn selected<'a>(page: &'a Page, select: &Select) -> Result<Vec<&'a Step>, String> {
    let position = |name: &str| {
        page.steps
            .iter()
            .position(|step| step.name == name)
            .ok_or_else(|| {
                let known = suggestion(name, page.steps.iter().map(|step| step.name.as_str()));
                format!("no step `{}` in `{}`; {known}", excerpt(name), page.name)
            })
    };
    match select {
        Select::All if page.steps.is_empty() => Err(format!("runbook `{}` has no steps to run", page.name)),
        Select::All => Ok(page.steps.iter().collect()),
        Select::Only(name) => Ok(vec![&page.steps[position(name)?]]),
        Select::From(name) => Ok(page.steps[position(name)?..].iter().collect()),
        Select::Section(title) => {
            let within = |step: &&Step| {
                step.section
                    .as_ref()
                    .is_some_and(|own| own.eq_ignore_ascii_case(title))
            };
            let steps: Vec<&Step> = page.steps.iter().filter(within).collect();
            if steps.is_empty() {
                let titles = page.sections.iter().map(|section| section.title.as_str());
                return Err(format!(
                    "no steps in a section `{}` of `{}`; {}",
                    excerpt(title),
                    page.name,
                    suggestion(title, titles)
                ));
            }
            Ok(steps)
        }
    }
}

/// The value of every parameter: given, or the page's own.
fn parameters(
    page: &Page,
    hosts: &Hosts,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    if let Some(name) = given.keys().find(|name| page.parameter(name).is_none()) {
        let known = suggestion(
            name,
            page.parameters.iter().map(|parameter| parameter.name.as_str()),
        );
        return Err(format!(
            "no parameter `{}` in `{}`; {known}",
            excerpt(name),
            page.name
        ));
    }
    let mut values = BTreeMap::new();
    for parameter in &page.parameters {
        let name = &parameter.name;
        let value = match (given.get(name), &parameter.fallback) {
            (Some(value), _) if value.contains('\0') => {
                return Err(format!("parameter `{name}` holds a NUL character"));
            }
            (Some(value), _) | (None, Fallback::Text(value)) => value.clone(),
            (None, Fallback::AddressOf(host)) => match hosts.get(host) {
                Some(host) => host.address().to_owned(),
                None => {
                    return Err(format!(
                        "parameter `{name}` is the address of host `{host}`, which is not known; start a lab with \
                         `mainstay up`, or name it with --on {host}=ADDRESS, or give --param {name}=VALUE"
                    ));
                }
            },
            (None, Fallback::Required) => {
                return Err(format!(
                    "parameter `{name}` ({}) is wanted; give --param {name}=VALUE",
                    parameter.meaning
                ));
            }
        };
        values.insert(name.clone(), value);
    }
    Ok(values)
}

fn no_host(host: &str, step: &str, hosts: &Hosts) -> String {
    match hosts.names() {
        names if names.is_empty() => format!(
            "step `{step}` runs on host `{host}`, which is not known; start a lab with `mainstay up`, \
             or name it with --on {host}=ADDRESS"
        ),
        names => format!(
            "step `{step}` runs on host `{}`, which is not known; {}",
            excerpt(host),
            suggestion(host, names.iter().copied())
        ),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
