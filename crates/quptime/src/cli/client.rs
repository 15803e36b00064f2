//! The commands' end of the socket; the screen of `qu tui` asks through the same.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use crate::api::{Answer, Request};
use crate::document::{Change, Document};
use crate::machine::state::State;
use crate::node::control::places;

/// No command takes longer: an answer may wait for an election and for a commit.
const TIMEOUT: Duration = Duration::from_secs(40);

fn connect() -> anyhow::Result<UnixStream> {
    let places = places(super::variable);
    let mut refused: Option<(PathBuf, std::io::Error)> = None;
    for place in &places {
        match UnixStream::connect(place) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => refused = refused.or(Some((place.clone(), error))),
        }
    }
    match refused {
        Some((place, error)) if error.kind() == std::io::ErrorKind::PermissionDenied => anyhow::bail!(
            "connect to the daemon at {}: {error}; run the command as the daemon's user: sudo -u quptime qu ...",
            place.display()
        ),
        Some((place, error)) => anyhow::bail!(
            "connect to the daemon at {}: {error}; is it running?",
            place.display()
        ),
        None => {
            let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
            anyhow::bail!(
                "no daemon is running here; looked for its socket at {}",
                looked.join(", ")
            )
        }
    }
}

/// Asks the daemon. An error it tells becomes an error with its exit code.
///
/// # Errors
/// There is no daemon, or what it says.
pub(crate) fn ask(request: &Request) -> anyhow::Result<Answer> {
    ask_within(TIMEOUT, request)
}

/// As [`ask`], for who does not want to wait so long.
///
/// # Errors
/// See [`ask`].
pub(crate) fn ask_within(limit: Duration, request: &Request) -> anyhow::Result<Answer> {
    answer(limit, request).map(|(answer, _)| answer)
}

/// The answer, and why it may be old, if it may.
fn answer(limit: Duration, request: &Request) -> anyhow::Result<(Answer, Option<String>)> {
    let mut stream = connect()?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut line = serde_json::to_vec(request).context("write the request")?;
    line.push(b'\n');
    stream.write_all(&line).context("ask the daemon")?;
    let mut said = Vec::new();
    let read = BufReader::new(stream).read_until(b'\n', &mut said);
    if let Err(error) = &read {
        let is_slow = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        let why = if is_slow {
            format!("the daemon does not answer within {} s", limit.as_secs())
        } else {
            format!("the daemon does not answer: {error}")
        };
        return Err(unanswered(request, &why));
    }
    if said.last() != Some(&b'\n') {
        return Err(unanswered(request, "the daemon ended while it was asked"));
    }
    match serde_json::from_slice(&said).context("understand the daemon; is it another version?")? {
        Answer::Error { exit_code, text } => Err(service::exit::with_code(exit_code, anyhow::anyhow!(text))),
        Answer::Old { why, answer } => Ok((*answer, Some(why))),
        answer => Ok((answer, None)),
    }
}

/// The daemon has the request, and nobody knows how far it came with it.
fn unanswered(request: &Request, why: &str) -> anyhow::Error {
    let look = match request {
        Request::Configure { .. } => "qu cluster log",
        Request::Invite { .. } => "qu node list",
        Request::Acknowledge { .. } => "qu incidents",
        Request::Status { .. }
        | Request::Document
        | Request::State
        | Request::Meet { .. }
        | Request::TestAlert { .. }
        | Request::Doctor => return anyhow::anyhow!("{why}; try again when it runs"),
    };
    anyhow::anyhow!(
        "{why}; the change may have taken effect all the same, look at {look} before you repeat it"
    )
}

fn unexpected<T>() -> anyhow::Result<T> {
    anyhow::bail!("the daemon answers something else; is it another version?")
}

/// The configuration.
///
/// # Errors
/// See [`ask`].
pub(super) fn document() -> anyhow::Result<Document> {
    let (answer, old) = answer(TIMEOUT, &Request::Document)?;
    if let Some(why) = old {
        terminal::note(&why);
    }
    match answer {
        Answer::Document(document) => Ok(*document),
        _ => unexpected(),
    }
}

/// All that is replicated. Says so if nobody decides at the moment, as far as this node hears: others may have gone on.
///
/// # Errors
/// See [`ask`].
pub(super) fn state() -> anyhow::Result<State> {
    let Answer::State(state) = ask(&Request::State)? else {
        return unexpected();
    };
    if let Ok(status) = super::status::status(true)
        && !status.quorum
    {
        let why = status.no_master.as_deref().unwrap_or("no quorum");
        terminal::note(&format!(
            "{why}: what is shown is the last that this node knows, and may be old"
        ));
    }
    Ok(*state)
}

/// Makes changes, and says what was done: a line that names the object and ends with the new version.
///
/// # Errors
/// See [`ask`].
pub(super) fn configure(changes: Vec<Change>, what: &str, done: &str) -> anyhow::Result<()> {
    configure_with(changes, what, done, false)
}

/// As [`configure`]; with `force` also if quorum would be lost.
///
/// # Errors
/// See [`ask`].
pub(super) fn configure_with(
    changes: Vec<Change>,
    what: &str,
    done: &str,
    force: bool,
) -> anyhow::Result<()> {
    let version = change(changes, what, force)?;
    terminal::out(&format!(
        "{} (cluster version now {version})\n",
        terminal::harmless(done)
    ));
    Ok(())
}

/// Makes changes without a word; yields the new version.
///
/// # Errors
/// See [`ask`].
pub(super) fn changed(changes: Vec<Change>, what: &str) -> anyhow::Result<u64> {
    change(changes, what, false)
}

fn change(changes: Vec<Change>, what: &str, force: bool) -> anyhow::Result<u64> {
    let request = Request::Configure {
        changes,
        what: what.to_owned(),
        force,
    };
    match ask(&request)? {
        Answer::Changed { version, warnings } => {
            for warning in warnings {
                terminal::note(&warning);
            }
            Ok(version)
        }
        _ => unexpected(),
    }
}
