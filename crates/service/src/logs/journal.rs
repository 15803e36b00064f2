//! Whether standard error goes straight to the journal (`systemd.exec(5)`, `$JOURNAL_STREAM`).

use nix::sys::stat::fstat;

/// True when `JOURNAL_STREAM` names the device and inode of standard error. The variable alone is not enough: children
/// inherit it even when their output was sent elsewhere.
pub(super) fn is_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(std::io::stderr()).is_ok_and(|file| names(&stream, file.st_dev, file.st_ino))
}

/// Whether `stream` is `DEVICE:INODE` in decimal.
fn names(stream: &str, device: u64, inode: u64) -> bool {
    stream
        .split_once(':')
        .is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_must_match() {
        assert!(names("8:1234", 8, 1234));
        for other in ["8:1235", "9:1234", "8", "8:1234:1", "", "a:b"] {
            assert!(!names(other, 8, 1234), "{other}");
        }
    }
}
