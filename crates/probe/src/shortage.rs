//! What this machine lacks itself: descriptors, memory, ports.
//!
//! A probe that fails for want of these has not looked at its target, so it ends as [`Finding::NoReport`]. As DOWN it would be a vote:
//! several nodes that run into the same limit (one unit file, one number of checks) would take everything they watch for dead at once.
//!
//! [`Finding::NoReport`]: crate::Finding::NoReport

use std::io;

use nix::errno::Errno;

/// Whether an error of the system is about this machine and says nothing of the other side.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    is_total(error) || is_of_one_address(error)
}

/// A want that meets every attempt alike.
fn is_total(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

/// No own address or port to begin from. A machine without IPv6 has none for every IPv6 address and is well otherwise.
fn is_of_one_address(error: &io::Error) -> bool {
    error.raw_os_error().map(Errno::from_raw) == Some(Errno::EADDRNOTAVAIL)
}

/// Whether attempts at several addresses failed for want of something here: one of them in a way that meets all alike, or all of them.
/// `errors` holds nothing for what failed otherwise.
pub(crate) fn decides<'a>(errors: impl IntoIterator<Item = Option<&'a io::Error>>) -> bool {
    let (mut any, mut only_ours) = (false, true);
    for error in errors {
        if error.is_some_and(is_total) {
            return true;
        }
        any = true;
        only_ours &= error.is_some_and(is_of_one_address);
    }
    any && only_ours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno as i32)
    }

    #[test]
    fn what_is_missing_here_is_told_from_what_is_wrong_there() {
        for errno in [
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::ENOBUFS,
            Errno::ENOMEM,
            Errno::EADDRNOTAVAIL,
        ] {
            assert!(is_ours(&of(errno)), "{errno}");
        }
        for errno in [
            Errno::ECONNREFUSED,
            Errno::ETIMEDOUT,
            Errno::EHOSTUNREACH,
            Errno::ENETUNREACH,
            Errno::ECONNRESET,
            Errno::EPERM,
        ] {
            assert!(!is_ours(&of(errno)), "{errno}");
        }
        assert!(!is_ours(&io::ErrorKind::UnexpectedEof.into()));
    }

    #[test]
    fn a_missing_family_hides_no_refusal() {
        let [refused, no_v6, files] = [Errno::ECONNREFUSED, Errno::EADDRNOTAVAIL, Errno::EMFILE].map(of);
        assert!(!decides([Some(&no_v6), Some(&refused)]));
        assert!(!decides([Some(&no_v6), None]));
        assert!(decides([Some(&no_v6), Some(&no_v6)]));
        assert!(decides([Some(&refused), Some(&files)]));
        assert!(!decides([]));
    }
}
