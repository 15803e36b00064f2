//! A place where alerts arrive: what is posted is appended to a file, one body in a line. `mainstay lab sink` is the program.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::topology::{Program, Readiness, ServiceSpec};

/// Where the sink of a host listens.
pub const PORT: u16 = 8099;
/// Name of the file below the sink's data directory.
const FILE: &str = "alerts.jsonl";
/// A body that is longer is none of an alert.
const BODY_MAX: u64 = 1 << 20;
/// Longest line of a header, and longest header.
const HEADER_MAX: u64 = 64 << 10;
/// How long a sender may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The sink of a host.
pub fn service() -> ServiceSpec {
    ServiceSpec {
        name: "sink".into(),
        program: Program::Applet("mainstay".into()),
        args: [
            "lab",
            "sink",
            "--listen",
            "{address}:8099",
            "--file",
            "{data_dir}/alerts.jsonl",
        ]
        .map(str::to_owned)
        .into(),
        env: std::collections::BTreeMap::new(),
        config: None,
        ready: Readiness::Tcp { port: PORT },
        host_env: std::collections::BTreeMap::new(),
        machine_config_dir: "/etc".into(),
        machine_data_dir: "/var/lib/lab-sink".into(),
    }
}

/// The file of a host's sink, in a lab of processes.
pub fn file(host_dir: &Path) -> PathBuf {
    host_dir.join("data/sink").join(FILE)
}

/// Serves until the process is ended.
///
/// # Errors
/// The address is taken, or the file cannot be written.
pub fn serve(listen: SocketAddr, file: &Path) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    append(file, b"")?;
    for stream in listener.incoming() {
        // One after the other: a lab's alerts are few, and lines must not mix.
        if let Ok(stream) = stream
            && let Err(error) = take(&stream, file)
        {
            terminal::note(&format!("not taken: {error:#}"));
        }
    }
    Ok(())
}

fn take(stream: &TcpStream, file: &Path) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.take(HEADER_MAX + BODY_MAX));
    let (mut length, mut header, mut first) = (0, 0, true);
    loop {
        let mut line = String::new();
        header += reader.read_line(&mut line)? as u64;
        ensure!(header <= HEADER_MAX, "a header of more than {HEADER_MAX} bytes");
        if line.is_empty() {
            // Somebody looked whether the port is open.
            ensure!(first, "the request ends in its header");
            return Ok(());
        }
        first = false;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<u64>().context("bad content-length")?;
        }
    }
    ensure!(
        length <= BODY_MAX,
        "a body of {length} bytes, more than {BODY_MAX}"
    );
    let mut body = vec![0; usize::try_from(length)?];
    reader.read_exact(&mut body)?;
    if !body.is_empty() {
        // One message is one line, whatever the sender's layout.
        body.retain(|byte| !matches!(byte, b'\n' | b'\r'));
        body.push(b'\n');
        append(file, &body)?;
    }
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    Ok(())
}

fn append(file: &Path, bytes: &[u8]) -> Result<()> {
    let mut open = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    open.write_all(bytes)
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the sink answers to these bytes.
    fn send(bytes: &str, file: &Path) -> (String, Result<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        client.write_all(bytes.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let taken = take(&stream, file);
        drop(stream);
        let mut answer = String::new();
        // An aborted connection answers nothing.
        drop(client.read_to_string(&mut answer));
        (answer, taken)
    }

    #[test]
    fn a_body_becomes_one_line_and_a_bare_connection_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alerts.jsonl");
        let (answer, taken) = send("POST / HTTP/1.1\r\ncontent-LENGTH: 9\r\n\r\n{\"a\":\n 1}", &file);
        taken.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        send("", &file).1.unwrap();
        send("GET / HTTP/1.1\r\n\r\n", &file).1.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"a\": 1}\n");
        assert!(
            send("POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n", &file)
                .1
                .is_err()
        );
        assert!(
            send("POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nabc", &file)
                .1
                .is_err()
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
    }
}
