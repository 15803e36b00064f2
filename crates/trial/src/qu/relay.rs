//! Who is told by mail: Debian's aiosmtpd, a real mail server, with the script beside this file.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quptime::document::{Alert, AlertKind};
use serde::Deserialize;
use tokio::net::TcpStream;

use super::ledger::{Answer, Arrival, Ledger, Millis};
use super::sinks::node_at;

/// The alert that tells it.
pub(crate) const MAIL: &str = "mail";
const PORT: u16 = 2525;
const SCRIPT: &str = include_str!("relay.py");
/// Debian's interpreter, since the module is Debian's.
const PYTHON: &str = "/usr/bin/python3";
/// How long it may take to listen.
const START_MAX: Duration = Duration::from_secs(30);

/// The relay; killed when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    address: Ipv4Addr,
    child: Child,
}

/// A line that the relay says.
#[derive(Debug, Deserialize)]
struct Record {
    opened: Millis,
    at: Millis,
    peer: IpAddr,
    id: String,
    subject: String,
    answer: String,
}

impl Relay {
    /// Starts it. To be called from the main thread: the process ends with the thread that started it.
    pub(crate) async fn start(
        address: Ipv4Addr,
        dir: &Path,
        seed: u64,
        fair: bool,
        ledger: &Arc<Ledger>,
    ) -> Result<Self> {
        let known = Command::new(PYTHON)
            .args(["-c", "import aiosmtpd"])
            .stderr(Stdio::null())
            .status();
        if !known.is_ok_and(|status| status.success()) {
            bail!("aiosmtpd is not installed: apt-get install python3-aiosmtpd");
        }
        let script = dir.join("relay.py");
        std::fs::write(&script, SCRIPT).with_context(|| format!("write {}", script.display()))?;
        let log = std::fs::File::create(dir.join("relay.log")).context("make the log of the relay")?;
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", PYTHON])
            .arg(&script)
            .args([address.to_string(), PORT.to_string(), seed.to_string()])
            .arg(if fair { "fair" } else { "moody" })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start the relay")?;
        let told = child.stdout.take().context("listen to the relay")?;
        let relay = Self { address, child };
        let ledger = Arc::clone(ledger);
        std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || {
                for line in BufReader::new(told).lines().map_while(Result::ok) {
                    if let Some(arrival) = arrival(&line) {
                        let (sender, answer) = (arrival.sender, arrival.answer);
                        ledger.came(arrival);
                        if answer == Answer::Taken {
                            // The relay answers when it likes.
                            drop(ledger.spring(sender));
                        }
                    }
                }
            })
            .context("start the thread that listens to the relay")?;
        let started = Instant::now();
        while TcpStream::connect((address, PORT)).await.is_err() {
            if started.elapsed() > START_MAX {
                bail!(
                    "the relay does not listen; see {}",
                    dir.join("relay.log").display()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(relay)
    }

    /// The alert that tells it.
    pub(crate) fn alert(&self) -> Alert {
        Alert {
            id: MAIL.to_owned(),
            default: true,
            smtp_host: self.address.to_string(),
            smtp_port: PORT,
            smtp_from: "qu@example.com".to_owned(),
            smtp_to: vec!["ops@example.com".to_owned()],
            smtp_starttls: Some(false),
            ..Alert::new(MAIL, AlertKind::Smtp)
        }
    }

    /// From now on every mail is taken at once.
    pub(crate) fn be_fair(&self) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGUSR1).context("make the relay fair")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mail of qu; nothing for anything else.
fn arrival(line: &str) -> Option<Arrival> {
    let record: Record = serde_json::from_str(line).ok()?;
    let id = record.id.trim().strip_prefix('<')?.split('@').next()?.to_owned();
    let verb = record
        .subject
        .strip_prefix("[quptime] ")?
        .split(':')
        .next()?
        .to_owned();
    Some(Arrival {
        alert: MAIL,
        key: id.clone(),
        id,
        verb,
        when: None,
        marked: None,
        sender: node_at(record.peer)?,
        master: None,
        opened: record.opened,
        at: record.at,
        answer: match record.answer.as_str() {
            "taken" => Answer::Taken,
            "refused" => Answer::Refused,
            _ => Answer::Unknown,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_relay_becomes_an_arrival() {
        let line = r#"{"opened": 1, "at": 2, "peer": "10.77.0.3", "id": "<t001/2/mail@example.com>", "subject": "[quptime] DOWN: t001", "answer": "taken"}"#;
        let arrival = arrival(line).unwrap();
        assert_eq!(
            (arrival.id.as_str(), arrival.verb.as_str()),
            ("t001/2/mail", "DOWN")
        );
        assert_eq!((arrival.sender, arrival.answer), (2, Answer::Taken));
    }
}
