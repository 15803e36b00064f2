//! Differences between documents, entry by entry.
//!
//! A [`Change`] says what its author saw (`base`) and what is wanted (`wanted`). It is carried out only if the entry still is what the
//! author saw, so of two edits of one entry the second is refused instead of undoing the first, while edits of different entries never
//! disturb each other. `version`, `updated_at`, `updated_by` and `schema` are not entries: nobody but the cluster sets them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::schema::{Alert, Check, Document, Enrollment, Peer, Settings, Window};

/// A part of a document that consists of entries, or is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Cluster-wide DNS servers: one entry.
    Resolvers,
    /// One entry.
    Settings,
    /// By node id.
    Peers,
    /// By id.
    Alerts,
    /// By id.
    Checks,
    /// By id.
    Enrollments,
    /// By id.
    Maintenance,
}

/// Names an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Where.
    pub section: Section,
    /// Which; empty where the section is one entry.
    pub id: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let section = match self.section {
            Section::Resolvers => return f.write_str("resolvers"),
            Section::Settings => return f.write_str("settings"),
            Section::Peers => "peer",
            Section::Alerts => "alert",
            Section::Checks => "check",
            Section::Enrollments => "enrollment",
            Section::Maintenance => "maintenance",
        };
        write!(f, "{section} {}", self.id)
    }
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Cluster-wide DNS servers.
    Resolvers(Vec<String>),
    /// What differs from the defaults.
    Settings(Settings),
    /// A node.
    Peer(Peer),
    /// A channel.
    Alert(Box<Alert>),
    /// Something watched.
    Check(Box<Check>),
    /// An invitation.
    Enrollment(Box<Enrollment>),
    /// Announced work.
    Window(Window),
}

impl Entry {
    /// What names it.
    pub fn key(&self) -> Key {
        let (section, id) = match self {
            Entry::Resolvers(_) => (Section::Resolvers, String::new()),
            Entry::Settings(_) => (Section::Settings, String::new()),
            Entry::Peer(peer) => (Section::Peers, peer.node_id.to_string()),
            Entry::Alert(alert) => (Section::Alerts, alert.id.clone()),
            Entry::Check(check) => (Section::Checks, check.id.clone()),
            Entry::Enrollment(enrollment) => (Section::Enrollments, enrollment.id.clone()),
            Entry::Window(window) => (Section::Maintenance, window.id.clone()),
        };
        Key { section, id }
    }

    /// What people call it.
    pub fn title(&self) -> String {
        match self {
            Entry::Alert(alert) => format!("alert {}", alert.name),
            Entry::Check(check) => format!("check {}", check.name),
            Entry::Window(window) => format!("maintenance {}", window.name),
            entry => entry.key().to_string(),
        }
    }
}

/// What somebody wants of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// Which entry.
    pub key: Key,
    /// As its author saw it; nothing if it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Entry>,
    /// As it shall be; nothing if it shall go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Entry>,
}

impl Change {
    /// A new entry.
    pub fn add(entry: Entry) -> Change {
        Change {
            key: entry.key(),
            base: None,
            wanted: Some(entry),
        }
    }

    /// An entry goes.
    pub fn remove(entry: Entry) -> Change {
        Change {
            key: entry.key(),
            base: Some(entry),
            wanted: None,
        }
    }

    /// An entry becomes another.
    pub fn edit(base: Entry, wanted: Entry) -> Change {
        Change {
            key: base.key(),
            base: Some(base),
            wanted: Some(wanted),
        }
    }

    /// What it is called in messages.
    pub fn title(&self) -> String {
        let entry = self.wanted.as_ref().or(self.base.as_ref());
        entry.map_or_else(|| self.key.to_string(), Entry::title)
    }
}

/// All entries of a document, by key. What is left out counts as there with its default, so that it can be edited.
pub fn entries(document: &Document) -> BTreeMap<Key, Entry> {
    let singles = [
        Entry::Resolvers(document.resolvers.clone()),
        Entry::Settings(document.settings.clone()),
    ];
    singles
        .into_iter()
        .chain(document.peers.iter().cloned().map(Entry::Peer))
        .chain(document.alerts.iter().cloned().map(Box::new).map(Entry::Alert))
        .chain(document.checks.iter().cloned().map(Box::new).map(Entry::Check))
        .chain(
            document
                .pending_enrollments
                .iter()
                .cloned()
                .map(Box::new)
                .map(Entry::Enrollment),
        )
        .chain(document.maintenance.iter().cloned().map(Entry::Window))
        .map(|entry| (entry.key(), entry))
        .collect()
}

/// What leads from one document to another, in the order of the keys.
pub fn changes_between(base: &Document, wanted: &Document) -> Vec<Change> {
    let (mut old, new) = (entries(base), entries(wanted));
    let mut changes = Vec::new();
    for (key, entry) in new {
        match old.remove(&key) {
            Some(before) if before == entry => {}
            before => changes.push(Change {
                key,
                base: before,
                wanted: Some(entry),
            }),
        }
    }
    changes.extend(old.into_values().map(Change::remove));
    changes.sort_by(|one, other| one.key.cmp(&other.key));
    changes
}

/// What removes an alert: checks that name it lose the name together with it.
pub fn without_alert(document: &Document, alert: &Alert) -> Vec<Change> {
    let mut changes = vec![Change::remove(Entry::Alert(Box::new(alert.clone())))];
    for check in &document.checks {
        let mut after = check.clone();
        after.alert_ids.retain(|text| !alert.is_called(text));
        after.suppress_alert_ids.retain(|text| !alert.is_called(text));
        if after != *check {
            let entry = |check: &Check| Entry::Check(Box::new(check.clone()));
            changes.push(Change::edit(entry(check), entry(&after)));
        }
    }
    changes
}

/// The checks, by name, that name this alert among those they tell.
pub fn telling<'a>(document: &'a Document, alert: &Alert) -> Vec<&'a str> {
    let checks = document.checks.iter();
    let names = checks.filter(|check| check.alert_ids.iter().any(|text| alert.is_called(text)));
    names.map(|check| check.name.as_str()).collect()
}

/// What has to be done before a check can be removed, if anything: others may not name what is not there.
pub fn in_the_way_of(document: &Document, check: &Check) -> Option<String> {
    let names = |texts: &[String]| texts.iter().any(|text| check.is_called(text));
    let children: Vec<&Check> = document
        .checks
        .iter()
        .filter(|child| child.id != check.id && names(&child.depends_on))
        .collect();
    if !children.is_empty() {
        let all: Vec<&str> = children.iter().map(|child| child.name.as_str()).collect();
        let edits: Vec<String> = children
            .iter()
            .map(|child| {
                let rest = child.depends_on.iter().filter(|text| !check.is_called(text));
                let rest = rest.cloned().collect::<Vec<_>>().join(",");
                format!("qu check edit '{}' --depends-on '{rest}'", child.name)
            })
            .collect();
        let verb = if all.len() == 1 { "depends" } else { "depend" };
        return Some(format!(
            "{} {verb} on it; first say {}",
            all.join(", "),
            edits.join("; ")
        ));
    }
    let window = document.maintenance.iter().find(|window| names(&window.checks))?;
    Some(format!(
        "the maintenance {} names it; first say qu maintenance end '{}'",
        window.name, window.name
    ))
}

/// Carries changes out, all or none.
///
/// # Errors
/// The changes whose entries are not what their author saw.
pub fn apply(document: &Document, changes: &[Change]) -> Result<Document, Vec<Change>> {
    let current = entries(document);
    let conflicts: Vec<Change> = changes
        .iter()
        .filter(|change| current.get(&change.key) != change.base.as_ref())
        .cloned()
        .collect();
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    let mut result = document.clone();
    for change in changes {
        carry_out(&mut result, change);
    }
    Ok(result)
}

fn carry_out(document: &mut Document, change: &Change) {
    let id = &change.key.id;
    match (&change.wanted, change.key.section) {
        (Some(Entry::Resolvers(resolvers)), _) => document.resolvers.clone_from(resolvers),
        (Some(Entry::Settings(settings)), _) => document.settings = settings.clone(),
        (Some(Entry::Peer(peer)), _) => put(&mut document.peers, peer, |other| other.node_id == peer.node_id),
        (Some(Entry::Alert(alert)), _) => put(&mut document.alerts, alert, |other| other.id == alert.id),
        (Some(Entry::Check(check)), _) => put(&mut document.checks, check, |other| other.id == check.id),
        (Some(Entry::Enrollment(wanted)), _) => {
            put(&mut document.pending_enrollments, wanted, |other| {
                other.id == wanted.id
            });
        }
        (Some(Entry::Window(window)), _) => {
            put(&mut document.maintenance, window, |other| other.id == window.id);
        }
        (None, Section::Resolvers) => document.resolvers.clear(),
        (None, Section::Settings) => document.settings = Settings::default(),
        (None, Section::Peers) => document.peers.retain(|peer| peer.node_id.to_string() != *id),
        (None, Section::Alerts) => document.alerts.retain(|alert| alert.id != *id),
        (None, Section::Checks) => document.checks.retain(|check| check.id != *id),
        (None, Section::Enrollments) => document.pending_enrollments.retain(|other| other.id != *id),
        (None, Section::Maintenance) => document.maintenance.retain(|window| window.id != *id),
    }
}

/// In place if it is there, at the end if not.
fn put<T: Clone>(entries: &mut Vec<T>, wanted: &T, is_it: impl Fn(&T) -> bool) {
    match entries.iter_mut().find(|entry| is_it(entry)) {
        Some(entry) => *entry = wanted.clone(),
        None => entries.push(wanted.clone()),
    }
}

/// Gives an id to every entry that has none: that of the entry of the same name in `base`, or one that `draw`
/// makes for the section and the name.
pub fn complete(document: &mut Document, base: &Document, mut draw: impl FnMut(Section, &str) -> String) {
    for check in document.checks.iter_mut().filter(|check| check.id.is_empty()) {
        let known = base.checks.iter().find(|other| other.name == check.name);
        check.id = known.map_or_else(|| draw(Section::Checks, &check.name), |other| other.id.clone());
    }
    for alert in document.alerts.iter_mut().filter(|alert| alert.id.is_empty()) {
        let known = base.alerts.iter().find(|other| other.name == alert.name);
        alert.id = known.map_or_else(|| draw(Section::Alerts, &alert.name), |other| other.id.clone());
    }
    for window in document
        .maintenance
        .iter_mut()
        .filter(|window| window.id.is_empty())
    {
        let known = base.maintenance.iter().find(|other| other.name == window.name);
        window.id = known.map_or_else(
            || draw(Section::Maintenance, &window.name),
            |other| other.id.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::CheckKind;
    use super::*;

    fn document(names: &[&str]) -> Document {
        let check = |name: &&str| Check {
            id: (*name).to_owned(),
            ..Check::new(*name, CheckKind::Tcp, "h:1")
        };
        Document {
            checks: names.iter().map(check).collect(),
            ..Document::default()
        }
    }

    #[test]
    fn changes_lead_from_one_document_to_the_other() {
        let (base, mut wanted) = (document(&["a", "b", "c"]), document(&["a", "c", "d"]));
        wanted.checks[1].target = "h:2".to_owned();
        wanted.resolvers = vec!["1.1.1.1".to_owned()];
        let changes = changes_between(&base, &wanted);
        assert_eq!(changes.len(), 4);
        assert_eq!(apply(&base, &changes).unwrap(), wanted);
        assert!(changes_between(&wanted, &wanted).is_empty());
    }

    #[test]
    fn edits_of_different_entries_do_not_meet_and_of_one_entry_are_refused() {
        let base = document(&["a", "b"]);
        let (mut one, mut other) = (base.clone(), base.clone());
        one.checks[0].target = "h:2".to_owned();
        other.checks[1].target = "h:3".to_owned();
        let first = apply(&base, &changes_between(&base, &one)).unwrap();
        let both = apply(&first, &changes_between(&base, &other)).unwrap();
        assert_eq!(both.checks[0].target, "h:2");
        assert_eq!(both.checks[1].target, "h:3");
        let mut late = base.clone();
        late.checks[0].target = "h:9".to_owned();
        let refused = apply(&both, &changes_between(&base, &late)).unwrap_err();
        assert_eq!(refused[0].title(), "check a");
    }

    #[test]
    fn an_entry_without_id_takes_that_of_its_name() {
        let base = document(&["a"]);
        let mut wanted = document(&["a", "b"]);
        wanted.checks.iter_mut().for_each(|check| check.id.clear());
        complete(&mut wanted, &base, |section, name| {
            assert_eq!((section, name), (Section::Checks, "b"));
            "new".to_owned()
        });
        assert_eq!(
            (wanted.checks[0].id.as_str(), wanted.checks[1].id.as_str()),
            ("a", "new")
        );
    }
}
