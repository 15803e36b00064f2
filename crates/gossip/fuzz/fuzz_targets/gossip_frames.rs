//! Random bytes from a node: `cargo xtask fuzz 60 gossip_frames`.
//!
//! They are opened as an envelope, and taken as messages: pieces of random length, to a node that already knows another.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use gossip::envelope::{Envelope, PAYLOAD_MAX};
use gossip::machine::Machine;
use gossip::{Node, Timing};
use service::clock::Moment;

fn node(id: u64) -> Node {
    Node {
        id,
        gossip_address: format!("n{id}:1"),
        ..Node::default()
    }
}

fn machine(id: u64, seeds: &[&str], now: Moment) -> Machine {
    let mut machine = Machine::new(node(id), Timing::default(), 8, id, now, id);
    machine.set_seeds(seeds.iter().map(|seed| (*seed).to_owned()).collect(), now);
    machine
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(envelope) = Envelope::open(Bytes::copy_from_slice(input), 1) {
        assert_eq!(envelope.seal().len(), input.len());
    }
    let mut now = Moment::from_millis(1);
    let (mut one, mut two) = (machine(1, &[], now), machine(2, &["n1:1"], now));
    // They get to know each other.
    for _ in 0..3 {
        for (from, to) in [(false, true), (true, false)] {
            let (from, to) = match (from, to) {
                (false, _) => (&mut two, &mut one),
                (true, _) => (&mut one, &mut two),
            };
            from.tick(now, 1);
            for outgoing in from.take_outgoing() {
                to.receive(&outgoing.payload, now, 1);
            }
        }
    }
    let mut rest = input;
    while let Some((length, tail)) = rest.split_first() {
        let (message, tail) = tail.split_at(tail.len().min(usize::from(*length) * 4));
        rest = tail;
        one.receive(message, now, 1);
        now += Duration::from_millis(500);
        one.tick(now, 1);
        for outgoing in one.take_outgoing() {
            assert!(outgoing.payload.len() <= PAYLOAD_MAX && !outgoing.address.is_empty());
        }
        assert!(one.nodes().len() <= 9);
    }
});
