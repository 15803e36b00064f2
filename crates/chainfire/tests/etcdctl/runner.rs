//! Carries a script out against one server and writes down what was seen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::Regex;

use crate::mask::mask;
use crate::script::{Action, Step};

/// Bound of every wait. Generous: a loaded machine is no failure.
const LIMIT: Duration = Duration::from_secs(20);

/// What one step showed, masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The step as written.
    pub(crate) step: String,
    /// Exit code, output and errors, in one text.
    pub(crate) shown: String,
    /// Whether the command succeeded or failed as the script says.
    pub(crate) expected: bool,
}

/// A server as a script sees it.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) endpoint: String,
    pub(crate) other: Option<String>,
    pub(crate) dir: PathBuf,
}

/// A command that runs, its output going to files.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    stdout: PathBuf,
    stderr: PathBuf,
    /// Bytes of standard output that steps have seen.
    seen: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, unless the script failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a command ended and what it printed.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

pub(crate) struct Runner {
    scene: Scene,
    etcdctl: PathBuf,
    /// Values of `$NAME`.
    names: BTreeMap<String, String>,
    background: BTreeMap<String, Running>,
    started: usize,
}

/// Runs all steps.
pub(crate) fn run(scene: Scene, steps: &[Step]) -> Result<Vec<Record>> {
    let mut runner = Runner {
        etcdctl: testkit::require("etcdctl")?,
        scene,
        names: BTreeMap::new(),
        background: BTreeMap::new(),
        started: 0,
    };
    let mut records = Vec::new();
    for step in steps {
        let ended = runner.carry_out(step).with_context(|| {
            let before = records.iter().filter(|record: &&Record| !record.expected);
            let before: Vec<String> = before
                .map(|record| format!("{}\n{}", record.step, record.shown))
                .collect();
            format!(
                "{step} at {}; not as the script says before:\n{}",
                runner.scene.endpoint,
                before.concat()
            )
        })?;
        if let Some(ended) = ended {
            records.push(Record {
                step: step.text.clone(),
                shown: runner.shown(&ended),
                expected: step
                    .action
                    .succeeds()
                    .is_none_or(|succeeds| succeeds == (ended.code == 0)),
            });
        }
    }
    ensure!(
        runner.background.is_empty(),
        "still running at the end of the script: {:?}",
        runner.background.keys()
    );
    Ok(records)
}

impl Runner {
    fn carry_out(&mut self, step: &Step) -> Result<Option<Ended>> {
        match &step.action {
            Action::Run { args, .. } => self.command(args, &step.input).map(Some),
            Action::Let { name, args } => {
                let ended = self.command(args, &step.input)?;
                let id =
                    lease_id(&ended.stdout).with_context(|| format!("no lease id in {:?}", ended.stdout))?;
                self.names.insert(name.clone(), id);
                Ok(Some(ended))
            }
            Action::Until { text, args } => {
                let mut last = String::new();
                let met = poll(|| {
                    let ended = self.command(args, &step.input)?;
                    last.clone_from(&ended.stdout);
                    let masked = mask(&ended.stdout, &[]);
                    let words: Vec<&str> = masked.split_whitespace().collect();
                    Ok((words.join(" ") == *text).then_some(ended))
                })?;
                let ended = met.with_context(|| format!("never printed {text:?}, at last {last:?}"))?;
                Ok(Some(ended))
            }
            Action::Start { name, args } => {
                let mut running = self.spawn(args)?;
                if let Some(input) = &mut running.input {
                    input
                        .write_all(step.input.as_bytes())
                        .context("cannot write input")?;
                }
                let before = self.background.insert(name.clone(), running);
                ensure!(before.is_none(), "{name} runs already");
                Ok(None)
            }
            Action::See { name, text } => {
                let text = self.filled(text);
                let running = self
                    .background
                    .get_mut(name)
                    .with_context(|| format!("{name} does not run"))?;
                running.wait_for(&text)?;
                Ok(None)
            }
            Action::Poke { name, key } => {
                let put = [String::from("put"), key.clone(), String::from("poke")];
                let seen = poll(|| {
                    self.command(&put, "")?;
                    let running = self
                        .background
                        .get(name)
                        .with_context(|| format!("{name} does not run"))?;
                    Ok(read(&running.stdout)?.contains("poke").then_some(()))
                })?;
                seen.context("the key was written and it has not seen it")?;
                Ok(None)
            }
            Action::Type { name, text } => {
                let text = self.filled(text);
                let running = self
                    .background
                    .get_mut(name)
                    .with_context(|| format!("{name} does not run"))?;
                let input = running.input.as_mut().context("its input is closed")?;
                writeln!(input, "{text}").context("cannot write input")?;
                Ok(None)
            }
            Action::Stop { name } => {
                let running = self
                    .background
                    .remove(name)
                    .with_context(|| format!("{name} does not run"))?;
                let pid = i32::try_from(running.child.id()).context("a process id is out of range")?;
                kill(Pid::from_raw(pid), Signal::SIGINT)
                    .with_context(|| format!("cannot interrupt {name}"))?;
                running.wait_end().map(Some)
            }
            Action::End { name } => {
                let running = self
                    .background
                    .remove(name)
                    .with_context(|| format!("{name} does not run"))?;
                running.wait_end().map(Some)
            }
        }
    }

    /// Puts in what `$NAME` stands for.
    fn filled(&self, word: &str) -> String {
        let mut word = word
            .replace("$endpoint", &self.scene.endpoint)
            .replace("$other", self.scene.other.as_deref().unwrap_or("$other"))
            .replace("$dir", &self.scene.dir.display().to_string());
        for (name, value) in &self.names {
            word = word.replace(&format!("${name}"), value);
        }
        word
    }

    fn command(&mut self, args: &[String], input: &str) -> Result<Ended> {
        let mut running = self.spawn(args)?;
        let input = self.filled(input);
        if let Some(mut pipe) = running.input.take() {
            // A command that ends before it has read all says so by its exit code.
            let _ = pipe.write_all(input.as_bytes());
        }
        running.wait_end()
    }

    fn spawn(&mut self, args: &[String]) -> Result<Running> {
        self.started += 1;
        let file = |kind: &str| self.scene.dir.join(format!("etcdctl-{}.{kind}", self.started));
        let (stdout, stderr) = (file("out"), file("err"));
        let create =
            |path: &Path| File::create(path).with_context(|| format!("cannot create {}", path.display()));
        let chosen = args.iter().any(|word| word.starts_with("--endpoints="));
        let endpoints = (!chosen).then(|| format!("--endpoints={}", self.scene.endpoint));
        let child = Command::new(&self.etcdctl)
            .args(endpoints)
            .args(args.iter().map(|word| self.filled(word)))
            .env_clear()
            .env("ETCDCTL_API", "3")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(&self.scene.dir)
            .stdin(Stdio::piped())
            .stdout(create(&stdout)?)
            .stderr(create(&stderr)?)
            .spawn()
            .context("cannot run etcdctl")?;
        let mut running = Running {
            child,
            input: None,
            stdout,
            stderr,
            seen: 0,
        };
        running.input = running.child.stdin.take();
        Ok(running)
    }

    /// The record of a command, with the values of this run taken out.
    fn shown(&self, ended: &Ended) -> String {
        let mut names = Vec::new();
        for (name, value) in &self.names {
            names.push((format!("{value:0>16}"), format!("${name}")));
            names.push((value.clone(), format!("${name}")));
            if let Ok(number) = i64::from_str_radix(value, 16) {
                names.push((number.to_string(), format!("${name}")));
            }
        }
        for (endpoint, name) in [
            (Some(&self.scene.endpoint), "ENDPOINT"),
            (self.scene.other.as_ref(), "OTHER"),
        ] {
            let Some(address) = endpoint.and_then(|url| url.strip_prefix("http://")) else {
                continue;
            };
            names.push((address.to_owned(), name.to_owned()));
            if let Some((host, _)) = address.split_once(':') {
                names.push((host.to_owned(), format!("{name}_HOST")));
            }
        }
        names.push((self.scene.dir.display().to_string(), "DIR".to_owned()));
        let masked = |text: &str| mask(text, &names);
        let mut shown = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(shown, "exit {}", ended.code);
        for (kind, text) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
            for line in masked(text).lines() {
                let _ = writeln!(shown, "{kind}: {line}");
            }
        }
        shown
    }
}

impl Running {
    /// Waits until standard output has `text` after what was seen.
    fn wait_for(&mut self, text: &str) -> Result<()> {
        let found = poll(|| {
            let printed = read(&self.stdout)?;
            let place = printed.get(self.seen..).and_then(|rest| rest.find(text));
            if place.is_none()
                && let Some(status) = self.child.try_wait().context("cannot look after etcdctl")?
                && read(&self.stdout)? == printed
            {
                bail!(
                    "it ended ({status}) and had printed {printed:?}{}",
                    read(&self.stderr)?
                );
            }
            Ok(place)
        })?;
        let place = found.with_context(|| {
            format!(
                "it never printed {text:?}, but {:?}{}",
                read(&self.stdout).unwrap_or_default(),
                read(&self.stderr).unwrap_or_default()
            )
        })?;
        self.seen += place + text.len();
        Ok(())
    }

    fn wait_end(mut self) -> Result<Ended> {
        let status: Option<ExitStatus> = poll(|| self.child.try_wait().context("cannot look after etcdctl"))?;
        let status = status.with_context(|| {
            format!(
                "it did not end, and had printed {:?}{}",
                read(&self.stdout).unwrap_or_default(),
                read(&self.stderr).unwrap_or_default()
            )
        })?;
        Ok(Ended {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: read(&self.stdout)?,
            stderr: read(&self.stderr)?,
        })
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Polls until there is an answer; none when that took too long.
fn poll<T>(mut probe: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let mut answer = Ok(None);
    lab::wait::happens(LIMIT, || {
        answer = probe();
        !matches!(answer, Ok(None))
    });
    answer
}

/// The first lease id in an output, in hexadecimal without leading zeros: from text, or from the decimal `ID` of JSON.
fn lease_id(output: &str) -> Option<String> {
    static HEX: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b[0-9a-f]{12,16}\b").expect("a regular expression"));
    static DECIMAL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#""ID"\s?:\s?(\d+)"#).expect("a regular expression"));
    if let Some(id) = DECIMAL.captures(output) {
        let number: i64 = id[1].parse().ok()?;
        return Some(format!("{number:x}"));
    }
    Some(HEX.find(output)?.as_str().trim_start_matches('0').to_owned())
}
