//! What is told when, by example.

use super::*;
use crate::document::{Alert, AlertKind, Change, CheckKind, Document, Entry};
use crate::duration::Span;
use crate::identity::NodeId;
use crate::machine::command::{Command, Configure};
use crate::machine::mutation::{BROKEN, Mutation};
use crate::machine::rounds::Finding;
use crate::machine::state::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod flapping;

/// A morning, as UNIX time in milliseconds: windows are written as times of day.
const NOW: Millis = 1_778_853_600_000;

struct Stage {
    state: State,
    rounds: Rounds,
    reminders: Reminders,
    now: Millis,
    /// Where the clock was set to last: by how much it is ahead of what it was.
    ahead: i64,
}

fn node() -> NodeId {
    "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091".parse().unwrap()
}

impl Stage {
    fn new(edit: impl FnOnce(&mut Document)) -> Stage {
        let check = |id: &str| Check {
            id: id.to_owned(),
            ..Check::new(format!("name-{id}"), CheckKind::Tcp, "h:1")
        };
        let alert = Alert {
            id: "a".to_owned(),
            default: true,
            ..Alert::new("oncall", AlertKind::Discord)
        };
        let mut document = Document {
            peers: vec![crate::document::Peer {
                node_id: node(),
                advertise: "a:1".to_owned(),
                fingerprint: String::new(),
                cert_pem: String::new(),
                location: None,
            }],
            checks: vec![check("c"), check("gateway")],
            alerts: vec![alert],
            ..Document::default()
        };
        edit(&mut document);
        let checks = document
            .checks
            .iter()
            .map(|check| (check.id.clone(), Arc::default()));
        let checks: BTreeMap<String, Arc<CheckState>> = checks.collect();
        Stage {
            state: State {
                document: Arc::new(document),
                checks: Arc::new(checks),
                ..State::default()
            },
            rounds: Rounds::default(),
            reminders: Reminders::default(),
            now: NOW,
            ahead: 0,
        }
    }

    /// The check becomes this; yields what is told at once.
    fn becomes(&mut self, check: &str, to: Status) -> Vec<Verb> {
        let check = self.state.document.check(check).unwrap().clone();
        let nothing = BTreeSet::new();
        let command = transition(
            &self.state,
            &check,
            to,
            Snapshot::default(),
            self.wall(),
            &nothing,
            || "i".to_owned(),
        );
        let verbs = command.deliveries.iter().map(|new| new.verb).collect();
        assert!(matches!(
            self.state.apply(&Command::Transition(command)),
            Outcome::Done(_)
        ));
        verbs
    }

    /// What is due, carried out.
    fn due(&mut self) -> Vec<Verb> {
        let wall = self.wall();
        self.reminders.look(self.now, wall, &self.state);
        let announces = due(&self.state, &self.rounds, &self.reminders, self.now, wall);
        let verbs = announces.iter().map(|announce| announce.verb).collect();
        for announce in announces {
            assert!(matches!(
                self.state.apply(&Command::Announce(announce)),
                Outcome::Done(_)
            ));
        }
        verbs
    }

    /// All channels have taken what was told.
    fn taken(&mut self) {
        Arc::make_mut(&mut self.state.deliveries).clear();
    }

    fn wall(&self) -> Millis {
        self.now.checked_add_signed(self.ahead).unwrap()
    }

    /// Reminders of so many minutes, looked at every minute: when they came.
    fn reminded(&mut self, minutes: u64) -> Vec<u64> {
        let due = (1..=minutes).filter(|_| {
            self.now += 60_000;
            let verbs = self.due();
            assert!(verbs.is_empty() || verbs == [Verb::Reminder], "{verbs:?}");
            !verbs.is_empty()
        });
        due.collect()
    }

    fn set_disabled(&mut self, check: &str, disabled: bool) {
        let entry = |check: &Check| Entry::Check(Box::new(check.clone()));
        let known = self.state.document.check(check).unwrap().clone();
        let wanted = Check {
            disabled,
            ..known.clone()
        };
        let outcome = self.state.apply(&Command::Configure(Configure {
            changes: vec![Change::edit(entry(&known), entry(&wanted))],
            by: node(),
            uid: None,
            what: String::new(),
            at: String::new(),
            schema: 1,
            closes: Some(self.now),
            leaves: None,
            bytes_max: None,
            insists: false,
        }));
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    }

    /// Who is asked to look again now.
    fn ask(&mut self) -> Vec<String> {
        let asked = to_ask(&self.state, &self.rounds);
        for check in &asked {
            self.rounds.ask(self.now, check);
        }
        asked
    }

    fn round_of(&mut self, check: &str, finding: Finding) {
        self.tick();
        self.rounds.report(self.now, check, node(), finding);
        self.tick();
    }

    fn tick(&mut self) {
        let live = BTreeSet::from([node()]);
        self.rounds.tick(self.now, self.now, &self.state, &live);
    }

    fn bad() -> Finding {
        Finding::Bad("refused".to_owned())
    }
}

#[test]
fn an_outage_is_told_and_so_is_its_end() {
    let mut stage = Stage::new(|_| {});
    assert!(stage.becomes("c", Status::Up).is_empty(), "nobody asked");
    assert_eq!(stage.becomes("c", Status::Down), [Verb::Down]);
    assert!(stage.due().is_empty());
    assert_eq!(stage.becomes("c", Status::Up), [Verb::Recovered]);
}

#[test]
fn unknown_to_down_is_an_outage() {
    let mut stage = Stage::new(|_| {});
    assert_eq!(stage.becomes("c", Status::Down), [Verb::Down]);
}

fn window(document: &mut Document) {
    document.maintenance.push(Window {
        id: "w".to_owned(),
        name: "work".to_owned(),
        checks: vec!["c".to_owned()],
        group: None,
        start: "2026-05-15T13:00:00Z".to_owned(),
        end: "2026-05-15T15:00:00Z".to_owned(),
        pause: false,
    });
}

#[test]
fn announced_work_is_quiet_and_what_stays_broken_is_told_at_its_end() {
    let mut stage = Stage::new(window);
    assert!(stage.becomes("c", Status::Down).is_empty());
    assert!(stage.due().is_empty());
    assert!(stage.becomes("c", Status::Up).is_empty(), "nobody was told");
    assert!(stage.becomes("c", Status::Down).is_empty());
    stage.round_of("c", Stage::bad());
    stage.now += 3_600_000;
    stage.tick();
    assert!(stage.due().is_empty(), "that round was before the end");
    stage.now += 30_000;
    stage.round_of("c", Stage::bad());
    assert_eq!(stage.due(), [Verb::Down]);
    assert!(stage.due().is_empty());
    assert_eq!(stage.becomes("c", Status::Up), [Verb::Recovered]);
}

#[test]
fn a_check_is_silent_while_what_it_depends_on_is_worked_on() {
    let mut stage = Stage::new(|document| {
        window(document);
        document.maintenance[0].checks = vec!["gateway".to_owned()];
        document.checks[0].depends_on = vec!["gateway".to_owned()];
    });
    stage.becomes("gateway", Status::Up);
    stage.becomes("c", Status::Up);
    assert!(stage.becomes("c", Status::Down).is_empty());
    for _ in 0..3 {
        stage.now += 30_000;
        stage.round_of("gateway", Finding::Good);
        stage.round_of("c", Stage::bad());
        assert!(stage.due().is_empty());
    }
    stage.now += 3_600_000;
    stage.tick();
    stage.now += 30_000;
    stage.round_of("gateway", Finding::Good);
    stage.round_of("c", Stage::bad());
    assert_eq!(stage.due(), [Verb::Down], "the work is over");
}

#[test]
fn an_outage_told_before_the_work_is_not_told_again() {
    let mut stage = Stage::new(window);
    stage.now -= 7_200_000;
    assert_eq!(stage.becomes("c", Status::Down), [Verb::Down]);
    stage.now += 7_200_000;
    assert!(stage.due().is_empty());
    stage.now += 7_200_000;
    assert!(stage.due().is_empty());
    assert_eq!(stage.becomes("c", Status::Up), [Verb::Recovered]);
}

fn depends(document: &mut Document) {
    document.checks[0].depends_on = vec!["gateway".to_owned()];
}

#[test]
fn a_child_is_silent_while_its_parent_is_down() {
    let mut stage = Stage::new(depends);
    stage.becomes("gateway", Status::Up);
    stage.tick();
    stage.now += 1000;
    assert!(
        stage.becomes("c", Status::Down).is_empty(),
        "held for a round of the parent"
    );
    stage.tick();
    assert_eq!(stage.ask(), ["gateway"]);
    assert_eq!(stage.becomes("gateway", Status::Down), [Verb::Down]);
    stage.now += 60_000;
    stage.round_of("gateway", Stage::bad());
    stage.round_of("c", Stage::bad());
    assert!(stage.due().is_empty());
    assert_eq!(stage.becomes("gateway", Status::Up), [Verb::Recovered]);
    stage.tick();
    assert!(stage.due().is_empty(), "its last round was bad");
    stage.now += 30_000;
    stage.round_of("gateway", Finding::Good);
    assert!(stage.due().is_empty(), "it may have come back with its parent");
    assert_eq!(stage.ask(), ["c"]);
    stage.now += 30_000;
    stage.round_of("c", Stage::bad());
    assert_eq!(stage.due(), [Verb::Down], "it is broken by itself");
}

#[test]
fn a_child_that_comes_back_with_its_parent_is_never_told() {
    let mut stage = Stage::new(depends);
    for check in ["gateway", "c"] {
        stage.becomes(check, Status::Up);
    }
    stage.tick();
    stage.becomes("gateway", Status::Down);
    assert!(stage.becomes("c", Status::Down).is_empty());
    stage.now += 30_000;
    stage.round_of("c", Stage::bad());
    stage.becomes("gateway", Status::Up);
    stage.now += 1000;
    stage.round_of("gateway", Finding::Good);
    assert!(stage.due().is_empty());
    stage.now += 1000;
    stage.round_of("c", Finding::Good);
    assert!(stage.due().is_empty());
    assert!(stage.becomes("c", Status::Up).is_empty());
}

#[test]
fn a_child_alone_is_told_after_a_round_of_its_parent_and_one_of_its_own() {
    let mut stage = Stage::new(depends);
    stage.becomes("gateway", Status::Up);
    stage.round_of("gateway", Finding::Good);
    stage.now += 1000;
    stage.becomes("c", Status::Down);
    stage.tick();
    assert!(stage.due().is_empty(), "that round was before");
    assert_eq!(stage.ask(), ["gateway"]);
    stage.now += 30_000;
    stage.round_of("gateway", Finding::Good);
    stage.round_of("c", Stage::bad());
    assert!(stage.due().is_empty(), "it looked at the same time as its parent");
    assert_eq!(stage.ask(), ["c"]);
    stage.now += 1000;
    stage.round_of("c", Stage::bad());
    assert_eq!(stage.due(), [Verb::Down]);
}

#[test]
fn an_outage_of_the_parent_that_nobody_noticed_excuses_its_child_too() {
    let mut stage = Stage::new(depends);
    for check in ["gateway", "c"] {
        stage.becomes(check, Status::Up);
        stage.round_of(check, Finding::Good);
    }
    // The parent is out between two of its own rounds.
    stage.now += 1000;
    assert!(stage.becomes("c", Status::Down).is_empty());
    stage.tick();
    assert_eq!(stage.ask(), ["gateway"]);
    stage.now += 1000;
    stage.round_of("c", Stage::bad());
    stage.now += 1000;
    stage.round_of("gateway", Finding::Good);
    assert!(stage.due().is_empty(), "the parent may have come back since");
    assert_eq!(stage.ask(), ["c"]);
    stage.now += 1000;
    stage.round_of("c", Finding::Good);
    assert!(stage.due().is_empty());
    assert!(stage.becomes("c", Status::Up).is_empty());
}

#[test]
fn a_parent_of_which_nothing_is_heard_excuses_nobody_for_ever() {
    let mut stage = Stage::new(depends);
    stage.tick();
    stage.becomes("c", Status::Down);
    stage.tick();
    for _ in 0..2 {
        assert!(stage.due().is_empty());
        stage.now += 40_000;
        stage.round_of("c", Stage::bad());
    }
    assert_eq!(stage.due(), [Verb::Down]);
}

#[test]
fn checks_that_depend_on_each_other_do_not_silence_each_other() {
    let mut stage = Stage::new(|document| {
        depends(document);
        document.checks[1].depends_on = vec!["c".to_owned()];
    });
    assert_eq!(stage.becomes("c", Status::Down), [Verb::Down]);
    assert_eq!(stage.becomes("gateway", Status::Down), [Verb::Down]);
}

#[test]
fn reminders_until_somebody_works_on_it() {
    let remind = |document: &mut Document| document.checks[0].remind_every = Some(Span::from_secs(600));
    let mut stage = Stage::new(remind);
    stage.becomes("c", Status::Down);
    stage.now += 600_000;
    assert_eq!(stage.due(), [Verb::Reminder]);
    let ids: Vec<&String> = stage.state.deliveries.keys().collect();
    assert_eq!(
        ids,
        ["c/1/a"],
        "who has not got the first message is not reminded"
    );
    stage.state.deliveries = Arc::default();
    stage.now += 599_999;
    assert!(stage.due().is_empty());
    stage.now += 1;
    assert_eq!(stage.due(), [Verb::Reminder]);
    let acknowledge = crate::machine::command::Acknowledge {
        check: "c".to_owned(),
        note: "on it".to_owned(),
        until: None,
        at: stage.now,
        uid: None,
        by: None,
    };
    stage.state.apply(&Command::Acknowledge(acknowledge));
    stage.now += 600_000;
    assert!(stage.due().is_empty());
    let ids: Vec<&String> = stage.state.deliveries.keys().collect();
    assert_eq!(ids, ["c/1.2/a"]);
}

#[test]
fn an_escalation_that_is_not_due_has_no_end() {
    let mut stage = Stage::new(|document| document.alerts[0].after = Some(Span::from_secs(900)));
    assert_eq!(stage.becomes("c", Status::Down), [Verb::Down]);
    stage.now += 1000;
    assert!(stage.becomes("c", Status::Up).is_empty());
    assert_eq!(stage.becomes("c", Status::Down), [Verb::Down]);
}

#[test]
fn only_who_was_told_of_an_outage_is_told_of_its_end() {
    let mut stage = Stage::new(|document| {
        let late = Alert {
            id: "late".to_owned(),
            default: true,
            after: Some(Span::from_secs(900)),
            ..Alert::new("boss", AlertKind::Discord)
        };
        document.alerts.push(late);
    });
    stage.becomes("c", Status::Down);
    // Acknowledged, so the escalation is dropped when it is looked at.
    let dropped = Command::Settle(crate::machine::command::Settle {
        delivery: "c/1/late".to_owned(),
        term: 1,
        node: node(),
        ending: crate::machine::command::Ending::Dropped {
            reason: "acknowledged before it was due".to_owned(),
        },
        at: stage.now,
    });
    assert!(matches!(stage.state.apply(&dropped), Outcome::Done(_)));
    // An alert that is attached meanwhile was not told either; one that is detached was.
    let mut document = (*stage.state.document).clone();
    document.alerts[0].default = false;
    document.alerts.push(Alert {
        id: "new".to_owned(),
        default: true,
        ..Alert::new("new", AlertKind::Discord)
    });
    stage.state.document = Arc::new(document);
    stage.now += 3_600_000;
    assert_eq!(stage.becomes("c", Status::Up), [Verb::Recovered]);
    assert!(stage.state.deliveries.contains_key("c/2/a"));
}

#[test]
fn an_outage_that_outlasts_being_disabled_is_told_after_a_round() {
    for well in [false, true] {
        let mut stage = Stage::new(|_| {});
        stage.becomes("c", Status::Up);
        assert_eq!(stage.becomes("c", Status::Down), [Verb::Down]);
        stage.set_disabled("c", true);
        stage.tick();
        assert!(stage.due().is_empty());
        stage.now += 30_000;
        stage.set_disabled("c", false);
        stage.tick();
        assert!(stage.due().is_empty(), "nobody has looked yet");
        stage.now += 30_000;
        stage.round_of("c", if well { Finding::Good } else { Stage::bad() });
        if well {
            assert!(stage.becomes("c", Status::Up).is_empty(), "it was closed");
        } else {
            assert_eq!(stage.due(), [Verb::Down]);
            assert_eq!(stage.becomes("c", Status::Up), [Verb::Recovered]);
        }
    }
}

#[test]
fn a_clock_that_is_set_moves_no_reminder() {
    const HOUR: i64 = 3_600_000;
    for jump in [HOUR, -HOUR, 24 * HOUR] {
        let mut stage = Stage::new(|document| {
            document.checks[0].remind_every = Some(Span::from_secs(20 * 60));
        });
        // Everything is taken at once: whoever has not got the last message needs no reminder.
        stage.becomes("c", Status::Down);
        stage.taken();
        assert!(stage.due().is_empty());
        assert_eq!(stage.reminded(5), [0; 0]);
        stage.ahead += jump;
        assert_eq!(stage.reminded(16), [15], "clock set by {jump} ms");
        stage.taken();
        stage.ahead -= jump;
        assert_eq!(stage.reminded(20), [19], "clock set back by {jump} ms");
    }
}

#[test]
fn a_master_whose_clock_differs_reminds_once_early_or_one_interval_late() {
    for (ahead, minutes) in [(3_600_000, 1), (-3_600_000, 21)] {
        let mut stage = Stage::new(|document| {
            document.checks[0].remind_every = Some(Span::from_secs(20 * 60));
        });
        stage.becomes("c", Status::Down);
        stage.taken();
        assert_eq!(stage.reminded(10), [0; 0]);
        // Another node is master from now on.
        (stage.ahead, stage.reminders) = (ahead, Reminders::default());
        assert_eq!(stage.reminded(minutes), [minutes], "clock ahead by {ahead} ms");
        stage.taken();
        assert_eq!(stage.reminded(20), [20], "and as always from then on");
    }
}

#[test]
fn a_reminder_that_follows_the_clock_is_noticed() {
    BROKEN.set(Mutation::RemindersFollowClock);
    let noticed = std::panic::catch_unwind(a_clock_that_is_set_moves_no_reminder);
    BROKEN.set(Mutation::None);
    assert!(noticed.is_err());
}
