//! How two ends get to know each other, as bytes and as decisions. Nothing here reads a socket.
//!
//! The dialling end sends [`MAGIC`] and a hello; the accepting end answers with [`MAGIC`] and a welcome, or a refusal. Then the dialling
//! end starts using the connection, or refuses in turn. Version, cluster and id stand at the beginning of hello, welcome and refusal
//! and stay there in every version, so that ends which do not understand each other can still say so.

use bytes::{Buf, BufMut, Bytes};
use consensus::NodeId;
use pki::pinned::Fingerprint;

use crate::frame::{self, Kind};
use crate::handler::{Introduction, Version};
use crate::settings::EXTRA_MAX;

/// The first bytes of each direction.
pub const MAGIC: [u8; 8] = *b"MSPEER\r\n";

/// Payload of a frame of the handshake, at most; leaves room for what later versions add.
pub const FRAME_MAX: usize = EXTRA_MAX + 1024;

/// Text of a refusal, at most.
const TEXT_MAX: usize = 1024;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Messages and requests.
    Link = 1,
    /// Only to know who is there.
    Ask = 2,
    /// A directory.
    Bulk = 3,
    /// Calls of somebody who need not be known.
    Stranger = 4,
}

/// A hello or a welcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The protocol spoken.
    pub version: Version,
    /// The sender's cluster.
    pub cluster: u64,
    /// The sender.
    pub node: NodeId,
    /// Whom it takes the receiver for; 0 if it does not know.
    pub to: NodeId,
    /// Drawn by the sender's transport at its start.
    pub instance: u64,
    /// In a welcome the same as in the hello.
    pub purpose: Purpose,
    /// The user's own.
    pub extra: Bytes,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Versions too far apart.
    Version = 1,
    /// Another cluster.
    Cluster = 2,
    /// Not who was expected, or not possible.
    Node = 3,
    /// The user does not want it.
    NotAdmitted = 4,
    /// There is, or soon will be, another connection.
    Duplicate = 5,
    /// Too much of something.
    Busy = 6,
    /// Plain text, sent where TLS is wanted.
    WantsTls = 7,
    /// TLS, sent where plain text is wanted.
    WantsPlain = 8,
    /// Its key is not the one that is known, or none is.
    UnknownKey = 9,
    /// Something that a later version knows.
    Other = 255,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What for.
    pub cause: Cause,
    /// The protocol of whoever refuses.
    pub version: Version,
    /// Its cluster.
    pub cluster: u64,
    /// Its id.
    pub node: NodeId,
    /// For people.
    pub text: String,
}

/// Bytes that are no handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bad handshake")]
pub struct BadHandshake;

/// What is known of a greeting in any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// The protocol spoken.
    pub version: Version,
    /// The sender's cluster.
    pub cluster: u64,
    /// The sender.
    pub node: NodeId,
}

impl Preamble {
    /// Reads the beginning of a greeting of any version.
    pub fn decode(payload: &mut Bytes) -> Result<Preamble, BadHandshake> {
        Ok(Preamble {
            version: version_of(payload)?,
            cluster: payload.try_get_u64().map_err(|_| BadHandshake)?,
            node: NodeId(payload.try_get_u64().map_err(|_| BadHandshake)?),
        })
    }
}

impl Greeting {
    /// As a frame.
    pub fn put(&self, kind: Kind, out: &mut Vec<u8>) {
        frame::put(out, kind, |out| {
            put_preamble(self.version, self.cluster, self.node, out);
            out.put_u64(self.to.0);
            out.put_u64(self.instance);
            out.put_u8(self.purpose as u8);
            put_text(&self.extra[..self.extra.len().min(EXTRA_MAX)], out);
        });
    }

    /// Reads a greeting and judges it: version, cluster (unless a stranger is speaking), and id. `Ok(Err)` is bad bytes.
    pub fn judge(
        own: &Own,
        preamble: Preamble,
        payload: Bytes,
        expected: Option<NodeId>,
    ) -> Result<Result<Greeting, BadHandshake>, Refusal> {
        own.judge_version(preamble)?;
        let decoded = Greeting::decode(preamble, payload);
        // A stranger comes from a cluster of his own, if from any.
        if !matches!(&decoded, Ok(greeting) if greeting.purpose == Purpose::Stranger) {
            own.judge_cluster(preamble)?;
        }
        if let Ok(greeting) = &decoded {
            own.judge_identity(greeting, expected)?;
        }
        Ok(decoded)
    }

    /// What follows the preamble, in a version that is understood. More may follow, from a version that is one ahead.
    pub fn decode(preamble: Preamble, mut payload: Bytes) -> Result<Greeting, BadHandshake> {
        let to = NodeId(payload.try_get_u64().map_err(|_| BadHandshake)?);
        let instance = payload.try_get_u64().map_err(|_| BadHandshake)?;
        let purpose = match payload.try_get_u8() {
            Ok(1) => Purpose::Link,
            Ok(2) => Purpose::Ask,
            Ok(3) => Purpose::Bulk,
            Ok(4) => Purpose::Stranger,
            _ => return Err(BadHandshake),
        };
        let extra = text_of(&mut payload, EXTRA_MAX)?;
        Ok(Greeting {
            version: preamble.version,
            cluster: preamble.cluster,
            node: preamble.node,
            to,
            instance,
            purpose,
            extra,
        })
    }

    /// What the user is told of its sender, who has proven to have `key`.
    pub fn introduction(&self, key: Option<Fingerprint>) -> Introduction {
        Introduction {
            key,
            node: self.node,
            cluster: self.cluster,
            version: self.version,
            // A copy, for it may be kept much longer than the buffer that it came in.
            extra: Bytes::copy_from_slice(&self.extra),
        }
    }
}

impl Refusal {
    /// As a frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        frame::put(out, Kind::Refused, |out| {
            put_preamble(self.version, self.cluster, self.node, out);
            out.put_u8(self.cause as u8);
            put_text(cut(&self.text).as_bytes(), out);
        });
    }

    /// Reads the payload of one, of any version.
    pub fn decode(mut payload: Bytes) -> Result<Refusal, BadHandshake> {
        let preamble = Preamble::decode(&mut payload)?;
        let cause = match payload.try_get_u8().map_err(|_| BadHandshake)? {
            1 => Cause::Version,
            2 => Cause::Cluster,
            3 => Cause::Node,
            4 => Cause::NotAdmitted,
            5 => Cause::Duplicate,
            6 => Cause::Busy,
            7 => Cause::WantsTls,
            8 => Cause::WantsPlain,
            9 => Cause::UnknownKey,
            _ => Cause::Other,
        };
        let text = text_of(&mut payload, TEXT_MAX)?;
        Ok(Refusal {
            cause,
            version: preamble.version,
            cluster: preamble.cluster,
            node: preamble.node,
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }
}

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// The own protocol.
    pub version: Version,
    /// The own cluster.
    pub cluster: u64,
    /// The own id.
    pub node: NodeId,
}

impl Own {
    /// A refusal in the own name.
    pub fn refusal(&self, cause: Cause, text: impl Into<String>) -> Refusal {
        Refusal {
            cause,
            version: self.version,
            cluster: self.cluster,
            node: self.node,
            text: text.into(),
        }
    }

    /// Whether the other end can be understood and belongs to the same cluster.
    pub fn judge_preamble(&self, theirs: Preamble) -> Result<(), Refusal> {
        self.judge_version(theirs)?;
        self.judge_cluster(theirs)
    }

    /// Whether the other end can be understood.
    pub fn judge_version(&self, theirs: Preamble) -> Result<(), Refusal> {
        if !self.version.understands(theirs.version) {
            let text = format!(
                "member {} speaks protocol version {}, member {} speaks {}; upgrade the older one",
                self.node, self.version, theirs.node, theirs.version
            );
            return Err(self.refusal(Cause::Version, text));
        }
        Ok(())
    }

    /// Whether the other end belongs to the same cluster.
    pub fn judge_cluster(&self, theirs: Preamble) -> Result<(), Refusal> {
        if theirs.cluster != self.cluster {
            let text = format!(
                "member {} belongs to cluster {}, member {} to cluster {}",
                self.node, self.cluster, theirs.node, theirs.cluster
            );
            return Err(self.refusal(Cause::Cluster, text));
        }
        Ok(())
    }

    /// Whether it is who was expected, and takes us for who we are.
    pub fn judge_identity(&self, theirs: &Greeting, expected: Option<NodeId>) -> Result<(), Refusal> {
        let text = if theirs.to != NodeId(0) && theirs.to != self.node {
            format!("this is member {}, not member {}", self.node, theirs.to)
        } else if theirs.node == self.node && theirs.purpose != Purpose::Ask {
            format!("both ends say that they are member {}", self.node)
        } else if theirs.node == NodeId(0) {
            "no member has the id 0".to_owned()
        } else if let Some(expected) = expected
            && expected != theirs.node
        {
            format!("this is member {}, not member {expected}", theirs.node)
        } else {
            return Ok(());
        };
        Err(self.refusal(Cause::Node, text))
    }
}

fn put_preamble(version: Version, cluster: u64, node: NodeId, out: &mut Vec<u8>) {
    out.put_u16(version.major);
    out.put_u16(version.minor);
    out.put_u64(cluster);
    out.put_u64(node.0);
}

fn version_of(payload: &mut Bytes) -> Result<Version, BadHandshake> {
    Ok(Version {
        major: payload.try_get_u16().map_err(|_| BadHandshake)?,
        minor: payload.try_get_u16().map_err(|_| BadHandshake)?,
    })
}

/// At most [`TEXT_MAX`] bytes of `text`, whole characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    out.put_u16(u16::try_from(text.len()).expect("it was cut to a few kibibytes"));
    out.put_slice(text);
}

fn text_of(payload: &mut Bytes, max: usize) -> Result<Bytes, BadHandshake> {
    let length = usize::from(payload.try_get_u16().map_err(|_| BadHandshake)?);
    if length > max || length > payload.len() {
        return Err(BadHandshake);
    }
    Ok(payload.split_to(length))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    const OWN: Own = Own {
        version: Version { major: 1, minor: 4 },
        cluster: 7,
        node: NodeId(2),
    };

    fn greeting() -> Greeting {
        Greeting {
            version: OWN.version,
            cluster: 7,
            node: NodeId(1),
            to: NodeId(2),
            instance: 99,
            purpose: Purpose::Link,
            extra: Bytes::from_static(b"hello"),
        }
    }

    fn payload(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut out = Vec::new();
        write(&mut out);
        let frame = frame::take(&mut BytesMut::from(&out[..]), FRAME_MAX);
        frame.unwrap().unwrap().payload
    }

    fn decode(mut payload: Bytes) -> Result<Greeting, BadHandshake> {
        let preamble = Preamble::decode(&mut payload)?;
        Greeting::decode(preamble, payload)
    }

    #[test]
    fn greetings_and_refusals_are_read_as_written_and_never_cut_short() {
        let hello = payload(|out| greeting().put(Kind::Hello, out));
        assert_eq!(decode(hello.clone()), Ok(greeting()));
        let refusal = OWN.refusal(Cause::Busy, "no room");
        let refused = payload(|out| refusal.put(out));
        assert_eq!(Refusal::decode(refused.clone()), Ok(refusal));
        for length in 0..hello.len() {
            assert_eq!(decode(hello.slice(..length)), Err(BadHandshake));
        }
        for length in 0..refused.len() {
            assert_eq!(Refusal::decode(refused.slice(..length)), Err(BadHandshake));
        }
    }

    #[test]
    fn a_later_minor_version_may_add_fields() {
        let mut longer = payload(|out| greeting().put(Kind::Hello, out)).to_vec();
        longer.extend_from_slice(b"something new");
        assert_eq!(decode(longer.into()), Ok(greeting()));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let refusal = OWN.refusal(Cause::NotAdmitted, "é".repeat(4000));
        let read = Refusal::decode(payload(|out| refusal.put(out))).unwrap();
        assert_eq!(read.text, "é".repeat(512));
    }

    #[test]
    fn versions_clusters_and_ids_must_fit() {
        let judge = |change: &dyn Fn(&mut Greeting), expected: Option<u64>| {
            let mut theirs = greeting();
            change(&mut theirs);
            let preamble = Preamble {
                version: theirs.version,
                cluster: theirs.cluster,
                node: theirs.node,
            };
            OWN.judge_preamble(preamble)
                .and_then(|()| OWN.judge_identity(&theirs, expected.map(NodeId)))
                .map_err(|refusal| (refusal.cause, refusal.text))
        };
        let nothing = |_: &mut Greeting| {};
        assert_eq!(judge(&nothing, None), Ok(()));
        assert_eq!(judge(&nothing, Some(1)), Ok(()));
        assert_eq!(judge(&|theirs| theirs.version.minor = 5, None), Ok(()));
        assert_eq!(judge(&|theirs| theirs.version.minor = 3, None), Ok(()));
        assert_eq!(judge(&|theirs| theirs.to = NodeId(0), None), Ok(()));
        let (cause, text) = judge(&|theirs| theirs.version.minor = 6, None).unwrap_err();
        assert_eq!(cause, Cause::Version);
        assert!(text.contains("1.4") && text.contains("1.6"), "{text}");
        assert_eq!(
            judge(&|theirs| theirs.version.major = 2, None).unwrap_err().0,
            Cause::Version
        );
        let (cause, text) = judge(&|theirs| theirs.cluster = 8, None).unwrap_err();
        assert_eq!(cause, Cause::Cluster);
        assert!(text.contains("cluster 7") && text.contains("cluster 8"), "{text}");
        let wrong = [
            judge(&|theirs| theirs.to = NodeId(3), None),
            judge(&|theirs| theirs.node = NodeId(2), None),
            judge(&|theirs| theirs.node = NodeId(0), None),
            judge(&nothing, Some(3)),
        ];
        for refused in wrong {
            assert_eq!(refused.unwrap_err().0, Cause::Node);
        }
    }
}
