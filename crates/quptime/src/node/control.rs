//! The socket for commands. Who may use it is decided by the file system: its mode is 0600.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::propose::{self, Refused};
use super::send::TestCall;
use super::shared::Shared;
use super::wire::{decode, encode, kind};
use super::{current, doctor, join, send, status};
use crate::api::{Answer, MESSAGE_MAX, Request};
use crate::identity::NodeId;
use crate::machine::command::{Acknowledge, Command};

/// Commands served at once; more wait.
const COMMANDS_MAX: usize = 64;
/// How long a command may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long another node may take to send a test.
const TEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Characters of what somebody may say about an outage.
const NOTE_MAX: usize = 500;

/// Where the socket may be, in the order in which commands look for it.
pub fn places(variable: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let mut places = Vec::new();
    if let Some(path) = set("QUPTIME_SOCKET") {
        return vec![PathBuf::from(path)];
    }
    // systemd gives several directories separated by colons.
    if let Some(dir) = set("RUNTIME_DIRECTORY") {
        places.push(PathBuf::from(dir.split(':').next().unwrap_or_default()).join("quptime.sock"));
    }
    places.push(PathBuf::from("/run/quptime/quptime.sock"));
    places.push(PathBuf::from("/var/run/quptime/quptime.sock"));
    if let Some(dir) = set("XDG_RUNTIME_DIR") {
        places.push(PathBuf::from(dir).join("quptime/quptime.sock"));
    }
    let user = set("USER").unwrap_or_else(|| nix::unistd::geteuid().to_string());
    places.push(std::env::temp_dir().join(format!("quptime-{user}/quptime.sock")));
    places
}

/// Opens the socket at the first place that can be written to.
///
/// # Errors
/// There is none, or another daemon has it.
pub fn bind(places: &[PathBuf]) -> anyhow::Result<(std::os::unix::net::UnixListener, PathBuf)> {
    let mut last = None;
    for place in places {
        match bind_at(place) {
            Ok(listener) => return Ok((listener, place.clone())),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                anyhow::bail!(
                    "{}: another qu daemon answers there; set QUPTIME_SOCKET for a second one",
                    place.display()
                );
            }
            Err(error) => last = Some(format!("{}: {error}", place.display())),
        }
    }
    anyhow::bail!("no place for the control socket: {}", last.unwrap_or_default())
}

fn bind_at(place: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    if let Some(dir) = place.parent() {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    if std::os::unix::net::UnixStream::connect(place).is_ok() {
        return Err(std::io::ErrorKind::AddrInUse.into());
    }
    match std::fs::remove_file(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Nobody else may connect, not even for a moment.
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let bound = std::os::unix::net::UnixListener::bind(place);
    nix::sys::stat::umask(mask);
    let listener = bound?;
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves commands until the run ends.
pub async fn serve(shared: Arc<Shared>, listener: UnixListener) {
    let seats = Arc::new(tokio::sync::Semaphore::new(COMMANDS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(target: "quptime", error = %error, "a command could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(seat) = seats.clone().acquire_owned().await else {
            return;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            // A command that went away has no use for an error.
            drop(one(&shared, stream).await);
            drop(seat);
        });
    }
}

async fn one(shared: &Arc<Shared>, stream: UnixStream) -> std::io::Result<()> {
    let uid = stream.peer_cred().ok().map(|known| known.uid());
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(MESSAGE_MAX as u64));
    let read = tokio::time::timeout(REQUEST_TIMEOUT, reader.read_until(b'\n', &mut line)).await;
    if read.is_err() {
        return Ok(());
    }
    let answer = match decode::<Request>(&line) {
        Ok(request) => handle(shared, request, uid).await,
        Err(text) => Answer::Error { exit_code: 1, text },
    };
    let mut out = encode(&answer).to_vec();
    out.push(b'\n');
    writer.write_all(&out).await?;
    writer.shutdown().await
}

fn refused(error: &Refused) -> Answer {
    Answer::Error {
        exit_code: error.exit_code(),
        text: error.to_string(),
    }
}

fn failed(text: impl Into<String>) -> Answer {
    Answer::Error {
        exit_code: 1,
        text: text.into(),
    }
}

async fn handle(shared: &Arc<Shared>, request: Request, uid: Option<u32>) -> Answer {
    match request {
        Request::Status { no_wait } => Answer::Status(Box::new(status::status(shared, no_wait).await)),
        Request::Document => {
            let old = current::current(shared).await;
            let answer = Answer::Document(Box::new((*shared.document()).clone()));
            match old {
                None => answer,
                Some(why) => Answer::Old {
                    why,
                    answer: Box::new(answer),
                },
            }
        }
        Request::State => match shared.view() {
            Some(view) => Answer::State(Box::new((*view.state).clone())),
            None => failed("this node is in no cluster yet; see qu status"),
        },
        Request::Configure { changes, what, force } => {
            match propose::configure(shared, changes, uid, &what, force).await {
                Ok((done, warnings)) => Answer::Changed {
                    version: done.version,
                    warnings,
                },
                Err(error) => refused(&error),
            }
        }
        Request::Meet { address } => match join::meet(shared, &address).await {
            Ok((node, key)) => Answer::Met {
                node,
                fingerprint: key.to_string(),
            },
            Err(text) => failed(text),
        },
        Request::Invite {
            address,
            fingerprint,
            discard,
        } => {
            let Ok(key) = fingerprint.parse() else {
                return failed(format!("\"{}\" is no fingerprint", terminal::brief(&fingerprint)));
            };
            match join::invite(shared, &address, key, discard, uid).await {
                Ok(invited) => Answer::Invited {
                    node: invited.node,
                    version: invited.version,
                    joined: invited.joined,
                },
                Err(error) => refused(&error),
            }
        }
        Request::TestAlert {
            alert,
            check,
            verb,
            nodes,
        } => test(shared, TestCall { alert, check, verb }, nodes).await,
        Request::Acknowledge { check, note, until } => acknowledge(shared, &check, note, until, uid).await,
        Request::Doctor => Answer::Doctor(doctor::doctor(shared).await),
    }
}

async fn test(shared: &Arc<Shared>, call: TestCall, mut nodes: Vec<NodeId>) -> Answer {
    if nodes.is_empty() {
        nodes.push(shared.me);
    }
    let mut results = Vec::new();
    for node in nodes {
        let sent = if node == shared.me {
            send::test_here(shared, &call).await.map(drop)
        } else {
            match shared.transport.get() {
                None => Err("not started".to_owned()),
                Some(transport) => {
                    let asked =
                        transport.request(node.number(), kind::TEST_ALERT, encode(&call), TEST_TIMEOUT);
                    let asked = asked.await.map(drop);
                    asked.map_err(|error| shared.document().with_addresses(&error.to_string()))
                }
            }
        };
        results.push((node, sent.err()));
    }
    Answer::Tested(results)
}

/// Whether a note can be kept: it is replicated, and shown in one line.
fn note_fits(note: &str) -> Result<(), String> {
    crate::document::review::plain("--note", note)?;
    let letters = note.chars().count();
    if letters > NOTE_MAX {
        return Err(format!(
            "--note: {letters} characters are too many; at most {NOTE_MAX}"
        ));
    }
    Ok(())
}

async fn acknowledge(
    shared: &Arc<Shared>,
    check: &str,
    note: String,
    until: Option<u64>,
    uid: Option<u32>,
) -> Answer {
    if let Err(error) = note_fits(&note) {
        return failed(error);
    }
    let document = shared.document();
    let Some(known) = document.check(check) else {
        return failed(format!("there is no check \"{}\"", terminal::brief(check)));
    };
    let command = Command::Acknowledge(Acknowledge {
        check: known.id.clone(),
        note,
        until,
        at: shared.wall(),
        uid,
        by: Some(shared.me),
    });
    match propose::propose(shared, command).await {
        Ok(done) => Answer::Changed {
            version: done.version,
            warnings: Vec::new(),
        },
        Err(Refused::Outdated(_)) => failed(format!(
            "check {check} is not down; there is nothing to acknowledge"
        )),
        Err(error) => refused(&error),
    }
}
