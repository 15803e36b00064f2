//! Debian's aiosmtpd as a relay that takes mail from everybody. Its script is that of the tests of `notify`.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use testkit::{Output, Readiness, Server};

const PORT: u16 = 2525;

pub(crate) struct Relay {
    server: Server,
}

impl Relay {
    pub(crate) fn start() -> Self {
        // Debian's interpreter, since the module is Debian's.
        let python = PathBuf::from("/usr/bin/python3");
        let check = Output::of(Command::new(&python).args(["-c", "import aiosmtpd"]));
        assert!(
            check.is_ok_and(|output| output.code == 0),
            "aiosmtpd is not installed: apt-get install python3-aiosmtpd"
        );
        let mut server = Server::new("relay", python, Readiness::Tcp { port: PORT }).unwrap();
        let wanted = json!({
            "address": server.address().to_string(),
            "port": PORT,
            "dir": server.dir().display().to_string(),
        });
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../notify/tests/smtp/relay.py");
        server.set_args([script.to_owned(), wanted.to_string()]);
        server.start().unwrap();
        Self { server }
    }

    /// What `qu alert add smtp NAME` wants to know.
    pub(crate) fn options(&self) -> Vec<String> {
        [
            "--host",
            &self.server.address().to_string(),
            "--port",
            &PORT.to_string(),
            "--from",
            "qu@example.com",
            "--to",
            "ops@example.com",
            "--starttls=false",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// The subjects of the mails that it took, in order.
    pub(crate) fn subjects(&self) -> Vec<String> {
        let path = |number: usize| self.server.dir().join(format!("mail-{number}.json"));
        let read = (1..).map_while(|number| std::fs::read(path(number)).ok());
        read.map(|text| {
            let mail: Value = serde_json::from_slice(&text).unwrap();
            mail["subject"].as_str().unwrap_or_default().to_owned()
        })
        .collect()
    }
}
