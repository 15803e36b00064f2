//! What `qu doctor` finds: every node examines itself, and one node judges what all of them said.
//!
//! A finding that is no `pass` says what to do, with the names that operators use: addresses of nodes, names of alerts.

mod over;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::propose::REMOVED;
use super::shared::{Mastery, Shared};
use super::wire::{decode, encode, kind};
use crate::api::{Examined, Finding, WebAddress};
use crate::document::{Alert, CheckKind, Document};
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::state::State;
use crate::machine::twins::Twins;

/// How long a node may take to examine itself.
const EXAMINE_TIMEOUT: Duration = Duration::from_secs(3);
/// Clocks that are further apart make logs hard to compare.
const OFFSET_MAX_MS: i64 = 5000;
/// Less room than this is told: a log takes up to 8 MiB and is written a second time, with the state, when it is shortened.
const ROOM_MIN: u64 = 64 << 20;
/// A certificate that ends sooner is told.
const CERTIFICATE_DAYS: i64 = 30;

/// What this node says of itself.
pub fn examine(shared: &Shared) -> Examined {
    let home = &shared.home;
    let files = [
        home.node_file(),
        home.cluster_file(),
        home.trust_file(),
        home.keys().join("private.pem"),
    ];
    let open = files.iter().filter_map(|path| {
        let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
        (mode & 0o077 != 0).then(|| format!("{} has mode {mode:04o}; run chmod 600", path.display()))
    });
    let certificate_end =
        pki::Certificate::parse(&shared.identity.certificate().into()).map_or(0, |known| known.not_after);
    let (trouble_ages, troubles) = shared.troubles.recent().into_iter().unzip();
    Examined {
        beat: shared.beat(),
        troubles,
        trouble_ages,
        attempts: shared.troubles.attempts(),
        modes: open.collect(),
        icmp: shared.icmp.clone(),
        certificate_end,
        edit: shared.file.lock().note(),
        tests: shared.tests.all(),
        web: shared.web.as_ref().map(|web| web.seen()),
        unwritten: shared.unwritten(),
        room: room(home.dir()),
    }
}

/// Bytes that are free where this directory is.
fn room(dir: &std::path::Path) -> Option<u64> {
    let known = nix::sys::statvfs::statvfs(dir).ok()?;
    known.blocks_available().checked_mul(known.fragment_size())
}

/// Looks at all nodes.
pub async fn doctor(shared: &Arc<Shared>) -> Vec<Finding> {
    let document = shared.document();
    let mut examined: BTreeMap<NodeId, Result<Examined, String>> = BTreeMap::new();
    examined.insert(shared.me, Ok(examine(shared)));
    for peer in document.peers.iter().filter(|peer| peer.node_id != shared.me) {
        let asked = match shared.transport.get() {
            None => Err("not started".to_owned()),
            Some(transport) => {
                let asked =
                    transport.request(peer.node_id.number(), kind::DOCTOR, encode(&()), EXAMINE_TIMEOUT);
                asked
                    .await
                    .map_err(|error| error.to_string())
                    .and_then(|answer| decode(&answer))
            }
        };
        examined.insert(peer.node_id, asked);
    }
    let view = shared.view();
    let facts = Facts {
        wall: shared.wall(),
        mastery: shared.mastery(),
        document: &document,
        examined: &examined,
        state: view.as_ref().map(|view| &*view.state),
        fresh: view
            .as_ref()
            .map(|view| over::fresh(&view.state, shared.wall()))
            .unwrap_or_default(),
    };
    facts.judge()
}

/// All that is judged.
struct Facts<'a> {
    wall: Millis,
    mastery: Mastery,
    document: &'a Document,
    examined: &'a BTreeMap<NodeId, Result<Examined, String>>,
    state: Option<&'a State>,
    /// Nodes that were added a moment ago.
    fresh: BTreeSet<NodeId>,
}

fn finding(verdict: &str, subject: &str, text: impl Into<String>) -> Finding {
    Finding {
        verdict: verdict.to_owned(),
        subject: subject.to_owned(),
        text: text.into(),
    }
}

fn time(at: Millis) -> String {
    let stamp = jiff::Timestamp::from_millisecond(at as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    stamp.round(jiff::Unit::Second).unwrap_or(stamp).to_string()
}

impl Facts<'_> {
    fn judge(&self) -> Vec<Finding> {
        let mut findings = vec![self.quorum()];
        // Of a cluster that does not know this node there is nothing to say.
        let is_removed = matches!(self.mastery, Mastery::Removed);
        if !is_removed {
            self.reachable(&mut findings);
            findings.extend([
                self.same("config ver", |known| known.beat.version.to_string()),
                self.same("content", |known| known.beat.digest.clone()),
                self.master(),
            ]);
        }
        self.twins(&mut findings);
        for (node, known) in self.there() {
            self.node(&mut findings, node, known);
        }
        let is_quiet = |(node, known): (NodeId, &Examined)| {
            let mut troubles = known.troubles.iter();
            troubles.all(|text| self.is_over(text)) && self.attempts(node, known).next().is_none()
        };
        if self.there().all(is_quiet) {
            findings.push(finding(
                "pass",
                "log",
                "no errors in the last 10 minutes to act upon",
            ));
        }
        if let Some(state) = self.state {
            self.alerts(&mut findings, state);
        }
        findings
    }

    fn name(&self, node: NodeId) -> String {
        let known = self.document.peer(node);
        known.map_or_else(|| node.to_string(), |peer| peer.advertise.clone())
    }

    fn there(&self) -> impl Iterator<Item = (NodeId, &Examined)> {
        let all = self.examined.iter();
        all.filter_map(|(node, known)| Some((*node, known.as_ref().ok()?)))
    }

    /// What to do about nodes that do not answer.
    fn missing(&self) -> String {
        let silent = self.examined.iter().filter(|(_, known)| known.is_err());
        let names: Vec<String> = silent.map(|(node, _)| self.name(*node)).collect();
        if names.is_empty() {
            "look at what qu status says on the other nodes".to_owned()
        } else {
            format!("start the nodes that are missing: {}", names.join(", "))
        }
    }

    fn quorum(&self) -> Finding {
        match self.mastery {
            Mastery::Is(master) => finding("pass", "quorum", format!("true, master {}", self.name(master))),
            Mastery::NoQuorum => finding("fail", "quorum", format!("false; {}", self.missing())),
            Mastery::Election => finding("fail", "quorum", "an election is in progress"),
            Mastery::Removed => finding("fail", "quorum", REMOVED),
        }
    }

    fn reachable(&self, findings: &mut Vec<Finding>) {
        let mut all = true;
        for (node, known) in self.examined {
            if let Err(error) = known {
                all = false;
                let text = self.document.with_addresses(error);
                let verdict = if self.fresh.contains(node) { "warn" } else { "fail" };
                findings.push(finding(
                    verdict,
                    "reachable",
                    format!("{}: {text}", self.name(*node)),
                ));
            }
        }
        if all {
            let text = format!("all {} nodes answer", self.examined.len());
            findings.push(finding("pass", "reachable", text));
        }
    }

    /// Nodes as which two processes run, each once, whoever has found it.
    fn twins(&self, findings: &mut Vec<Finding>) {
        let found = self.there().flat_map(|(_, known)| &known.beat.twins);
        let found: BTreeMap<NodeId, &Twins> = found.map(|twins| (twins.node, twins)).collect();
        findings.extend(
            found
                .values()
                .map(|twins| finding("fail", "copies", twins.to_string())),
        );
    }

    /// Whether all say the same.
    fn same(&self, subject: &str, of: impl Fn(&Examined) -> String) -> Finding {
        let values: Vec<(NodeId, String)> = self.there().map(|(node, known)| (node, of(known))).collect();
        match values.first() {
            Some((_, first)) if values.iter().all(|(_, value)| value == first) => {
                finding("pass", subject, first.clone())
            }
            _ => {
                let each = values
                    .iter()
                    .map(|(node, value)| format!("{} {value}", self.name(*node)));
                // Whoever was just added catches up.
                let mut settled = values.iter().filter(|(node, _)| !self.fresh.contains(node));
                let first = settled.next();
                let others_agree = settled.all(|(_, value)| first.is_some_and(|(_, first)| value == first));
                let verdict = if others_agree { "warn" } else { "fail" };
                finding(verdict, subject, each.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// That nobody has a master is nothing to agree on.
    fn master(&self) -> Finding {
        let none = self.there().all(|(_, known)| known.beat.master.is_none());
        match self.mastery {
            _ if !none => self.same("master", |known| {
                known
                    .beat
                    .master
                    .map_or_else(|| "none".to_owned(), |master| self.name(master))
            }),
            Mastery::NoQuorum | Mastery::Removed => finding(
                "fail",
                "master",
                format!(
                    "none, so nothing is told and nothing can be changed; {}",
                    self.missing()
                ),
            ),
            // Whoever had one a moment ago is in an election as well.
            Mastery::Election | Mastery::Is(_) => finding(
                "warn",
                "master",
                "none at this moment; run qu doctor again when the election is over",
            ),
        }
    }

    fn node(&self, findings: &mut Vec<Finding>, node: NodeId, known: &Examined) {
        let name = self.name(node);
        let mut say = |verdict: &str, subject: &str, text: String| {
            findings.push(finding(verdict, subject, format!("{name}{text}")));
        };
        let peers = self.document.peers.iter().map(|peer| peer.node_id);
        // Who does not answer is told as that, and is heard by nobody.
        let answers = |peer: &NodeId| self.examined.get(peer).is_some_and(Result::is_ok);
        let deaf = peers.filter(|peer| *peer != node && answers(peer) && !known.beat.hears.contains(peer));
        let (new, deaf): (Vec<NodeId>, Vec<NodeId>) =
            deaf.partition(|peer| self.fresh.contains(peer) || self.fresh.contains(&node));
        let names = |nodes: Vec<NodeId>| {
            let names = nodes.into_iter().map(|node| self.name(node));
            names.collect::<Vec<_>>().join(", ")
        };
        if !new.is_empty() {
            say(
                "warn",
                "hears",
                format!(" does not hear {} yet; just added", names(new)),
            );
        }
        if !deaf.is_empty() {
            say("fail", "hears", format!(" does not hear {}", names(deaf)));
        }
        for (position, trouble) in known.troubles.iter().enumerate() {
            let text = self.document.with_addresses(trouble);
            // Older programs do not say when.
            let seen = known.trouble_ages.get(position).map_or_else(String::new, |age| {
                format!("; last seen {}", time(self.wall.saturating_sub(*age)))
            });
            if self.is_over(trouble) {
                say("pass", "log", format!(": {text}{seen}, over"));
            } else {
                say("fail", "log", format!(": {text}{seen}"));
            }
        }
        for attempt in self.attempts(node, known) {
            let text = self.document.with_addresses(attempt);
            say("warn", "log", format!(": {text}; within the last minute"));
        }
        match (&known.unwritten, known.room) {
            (Some(text), _) => say("fail", "disk", format!(": {text}")),
            (None, Some(room)) => {
                let verdict = if room < ROOM_MIN { "warn" } else { "pass" };
                say(verdict, "disk", format!(": {} free", terminal::human_bytes(room)));
            }
            (None, None) => {}
        }
        for mode in &known.modes {
            say("fail", "files", format!(": {mode}"));
        }
        if let Some(edit) = &known.edit {
            // With such a file the daemon does not start again.
            let fails = edit.starts_with(super::file::NOT_APPLIED);
            say(
                if fails { "fail" } else { "warn" },
                "hand edit",
                format!(": {edit}"),
            );
        }
        let mut checks = self.document.checks.iter();
        let uses_icmp = checks.any(|check| check.kind == CheckKind::Icmp);
        let fails = uses_icmp && known.icmp.starts_with("none");
        say(
            if fails { "fail" } else { "pass" },
            "icmp",
            format!(": {}", known.icmp),
        );
        match &known.web {
            None => {}
            Some(WebAddress { address, error: None }) => say("pass", "web_listen", format!(": {address}")),
            Some(WebAddress {
                error: Some(error), ..
            }) => say(
                "warn",
                "web_listen",
                format!(": {error}; it is tried again, or set another web_listen in node.yaml"),
            ),
        }
        let days = (known.certificate_end - self.wall as i64 / 1000) / 86_400;
        let verdict = if days < CERTIFICATE_DAYS { "warn" } else { "pass" };
        say(verdict, "certificate", format!(": ends in {days} days"));
        let offset = known.beat.clock as i64 - self.wall as i64;
        if offset.abs() > OFFSET_MAX_MS {
            say(
                "warn",
                "clock",
                format!(": {} s apart from this node", offset / 1000),
            );
        }
    }

    fn alerts(&self, findings: &mut Vec<Finding>, state: &State) {
        let waiting = state
            .deliveries
            .values()
            .filter(|delivery| delivery.error.is_some());
        let waiting = waiting.count();
        let verdict = if waiting == 0 { "pass" } else { "fail" };
        findings.push(finding(verdict, "alerts", format!("{waiting} undelivered")));
        for alert in &self.document.alerts {
            findings.push(self.alert(state, alert));
        }
    }

    /// Whether an alert has reached anybody: with a message, or with a test from any node.
    fn alert(&self, state: &State, alert: &Alert) -> Finding {
        let name = &alert.name;
        let sent = state.finished.iter().filter(|finished| {
            finished.dropped.is_none() && finished.id.rsplit('/').next() == Some(alert.id.as_str())
        });
        let sent = sent.map(|finished| finished.at).max();
        let tested = self.there().filter_map(|(_, known)| known.tests.get(&alert.id));
        let tested = tested.copied().max();
        match (sent, tested) {
            (Some(sent), tested) if tested.is_none_or(|tested| tested <= sent) => finding(
                "pass",
                "alert",
                format!("{name} has delivered, last {}", time(sent)),
            ),
            (_, Some(tested)) => finding("pass", "alert", format!("{name} took a test at {}", time(tested))),
            (_, None) => finding(
                "warn",
                "alert",
                format!("{name} has delivered nothing yet; run qu alert test {name}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
