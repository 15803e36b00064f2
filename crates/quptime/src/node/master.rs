//! What only the master does: verdicts, messages, handing the role over, and members that come and go.
//!
//! Begun anew with each term, and only once everything that was acknowledged before is applied. Whatever is decided here is proposed
//! with the term it was decided in, so nothing of an earlier mastership slips into a later one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use consensus::Change;
use tokio::sync::mpsc;

use super::send;
use super::shared::{Shared, quorum_of};
use super::status;
use super::wire::{Found, Report, encode, kind};
use crate::document::Document;
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::announce;
use crate::machine::command::{Claim, Command, Ending, Settle};
use crate::machine::dispatch::{self, Plan};
use crate::machine::impaired::Judge;
use crate::machine::preference::Candidate;
use crate::machine::rounds::{Finding, Rounds, Verdict};
use crate::machine::state::{Delivery, Outcome, Phase};
use crate::raft::view::View;
use crate::secret::random;
use crate::target::definition;

/// How often the master looks around.
const TURN: Duration = Duration::from_millis(100);
/// How often the table for people is made anew.
const TABLE_EVERY_MS: Millis = 500;
/// How often members are compared with peers.
const MEMBERS_EVERY_MS: Millis = 300;
/// How long a hand-over waits for messages under way.
const FINISH_WAIT: Duration = Duration::from_secs(10);
/// A request to look again is worth nothing later.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// A new master learns nothing from before: reports that are older than this do not count.
const AGE_MAX_MS: Millis = 30_000;

/// Is the master whenever this node leads, until the run ends.
pub async fn run(shared: Arc<Shared>, mut reports: mpsc::Receiver<(NodeId, Vec<Report>)>) {
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watch = RoleWatch::default();
    let mut mastership: Option<Mastership> = None;
    loop {
        tokio::select! {
            _ = turn.tick() => {}
            Some((node, found)) = reports.recv() => {
                if let Some(mastership) = &mut mastership {
                    mastership.take(node, found);
                }
                continue;
            }
            () = shared.stop.cancelled() => return,
        }
        let Some(view) = shared.view() else { continue };
        watch.look(&shared, &view);
        let leads = view.is_master() && view.state.document.version > 0;
        if mastership
            .as_ref()
            .is_some_and(|known| !leads || known.term != view.term)
        {
            mastership = None;
            *shared.table.write() = None;
        }
        if leads && mastership.is_none() {
            mastership = Some(Mastership::new(shared.clone(), &view, watch.regained(&shared)));
        }
        if let Some(mastership) = &mut mastership {
            mastership.turn(&view);
        }
    }
}

/// Follows the role of master from outside: tells changes, and knows when there was none.
#[derive(Default)]
struct RoleWatch {
    master: Option<NodeId>,
    last: Option<NodeId>,
    term: u64,
    /// Since when there is no master.
    without_since: Option<Millis>,
    /// For how long there was none before the present one.
    gap: Millis,
    begun: bool,
}

/// A gap that is longer than any fail-over: quorum was lost, or never there.
const REGAINED_AFTER_MS: Millis = 8000;

impl RoleWatch {
    fn look(&mut self, shared: &Shared, view: &View) {
        let now = shared.now();
        let master = view.leader.and_then(|leader| shared.node_of(leader));
        if !self.begun {
            self.begun = true;
            self.without_since = Some(0);
        }
        if master == self.master && (master.is_none() || view.term == self.term) {
            return;
        }
        let why = match (self.master, master) {
            (Some(old), Some(new)) if old == new => "elected again",
            (Some(_), Some(_)) => "handed over",
            (_, None) => "no leader is heard",
            (None, Some(_)) => "elected",
        };
        let show = |node: Option<NodeId>| node.map_or_else(|| "none".to_owned(), |node| node.to_string());
        tracing::info!(
            target: "quptime",
            old = show(self.master.or(self.last)), new = show(master), term = view.term, reason = why,
            "master changed"
        );
        match master {
            Some(new) => {
                self.gap = self
                    .without_since
                    .take()
                    .map_or(0, |since| now.saturating_sub(since));
                // Who is not there when another one takes over has lost the role; who handed it over has not.
                if let Some(old) = self.last.filter(|old| *old != new && self.master.is_none()) {
                    shared.preference.lock().lost(old, now);
                }
                self.last = Some(new);
            }
            None => self.without_since = Some(now),
        }
        self.master = master;
        self.term = view.term;
    }

    /// When this node became master after there was none for long, or for as long as it runs.
    fn regained(&self, shared: &Shared) -> Option<Millis> {
        let now = shared.now();
        let just_begun = now < REGAINED_AFTER_MS + self.gap && self.gap + 1000 >= now;
        (self.gap >= REGAINED_AFTER_MS || just_begun).then_some(now)
    }
}

struct Mastership {
    shared: Arc<Shared>,
    term: u64,
    rounds: Rounds,
    judge: Judge,
    /// Definitions of checks, of this version of the configuration.
    definitions: BTreeMap<String, u64>,
    document: Arc<Document>,
    /// What is proposed and not answered.
    busy: Arc<parking_lot::Mutex<Busy>>,
    regained: Option<Millis>,
    table_at: Millis,
    members_at: Millis,
}

#[derive(Default)]
struct Busy {
    checks: BTreeSet<String>,
    deliveries: BTreeSet<String>,
    impaired: BTreeSet<NodeId>,
    member: bool,
    handing_over: bool,
}

impl Mastership {
    fn new(shared: Arc<Shared>, view: &View, regained: Option<Millis>) -> Mastership {
        shared.handing_over.send_replace(false);
        Mastership {
            shared,
            term: view.term,
            rounds: Rounds::default(),
            judge: Judge::default(),
            definitions: BTreeMap::new(),
            document: Arc::new(Document::default()),
            busy: Arc::default(),
            regained,
            table_at: 0,
            members_at: 0,
        }
    }

    fn take(&mut self, node: NodeId, reports: Vec<Report>) {
        let now = self.shared.now();
        for report in reports {
            let fits = self.definitions.get(&report.check) == Some(&report.definition);
            if !fits || report.age > AGE_MAX_MS {
                continue;
            }
            let finding = match report.result {
                Found::Up => Finding::Good,
                Found::Down => Finding::Bad(report.detail),
                Found::Unable => Finding::Unable(report.detail),
            };
            self.rounds.report(now, &report.check, node, finding);
        }
    }

    fn turn(&mut self, view: &View) {
        self.follow(view);
        if *self.shared.handing_over.borrow() {
            return;
        }
        let now = self.shared.now();
        self.close_rounds(view, now);
        self.announce(view);
        self.judge_nodes(view);
        self.dispatch(view);
        if now.saturating_sub(self.members_at) >= MEMBERS_EVERY_MS {
            self.members_at = now;
            self.follow_peers(view);
            self.hand_over_if_preferred(view, now);
        }
        if now.saturating_sub(self.table_at) >= TABLE_EVERY_MS || self.table_at == 0 {
            self.table_at = now;
            let table = status::table(&self.shared, &view.state, Some(&self.rounds));
            *self.shared.table.write() = Some(Arc::new(table));
        }
    }

    /// Takes a new configuration: what was reported about changed checks does not count.
    fn follow(&mut self, view: &View) {
        if Arc::ptr_eq(&self.document, &view.state.document) {
            return;
        }
        self.document = view.state.document.clone();
        let checks = self.document.checks.iter();
        let definitions: BTreeMap<String, u64> = checks
            .map(|check| (check.id.clone(), definition(check, &self.document)))
            .collect();
        for (check, old) in &self.definitions {
            if definitions.get(check) != Some(old) {
                self.rounds.forget(check);
            }
        }
        self.definitions = definitions;
    }

    fn close_rounds(&mut self, view: &View, now: Millis) {
        let live: BTreeSet<NodeId> = {
            let (ears, dead_after) = (self.shared.ears.lock(), self.shared.dead_after());
            let peers = view.state.document.peers.iter().map(|peer| peer.node_id);
            peers
                .filter(|node| *node == self.shared.me || ears.is_live(*node, now, dead_after))
                .collect()
        };
        let mut again = Vec::new();
        for verdict in self.rounds.tick(now, &view.state, &live) {
            match verdict {
                Verdict::LookAgain { check } => again.push(check),
                Verdict::Change { check, to, snapshot } => {
                    let Some(known) = view.state.document.checks.iter().find(|known| known.id == check)
                    else {
                        continue;
                    };
                    let incident = || format!("{:016x}", u64::from_be_bytes(random::<8>()));
                    let wall = self.shared.wall();
                    let transition = announce::transition(&view.state, known, to, snapshot, wall, incident);
                    self.propose_for(check, Command::Transition(transition));
                }
            }
        }
        if !again.is_empty() {
            self.look_again(&view.state.document, again);
        }
    }

    fn look_again(&self, document: &Document, checks: Vec<String>) {
        let body = encode(&checks);
        for peer in &document.peers {
            if peer.node_id == self.shared.me {
                // If too many wait, the next round will do.
                drop(self.shared.look_again.try_send(checks.clone()));
                continue;
            }
            let (shared, to, body) = (self.shared.clone(), peer.node_id, body.clone());
            tokio::spawn(async move {
                if let Some(transport) = shared.transport.get() {
                    // Who does not hear it looks again at its own time.
                    drop(
                        transport
                            .request(to.number(), kind::LOOK_AGAIN, body, LOOK_TIMEOUT)
                            .await,
                    );
                }
            });
        }
    }

    fn announce(&self, view: &View) {
        for announce in announce::due(&view.state, &self.rounds, self.shared.wall()) {
            self.propose_for(announce.check.clone(), Command::Announce(announce));
        }
    }

    /// One command at a time for each check.
    fn propose_for(&self, check: String, command: Command) {
        if !self.busy.lock().checks.insert(check.clone()) {
            return;
        }
        let (shared, busy, term) = (self.shared.clone(), self.busy.clone(), self.term);
        tokio::spawn(async move {
            if let Some(core) = shared.core.get()
                && let Ok(applied) = core.propose(command.clone(), Some(term)).await
                && let (Outcome::Done(_), Command::Transition(transition)) = (&applied.outcome, &command)
            {
                tracing::info!(
                    target: "quptime",
                    check = transition.check, to = transition.to.name(), ok = transition.snapshot.ok,
                    reports = transition.snapshot.reports, detail = transition.snapshot.detail,
                    "check changed"
                );
            }
            busy.lock().checks.remove(&check);
        });
    }

    fn judge_nodes(&mut self, view: &View) {
        let checks = view.state.document.checks.iter().filter(|check| !check.disabled);
        let rounds = checks.filter_map(|check| Some((check.id.as_str(), self.rounds.last(&check.id)?)));
        let changes = self
            .judge
            .look(rounds, |node| view.state.impaired.contains(&node));
        for (node, impaired) in changes {
            if !self.busy.lock().impaired.insert(node) {
                continue;
            }
            let (shared, busy, term) = (self.shared.clone(), self.busy.clone(), self.term);
            let command = Command::Impair {
                node,
                impaired,
                at: shared.wall(),
            };
            tokio::spawn(async move {
                if let Some(core) = shared.core.get()
                    && core.propose(command, Some(term)).await.is_ok()
                {
                    tracing::warn!(target: "quptime", node = %node, impaired, "a node finds what the others do not");
                }
                busy.lock().impaired.remove(&node);
            });
        }
    }

    fn dispatch(&self, view: &View) {
        let in_flight = self.busy.lock().deliveries.clone();
        for plan in dispatch::plan(&view.state, self.shared.wall(), self.term, &in_flight) {
            let id = match &plan {
                Plan::Claim(id) => id.clone(),
                Plan::Drop { delivery, .. } => delivery.clone(),
            };
            self.busy.lock().deliveries.insert(id.clone());
            let (shared, busy, term) = (self.shared.clone(), self.busy.clone(), self.term);
            tokio::spawn(async move {
                match plan {
                    Plan::Claim(id) => claim_and_send(&shared, &id, term).await,
                    Plan::Drop { delivery, reason } => {
                        let ending = Ending::Dropped {
                            reason: reason.to_owned(),
                        };
                        settle(&shared, &delivery, term, ending).await;
                    }
                }
                busy.lock().deliveries.remove(&id);
            });
        }
    }

    /// Members follow peers: who is new becomes a learner and, once caught up, a voter; who is not a peer any more leaves.
    fn follow_peers(&self, view: &View) {
        if self.busy.lock().member {
            return;
        }
        let peers: BTreeSet<consensus::NodeId> = view
            .state
            .document
            .peers
            .iter()
            .map(|peer| peer.node_id.number())
            .collect();
        let gone = view
            .members
            .keys()
            .find(|member| !peers.contains(member))
            .copied();
        let new = peers
            .iter()
            .find(|peer| !view.members.contains_key(peer))
            .copied();
        let learner = view.members.iter().find(|(member, voter)| {
            let caught_up = view
                .progress
                .get(member)
                .is_some_and(|progress| progress.caught_up && progress.active);
            !**voter && peers.contains(member) && caught_up
        });
        let change = if let Some(node) = gone {
            Change::Remove { node }
        } else if let Some((node, _)) = learner {
            Change::Promote { node: *node }
        } else if let Some(node) = new {
            Change::AddLearner {
                node,
                context: bytes::Bytes::new(),
            }
        } else {
            return;
        };
        self.busy.lock().member = true;
        let (shared, busy) = (self.shared.clone(), self.busy.clone());
        tokio::spawn(async move {
            if let Some(core) = shared.core.get() {
                match core.change(change.clone()).await {
                    Ok(_) => {
                        tracing::info!(target: "quptime", change = ?change, "membership of the group changes");
                    }
                    // It is tried again at the next look.
                    Err(refusal) => tracing::debug!(target: "quptime", change = ?change, %refusal, "not yet"),
                }
            }
            busy.lock().member = false;
        });
    }

    fn hand_over_if_preferred(&self, view: &View, now: Millis) {
        let document = &view.state.document;
        let (ears, dead_after) = (self.shared.ears.lock(), self.shared.dead_after());
        let candidates = document.peers.iter().filter_map(|peer| {
            let number = peer.node_id.number();
            if view.members.get(&number) != Some(&true) {
                return None;
            }
            let progress = view.progress.get(&number);
            let candidate = Candidate {
                live_since: ears.live_since(peer.node_id, now, dead_after),
                caught_up: progress.is_some_and(|progress| progress.caught_up && progress.active),
                impaired: view.state.impaired.contains(&peer.node_id),
            };
            Some((peer.node_id, candidate))
        });
        let candidates: BTreeMap<NodeId, Candidate> = candidates.collect();
        drop(ears);
        let cooldown = document.settings.cooldown().millis();
        let preference = self.shared.preference.lock();
        let successor = preference.successor(self.shared.me, &candidates, cooldown, self.regained, now);
        drop(preference);
        if let Some(successor) = successor {
            let mut busy = self.busy.lock();
            if !busy.handing_over {
                busy.handing_over = true;
                let (shared, busy) = (self.shared.clone(), self.busy.clone());
                tokio::spawn(async move {
                    hand_over(&shared, &busy, successor).await;
                    busy.lock().handing_over = false;
                });
            }
        }
    }
}

/// Takes no more work, waits for messages under way, and lets another node lead.
async fn hand_over(shared: &Arc<Shared>, busy: &parking_lot::Mutex<Busy>, to: NodeId) {
    tracing::info!(target: "quptime", to = %to, "handing the role of master over");
    shared.handing_over.send_replace(true);
    wait_for(FINISH_WAIT, || busy.lock().deliveries.is_empty()).await;
    if let Some(core) = shared.core.get() {
        if let Err(refusal) = core.transfer(to.number()).await {
            tracing::warn!(target: "quptime", %refusal, "the role was not handed over");
        }
        wait_for(Duration::from_secs(3), || !core.view().is_master()).await;
    }
    shared.handing_over.send_replace(false);
}

/// Lets the best other voter lead before this node stops. Returns when it does, or when there is none.
pub async fn hand_over_before_stopping(shared: &Arc<Shared>) {
    let Some(core) = shared.core.get() else { return };
    let view = core.view();
    if !view.is_master() || quorum_of(&view) < 2 {
        return;
    }
    let successor = {
        let (ears, now, dead_after) = (shared.ears.lock(), shared.now(), shared.dead_after());
        let suits = |node: &NodeId| {
            let number = node.number();
            *node != shared.me
                && view.members.get(&number) == Some(&true)
                && view
                    .progress
                    .get(&number)
                    .is_some_and(|progress| progress.caught_up && progress.active)
                && ears.is_live(*node, now, dead_after)
        };
        let mut peers: Vec<NodeId> = view
            .state
            .document
            .peers
            .iter()
            .map(|peer| peer.node_id)
            .collect();
        peers.sort();
        let well = |node: &&NodeId| suits(node) && !view.state.impaired.contains(node);
        peers
            .iter()
            .find(well)
            .or_else(|| peers.iter().find(|node| suits(node)))
            .copied()
    };
    let Some(successor) = successor else { return };
    tracing::info!(target: "quptime", to = %successor, "handing the role of master over");
    shared.handing_over.send_replace(true);
    let claimed = || {
        let view = core.view();
        let mut waiting = view.state.deliveries.values();
        waiting.any(|delivery| {
            matches!(delivery.phase, Phase::Claimed { term, node, .. } if term == view.term && node == shared.me)
        })
    };
    wait_for(FINISH_WAIT, || !claimed()).await;
    // If it is refused, the others elect one of them when this node is gone.
    drop(core.transfer(successor.number()).await);
    wait_for(Duration::from_secs(3), || !core.view().is_master()).await;
}

async fn wait_for(limit: Duration, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    drop(tokio::time::timeout(limit, waiting).await);
}

async fn claim_and_send(shared: &Arc<Shared>, id: &str, term: u64) {
    let Some(core) = shared.core.get() else { return };
    let claim = Claim {
        delivery: id.to_owned(),
        term,
        node: shared.me,
        at: shared.wall(),
    };
    let Ok(applied) = core.propose(Command::Claim(claim), Some(term)).await else {
        return;
    };
    if !matches!(applied.outcome, Outcome::Done(_)) {
        return;
    }
    let view = core.view();
    // The view is published after the answer; the claim may not show in it yet, but its delivery does.
    let Some(delivery) = view.state.deliveries.get(id) else {
        return;
    };
    let delivery = Delivery {
        // A claim that took over an older one is uncertain from now on.
        uncertain: delivery.uncertain
            || matches!(delivery.phase, Phase::Claimed { term: claimed, .. } if claimed < term),
        ..delivery.clone()
    };
    let attempts = delivery.attempts.max(1);
    let sent = match &shared.sender {
        Ok(sender) => send::attempt(sender, shared.me, &view.state, &delivery).await,
        Err(text) => Err(notify::Failure {
            kind: notify::Kind::Temporary,
            retry_after: None,
            uncertain: false,
            text: text.clone(),
        }),
    };
    let ending = match sent {
        Ok(()) => {
            tracing::info!(target: "quptime", delivery = id, verb = delivery.verb.name(), "delivered");
            Ending::Sent
        }
        Err(failure) => {
            let permanent = failure.kind == notify::Kind::Permanent;
            tracing::error!(target: "quptime", delivery = id, error = failure.text, permanent, "not delivered");
            let asked = failure.retry_after.map(|wait| wait.as_millis() as Millis);
            Ending::Retry {
                due: dispatch::retry_at(shared.wall(), attempts, asked, permanent),
                error: failure.text,
                permanent,
                uncertain: failure.uncertain,
            }
        }
    };
    settle(shared, id, term, ending).await;
}

async fn settle(shared: &Arc<Shared>, id: &str, term: u64, ending: Ending) {
    let Some(core) = shared.core.get() else { return };
    let settle = Settle {
        delivery: id.to_owned(),
        term,
        node: shared.me,
        ending,
        at: shared.wall(),
    };
    // Whoever is master next finds the claim if this was lost.
    drop(core.propose(Command::Settle(settle), Some(term)).await);
}
