//! Who gets the role, and how long it waits for it.

use super::*;

fn node(number: u32) -> NodeId {
    format!("{number:08}-0c1d-4e2f-8a3b-4c5d6e7f8091")
        .parse()
        .unwrap()
}

fn voters(live_since: [Option<Millis>; 3]) -> BTreeMap<NodeId, Candidate> {
    let candidate = |(position, live_since): (usize, &Option<Millis>)| {
        let candidate = Candidate {
            live_since: *live_since,
            caught_up: true,
            impaired: false,
        };
        (node(position as u32 + 1), candidate)
    };
    live_since.iter().enumerate().map(candidate).collect()
}

const COOLDOWN: Millis = 120_000;

#[test]
fn the_smallest_gets_the_role_back_after_the_cooldown() {
    let preference = Preference::default();
    let back = voters([Some(1_000_000), Some(0), Some(0)]);
    let at = |now| preference.successor(node(2), &back, COOLDOWN, None, now);
    assert_eq!(at(1_119_999), None);
    assert_eq!(at(1_120_000), Some(node(1)));
    let gone = voters([None, Some(0), Some(0)]);
    assert_eq!(
        preference.successor(node(2), &gone, COOLDOWN, None, 9_000_000),
        None
    );
    assert_eq!(
        preference.successor(node(1), &back, COOLDOWN, None, 9_000_000),
        None,
        "it has it"
    );
}

#[test]
fn after_no_quorum_the_smallest_gets_it_at_once() {
    let preference = Preference::default();
    let all = voters([Some(999_000), Some(0), Some(0)]);
    let at = |now| preference.successor(node(3), &all, COOLDOWN, Some(1_000_000), now);
    assert_eq!(at(1_000_500), Some(node(1)));
    assert_eq!(at(1_005_000), Some(node(2)), "who was live all the time");
}

#[test]
fn who_lags_or_is_impaired_is_passed_over() {
    let preference = Preference::default();
    let mut all = voters([Some(0), Some(0), Some(0)]);
    all.get_mut(&node(1)).unwrap().caught_up = false;
    assert_eq!(
        preference.successor(node(3), &all, COOLDOWN, None, 500_000),
        Some(node(2))
    );
    all.get_mut(&node(2)).unwrap().impaired = true;
    assert_eq!(preference.successor(node(3), &all, COOLDOWN, None, 500_000), None);
}

#[test]
fn who_loses_the_role_again_and_again_waits_longer() {
    let mut preference = Preference::default();
    let waits: Vec<Millis> = (0..10)
        .map(|_| {
            preference.lost(node(1), 1000);
            preference.cooldown(node(1), COOLDOWN, 2000) / 1000
        })
        .collect();
    assert_eq!(waits, [120, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
    assert_eq!(
        preference.cooldown(node(1), COOLDOWN, 1000 + LOSS_WINDOW_MS),
        COOLDOWN
    );
    assert_eq!(preference.cooldown(node(2), COOLDOWN, 2000), COOLDOWN);
}
