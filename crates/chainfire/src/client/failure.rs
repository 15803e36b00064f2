//! Why a command did not end well: what is printed after `Error: ` and which exit code follows.

use std::error::Error as _;

use tonic::{Code, Status};

/// The end of a command that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server refused, or this machine did (a file that cannot be written).
    Refused(String),
    /// Wrong usage that the argument tree itself cannot see.
    Usage(String),
    /// No endpoint could be reached, or no answer came in time.
    Unreachable(String),
    /// The command run under a lock ended with this code; it has said itself why.
    Command(u8),
    /// Whoever read our output has enough.
    OutputClosed,
}

/// Result of a command or of a step of one.
pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Exit code for wrong usage.
    pub(super) const USAGE: u8 = 2;

    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }

    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub(super) fn unreachable(text: impl Into<String>) -> Self {
        Self::Unreachable(text.into())
    }

    /// A failed write to standard output.
    pub(super) fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Refused(format!("write output: {error}"))
        }
    }

    /// What a refused or failed request means. `endpoint` is who was asked.
    pub(super) fn of_status(status: &Status, endpoint: &str) -> Self {
        let text = status.message();
        if is_transport(status) {
            return Self::Unreachable(format!("{endpoint}: {}", chain(status)));
        }
        match (status.code(), text) {
            (_, "etcdserver: no leader") => Self::refused("no leader elected"),
            (Code::Unavailable, _) if text.starts_with("etcdserver: request timed out") => {
                Self::unreachable(text)
            }
            (Code::DeadlineExceeded, _) => Self::unreachable(format!("{endpoint}: {text}")),
            (Code::Unimplemented, _) => {
                Self::refused(format!("{endpoint} does not serve this request: {text}"))
            }
            (code, "") => Self::refused(format!("{endpoint}: {}", code.description())),
            _ => Self::refused(text),
        }
    }

    /// Whether another endpoint, or the same a moment later, may do better.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(text) => matches!(
                text.as_str(),
                "no leader elected"
                    | "etcdserver: leader changed"
                    | "etcdserver: server stopped"
                    | "etcdserver: invalid auth token"
                    | "etcdserver: revision of auth store is old"
            ),
            Self::Usage(_) | Self::Command(_) | Self::OutputClosed => false,
        }
    }

    /// The text after `Error: `, if there is something to say.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Refused(text) | Self::Usage(text) | Self::Unreachable(text) => Some(text),
            Self::Command(_) | Self::OutputClosed => None,
        }
    }

    /// The exit code of the program.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            // What a shell shows for death by SIGPIPE, as every other tool dies of it.
            Self::OutputClosed => 141,
            Self::Refused(_) => 1,
            Self::Usage(_) => Self::USAGE,
            Self::Unreachable(_) => 3,
            Self::Command(code) => *code,
        }
    }
}

/// Whether the connection failed, rather than the server answering with a refusal. Only the former has a cause attached; a
/// proxy or an etcd that shuts down answers `Unavailable` without etcd's prefix.
fn is_transport(status: &Status) -> bool {
    let oversized = status.code() == Code::OutOfRange || status.code() == Code::ResourceExhausted;
    let foreign_unavailable =
        status.code() == Code::Unavailable && !status.message().starts_with("etcdserver: ");
    (status.source().is_some() && !oversized) || foreign_unavailable
}

/// The causes of an error, outermost first, without repeating one that its parent prints already.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause
            .downcast_ref::<Status>()
            .map_or_else(|| cause.to_string(), |status| status.message().to_owned());
        if !text.is_empty() && !texts.iter().any(|seen| seen.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_refusal_from_silence() {
        let code = |status: Status| Failure::of_status(&status, "http://x:1").exit_code();
        assert_eq!(
            code(Status::invalid_argument("etcdserver: key is not provided")),
            1
        );
        assert_eq!(code(Status::unavailable("etcdserver: no leader")), 1);
        assert_eq!(code(Status::unavailable("etcdserver: request timed out")), 3);
        assert_eq!(code(Status::unavailable("transport is closing")), 3);
        assert_eq!(code(Status::deadline_exceeded("context deadline exceeded")), 3);
        assert_eq!(code(Status::unimplemented("unknown method")), 1);
    }

    #[test]
    fn no_leader_is_said_in_words() {
        let failure = Failure::of_status(&Status::unavailable("etcdserver: no leader"), "http://x:1");
        assert_eq!(failure.text(), Some("no leader elected"));
        assert!(failure.is_transient());
    }

    #[test]
    fn other_texts_are_passed_on_unchanged() {
        let failure = Failure::of_status(
            &Status::not_found("etcdserver: requested lease not found"),
            "http://x:1",
        );
        assert_eq!(failure, Failure::refused("etcdserver: requested lease not found"));
        assert!(!failure.is_transient());
    }

    #[test]
    fn closed_output_is_quiet() {
        let failure = Failure::output(&std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!((failure.text(), failure.exit_code()), (None, 141));
    }
}
