//! What went wrong lately, for `qu doctor`: every line of level error that this program has logged, from whichever part of it.
//!
//! The log itself is the source, so nothing that operators find there is missing here. It outlives runs, as the log does. Only attempts
//! to reach a peer are left out: every restart of another node makes some, and whether peers hear each other now is a finding of its own.

use std::collections::VecDeque;

use parking_lot::Mutex;
use service::clock::{Moment, SharedClock};

/// Errors are remembered for so long.
const REMEMBERED_MS: u128 = 600_000;
/// And so many of them: more lines help nobody.
const LINES_MAX: usize = 256;
/// Of a line so many bytes are kept.
const LINE_MAX: usize = 400;

/// How the transport begins a line about an attempt that failed.
const ATTEMPT: &str = "Failed to connect to peer";

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
        if text.starts_with(ATTEMPT) {
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

    /// Those of the last ten minutes, the newest last.
    pub fn recent(&self) -> Vec<String> {
        let now = self.clock.now();
        let lines = self.lines.lock();
        let recent = lines
            .iter()
            .filter(|(at, _)| now.since(*at).as_millis() <= REMEMBERED_MS);
        recent.map(|(_, text)| text.clone()).collect()
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
        troubles.note("something else: b");
        troubles.note("ERROR quptime: Not delivered, delivery=a: b\n");
        let both = ["something else: b", "Not delivered, delivery=a: b"];
        assert_eq!(troubles.recent(), both);
        clock.advance(Duration::from_mins(10));
        assert_eq!(troubles.recent(), both);
        clock.advance(Duration::from_millis(1));
        assert_eq!(troubles.recent(), [""; 0]);
        for number in 0..LINES_MAX + 5 {
            troubles.note(&format!("ERROR quptime: {number}{}\n", "ä".repeat(LINE_MAX)));
        }
        let recent = troubles.recent();
        assert_eq!(recent.len(), LINES_MAX);
        assert!(recent.iter().all(|line| line.len() <= LINE_MAX));
    }
}
