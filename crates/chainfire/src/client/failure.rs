//! Why a command did not end well: what is printed after `Error: ` and which exit code follows.

use std::error::Error as _;

use tonic::{Code, Status};

use super::secure;

/// The end of a command that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server refused, or this machine did (a file that cannot be read or written).
    Refused(String),
    /// Wrong usage that the argument tree itself cannot see.
    Usage(String),
    /// No answer came in time, or the connection broke.
    Unreachable(String),
    /// No endpoint took the connection. The end of the program adds where endpoints come from.
    NotConnected(String),
    /// The command to run under a lock could not be run; the code is what a shell gives for that.
    NotRun(u8, String),
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

    /// The same with what is known of its cause behind it.
    pub(super) fn because(self, cause: Option<String>) -> Self {
        match (self, cause) {
            (Self::Unreachable(text), Some(cause)) => Self::Unreachable(format!("{text}: {cause}")),
            (failure, _) => failure,
        }
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
        // How tonic begins when what answers speaks HTTP and not gRPC: a web server, or a proxy in between.
        if let Some(code) = text.strip_prefix("grpc-status header missing, mapped from HTTP status code ") {
            return Self::Unreachable(format!(
                "{endpoint}: HTTP status {code} and no gRPC: no etcd v3 server answers there, or a proxy is in between"
            ));
        }
        if is_transport(status) {
            return Self::Unreachable(format!("{endpoint}: {}", transport(status)));
        }
        match (status.code(), text) {
            (_, "etcdserver: no leader") => Self::refused("no leader elected"),
            (Code::Unavailable, _) if text.starts_with("etcdserver: request timed out") => {
                Self::unreachable(text)
            }
            (Code::DeadlineExceeded, _) => Self::unreachable(format!("{endpoint}: {text}")),
            // What the library of a server says of a method that it has never heard of.
            (Code::Unimplemented, _) if text.is_empty() || text.starts_with("unknown ") => {
                let reason = if text.is_empty() { "unknown method" } else { text };
                Self::refused(format!("{endpoint} does not serve this request: {reason}"))
            }
            // Our own servers say what they lack; it is no text of etcd's, whatever stands in front of it.
            (Code::Unimplemented, _) => Self::refused(text.strip_prefix("etcdserver: ").unwrap_or(text)),
            (code, "") => Self::refused(format!("{endpoint}: {}", code.description())),
            _ => Self::refused(text),
        }
    }

    /// Whether another endpoint, or the same a moment later, may do better.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NotConnected(_) => true,
            Self::Refused(text) => matches!(
                text.as_str(),
                "no leader elected"
                    | "etcdserver: leader changed"
                    | "etcdserver: server stopped"
                    | "etcdserver: invalid auth token"
                    | "etcdserver: revision of auth store is old"
            ),
            Self::Usage(_) | Self::NotRun(..) | Self::Command(_) | Self::OutputClosed => false,
        }
    }

    /// What can be done about a refusal whose own words, which are etcd's and stay as they are, do not say it.
    pub(super) fn advice(&self) -> Option<&'static str> {
        let Self::Refused(text) = self else { return None };
        Some(match text.as_str() {
            "etcdserver: user name is empty" => {
                "authentication is on: log in with --user NAME or in CHAINFIRE_USER"
            }
            "etcdserver: mvcc: database space exceeded" => {
                "reads, deletes and compactions still pass: see `mainstay runbook show chainfire-disk-full`"
            }
            "etcdserver: request is too large" => {
                "the server's limit is its setting limits.max_request_bytes, 1.5 MiB by default"
            }
            "etcdserver: too many operations in txn request" => {
                "the server's limit is its setting limits.max_txn_ops, 128 by default"
            }
            "etcdserver: root user does not exist" => "add it first: chainfire-client user add root",
            _ => return None,
        })
    }

    /// The text after `Error: `, if there is something to say.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Refused(text)
            | Self::Usage(text)
            | Self::Unreachable(text)
            | Self::NotConnected(text)
            | Self::NotRun(_, text) => Some(text),
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
            Self::Unreachable(_) | Self::NotConnected(_) => 3,
            Self::NotRun(code, _) | Self::Command(code) => *code,
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

/// What to say of a failed connection.
fn transport(status: &Status) -> String {
    let text = chain(status);
    // The first bytes of HTTP/1, of SSH, or of a TLS alert, taken for the length of a frame.
    if text.ends_with("frame with invalid size") {
        return "what answers there does not speak gRPC: is it the port of the API, and http or https as in the URL?".to_owned();
    }
    text
}

/// Texts of layers that say only that something below them failed.
const LAYERS: [&str; 6] = [
    "transport error",
    "tcp connect error",
    "dns error",
    "client error (Connect)",
    "error trying to connect",
    "connection error",
];

/// The causes of an error, outermost first, without repeating one that its parent prints already, and without layers that add
/// nothing to what lies below them.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(trouble) = pki::Trouble::of(error) {
        return secure::explain(&trouble);
    }
    if wants_tls(error) {
        return "the server wants TLS on this port: use https:// in --endpoint, and --cacert FILE".to_owned();
    }
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = match (
            cause.downcast_ref::<Status>(),
            cause.downcast_ref::<std::io::Error>(),
        ) {
            (Some(status), _) => status.message().to_owned(),
            (_, Some(error)) => system(error),
            _ => cause.to_string(),
        };
        if !text.is_empty() && !texts.iter().any(|seen| seen.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    let first = texts.first().cloned().unwrap_or_default();
    texts.retain(|text| !LAYERS.contains(&text.as_str()));
    if texts.is_empty() { first } else { texts.join(": ") }
}

/// Whether the server has said that plain text is not enough.
fn wants_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let reason = cause.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
        if reason == Some(h2::Reason::INADEQUATE_SECURITY) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// What the system said, in the form of all our texts: lower case and without the number.
pub(super) fn system(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text
        .rsplit_once(" (os error ")
        .map_or(text.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    match (letters.next(), letters.as_str()) {
        // `IO error` and the like keep their capitals.
        (Some(first), rest) if !rest.starts_with(char::is_uppercase) => {
            first.to_lowercase().collect::<String>() + rest
        }
        _ => text.to_owned(),
    }
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
    fn advice_stands_behind_refusals_that_want_it_and_no_others() {
        let advice = |text: &str| Failure::refused(text).advice().map(str::to_owned);
        assert!(
            advice("etcdserver: user name is empty")
                .unwrap()
                .contains("--user NAME")
        );
        assert!(
            advice("etcdserver: mvcc: database space exceeded")
                .unwrap()
                .contains("chainfire-disk-full")
        );
        assert_eq!(advice("etcdserver: permission denied"), None);
        assert_eq!(Failure::usage("etcdserver: user name is empty").advice(), None);
    }

    #[test]
    fn an_answer_that_is_no_grpc_is_told_from_a_refusal() {
        let mapped = "grpc-status header missing, mapped from HTTP status code 404";
        let failure = Failure::of_status(&Status::unimplemented(mapped), "http://x:1");
        assert_eq!(
            failure,
            Failure::unreachable(
                "http://x:1: HTTP status 404 and no gRPC: no etcd v3 server answers there, or a proxy is in between"
            )
        );
    }

    #[test]
    fn what_the_server_lacks_is_told_in_its_own_words() {
        let text = |status| {
            let failure = Failure::of_status(&status, "http://x:1");
            failure.text().unwrap_or_default().to_owned()
        };
        assert_eq!(
            text(Status::unimplemented(
                "etcdserver: downgrades are not in this release"
            )),
            "downgrades are not in this release"
        );
        assert_eq!(
            text(Status::unimplemented("unknown method Hash")),
            "http://x:1 does not serve this request: unknown method Hash"
        );
        assert_eq!(
            text(Status::unimplemented("")),
            "http://x:1 does not serve this request: unknown method"
        );
    }

    #[test]
    fn layers_that_say_nothing_are_left_out() {
        #[derive(Debug, thiserror::Error)]
        #[error("{text}")]
        struct Layer {
            text: &'static str,
            source: std::io::Error,
        }
        let below = || std::io::Error::from_raw_os_error(111);
        let shown = |text| {
            chain(&Layer {
                text,
                source: below(),
            })
        };
        assert_eq!(shown("tcp connect error"), "connection refused");
        assert_eq!(shown("proxy"), "proxy: connection refused");
        assert_eq!(chain(&std::fmt::Error), std::fmt::Error.to_string());
    }

    #[test]
    fn closed_output_is_quiet() {
        let failure = Failure::output(&std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!((failure.text(), failure.exit_code()), (None, 141));
    }
}
