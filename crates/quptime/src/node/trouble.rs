//! What went wrong lately, for `qu doctor`: every line of level error that this program has logged, from whichever part of it.
//!
//! The log itself is the source, so nothing that operators find there is missing here. It outlives runs, as the log does. Left out is what
//! somebody typed and was told about at once: a change that found no quorum, an edit of the file that makes no sense; whether there is quorum,
//! and how it stands with the file, are findings of their own. Attempts to reach a peer are kept apart and for a short while: every restart
//! of another node makes some, and whether peers hear each other now is a finding of its own, too.

use std::collections::VecDeque;

use parking_lot::Mutex;
use service::clock::{Moment, SharedClock};

use crate::machine::Millis;

/// Errors are remembered for so long.
const REMEMBERED_MS: u128 = 600_000;
/// And so many of them: more lines help nobody.
const LINES_MAX: usize = 256;
/// Of a line so many bytes are kept.
const LINE_MAX: usize = 400;

/// Attempts to reach a peer are: the peer is mostly there again soon.
const ATTEMPTS_REMEMBERED_MS: u128 = 60_000;
/// How the transport begins a line about an attempt that failed.
const ATTEMPT: &str = "Failed to connect to peer";
/// How lines begin about what somebody typed in vain, and knows of.
const TYPED: [&str; 2] = ["manual-edit: not applied", "propose to master: no quorum"];

/// The last of these lines.
pub struct Troubles {
    clock: SharedClock,
    lines: Mutex<VecDeque<(Moment, String)>>,
}

impl std::fmt::Debug for Troubles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Troubles").finish_non_exhaustive()
    }
}

impl Troubles {
    /// None yet.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            lines: Mutex::default(),
        }
    }

    /// Takes a line as it was logged: `ERROR quptime: Not delivered, delivery=…`.
    pub fn note(&self, line: &str) {
        let line = line.trim_end();
        let text = line
            .split_once(": ")
            .filter(|(begin, _)| begin.starts_with("ERROR "))
            .map_or(line, |(_, text)| text);
        if TYPED.iter().any(|begin| text.starts_with(begin)) {
            return;
        }
        let text = &text[..text.floor_char_boundary(LINE_MAX)];
        let now = self.clock.now();
        let mut lines = self.lines.lock();
        // What repeats itself is one trouble, and must not push others out.
        lines.retain(|(_, known)| known != text);
        lines.push_back((now, text.to_owned()));
        while lines.len() > LINES_MAX {
            lines.pop_front();
        }
    }

    /// Those of the last ten minutes but for attempts to reach a peer, the newest last, each with its age.
    pub fn recent(&self) -> Vec<(Millis, String)> {
        self.of(REMEMBERED_MS, |text| !text.starts_with(ATTEMPT))
    }

    /// Attempts of the last minute to reach a peer, the newest last.
    pub fn attempts(&self) -> Vec<String> {
        let attempts = self.of(ATTEMPTS_REMEMBERED_MS, |text| text.starts_with(ATTEMPT));
        attempts.into_iter().map(|(_, text)| text).collect()
    }

    fn of(&self, remembered_ms: u128, wanted: impl Fn(&str) -> bool) -> Vec<(Millis, String)> {
        let now = self.clock.now();
        let lines = self.lines.lock();
        let aged = lines.iter().map(|(at, text)| (now.since(*at).as_millis(), text));
        aged.filter(|(age, text)| *age <= remembered_ms && wanted(text))
            .map(|(age, text)| (age as Millis, text.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use service::clock::ManualClock;

    use super::*;

    #[test]
    fn errors_are_remembered_for_a_while() {
        let clock = Arc::new(ManualClock::default());
        let troubles = Troubles::new(clock.clone());
        troubles.note("ERROR quptime: Not delivered, delivery=a: b\n");
        troubles.note("ERROR quptime: Failed to connect to peer, node_id=7, error=connection refused\n");
        troubles.note("ERROR quptime: manual-edit: not applied: line 7: unknown key");
        troubles.note("ERROR quptime: propose to master: no quorum, change refused (live 1, need 2)");
        troubles.note("something else: b");
        troubles.note("ERROR quptime: Not delivered, delivery=a: b\n");
        let recent = |troubles: &Troubles| {
            let all = troubles.recent().into_iter().map(|(_, text)| text);
            all.collect::<Vec<_>>()
        };
        let both = ["something else: b", "Not delivered, delivery=a: b"];
        assert_eq!(recent(&troubles), both);
        let attempt = ["Failed to connect to peer, node_id=7, error=connection refused"];
        assert_eq!(troubles.attempts(), attempt);
        clock.advance(Duration::from_mins(1));
        assert_eq!(troubles.attempts(), attempt);
        clock.advance(Duration::from_mins(9));
        assert_eq!(troubles.attempts(), [""; 0]);
        assert_eq!(recent(&troubles), both);
        assert_eq!(troubles.recent()[0].0, 600_000);
        clock.advance(Duration::from_millis(1));
        assert_eq!(recent(&troubles), [""; 0]);
        for number in 0..LINES_MAX + 5 {
            troubles.note(&format!("ERROR quptime: {number}{}\n", "ä".repeat(LINE_MAX)));
        }
        let recent = recent(&troubles);
        assert_eq!(recent.len(), LINES_MAX);
        assert!(recent.iter().all(|line| line.len() <= LINE_MAX));
    }
}
