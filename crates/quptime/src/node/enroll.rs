//! Hosts that come with a token, as any node takes them and as the master decides about them.
//!
//! A host calls the nodes that its token names, each only after it has seen that node's key. It sends the secret itself, since the
//! cluster keeps nothing that the secret could be proven against but a hash that everybody may have who ever saw `cluster.yaml`. The node
//! that is called looks whether the host has the key that it says, and passes the call on to the master, over whose configuration
//! and clock [`crate::machine::enroll`] decides. The host asks again until it is a peer; asking changes nothing that is so already.

use std::sync::Arc;
use std::time::Duration;

use peer::RequestError;
use peer::stranger::StrangerInfo;
use pki::pinned::{Fingerprint, certificate_pem};

use super::propose::{self, Refused};
use super::shared::{Mastery, Shared};
use super::wire::{EnrollAnswer, EnrollCall, Enrolled, decode, encode, kind};
use crate::document::{Change, Peer, change};
use crate::machine::enroll::{self, Becomes, Refusal, Submission, purpose};
use crate::token::is_secret_of;

/// How long the master may take: it waits for a commit.
const MASTER_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a call is tried again that found another master, or an entry changed under it.
const TRIES: usize = 3;
/// How often the master looks for tokens whose time is over.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A host shows a token here.
///
/// # Errors
/// It is not taken; the text is for its operator, and it counts as a failed attempt.
pub async fn submitted(
    shared: &Arc<Shared>,
    stranger: &StrangerInfo,
    mut call: EnrollCall,
) -> Result<EnrollAnswer, String> {
    let shown: Option<Fingerprint> = call.peer.fingerprint.parse().ok();
    if !shown.is_some_and(|key| key.is(&stranger.key)) {
        return Err("the host shows another key than it has".to_owned());
    }
    // As it was seen, without whatever a text may have around it.
    call.peer.cert_pem = certificate_pem(&stranger.certificate);
    // Not told by hosts: where they stand is for operators to say.
    call.peer.location = None;
    // The connection may end while this is under way; what was begun is carried through.
    let (shared, from) = (shared.clone(), stranger.address);
    let decided = tokio::spawn(async move { decide(&shared, &call).await });
    let decided = decided.await.map_err(|_| "the node is stopping".to_owned())?;
    if let Err(error) = &decided {
        tracing::warn!(target: "quptime", from = %from, error, "a host that shows a token was refused");
    }
    decided
}

async fn decide(shared: &Arc<Shared>, call: &EnrollCall) -> Result<EnrollAnswer, String> {
    for _ in 0..TRIES {
        let said = match propose::soon_master(shared).await {
            Mastery::Is(master) if master == shared.me => as_master(shared, call).await,
            Mastery::Is(master) => {
                let transport = shared.transport.get().ok_or("the node is starting")?;
                let asked = transport.request(master.number(), kind::ENROLL, encode(call), MASTER_TIMEOUT);
                match asked.await {
                    Ok(answer) => decode(&answer)?,
                    Err(RequestError::NotSent { .. }) => Enrolled::NotMaster,
                    // An older program says that it does not know such requests.
                    Err(error) => Enrolled::Decided(EnrollAnswer::NotNow(error.to_string())),
                }
            }
            Mastery::Election => Enrolled::NotMaster,
            Mastery::NoQuorum => return without_quorum(shared, call),
            Mastery::Removed => {
                let text = "this node was removed from the cluster".to_owned();
                return Ok(EnrollAnswer::NotNow(text));
            }
        };
        match said {
            Enrolled::Decided(answer) => return Ok(answer),
            Enrolled::Refused(text) => return Err(text),
            Enrolled::NotMaster => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    Ok(EnrollAnswer::NotNow("the cluster elects a master".to_owned()))
}

/// Nobody decides; but a secret that is wrong stays wrong, and guesses shall count.
fn without_quorum(shared: &Arc<Shared>, call: &EnrollCall) -> Result<EnrollAnswer, String> {
    let document = shared.document();
    let known = document
        .pending_enrollments
        .iter()
        .find(|known| known.id == call.id);
    if known.is_some_and(|known| !is_secret_of(&call.secret, &known.secret_hash)) {
        return Err(Refusal::WrongSecret.to_string());
    }
    Ok(EnrollAnswer::NotNow(propose::no_quorum(shared).to_string()))
}

/// Decides about a host if this node is the master.
pub async fn as_master(shared: &Arc<Shared>, call: &EnrollCall) -> Enrolled {
    for _ in 0..TRIES {
        let Some(view) = shared.view().filter(|view| view.is_master()) else {
            return Enrolled::NotMaster;
        };
        let document = &view.state.document;
        let submission = Submission {
            id: &call.id,
            secret: &call.secret,
            peer: &call.peer,
        };
        let decision = match enroll::submit(document, &view.state.audit, shared.wall(), submission) {
            Ok(decision) => decision,
            Err(refusal) => return Enrolled::Refused(refusal.to_string()),
        };
        if decision.changes.is_empty() {
            return Enrolled::Decided(match decision.becomes {
                Becomes::Peer => EnrollAnswer::Peer {
                    peers: document.peers.clone(),
                },
                Becomes::Waiting => EnrollAnswer::Waiting,
            });
        }
        let what = match decision.becomes {
            Becomes::Peer => purpose::JOIN,
            Becomes::Waiting => purpose::SUBMIT,
        };
        match make(shared, decision.changes, what).await {
            // The next look finds it done.
            Ok(()) => tell(&call.id, &call.peer, decision.becomes),
            // Somebody else was faster: what is so now decides.
            Err(Refused::Conflict(_)) => {}
            Err(Refused::Invalid(text)) => return Enrolled::Refused(text),
            Err(refused) => return Enrolled::Decided(EnrollAnswer::NotNow(refused.to_string())),
        }
    }
    let text = "the enrollment changes all the time".to_owned();
    Enrolled::Decided(EnrollAnswer::NotNow(text))
}

fn tell(id: &str, host: &Peer, becomes: Becomes) {
    let (node, advertise) = (host.node_id, &host.advertise);
    match becomes {
        Becomes::Peer => {
            tracing::info!(target: "quptime", enrollment = id, node = %node, advertise, "a host has enrolled");
        }
        Becomes::Waiting => {
            let fingerprint = &host.fingerprint;
            tracing::info!(
                target: "quptime", enrollment = id, node = %node, advertise, fingerprint,
                "a host has shown a token and waits for qu enroll approve"
            );
        }
    }
}

async fn make(shared: &Arc<Shared>, changes: Vec<Change>, what: &str) -> Result<(), Refused> {
    let document = shared.document();
    let titles = |changes: Vec<Change>| changes.iter().map(Change::title).collect();
    let wanted =
        change::apply(&document, &changes).map_err(|conflicts| Refused::Conflict(titles(conflicts)))?;
    propose::reviewed(&document, &wanted, &changes)?;
    let made = propose::propose_changes(shared, changes, &wanted, None, what, false).await;
    made.map(drop)
}

/// Removes tokens whose time is over, while this node is the master, until the run ends.
pub async fn run(shared: Arc<Shared>) {
    let mut turn = tokio::time::interval(SWEEP_EVERY);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = turn.tick() => {}
            () = shared.stop.cancelled() => return,
        }
        let Some(view) = shared.view().filter(|view| view.is_master()) else {
            continue;
        };
        let over = enroll::expired(&view.state.document, shared.wall());
        if over.is_empty() {
            continue;
        }
        let ids: Vec<String> = over.iter().map(|change| change.key.id.clone()).collect();
        match make(&shared, over, purpose::EXPIRE).await {
            Ok(()) => tracing::info!(target: "quptime", enrollments = ids.join(","), "expired and removed"),
            // The next turn looks again.
            Err(error) => tracing::debug!(target: "quptime", %error, "expired, not removed yet"),
        }
    }
}
