//! Who is taken for two, and who must not be.

use proptest::prelude::*;

use super::*;

fn node() -> NodeId {
    "7f3a5b9e-0c1d-4e2f-8a3b-4c5d6e7f8091".parse().unwrap()
}

fn process(id: u64, up: Millis) -> Process {
    Process {
        id,
        up,
        host: format!("host{id}"),
        pid: id as u32,
        address: format!("a{id}.example.com:9901"),
        last: (3, 100),
    }
}

#[test]
fn who_answers_before_and_after_another_one_lives_with_it() {
    let mut lives = Lives::new(node());
    assert_eq!(lives.answered(1000, 1001, &process(1, 500_000)), None);
    assert_eq!(lives.answered(2000, 2001, &process(2, 3000)), None);
    assert_eq!(lives.twins(2001), None);
    let told = lives
        .answered(3000, 3001, &process(1, 502_000))
        .unwrap()
        .to_string();
    assert_eq!(
        told,
        "two processes run as node 7f3a5b9e-0c1d-4e2f-8a3b-4c5d6e7f8091: host1 (pid 1, a1.example.com:9901) and, newer, host2 (pid 2, \
         a2.example.com:9901); a data directory was copied: stop one of them, every node needs its own (qu init or qu enroll join)"
    );
    assert_eq!(lives.answered(4000, 4001, &process(2, 5000)), None, "known");
    assert_eq!(lives.twins(4001 + COUNTS_MS).unwrap().goes.id, 2);
    assert_eq!(lives.twins(4002 + COUNTS_MS), None, "one of them was stopped");
}

#[test]
fn the_newer_one_goes_whoever_was_heard_first() {
    for first in [1, 2] {
        let up = |id| if id == 1 { 500_000 } else { 20_000 };
        let second = 3 - first;
        let mut lives = Lives::new(node());
        lives.answered(1000, 1001, &process(first, up(first)));
        lives.answered(2000, 2001, &process(second, up(second) + 1000));
        let twins = lives.answered(3000, 3001, &process(first, up(first) + 2000));
        assert_eq!(twins.unwrap().goes.id, 2);
    }
}

#[test]
fn a_second_makes_a_difference_and_a_slow_answer_none() {
    // The one with the larger id is a second older.
    let verdict = |travels: Millis| {
        let mut lives = Lives::new(node());
        let mut newer = None;
        for number in 0..3 {
            let asked = 10_000 + number * 5000;
            let (id, begun) = if number % 2 == 0 { (9, 1000) } else { (1, 2000) };
            let answered = asked + travels;
            lives.answered(asked, answered, &process(id, asked + travels / 2 - begun));
            newer = lives.twins(answered).map(|twins| twins.goes.id);
        }
        newer
    };
    assert_eq!(verdict(10), Some(1));
    assert_eq!(verdict(2000), Some(9), "nobody can tell, so the id decides");
}

#[test]
fn a_question_that_is_older_than_the_other_answer_proves_nothing() {
    let mut lives = Lives::new(node());
    lives.answered(1000, 1001, &process(1, 10));
    lives.answered(2000, 2500, &process(2, 10));
    assert_eq!(lives.answered(2500, 2600, &process(1, 1500)), None);
    assert!(lives.answered(2501, 2601, &process(1, 1501)).is_some());
}

fn told(older: &Process, newer: &Process) -> Vec<Twins> {
    vec![Twins {
        node: node(),
        stays: older.clone(),
        goes: newer.clone(),
        behind: false,
    }]
}

#[test]
fn who_goes_is_what_more_than_half_of_the_live_peers_found() {
    let (one, other) = (process(1, 9000), process(2, 1000));
    let (found, reverse, nothing) = (told(&one, &other), told(&other, &one), Vec::new());
    let goes = |own, peers: &[&[Twins]]| must_go(own, (3, 100), peers).map(|twins| twins.stays.id);
    assert_eq!(goes(2, &[&found, &found]), Some(1));
    assert_eq!(goes(1, &[&found, &found]), None);
    assert_eq!(goes(3, &[&found, &found]), None, "it is about others");
    assert_eq!(goes(2, &[&found]), Some(1), "the only one that lives");
    assert_eq!(goes(2, &[]), None);
    assert_eq!(goes(2, &[&found, &found, &nothing]), Some(1));
    for own in [1, 2] {
        assert_eq!(goes(own, &[&found, &reverse]), None, "nobody has more than half");
    }
    assert_eq!(goes(2, &[&found, &found, &reverse]), Some(1));
    assert_eq!(goes(1, &[&found, &found, &reverse]), None);
}

#[test]
fn one_forged_word_ends_nobody() {
    let (own, nothing) = (process(2, 1000), Vec::new());
    let forged: Vec<Twins> = (10..20).flat_map(|id| told(&process(id, 1), &own)).collect();
    assert_eq!(must_go(2, (3, 100), &[&forged, &nothing]), None);
    let several = [told(&process(1, 1), &own), told(&process(1, 1), &own)].concat();
    assert_eq!(
        must_go(2, (3, 100), &[&several, &nothing, &nothing]),
        None,
        "said twice by one"
    );
    let other = told(&process(30, 1), &own);
    assert_eq!(must_go(2, (3, 100), &[&forged, &other]), None, "another pair");
    let itself = told(&own, &own);
    assert_eq!(must_go(2, (3, 100), &[&itself, &itself]), None);
}

/// What a peer says after each answer: the one that goes, and whether that one is behind. The two answer in turns, once a second, and one
/// of them began 500 s before the other one.
fn verdicts(lasts: &[(Last, Last)]) -> Vec<(u64, bool)> {
    let mut lives = Lives::new(node());
    let mut told = Vec::new();
    for (number, (older, newer)) in lasts.iter().enumerate() {
        let asked = 10_000 + number as u64 * 2000;
        let answers = [(1, 500_000 + asked, *older), (2, asked, *newer)];
        for (later, (id, up, last)) in answers.into_iter().enumerate() {
            let asked = asked + later as u64 * 1000;
            let process = Process {
                last,
                ..process(id, up)
            };
            lives.answered(asked, asked + 1, &process);
        }
        let twins = lives.twins(asked + 1001);
        told.extend(twins.map(|twins| (twins.goes.id, twins.behind)));
    }
    told
}

#[test]
fn whose_log_is_behind_goes_and_else_the_newer_one() {
    let verdict = |older, newer| verdicts(&[(older, newer), (older, newer)]);
    assert_eq!(verdict((3, 500), (4, 100)), [(1, true)], "an older term");
    assert_eq!(verdict((4, 100), (3, 500)), [(2, true)]);
    assert_eq!(verdict((4, 100), (4, 165)), [(1, true)]);
    assert_eq!(verdict((4, 100), (4, 164)), [(2, false)], "may be on its way");
    assert_eq!(verdict((4, 100), (4, 100)), [(2, false)]);
    assert_eq!(verdict(UNKNOWN, (4, 100)), [(2, false)], "not said");
    assert_eq!(verdict(UNKNOWN, UNKNOWN), [(2, false)]);
}

#[test]
fn who_goes_is_decided_for_a_while_and_who_does_not_catch_up_is_behind() {
    // The old log came back, and has caught up two seconds later; that changes nothing for ten seconds, and then age decides.
    let mut caught_up = vec![((3, 100), (4, 102)); 2];
    caught_up.resize(9, ((4, 103), (4, 103)));
    let told = verdicts(&caught_up);
    assert_eq!(told[..5], [(1, true); 5]);
    assert_eq!(told[told.len() - 1], (2, false));
    // Three entries are no difference at first, but are if they do not arrive.
    let told = verdicts(&[((4, 100), (4, 103)); 9]);
    assert_eq!(told[..5], [(2, false); 5]);
    assert_eq!(told[told.len() - 1], (1, true));
    // Who is always a little late is not behind.
    let late: Vec<(Last, Last)> = (0..30).map(|n| ((4, 100 + n), (4, 103 + n))).collect();
    assert!(verdicts(&late).iter().all(|told| *told == (2, false)));
}

#[test]
fn nobody_goes_before_the_other_one_holds_what_it_holds() {
    let found = told(&process(1, 9000), &process(2, 1000));
    let goes = |last| must_go(2, last, &[&found, &found]).is_some();
    assert!(goes((3, 100)) && goes((2, 900)));
    assert!(!goes((3, 101)) && !goes((4, 1)));
    let silent = |id| Process {
        last: UNKNOWN,
        ..process(id, 1)
    };
    let reading = told(&silent(1), &process(2, 1000));
    assert_eq!(must_go(2, (3, 100), &[&reading]), None, "it has not read its log");
    let old = told(&silent(1), &silent(2));
    assert!(
        must_go(2, (3, 100), &[&old]).is_some(),
        "programs that do not know of this"
    );
}

#[test]
fn the_words_between_nodes_are_those_of_older_programs() {
    let of_old = r#"{"node":"7f3a5b9e-0c1d-4e2f-8a3b-4c5d6e7f8091",
        "older":{"id":1,"up":2,"host":"h","pid":3,"address":"a"},"newer":{"id":2,"up":1,"host":"h","pid":4,"address":"b"}}"#;
    let twins: Twins = serde_json::from_str(of_old).unwrap();
    assert_eq!((twins.stays.id, twins.goes.id, twins.behind), (1, 2, false));
    assert_eq!(twins.goes.last, UNKNOWN);
    let behind = Twins {
        behind: true,
        ..twins
    };
    assert_eq!(serde_json::to_value(&behind).unwrap()["newer"]["id"], 2);
    assert!(
        behind
            .to_string()
            .contains(": h (pid 3, a) and, behind, h (pid 4, b); ")
    );
}

/// A process answers questions that are put while it lives; each answer is handled any time later.
#[derive(Debug, Clone)]
struct Asked {
    at: Millis,
    travels: Millis,
    late: Millis,
}

fn questions() -> impl Strategy<Value = Vec<Asked>> {
    let one =
        (0..60_000u64, 0..2000u64, 0..30_000u64).prop_map(|(at, travels, late)| Asked { at, travels, late });
    proptest::collection::vec(one, 1..60)
}

/// What is heard, in the order in which it is handled, if `alive` says who answers at a moment.
fn heard(
    questions: &[Asked],
    alive: impl Fn(Millis, usize) -> Option<Process>,
) -> Vec<(Millis, Millis, Process)> {
    let mut heard: Vec<(Millis, Millis, Process)> = questions
        .iter()
        .enumerate()
        .filter_map(|(number, asked)| {
            let process = alive(asked.at + asked.travels, number)?;
            Some((asked.at, asked.at + asked.travels + asked.late, process))
        })
        .collect();
    heard.sort_by_key(|(_, answered, _)| *answered);
    heard
}

proptest! {
    #[test]
    fn restarts_are_never_taken_for_copies(
        questions in questions(),
        mut starts in proptest::collection::btree_set(1..60_000u64, 0..12),
    ) {
        starts.insert(0);
        let alive = |at: Millis, _: usize| {
            let start = *starts.range(..=at).next_back().unwrap();
            Some(process(start + 1, at - start))
        };
        let mut lives = Lives::new(node());
        for (asked, answered, process) in heard(&questions, alive) {
            prop_assert_eq!(lives.answered(asked, answered, &process), None);
        }
    }

    #[test]
    fn two_that_answer_in_turns_are_always_found(
        first_up in 0..1_000_000u64,
        steps in proptest::collection::vec((1..1500u64, 0..400u64), 3..20),
    ) {
        let mut lives = Lives::new(node());
        let mut now = 1000;
        for (number, (pause, travels)) in steps.iter().enumerate() {
            now += pause;
            let (asked, answered) = (now, now + travels);
            now = answered;
            let id = 1 + number as u64 % 2;
            let up = if id == 1 { first_up + 10_000 + now } else { now };
            lives.answered(asked, answered, &process(id, up));
        }
        let twins = lives.twins(now);
        prop_assert_eq!(twins.map(|twins| twins.goes.id), Some(2));
    }
}
