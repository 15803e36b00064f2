//! Mail: one message to one relay, in one connection, within one deadline.
//!
//! `letter` writes the mail, `wire` is the connection with its bounds, `session` talks to the relay. The dialogue is ours
//! rather than the mail library's: a relay that refuses one of several recipients must not keep the mail from the others.

mod letter;
mod session;
mod wire;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use tokio::time::{Instant, timeout_at};

use crate::channel::{Smtp, login_secrets};
use crate::failure::{Failure, Receipt};
use crate::gate::Gate;
use crate::message::Message;
use crate::sender::Outcome;
use crate::tls::Roots;

/// A password is a line; a longer file is another file.
const PASSWORD_MAX: usize = 4096;

/// What the attempt is doing, so that one that runs into the deadline can say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Greeting,
    Securing,
    LoggingIn,
    Addressing,
    /// The relay has the mail, and has not said whether it takes it.
    HandedOver,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Greeting => "waiting for the relay's greeting",
            Self::Securing => "starting TLS",
            Self::LoggingIn => "logging in",
            Self::Addressing => "naming sender and recipients",
            Self::HandedOver => "waiting for the relay to take the mail",
        })
    }
}

/// The stage, readable after the attempt has been dropped.
#[derive(Debug)]
struct Progress(Mutex<Stage>);

impl Progress {
    fn set(&self, stage: Stage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    fn stage(&self) -> Stage {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt. A password from a file is added to `secrets`.
pub(crate) async fn send(
    settings: &Smtp,
    message: &Message,
    roots: &Roots,
    now_unix_ms: u64,
    until: Instant,
    gate: &Gate,
    secrets: &mut Vec<String>,
) -> Result<Receipt, Outcome> {
    let progress = Progress(Mutex::new(Stage::Connecting));
    let attempt = async {
        let letter = letter::write(settings, message, now_unix_ms).map_err(Failure::permanent)?;
        let password = password(settings).await.map_err(Failure::permanent)?;
        login_secrets(&settings.user, &password, secrets);
        let mut session = session::Session::open(settings, roots, &progress).await?;
        session.log_in(settings, password).await?;
        let receipt = session.deliver(&letter, gate).await?;
        Ok::<_, Failure>((receipt, session))
    };
    match timeout_at(until, attempt).await {
        Ok(Ok((receipt, mut session))) => {
            // The mail is taken. Whether the relay says goodbye changes nothing.
            let _ = timeout_at(until, session.quit()).await;
            Ok(receipt)
        }
        Ok(Err(failure)) => Err(failure.into()),
        Err(_) => Err(Outcome::TimeUp {
            during: format!(", while {}", progress.stage()),
            maybe_taken: progress.stage() == Stage::HandedOver,
        }),
    }
}

/// The password of the settings or of the file that they name; empty without either.
async fn password(settings: &Smtp) -> Result<String, String> {
    let Some(path) = &settings.password_file else {
        return Ok(settings.password.expose().to_owned());
    };
    let failed = |what: &str| format!("password_file {}: {what}", path.display());
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| failed(&error.to_string()))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() || password.len() > PASSWORD_MAX || password.chars().any(char::is_control) {
        return Err(failed("expected one line with the password"));
    }
    Ok(password.to_owned())
}
