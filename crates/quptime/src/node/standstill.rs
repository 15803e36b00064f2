//! Notices that this node has stood still: its process was stopped, its machine was paused, moved or swapped out.
//!
//! What was decided before may be out of date afterwards, and nothing in a process tells it so: it goes on in the middle of whatever it did. A
//! message that was about to be sent would be sent now, perhaps an hour late and after another master has told it. So a *beat* is noted ten
//! times in a second, by both clocks, because a paused machine may show on the wall clock only; a gap between beats is a standstill.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::shared::Shared;
use crate::machine::Millis;

/// How often a beat is noted.
const BEAT: Duration = Duration::from_millis(100);
/// A gap that counts. No other master can be elected in a shorter one; a busy machine leaves gaps, which cost one more claim and nothing else.
const STILL_MS: Millis = 500;

/// When this node was last seen to move.
#[derive(Debug)]
pub struct Standstill(Mutex<Beats>);

#[derive(Debug, Clone, Copy)]
struct Beats {
    /// The last one, by the monotonic clock and by the wall clock.
    last: (Millis, Millis),
    /// When the last gap ended, by the monotonic clock.
    moved_again: Option<Millis>,
}

/// Notes beats until the run ends.
pub async fn run(shared: Arc<Shared>) {
    loop {
        shared.standstill.beat(shared.now(), shared.wall());
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

impl Standstill {
    /// From now on.
    pub fn new(now: Millis, wall: Millis) -> Standstill {
        Standstill(Mutex::new(Beats {
            last: (now, wall),
            moved_again: None,
        }))
    }

    /// Notes a beat.
    pub fn beat(&self, now: Millis, wall: Millis) {
        let mut beats = self.0.lock();
        if beats.gap(now, wall) >= STILL_MS {
            beats.moved_again = Some(now);
        }
        beats.last = (now, wall);
    }

    /// Whether it stood still at some time since `then`, of the monotonic clock.
    pub fn since(&self, then: Millis, now: Millis, wall: Millis) -> bool {
        let beats = self.0.lock();
        beats.gap(now, wall) >= STILL_MS || beats.moved_again.is_some_and(|at| at > then)
    }
}

impl Beats {
    fn gap(&self, now: Millis, wall: Millis) -> Millis {
        now.saturating_sub(self.last.0)
            .max(wall.saturating_sub(self.last.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Millis = 1_700_000_000_000;

    /// A node that has beaten regularly until 10 s.
    fn beating() -> Standstill {
        let standstill = Standstill::new(0, WALL);
        for now in (0..=10_000).step_by(100) {
            standstill.beat(now, WALL + now);
        }
        standstill
    }

    #[test]
    fn who_beats_has_not_stood_still() {
        assert!(!beating().since(0, 10_090, WALL + 10_090));
    }

    #[test]
    fn a_gap_shows_before_and_after_the_next_beat() {
        let standstill = beating();
        assert!(
            standstill.since(9_990, 15_000, WALL + 15_000),
            "nothing has beaten yet"
        );
        standstill.beat(15_001, WALL + 15_001);
        standstill.beat(15_101, WALL + 15_101);
        assert!(
            standstill.since(9_990, 15_110, WALL + 15_110),
            "what began before"
        );
        assert!(
            !standstill.since(15_050, 15_110, WALL + 15_110),
            "what began after"
        );
    }

    #[test]
    fn a_pause_that_only_the_wall_clock_saw_counts() {
        let standstill = beating();
        assert!(standstill.since(9_990, 10_050, WALL + 70_000));
        standstill.beat(10_060, WALL + 70_010);
        assert!(standstill.since(9_990, 10_070, WALL + 70_020));
    }
}
