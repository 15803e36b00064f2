//! Why something did not reach a peer, in terms of what the caller may conclude from it.

/// Why there is no answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The peer has not seen it, so it may be sent again, also to another.
    #[error("request not sent to member {to}: {reason}")]
    NotSent {
        /// To whom.
        to: u64,
        /// Why.
        reason: String,
    },
    /// The peer says no, in its own words.
    #[error("{0}")]
    Refused(String),
    /// It was sent, and whether it was carried out is not known.
    #[error("no answer from member {to}, the outcome is unknown: {reason}")]
    Unknown {
        /// To whom.
        to: u64,
        /// Why.
        reason: String,
    },
}

/// Why an address did not say who is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No connection. The text contains `connection refused`, `timeout` or `unreachable`, or says what TLS did not like.
    #[error("{address}: {reason}")]
    Unreachable {
        /// What was dialled.
        address: String,
        /// Why.
        reason: String,
    },
    /// Whoever is there belongs to another cluster, speaks another version, or does not want to talk.
    #[error("{address}: refused: {reason}")]
    Refused {
        /// What was dialled.
        address: String,
        /// In whose words it may be.
        reason: String,
    },
}

/// Why a directory did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// The directory here cannot be sent: a file cannot be read, or is none.
    #[error("{0}")]
    Source(String),
    /// No connection came about.
    #[error("no connection to member {to}: {reason}")]
    Unreachable {
        /// To whom.
        to: u64,
        /// Why.
        reason: String,
    },
    /// The peer does not want it, or could not use it.
    #[error("member {to} refused the transfer: {reason}")]
    Refused {
        /// To whom.
        to: u64,
        /// In its own words.
        reason: String,
    },
    /// The connection broke. What has arrived stays there; the same call goes on from it.
    #[error("transfer to member {to} was cut off: {reason}")]
    Cut {
        /// To whom.
        to: u64,
        /// Why.
        reason: String,
    },
}
