//! Carrying out a page: first a [`Plan`] that settles every question that needs no command, then the steps in order.
//!
//! Everything that could be wrong with the call (unknown step, host or parameter, destructive steps nobody can allow) is
//! found while planning, before anything runs. A step that only looks ([`Step::only_looks`]) and fails is a finding: the
//! run goes on, and fails at its end. It ends at the first other step that fails, is declined or is stopped; the transcript
//! lists the remaining ones as not run. The runner itself prints nothing: an [`Observer`] hears of each step.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::host::{BoxFuture, Ended, Host, Output, Stop, Task};
use crate::lab_state::Hosts;
use crate::model::{Expect, Fallback, Form, Page, Place, Step};
use crate::problem::{excerpt, quoted, suggestion};
use crate::transcript::{Outcome, Record, Status, Transcript, begun};

/// Pause between attempts of a step with `retry=`.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Exit code of the shell for a program that it did not find.
const EXIT_NOT_FOUND: u8 = 127;

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
    /// The only form of lab in which it exists, if that is not this one: it is skipped.
    elsewhere: Option<Form>,
    /// Absent for a step that is skipped, and in a dry run for a host that is not known.
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
        Self::settle(page, hosts, given, select, false)
    }

    /// The same for looking only: hosts that are not known and parameters that were not given stay open.
    pub fn sketch(
        page: &'a Page,
        hosts: &'a Hosts,
        given: &BTreeMap<String, String>,
        select: &Select,
    ) -> Result<Self, String> {
        Self::settle(page, hosts, given, select, true)
    }

    fn settle(
        page: &'a Page,
        hosts: &'a Hosts,
        given: &BTreeMap<String, String>,
        select: &Select,
        open: bool,
    ) -> Result<Self, String> {
        let env = parameters(page, hosts, given, open)?;
        let mut steps = Vec::new();
        for step in selected(page, select)? {
            let host_name = match &step.on {
                Place::Local => "local".to_owned(),
                Place::Host(name) => name.clone(),
                Place::Parameter(name) => env.get(name).cloned().unwrap_or_default(),
            };
            let elsewhere = step.when.filter(|form| *form != hosts.form);
            let host = hosts.get(&host_name).filter(|_| elsewhere.is_none());
            if host.is_none() && elsewhere.is_none() && !open {
                return Err(no_host(&host_name, &step.name, hosts));
            }
            steps.push(Planned {
                step,
                host_name,
                elsewhere,
                host,
            });
        }
        if steps.iter().all(|planned| planned.elsewhere.is_some()) {
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
            .filter(|planned| planned.elsewhere.is_none() && planned.step.destructive);
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
        // Whether a change that failed, a refusal or the operator has ended the run.
        let mut ended = false;
        for (index, planned) in self.steps.iter().enumerate() {
            let mut record = self.record(planned, Status::NotRun);
            if !ended && stop.is_stopped() {
                transcript.outcome = Outcome::Interrupted;
                ended = true;
            }
            observer.step_begins(index + 1, total, &record);
            if !ended && let Some(host) = planned.host {
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
            ended |= match record.status {
                Status::Failed => !planned.step.only_looks(),
                status => matches!(status, Status::Declined | Status::Interrupted),
            };
            transcript.steps.push(record);
        }
        transcript.next = self.next(&transcript);
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
            if record.status != Status::Failed {
                return;
            }
            if misses_a_program(record) {
                // No later attempt will find it either.
                let reason = record.reason.take().unwrap_or_default();
                record.reason = Some(format!("{reason}; a program of the command was not found"));
                return;
            }
            let retry = step.retry.filter(|limit| begun.elapsed() + RETRY_PAUSE < *limit);
            if retry.is_none() {
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

    /// What a person would do next after a run that did not pass; never the step that has just failed.
    fn next(&self, transcript: &Transcript) -> Option<String> {
        let records = || self.steps.iter().zip(&transcript.steps);
        let go_on = |name: &str| Some(format!("to go on, run it again with --from {name}"));
        let read = |rest: &str| format!("mainstay runbook show {}{rest}", quoted(&self.page.label));
        let exists = |step: &Step| step.when.is_none_or(|form| form == self.hosts.form);

        let stuck = records().find(|(planned, record)| match record.status {
            Status::Failed => !planned.step.only_looks(),
            status => matches!(status, Status::Declined | Status::Interrupted),
        });
        if let Some((planned, _)) = stuck {
            let mut after = self
                .page
                .steps
                .iter()
                .skip_while(|step| *step != planned.step)
                .skip(1);
            return match after.find(|step| exists(step)) {
                Some(step) => go_on(&step.name),
                None => Some(format!("no step comes after it; read the page: {}", read(""))),
            };
        }
        if let Some((planned, _)) = records().find(|(_, record)| record.status == Status::NotRun) {
            return go_on(&planned.step.name);
        }
        if transcript.count(Status::Failed) == 0 {
            return None;
        }
        let section = |title: &'static str, status: Status| {
            records()
                .filter(|(planned, record)| planned.step.is_in(title) && record.status == status)
                .count()
        };
        if section("Fix", Status::Passed) == 0
            && self
                .page
                .steps
                .iter()
                .any(|step| step.is_in("Fix") && exists(step))
        {
            return Some("to mend it, run it again with --section Fix".to_owned());
        }
        if section("Proof", Status::Passed) > 0 && section("Proof", Status::Failed) == 0 {
            return Some("the steps of Proof passed all the same".to_owned());
        }
        let fix = self
            .page
            .sections
            .iter()
            .find(|section| section.title.eq_ignore_ascii_case("Fix"))?;
        Some(format!(
            "what to do about it: {}",
            read(&format!(" --section {}", fix.title))
        ))
    }

    fn begin(&self, now: Timestamp) -> Transcript {
        let mut transcript = begun(self.page, self.hosts, now);
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
        Record {
            step: step.name.clone(),
            line: step.line,
            host: planned.host_name.clone(),
            destructive: step.destructive,
            command: step.command.clone(),
            status: if planned.elsewhere.is_some() {
                Status::Skipped
            } else {
                status
            },
            reason: planned
                .elsewhere
                .map(|form| format!("only in form {form}, this is {}", self.hosts.form)),
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

/// Whether the shell did not find a program. In a pipeline another program's exit code may hide that, so its message
/// counts too.
fn misses_a_program(record: &Record) -> bool {
    let complains = |line: &str| line.starts_with("bash: ") && line.ends_with(": command not found");
    record.exit == Some(EXIT_NOT_FOUND) || record.stderr.lines().any(complains)
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
            let steps: Vec<&Step> = page.steps.iter().filter(|step| step.is_in(title)).collect();
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

/// The value of every parameter: given, or the page's own. With `open`, what is missing is only named.
fn parameters(
    page: &Page,
    hosts: &Hosts,
    given: &BTreeMap<String, String>,
    open: bool,
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
                None if open => format!("(address of {host})"),
                None => {
                    return Err(format!(
                        "parameter `{name}` is the address of host `{host}`, which is not known; start a lab with \
                         `mainstay up`, or name it with --on {host}=ADDRESS, or give --param {name}=VALUE"
                    ));
                }
            },
            (None, Fallback::Required) if open => format!("({})", parameter.meaning),
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
