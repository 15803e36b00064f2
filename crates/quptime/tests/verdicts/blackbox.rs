//! Debian's prometheus-blackbox-exporter, with one module for each distinct question.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lab::Readiness;
use serde_json::{Value, json};
use testkit::Server;

use crate::row::{Question, Row, Said};

const PORT: u16 = 9115;
/// Questions asked at the same time.
const AT_ONCE: usize = 16;
/// Longer than any module's timeout.
const PATIENCE: Duration = Duration::from_secs(20);

/// It runs as long as this lives.
pub(crate) struct Blackbox {
    server: Server,
    modules: BTreeMap<String, String>,
}

impl Blackbox {
    /// Starts it with the modules that these rows need.
    pub(crate) fn start(rows: &[&Row]) -> Self {
        let mut modules = BTreeMap::new();
        let mut config = serde_json::Map::new();
        for row in rows {
            let number = modules.len();
            modules.entry(row.question.module.to_string()).or_insert_with(|| {
                let name = format!("m{number}");
                config.insert(name.clone(), row.question.module.clone());
                name
            });
        }
        let program = testkit::require("prometheus-blackbox-exporter").unwrap();
        let mut server = Server::new("blackbox", program, Readiness::Tcp { port: PORT }).unwrap();
        let path = server.dir().join("blackbox.yml");
        // JSON is YAML.
        let text = serde_json::to_string_pretty(&json!({ "modules": Value::Object(config) })).unwrap();
        std::fs::write(&path, text).unwrap();
        let address = server.address();
        server.set_args([
            format!("--config.file={}", path.display()),
            format!("--web.listen-address={address}:{PORT}"),
        ]);
        server.start().unwrap();
        Self { server, modules }
    }

    /// What it says to each row; nothing if it did not answer.
    pub(crate) fn ask(&self, rows: &[&Row]) -> Vec<Option<Said>> {
        let answers: Vec<Mutex<Option<Said>>> = rows.iter().map(|_| Mutex::default()).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(rows.len()) {
                scope.spawn(|| {
                    while let Some(position) = Some(next.fetch_add(1, Ordering::Relaxed))
                        && let Some(row) = rows.get(position)
                    {
                        *answers[position].lock().unwrap() = self.probe(&row.question);
                    }
                });
            }
        });
        answers
            .into_iter()
            .map(|answer| answer.into_inner().unwrap())
            .collect()
    }

    fn probe(&self, question: &Question) -> Option<Said> {
        let module = &self.modules[&question.module.to_string()];
        let address = SocketAddr::new(self.server.address().into(), PORT);
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let target = encoded(&question.target);
        let request = format!(
            "GET /probe?debug=true&module={module}&target={target} HTTP/1.0\r\nHost: {address}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let metric = answer
            .lines()
            .find_map(|line| line.strip_prefix("probe_success "))?;
        // Of its log, what it was unhappy with, or else the last that it did.
        let logged: Vec<&str> = answer.lines().filter(|line| line.contains(" level=")).collect();
        let telling = logged.iter().find(|line| line.contains("level=error"));
        let message = telling.or(logged.iter().rev().nth(1)).unwrap_or(&"");
        let detail = message.split_once("msg=").map_or(*message, |(_, text)| text);
        Some(Said {
            up: metric.trim() == "1",
            detail: detail.to_owned(),
        })
    }
}

/// A value of a query.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
