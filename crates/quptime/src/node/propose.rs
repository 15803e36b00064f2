//! Changes, on whichever node they are asked for: the master proposes them, everybody else passes them on, and all wait until they are
//! committed and applied where they were asked for.

use std::sync::Arc;
use std::time::Duration;

use consensus::Refusal;
use peer::RequestError;

use super::shared::{Mastery, Shared, quorum_of};
use super::wire::{COMMAND_MAX, Proposal, Proposed, decode, encode, kind};
use crate::document::change::{self, Change};
use crate::document::rename::follow_renames;
use crate::document::schema::SCHEMA;
use crate::document::size::{self, WRITTEN_MAX};
use crate::document::{Document, changes_between, entries, integrity, review};
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::command::{Command, Configure};
use crate::machine::state::{ALERT_REMOVED, Outcome};
use crate::raft::core::ProposeError;
use crate::raft::view::View;

/// How long a change waits for a master while one is elected or hands over.
const MASTER_WAIT: Duration = Duration::from_secs(5);
/// How long a change may take once a master has it.
const COMMIT_WAIT: Duration = Duration::from_secs(10);
/// Between two looks for a master.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is told to whoever asks a node that was removed: what it is, and how it goes on, whether it came by the cluster's secret or by a token.
pub const REMOVED: &str = "this node was removed from the cluster; to join again, stop the daemon, empty its directory and run qu enroll join with \
     a new token of qu enroll create; to begin anew, run qu init there instead";
/// How nodes are removed when too few are left to agree on it.
pub const LOST: &str =
    "nodes that are gone for good are taken out of cluster.yaml as the runbook qu-lost-quorum says";

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// The version of the configuration afterwards.
    pub version: u64,
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too few nodes are live.
    #[error("no quorum, change refused (live {live}, need {need})")]
    NoQuorum {
        /// Voters that are heard.
        live: usize,
        /// Voters that are needed.
        need: usize,
    },
    /// As things are it would do harm; they may change by themselves.
    #[error("{0}")]
    NotNow(String),
    /// This node is no member.
    #[error("{REMOVED}")]
    Removed,
    /// The entries are not any more what the author saw.
    #[error("changed by somebody else in the meantime: {}; look again and repeat", .0.join(", "))]
    Conflict(Vec<String>),
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is nothing to change.
    #[error("{0}")]
    Outdated(String),
    /// It was not made.
    #[error("propose to master: {0}; nothing was changed")]
    Failed(String),
    /// It was or was not made, and may be made yet.
    #[error(
        "propose to master: {why}; it may have taken effect all the same, look at {look} before you repeat it"
    )]
    Unknown {
        /// What came between.
        why: String,
        /// The command that shows whether it was made.
        look: &'static str,
    },
}

impl Refused {
    /// The exit code of the command that asked.
    pub fn exit_code(&self) -> u8 {
        match self {
            Refused::NoQuorum { .. } => 4,
            Refused::Conflict(_) => 5,
            Refused::Removed
            | Refused::Invalid(_)
            | Refused::NotNow(_)
            | Refused::Outdated(_)
            | Refused::Failed(_)
            | Refused::Unknown { .. } => 1,
        }
    }
}

/// What is told when too few nodes are live.
pub fn no_quorum(shared: &Shared) -> Refused {
    let view = shared.view();
    Refused::NoQuorum {
        live: view.as_ref().map_or(1, |view| shared.live_voters(view)),
        need: view
            .as_ref()
            .filter(|view| !view.members.is_empty())
            .map_or_else(|| shared.document().quorum(), |view| quorum_of(view)),
    }
}

/// Makes changes that somebody asked for.
///
/// # Errors
/// They make no sense, or were not made.
pub async fn configure(
    shared: &Arc<Shared>,
    changes: Vec<Change>,
    uid: Option<u32>,
    what: &str,
    force: bool,
) -> Result<(Done, Vec<String>), Refused> {
    let document = shared.document();
    let mut wanted = change::apply(&document, &changes)
        .map_err(|conflicts| Refused::Conflict(conflicts.iter().map(Change::title).collect()))?;
    let before = wanted.clone();
    follow_renames(&document, &mut wanted);
    let changes = if wanted == before {
        changes
    } else {
        changes_between(&document, &wanted)
    };
    let warnings = reviewed(&document, &wanted, &changes)?;
    let made = propose_changes(shared, changes.clone(), &wanted, uid, what, force).await;
    let made = match made {
        Err(refused @ Refused::Unknown { .. }) => shows(shared, &changes).await.ok_or(refused),
        made => made,
    };
    match made {
        Ok(done) => {
            // Whoever asked may look at the file next.
            super::file::written(shared, done.version).await;
            Ok((done, warnings))
        }
        Err(refused @ Refused::NoQuorum { .. }) => {
            // Operators search the log for this beginning.
            tracing::error!(target: "quptime", "propose to master: {refused}");
            Err(refused)
        }
        Err(refused) => Err(refused),
    }
}

/// Waits a while whether changes of unknown outcome were made after all: the next master commits what the last one has handed out.
async fn shows(shared: &Shared, changes: &[Change]) -> Option<Done> {
    let core = shared.core.get()?;
    let mut views = core.views();
    let is_so = |view: &View| {
        let current = entries(&view.state.document);
        view.full.is_some()
            || changes
                .iter()
                .all(|change| current.get(&change.key) == change.wanted.as_ref())
    };
    let mut seen = None;
    let looked = views.wait_for(|view| {
        // Most views differ in the time alone.
        let is_news = seen
            .as_ref()
            .is_none_or(|seen| !Arc::ptr_eq(seen, &view.state.document))
            || view.full.is_some();
        seen = Some(view.state.document.clone());
        is_news && is_so(view)
    });
    let view = tokio::time::timeout(MASTER_WAIT, looked).await.ok()?.ok()?;
    let version = view.state.document.version;
    view.full.is_none().then_some(Done { version })
}

/// Whether the result of changes makes sense; yields warnings.
///
/// # Errors
/// The first thing that makes none.
pub fn reviewed(before: &Document, wanted: &Document, changes: &[Change]) -> Result<Vec<String>, Refused> {
    integrity::check(wanted).map_err(|fault| Refused::Invalid(fault.to_string()))?;
    size::check(before, wanted, WRITTEN_MAX).map_err(Refused::Invalid)?;
    review::review_changes(wanted, changes).map_err(|objection| Refused::Invalid(objection.to_string()))
}

/// Proposes changes that were reviewed; `wanted` is what they lead to as far as known here. `insists`: nodes are removed although too few of
/// those that remain may be live.
///
/// # Errors
/// They were not made.
pub async fn propose_changes(
    shared: &Arc<Shared>,
    changes: Vec<Change>,
    wanted: &Document,
    uid: Option<u32>,
    what: &str,
    insists: bool,
) -> Result<Done, Refused> {
    if changes.is_empty() {
        return Ok(Done {
            version: shared.document().version,
        });
    }
    let schema = wanted.needed_level();
    fits_everybody(shared, wanted, schema)?;
    let at = jiff::Timestamp::from_millisecond(shared.wall() as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let at = at.round(jiff::Unit::Second).unwrap_or(at);
    let leaves = changes.iter().any(removes).then_some(wanted.peers.len());
    let command = Command::Configure(Configure {
        changes,
        by: shared.me,
        uid,
        what: what.to_owned(),
        at: at.to_string(),
        schema,
        closes: None,
        leaves,
        bytes_max: None,
        insists,
    });
    // Only what an older program has let in is so large.
    let bytes = encode(&command).len();
    if bytes > COMMAND_MAX {
        return Err(Refused::Invalid(format!(
            "the change takes {bytes} bytes on its way to other nodes; at most {COMMAND_MAX} are carried: make it in several steps"
        )));
    }
    propose(shared, command).await
}

fn removes(change: &Change) -> bool {
    change.key.section == change::Section::Peers && change.wanted.is_none()
}

/// Nodes may only be removed if enough of the rest are live, unless that is what somebody insists on. The master judges that by what it hears
/// itself: whoever was asked may be slow, or cut off from nodes that the others need.
fn check_removals(shared: &Shared, configure: &Configure) -> Result<(), Refused> {
    let document = shared.document();
    if configure.leaves == Some(0) {
        // There would be nobody who could let a node in again.
        return Err(Refused::Invalid("the last node cannot be removed".to_owned()));
    }
    if configure.insists || !configure.changes.iter().any(removes) {
        return Ok(());
    }
    let (ears, now, dead_after) = (shared.ears.lock(), shared.now(), shared.dead_after());
    enough_remain(&document, &configure.changes, |node| {
        node == shared.me || ears.is_live(node, now, dead_after)
    })
}

fn enough_remain(
    document: &Document,
    changes: &[Change],
    is_live: impl Fn(NodeId) -> bool,
) -> Result<(), Refused> {
    let is_removed = |node: &NodeId| {
        let id = node.to_string();
        changes
            .iter()
            .any(|change| removes(change) && change.key.id == id)
    };
    let all = document.peers.iter().map(|peer| peer.node_id);
    let rest: Vec<NodeId> = all.filter(|node| !is_removed(node)).collect();
    if rest.is_empty() {
        return Err(Refused::Invalid("the last node cannot be removed".to_owned()));
    }
    let live = rest.iter().filter(|node| is_live(**node)).count();
    let need = rest.len() / 2 + 1;
    if live < need {
        return Err(Refused::NotNow(format!(
            "only {live} of the {} nodes that would remain are live, and {need} are needed; start them first, or insist with \
             --force, which may leave no quorum: {LOST}",
            rest.len()
        )));
    }
    Ok(())
}

/// A field of a higher level than the oldest node knows would keep that node from starting. One that is removed need not read it.
fn fits_everybody(shared: &Shared, wanted: &Document, schema: u32) -> Result<(), Refused> {
    let ears = shared.ears.lock();
    for peer in &wanted.peers {
        let level = if peer.node_id == shared.me {
            SCHEMA
        } else {
            // Who has never been heard is taken for as new as this node.
            ears.of(peer.node_id).map_or(SCHEMA, |heard| heard.beat.schema)
        };
        if level < schema {
            let name = peer.advertise.split(':').next().unwrap_or_default();
            return Err(Refused::NotNow(format!(
                "needs schema {schema}, {name} has {level}; upgrade that node first"
            )));
        }
    }
    Ok(())
}

/// The master, waiting for one that will be there soon: while one is elected, and just after this node started.
pub async fn soon_master(shared: &Shared) -> Mastery {
    let deadline = shared.clock.now() + MASTER_WAIT;
    loop {
        let mastery = shared.mastery();
        let soon = match mastery {
            Mastery::Is(_) | Mastery::Removed => false,
            // A node that cannot write hears of a new master in time, from others.
            Mastery::Election => shared.view().is_none_or(|view| view.full.is_none()),
            Mastery::NoQuorum => shared.now() < MASTER_WAIT.as_millis() as u64,
        };
        if !soon || shared.clock.now() >= deadline {
            return mastery;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A node that cannot write would not see what becomes of a change.
///
/// # Errors
/// The disk is full.
pub fn refuse_without_room(shared: &Shared) -> Result<(), Refused> {
    match shared.view().and_then(|view| view.full.clone()) {
        None => Ok(()),
        Some(full) => Err(Refused::NotNow(format!(
            "the disk of this node is full ({full}); nothing was changed, make room or ask another node"
        ))),
    }
}

/// Has a command carried out and waits until its effect shows here.
///
/// # Errors
/// It was not, or nobody knows.
pub async fn propose(shared: &Arc<Shared>, command: Command) -> Result<Done, Refused> {
    let Some(_under_way) = shared.promised.change() else {
        let text = "this node is joining a cluster; try again when qu status shows it";
        return Err(Refused::NotNow(text.to_owned()));
    };
    let deadline = shared.clock.now() + MASTER_WAIT;
    loop {
        refuse_without_room(shared)?;
        let proposed = match soon_master(shared).await {
            Mastery::Is(master) if master == shared.me => as_master(shared, command.clone()).await,
            Mastery::Is(master) => pass_on(shared, master, &command).await,
            Mastery::Election => Proposed::NotMaster,
            Mastery::NoQuorum => return Err(no_quorum(shared)),
            Mastery::Removed => return Err(Refused::Removed),
        };
        match proposed {
            Proposed::Done { index, version } => {
                wait_applied(shared, index).await;
                return Ok(Done { version });
            }
            Proposed::Outdated => {
                return Err(Refused::Outdated(
                    "there is nothing to change any more".to_owned(),
                ));
            }
            Proposed::Conflict(entries) => return Err(Refused::Conflict(entries)),
            Proposed::Invalid(text) => return Err(Refused::Invalid(text)),
            Proposed::NotNow(text) => return Err(Refused::NotNow(text)),
            Proposed::Failed(text) => return Err(told(Refused::Failed(text))),
            Proposed::Unknown(why) => {
                let look = look_at(&command);
                return Err(told(Refused::Unknown { why, look }));
            }
            Proposed::NotMaster if shared.clock.now() >= deadline => return Err(no_quorum(shared)),
            Proposed::NotMaster => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// Operators search the log for the beginning of these.
fn told(refused: Refused) -> Refused {
    tracing::error!(target: "quptime", "{refused}");
    refused
}

/// What shows whether a command was carried out.
fn look_at(command: &Command) -> &'static str {
    match command {
        Command::Acknowledge(_) => "qu incidents",
        _ => "qu cluster log",
    }
}

async fn pass_on(shared: &Arc<Shared>, master: NodeId, command: &Command) -> Proposed {
    let Some(transport) = shared.transport.get() else {
        return Proposed::NotMaster;
    };
    let body = encode(&Proposal {
        command: command.clone(),
    });
    let asked = transport.request(master.number(), kind::PROPOSE, body, COMMIT_WAIT);
    match asked.await {
        Ok(answer) => decode(&answer).unwrap_or_else(|error| {
            Proposed::Unknown(format!("the answer of the master makes no sense ({error})"))
        }),
        // Nobody has seen it: another master may take it.
        Err(RequestError::NotSent { .. }) => Proposed::NotMaster,
        // It says so before it begins with anything.
        Err(RequestError::Refused(text)) => Proposed::Failed(text),
        Err(RequestError::Unknown { reason, .. }) => {
            Proposed::Unknown(format!("the master did not answer ({reason})"))
        }
    }
}

/// Proposes a command if this node is the master.
pub async fn as_master(shared: &Arc<Shared>, mut command: Command) -> Proposed {
    let Some(core) = shared.core.get() else {
        return Proposed::NotMaster;
    };
    if *shared.handing_over.borrow() {
        return Proposed::NotMaster;
    }
    if let Command::Configure(configure) = &mut command {
        // Deliveries wait by the clock of who sends them, not by that of who asked.
        configure.closes = Some(shared.wall());
        configure.bytes_max = Some(WRITTEN_MAX);
        if let Err(told) = fits(&shared.document(), &configure.changes) {
            return Proposed::Invalid(told);
        }
        match check_removals(shared, configure) {
            Ok(()) => {}
            Err(Refused::NotNow(text)) => return Proposed::NotNow(text),
            Err(refused) => return Proposed::Invalid(refused.to_string()),
        }
    }
    let removes_alerts = removes_alerts(&command);
    let proposed = tokio::time::timeout(COMMIT_WAIT, core.propose(command, None)).await;
    match proposed {
        Ok(Ok(applied)) => match applied.outcome {
            Outcome::Done(version) => {
                if let Some(at) = removes_alerts {
                    wait_applied(shared, applied.index).await;
                    tell_given_up(shared, at);
                }
                Proposed::Done {
                    index: applied.index,
                    version,
                }
            }
            Outcome::Outdated => Proposed::Outdated,
            Outcome::Conflict(entries) => Proposed::Conflict(entries.iter().map(Change::title).collect()),
            Outcome::Invalid(text) => Proposed::Invalid(text),
        },
        Ok(Err(error)) => not_carried_out(error),
        Err(_) => Proposed::Unknown(format!(
            "the change was not confirmed within {} s",
            COMMIT_WAIT.as_secs()
        )),
    }
}

/// Replicas refuse what does not fit. Before it is in the log, older programs, which would not, have not seen it.
fn fits(document: &Document, changes: &[Change]) -> Result<(), String> {
    if size::surely_fit(document, changes, WRITTEN_MAX) {
        return Ok(());
    }
    match change::apply(document, changes) {
        Ok(wanted) => size::check(document, &wanted, WRITTEN_MAX),
        // Whether it is one is decided when its turn comes.
        Err(_conflict) => Ok(()),
    }
}

/// What did not happen is told apart from what nobody knows.
fn not_carried_out(error: ProposeError) -> Proposed {
    match error {
        ProposeError::NotTaken
        | ProposeError::Refused(Refusal::NotLeader { .. } | Refusal::Transferring { .. }) => {
            Proposed::NotMaster
        }
        ProposeError::Refused(refusal) => Proposed::Failed(refusal.to_string()),
        ProposeError::Unknown(why) => Proposed::Unknown(why),
    }
}

/// The time by which messages end that this command leaves without their alert, if it removes any.
fn removes_alerts(command: &Command) -> Option<Millis> {
    let Command::Configure(configure) = command else {
        return None;
    };
    let mut changes = configure.changes.iter();
    let removes =
        changes.any(|change| change.key.section == change::Section::Alerts && change.wanted.is_none());
    configure.closes.filter(|_| removes)
}

/// Nobody shall find a message missing without a word about it.
fn tell_given_up(shared: &Shared, at: Millis) {
    let Some(view) = shared.view() else { return };
    let finished = view.state.finished.iter();
    let ended = finished.filter(|ended| ended.at == at && ended.dropped.as_deref() == Some(ALERT_REMOVED));
    for ended in ended {
        tracing::warn!(
            target: "quptime",
            delivery = ended.id,
            check = ended.check_name,
            alert = ended.alert_name,
            "{} is not told: {ALERT_REMOVED}",
            ended.verb.name()
        );
    }
}

async fn wait_applied(shared: &Shared, index: u64) {
    let Some(core) = shared.core.get() else { return };
    let mut views = core.views();
    // Committed it is in any case; here it only shows a little later.
    drop(tokio::time::timeout(MASTER_WAIT, views.wait_for(|view| view.applied >= index)).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(error: ProposeError) -> String {
        match not_carried_out(error) {
            Proposed::NotMaster => "another master may take it".to_owned(),
            Proposed::Failed(text) => Refused::Failed(text).to_string(),
            Proposed::Unknown(why) => Refused::Unknown {
                why,
                look: "qu cluster log",
            }
            .to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_did_not_happen_is_told_apart_from_what_nobody_knows() {
        let refused = ProposeError::Refused;
        for nothing_happened in [
            ProposeError::NotTaken,
            refused(Refusal::NotLeader { leader: None }),
            refused(Refusal::Transferring {
                to: consensus::NodeId(1),
            }),
        ] {
            assert_eq!(what(nothing_happened), "another master may take it");
        }
        assert_eq!(
            what(refused(Refusal::Busy)),
            "propose to master: too many requests wait for the group; try again later; nothing was changed"
        );
        assert_eq!(
            what(ProposeError::Unknown("the master stopped".to_owned())),
            "propose to master: the master stopped; it may have taken effect all the same, look at qu cluster log before you repeat it"
        );
    }
}
