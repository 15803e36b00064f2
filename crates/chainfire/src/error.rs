//! What a client is told when a request is refused.
//!
//! etcd clients compare code *and* text (the Go client turns the text back into an error value), so both are fixed here and
//! nowhere else. Source of the texts: etcd, `api/v3rpc/rpctypes/error.go` and `server/.../v3rpc/util.go`.

use service::error::ErrorKind;
use tonic::{Code, Status};

/// Result of a request.
pub type Result<T> = std::result::Result<T, Error>;

macro_rules! errors {
    ($( $(#[$doc:meta])* $name:ident, $code:ident, $text:literal; )*) => {
        /// A refused request.
        ///
        /// All but the last four variants are *deterministic*: every member that applies the same log refuses the same
        /// commands with the same variant.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        pub enum Error {
            $( $(#[$doc])* #[error($text)] $name, )*
            /// Malformed input that etcd has no text of its own for.
            #[error("etcdserver: {0}")]
            Invalid(String),
            /// A feature that this server does not have.
            #[error("etcdserver: {0}")]
            Unsupported(String),
            /// The cluster cannot do this right now; the text says what to wait for.
            #[error("etcdserver: {0}")]
            Unready(String),
            /// This node failed, not the request: a disk error, say. Never an answer of the state machine.
            #[error("etcdserver: {0}")]
            Local(String),
            /// As `Local`, because bytes on this node's disk are not what was written.
            #[error("etcdserver: {0}")]
            Damaged(String),
        }

        impl Error {
            /// The gRPC status code clients see.
            pub fn code(&self) -> Code {
                match self {
                    $( Error::$name => Code::$code, )*
                    Error::Invalid(_) => Code::InvalidArgument,
                    Error::Unsupported(_) => Code::Unimplemented,
                    Error::Unready(_) => Code::Unavailable,
                    Error::Local(_) => Code::Internal,
                    Error::Damaged(_) => Code::DataLoss,
                }
            }
        }

        const NAMED: &[Error] = &[$( Error::$name, )*];
    };
}

errors! {
    /// A request without a key.
    EmptyKey, InvalidArgument, "etcdserver: key is not provided";
    /// `ignore_value` or `ignore_lease` on a key that does not exist; also an empty operation in a transaction.
    KeyNotFound, InvalidArgument, "etcdserver: key not found";
    /// A value beside `ignore_value`.
    ValueProvided, InvalidArgument, "etcdserver: value is provided";
    /// A lease beside `ignore_lease`.
    LeaseProvided, InvalidArgument, "etcdserver: lease is provided";
    /// More operations than `limits.max_txn_ops`.
    TooManyOps, InvalidArgument, "etcdserver: too many operations in txn request";
    /// One key written twice in one transaction.
    DuplicateKey, InvalidArgument, "etcdserver: duplicate key given in txn request";
    /// Unknown sort order or target.
    InvalidSortOption, InvalidArgument, "etcdserver: invalid sort option";
    /// Compaction below or at the last one, or a read below it.
    Compacted, OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    /// A revision that does not exist yet.
    FutureRevision, OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    /// The quota is used up, or the disk is full.
    NoSpace, ResourceExhausted, "etcdserver: mvcc: database space exceeded";

    /// Unknown or expired lease.
    LeaseNotFound, NotFound, "etcdserver: requested lease not found";
    /// A grant with an id in use.
    LeaseExists, FailedPrecondition, "etcdserver: lease already exists";
    /// A time to live above 9,000,000,000 s.
    LeaseTtlTooLarge, OutOfRange, "etcdserver: too large lease TTL";

    /// A watch that the server ended.
    WatchCanceled, Cancelled, "etcdserver: watch canceled";

    /// A member id in use.
    MemberExists, FailedPrecondition, "etcdserver: member ID already exist";
    /// A peer URL in use.
    PeerUrlExists, FailedPrecondition, "etcdserver: Peer URLs already exists";
    /// A change that would leave fewer started voters than a quorum.
    NotEnoughStarted, FailedPrecondition, "etcdserver: re-configuration failed due to not enough started members";
    /// Peer URLs that are none.
    BadMemberUrls, InvalidArgument, "etcdserver: given member URLs are invalid";
    /// Unknown member id.
    MemberNotFound, NotFound, "etcdserver: member not found";
    /// Promotion of a voter.
    NotLearner, FailedPrecondition, "etcdserver: can only promote a learner member";
    /// Promotion of a learner that lags.
    LearnerNotReady, FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader";
    /// More learners than `limits.max_learners`.
    TooManyLearners, FailedPrecondition, "etcdserver: too many learner members in cluster";

    /// Value or request above `limits.max_request_bytes`.
    RequestTooLarge, InvalidArgument, "etcdserver: request is too large";
    /// Too much waits to be applied.
    TooManyRequests, ResourceExhausted, "etcdserver: too many requests";

    /// Enabling authentication without user `root`.
    RootUserNotExist, FailedPrecondition, "etcdserver: root user does not exist";
    /// Enabling authentication while user `root` lacks role `root`.
    RootRoleNotExist, FailedPrecondition, "etcdserver: root user does not have root role";
    /// A user of that name is there.
    UserExists, FailedPrecondition, "etcdserver: user name already exists";
    /// A user without a name.
    UserEmpty, InvalidArgument, "etcdserver: user name is empty";
    /// No such user.
    UserNotFound, FailedPrecondition, "etcdserver: user name not found";
    /// A role of that name is there.
    RoleExists, FailedPrecondition, "etcdserver: role name already exists";
    /// No such role.
    RoleNotFound, FailedPrecondition, "etcdserver: role name not found";
    /// A role without a name.
    RoleEmpty, InvalidArgument, "etcdserver: role name is empty";
    /// Wrong name or password; which of them is not told.
    AuthFailed, InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    /// A grant without a permission.
    PermissionNotGiven, InvalidArgument, "etcdserver: permission not given";
    /// The user may not do this.
    PermissionDenied, PermissionDenied, "etcdserver: permission denied";
    /// Revoking a role the user does not have.
    RoleNotGranted, FailedPrecondition, "etcdserver: role is not granted to the user";
    /// Revoking a permission the role does not have.
    PermissionNotGranted, FailedPrecondition, "etcdserver: permission is not granted to the role";
    /// A token was asked for while authentication is off.
    AuthNotEnabled, FailedPrecondition, "etcdserver: authentication is not enabled";
    /// Unknown or expired token.
    InvalidAuthToken, Unauthenticated, "etcdserver: invalid auth token";
    /// Removing what keeps `root` in charge while authentication is on.
    InvalidAuthManagement, InvalidArgument, "etcdserver: invalid auth management";
    /// The token was made before users or roles changed.
    AuthOldRevision, InvalidArgument, "etcdserver: revision of auth store is old";

    /// Nobody leads.
    NoLeader, Unavailable, "etcdserver: no leader";
    /// A request only the leader takes.
    NotLeader, FailedPrecondition, "etcdserver: not leader";
    /// Leadership moved while the request waited.
    LeaderChanged, Unavailable, "etcdserver: leader changed";
    /// The server shuts down.
    Stopped, Unavailable, "etcdserver: server stopped";
    /// No answer within `limits.request_timeout_ms`.
    Timeout, Unavailable, "etcdserver: request timed out";
    /// As `Timeout`, while the leader was lost.
    TimeoutLeaderFailure, Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    /// As `Timeout`, while the connection to the leader was lost.
    TimeoutConnectionLost, Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    /// Too few members answer.
    Unhealthy, Unavailable, "etcdserver: unhealthy cluster";
    /// Members disagree about the data.
    Corrupt, DataLoss, "etcdserver: corrupt cluster";
    /// A request that learners do not serve.
    NotSupportedForLearner, FailedPrecondition, "etcdserver: rpc not supported for learner";
    /// Handing leadership to a non-voter.
    BadLeaderTransferee, FailedPrecondition, "etcdserver: bad leader transferee";
    /// A downgrade question while none runs.
    NoInflightDowngrade, FailedPrecondition, "etcdserver: no inflight downgrade job";
    /// The client went away.
    RequestCanceled, Cancelled, "etcdserver: request canceled";
}

impl Error {
    /// The error with this text, as another member told it.
    pub fn from_text(text: &str) -> Error {
        let named = NAMED.iter().find(|error| error.to_string() == text);
        named.cloned().unwrap_or_else(|| {
            let text = text.strip_prefix("etcdserver: ").unwrap_or(text);
            Error::Unready(text.to_owned())
        })
    }

    /// The kind that exit codes and HTTP status are derived from.
    pub fn kind(&self) -> ErrorKind {
        match self.code() {
            Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => ErrorKind::Invalid,
            Code::NotFound => ErrorKind::NotFound,
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => ErrorKind::Conflict,
            Code::PermissionDenied | Code::Unauthenticated => ErrorKind::Denied,
            Code::DataLoss => ErrorKind::Corrupt,
            Code::Unavailable | Code::ResourceExhausted => ErrorKind::Unavailable,
            Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Timeout,
            Code::Ok | Code::Unknown | Code::Internal => ErrorKind::Internal,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        Status::new(error.code(), error.to_string())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        if error.is_no_space() && !error.is_sync_failure() {
            Error::NoSpace
        } else if error.is_corruption() {
            Error::Damaged(error.to_string())
        } else {
            Error::Local(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_distinct_and_carry_the_prefix_clients_strip() {
        let mut texts: Vec<String> = NAMED.iter().map(ToString::to_string).collect();
        assert!(texts.iter().all(|text| text.starts_with("etcdserver: ")));
        let all = texts.len();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), all);
    }
}
