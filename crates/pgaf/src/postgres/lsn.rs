//! Positions in the log as PostgreSQL writes them: `16/B374D848`.

/// Reads one.
pub(super) fn read(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let high = u32::from_str_radix(high, 16).ok()?;
    let low = u32::from_str_radix(low, 16).ok()?;
    Some(u64::from(high) << 32 | u64::from(low))
}

/// Writes one.
pub(super) fn text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        assert_eq!(read("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(text(0x16_B374_D848), "16/B374D848");
        for wrong in ["", "16", "16/", "/0", "x/0", "123456789/0"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
