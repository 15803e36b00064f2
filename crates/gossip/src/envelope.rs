//! What stands around every message: `magic, version, flags, cluster, sender, payload, CRC-32C`. A datagram is one envelope; over TCP
//! each stands behind its length.
//!
//! Whatever is not for this cluster is dropped here, before anything of it is looked at.

use bytes::{Buf, BufMut, Bytes};

const MAGIC: [u8; 4] = *b"MSGo";

/// What this release speaks. Others are ignored.
const VERSION: u8 = 1;

const HEADER: usize = 4 + 1 + 1 + 8 + 8;
const TRAILER: usize = 4;

/// The sender has lately received a datagram of the receiver.
const HEARS_DATAGRAMS: u8 = 1;

/// Payload, at most: with headers of IP and UDP it fits into the 1280 bytes that every network carries whole, IPv6 tunnels included.
pub const PAYLOAD_MAX: usize = 1200;

/// Longest envelope.
pub const ENVELOPE_MAX: usize = HEADER + PAYLOAD_MAX + TRAILER;

/// One message with what stands around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The sender's cluster.
    pub cluster: u64,
    /// The sender.
    pub from: u64,
    /// Whether datagrams of the receiver reach the sender.
    pub hears_datagrams: bool,
    /// The message.
    pub payload: Bytes,
}

/// Why bytes are no envelope for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// They are none.
    Garbage,
    /// Another version.
    Version(u8),
    /// Another cluster, and the id that the sender has there.
    Cluster {
        /// Theirs.
        cluster: u64,
        /// The sender.
        from: u64,
    },
}

impl Envelope {
    /// Encodes it.
    pub fn seal(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEADER + self.payload.len() + TRAILER);
        out.put_slice(&MAGIC);
        out.put_u8(VERSION);
        out.put_u8(if self.hears_datagrams { HEARS_DATAGRAMS } else { 0 });
        out.put_u64(self.cluster);
        out.put_u64(self.from);
        out.put_slice(&self.payload);
        let checksum = crc32c::crc32c(&out);
        out.put_u32(checksum);
        out.into()
    }

    /// Reads one that is for `cluster`.
    pub fn open(mut bytes: Bytes, cluster: u64) -> Result<Envelope, Unfit> {
        if !(HEADER + TRAILER..=ENVELOPE_MAX).contains(&bytes.len()) || bytes[..4] != MAGIC {
            return Err(Unfit::Garbage);
        }
        let mut trailer = bytes.split_off(bytes.len() - TRAILER);
        if crc32c::crc32c(&bytes) != trailer.get_u32() {
            return Err(Unfit::Garbage);
        }
        bytes.advance(4);
        let (version, flags) = (bytes.get_u8(), bytes.get_u8());
        if version != VERSION {
            return Err(Unfit::Version(version));
        }
        let (theirs, from) = (bytes.get_u64(), bytes.get_u64());
        if theirs != cluster {
            return Err(Unfit::Cluster {
                cluster: theirs,
                from,
            });
        }
        Ok(Envelope {
            cluster,
            from,
            hears_datagrams: flags & HEARS_DATAGRAMS != 0,
            payload: bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            cluster: 7,
            from: 2,
            hears_datagrams: true,
            payload: Bytes::from_static(b"hello"),
        }
    }

    #[test]
    fn envelopes_are_read_as_written_and_not_when_damaged() {
        let bytes = envelope().seal();
        assert_eq!(Envelope::open(bytes.clone(), 7), Ok(envelope()));
        for at in 0..bytes.len() {
            assert_eq!(Envelope::open(bytes.slice(..at), 7), Err(Unfit::Garbage));
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 8;
            assert_eq!(Envelope::open(damaged.into(), 7), Err(Unfit::Garbage));
        }
        let long = Envelope {
            payload: vec![0; PAYLOAD_MAX + 1].into(),
            ..envelope()
        };
        assert_eq!(Envelope::open(long.seal(), 7), Err(Unfit::Garbage));
    }

    #[test]
    fn other_clusters_and_versions_are_told_apart() {
        let bytes = envelope().seal();
        let stranger = Unfit::Cluster { cluster: 7, from: 2 };
        assert_eq!(Envelope::open(bytes.clone(), 8), Err(stranger));
        let mut newer = bytes[..bytes.len() - TRAILER].to_vec();
        newer[4] = 2;
        let checksum = crc32c::crc32c(&newer);
        newer.put_u32(checksum);
        assert_eq!(Envelope::open(newer.into(), 7), Err(Unfit::Version(2)));
    }
}
