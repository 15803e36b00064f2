//! Who says something: a node in one of its generations, and how that looks in a message.
//!
//! A node that was declared down can only come back under a higher generation. It starts with the time, so that a restarted node stands
//! above its earlier run, and climbs in doubling steps when it is told that it is down: a clock that was set back is caught up with in a
//! few rounds.
//!
//! Receivers of a message, and third parties that it speaks of, are named by id and generation alone, for they are known; only senders
//! and updates carry the whole description.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message};
use parking_lot::Mutex;

use crate::node::{ENCODED_MAX, Node};

/// Generations are milliseconds; what lies above is nonsense, and would leave a node no way to climb.
const GENERATION_MAX: u64 = 1 << 60;

/// The largest step, about half a day.
const STEP_MAX: u32 = 25;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) node: Arc<Node>,
    pub(crate) generation: u64,
    /// How often it climbed lately. Shared by all generations of one run; of others it means nothing.
    pub(crate) climbed: Arc<AtomicU32>,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        (self.node.id, self.generation) == (other.node.id, other.generation)
    }
}

impl Eq for Identity {}

impl foca::Identity for Identity {
    type Addr = u64;

    fn renew(&self) -> Option<Identity> {
        let climbed = self.climbed.fetch_add(1, Ordering::Relaxed);
        let generation = self.generation + (1 << climbed.min(STEP_MAX));
        (generation < GENERATION_MAX).then(|| Identity {
            node: self.node.clone(),
            generation,
            climbed: self.climbed.clone(),
        })
    }

    fn addr(&self) -> u64 {
        self.node.id
    }

    fn win_addr_conflict(&self, adversary: &Identity) -> bool {
        self.generation > adversary.generation
    }
}

impl Identity {
    pub(crate) fn new(node: Node, generation: u64) -> Identity {
        Identity {
            node: Arc::new(node),
            generation: generation.min(GENERATION_MAX / 2),
            climbed: Arc::default(),
        }
    }

    /// Whoever is at an address.
    pub(crate) fn somebody_at(address: &str) -> Identity {
        let node = Node {
            gossip_address: address.to_owned(),
            ..Node::default()
        };
        Identity::new(node, 0)
    }

    fn named(id: u64, generation: u64) -> Identity {
        let node = Node {
            id,
            ..Node::default()
        };
        Identity {
            node: Arc::new(node),
            generation,
            climbed: Arc::default(),
        }
    }

    /// Whether it is somebody whose id is not known.
    pub(crate) fn is_somebody(&self) -> bool {
        self.node.id == 0
    }
}

/// What decoding depends on.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) own: Identity,
    pub(crate) ids: BTreeSet<u64>,
    pub(crate) nodes_max: usize,
}

/// Encodes for SWIM.
#[derive(Debug, Clone)]
pub(crate) struct Codec(pub(crate) Arc<Mutex<Known>>);

/// It does not fit, or is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodecError;

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bad message")
    }
}

impl std::error::Error for CodecError {}

/// Generation and node.
const FULL_MAX: usize = 8 + ENCODED_MAX;

/// Id and generation.
const SHORT: usize = 8 + 8;

impl foca::Codec<Identity> for Codec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Identity>, mut buf: impl BufMut) -> Result<(), CodecError> {
        if buf.remaining_mut() < FULL_MAX + 2 + SHORT + 2 + SHORT {
            return Err(CodecError);
        }
        put_full(&header.src, &mut buf);
        buf.put_u16(header.src_incarnation);
        put_short(&header.dst, &mut buf);
        let (tag, number, third) = match &header.message {
            Message::Ping(number) => (1, *number, None),
            Message::Ack(number) => (2, *number, None),
            Message::PingReq { target, probe_number } => (3, *probe_number, Some(target)),
            Message::IndirectPing { origin, probe_number } => (4, *probe_number, Some(origin)),
            Message::IndirectAck { target, probe_number } => (5, *probe_number, Some(target)),
            Message::ForwardedAck { origin, probe_number } => (6, *probe_number, Some(origin)),
            Message::Announce => (7, 0, None),
            Message::Feed => (8, 0, None),
            Message::Gossip => (9, 0, None),
            Message::TurnUndead => (10, 0, None),
            Message::Broadcast => return Err(CodecError),
        };
        buf.put_u8(tag);
        buf.put_u8(number);
        if let Some(third) = third {
            put_short(third, &mut buf);
        }
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        let mut known = self.0.lock();
        let src = take_full(&mut buf, &mut known)?;
        let src_incarnation = buf.try_get_u16().map_err(|_| CodecError)?;
        let dst = take_short(&mut buf)?;
        let tag = buf.try_get_u8().map_err(|_| CodecError)?;
        let probe_number = buf.try_get_u8().map_err(|_| CodecError)?;
        let message = match tag {
            1 => Message::Ping(probe_number),
            2 => Message::Ack(probe_number),
            3 => Message::PingReq {
                target: take_short(&mut buf)?,
                probe_number,
            },
            4 => Message::IndirectPing {
                origin: take_short(&mut buf)?,
                probe_number,
            },
            5 => Message::IndirectAck {
                target: take_short(&mut buf)?,
                probe_number,
            },
            6 => Message::ForwardedAck {
                origin: take_short(&mut buf)?,
                probe_number,
            },
            7 => Message::Announce,
            8 => Message::Feed,
            9 => Message::Gossip,
            10 => Message::TurnUndead,
            _ => return Err(CodecError),
        };
        // Who is greeted without being known is whoever reads this.
        let dst = if dst.is_somebody() { known.own.clone() } else { dst };
        Ok(Header {
            src,
            src_incarnation,
            dst,
            message,
        })
    }

    fn encode_member(&mut self, member: &Member<Identity>, mut buf: impl BufMut) -> Result<(), CodecError> {
        // Short ones end up here when somebody speaks of a node that is not known: they tell nothing.
        let mut out = Vec::with_capacity(FULL_MAX + 3);
        put_full(member.id(), &mut out);
        out.put_u16(member.incarnation());
        out.put_u8(match member.state() {
            foca::State::Alive => 1,
            foca::State::Suspect => 2,
            foca::State::Down => 3,
        });
        if buf.remaining_mut() < out.len() {
            return Err(CodecError);
        }
        buf.put_slice(&out);
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        let mut known = self.0.lock();
        let id = take_full(&mut buf, &mut known)?;
        let incarnation = buf.try_get_u16().map_err(|_| CodecError)?;
        let state = match buf.try_get_u8() {
            Ok(1) => foca::State::Alive,
            Ok(2) => foca::State::Suspect,
            Ok(3) => foca::State::Down,
            _ => return Err(CodecError),
        };
        Ok(Member::new(id, incarnation, state))
    }
}

fn put_full(identity: &Identity, out: &mut impl BufMut) {
    out.put_u64(identity.generation);
    identity.node.put(out);
}

fn take_full(from: &mut impl Buf, known: &mut Known) -> Result<Identity, CodecError> {
    let generation = from.try_get_u64().map_err(|_| CodecError)?;
    let node = Node::take(from).ok_or(CodecError)?;
    let is_new = node.id != known.own.node.id && !known.ids.contains(&node.id);
    if generation >= GENERATION_MAX || (is_new && known.ids.len() >= known.nodes_max) {
        return Err(CodecError);
    }
    // One message may tell of several; what comes of them is looked at afterwards.
    known.ids.insert(node.id);
    Ok(Identity {
        node: Arc::new(node),
        generation,
        climbed: Arc::default(),
    })
}

fn put_short(identity: &Identity, out: &mut impl BufMut) {
    out.put_u64(identity.node.id);
    out.put_u64(identity.generation);
}

fn take_short(from: &mut impl Buf) -> Result<Identity, CodecError> {
    let id = from.try_get_u64().map_err(|_| CodecError)?;
    let generation = from.try_get_u64().map_err(|_| CodecError)?;
    if generation >= GENERATION_MAX {
        return Err(CodecError);
    }
    Ok(Identity::named(id, generation))
}

#[cfg(test)]
mod tests {
    use foca::{Codec as _, Identity as _};

    use super::*;

    fn identity(id: u64) -> Identity {
        let node = Node {
            id,
            name: format!("node{id}"),
            gossip_address: format!("node{id}:2381"),
            ..Node::default()
        };
        Identity::new(node, 1000 + id)
    }

    fn codec(nodes_max: usize) -> Codec {
        Codec(Arc::new(Mutex::new(Known {
            own: identity(9),
            ids: BTreeSet::from([1]),
            nodes_max,
        })))
    }

    #[test]
    fn headers_and_members_are_read_as_written_and_not_when_cut() {
        let mut codec = codec(10);
        let third = || Identity::named(3, 5);
        for message in [
            Message::Ping(7),
            Message::Ack(7),
            Message::PingReq {
                target: third(),
                probe_number: 1,
            },
            Message::IndirectPing {
                origin: third(),
                probe_number: 1,
            },
            Message::IndirectAck {
                target: third(),
                probe_number: 1,
            },
            Message::ForwardedAck {
                origin: third(),
                probe_number: 1,
            },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::TurnUndead,
        ] {
            let header = Header {
                src: identity(1),
                src_incarnation: 4,
                dst: identity(2),
                message,
            };
            let mut out = Vec::new();
            codec.encode_header(&header, &mut out).unwrap();
            let read = codec.decode_header(&out[..]).unwrap();
            assert_eq!(read, header);
            assert_eq!(read.src.node, header.src.node);
            for length in 0..out.len() {
                assert!(codec.decode_header(&out[..length]).is_err());
            }
        }
        let member = Member::new(identity(1), 3, foca::State::Suspect);
        let mut out = Vec::new();
        codec.encode_member(&member, &mut out).unwrap();
        assert_eq!(codec.decode_member(&out[..]), Ok(member));
        for length in 0..out.len() {
            assert!(codec.decode_member(&out[..length]).is_err());
        }
    }

    #[test]
    fn whoever_reads_a_greeting_to_somebody_is_meant() {
        let mut codec = codec(10);
        let header = Header {
            src: identity(1),
            src_incarnation: 0,
            dst: Identity::somebody_at("seed:2381"),
            message: Message::Announce,
        };
        let mut out = Vec::new();
        codec.encode_header(&header, &mut out).unwrap();
        assert_eq!(codec.decode_header(&out[..]).unwrap().dst, identity(9));
    }

    #[test]
    fn no_more_nodes_are_learnt_than_there_may_be() {
        let mut out = Vec::new();
        let mut codec = codec(1);
        let put = |id, codec: &mut Codec, out: &mut Vec<u8>| {
            out.clear();
            codec.encode_member(&Member::alive(identity(id)), out).unwrap();
        };
        put(2, &mut codec, &mut out);
        assert_eq!(codec.decode_member(&out[..]), Err(CodecError));
        put(1, &mut codec, &mut out);
        assert!(codec.decode_member(&out[..]).is_ok());
    }

    #[test]
    fn a_node_whose_clock_was_set_back_climbs_above_its_earlier_run_in_a_few_rounds() {
        let earlier = identity(1);
        let mut now = Identity {
            generation: 0,
            ..identity(1)
        };
        let day_ms = 86_400_000;
        let mut rounds = 0;
        while now.generation < day_ms {
            now = now.renew().unwrap();
            rounds += 1;
        }
        assert!(rounds < 32 && now.win_addr_conflict(&earlier), "{rounds}");
        now.generation = GENERATION_MAX - 1;
        assert_eq!(now.renew(), None);
    }
}
