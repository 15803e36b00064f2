//! How messages look between two processes.
//!
//! A message is `tag, group, from, to, from_incarnation, to_incarnation, flags, term`, big-endian, and then what its tag says it
//! carries. Entries stand in it as they lie on disk, each with its checksum, so what a member appends is what the leader read. A message
//! says where it ends, so many follow each other without anything between.
//!
//! There is no version in it: the two ends of a connection agree on one before the first message. Everything that is read was bounded
//! by whoever received the bytes; here no count is believed that the bytes left could not hold.
//!
//! **Invariant:** every message has exactly one form, and whatever is accepted is encoded to the same bytes again.

use bytes::{Buf, BufMut, Bytes};

use crate::configuration::Configuration;
use crate::entry::{self, Entry};
use crate::log::Snapshot;
use crate::message::{Body, Message, ReadId};
use crate::types::{Fence, GroupId, Incarnation, NodeId, Position, Term};

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end before it does.
    #[error("the message is cut short")]
    Short,
    /// Nothing begins with this byte.
    #[error("no kind of message has the number {0}")]
    Tag(u8),
    /// A flag that is neither set nor clear, a count that cannot be, or members out of order.
    #[error("a field of the message has a value that it cannot have")]
    Field,
    /// One of its entries is bad.
    #[error("bad entry in the message: {0}")]
    Entry(#[from] entry::DecodeError),
    /// Its configuration is bad.
    #[error("bad configuration in the message")]
    Configuration,
}

/// `tag, group, from, to, from_incarnation, to_incarnation, flags, term`.
const HEADER: usize = 1 + 5 * 8 + 1 + 8;

/// The least that an entry takes.
const ENTRY_MIN: usize = 8 + 8 + 1 + 4 + 4;

const RECOVERING: u8 = 1;

const PRE_VOTE: u8 = 1;
const PRE_VOTE_ANSWER: u8 = 2;
const VOTE: u8 = 3;
const VOTE_ANSWER: u8 = 4;
const APPEND: u8 = 5;
const APPEND_ANSWER: u8 = 6;
const APPEND_REFUSED: u8 = 7;
const CONTRADICTION: u8 = 8;
const HEARTBEAT: u8 = 9;
const HEARTBEAT_ANSWER: u8 = 10;
const INSTALL_SNAPSHOT: u8 = 11;
const TIMEOUT_NOW: u8 = 12;
const READ: u8 = 13;
const READ_ANSWER: u8 = 14;
const PROBE: u8 = 15;
const PROBE_ANSWER: u8 = 16;
const HELLO: u8 = 17;

/// Bytes that [`encode`] needs for this message. A snapshot's configuration is encoded to find out.
pub fn size(message: &Message) -> usize {
    HEADER
        + match &message.body {
            Body::PreVote { .. } => 8 + 16,
            Body::PreVoteAnswer { .. } => 8 + 1,
            Body::Vote { recovery, .. } => {
                16 + 1 + 1 + recovery.as_ref().map_or(0, |fence| 4 + 16 * fence.len())
            }
            Body::VoteAnswer { .. } => 1,
            Body::Append { entries, .. } => 16 + 8 + 4 + entries.iter().map(Entry::size).sum::<usize>(),
            Body::AppendAnswer { .. }
            | Body::HeartbeatAnswer { .. }
            | Body::Read { .. }
            | Body::Probe { .. } => 8,
            Body::AppendRefused { .. } | Body::ProbeAnswer { .. } => 8 + 16 + 1,
            Body::Contradiction { .. } | Body::Heartbeat { .. } | Body::ReadAnswer { .. } => 16,
            Body::InstallSnapshot { snapshot } => 16 + 4 + snapshot.configuration.encode().len(),
            Body::TimeoutNow | Body::Hello => 0,
        }
}

/// Whether it carries entries, of which a leader may send many mebibytes ahead.
pub fn carries_entries(message: &Message) -> bool {
    matches!(&message.body, Body::Append { entries, .. } if !entries.is_empty())
}

/// Appends the encoded message to `out`.
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    out.reserve(size(message));
    out.put_u8(tag(&message.body));
    out.put_u64(message.group.0);
    out.put_u64(message.from.0);
    out.put_u64(message.to.0);
    out.put_u64(message.from_incarnation.0);
    out.put_u64(message.to_incarnation.0);
    out.put_u8(if message.recovering { RECOVERING } else { 0 });
    out.put_u64(message.term.0);
    encode_body(&message.body, out);
}

/// Takes one message off the front of `bytes`. Payloads share their memory. After an error what is left of `bytes` means nothing.
pub fn decode(bytes: &mut Bytes) -> Result<Message, DecodeError> {
    let tag = u8_of(bytes)?;
    let group = GroupId(u64_of(bytes)?);
    let (from, to) = (NodeId(u64_of(bytes)?), NodeId(u64_of(bytes)?));
    let (from_incarnation, to_incarnation) = (Incarnation(u64_of(bytes)?), Incarnation(u64_of(bytes)?));
    let recovering = flag_of(bytes)?;
    let term = Term(u64_of(bytes)?);
    let body = decode_body(tag, bytes)?;
    Ok(Message {
        group,
        from,
        to,
        from_incarnation,
        to_incarnation,
        recovering,
        term,
        body,
    })
}

fn tag(body: &Body) -> u8 {
    match body {
        Body::PreVote { .. } => PRE_VOTE,
        Body::PreVoteAnswer { .. } => PRE_VOTE_ANSWER,
        Body::Vote { .. } => VOTE,
        Body::VoteAnswer { .. } => VOTE_ANSWER,
        Body::Append { .. } => APPEND,
        Body::AppendAnswer { .. } => APPEND_ANSWER,
        Body::AppendRefused { .. } => APPEND_REFUSED,
        Body::Contradiction { .. } => CONTRADICTION,
        Body::Heartbeat { .. } => HEARTBEAT,
        Body::HeartbeatAnswer { .. } => HEARTBEAT_ANSWER,
        Body::InstallSnapshot { .. } => INSTALL_SNAPSHOT,
        Body::TimeoutNow => TIMEOUT_NOW,
        Body::Read { .. } => READ,
        Body::ReadAnswer { .. } => READ_ANSWER,
        Body::Probe { .. } => PROBE,
        Body::ProbeAnswer { .. } => PROBE_ANSWER,
        Body::Hello => HELLO,
    }
}

fn encode_body(body: &Body, out: &mut Vec<u8>) {
    match body {
        Body::PreVote { term, last } => {
            out.put_u64(term.0);
            put_position(*last, out);
        }
        Body::PreVoteAnswer { term, granted } => {
            out.put_u64(term.0);
            out.put_u8(u8::from(*granted));
        }
        Body::Vote {
            last,
            transfer,
            recovery,
        } => {
            put_position(*last, out);
            out.put_u8(u8::from(*transfer));
            out.put_u8(u8::from(recovery.is_some()));
            if let Some(fence) = recovery {
                out.put_u32(u32::try_from(fence.len()).expect("members are few"));
                for (node, incarnation) in fence {
                    out.put_u64(node.0);
                    out.put_u64(incarnation.0);
                }
            }
        }
        Body::VoteAnswer { granted } => out.put_u8(u8::from(*granted)),
        Body::Append {
            previous,
            entries,
            commit,
        } => {
            put_position(*previous, out);
            out.put_u64(*commit);
            out.put_u32(u32::try_from(entries.len()).expect("entries of a message are few"));
            for entry in entries {
                entry.encode(out);
            }
        }
        Body::AppendAnswer { matched } => out.put_u64(*matched),
        Body::AppendRefused { at, hint, committed } => {
            out.put_u64(*at);
            put_position(*hint, out);
            out.put_u8(u8::from(*committed));
        }
        Body::Contradiction { at } => put_position(*at, out),
        Body::Heartbeat { commit, round } => {
            out.put_u64(*commit);
            out.put_u64(*round);
        }
        Body::HeartbeatAnswer { round } | Body::Probe { round } => out.put_u64(*round),
        Body::InstallSnapshot { snapshot } => {
            put_position(snapshot.position, out);
            let configuration = snapshot.configuration.encode();
            out.put_u32(u32::try_from(configuration.len()).expect("members are few"));
            out.put_slice(&configuration);
        }
        Body::TimeoutNow | Body::Hello => {}
        Body::Read { id } => out.put_u64(id.0),
        Body::ReadAnswer { id, index } => {
            out.put_u64(id.0);
            out.put_u64(*index);
        }
        Body::ProbeAnswer {
            round,
            last,
            has_leader,
        } => {
            out.put_u64(*round);
            put_position(*last, out);
            out.put_u8(u8::from(*has_leader));
        }
    }
}

fn decode_body(tag: u8, bytes: &mut Bytes) -> Result<Body, DecodeError> {
    Ok(match tag {
        PRE_VOTE => Body::PreVote {
            term: Term(u64_of(bytes)?),
            last: position_of(bytes)?,
        },
        PRE_VOTE_ANSWER => Body::PreVoteAnswer {
            term: Term(u64_of(bytes)?),
            granted: flag_of(bytes)?,
        },
        VOTE => Body::Vote {
            last: position_of(bytes)?,
            transfer: flag_of(bytes)?,
            recovery: if flag_of(bytes)? {
                Some(fence_of(bytes)?)
            } else {
                None
            },
        },
        VOTE_ANSWER => Body::VoteAnswer {
            granted: flag_of(bytes)?,
        },
        APPEND => append_of(bytes)?,
        APPEND_ANSWER => Body::AppendAnswer {
            matched: u64_of(bytes)?,
        },
        APPEND_REFUSED => Body::AppendRefused {
            at: u64_of(bytes)?,
            hint: position_of(bytes)?,
            committed: flag_of(bytes)?,
        },
        CONTRADICTION => Body::Contradiction {
            at: position_of(bytes)?,
        },
        HEARTBEAT => Body::Heartbeat {
            commit: u64_of(bytes)?,
            round: u64_of(bytes)?,
        },
        HEARTBEAT_ANSWER => Body::HeartbeatAnswer {
            round: u64_of(bytes)?,
        },
        INSTALL_SNAPSHOT => Body::InstallSnapshot {
            snapshot: Snapshot {
                position: position_of(bytes)?,
                configuration: configuration_of(bytes)?,
            },
        },
        TIMEOUT_NOW => Body::TimeoutNow,
        READ => Body::Read {
            id: ReadId(u64_of(bytes)?),
        },
        READ_ANSWER => Body::ReadAnswer {
            id: ReadId(u64_of(bytes)?),
            index: u64_of(bytes)?,
        },
        PROBE => Body::Probe {
            round: u64_of(bytes)?,
        },
        PROBE_ANSWER => Body::ProbeAnswer {
            round: u64_of(bytes)?,
            last: position_of(bytes)?,
            has_leader: flag_of(bytes)?,
        },
        HELLO => Body::Hello,
        other => return Err(DecodeError::Tag(other)),
    })
}

fn append_of(bytes: &mut Bytes) -> Result<Body, DecodeError> {
    let previous = position_of(bytes)?;
    let commit = u64_of(bytes)?;
    let count = count_of(bytes, ENTRY_MIN)?;
    let mut entries = Vec::with_capacity(count);
    let mut index = previous.index;
    for _ in 0..count {
        index = index.checked_add(1).ok_or(DecodeError::Field)?;
        entries.push(Entry::decode(index, bytes)?);
    }
    Ok(Body::Append {
        previous,
        entries,
        commit,
    })
}

fn fence_of(bytes: &mut Bytes) -> Result<Fence, DecodeError> {
    let count = count_of(bytes, 16)?;
    let mut fence = Fence::new();
    for _ in 0..count {
        let node = NodeId(u64_of(bytes)?);
        if fence.last_key_value().is_some_and(|(last, _)| *last >= node) {
            return Err(DecodeError::Field);
        }
        fence.insert(node, Incarnation(u64_of(bytes)?));
    }
    Ok(fence)
}

fn configuration_of(bytes: &mut Bytes) -> Result<Configuration, DecodeError> {
    let length = count_of(bytes, 1)?;
    let encoded = bytes.split_to(length);
    let configuration = Configuration::decode(encoded.clone()).map_err(|_| DecodeError::Configuration)?;
    // Members in another order would be the same configuration in another form.
    if configuration.encode() == encoded {
        Ok(configuration)
    } else {
        Err(DecodeError::Configuration)
    }
}

fn put_position(position: Position, out: &mut Vec<u8>) {
    out.put_u64(position.term.0);
    out.put_u64(position.index);
}

fn position_of(bytes: &mut Bytes) -> Result<Position, DecodeError> {
    Ok(Position {
        term: Term(u64_of(bytes)?),
        index: u64_of(bytes)?,
    })
}

/// How many things of at least `each` bytes follow.
fn count_of(bytes: &mut Bytes, each: usize) -> Result<usize, DecodeError> {
    let count = bytes.try_get_u32().map_err(|_| DecodeError::Short)? as usize;
    if count > bytes.len() / each {
        return Err(DecodeError::Short);
    }
    Ok(count)
}

fn flag_of(bytes: &mut Bytes) -> Result<bool, DecodeError> {
    match u8_of(bytes)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Field),
    }
}

fn u8_of(bytes: &mut Bytes) -> Result<u8, DecodeError> {
    bytes.try_get_u8().map_err(|_| DecodeError::Short)
}

fn u64_of(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    bytes.try_get_u64().map_err(|_| DecodeError::Short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Member;
    use crate::entry::Kind;
    use crate::random::Random;

    fn position(random: &mut Random) -> Position {
        Position {
            term: Term(number(random)),
            index: number(random),
        }
    }

    /// Small, large and in between.
    fn number(random: &mut Random) -> u64 {
        let bits = random.below(65);
        random.next().checked_shr(64 - bits as u32).unwrap_or(0)
    }

    fn flag(random: &mut Random) -> bool {
        random.below(2) == 1
    }

    fn payload(random: &mut Random) -> Bytes {
        let length = random.below(200);
        (0..length).map(|_| random.next() as u8).collect()
    }

    fn fence(random: &mut Random) -> Fence {
        (0..random.below(6))
            .map(|_| (NodeId(number(random)), Incarnation(number(random))))
            .collect()
    }

    fn configuration(random: &mut Random) -> Configuration {
        let mut configuration = Configuration::default();
        for _ in 0..random.below(6) {
            let member = Member {
                voter: flag(random),
                incarnation: Incarnation(number(random)),
                context: payload(random),
            };
            configuration.insert(NodeId(number(random)), member);
        }
        configuration
    }

    fn append(random: &mut Random) -> Body {
        let mut previous = position(random);
        previous.index >>= 1;
        let kinds = [Kind::Command, Kind::Blank, Kind::Configuration];
        let entries = (0..random.below(6))
            .map(|ahead| Entry {
                index: previous.index + 1 + ahead,
                term: Term(number(random)),
                kind: kinds[random.below(3) as usize],
                payload: payload(random),
            })
            .collect();
        Body::Append {
            previous,
            entries,
            commit: number(random),
        }
    }

    fn body(random: &mut Random) -> Body {
        match 1 + random.below(17) as u8 {
            PRE_VOTE => Body::PreVote {
                term: Term(number(random)),
                last: position(random),
            },
            PRE_VOTE_ANSWER => Body::PreVoteAnswer {
                term: Term(number(random)),
                granted: flag(random),
            },
            VOTE => Body::Vote {
                last: position(random),
                transfer: flag(random),
                recovery: flag(random).then(|| fence(random)),
            },
            VOTE_ANSWER => Body::VoteAnswer {
                granted: flag(random),
            },
            APPEND => append(random),
            APPEND_ANSWER => Body::AppendAnswer {
                matched: number(random),
            },
            APPEND_REFUSED => Body::AppendRefused {
                at: number(random),
                hint: position(random),
                committed: flag(random),
            },
            CONTRADICTION => Body::Contradiction { at: position(random) },
            HEARTBEAT => Body::Heartbeat {
                commit: number(random),
                round: number(random),
            },
            HEARTBEAT_ANSWER => Body::HeartbeatAnswer {
                round: number(random),
            },
            INSTALL_SNAPSHOT => Body::InstallSnapshot {
                snapshot: Snapshot {
                    position: position(random),
                    configuration: configuration(random),
                },
            },
            TIMEOUT_NOW => Body::TimeoutNow,
            READ => Body::Read {
                id: ReadId(number(random)),
            },
            READ_ANSWER => Body::ReadAnswer {
                id: ReadId(number(random)),
                index: number(random),
            },
            PROBE => Body::Probe {
                round: number(random),
            },
            PROBE_ANSWER => Body::ProbeAnswer {
                round: number(random),
                last: position(random),
                has_leader: flag(random),
            },
            _ => Body::Hello,
        }
    }

    fn message(random: &mut Random) -> Message {
        Message {
            group: GroupId(number(random)),
            from: NodeId(number(random)),
            to: NodeId(number(random)),
            from_incarnation: Incarnation(number(random)),
            to_incarnation: Incarnation(number(random)),
            recovering: flag(random),
            term: Term(number(random)),
            body: body(random),
        }
    }

    #[test]
    fn arbitrary_messages_are_read_as_they_were_written() {
        for seed in 0..2000 {
            let mut random = Random::new(seed);
            let messages: Vec<Message> = (0..=random.below(5)).map(|_| message(&mut random)).collect();
            let mut out = Vec::new();
            for message in &messages {
                let before = out.len();
                encode(message, &mut out);
                assert_eq!(out.len() - before, size(message), "seed {seed}: {message:?}");
            }
            let mut bytes = Bytes::from(out);
            for message in messages {
                assert_eq!(decode(&mut bytes), Ok(message), "seed {seed}");
            }
            assert!(bytes.is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn a_message_cut_anywhere_is_refused_and_a_changed_one_has_one_form() {
        for seed in 0..400 {
            let mut random = Random::new(seed);
            let mut out = Vec::new();
            encode(&message(&mut random), &mut out);
            for length in 0..out.len() {
                let mut cut = Bytes::copy_from_slice(&out[..length]);
                assert!(decode(&mut cut).is_err(), "seed {seed}, {length} bytes");
            }
            for _ in 0..50 {
                let mut changed = out.clone();
                let at = random.below(changed.len() as u64) as usize;
                changed[at] = random.next() as u8;
                let changed = Bytes::from(changed);
                let mut rest = changed.clone();
                if let Ok(message) = decode(&mut rest) {
                    let mut again = Vec::new();
                    encode(&message, &mut again);
                    assert_eq!(again, changed[..changed.len() - rest.len()], "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn counts_that_the_bytes_cannot_hold_are_refused_before_anything_is_reserved() {
        let mut out = Vec::new();
        let empty = Message {
            group: GroupId(1),
            from: NodeId(1),
            to: NodeId(2),
            from_incarnation: Incarnation(5),
            to_incarnation: Incarnation(6),
            recovering: false,
            term: Term(7),
            body: Body::Append {
                previous: Position::default(),
                entries: Vec::new(),
                commit: 0,
            },
        };
        encode(&empty, &mut out);
        let at = out.len() - 4;
        out[at..].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(decode(&mut out.into()), Err(DecodeError::Short));
    }

    /// The layout is an interface: members of neighbouring releases talk to each other.
    #[test]
    fn the_layout_is_pinned() {
        let mut out = Vec::new();
        let heartbeat = Message {
            group: GroupId(1),
            from: NodeId(2),
            to: NodeId(3),
            from_incarnation: Incarnation(4),
            to_incarnation: Incarnation(5),
            recovering: true,
            term: Term(6),
            body: Body::Heartbeat { commit: 7, round: 8 },
        };
        encode(&heartbeat, &mut out);
        let mut expected = vec![9];
        (1..=5u64).for_each(|number| expected.put_u64(number));
        expected.put_u8(1);
        (6..=8u64).for_each(|number| expected.put_u64(number));
        assert_eq!(out, expected);
    }
}
