//! `cluster.yaml` on disk: written after each change, and watched for edits by hand.
//!
//! What was written last is remembered in `raft/` ([`written`]), so an edit is known as one even after a restart, and is taken as the
//! difference to what its author saw: changes that others made meanwhile survive, also those that the author had not in front of him. An
//! edit that makes no sense changes nothing and stays in the file; one that cannot be proposed for lack of quorum waits until it can, or until it
//! is taken back.
//!
//! Files are not saved in one step. A file counts when nobody has touched it for a moment, and a text that seems to lack its end ([`cut`])
//! waits until it is saved whole.

pub mod cut;
pub mod sense;
mod trust;
pub mod written;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::trust::write_trust;
use cut::End;
use sense::{complete, makes_sense, says_more};
use written::{Seen, version_of};

pub use written::Written;

use super::propose::{self, Refused};
use super::shared::{Known, Mastery, Shared};
use crate::document::{Change, Document, Mistake, change, changes_between, entries, parse, render};
use crate::home::{HomeError, Stamp};
use crate::machine::Millis;

/// How often the file is looked at. Looking costs one `stat`.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a file must have been left alone before it is read: saving takes several steps.
const QUIET_MS: Millis = 300;
/// How long a text must stay as it is if what stood last is missing in it.
const UNSURE_MS: Millis = 5000;
/// How often a change that could not be made is tried again.
const RETRY_MS: Millis = 2000;
/// How long a removed peer may still connect, so that it learns about its removal.
const LEAVING_MS: Millis = 5000;
/// How long `qu status` tells about an edit that was rejected, if nothing is changed meanwhile.
const REJECTED_MS: Millis = 600_000;
/// How long a command waits for the file after its change was made.
const WRITTEN_WAIT: Duration = Duration::from_secs(5);

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

/// How the line for `qu status` begins while the file makes no sense.
pub const NOT_APPLIED: &str = "hand edit: not applied";

impl FileReport {
    /// The line for `qu status`.
    pub fn note(&self) -> Option<String> {
        match self {
            FileReport::Clean => None,
            FileReport::Invalid(text) => Some(format!("{NOT_APPLIED}: {text}")),
            FileReport::Pending(text) => Some(format!("hand edit: waits: {text}")),
            FileReport::Rejected(text) => Some(format!("hand edit: rejected: {text}")),
        }
    }

    /// An edit was refused and kept, and nothing else is known about the file.
    pub fn reject(&mut self, text: String) {
        *self = FileReport::Rejected(text);
    }

    /// Another run begins, before which this may have been refused. It looks at the file itself, but what was refused before is not there any more.
    pub fn begin_run(&mut self, refused: Option<String>) {
        match (refused, &*self) {
            (Some(text), _) => self.reject(text),
            (None, FileReport::Rejected(_)) => {}
            (None, _) => *self = FileReport::Clean,
        }
    }

    /// Whether an edit waits.
    pub fn is_pending(&self) -> bool {
        matches!(self, FileReport::Pending(_))
    }
}

/// Waits until the file says at least this version, as far as it is written at all: an edit that waits is not written over.
pub async fn written(shared: &Shared, version: u64) {
    let mut followed = shared.followed.subscribe();
    shared.follow_now.notify_one();
    let written = followed.wait_for(|followed| *followed >= version || shared.unwritable.lock().is_some());
    // The change is made in any case; a file that cannot be written is told about by its keeper.
    drop(tokio::time::timeout(WRITTEN_WAIT, written).await);
}

/// Writes and watches the file until the run ends.
pub async fn run(shared: Arc<Shared>) {
    let raft = shared.home.raft();
    let mut keeper = Keeper {
        written: Written::load(&raft),
        texts: Seen::load(&raft),
        shared,
        committed: None,
        leaving: Vec::new(),
        seen: None,
        saving: None,
        tried: None,
        unsure: None,
        proposed: None,
        rejected: None,
        standing: false,
        outside: None,
    };
    keeper.begin();
    loop {
        keeper.look().await;
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = keeper.shared.follow_now.notified() => {}
            () = keeper.shared.stop.cancelled() => return,
        }
    }
}

struct Keeper {
    shared: Arc<Shared>,
    written: Written,
    texts: Seen,
    /// What the file should say.
    committed: Option<Arc<Document>>,
    /// Peers that were removed lately, and until when they may connect.
    leaving: Vec<(Millis, Known)>,
    /// The file as it was looked at last.
    seen: Option<Stamp>,
    /// The file as somebody is saving it, and since when it has been left alone.
    saving: Option<(Option<Stamp>, Millis)>,
    /// When the edit was looked at last.
    tried: Option<Millis>,
    /// A text in which what stood last is missing, and since when.
    unsure: Option<(String, Millis)>,
    /// The text that was proposed last.
    proposed: Option<String>,
    /// When an edit was rejected, and the version at that time.
    rejected: Option<(Millis, u64)>,
    /// Whether the file has said what was written last, so that an older text in it is not left from a crash: somebody put it there.
    standing: bool,
    /// An edit that was made while this node was removed, so of a file that was nobody's configuration.
    outside: Option<String>,
}

impl Keeper {
    /// A file that was written here needs no second look before it is written over.
    fn begin(&mut self) {
        let stamp = self.stamp();
        if let Ok(Some(text)) = self.read()
            && self.written.is(&text)
            && self.stamp() == stamp
        {
            self.seen = stamp;
            self.standing = self.written.newest() == Some(&text);
        }
        // A node that has just come takes up many versions at once, so it is the time that ends this.
        if matches!(*self.shared.file.lock(), FileReport::Rejected(_)) {
            self.rejected = Some((self.shared.now(), u64::MAX));
        }
    }

    async fn look(&mut self) {
        let Some(view) = self.shared.view() else { return };
        if view.state.document.version == 0 || self.shared.stop.is_cancelled() {
            return;
        }
        if let Some(text) = self.edit() {
            self.outside = None;
            self.take_edit(&text, &view.state.document).await;
        }
        self.come_back(view.state.document.version);
        let Some(view) = self.shared.view() else { return };
        let changed = self
            .committed
            .as_ref()
            .is_none_or(|known| !Arc::ptr_eq(known, &view.state.document));
        // A group that has not begun to run since the start may know less than was committed: its log is taken up again when it has a leader.
        let is_behind = self.committed.is_none()
            && !view.runs
            && (self.written.newest())
                .and_then(|text| written::version_of(text))
                .is_some_and(|version| version > view.state.document.version);
        if changed && !is_behind {
            // Syncing can take seconds, and must not keep beats and messages waiting.
            tokio::task::block_in_place(|| self.follow(&view.state.document));
        }
        let now = self.shared.now();
        if self.leaving.iter().any(|(until, _)| *until <= now) {
            self.leaving.retain(|(until, _)| *until > now);
            // The file is for people alone, and written with the next change.
            drop(tokio::task::block_in_place(|| self.trust(&view.state.document)));
        }
        if self.rejected.is_some_and(|(at, version)| {
            now >= at + REJECTED_MS || view.state.document.version > version && !changed
        }) {
            self.forget_rejected();
        }
    }

    fn forget_rejected(&mut self) {
        self.rejected = None;
        let mut report = self.shared.file.lock();
        if matches!(*report, FileReport::Rejected(_)) {
            *report = FileReport::Clean;
        }
    }

    /// The text of the file. What this node has written may be longer than what it takes from others.
    fn read(&self) -> Result<Option<String>, HomeError> {
        let read = self.shared.home.read_cluster_text();
        let own = || self.written.standing(&self.shared.home).cloned();
        read.or_else(|error| own().map(Some).ok_or(error))
    }

    fn stamp(&self) -> Option<Stamp> {
        self.shared.home.cluster_stamp()
    }

    /// The text of the file, if it is an edit that is to be looked at now.
    fn edit(&mut self) -> Option<String> {
        let (stamp, now) = (self.stamp(), self.shared.now());
        if stamp == self.seen {
            self.saving = None;
            let retry =
                self.tried.is_some_and(|at| now >= at + RETRY_MS) && self.shared.file.lock().is_pending();
            if !retry {
                return None;
            }
        } else {
            match self.saving {
                Some((known, since)) if known == stamp => {
                    if now < since + QUIET_MS {
                        return None;
                    }
                }
                _ => {
                    self.saving = Some((stamp, now));
                    return None;
                }
            }
        }
        let read = self.read();
        if self.stamp() != stamp {
            return None;
        }
        self.saving = None;
        self.seen = stamp;
        match read {
            Ok(Some(text)) if self.is_put_back(&text) => {
                let why = "it says what the file said before, or what was rejected: make the change in cluster.yaml as it is now";
                self.put_back(&text, why, self.shared.document().version);
                None
            }
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
                *self.shared.file.lock() = FileReport::Clean;
                self.committed = None;
                None
            }
            Err(HomeError::Mistake { mistake, .. }) => {
                self.refuse(&mistake.to_string());
                None
            }
            Err(error) => {
                self.refuse(&error.to_string());
                None
            }
        }
    }

    /// Whether somebody has put an older text of this node in place of the present one, such as a rejected edit once more.
    fn is_put_back(&self, text: &str) -> bool {
        let is_older = self.standing
            && self.written.is(text)
            && self.written.newest().is_none_or(|newest| newest != text);
        let Some(edited) = is_older.then(|| parse(text).ok()).flatten() else {
            return false;
        };
        edited.version > 0 && !changes_between(&self.shared.document(), &edited).is_empty()
    }

    /// A node that is in the cluster again has its configuration. What was edited meanwhile was not meant for that.
    fn come_back(&mut self, version: u64) {
        let is_back = self.outside.is_some() && self.shared.mastery() != Mastery::Removed;
        if let Some(text) = is_back.then(|| self.outside.take()).flatten() {
            self.reject(
                &text,
                "it was made while this node was not in the cluster",
                version,
            );
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
        self.tried = Some(self.shared.now());
        if text.trim().is_empty() {
            return self.wait_for_the_end("the file is empty");
        }
        let (mut edited, lines) = match parse::parse_located(text) {
            Ok(read) => read,
            Err(mistake) => return self.refuse(&mistake.to_string()),
        };
        if edited.version == 0 {
            complete(&mut edited, committed, committed);
            if says_more(&edited, committed) {
                let why = "version 0 is a placeholder, and what else it says is not in the cluster";
                return self.reject(text, why, committed.version);
            }
            tracing::info!(target: "quptime", "manual-edit: version 0 is a placeholder, the file is written again");
            return self.restore(text);
        }
        let Some((base, base_text)) = self.base(edited.version, committed) else {
            let why = format!(
                "it is an edit of version {}, which is not known here any more: repeat it in the present file",
                edited.version
            );
            return self.reject(text, &why, committed.version);
        };
        complete(&mut edited, &base, committed);
        let mut changes = changes_between(&base, &edited);
        if changes.is_empty() {
            // Comments and layout are the operator's until the next change; a version is not.
            if edited.version == committed.version {
                return self.keep(text);
            }
            // This node has taken the file further than that, so somebody has put it there.
            if self.standing && edited.version < committed.version {
                let why = format!(
                    "it is version {} as that was, and the cluster is at {}",
                    edited.version, committed.version
                );
                return self.put_back(text, &why, committed.version);
            }
            return self.restore(text);
        }
        match cut::end_of(text, &base_text) {
            End::There => {}
            End::Missing(what) => return self.wait_for_the_end(what),
            End::Unsure if self.is_settled(text) => {}
            End::Unsure => {
                return self
                    .wait("what stood last is missing; it is removed if the file stays so".to_owned());
            }
        }
        // What is so already was done by an attempt whose outcome nobody learned, or by somebody else.
        let count = changes.len();
        let current = entries(committed);
        changes.retain(|change| current.get(&change.key) != change.wanted.as_ref());
        if changes.is_empty() {
            tracing::info!(target: "quptime", version = committed.version, "manual-edit: applied");
            return self.restore(text);
        }
        let merged = match change::apply(committed, &changes) {
            Ok(merged) => merged,
            Err(conflicts) => {
                let entries: Vec<String> = conflicts.iter().map(Change::title).collect();
                let why = format!("{} changed meanwhile", entries.join(", "));
                return self.reject(text, &why, committed.version);
            }
        };
        if let Err((place, told)) = makes_sense(committed, &merged, &edited, &changes) {
            let line = match lines.of(&place) {
                0 => parse::line_of_setting(text, &told),
                line => line,
            };
            return self.refuse(&Mistake { line, text: told }.to_string());
        }
        if self.proposed.as_deref() != Some(text) {
            tracing::info!(target: "quptime", "manual-edit: {count} changes found, proposing");
            self.proposed = Some(text.to_owned());
        }
        match self.propose(&merged, changes).await {
            Ok(version) => {
                tracing::info!(target: "quptime", version, "manual-edit: applied");
                self.restore(text);
            }
            Err(Refused::NoQuorum { live, need }) => {
                let waits = format!("{count} changes, no quorum (live {live}, need {need})");
                self.wait(waits);
            }
            Err(Refused::Failed(error) | Refused::NotNow(error)) => {
                self.wait(format!("{count} changes, {error}"));
            }
            Err(Refused::Unknown { why, .. }) => self.wait(format!("{count} changes, {why}")),
            Err(Refused::Invalid(error)) => self.refuse(&error),
            Err(refused @ Refused::Removed) => {
                self.outside = Some(text.to_owned());
                self.refuse(&refused.to_string());
            }
            // Judged by what is here, once it is here: it may be this very edit that is in the way.
            Err(Refused::Conflict(_) | Refused::Outdated(_)) => {
                self.wait(format!("{count} changes, the master has newer ones"));
            }
        }
    }

    /// What the author of an edit of this version saw, as document and as text.
    fn base(&self, version: u64, committed: &Document) -> Option<(Document, String)> {
        let read = |text: &str| Some((parse::parse_written(text).ok()?, text.to_owned()));
        let newest = self.texts.newest().or(self.written.newest().map(String::as_str));
        let known = newest.and_then(version_of);
        // Before the cluster's configuration came, nobody can have edited it.
        if known == Some(0) {
            return None;
        }
        if known.is_some_and(|known| version < known) {
            return self.texts.of(version).and_then(read);
        }
        // A version that was never written here was typed, or comes from a node that is ahead.
        if let Some(base) = self.texts.of(version).or(newest).and_then(read) {
            return Some(base);
        }
        // Without a memory of what was written, the author saw what this run began with: that much may have been changed since, before
        // the file was looked at for the first time.
        let mut begun = (*self.shared.document_at_start).clone();
        complete(&mut begun, committed, committed);
        let text = render(&begun);
        Some((begun, text))
    }

    /// Whether a text has been there for long enough to be meant so.
    fn is_settled(&mut self, text: &str) -> bool {
        let now = self.shared.now();
        match &self.unsure {
            Some((known, since)) if known == text => now >= since + UNSURE_MS,
            _ => {
                self.unsure = Some((text.to_owned(), now));
                false
            }
        }
    }

    async fn propose(&self, merged: &Document, changes: Vec<Change>) -> Result<u64, Refused> {
        let done = propose::propose_changes(&self.shared, changes, merged, None, "hand edit", false).await?;
        Ok(done.version)
    }

    fn wait(&self, text: String) {
        *self.shared.file.lock() = FileReport::Pending(text);
    }

    fn wait_for_the_end(&self, what: &str) {
        let text = format!(
            "it looks cut off: {what}; save it whole, or end it with a comment line if that is meant"
        );
        let report = FileReport::Pending(text.clone());
        let mut current = self.shared.file.lock();
        if *current != report {
            tracing::warn!(target: "quptime", "manual-edit: {text}");
            *current = report;
        }
    }

    fn reject(&mut self, text: &str, why: &str, version: u64) {
        self.reject_and_say(text, why, version, |_| String::new());
    }

    /// An older text as a whole, of which nobody can say which part was meant.
    fn put_back(&mut self, text: &str, why: &str, version: u64) {
        self.reject_and_say(text, why, version, |kept| {
            format!("; to go back to it, say qu cluster restore {}", kept.display())
        });
    }

    fn reject_and_say(&mut self, text: &str, why: &str, version: u64, hint: impl Fn(&Path) -> String) {
        let kept = self.shared.home.keep_beside("rejected", self.shared.wall(), text);
        let kept = match kept {
            Ok(kept) => kept,
            Err(error) => return self.refuse(&error.to_string()),
        };
        let what = format!("{why}; the edit is kept in {}{}", kept.display(), hint(&kept));
        tracing::error!(target: "quptime", "manual-edit: not applied: {what}");
        self.restore(text);
        *self.shared.file.lock() = FileReport::Rejected(what);
        self.rejected = Some((self.shared.now(), version));
    }

    /// The file is written again from what is committed.
    fn restore(&mut self, text: &str) {
        self.keep(text);
        self.committed = None;
    }

    /// The text may stay as it is until the next change.
    fn keep(&mut self, text: &str) {
        *self.shared.file.lock() = FileReport::Clean;
        self.tried = None;
        self.unsure = None;
        self.proposed = None;
        self.remember(text);
    }

    fn remember(&mut self, text: &str) {
        let raft = self.shared.home.raft();
        self.standing = true;
        let kept = tokio::task::block_in_place(|| self.written.push(text.to_owned(), &raft));
        if let Err(error) = kept {
            tracing::error!(target: "quptime", error = %error, "cluster.yaml cannot be kept");
        }
    }

    /// Takes what is committed to the file and to the transport.
    fn follow(&mut self, document: &Arc<Document>) {
        self.remove_from_trust(document);
        let trusted = self.trust(document);
        // An edit that waits or makes no sense is not overwritten.
        let untouched = matches!(
            *self.shared.file.lock(),
            FileReport::Clean | FileReport::Rejected(_)
        );
        if !untouched {
            self.committed = Some(document.clone());
            self.shared.followed.send_replace(document.version);
            return;
        }
        // An edit that came since the file was looked at is looked at first.
        if self.stamp() != self.seen {
            return;
        }
        let text = render(document);
        self.texts.push(&text);
        self.standing = false;
        let wrote = self.written.push(text.clone(), &self.shared.home.raft());
        let wrote = wrote.and_then(|()| {
            // Once the run is over the file is the next one's.
            let same = || self.stamp() == self.seen && !self.shared.stop.is_cancelled();
            self.shared.home.write_cluster(&text, same)
        });
        match wrote {
            Ok(true) => {
                self.standing = true;
                self.committed = Some(document.clone());
                self.note_unwritable(trusted.err());
                // Whoever sees the new file may edit it before this line is reached.
                let stamp = self.stamp();
                let mine = self.read();
                self.seen = stamp.filter(|_| mine.is_ok_and(|mine| mine == Some(text)));
                self.shared.followed.send_replace(document.version);
            }
            // Somebody saved it meanwhile.
            Ok(false) => {}
            Err(error) => {
                self.note_unwritable(Some(error));
                // Nobody needs to wait for it.
                self.shared.followed.send_modify(|_| {});
            }
        }
    }

    /// Whether the files are written. What is not is told once, and tried again all the time.
    fn note_unwritable(&self, error: Option<HomeError>) {
        let mut known = self.shared.unwritable.lock();
        if let (None, Some(error)) = (&*known, &error) {
            tracing::error!(target: "quptime", error = %error, "a file cannot be written");
        }
        *known = error.map(|error| error.to_string());
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

    fn trust(&self, document: &Document) -> Result<(), HomeError> {
        let leaving: Vec<Known> = self.leaving.iter().map(|(_, known)| known.clone()).collect();
        self.shared.trust(document, &leaving);
        write_trust(&self.shared, document)
    }
}
