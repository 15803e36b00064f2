//! Who is told by HTTP: keeps what came, by path, and answers with success, or not at all.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use testkit::wait_until;

use super::LIMIT;

/// Something that came.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) path: String,
    pub(crate) body: Value,
}

impl Told {
    /// The event of a webhook: `DOWN page`.
    fn event(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!(
            "{} {}",
            text(&self.body["verb"]).to_uppercase(),
            text(&self.body["labels"]["check"])
        )
    }
}

/// Its threads end with the test's process.
pub(crate) struct Sink {
    address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Sink {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = told.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { address, told }
    }

    /// Paths that begin with `/silent` are never answered, those that begin with `/refused` with 404.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What came at a path, in order.
    pub(crate) fn at(&self, path: &str) -> Vec<Told> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|told| told.path == path).cloned().collect()
    }

    /// What came at `/hook` about a check: its verbs, in order.
    pub(crate) fn verbs(&self, check: &str) -> Vec<String> {
        let told = self.at("/hook");
        let mine = told
            .iter()
            .map(Told::event)
            .filter_map(|event| event.strip_suffix(&format!(" {check}")).map(str::to_owned));
        mine.collect()
    }

    /// Waits until exactly these verbs came about a check.
    #[track_caller]
    pub(crate) fn wait(&self, check: &str, verbs: &[&str]) {
        wait_until(LIMIT, &format!("{verbs:?} about {check}"), || {
            self.verbs(check).len() >= verbs.len()
        });
        assert_eq!(self.verbs(check), verbs);
    }
}

fn serve(mut stream: TcpStream, told: &Mutex<Vec<Told>>) {
    let Some((path, body)) = read(&mut stream) else {
        return;
    };
    told.lock().unwrap().push(Told {
        path: path.clone(),
        body,
    });
    let status = if path.starts_with("/silent") {
        // Until the client has had enough.
        let mut rest = Vec::new();
        drop(stream.set_read_timeout(None));
        drop(stream.read_to_end(&mut rest));
        return;
    } else if path.starts_with("/refused") {
        "404 Not Found"
    } else {
        "204 No Content"
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    // A client that is gone, because it was killed, is what some tests want.
    drop(stream.write_all(answer.as_bytes()));
}

fn read(stream: &mut TcpStream) -> Option<(String, Value)> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.split(' ').nth(1)?.split('?').next()?.to_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().ok())?
    });
    // Who only fetches sends nothing.
    let length = length.unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((path, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}
