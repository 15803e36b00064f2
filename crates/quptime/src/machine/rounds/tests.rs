//! Rounds as words of findings, one letter for each node, and the states they make.

use super::*;
use crate::document::{CheckKind, Peer};
use crate::machine::state::CheckState;
use std::sync::Arc;

struct Stage {
    state: State,
    rounds: Rounds,
    nodes: Vec<NodeId>,
    now: Millis,
}

impl Stage {
    fn new(nodes: usize) -> Stage {
        let nodes: Vec<NodeId> = (1..=nodes)
            .map(|number| {
                format!("{number:08}-0c1d-4e2f-8a3b-4c5d6e7f8091")
                    .parse()
                    .unwrap()
            })
            .collect();
        let peer = |node: &NodeId| Peer {
            node_id: *node,
            advertise: format!("{node}:9901"),
            fingerprint: String::new(),
            cert_pem: String::new(),
            location: None,
        };
        let check = Check {
            id: "c".to_owned(),
            ..Check::new("web", CheckKind::Tcp, "h:1")
        };
        let document = Document {
            peers: nodes.iter().map(peer).collect(),
            checks: vec![check],
            ..Document::default()
        };
        let mut stage = Stage {
            state: State {
                document: Arc::new(document),
                ..State::default()
            },
            rounds: Rounds::default(),
            nodes,
            now: 1_000_000,
        };
        stage.is(Status::Up);
        stage.tick();
        stage
    }

    fn is(&mut self, status: Status) {
        let known = CheckState {
            status,
            ..CheckState::default()
        };
        self.state.checks = Arc::new(BTreeMap::from([("c".to_owned(), Arc::new(known))]));
    }

    /// `+` well, `-` not, `?` unable, a blank for a node that says nothing.
    fn round(&mut self, findings: &str) -> Vec<Verdict> {
        self.report(findings);
        self.tick()
    }

    /// All nodes have begun their probes so long ago.
    fn late_round(&mut self, findings: &str, began: Millis) -> Vec<Verdict> {
        let now = self.now;
        self.now -= began;
        self.report(findings);
        self.now = now;
        self.tick()
    }

    fn report(&mut self, findings: &str) {
        for (node, letter) in self.nodes.clone().into_iter().zip(findings.chars()) {
            let finding = match letter {
                '+' => Finding::Good,
                '-' => Finding::Bad("refused".to_owned()),
                '?' => Finding::Unable("icmp not permitted".to_owned()),
                _ => continue,
            };
            self.rounds.report(self.now, "c", node, finding);
        }
    }

    fn tick(&mut self) -> Vec<Verdict> {
        let live = self.nodes.iter().copied().collect();
        self.rounds.tick(self.now, self.now, &self.state, &live)
    }
}

fn change(verdicts: &[Verdict]) -> Option<Status> {
    verdicts.iter().find_map(|verdict| match verdict {
        Verdict::Change { to, .. } => Some(*to),
        Verdict::LookAgain { .. } => None,
    })
}

#[test]
fn two_rounds_in_a_row_make_a_state() {
    let mut stage = Stage::new(3);
    assert_eq!(
        stage.round("--+"),
        [Verdict::LookAgain {
            check: "c".to_owned()
        }]
    );
    assert_eq!(change(&stage.round("--+")), Some(Status::Down));
    stage.is(Status::Down);
    assert!(stage.round("+++").is_empty(), "ends are not looked at twice");
    assert_eq!(change(&stage.round("+++")), Some(Status::Up));
}

#[test]
fn one_good_round_between_starts_over() {
    let mut stage = Stage::new(3);
    stage.round("---");
    assert!(stage.round("++-").is_empty());
    assert_eq!(change(&stage.round("---")), None);
    assert_eq!(change(&stage.round("---")), Some(Status::Down));
}

#[test]
fn reports_of_one_round_count_once() {
    let mut stage = Stage::new(3);
    stage.report("-");
    stage.report("-");
    stage.report("--");
    assert!(stage.tick().is_empty(), "the third node has not reported");
    assert_eq!(change(&stage.round("---")), None);
    assert!(stage.tick().is_empty());
}

#[test]
fn too_few_reports_say_nothing() {
    let mut stage = Stage::new(3);
    for _ in 0..5 {
        stage.now += 40_001;
        assert_eq!(change(&stage.round("-  ")), None);
    }
    assert!(stage.rounds.last("c").unwrap().is_stale());
    stage.now += 40_001;
    stage.round("-- ");
    assert!(!stage.rounds.last("c").unwrap().is_stale());
    stage.now += 40_001;
    assert_eq!(change(&stage.round("-- ")), Some(Status::Down));
}

#[test]
fn a_tie_keeps_the_state_and_is_well_for_what_is_unknown() {
    let mut stage = Stage::new(4);
    for _ in 0..4 {
        // Three of four are needed.
        assert!(stage.round("++--").is_empty());
    }
    stage.is(Status::Down);
    for _ in 0..4 {
        assert!(stage.round("++--").is_empty());
    }
    stage.is(Status::Unknown);
    stage.round("++--");
    assert_eq!(change(&stage.round("++--")), Some(Status::Up));
}

#[test]
fn a_node_that_cannot_look_does_not_vote() {
    let mut stage = Stage::new(3);
    stage.round("-?+");
    assert_eq!(change(&stage.round("-?+")), None, "one of two is a tie");
    stage.round("--?");
    assert_eq!(change(&stage.round("--?")), Some(Status::Down));
    for _ in 0..3 {
        stage.round("-??");
    }
    assert!(stage.rounds.last("c").unwrap().is_stale());
}

#[test]
fn votes_of_impaired_nodes_are_seen_and_do_not_count() {
    let mut stage = Stage::new(3);
    stage.state.impaired.insert(stage.nodes[0]);
    stage.state.impaired.insert(stage.nodes[1]);
    for _ in 0..3 {
        assert_eq!(change(&stage.round("--+")), None);
    }
    assert_eq!(stage.rounds.last("c").unwrap().votes.len(), 3);
    assert_eq!(stage.rounds.last("c").unwrap().snapshot.reports, 1);
}

#[test]
fn disabled_checks_leave_the_rounds() {
    let mut stage = Stage::new(1);
    let mut document = (*stage.state.document).clone();
    document.checks[0].disabled = true;
    stage.state.document = Arc::new(document);
    for _ in 0..3 {
        assert!(stage.round("-").is_empty());
    }
    assert!(stage.rounds.last("c").is_none());
}

#[test]
fn what_was_found_before_is_no_second_opinion() {
    let mut stage = Stage::new(3);
    stage.round("---");
    stage.now += 500;
    assert!(stage.late_round("---", 501).is_empty(), "these probes had begun");
    stage.now += 1500;
    assert_eq!(change(&stage.round("---")), Some(Status::Down));
}

#[test]
fn what_was_found_before_a_check_was_disabled_does_not_count() {
    let mut stage = Stage::new(1);
    for disabled in [true, false] {
        stage.now += 1000;
        let mut document = (*stage.state.document).clone();
        document.checks[0].disabled = disabled;
        stage.state.document = Arc::new(document);
        stage.tick();
    }
    stage.late_round("-", 1);
    assert_eq!(stage.rounds.last("c").unwrap().number, 0);
    stage.late_round("-", 0);
    assert_eq!(stage.rounds.last("c").unwrap().number, 1);
}
