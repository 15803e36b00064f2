//! The dialogue with a relay: connect, secure, log in, deliver.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::letter::Letter;
use super::wire::Wire;
use super::{Progress, Stage};
use crate::channel::Smtp;
use crate::failure::{Failure, Receipt};
use crate::gate::Gate;
use crate::tls::Roots;

/// Time for each address of the relay but the last, so that one that is away does not use up the deadline.
const ADDRESS_LIMIT: Duration = Duration::from_secs(3);

/// An open connection to a relay.
pub(super) struct Session<'a> {
    connection: AsyncSmtpConnection,
    progress: &'a Progress,
    /// Whether a password may be said: nobody on the way can hear it.
    private: bool,
}

impl<'a> Session<'a> {
    /// Connects, and secures the connection as the settings want it.
    pub(super) async fn open(
        settings: &Smtp,
        roots: &Roots,
        progress: &'a Progress,
    ) -> Result<Self, Failure> {
        let roots = match &settings.ca_file {
            Some(path) => roots
                .with_file(path, tokio::fs::read(path).await)
                .map_err(Failure::permanent)?,
            None => roots.clone(),
        };
        let tcp = connect(&settings.host, settings.port).await?;
        let local = tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
        let wire = if settings.tls {
            progress.set(Stage::Securing);
            implicit_tls(tcp, &settings.host, &roots).await?
        } else if settings.starttls {
            Wire::before_tls(tcp)
        } else {
            Wire::plain(tcp)
        };
        progress.set(Stage::Greeting);
        let us = ClientId::default();
        let connection = AsyncSmtpConnection::connect_with_transport(Box::new(wire), &us)
            .await
            .map_err(|error| failure("the relay does not greet", &error))?;
        let mut session = Self {
            connection,
            progress,
            private: settings.tls || local,
        };
        if settings.starttls && !settings.tls {
            session.secure(&settings.host, &roots, &us).await?;
        }
        Ok(session)
    }

    async fn secure(&mut self, host: &str, roots: &Roots, us: &ClientId) -> Result<(), Failure> {
        if !self.connection.can_starttls() {
            return Err(Failure::permanent(
                "the relay offers no STARTTLS; set tls if it speaks TLS from the start",
            ));
        }
        let parameters = roots.starttls(host).map_err(Failure::permanent)?;
        self.progress.set(Stage::Securing);
        self.connection
            .starttls(parameters, us)
            .await
            .map_err(|error| failure("TLS", &error))?;
        self.private = true;
        Ok(())
    }

    /// Logs in if the settings name a user.
    pub(super) async fn log_in(&mut self, settings: &Smtp, password: String) -> Result<(), Failure> {
        if settings.user.is_empty() {
            return Ok(());
        }
        if !self.private {
            return Err(Failure::permanent(
                "a password goes only over TLS: set starttls or tls, or leave user out",
            ));
        }
        self.progress.set(Stage::LoggingIn);
        let credentials = Credentials::new(settings.user.clone(), password);
        self.connection
            .auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
            .await
            .map_err(|error| failure("log-in", &error))?;
        Ok(())
    }

    /// Delivers to all recipients that the relay takes. If it takes some, that is a success with remarks: trying again for the
    /// others would send the mail twice to the first.
    pub(super) async fn deliver(&mut self, letter: &Letter, gate: &Gate) -> Result<Receipt, Failure> {
        self.progress.set(Stage::Addressing);
        self.connection
            .command(Mail::new(Some(letter.from.clone()), vec![]))
            .await
            .map_err(|error| failure(&format!("sender {}", letter.from), &error))?;
        let refused = self.name_recipients(&letter.to).await?;
        if refused.len() == letter.to.len() {
            return Err(all_refused(&refused));
        }
        self.connection
            .command(Data)
            .await
            .map_err(|error| failure("mail", &error))?;
        if !gate.is_open() {
            // The relay takes nothing of a mail whose end it has not seen.
            return Err(Failure::held());
        }
        self.progress.set(Stage::HandedOver);
        let response = self.connection.message(&letter.bytes).await.map_err(|error| {
            // An answer is certain; a connection that ended without one is not.
            failure("mail", &error).maybe_taken(error.status().is_none())
        })?;
        Ok(Receipt {
            answer: answer(&response),
            remarks: refused
                .iter()
                .map(|failure| format!("refused {}", failure.text))
                .collect(),
        })
    }

    /// Names the recipients; gives the refusals.
    async fn name_recipients(&mut self, recipients: &[Address]) -> Result<Vec<Failure>, Failure> {
        let mut refused = vec![];
        for recipient in recipients {
            let named = self
                .connection
                .command(Rcpt::new(recipient.clone(), vec![]))
                .await;
            if let Err(error) = named {
                let failure = failure(&format!("recipient {recipient}"), &error);
                // 421: the relay closes the connection.
                let goes_on = error.status().is_some_and(|code| code.to_string() != "421");
                if !goes_on {
                    return Err(failure);
                }
                refused.push(failure);
            }
        }
        Ok(refused)
    }

    /// Says goodbye.
    pub(super) async fn quit(&mut self) {
        // Nobody waits for the outcome.
        let _ = self.connection.quit().await;
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let failed = |what: String| Failure::temporary(format!("cannot connect: {what}"));
    let mut addresses = lookup_host((host, port))
        .await
        .map_err(|error| failed(error.to_string()))?
        .peekable();
    let mut last = "its name has no address".to_owned();
    while let Some(address) = addresses.next() {
        let attempt = TcpStream::connect(address);
        let outcome = if addresses.peek().is_some() {
            match timeout(ADDRESS_LIMIT, attempt).await {
                Ok(outcome) => outcome,
                Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
            }
        } else {
            attempt.await
        };
        match outcome {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.to_string(),
        }
    }
    Err(failed(last))
}

async fn implicit_tls(tcp: TcpStream, host: &str, roots: &Roots) -> Result<Wire, Failure> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::permanent("host is neither a host name nor an address"))?;
    let config = roots.client(&[]).map_err(Failure::permanent)?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(|error| Failure::temporary(format!("TLS: {error}")))?;
    Ok(Wire::tls(stream))
}

/// What a refusal or a broken connection means.
fn failure(during: &str, error: &Error) -> Failure {
    // The innermost says it; those around it are the library's.
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(|cause| cause.source()) {
        cause = Some(deeper);
    }
    let what = match (error.status(), cause) {
        (Some(code), Some(text)) => format!("{during}: {code} {text}"),
        (Some(code), None) => format!("{during}: {code}"),
        (None, Some(cause)) => format!("{during}: {cause}"),
        (None, None) => format!("{during}: {error}"),
    };
    // A client's error is one of settings against what the relay can do, such as no common way to log in.
    if error.is_permanent() || error.is_client() {
        Failure::permanent(what)
    } else {
        Failure::temporary(what)
    }
}

/// No recipient was taken. If one of them may be later, all are tried again.
fn all_refused(refused: &[Failure]) -> Failure {
    let texts: Vec<&str> = refused.iter().map(|failure| failure.text.as_str()).collect();
    let text = texts.join("; ");
    if refused
        .iter()
        .any(|failure| failure.kind == crate::Kind::Temporary)
    {
        Failure::temporary(text)
    } else {
        Failure::permanent(text)
    }
}

fn answer(response: &Response) -> String {
    let text: Vec<&str> = response.message().collect();
    format!("{} {}", response.code(), text.join(" "))
}
