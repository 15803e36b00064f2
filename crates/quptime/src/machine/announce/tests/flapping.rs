//! Checks that come and go, and what becomes of them when damping is switched off or on meanwhile.

use super::*;

impl Stage {
    /// Comes and goes until that is told, and then is this.
    fn flaps(&mut self, check: &str, then: Status) {
        let mut told = Vec::new();
        let mut to = then;
        for _ in 0..=FLAP_TRANSITIONS + usize::from(then == Status::Down) {
            to = if to == Status::Down {
                Status::Up
            } else {
                Status::Down
            };
            self.now += 5000;
            self.becomes(check, to);
            told.extend(self.due());
        }
        self.now += 5000;
        if to != then {
            assert!(self.becomes(check, then).is_empty(), "it flaps");
        }
        assert_eq!(told, [Verb::Flapping]);
        self.taken();
        self.tick();
        assert_eq!(self.due(), []);
    }

    fn damp(&mut self, damping: Option<bool>) {
        Arc::make_mut(&mut self.state.document).settings.flap_damping = damping;
    }

    /// What waits: the word, the incident it is about, and whom it is for.
    fn queued(&self) -> Vec<(Verb, &str, &str, bool)> {
        let deliveries = self.state.deliveries.values();
        deliveries
            .map(|delivery| {
                let at_once = matches!(delivery.phase, Phase::Queued { due } if due == delivery.at);
                let incident = delivery.incident.as_deref().unwrap_or_default();
                (delivery.verb, incident, delivery.alert.as_str(), at_once)
            })
            .collect()
    }
}

#[test]
fn what_comes_and_goes_is_told_once() {
    let mut stage = Stage::new(|_| {});
    let mut told = Vec::new();
    for _ in 0..20 {
        for to in [Status::Down, Status::Up] {
            stage.now += 5000;
            told.extend(stage.becomes("c", to));
            told.extend(stage.due());
        }
    }
    assert_eq!(told.iter().filter(|verb| **verb == Verb::Flapping).count(), 1);
    assert_eq!(told.len(), FLAP_TRANSITIONS + 1, "{told:?}");
    stage.now += 5000;
    assert!(stage.becomes("c", Status::Down).is_empty());
    stage.tick();
    stage.now += FLAP_WINDOW_MS - 1;
    stage.round_of("c", Stage::bad());
    assert!(stage.due().is_empty());
    stage.now += 1;
    assert_eq!(stage.due(), [Verb::Stable]);
    assert_eq!(stage.becomes("c", Status::Up), [Verb::Recovered]);
}

#[test]
fn damping_can_be_turned_off() {
    let mut stage = Stage::new(|document| document.settings.flap_damping = Some(false));
    stage.becomes("c", Status::Up);
    for _ in 0..2 * FLAP_TRANSITIONS {
        stage.now += 1000;
        assert_eq!(stage.becomes("c", Status::Down), [Verb::Down]);
        stage.now += 1000;
        assert_eq!(stage.becomes("c", Status::Up), [Verb::Recovered]);
        assert_eq!(stage.due(), []);
    }
}

/// What FLAPPING opened goes on under the same name, so that what ends it closes it on every channel.
fn name_of_that_time(stage: &Stage) -> String {
    format!("flapping-c-{}", stage.state.checks["c"].flapping.unwrap())
}

#[test]
fn a_check_that_is_up_when_damping_is_switched_off_is_told_stable_once() {
    let mut stage = Stage::new(|_| {});
    stage.flaps("c", Status::Up);
    let name = name_of_that_time(&stage);
    stage.damp(Some(false));
    assert_eq!(stage.due(), [Verb::Stable]);
    assert_eq!(stage.queued(), [(Verb::Stable, name.as_str(), "a", true)]);
    assert_eq!(stage.due(), [], "nor does another master tell it again");
    stage.now += 1000;
    assert_eq!(stage.becomes("c", Status::Down), [Verb::Down]);
    assert_eq!(stage.becomes("c", Status::Up), [Verb::Recovered]);
}

#[test]
fn a_check_that_is_down_when_damping_is_switched_off_is_told_down_once() {
    let mut stage = Stage::new(|document| {
        document.alerts.push(Alert {
            id: "boss".to_owned(),
            default: true,
            after: Some(Span::from_secs(900)),
            ..Alert::new("boss", AlertKind::Discord)
        });
    });
    stage.flaps("c", Status::Down);
    let name = name_of_that_time(&stage);
    stage.now += 5000;
    stage.round_of("c", Stage::bad());
    assert_eq!(stage.due(), []);
    stage.damp(Some(false));
    stage.due();
    // Whoever was told that it flaps is told at once how that ends: RECOVERED shall close it for them too.
    let expected = [
        (Verb::Down, name.as_str(), "a", true),
        (Verb::Down, name.as_str(), "boss", true),
    ];
    assert_eq!(stage.queued(), expected);
    assert_eq!(stage.due(), []);
    let incident = stage.state.checks["c"].incident.clone().unwrap();
    assert!(incident.announced && incident.held.is_none(), "{incident:?}");
    stage.taken();
    assert_eq!(stage.becomes("c", Status::Up), [Verb::Recovered, Verb::Recovered]);
    assert_eq!(stage.queued()[0].1, name);
}

#[test]
fn a_new_master_looks_once_before_it_tells_what_damping_held() {
    let mut stage = Stage::new(|_| {});
    stage.flaps("c", Status::Down);
    stage.damp(Some(false));
    stage.rounds = Rounds::default();
    stage.tick();
    assert_eq!(stage.due(), [], "it has seen nothing yet");
    stage.now += 5000;
    stage.round_of("c", Stage::bad());
    stage.due();
    assert_eq!(stage.queued().len(), 1);
    assert_eq!(stage.queued()[0].0, Verb::Down);
}

#[test]
fn what_flapped_is_silent_without_damping_too_while_it_is_excused() {
    let mut stage = Stage::new(depends);
    stage.becomes("gateway", Status::Up);
    stage.flaps("c", Status::Down);
    stage.taken();
    stage.becomes("gateway", Status::Down);
    stage.taken();
    stage.damp(Some(false));
    stage.now += 30_000;
    stage.round_of("c", Stage::bad());
    stage.round_of("gateway", Stage::bad());
    assert_eq!(stage.due(), [], "what it depends on is down");
    let held = held_by(&stage.state, &stage.state.document.checks[0], stage.now);
    assert_eq!(held, Some(Hold::Dependency("gateway".to_owned())));
    // The same with announced work.
    stage.becomes("gateway", Status::Up);
    stage.becomes("c", Status::Up);
    window(Arc::make_mut(&mut stage.state.document));
    stage.taken();
    assert_eq!(stage.due(), []);
    stage.now += 3_600_000;
    assert_eq!(stage.due(), [Verb::Stable]);
}

#[test]
fn an_outage_held_for_the_change_too_many_is_told_when_damping_is_switched_off() {
    let mut stage = Stage::new(|_| {});
    for number in 0..=FLAP_TRANSITIONS {
        let to = if number % 2 == 0 { Status::Down } else { Status::Up };
        stage.now += 5000;
        stage.becomes("c", to);
    }
    stage.tick();
    stage.taken();
    // It would have been told as flapping at the next look.
    stage.damp(Some(false));
    stage.now += 5000;
    stage.round_of("c", Stage::bad());
    assert_eq!(stage.due(), [Verb::Down]);
    assert_eq!(stage.queued()[0].1, "i");
}

#[test]
fn an_outage_that_people_know_of_does_not_flap_when_damping_is_switched_on() {
    let mut stage = Stage::new(|document| document.settings.flap_damping = Some(false));
    for number in 0..=FLAP_TRANSITIONS {
        let to = if number % 2 == 0 { Status::Down } else { Status::Up };
        stage.now += 5000;
        assert_eq!(stage.becomes("c", to).len(), 1);
    }
    stage.damp(None);
    // Its end is told under the name that it was told by.
    assert_eq!(stage.due(), []);
    stage.now += 5000;
    assert_eq!(stage.becomes("c", Status::Up), [Verb::Recovered]);
    assert_eq!(stage.due(), [Verb::Flapping]);
}

#[test]
fn who_works_on_a_flapping_check_is_told_how_it_ends() {
    let mut stage = Stage::new(|_| {});
    stage.flaps("c", Status::Down);
    stage
        .state
        .apply(&Command::Acknowledge(crate::machine::command::Acknowledge {
            check: "c".to_owned(),
            note: String::new(),
            until: None,
            at: stage.now,
            uid: None,
            by: None,
        }));
    stage.damp(Some(false));
    stage.now += 5000;
    stage.round_of("c", Stage::bad());
    stage.due();
    assert_eq!(stage.queued().len(), 1);
    let incident = stage.state.checks["c"].incident.as_ref().unwrap();
    assert!(is_acknowledged(incident, stage.now), "it goes on with the outage");
}

#[test]
fn a_flapping_check_that_is_disabled_is_closed_whatever_damping_says() {
    let mut stage = Stage::new(|_| {});
    stage.flaps("c", Status::Down);
    let name = name_of_that_time(&stage);
    stage.damp(Some(false));
    stage.set_disabled("c", true);
    assert_eq!(stage.queued(), [(Verb::Disabled, name.as_str(), "a", true)]);
    assert_eq!(stage.due(), []);
}

/// A second alert, which keeps things open, and is detached from the check while that flaps.
fn detached(then: Status) -> (Stage, String) {
    let mut stage = Stage::new(|document| {
        let pager = Alert {
            id: "pager".to_owned(),
            default: true,
            ..Alert::new("pager", AlertKind::Pagerduty)
        };
        document.alerts.push(pager);
    });
    stage.flaps("c", then);
    let name = name_of_that_time(&stage);
    let document = Arc::make_mut(&mut stage.state.document);
    document.checks[0].suppress_alert_ids = vec!["pager".to_owned()];
    (stage, name)
}

#[test]
fn an_alert_that_is_detached_from_a_flapping_check_is_told_the_end() {
    for damped in [true, false] {
        let (mut stage, name) = detached(Status::Up);
        if damped {
            stage.now += FLAP_WINDOW_MS;
        } else {
            stage.damp(Some(false));
        }
        stage.due();
        let expected = [
            (Verb::Stable, name.as_str(), "a", true),
            (Verb::Stable, name.as_str(), "pager", true),
        ];
        assert_eq!(stage.queued(), expected, "damped: {damped}");
        // That was the end: it hears no more of this check.
        stage.taken();
        stage.now += 1000;
        assert_eq!(stage.becomes("c", Status::Down), [Verb::Down]);
    }
}

#[test]
fn an_alert_that_is_detached_from_a_flapping_check_is_told_the_end_of_what_that_left_open() {
    for (damped, verb) in [(true, Verb::Stable), (false, Verb::Down)] {
        let (mut stage, name) = detached(Status::Down);
        if damped {
            stage.now += FLAP_WINDOW_MS;
        } else {
            stage.damp(Some(false));
            stage.now += 5000;
        }
        stage.round_of("c", Stage::bad());
        stage.due();
        let expected = [
            (verb, name.as_str(), "a", true),
            (verb, name.as_str(), "pager", true),
        ];
        assert_eq!(stage.queued(), expected, "damped: {damped}");
        stage.taken();
        assert_eq!(stage.becomes("c", Status::Up), [Verb::Recovered, Verb::Recovered]);
        assert_eq!(stage.queued()[1], (Verb::Recovered, name.as_str(), "pager", true));
    }
}

#[test]
fn an_alert_that_is_disabled_while_a_check_flaps_is_told_nothing() {
    let (mut stage, _) = detached(Status::Up);
    Arc::make_mut(&mut stage.state.document).alerts[1].disabled = true;
    stage.now += FLAP_WINDOW_MS;
    stage.due();
    let told: Vec<&str> = stage.queued().iter().map(|told| told.2).collect();
    assert_eq!(told, ["a"]);
}
