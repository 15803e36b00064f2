//! What the rest of the node sees of the group: who leads, how far the log is, who belongs to it.
//!
//! The driver writes it; everybody reads it without asking the driver. Figures that change with every batch are single numbers, the
//! rest is a [`View`] that is replaced when something about it changes, and can be waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use consensus::{Configuration, HardState, Incarnation, Index, NodeId, PeerStatus, RoleName, Status, Term};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::inbox::Reader;

/// The group as this node sees it.
#[derive(Debug, Clone)]
pub struct View {
    /// This node's part.
    pub role: RoleName,
    /// Who leads, if anybody does.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: Term,
    /// Who belongs to the group.
    pub configuration: Arc<Configuration>,
    /// Which life of this node's data directory this is.
    pub life: Incarnation,
    /// This node lost its data, or an earlier life's, and counts no more until it is admitted.
    pub recovering: bool,
    /// Whether reads of this node's own copy may be served.
    pub serves_local_reads: bool,
    /// On the leader: the others.
    pub peers: BTreeMap<NodeId, PeerStatus>,
    /// Without a leader: why no recovery election is held here.
    pub missing: Vec<String>,
    /// This node was a member and is none any more.
    pub removed: bool,
}

impl View {
    pub(crate) fn of(status: Status, removed: bool) -> View {
        View {
            role: status.role,
            leader: status.leader,
            term: status.term,
            configuration: Arc::new(status.configuration),
            life: status.incarnation,
            recovering: status.recovering,
            serves_local_reads: status.serves_local_reads,
            peers: status.peers.into_iter().collect(),
            missing: status.missing.iter().map(describe_missing).collect(),
            removed,
        }
    }

    /// True if this node leads.
    pub fn leads(&self) -> bool {
        self.role == RoleName::Leader
    }
}

/// What keeps a recovery election from being held.
pub(super) fn describe_missing(missing: &consensus::Missing) -> String {
    use consensus::Missing;
    let list = |nodes: &[NodeId]| {
        let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    match missing {
        Missing::Answers(nodes) => format!("no answer from node {}", list(nodes)),
        Missing::Nothing => "enough voters are whole, an election will do".to_owned(),
        Missing::MoreAdvanced(node, _) => format!("node {node} holds more: let it begin"),
        Missing::Declarations(nodes) => {
            format!(
                "node {} came back empty: run member-add for it on this node",
                list(nodes)
            )
        }
        Missing::Leader(node) => format!("node {node} hears a leader"),
        Missing::NotEligible => "this node holds nothing or does not vote".to_owned(),
    }
}

/// Readers whose state must first become new enough, by the index they wait for.
type Readers = BTreeMap<Index, Vec<Reader>>;

/// Shared by the driver, the apply thread and everybody who asks.
pub(super) struct Board {
    view: watch::Sender<Arc<View>>,
    pub(super) appended: AtomicU64,
    committed: AtomicU64,
    applied: AtomicU64,
    term: AtomicU64,
    /// This node leads and is the only voter, so nobody else can have agreed on anything.
    pub(super) alone: AtomicBool,
    pub(super) failed: AtomicBool,
    pub(super) halted: AtomicBool,
    /// Bytes of committed entries that wait to be applied.
    unapplied_bytes: AtomicUsize,
    /// The state is about to be replaced: entries that wait to be applied are dropped.
    pub(super) superseded: AtomicBool,
    /// Entries up to which the log may be dropped, as the apply thread found; the driver, who owns the log, does it.
    pub(super) droppable: AtomicU64,
    readers: Mutex<Readers>,
    progressed: Condvar,
}

impl Board {
    pub(super) fn new(view: View, appended: Index, applied: Index, hard_state: &HardState) -> Board {
        Board {
            view: watch::Sender::new(Arc::new(view)),
            appended: AtomicU64::new(appended),
            committed: AtomicU64::new(hard_state.commit),
            applied: AtomicU64::new(applied),
            term: AtomicU64::new(hard_state.term.0),
            alone: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            unapplied_bytes: AtomicUsize::new(0),
            superseded: AtomicBool::new(false),
            droppable: AtomicU64::new(0),
            readers: Mutex::default(),
            progressed: Condvar::new(),
        }
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    pub(super) fn show(&self, view: View) {
        self.term.store(view.term.0, Ordering::Release);
        self.view.send_replace(Arc::new(view));
    }

    pub(super) fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    pub(super) fn committed(&self) -> Index {
        self.committed.load(Ordering::Acquire)
    }

    pub(super) fn show_committed(&self, index: Index) {
        self.committed.store(index, Ordering::Release);
    }

    pub(super) fn applied(&self) -> Index {
        self.applied.load(Ordering::Acquire)
    }

    pub(super) fn unapplied_bytes(&self) -> usize {
        self.unapplied_bytes.load(Ordering::Acquire)
    }

    /// Committed entries of so many bytes are handed to the apply thread.
    pub(super) fn waits(&self, bytes: usize) {
        self.unapplied_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Entries of so many bytes are applied, or will never be.
    pub(super) fn no_longer_waits(&self, bytes: usize) {
        self.unapplied_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Entries up to `index` are applied: whoever waited for that is told.
    pub(super) fn show_applied(&self, index: Index) {
        self.applied.store(index, Ordering::Release);
        let mut readers = self.readers.lock();
        self.progressed.notify_all();
        if readers
            .first_key_value()
            .is_none_or(|(wanted, _)| *wanted > index)
        {
            return;
        }
        let still = readers.split_off(&(index + 1));
        let ready = std::mem::replace(&mut *readers, still);
        drop(readers);
        for reader in ready.into_values().flatten() {
            // A client that has gone away does not wait for its answer.
            drop(reader.send(Ok(())));
        }
    }

    /// Tells `waiting` once `index` is applied.
    pub(super) fn tell_when_applied(&self, index: Index, waiting: Vec<Reader>) {
        let mut readers = self.readers.lock();
        if self.applied() < index {
            readers.entry(index).or_default().extend(waiting);
            return;
        }
        drop(readers);
        for reader in waiting {
            drop(reader.send(Ok(())));
        }
    }

    /// Blocks until `index` is applied or the node has failed.
    pub(super) fn wait_applied(&self, index: Index) {
        let mut readers = self.readers.lock();
        while self.applied() < index && !self.has_failed() && !self.is_halted() {
            self.progressed.wait(&mut readers);
        }
    }

    /// Nothing will be applied any more: nobody needs to wait.
    pub(super) fn wake(&self) {
        let readers = std::mem::take(&mut *self.readers.lock());
        drop(readers);
        self.progressed.notify_all();
    }
}
