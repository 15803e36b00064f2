//! Echo requests and replies (RFC 792, RFC 4443).

/// Bytes before the payload: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// Bytes of the token, the first of the payload.
pub(super) const TOKEN: usize = 16;

/// Bytes of the payload, as many as `ping` sends.
const PAYLOAD: usize = 56;

/// Recognises the answers to one probe.
pub(super) type Token = [u8; TOKEN];

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// ICMP over IPv4.
    V4,
    /// ICMPv6.
    V6,
}

impl Family {
    const fn request(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    const fn reply(self) -> u8 {
        match self {
            Self::V4 => 0,
            Self::V6 => 129,
        }
    }
}

/// An echo reply, as far as it is looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) identifier: u16,
    pub(super) sequence: u16,
    pub(super) token: Token,
}

/// An echo request. The checksum of ICMPv6 covers addresses, so the kernel fills it in.
pub(super) fn request(
    family: Family,
    identifier: u16,
    sequence: u16,
    token: &Token,
) -> [u8; HEADER + PAYLOAD] {
    let mut packet = [0; HEADER + PAYLOAD];
    packet[0] = family.request();
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet[HEADER..HEADER + TOKEN].copy_from_slice(token);
    if family == Family::V4 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Reads an echo reply. Raw IPv4 sockets put the IP header in front.
pub(super) fn reply(family: Family, with_ip_header: bool, bytes: &[u8]) -> Option<Reply> {
    let message = if with_ip_header {
        let words = bytes.first()? & 0x0f;
        bytes.get(usize::from(words) * 4..)?
    } else {
        bytes
    };
    let (header, payload) = message.split_first_chunk::<HEADER>()?;
    let [kind, code, _, _, id_high, id_low, seq_high, seq_low] = *header;
    if kind != family.reply() || code != 0 || payload.len() != PAYLOAD {
        return None;
    }
    Some(Reply {
        identifier: u16::from_be_bytes([id_high, id_low]),
        sequence: u16::from_be_bytes([seq_high, seq_low]),
        token: *payload.first_chunk()?,
    })
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let mut sum: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    sum += rest.first().map_or(0, |byte| u32::from(*byte) << 8);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_back() {
        let token = *b"0123456789abcdef";
        for family in [Family::V4, Family::V6] {
            let mut packet = request(family, 0x1234, 0xfffe, &token).to_vec();
            // Over loopback a raw socket also sees the request itself.
            assert_eq!(reply(family, false, &packet), None);
            packet[0] = family.reply();
            let expected = Reply {
                identifier: 0x1234,
                sequence: 0xfffe,
                token,
            };
            assert_eq!(reply(family, false, &packet), Some(expected));
            for length in 0..packet.len() {
                assert_eq!(reply(family, false, &packet[..length]), None);
            }
            let mut with_header = vec![0x46; 24];
            with_header.extend(&packet);
            assert!(reply(family, true, &with_header).is_some());
            assert_eq!(reply(family, true, &with_header[..20]), None);
        }
        assert_eq!(reply(Family::V4, true, &[]), None);
    }

    #[test]
    fn a_message_with_its_checksum_sums_to_zero() {
        let packet = request(Family::V4, 77, 3, &[0xab; TOKEN]);
        assert_eq!(checksum(&packet), 0);
        // RFC 1071, section 3.
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        assert_eq!(checksum(&[1]), !0x0100);
    }
}
