//! Debian's aiosmtpd as a relay, with certificates of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::Readiness;
use notify::{Secret, Smtp};
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::{Output, Server, wait_until};

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_secs(20);

const PORT: u16 = 2525;

/// Name and password of the relay's only user.
pub(crate) const USER: &str = "qu";
pub(crate) const PASSWORD: &str = "s3cr3t-of-the-relay";

/// How the relay is to be spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    StartTls,
    Implicit,
}

/// A mail that the relay took.
#[derive(Debug, Deserialize)]
pub(crate) struct Mail {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) tls: bool,
    pub(crate) login: Option<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) subject: String,
    pub(crate) id: String,
    pub(crate) date: String,
    pub(crate) body: String,
    pub(crate) raw: String,
}

pub(crate) struct Relay {
    server: Server,
    security: Security,
    login: bool,
}

impl Relay {
    /// A relay that wants a log-in, which may be limited to one way of it.
    pub(crate) fn with_login(security: Security, mechanism: Option<&str>) -> Self {
        let mut wanted = json!({"user": USER, "password": PASSWORD});
        if let Some(mechanism) = mechanism {
            wanted["mechanism"] = mechanism.into();
        }
        Self::start(security, wanted)
    }

    /// A relay that takes mail from everybody.
    pub(crate) fn open(security: Security) -> Self {
        Self::start(security, json!({}))
    }

    fn start(security: Security, mut wanted: Value) -> Self {
        let python = python();
        let mut server = Server::new("relay", python, Readiness::Tcp { port: PORT }).unwrap();
        let login = wanted.get("user").is_some();
        wanted["address"] = server.address().to_string().into();
        wanted["port"] = PORT.into();
        wanted["dir"] = server.dir().display().to_string().into();
        if security != Security::Plain {
            let (cert, key) = certificate(server.dir(), &server.address().to_string());
            wanted["cert"] = cert.display().to_string().into();
            wanted["key"] = key.display().to_string().into();
            wanted["implicit"] = (security == Security::Implicit).into();
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smtp/relay.py");
        server.set_args([script.to_owned(), wanted.to_string()]);
        server.start().unwrap();
        Self {
            server,
            security,
            login,
        }
    }

    /// Settings that the relay likes.
    pub(crate) fn settings(&self, to: &[&str]) -> Smtp {
        let mut settings = Smtp::new(
            self.server.address().to_string(),
            "Uptime <qu@example.com>",
            to.iter().map(|&address| address.to_owned()).collect(),
        );
        settings.port = PORT;
        settings.starttls = self.security == Security::StartTls;
        settings.tls = self.security == Security::Implicit;
        if self.security != Security::Plain {
            settings.ca_file = Some(self.ca_file());
        }
        if self.login {
            settings.user = USER.into();
            settings.password = Secret::new(PASSWORD);
        }
        settings
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.server.dir().join("cert.pem")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.server.dir()
    }

    /// The mails it took, in order, once there are `count`.
    #[track_caller]
    pub(crate) fn mails(&self, count: usize) -> Vec<Mail> {
        let path = |number: usize| self.server.dir().join(format!("mail-{number}.json"));
        if count > 0 {
            wait_until(LIMIT, "the mail to be written down", || path(count).exists());
        }
        assert!(!path(count + 1).exists(), "more than {count} mails");
        (1..=count)
            .map(|number| serde_json::from_slice(&std::fs::read(path(number)).unwrap()).unwrap())
            .collect()
    }
}

/// Debian's interpreter, since the module is Debian's.
fn python() -> PathBuf {
    let python = PathBuf::from("/usr/bin/python3");
    let check = Output::of(Command::new(&python).args(["-c", "import aiosmtpd"]));
    assert!(
        check.is_ok_and(|output| output.code == 0),
        "aiosmtpd is not installed: apt-get install python3-aiosmtpd"
    );
    python
}

/// A certificate for an address, signed by itself, and its key.
fn certificate(dir: &Path, address: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec![address.to_owned()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}
