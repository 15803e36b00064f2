//! What one master knows and does in one term.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use consensus::Change;

use super::leaving::{self, Leaving, Reason, Step};
use super::{Action, Answer, Failure, Ids, Look, Report, Ticket};
use crate::document::Document;
use crate::identity::NodeId;
use crate::machine::announce::Reminders;
use crate::machine::command::{Claim, Command, Ending, Settle};
use crate::machine::dispatch::{self, Plan, UnderWay, Waits};
use crate::machine::impaired::Judge;
use crate::machine::mutation::broken;
use crate::machine::preference::{Candidate, Preference};
use crate::machine::retell::Retell;
use crate::machine::rounds::{Rounds, Verdict};
use crate::machine::state::Phase;
use crate::machine::{Millis, announce};
use crate::target::definition;

/// For how long a committed claim counts from the moment it was proposed. Voters that have just committed something for their leader
/// elect no other one before the shortest election timeout of the group (1.2 s) is over; this is a little less.
const CLAIM_HOLDS_MS: Millis = 1000;
/// Commits in a row that each took longer than [`CLAIM_HOLDS_MS`], after which the attempt is left for later.
const CLAIM_TRIES_MAX: u32 = 5;
/// How often members are compared with peers, and this node with those that are preferred.
const MEMBERS_EVERY_MS: Millis = 300;

/// See the module.
#[derive(Debug)]
pub(super) struct Reign {
    me: NodeId,
    term: u64,
    rounds: Rounds,
    judge: Judge,
    /// Definitions of checks, of this version of the configuration.
    definitions: BTreeMap<String, u64>,
    document: Arc<Document>,
    /// Checks about which something is proposed.
    busy: BTreeSet<String>,
    /// Nodes whose votes are about to count, or not.
    judged: BTreeSet<NodeId>,
    /// Deliveries that are claimed, attempted or settled at the moment.
    flights: BTreeMap<String, Flight>,
    retell: Retell,
    waits: Waits,
    reminders: Reminders,
    /// Whether a change of members is under way.
    changing: bool,
    leaving: Option<Leaving>,
    /// The node stops, and nobody can take the role, or nobody did.
    gave_up: bool,
    regained: Option<Millis>,
    members_at: Option<Millis>,
}

/// How far a delivery is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Flight {
    /// Its claim is proposed since these moments of both clocks, for the so manieth time.
    Claiming { now: Millis, wall: Millis, tries: u32 },
    /// It is attempted, so many times so far.
    Sending { attempts: u32 },
    /// How the attempt ended is proposed, or that it is given up.
    Settling(Ending),
    /// It was, and that was lost.
    Unsettled(Ending),
}

impl Reign {
    pub(super) fn new(me: NodeId, term: u64, regained: Option<Millis>) -> Reign {
        Reign {
            me,
            term,
            rounds: Rounds::default(),
            judge: Judge::default(),
            definitions: BTreeMap::new(),
            document: Arc::new(Document::default()),
            busy: BTreeSet::new(),
            judged: BTreeSet::new(),
            flights: BTreeMap::new(),
            retell: Retell::default(),
            waits: Waits::default(),
            reminders: Reminders::default(),
            changing: false,
            leaving: None,
            gave_up: false,
            regained,
            members_at: None,
        }
    }

    pub(super) fn term(&self) -> u64 {
        self.term
    }

    pub(super) fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }

    pub(super) fn report(&mut self, now: Millis, node: NodeId, report: Report) {
        if self.definitions.get(&report.check) == Some(&report.definition) {
            let began = now.saturating_sub(report.age + report.took);
            self.rounds.report(began, &report.check, node, report.finding);
        }
    }

    pub(super) fn turn(
        &mut self,
        look: &Look<'_>,
        preference: &Preference,
        ids: &mut Ids,
        actions: &mut Vec<Action>,
    ) {
        self.follow(look);
        if let Some(leaving) = &mut self.leaving {
            match leaving.step(look.now, self.flights.is_empty() && self.retell.is_idle()) {
                // A channel may hang for long, and nobody else judges meanwhile. What comes of it is sent by whoever leads next.
                Step::Wait if !leaving.has_asked() => {
                    self.close_rounds(look, ids, actions);
                    self.announce(look, actions);
                    self.settle_again(look, actions);
                }
                Step::Wait => {}
                Step::Transfer(to) => actions.push(Action::Transfer { to }),
                Step::GiveUp => {
                    self.gave_up = leaving.reason() == Reason::Stopping;
                    self.leaving = None;
                }
            }
            return;
        }
        self.close_rounds(look, ids, actions);
        self.announce(look, actions);
        self.judge_nodes(look, actions);
        self.dispatch(look, actions);
        for delivery in self.retell.look(look.state, look.wall) {
            actions.push(Action::TellAgain {
                term: self.term,
                delivery: Box::new(delivery),
            });
        }
        if is_due(&mut self.members_at, look.now, MEMBERS_EVERY_MS) {
            self.follow_peers(look, actions);
            self.hand_over_if_preferred(look, preference, actions);
        }
    }

    /// Takes a new configuration: what was reported about changed checks does not count.
    fn follow(&mut self, look: &Look<'_>) {
        if Arc::ptr_eq(&self.document, &look.state.document) {
            return;
        }
        self.document = look.state.document.clone();
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

    fn close_rounds(&mut self, look: &Look<'_>, ids: &mut Ids, actions: &mut Vec<Action>) {
        let live: BTreeSet<NodeId> = look.live.keys().copied().collect();
        let mut again = Vec::new();
        for verdict in self.rounds.tick(look.now, look.wall, look.state, &live) {
            match verdict {
                Verdict::LookAgain { check } => again.push(check),
                Verdict::Change { check, to, snapshot } => {
                    let document = &look.state.document;
                    let Some(known) = document.checks.iter().find(|known| known.id == check) else {
                        continue;
                    };
                    let under_way = self.under_way();
                    let transition =
                        announce::transition(look.state, known, to, snapshot, look.wall, &under_way, || {
                            ids.draw()
                        });
                    self.propose_for(check, Command::Transition(transition), actions);
                }
            }
        }
        for check in announce::to_ask(look.state, &self.rounds) {
            self.rounds.ask(look.now, &check);
            again.push(check);
        }
        if !again.is_empty() {
            actions.push(Action::LookAgain(again));
        }
    }

    fn under_way(&self) -> BTreeSet<String> {
        self.flights.keys().cloned().collect()
    }

    fn announce(&mut self, look: &Look<'_>, actions: &mut Vec<Action>) {
        self.reminders.look(look.now, look.wall, look.state);
        let due = announce::due(look.state, &self.rounds, &self.reminders, look.now, look.wall);
        for announce in due {
            self.propose_for(announce.check.clone(), Command::Announce(announce), actions);
        }
    }

    /// One command at a time for each check.
    fn propose_for(&mut self, check: String, command: Command, actions: &mut Vec<Action>) {
        if self.busy.insert(check.clone()) {
            actions.push(self.proposal(Ticket::Check(check), command));
        }
    }

    fn proposal(&self, ticket: Ticket, command: Command) -> Action {
        Action::Propose {
            term: self.term,
            ticket,
            command: Box::new(command),
        }
    }

    fn judge_nodes(&mut self, look: &Look<'_>, actions: &mut Vec<Action>) {
        let checks = look.state.document.checks.iter().filter(|check| !check.disabled);
        let rounds = checks.filter_map(|check| Some((check.id.as_str(), self.rounds.last(&check.id)?)));
        let marked = |node| look.state.impaired.contains(&node);
        for (node, impaired) in self.judge.look(rounds, marked) {
            if self.judged.insert(node) {
                let at = look.wall;
                let command = Command::Impair { node, impaired, at };
                actions.push(self.proposal(Ticket::Node(node), command));
            }
        }
    }

    fn settle_again(&mut self, look: &Look<'_>, actions: &mut Vec<Action>) {
        // How an attempt ended has to be on record, or the next master does not know that there was one.
        let unsettled = self.flights.iter_mut().filter_map(|(delivery, flight)| {
            let Flight::Unsettled(ending) = flight else {
                return None;
            };
            Some((delivery.clone(), ending.clone()))
        });
        for (delivery, ending) in unsettled.collect::<Vec<_>>() {
            actions.push(self.settle(look, &delivery, ending));
        }
    }

    fn dispatch(&mut self, look: &Look<'_>, actions: &mut Vec<Action>) {
        self.settle_again(look, actions);
        self.waits.look(look.now, look.state);
        let under_way = UnderWay {
            deliveries: &self.under_way(),
            checks: &self.busy,
        };
        let times = (look.now, look.wall);
        for plan in dispatch::plan(look.state, times, self.term, under_way, &self.waits) {
            match plan {
                Plan::Claim(delivery) => {
                    let known = look.state.deliveries.get(&delivery);
                    // It is planned again at the next turn.
                    if known.is_none_or(|known| !self.retell.holds_up(&known.check, &known.alert)) {
                        actions.push(self.claim(look, &delivery, 1));
                    }
                }
                Plan::Drop { delivery, reason } => {
                    let reason = reason.to_owned();
                    actions.push(self.settle(look, &delivery, Ending::Dropped { reason }));
                }
            }
        }
    }

    fn claim(&mut self, look: &Look<'_>, delivery: &str, tries: u32) -> Action {
        let (now, wall) = (look.now, look.wall);
        let flight = Flight::Claiming { now, wall, tries };
        self.flights.insert(delivery.to_owned(), flight);
        let claim = Claim {
            delivery: delivery.to_owned(),
            term: self.term,
            node: self.me,
            at: wall,
        };
        self.proposal(Ticket::Delivery(delivery.to_owned()), Command::Claim(claim))
    }

    fn settle(&mut self, look: &Look<'_>, delivery: &str, ending: Ending) -> Action {
        self.flights
            .insert(delivery.to_owned(), Flight::Settling(ending.clone()));
        let settle = Settle {
            delivery: delivery.to_owned(),
            term: self.term,
            node: self.me,
            ending,
            at: look.wall,
        };
        self.proposal(Ticket::Delivery(delivery.to_owned()), Command::Settle(settle))
    }

    pub(super) fn answered(&mut self, look: &Look<'_>, ticket: &Ticket, answer: Answer) -> Vec<Action> {
        match ticket {
            Ticket::Check(check) => {
                self.busy.remove(check);
            }
            Ticket::Node(node) => {
                self.judged.remove(node);
            }
            Ticket::Delivery(delivery) => match self.flights.remove(delivery) {
                // An answer that was lost says that the term is over, or nearly.
                Some(Flight::Claiming { now, wall, tries }) if answer != Answer::Lost => {
                    let waited = look.now.saturating_sub(now).max(look.wall.saturating_sub(wall));
                    return self.claimed(look, delivery, waited, tries).into_iter().collect();
                }
                Some(Flight::Settling(ending)) if answer == Answer::Lost && !broken!(EndsAreForgotten) => {
                    self.flights.insert(delivery.clone(), Flight::Unsettled(ending));
                }
                Some(_) | None => {}
            },
        }
        Vec::new()
    }

    /// A claim is answered after so long: it is sent, claimed once more, or returned.
    fn claimed(&mut self, look: &Look<'_>, id: &str, waited: Millis, tries: u32) -> Option<Action> {
        let delivery = look.state.deliveries.get(id)?;
        let is_own = matches!(delivery.phase, Phase::Claimed { term, node, .. } if term == self.term && node == self.me);
        if !is_own || !look.leads || look.term != self.term {
            return None;
        }
        if waited < CLAIM_HOLDS_MS {
            let attempts = delivery.attempts.max(1);
            self.flights.insert(id.to_owned(), Flight::Sending { attempts });
            return Some(Action::Send {
                term: self.term,
                delivery: Box::new(delivery.clone()),
                decided: look.now,
            });
        }
        if tries < CLAIM_TRIES_MAX {
            return Some(self.claim(look, id, tries + 1));
        }
        let ending = Ending::Retry {
            due: dispatch::retry_at(look.wall, 1, None, false),
            error: "the nodes take too long to agree on who sends".to_owned(),
            permanent: false,
            uncertain: false,
        };
        Some(self.settle(look, id, ending))
    }

    pub(super) fn attempted(
        &mut self,
        look: &Look<'_>,
        delivery: &str,
        result: Result<(), Failure>,
    ) -> Vec<Action> {
        if self.retell.ended(delivery, look.wall, result.is_ok()) {
            return Vec::new();
        }
        let Some(Flight::Sending { attempts }) = self.flights.get(delivery).cloned() else {
            return Vec::new();
        };
        let ending = match result {
            // Whether it still may is asked anew.
            Err(failure) if failure.held => return vec![self.claim(look, delivery, 1)],
            Ok(()) => Ending::Sent,
            Err(failure) => Ending::Retry {
                due: dispatch::retry_at(look.wall, attempts, failure.asked, failure.permanent),
                error: failure.text,
                permanent: failure.permanent,
                uncertain: failure.uncertain,
            },
        };
        vec![self.settle(look, delivery, ending)]
    }

    /// Members follow peers: who is new becomes a learner and, once caught up, a voter. Who is not a peer any more has left already:
    /// see `raft/core/members.rs`.
    fn follow_peers(&mut self, look: &Look<'_>, actions: &mut Vec<Action>) {
        if self.changing {
            return;
        }
        let peers = look.state.document.peers.iter();
        let peers: BTreeSet<consensus::NodeId> = peers.map(|peer| peer.node_id.number()).collect();
        let new = peers.iter().find(|peer| !look.members.contains_key(peer));
        let mut members = look.members.iter();
        let learner = members.find(|(node, member)| !member.voter && member.ready && peers.contains(node));
        let change = if let Some((node, _)) = learner {
            Change::Promote { node: *node }
        } else if let Some(node) = new {
            Change::AddLearner {
                node: *node,
                context: bytes::Bytes::new(),
            }
        } else {
            return;
        };
        self.changing = true;
        actions.push(Action::ChangeMembers {
            term: self.term,
            change,
        });
    }

    pub(super) fn member_changed(&mut self) {
        self.changing = false;
    }

    fn hand_over_if_preferred(
        &mut self,
        look: &Look<'_>,
        preference: &Preference,
        actions: &mut Vec<Action>,
    ) {
        let document = &look.state.document;
        let candidates = document.peers.iter().filter_map(|peer| {
            let member = look.members.get(&peer.node_id.number())?;
            let candidate = Candidate {
                live_since: look.live.get(&peer.node_id).copied(),
                caught_up: member.ready,
                impaired: look.state.impaired.contains(&peer.node_id),
            };
            member.voter.then_some((peer.node_id, candidate))
        });
        let candidates: BTreeMap<NodeId, Candidate> = candidates.collect();
        let cooldown = document.settings.cooldown().millis();
        let successor = preference.successor(self.me, &candidates, cooldown, self.regained, look.now);
        if let Some(to) = successor {
            self.hand_over(look, to, Reason::Preferred, actions);
        }
    }

    /// Hands over because the node stops, unless that is under way, or was tried in vain.
    pub(super) fn leave(&mut self, look: &Look<'_>, actions: &mut Vec<Action>) {
        if self.leaving.is_some() || self.gave_up {
            return;
        }
        match leaving::successor(self.me, look) {
            Some(to) => self.hand_over(look, to, Reason::Stopping, actions),
            None => self.gave_up = true,
        }
    }

    fn hand_over(&mut self, look: &Look<'_>, to: NodeId, reason: Reason, actions: &mut Vec<Action>) {
        self.leaving = Some(Leaving::new(to, reason, look.now));
        actions.push(Action::HandsOver { to, reason });
    }
}

/// Whether something that is done so often is due; takes note if so.
fn is_due(last: &mut Option<Millis>, now: Millis, every: Millis) -> bool {
    let due = last.is_none_or(|last| now.saturating_sub(last) >= every);
    if due {
        *last = Some(now);
    }
    due
}
