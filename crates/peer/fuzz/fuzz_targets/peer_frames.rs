//! Random bytes from a peer: `cargo xtask fuzz 60 peer_frames`.
//!
//! They are read twice: as they are, which tries frames, and as one payload of each kind, for a random checksum is hardly ever right.
#![no_main]

use bytes::BytesMut;
use consensus::wire;
use peer::bulk::Offer;
use peer::frame::{self, Frame, Kind};
use peer::handshake::{FRAME_MAX, Greeting, Preamble, Refusal};
use peer::stranger::{Answer, Call, FRAME_BYTES};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut buffer = BytesMut::from(input);
    while let Ok(Some(frame)) = frame::take(&mut buffer, FRAME_MAX) {
        read(frame);
    }
    let Some((kind, payload)) = input.split_first() else {
        return;
    };
    // With a right checksum every kind passes.
    let kinds = [
        Kind::Hello,
        Kind::Refused,
        Kind::Messages,
        Kind::Offer,
        Kind::Request,
        Kind::Answer,
    ];
    let mut framed = Vec::new();
    frame::put(&mut framed, kinds[usize::from(*kind) % kinds.len()], |out| {
        out.extend_from_slice(payload);
    });
    let frame = frame::take(&mut BytesMut::from(&framed[..]), payload.len());
    read(frame.expect("it was just written").expect("and is whole"));
});

fn read(frame: Frame) {
    let mut payload = frame.payload;
    match frame.kind {
        Kind::Hello | Kind::Welcome => {
            let Ok(preamble) = Preamble::decode(&mut payload) else {
                return;
            };
            if let Ok(greeting) = Greeting::decode(preamble, payload) {
                assert_eq!(greeting.introduction(None).node, preamble.node);
                greeting.put(Kind::Hello, &mut Vec::new());
            }
        }
        Kind::Refused => {
            if let Ok(refusal) = Refusal::decode(payload) {
                refusal.put(&mut Vec::new());
            }
        }
        Kind::Messages => {
            let mut rest = payload.clone();
            while let Ok(message) = wire::decode(&mut rest) {
                let from = payload.len() - rest.len();
                let mut again = Vec::new();
                wire::encode(&message, &mut again);
                assert_eq!(again.len(), wire::size(&message));
                assert_eq!(again, payload[from - again.len()..from]);
            }
        }
        Kind::Offer => {
            if let Ok(offer) = Offer::decode(payload.clone(), 1000) {
                let mut again = Vec::new();
                offer.put(&mut again);
                assert_eq!(again[5..again.len() - 4], payload[..]);
                let escapes = |name: &str| name.contains('/') || name == "..";
                assert!(offer.files.iter().all(|file| !escapes(&file.name)));
            }
        }
        // Of strangers.
        Kind::Request => {
            let call = Call::decode(Frame {
                kind: Kind::Request,
                payload: payload.clone(),
            });
            if let Ok(call) = call {
                let mut again = Vec::new();
                call.put(&mut again);
                assert_eq!(again[5..again.len() - 4], payload[..]);
            }
        }
        Kind::Answer => {
            let answer = Answer::decode(Frame {
                kind: Kind::Answer,
                payload,
            });
            if let Ok(answer) = answer {
                let mut again = Vec::new();
                answer.put(&mut again);
                let again = frame::take(&mut BytesMut::from(&again[..]), FRAME_BYTES);
                let again = again.expect("it is never too long").expect("and is whole");
                // A text that was no UTF-8, or something too large, is written in another way, but stays a yes or a no.
                let read = Answer::decode(again).expect("it was just written");
                assert_eq!(read.number, answer.number);
                assert!(answer.result.is_ok() || read.result.is_err());
            }
        }
        _ => assert!(payload.len() <= FRAME_MAX),
    }
}
