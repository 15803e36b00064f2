//! Enrollments: what becomes of a host that shows a token.
//!
//! An enrollment is an entry of the configuration. It is *open* until a host shows its token, *waiting* from then until somebody
//! approves that host, and gone as soon as the host is a peer; with `auto_approve` it goes from open to gone at once. The first host to
//! show a token has it: others, which are told apart by their keys, are refused. From its end on it is void, also while a host waits, and
//! the master removes it.
//!
//! Everything here says which changes of the configuration have to be made. They name the entry as it was seen, so of two hosts that
//! show a token at the same moment one finds it changed, looks again and is refused.

use std::collections::VecDeque;

use super::Millis;
use super::state::Audit;
use crate::document::schema::Enrollment;
use crate::document::{Change, Document, Entry, Peer, Section, integrity, review};
use crate::duration::Span;
use crate::secret::Secret;
use crate::token::is_secret_of;

/// Shortest life of a token: it has to be carried to another host.
pub const TTL_MIN: Millis = 10 * 1000;
/// Longest life of a token.
pub const TTL_MAX: Millis = 168 * 3600 * 1000;
/// Enrollments at once: whoever needs more hosts than a cluster may have has a script that went wild.
pub const ENROLLMENTS_MAX: usize = 64;
/// Longest name.
const NAME_MAX: usize = 100;

/// What changes are made for, in the audit. The last word says what became of a token when it is gone.
pub mod purpose {
    /// A token is made.
    pub const CREATE: &str = "enroll create";
    /// A host has shown it and waits.
    pub const SUBMIT: &str = "enroll submit";
    /// A host has shown it and is a peer.
    pub const JOIN: &str = "enroll join";
    /// The host that waits becomes a peer.
    pub const APPROVE: &str = "enroll approve";
    /// The token is void.
    pub const REVOKE: &str = "enroll revoke";
    /// Its time is over.
    pub const EXPIRE: &str = "enroll expire";
}

/// Where an enrollment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nobody has shown the token.
    Open,
    /// A host waits for approval.
    Waiting,
    /// It is void, and will be removed.
    Expired,
}

impl Stage {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Open => "open",
            Stage::Waiting => "waiting",
            Stage::Expired => "expired",
        }
    }
}

/// What a host shows.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// Which enrollment.
    pub id: &'a str,
    /// That it may.
    pub secret: &'a Secret,
    /// What it wants to be. Its fingerprint is that of the key which the host has proven to have.
    pub peer: &'a Peer,
}

/// What a host that shows a token becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Becomes {
    /// A peer.
    Peer,
    /// One who waits for approval.
    Waiting,
}

/// What a submission comes to, once its changes are made. Without changes it is so already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// All or none.
    pub changes: Vec<Change>,
    /// What the host is then.
    pub becomes: Becomes,
}

/// Why a host is not taken. None of these texts says anything of the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such enrollment any more.
    #[error("{}", gone_text(*.0))]
    Gone(Option<&'static str>),
    /// The secret is another one.
    #[error("the token is not genuine: its secret is wrong")]
    WrongSecret,
    /// It is void.
    #[error("the token has expired at {0}; make a new one with qu enroll create")]
    Expired(String),
    /// Another host was faster.
    #[error(
        "the token was used already, by node {node} at {advertise}; make a new one with qu enroll create"
    )]
    Used {
        /// Who.
        node: String,
        /// Where.
        advertise: String,
    },
    /// The host cannot be a peer.
    #[error("{0}")]
    Unfit(String),
}

fn gone_text(purpose: Option<&str>) -> &'static str {
    match purpose {
        Some(purpose::JOIN | purpose::APPROVE) => {
            "the token was used already; make a new one with qu enroll create"
        }
        Some(purpose::REVOKE) => "the token was revoked",
        Some(purpose::EXPIRE) => "the token has expired; make a new one with qu enroll create",
        _ => "the cluster does not know this token (any more): it was used, revoked or has expired",
    }
}

/// Whether a refusal, as a host is told it, means that its token will never be good for it.
pub fn is_void(refusal: &str) -> bool {
    refusal.starts_with("the token ") || refusal.starts_with("the cluster does not know this token")
}

fn end_of(enrollment: &Enrollment) -> Option<Millis> {
    let end: jiff::Timestamp = enrollment.expires_at.parse().ok()?;
    u64::try_from(end.as_millisecond()).ok()
}

/// Where an enrollment stands. An end that is none, after a hand edit, counts as over.
pub fn stage(enrollment: &Enrollment, now: Millis) -> Stage {
    if end_of(enrollment).is_none_or(|end| now >= end) {
        Stage::Expired
    } else if enrollment.applicant.is_some() {
        Stage::Waiting
    } else {
        Stage::Open
    }
}

/// A new enrollment.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn create(document: &Document, enrollment: Enrollment, ttl: Millis) -> Result<Change, String> {
    if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
        let ttl = Span::from_millis(ttl);
        return Err(format!(
            "--ttl {ttl}: a token lives at least 10s and at most 168h"
        ));
    }
    let name = &enrollment.name;
    if name.len() > NAME_MAX {
        let length = name.len();
        return Err(format!("--name: {length} bytes are too many; at most {NAME_MAX}"));
    }
    if let Some(letter) = name.chars().find(|letter| terminal::is_harmful(*letter)) {
        return Err(format!("--name: a name cannot contain {letter:?}"));
    }
    let known = &document.pending_enrollments;
    if !name.is_empty() && known.iter().any(|other| is_called(other, name)) {
        return Err(format!(
            "there is an enrollment \"{name}\" already; see qu enroll list"
        ));
    }
    if known.len() >= ENROLLMENTS_MAX {
        return Err(format!(
            "there are {ENROLLMENTS_MAX} enrollments already; revoke some, see qu enroll list"
        ));
    }
    Ok(Change::add(Entry::Enrollment(Box::new(enrollment))))
}

fn is_called(enrollment: &Enrollment, text: &str) -> bool {
    enrollment.id == text || (enrollment.name == text && !text.is_empty())
}

/// The enrollment with this id or name.
///
/// # Errors
/// There is none, or several are called so after a hand edit.
pub fn find<'a>(document: &'a Document, text: &str) -> Result<&'a Enrollment, String> {
    let mut found = document
        .pending_enrollments
        .iter()
        .filter(|one| is_called(one, text));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(format!(
            "there is no enrollment \"{}\"; see qu enroll list",
            terminal::brief(text)
        )),
        (Some(_), Some(_)) => Err(format!(
            "several enrollments are called \"{}\"; name one by its id",
            terminal::brief(text)
        )),
    }
}

/// What a host that shows a token becomes.
///
/// # Errors
/// Why it becomes nothing.
pub fn submit(
    document: &Document,
    audit: &VecDeque<Audit>,
    now: Millis,
    submission: Submission<'_>,
) -> Result<Decision, Refusal> {
    let Submission { id, secret, peer } = submission;
    let known = document.peer(peer.node_id);
    // It was taken before, and may not have heard of it. It has proven that it is who it was.
    if known.is_some_and(|known| has_key_of(known, peer)) {
        return Ok(Decision {
            changes: Vec::new(),
            becomes: Becomes::Peer,
        });
    }
    let enrollment = document
        .pending_enrollments
        .iter()
        .find(|enrollment| enrollment.id == id)
        .ok_or_else(|| Refusal::Gone(fate(audit, id)))?;
    if !is_secret_of(secret, &enrollment.secret_hash) {
        return Err(Refusal::WrongSecret);
    }
    if stage(enrollment, now) == Stage::Expired {
        return Err(Refusal::Expired(enrollment.expires_at.clone()));
    }
    if let Some(applicant) = &enrollment.applicant
        && !has_key_of(applicant, peer)
    {
        return Err(Refusal::Used {
            node: applicant.node_id.to_string(),
            advertise: applicant.advertise.clone(),
        });
    }
    if known.is_some() {
        return Err(Refusal::Unfit(format!(
            "node {} is a peer with another key; remove it first with qu node remove",
            peer.node_id
        )));
    }
    let accepted = accept(enrollment, peer);
    fits(document, peer, &accepted)?;
    if enrollment.auto_approve {
        return Ok(Decision {
            changes: accepted,
            becomes: Becomes::Peer,
        });
    }
    let mut wanted = enrollment.clone();
    wanted.applicant = Some(peer.clone());
    let changes = if wanted == *enrollment {
        Vec::new()
    } else {
        let entry = |enrollment: &Enrollment| Entry::Enrollment(Box::new(enrollment.clone()));
        vec![Change::edit(entry(enrollment), entry(&wanted))]
    };
    Ok(Decision {
        changes,
        becomes: Becomes::Waiting,
    })
}

fn has_key_of(one: &Peer, other: &Peer) -> bool {
    let key = |peer: &Peer| -> Option<pki::pinned::Fingerprint> {
        if peer.fingerprint.is_empty() {
            pki::pinned::Fingerprint::of_pem(&peer.cert_pem).ok()
        } else {
            peer.fingerprint.parse().ok()
        }
    };
    one.node_id == other.node_id
        && key(one)
            .zip(key(other))
            .is_some_and(|(one, other)| one.is(&other))
}

/// The enrollment goes and the host comes.
fn accept(enrollment: &Enrollment, peer: &Peer) -> Vec<Change> {
    vec![
        Change::remove(Entry::Enrollment(Box::new(enrollment.clone()))),
        Change::add(Entry::Peer(peer.clone())),
    ]
}

/// Whether the host could be a peer, so that nobody waits for what cannot be.
fn fits(document: &Document, peer: &Peer, accepted: &[Change]) -> Result<(), Refusal> {
    // It is shown to people, and comes from a host that nobody knows yet.
    review::advertise(&peer.advertise).map_err(|error| Refusal::Unfit(format!("--advertise: {error}")))?;
    let wanted = crate::document::change::apply(document, accepted)
        .map_err(|_| Refusal::Unfit("the configuration does not fit itself".to_owned()))?;
    integrity::check(&wanted).map_err(|fault| Refusal::Unfit(fault.to_string()))
}

/// What became of an enrollment that is gone, if the audit still knows.
fn fate(audit: &VecDeque<Audit>, id: &str) -> Option<&'static str> {
    let title = crate::document::Key {
        section: Section::Enrollments,
        id: id.to_owned(),
    }
    .to_string();
    let last = audit.iter().rev().find(|audit| audit.entries.contains(&title))?;
    [purpose::JOIN, purpose::APPROVE, purpose::REVOKE, purpose::EXPIRE]
        .into_iter()
        .find(|purpose| *purpose == last.what)
}

/// The host that waits becomes a peer.
///
/// # Errors
/// Nobody waits, or the time is over, in one line.
pub fn approve(document: &Document, now: Millis, text: &str) -> Result<(Peer, Vec<Change>), String> {
    let enrollment = find(document, text)?;
    let id = &enrollment.id;
    if stage(enrollment, now) == Stage::Expired {
        return Err(Refusal::Expired(enrollment.expires_at.clone()).to_string());
    }
    match &enrollment.applicant {
        Some(peer) => Ok((peer.clone(), accept(enrollment, peer))),
        None => Err(format!("no host has shown the token of enrollment {id} yet")),
    }
}

/// What the master removes.
pub fn expired(document: &Document, now: Millis) -> Vec<Change> {
    let over = document
        .pending_enrollments
        .iter()
        .filter(|enrollment| stage(enrollment, now) == Stage::Expired);
    over.map(|enrollment| Change::remove(Entry::Enrollment(Box::new(enrollment.clone()))))
        .collect()
}

#[cfg(test)]
mod tests;
