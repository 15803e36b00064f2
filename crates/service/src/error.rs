//! The kinds of failure, and what each means to the outside.
//!
//! Every public error of a system answers `kind()`. This table turns a kind into an exit code, an HTTP status and a gRPC
//! code, so that no system invents its own mapping. The numbers are plain integers: this crate knows no HTTP or gRPC
//! library.

use crate::exit;

/// What went wrong, seen by the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request or the setting is wrong; asking again will not help.
    Invalid,
    /// What was named does not exist.
    NotFound,
    /// It exists already, or changed under the caller.
    Conflict,
    /// The state of the system forbids it now (not leader, wrong phase).
    Precondition,
    /// A position outside what is kept or exists (compacted, in the future).
    OutOfRange,
    /// A quota or a bound is reached.
    Exhausted,
    /// Nobody could answer: no leader, connection refused, draining.
    Unavailable,
    /// No answer came in time.
    Timeout,
    /// The caller gave up.
    Cancelled,
    /// The caller is not known.
    Unauthenticated,
    /// The caller is known and may not.
    Denied,
    /// The operation does not exist here.
    Unsupported,
    /// Stored data is damaged; a person must act.
    Corrupt,
    /// A defect, or a failure of the machine such as a full disk.
    Internal,
}

impl ErrorKind {
    /// Exit code of a command that failed this way: 64 for wrong usage, otherwise 1.
    ///
    /// Programs with finer codes document them and use [`exit::with_code`].
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Invalid => exit::USAGE,
            _ => exit::FAILED,
        }
    }

    /// HTTP status, as the gRPC gateway maps the code of [`Self::grpc_code`].
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid | Self::OutOfRange | Self::Precondition => 400,
            Self::Unauthenticated => 401,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Exhausted => 429,
            Self::Cancelled => 499,
            Self::Corrupt | Self::Internal => 500,
            Self::Unsupported => 501,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// gRPC status code (`google.rpc.Code`).
    pub const fn grpc_code(self) -> i32 {
        match self {
            Self::Cancelled => 1,
            Self::Invalid => 3,
            Self::Timeout => 4,
            Self::NotFound => 5,
            Self::Conflict => 6,
            Self::Denied => 7,
            Self::Exhausted => 8,
            Self::Precondition => 9,
            Self::OutOfRange => 11,
            Self::Unsupported => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Corrupt => 15,
            Self::Unauthenticated => 16,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout)
    }

    /// The kind of an error of the operating system.
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound => Self::NotFound,
            Io::PermissionDenied => Self::Denied,
            Io::AlreadyExists | Io::AddrInUse => Self::Conflict,
            Io::InvalidInput => Self::Invalid,
            Io::InvalidData | Io::UnexpectedEof => Self::Corrupt,
            Io::TimedOut => Self::Timeout,
            Io::StorageFull | Io::QuotaExceeded => Self::Exhausted,
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NotConnected
            | Io::HostUnreachable
            | Io::NetworkUnreachable => Self::Unavailable,
            _ => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_the_grpc_gateway() {
        for (kind, grpc, http) in [
            (ErrorKind::Invalid, 3, 400),
            (ErrorKind::Timeout, 4, 504),
            (ErrorKind::NotFound, 5, 404),
            (ErrorKind::Conflict, 6, 409),
            (ErrorKind::Denied, 7, 403),
            (ErrorKind::Exhausted, 8, 429),
            (ErrorKind::Precondition, 9, 400),
            (ErrorKind::OutOfRange, 11, 400),
            (ErrorKind::Unsupported, 12, 501),
            (ErrorKind::Internal, 13, 500),
            (ErrorKind::Unavailable, 14, 503),
            (ErrorKind::Corrupt, 15, 500),
            (ErrorKind::Unauthenticated, 16, 401),
        ] {
            assert_eq!((kind.grpc_code(), kind.http_status()), (grpc, http), "{kind:?}");
        }
    }

    #[test]
    fn only_wrong_usage_has_its_own_exit_code() {
        assert_eq!(ErrorKind::Invalid.exit_code(), 64);
        assert_eq!(ErrorKind::Unavailable.exit_code(), 1);
        assert!(ErrorKind::Unavailable.is_transient() && !ErrorKind::Invalid.is_transient());
    }

    #[test]
    fn io_errors_have_a_kind() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(ErrorKind::of_io(&refused), ErrorKind::Unavailable);
        assert_eq!(ErrorKind::of_io(&std::io::Error::other("x")), ErrorKind::Internal);
    }
}
