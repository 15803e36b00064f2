//! A made-up ledger in which all is well, and what is found when one thing in it is changed.

use super::*;

const BEGUN: Millis = 1_000_000;

/// Two checks, of which the first goes down and comes back, told on two channels; a crash in the middle.
fn well() -> Evidence {
    let mut evidence = Evidence {
        nodes: vec!["n1".to_owned(), "n2".to_owned(), "n3".to_owned()],
        alerts: vec!["open", "mail"],
        checks: BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 1)]),
        outages: vec![Outage {
            check: "a".to_owned(),
            from: BEGUN + 10_000,
            until: BEGUN + 40_000,
        }],
        calm: vec![(BEGUN, BEGUN + 50_000), (BEGUN + 60_000, BEGUN + 90_000)],
        faults: vec![Fault {
            text: "isolate".to_owned(),
            clean: false,
            alone: vec![(2, BEGUN + 50_000)],
            master_killed: None,
            from: BEGUN + 50_000,
            healed: BEGUN + 55_000,
            over: BEGUN + 60_000,
        }],
        masters: vec![
            (3, "n1".to_owned(), 0),
            (3, "n1".to_owned(), 1),
            (4, "n2".to_owned(), 1),
        ],
        begun: BEGUN,
        ended: BEGUN + 100_000,
        ..Evidence::default()
    };
    for (number, at) in [(2, BEGUN + 15_000), (3, BEGUN + 45_000)] {
        for alert in ["open", "mail"] {
            evidence.arrivals.push(message(number, alert, at));
        }
    }
    evidence
}

fn message(number: u64, alert: &'static str, at: Millis) -> Arrival {
    let id = format!("a/{number}/{alert}/{at}");
    Arrival {
        alert,
        key: id.clone(),
        id,
        verb: if number.is_multiple_of(2) {
            "DOWN"
        } else {
            "RECOVERED"
        }
        .to_owned(),
        when: (alert == "open").then_some(at),
        marked: (alert == "open").then_some(false),
        sender: 0,
        master: (alert == "open").then(|| "n1".to_owned()),
        opened: at + 50,
        at: at + 60,
        answer: Answer::Taken,
    }
}

fn found(evidence: &Evidence) -> Vec<Kind> {
    judge(evidence).found.into_iter().map(|(kind, _)| kind).collect()
}

/// What is found after one change.
fn after(change: impl FnOnce(&mut Evidence)) -> Vec<Kind> {
    let mut evidence = well();
    change(&mut evidence);
    found(&evidence)
}

#[test]
fn nothing_is_found_where_all_is_well() {
    let judgement = judge(&well());
    assert_eq!(judgement.found, []);
    assert_eq!(
        (judgement.transitions, judgement.deliveries, judgement.messages),
        (2, 4, 4)
    );
    assert_eq!((judgement.repeats, judgement.terms), (0, 2));
    assert!(judgement.truths >= 3, "{judgement:?}");
}

#[test]
fn a_lost_message_is_found() {
    assert_eq!(after(|it| drop(it.arrivals.remove(1))), [Kind::MessageLost]);
    // It came, but nobody took it.
    assert_eq!(
        after(|it| it.arrivals[1].answer = Answer::Refused),
        [Kind::MessageLost]
    );
    assert_eq!(
        after(|it| it.arrivals[1].answer = Answer::Unknown),
        [Kind::MessageLost]
    );
}

#[test]
fn a_message_that_nothing_asks_for_is_found() {
    assert_eq!(
        after(|it| it.arrivals.push(message(4, "open", BEGUN + 20_000)))[0],
        Kind::MessageWrong
    );
    assert_eq!(
        after(|it| it.arrivals[0].verb = "UP".to_owned()),
        [Kind::MessageWrong]
    );
    assert_eq!(
        after(|it| it.arrivals[0].key = "x".to_owned()),
        [Kind::MessageWrong]
    );
    assert_eq!(
        after(|it| it.arrivals[0].master = Some("n2".to_owned())),
        [Kind::MessageWrong]
    );
}

/// Ids by which a receiver could not tell a copy, or would drop something new.
#[test]
fn an_id_without_its_time_or_with_another_one_is_found() {
    let renamed = |index: usize, id: &str| {
        after(|it| {
            it.arrivals[index].id = id.to_owned();
            it.arrivals[index].key = id.to_owned();
        })
    };
    assert_eq!(renamed(0, "a/2/open"), [Kind::MessageWrong]);
    assert_eq!(renamed(0, "a/2/open/x"), [Kind::MessageLost, Kind::MessageWrong]);
    let copy = after(|it| {
        it.arrivals[0].answer = Answer::Unknown;
        again(it, BEGUN + 20_000, true);
        let last = it.arrivals.last_mut().unwrap();
        last.id = "a/2/open/7".to_owned();
        last.key.clone_from(&last.id);
    });
    assert_eq!(copy, [Kind::MessageWrong]);
}

/// The second copy of the first message, so much later.
fn again(it: &mut Evidence, at: Millis, marked: bool) {
    let copy = Arrival {
        opened: at,
        at: at + 10,
        marked: Some(marked),
        answer: Answer::Taken,
        ..it.arrivals[0].clone()
    };
    it.arrivals.push(copy);
}

#[test]
fn a_repeat_without_a_reason_is_found() {
    assert_eq!(after(|it| again(it, BEGUN + 20_000, true)), [Kind::Repeated]);
    // Nobody got the answer to the first.
    assert_eq!(
        after(|it| {
            it.arrivals[0].answer = Answer::Unknown;
            again(it, BEGUN + 20_000, true);
        }),
        []
    );
    // A fault explains it, a restart that must cost nothing does not.
    let during = |clean| {
        after(|it| {
            it.faults[0].from = BEGUN + 16_000;
            it.faults[0].alone.clear();
            it.faults[0].clean = clean;
            again(it, BEGUN + 20_000, true);
        })
    };
    assert_eq!(during(false), []);
    assert_eq!(during(true), [Kind::Repeated]);
    // It was refused the first time.
    let refused = after(|it| {
        it.arrivals[0].answer = Answer::Refused;
        again(it, BEGUN + 20_000, false);
    });
    assert_eq!(refused, []);
}

#[test]
fn a_repeat_without_its_mark_is_found() {
    let unmarked = after(|it| {
        it.arrivals[0].answer = Answer::Unknown;
        again(it, BEGUN + 20_000, false);
    });
    assert_eq!(unmarked, [Kind::Unmarked]);
    // A sender that was stopped after it had connected cannot know: the other copy has the mark, though it came first.
    let overtaken = after(|it| {
        it.faults[0].from = BEGUN + 15_000;
        it.faults[0].alone.clear();
        again(it, BEGUN + 20_000, true);
        it.arrivals[0].at = BEGUN + 25_000;
    });
    assert_eq!(overtaken, []);
    // One that connects only after it has woken up could know.
    let woken = after(|it| {
        it.faults[0].from = BEGUN + 15_000;
        it.faults[0].alone.clear();
        it.arrivals[0].marked = Some(true);
        again(it, BEGUN + 25_000, false);
    });
    assert_eq!(woken, [Kind::Unmarked]);
}

#[test]
fn an_end_before_its_beginning_is_found() {
    let swapped = after(|it| {
        it.arrivals[1].opened = BEGUN + 46_000;
        it.arrivals[1].at = BEGUN + 46_010;
    });
    assert_eq!(swapped, [Kind::OutOfOrder]);
    // Another channel may be as late as it likes.
    let late = after(|it| {
        it.arrivals[3].opened += 60_000;
        it.arrivals[3].at += 60_000;
    });
    assert_eq!(late, []);
}

#[test]
fn a_message_of_a_minority_is_found() {
    let sent_at = |at: Millis| {
        after(|it| {
            it.arrivals[3].sender = 2;
            it.arrivals[3].opened = at;
            it.arrivals[3].at = at + 10;
        })
    };
    assert_eq!(sent_at(BEGUN + 50_300), []);
    assert_eq!(sent_at(BEGUN + 54_000), [Kind::SentAlone]);
    assert_eq!(sent_at(BEGUN + 56_000), []);
}

#[test]
fn two_masters_of_one_term_are_found() {
    assert_eq!(
        after(|it| it.masters.push((3, "n3".to_owned(), 2))),
        [Kind::TwoMasters]
    );
}

#[test]
fn a_verdict_that_is_not_the_truth_is_found() {
    // It never became down, and nothing was told.
    let missed = after(|it| {
        it.checks.insert("a".to_owned(), 1);
        it.arrivals.clear();
    });
    assert_eq!(missed, [Kind::WrongVerdict]);
    // It became down while the target was well.
    let wrong = after(|it| {
        for outage in &mut it.outages {
            outage.from += 8_000;
        }
        it.calm.clear();
    });
    assert_eq!(wrong, [Kind::WrongVerdict]);
    // It was down and never told as up.
    let stays = after(|it| {
        it.checks.insert("a".to_owned(), 2);
        it.arrivals.truncate(2);
    });
    assert!(stays.contains(&Kind::WrongVerdict), "{stays:?}");
    // An outage that nobody could see in time.
    let hidden = after(|it| {
        it.checks.insert("a".to_owned(), 1);
        it.arrivals.clear();
        it.calm = vec![(BEGUN, BEGUN + 20_000), (BEGUN + 30_000, BEGUN + 90_000)];
    });
    assert_eq!(hidden, []);
}

#[test]
fn silence_lasts_until_the_next_message() {
    let mut evidence = well();
    evidence.faults[0].master_killed = Some(BEGUN + 14_100);
    assert_eq!(judge(&evidence).silence, Some((950, 950)));
    // Nothing came after it.
    evidence.faults[0].master_killed = Some(BEGUN + 50_000);
    assert_eq!(judge(&evidence).silence, None);
}
