//! What is written is read again as it was, and nothing else is taken.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::settings::Profile;

fn entry(value: impl Into<Vec<u8>>) -> Entry {
    Entry {
        value: value.into().into(),
        revision: 1,
        lease: 0,
    }
}

fn names() -> Names {
    Names::of(BTreeSet::from([2, 3]), 1).expect("fits")
}

fn node() -> NodeEntry {
    NodeEntry {
        name: "node1".to_owned(),
        host: "localhost".to_owned(),
        port: 7401,
        candidate_priority: 50,
        replication_quorum: true,
        goal: NodeState::Primary,
        goal_before: NodeState::WaitPrimary,
    }
}

fn report() -> Report {
    let position = Position {
        timeline: 1,
        lsn: 0x300_0148,
    };
    Report {
        number: 9,
        time_ms: 1_790_000_000_000,
        state: NodeState::Primary,
        running: true,
        dead: false,
        position: Some(position),
        vote: Some(Vote {
            revision: 7,
            position,
        }),
        names: names(),
        system_identifier: Some("7234567890123456789".to_owned()),
        trouble: None,
    }
}

fn comes_back<T: Stored + PartialEq + fmt::Debug>(value: &T) {
    let text = value.encode();
    assert_eq!(T::read("k", &entry(text.clone())).as_ref(), Ok(value), "{text}");
    let strange = text.replacen('{', r#"{"strange":1,"#, 1);
    let refused = T::read("k", &entry(strange))
        .expect_err("unknown field")
        .to_string();
    assert!(
        refused.contains("strange") && refused.starts_with("k: "),
        "{refused}"
    );
    let newer = text.replacen(r#""version":1"#, r#""version":2"#, 1);
    assert_eq!(
        T::read("k", &entry(newer)).expect_err("newer").to_string(),
        "k: version 2 is not known here; 1 is"
    );
}

#[test]
fn all_values_come_back_and_are_read_strictly() {
    comes_back(&Profile::Fast.settings());
    comes_back(&Leader {
        monitor: "host 17".to_owned(),
    });
    comes_back(&Formation::default());
    comes_back(&Group {
        wanted: names(),
        request: Some(Wish::Promotion(2)),
        next_event: 3,
    });
    comes_back(&node());
    comes_back(&Looked { good: true });
    comes_back(&report());
    comes_back(&Lock {
        node: 1,
        epoch: 4,
        tli: 2,
    });
    comes_back(&Group {
        request: Some(Wish::Forced {
            node: 2,
            record: 9,
            loss: Some(4_096),
        }),
        ..Group::default()
    });
    let record = Record::first(1).settled(&names());
    comes_back(&record);
    comes_back(&record.forced(3));
    comes_back(&record.released_at(Position {
        timeline: 1,
        lsn: u64::MAX,
    }));
}

#[test]
fn the_record_has_the_fields_of_the_specification() {
    let released = Record::first(1)
        .settled(&names())
        .released_at(Position { timeline: 3, lsn: 77 });
    assert_eq!(
        released.encode(),
        r#"{"version":1,"epoch":1,"node":1,"kind":"sync","members":[2,3],"need":2,"open":false,"released_lsn":77,"released_tli":3}"#
    );
}

#[test]
fn what_fits_its_form_and_makes_no_sense_is_refused() {
    let wrong = |text: &str| Record::decode(text.as_bytes()).expect_err("refused");
    let record = Record::first(1).settled(&names()).encode();
    assert!(wrong(&record.replace("[2,3]", "[]")).contains("members"));
    assert!(wrong(&record.replace(r#""need":2"#, r#""need":3"#)).contains("need is 3 of 2"));
    assert!(
        wrong(&record.replace(r#""open":false"#, r#""open":false,"released_lsn":1"#)).contains("released")
    );
    let node = node().encode();
    assert!(NodeEntry::decode(node.replace(":50", ":101").as_bytes()).is_err());
    assert!(NodeEntry::decode(node.replace("node1", "no/de").as_bytes()).is_err());
    let group = Group {
        wanted: names(),
        ..Group::default()
    };
    assert!(Group::decode(group.encode().replace(r#""any":1"#, r#""any":5"#).as_bytes()).is_err());
    let long = format!(r#"{{"version":1,"monitor":"{}"}}"#, "x".repeat(VALUE_LIMIT));
    let refused = Leader::read("k", &entry(long)).expect_err("too long");
    assert!(refused.to_string().contains("bytes"), "{refused}");
}

#[test]
fn keys_of_events_sort_like_numbers() {
    let group = GroupId::of("default").expect("a name");
    assert!(group.event_key(9) < group.event_key(10));
    assert_eq!(group.lock_key(), "/pgaf/primary/default/0");
    for name in ["", "a/b", "ä", &"x".repeat(64)] {
        assert!(GroupId::of(name).is_err(), "{name}");
    }
}

proptest! {
    /// Bytes that are nearly a report: nothing panics, and what is taken is written the same way again.
    #[test]
    fn damaged_values_are_refused_or_understood(at in 0_usize..400, with in any::<u8>(), cut in 0_usize..500) {
        let mut text = report().encode().into_bytes();
        let length = text.len();
        text[at % length] = with;
        text.truncate(cut.max(1));
        if let Ok(read) = Report::read("k", &entry(text)) {
            prop_assert_eq!(Report::decode(read.encode().as_bytes()), Ok(read));
        }
    }
}
