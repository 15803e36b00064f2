//! A master alone with a group that this test pretends to be.

use super::*;
use crate::document::{Alert, AlertKind, Check, CheckKind, Document, Peer};
use crate::machine::command::Ending;
use crate::machine::state::{Outcome, Phase, Verb};

const TERM: u64 = 7;

fn node(number: u64) -> NodeId {
    format!("{number:08}-0c1d-4e2f-8a3b-4c5d6e7f8091")
        .parse()
        .unwrap()
}

struct Stage {
    mastery: Mastery,
    state: State,
    members: BTreeMap<consensus::NodeId, Member>,
    live: BTreeMap<NodeId, Millis>,
    now: Millis,
    leads: bool,
}

impl Stage {
    /// The second of three nodes leads; there is one check and one alert.
    fn new() -> Stage {
        let peer = |number| Peer {
            node_id: node(number),
            advertise: format!("{number}:9901"),
            fingerprint: String::new(),
            cert_pem: String::new(),
            location: None,
        };
        let document = Document {
            version: 1,
            peers: (1..=3).map(peer).collect(),
            checks: vec![Check {
                id: "c".to_owned(),
                ..Check::new("web", CheckKind::Tcp, "h:1")
            }],
            alerts: vec![Alert {
                id: "a".to_owned(),
                default: true,
                ..Alert::new("oncall", AlertKind::Discord)
            }],
            ..Document::default()
        };
        let mut stage = Stage {
            mastery: Mastery::new(node(2), 1),
            state: State::begun(document, "cluster".to_owned(), None),
            members: (1..=3)
                .map(|number| {
                    let (voter, ready) = (true, true);
                    (node(number).number(), Member { voter, ready })
                })
                .collect(),
            live: BTreeMap::from([(node(1), 990_000), (node(2), 0), (node(3), 0)]),
            now: 1_000_000,
            leads: true,
        };
        // So that the preferred node is not taken for one that was waited for.
        stage.with(|mastery, look| {
            mastery.role.look(999_000, Some(node(2)), TERM - 1);
            mastery.role.look(999_500, None, TERM - 1);
            mastery.turn(&Look {
                leads: false,
                ..*look
            })
        });
        stage
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Mastery, &Look<'_>) -> T) -> T {
        let look = Look {
            now: self.now,
            wall: self.now,
            term: TERM,
            master: Some(node(2)),
            leads: self.leads,
            state: &self.state,
            members: &self.members,
            live: &self.live,
        };
        act(&mut self.mastery, &look)
    }

    fn turn(&mut self) -> Vec<Action> {
        self.with(Mastery::turn)
    }

    /// Commits what is proposed, but for `lost`; yields what becomes of it and the rest of the actions.
    fn commit(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut rest = Vec::new();
        for action in actions {
            let Action::Propose {
                term,
                ticket,
                command,
            } = action
            else {
                rest.push(action);
                continue;
            };
            let answer = match self.state.apply(&command) {
                Outcome::Done(_) => Answer::Done,
                _ => Answer::Outdated,
            };
            rest.extend(self.with(|mastery, look| mastery.answered(look, term, &ticket, answer)));
        }
        rest
    }

    /// All three nodes find this, and what is decided is committed.
    fn round(&mut self, finding: &Finding) -> Vec<Action> {
        let definition = crate::target::definition(&self.state.document.checks[0], &self.state.document);
        for number in 1..=3 {
            let report = Report {
                check: "c".to_owned(),
                definition,
                age: 0,
                took: 0,
                finding: finding.clone(),
            };
            self.mastery.report(self.now, node(number), vec![report]);
        }
        let actions = self.turn();
        self.commit(actions)
    }

    /// The check is down and its message is about to be claimed.
    fn with_claim() -> (Stage, Vec<Action>) {
        let mut stage = Stage::new();
        stage.turn();
        for _ in 0..2 {
            stage.now += 1000;
            stage.round(&Finding::Bad("refused".to_owned()));
        }
        assert_eq!(stage.state.deliveries.len(), 1);
        stage.now += 100;
        let claims = stage.turn();
        assert!(
            claims.iter().any(|action| matches!(
                action,
                Action::Propose {
                    ticket: Ticket::Delivery(_),
                    ..
                }
            )),
            "{claims:?}"
        );
        (stage, claims)
    }
}

fn sent(actions: &[Action]) -> Option<&Delivery> {
    actions.iter().find_map(|action| match action {
        Action::Send { delivery, .. } => Some(&**delivery),
        _ => None,
    })
}

fn failure(uncertain: bool) -> Failure {
    Failure {
        text: "no route".to_owned(),
        permanent: false,
        uncertain,
        held: false,
        asked: None,
    }
}

#[test]
fn an_outage_is_claimed_sent_and_settled() {
    let (mut stage, claims) = Stage::with_claim();
    let actions = stage.commit(claims);
    let delivery = sent(&actions).expect("it is sent").clone();
    assert_eq!(
        (delivery.verb, delivery.attempts, delivery.uncertain),
        (Verb::Down, 1, false)
    );
    assert!(sent(&stage.turn()).is_none(), "once");
    let settled = stage.with(|mastery, look| mastery.attempted(look, TERM, &delivery.id, Ok(())));
    stage.commit(settled);
    assert!(stage.state.deliveries.is_empty());
    assert_eq!(stage.state.finished.len(), 1);
}

#[test]
fn what_failed_waits_and_is_claimed_again() {
    let (mut stage, claims) = Stage::with_claim();
    let actions = stage.commit(claims);
    let id = sent(&actions).unwrap().id.clone();
    let settled = stage.with(|mastery, look| mastery.attempted(look, TERM, &id, Err(failure(true))));
    stage.commit(settled);
    assert!(stage.state.deliveries[&id].uncertain);
    stage.now += 4999;
    let actions = stage.turn();
    assert!(
        stage
            .commit(actions)
            .iter()
            .all(|action| !matches!(action, Action::Send { .. }))
    );
    stage.now += 1;
    let actions = stage.turn();
    let actions = stage.commit(actions);
    assert!(sent(&actions).unwrap().uncertain, "the second one is marked");
}

#[test]
fn what_was_held_back_on_its_way_is_claimed_once_more_and_not_marked() {
    let (mut stage, claims) = Stage::with_claim();
    let actions = stage.commit(claims);
    let id = sent(&actions).unwrap().id.clone();
    let held = Failure {
        held: true,
        ..failure(false)
    };
    let claims = stage.with(|mastery, look| mastery.attempted(look, TERM, &id, Err(held)));
    assert!(
        matches!(&claims[..], [Action::Propose { command, .. }] if matches!(**command, Command::Claim(_))),
        "{claims:?}"
    );
    let actions = stage.commit(claims);
    let again = sent(&actions).expect("it may be sent now");
    assert!(
        again.id == id && !again.uncertain,
        "nobody has seen it: {again:?}"
    );
}

#[test]
fn a_node_that_stood_still_claims_once_more() {
    let (mut stage, claims) = Stage::with_claim();
    let (_, delivery) = stage.state.deliveries.first_key_value().unwrap();
    let id = delivery.id.clone();
    let apply_late = |stage: &mut Stage, claims: Vec<Action>| {
        let Some(Action::Propose { ticket, command, .. }) = claims.into_iter().next() else {
            panic!("a claim");
        };
        let answer = match stage.state.apply(&command) {
            Outcome::Done(_) => Answer::Done,
            _ => Answer::Outdated,
        };
        stage.now += 1000;
        stage.with(|mastery, look| mastery.answered(look, TERM, &ticket, answer))
    };
    let mut actions = apply_late(&mut stage, claims);
    assert!(sent(&actions).is_none(), "{actions:?}");
    let in_time = stage.commit(actions.clone());
    assert_eq!(sent(&in_time).map(|delivery| delivery.attempts), Some(1));
    // If agreement never gets any quicker it is left for later, and nobody has sent it.
    let (mut stage, claims) = Stage::with_claim();
    actions = claims;
    for _ in 0..5 {
        actions = apply_late(&mut stage, actions);
        assert!(sent(&actions).is_none());
    }
    stage.commit(actions);
    let delivery = &stage.state.deliveries[&id];
    assert!(
        matches!(delivery.phase, Phase::Queued { due } if due == stage.now + 5000),
        "{delivery:?}"
    );
    assert!(!delivery.uncertain);
}

#[test]
fn a_node_that_does_not_lead_any_more_sends_nothing() {
    let (mut stage, claims) = Stage::with_claim();
    stage.leads = false;
    assert!(sent(&stage.commit(claims)).is_none());
    // Another master took the claim over before the answer came.
    let (mut stage, claims) = Stage::with_claim();
    let command = claims.iter().find_map(|action| match action {
        Action::Propose { command, .. } => Some(command.clone()),
        _ => None,
    });
    let Some(Command::Claim(claim)) = command.map(|command| *command) else {
        panic!("a claim: {claims:?}");
    };
    let delivery = claim.delivery.clone();
    for (term, node) in [(TERM, node(2)), (TERM + 1, node(3))] {
        let claim = Command::Claim(crate::machine::command::Claim {
            term,
            node,
            ..claim.clone()
        });
        assert!(matches!(stage.state.apply(&claim), Outcome::Done(_)));
    }
    let ticket = Ticket::Delivery(delivery);
    let actions = stage.with(|mastery, look| mastery.answered(look, TERM, &ticket, Answer::Done));
    assert!(sent(&actions).is_none());
}

#[test]
fn answers_of_an_earlier_reign_change_nothing() {
    let (mut stage, claims) = Stage::with_claim();
    let ticket = Ticket::Delivery(stage.state.deliveries.keys().next().unwrap().clone());
    let actions = stage.with(|mastery, look| mastery.answered(look, TERM - 1, &ticket, Answer::Done));
    assert!(actions.is_empty());
    assert!(
        sent(&stage.commit(claims)).is_some(),
        "the claim is still under way"
    );
}

#[test]
fn a_hand_over_waits_for_messages_under_way_and_begins_no_more() {
    let (mut stage, claims) = Stage::with_claim();
    let actions = stage.commit(claims);
    let id = sent(&actions).unwrap().id.clone();
    stage.mastery.stop();
    let actions = stage.turn();
    let reason = Reason::Stopping;
    assert_eq!(actions, [Action::HandsOver { to: node(1), reason }]);
    assert!(stage.mastery.is_leaving() && !stage.mastery.may_stop());
    stage.now += 1000;
    assert!(stage.turn().is_empty());
    let settled = stage.with(|mastery, look| mastery.attempted(look, TERM, &id, Ok(())));
    assert!(
        matches!(&settled[..], [Action::Propose { command, .. }] if matches!(&**command, Command::Settle(settle) if settle.ending == Ending::Sent))
    );
    stage.commit(settled);
    assert_eq!(stage.turn(), [Action::Transfer { to: node(1) }]);
    assert!(!stage.mastery.may_stop());
    stage.leads = false;
    stage.turn();
    assert!(stage.mastery.may_stop());
}

/// A channel that hangs keeps the role from being handed over for long. Nobody else can judge in that time.
#[test]
fn checks_are_judged_while_a_hand_over_waits() {
    let (mut stage, claims) = Stage::with_claim();
    let actions = stage.commit(claims);
    assert!(sent(&actions).is_some());
    stage.mastery.stop();
    stage.turn();
    assert!(stage.mastery.is_leaving());
    for _ in 0..2 {
        stage.now += 1000;
        let actions = stage.round(&Finding::Good);
        assert!(sent(&actions).is_none(), "{actions:?}");
    }
    assert_eq!(
        stage.state.deliveries.len(),
        2,
        "RECOVERED waits for the next master"
    );
    // Once the other one was asked nothing is begun any more.
    stage.now += 10_000;
    assert_eq!(stage.turn(), [Action::Transfer { to: node(1) }]);
    for _ in 0..2 {
        stage.now += 1000;
        assert!(stage.round(&Finding::Bad("refused".to_owned())).is_empty());
    }
    assert_eq!(stage.state.deliveries.len(), 2);
}

#[test]
fn a_node_that_nobody_can_replace_may_stop() {
    let mut stage = Stage::new();
    stage.turn();
    stage.live.retain(|peer, _| *peer == node(2));
    stage.mastery.stop();
    stage.turn();
    assert!(stage.mastery.may_stop() && !stage.mastery.is_leaving());
    // Nor does it wait for one that does not take the role.
    let mut stage = Stage::new();
    stage.turn();
    stage.mastery.stop();
    let actions = stage.turn();
    assert!(
        matches!(actions[..], [Action::HandsOver { .. }, Action::Transfer { .. }]),
        "{actions:?}"
    );
    stage.now += 2999;
    stage.turn();
    assert!(!stage.mastery.may_stop());
    stage.now += 1;
    stage.turn();
    assert!(stage.mastery.may_stop());
}

#[test]
fn members_follow_peers_one_at_a_time() {
    let mut stage = Stage::new();
    stage.members.remove(&node(1).number());
    stage.members.insert(
        node(3).number(),
        Member {
            voter: false,
            ready: true,
        },
    );
    let changes = |actions: Vec<Action>| -> Vec<consensus::Change> {
        let change = |action| match action {
            Action::ChangeMembers { change, .. } => Some(change),
            _ => None,
        };
        actions.into_iter().filter_map(change).collect()
    };
    let first = changes(stage.turn());
    assert_eq!(
        first,
        [consensus::Change::Promote {
            node: node(3).number()
        }]
    );
    stage.members.insert(
        node(3).number(),
        Member {
            voter: true,
            ready: true,
        },
    );
    stage.now += 1000;
    assert!(changes(stage.turn()).is_empty(), "the first is under way");
    stage.mastery.member_changed(TERM);
    stage.now += 1000;
    let second = changes(stage.turn());
    assert!(
        matches!(second[..], [consensus::Change::AddLearner { node: new, .. }] if new == node(1).number())
    );
}

#[test]
fn a_preferred_node_gets_the_role_after_its_cooldown() {
    let mut stage = Stage::new();
    stage.turn();
    stage.now = 990_000 + 119_999;
    assert!(
        !stage
            .turn()
            .iter()
            .any(|action| matches!(action, Action::HandsOver { .. }))
    );
    stage.now += 1000;
    let (to, reason) = (node(1), Reason::Preferred);
    assert!(stage.turn().contains(&Action::HandsOver { to, reason }));
    assert_eq!(stage.turn(), [Action::Transfer { to }]);
    // It does not take it: this node goes on.
    stage.now += 3000;
    stage.turn();
    assert!(!stage.mastery.is_leaving() && !stage.mastery.may_stop());
}
