//! `cluster.yaml` on disk: written after each change, and watched for edits by hand.
//!
//! What was written last is remembered in `raft/written`, so an edit is known as one even after a restart, and is taken as the difference
//! to what its author saw: changes that others made to other entries meanwhile survive. An edit that makes no sense changes nothing and
//! stays in the file; one that cannot be proposed for lack of quorum waits until it can, or until it is taken back.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::propose::{self, Refused};
use super::shared::{Known, Shared, known_of};
use crate::document::{self, Change, Document, Mistake, change, changes_between, parse, render, review};
use crate::home::{Trust, TrustEntry};
use crate::machine::Millis;
use crate::secret::random;

/// How often the file is looked at. Looking costs one `stat`.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a change that could not be made is tried again.
const RETRY_MS: Millis = 2000;
/// How long a removed peer may still connect, so that it learns about its removal.
const LEAVING_MS: Millis = 5000;

/// How it stands with hand edits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FileReport {
    /// The file is what is committed.
    #[default]
    Clean,
    /// It makes no sense.
    Invalid(String),
    /// It waits for quorum.
    Pending(String),
    /// It was refused and kept elsewhere.
    Rejected(String),
}

impl FileReport {
    /// The line for `qu status`.
    pub fn note(&self) -> Option<String> {
        match self {
            FileReport::Clean => None,
            FileReport::Invalid(text) => Some(format!("hand edit: not applied: {text}")),
            FileReport::Pending(text) => Some(format!("hand edit: waits: {text}")),
            FileReport::Rejected(text) => Some(format!("hand edit: rejected: {text}")),
        }
    }

    /// Whether an edit waits.
    pub fn is_pending(&self) -> bool {
        matches!(self, FileReport::Pending(_))
    }
}

/// The texts written last, the newest last. A crash may leave either in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Written {
    texts: Vec<String>,
}

impl Written {
    fn path(shared_raft: &std::path::Path) -> PathBuf {
        shared_raft.join("written")
    }

    /// What `raft/written` says; nothing if it is not there.
    pub fn load(raft: &std::path::Path) -> Written {
        std::fs::read(Written::path(raft))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Whether this text was written here.
    pub fn is(&self, text: &str) -> bool {
        self.texts.iter().any(|known| known == text)
    }

    /// What the author of an edit saw.
    pub fn newest(&self) -> Option<&String> {
        self.texts.last()
    }

    /// A text counts as written here from now on.
    ///
    /// # Errors
    /// The disk.
    pub fn note(raft: &std::path::Path, text: String) -> Result<(), crate::home::HomeError> {
        Written::load(raft).push(text, raft)
    }

    fn push(&mut self, text: String, raft: &std::path::Path) -> Result<(), crate::home::HomeError> {
        self.texts.retain(|known| *known != text);
        self.texts.push(text);
        if self.texts.len() > 2 {
            self.texts.remove(0);
        }
        let content = serde_json::to_vec(self).expect("two texts");
        crate::home::write(&Written::path(raft), &content)
    }
}

/// Writes and watches the file until the run ends.
pub async fn run(shared: Arc<Shared>) {
    let mut keeper = Keeper {
        written: Written::load(&shared.home.raft()),
        shared,
        committed: None,
        leaving: Vec::new(),
        seen: None,
        tried: None,
    };
    loop {
        keeper.look().await;
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = keeper.shared.stop.cancelled() => return,
        }
    }
}

/// What tells one content of a file from another without reading it.
type Stamp = (u64, i64, i64, u64);

struct Keeper {
    shared: Arc<Shared>,
    written: Written,
    /// What the file should say.
    committed: Option<Arc<Document>>,
    /// Peers that were removed lately, and until when they may connect.
    leaving: Vec<(Millis, Known)>,
    seen: Option<Stamp>,
    /// The edit that was looked at last, and when.
    tried: Option<(String, Millis)>,
}

impl Keeper {
    async fn look(&mut self) {
        let Some(view) = self.shared.view() else { return };
        if view.state.document.version == 0 {
            return;
        }
        let stamp = self.stamp();
        let retry = matches!(&self.tried, Some((_, at)) if self.shared.now() >= at + RETRY_MS)
            && self.shared.file.lock().is_pending();
        let edited = if stamp != self.seen || retry {
            self.seen = stamp;
            self.read_edit()
        } else {
            None
        };
        if let Some(text) = edited {
            self.take_edit(&text, &view.state.document).await;
        }
        let Some(view) = self.shared.view() else { return };
        let changed = self
            .committed
            .as_ref()
            .is_none_or(|known| !Arc::ptr_eq(known, &view.state.document));
        if changed {
            // Syncing can take seconds, and must not keep beats and messages waiting.
            tokio::task::block_in_place(|| self.follow(&view.state.document));
        }
        let now = self.shared.now();
        if self.leaving.iter().any(|(until, _)| *until <= now) {
            self.leaving.retain(|(until, _)| *until > now);
            tokio::task::block_in_place(|| self.trust(&view.state.document));
        }
    }

    fn stamp(&self) -> Option<Stamp> {
        let known = std::fs::metadata(self.shared.home.cluster_file()).ok()?;
        Some((known.ino(), known.mtime(), known.mtime_nsec(), known.len()))
    }

    /// The text of the file if it is not one that was written here.
    fn read_edit(&mut self) -> Option<String> {
        match self.shared.home.read_cluster_text() {
            Ok(Some(text)) if self.written.is(&text) => {
                // Taken back, or never there. What was committed meanwhile has not been written for its sake.
                let before = std::mem::take(&mut *self.shared.file.lock());
                if before != FileReport::Clean || self.written.newest() != Some(&text) {
                    self.committed = None;
                }
                self.tried = None;
                None
            }
            Ok(Some(text)) => Some(text),
            // A file that is gone is written again.
            Ok(None) => {
                self.committed = None;
                None
            }
            Err(error) => {
                self.refuse(&error.to_string());
                None
            }
        }
    }

    fn refuse(&self, text: &str) {
        let report = FileReport::Invalid(text.to_owned());
        let mut current = self.shared.file.lock();
        if *current != report {
            tracing::error!(target: "quptime", "manual-edit: not applied: {text}");
            *current = report;
        }
    }

    async fn take_edit(&mut self, text: &str, committed: &Document) {
        self.tried = Some((text.to_owned(), self.shared.now()));
        let (mut edited, lines) = match parse::parse_located(text) {
            Ok(read) => read,
            Err(mistake) => return self.refuse(&mistake.to_string()),
        };
        if edited.version == 0 {
            tracing::info!(target: "quptime", "manual-edit: version 0 is a placeholder, the file is written again");
            return self.restore(text);
        }
        // Without a memory of what was written, the author saw what this run began with: that much may have been changed since, before
        // the file was looked at for the first time.
        let base = self.written.newest().and_then(|text| document::parse(text).ok());
        let base = base.unwrap_or_else(|| {
            let mut begun = (*self.shared.document_at_start).clone();
            change::complete(&mut begun, committed, || {
                format!("{:016x}", u64::from_be_bytes(random::<8>()))
            });
            begun
        });
        change::complete(&mut edited, &base, || {
            format!("{:016x}", u64::from_be_bytes(random::<8>()))
        });
        let changes = changes_between(&base, &edited);
        if changes.is_empty() {
            // Comments and layout are the operator's until the next change; a version is not.
            if edited.version == committed.version {
                return self.keep(text);
            }
            return self.restore(text);
        }
        if let Err(objection) = review::review_changes(&edited, &changes) {
            let mistake = Mistake {
                line: lines.of(&place_of(&edited, &objection)),
                text: objection.to_string(),
            };
            return self.refuse(&mistake.to_string());
        }
        let count = changes.len();
        if !self.shared.file.lock().is_pending() {
            tracing::info!(target: "quptime", "manual-edit: {count} changes found, proposing");
        }
        match self.propose(&edited, changes).await {
            Ok(version) => {
                tracing::info!(target: "quptime", version, "manual-edit: applied");
                self.restore(text);
            }
            Err(Refused::NoQuorum { live, need }) => {
                let waits = format!("{count} changes, no quorum (live {live}, need {need})");
                self.wait(waits);
            }
            Err(Refused::Failed(error)) => self.wait(format!("{count} changes, {error}")),
            Err(Refused::Invalid(error)) => self.refuse(&error),
            Err(Refused::Conflict(entries)) => self.reject(text, &entries),
            Err(Refused::Outdated(_)) => self.restore(text),
        }
    }

    async fn propose(&self, edited: &Document, changes: Vec<Change>) -> Result<u64, Refused> {
        propose::check_removals(&self.shared, &changes, false)?;
        let done = propose::propose_changes(&self.shared, changes, edited, None, "hand edit").await?;
        Ok(done.version)
    }

    fn wait(&self, text: String) {
        *self.shared.file.lock() = FileReport::Pending(text);
    }

    fn reject(&mut self, text: &str, entries: &[String]) {
        let stamp = service::clock::utc_compact(self.shared.wall());
        let kept = self
            .shared
            .home
            .dir()
            .join(format!("cluster.yaml.rejected-{stamp}"));
        let what = format!(
            "{} changed meanwhile; the edit is kept in {}",
            entries.join(", "),
            kept.display()
        );
        tracing::error!(target: "quptime", "manual-edit: not applied: {what}");
        if let Err(error) = crate::home::write(&kept, text.as_bytes()) {
            return self.refuse(&error.to_string());
        }
        *self.shared.file.lock() = FileReport::Rejected(what);
        self.tried = None;
        self.remember(text);
        self.committed = None;
    }

    /// The file is written again from what is committed.
    fn restore(&mut self, text: &str) {
        *self.shared.file.lock() = FileReport::Clean;
        self.tried = None;
        self.remember(text);
        self.committed = None;
    }

    /// The text may stay as it is until the next change.
    fn keep(&mut self, text: &str) {
        *self.shared.file.lock() = FileReport::Clean;
        self.tried = None;
        self.remember(text);
    }

    fn remember(&mut self, text: &str) {
        let raft = self.shared.home.raft();
        let kept = tokio::task::block_in_place(|| self.written.push(text.to_owned(), &raft));
        if let Err(error) = kept {
            tracing::error!(target: "quptime", error = %error, "cluster.yaml cannot be kept");
        }
    }

    /// Takes what is committed to the file and to the transport.
    fn follow(&mut self, document: &Arc<Document>) {
        self.remove_from_trust(document);
        self.trust(document);
        // An edit that waits or makes no sense is not overwritten.
        let untouched = matches!(
            *self.shared.file.lock(),
            FileReport::Clean | FileReport::Rejected(_)
        );
        if !untouched {
            self.committed = Some(document.clone());
            return;
        }
        // An edit that came since the file was looked at is looked at first.
        if self.stamp() != self.seen {
            return;
        }
        let text = render(document);
        let wrote = self
            .written
            .push(text.clone(), &self.shared.home.raft())
            .and_then(|()| self.shared.home.write_cluster(&text));
        match wrote {
            Ok(()) => {
                self.committed = Some(document.clone());
                // Whoever sees the new file may edit it before this line is reached.
                let stamp = self.stamp();
                let mine = self.shared.home.read_cluster_text();
                self.seen = stamp.filter(|_| mine.is_ok_and(|mine| mine == Some(text)));
            }
            Err(error) => {
                tracing::error!(target: "quptime", error = %error, "cluster.yaml cannot be written");
                self.shared.trouble(&error.to_string());
            }
        }
    }

    fn remove_from_trust(&mut self, document: &Document) {
        let known: Vec<Known> = self.shared.known.read().values().cloned().collect();
        let until = self.shared.now() + LEAVING_MS;
        for gone in known {
            let listed = document.peer(gone.node).is_some();
            if !listed && !self.leaving.iter().any(|(_, leaving)| leaving.node == gone.node) {
                self.leaving.push((until, gone));
            }
        }
        self.leaving
            .retain(|(_, leaving)| document.peer(leaving.node).is_none());
    }

    fn trust(&self, document: &Document) {
        let leaving: Vec<Known> = self.leaving.iter().map(|(_, known)| known.clone()).collect();
        self.shared.trust(document, &leaving);
        write_trust(&self.shared, document);
    }
}

/// Writes `trust.yaml` if it says something else.
fn write_trust(shared: &Shared, document: &Document) {
    let before = shared.home.read_trust().unwrap_or_default();
    let now = jiff::Timestamp::from_millisecond(shared.wall() as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let now = now.round(jiff::Unit::Second).unwrap_or(now).to_string();
    let entries = document.peers.iter().filter_map(|peer| {
        let known = known_of(peer)?;
        let since = before
            .entries
            .iter()
            .find(|entry| entry.node_id == peer.node_id && entry.fingerprint == known.pin.to_string());
        Some(TrustEntry {
            node_id: peer.node_id,
            address: peer.advertise.clone(),
            fingerprint: known.pin.to_string(),
            cert_pem: peer.cert_pem.clone(),
            added_at: since.map_or_else(|| now.clone(), |entry| entry.added_at.clone()),
        })
    });
    let trust = Trust {
        entries: entries.collect(),
    };
    if trust != before
        && let Err(error) = shared.home.write_trust(&trust)
    {
        tracing::error!(target: "quptime", error = %error, "trust.yaml cannot be written");
    }
}

/// An objection to a part of the document, in the whole one.
fn place_of(edited: &Document, objection: &review::Objection) -> document::integrity::Place {
    use document::integrity::Place;
    let text = objection.to_string();
    let named = |kind: &str, name: &str| text.starts_with(&format!("{kind} {name}:"));
    let check = edited
        .checks
        .iter()
        .position(|check| named("check", &check.name))
        .map(Place::Check);
    let alert = || {
        edited
            .alerts
            .iter()
            .position(|alert| named("alert", &alert.name))
            .map(Place::Alert)
    };
    let peer = || {
        let peers = &mut edited.peers.iter();
        peers
            .position(|peer| named("peer", &peer.node_id.to_string()))
            .map(Place::Peer)
    };
    let window = || {
        let windows = &mut edited.maintenance.iter();
        windows
            .position(|window| named("maintenance", &window.name))
            .map(Place::Window)
    };
    check
        .or_else(alert)
        .or_else(peer)
        .or_else(window)
        .unwrap_or(Place::Whole)
}
