//! What a node tells by itself, beside the group: that quorum is lost and that it is back, and to a watchdog that all is well.
//!
//! Nothing here is replicated: a node without quorum can agree on nothing with anybody. So every node tells for itself, once at the
//! beginning, after quorum has been away for a while, and once when it is back. What has been told is a [`Note`] that the caller keeps
//! on disk and shows again after a restart, so a daemon that is started anew in the middle of it does not repeat itself.

use serde::{Deserialize, Serialize};

use super::Millis;
use super::dispatch::retry_at;

/// What the node has told, or is about to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// When quorum was lost, UNIX milliseconds. It is part of the message's identity.
    pub since: Millis,
    /// Whether somebody may have heard that.
    pub heard: bool,
    /// Whether the message is done with.
    pub told: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Keep this on disk; nothing: remove what is there.
    Keep(Option<Note>),
    /// Tell it, then call [`Fallback::answered`].
    Tell(Notice),
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Quorum is lost since then.
    Lost {
        /// UNIX milliseconds.
        since: Millis,
    },
    /// It is back after it was lost then.
    Back {
        /// UNIX milliseconds.
        since: Millis,
        /// When it came back, UNIX milliseconds.
        at: Millis,
    },
}

/// What came of telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was taken.
    Told,
    /// It was not; somebody may have heard it all the same.
    Failed {
        /// Whether.
        maybe_heard: bool,
        /// Whether another attempt will hardly help.
        permanent: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is quorum, and nobody waits for a word.
    Well,
    /// There is none, and nobody has been told.
    Without { since: Millis },
    /// It is told, or being told.
    Lost(Note),
    /// It is back, and that is being told.
    Back { note: Note, at: Millis },
}

/// The machine. `now` is a clock that only goes forward; `wall` is that of people.
#[derive(Debug)]
pub struct Fallback {
    after: Millis,
    stage: Stage,
    attempts: u32,
    due: Millis,
    under_way: bool,
}

impl Fallback {
    /// Tells after so long without quorum; `note` is what was kept last.
    pub fn new(after: Millis, note: Option<Note>) -> Fallback {
        Fallback {
            after,
            stage: note.map_or(Stage::Well, Stage::Lost),
            attempts: 0,
            due: 0,
            under_way: false,
        }
    }

    /// Looks at how it stands. `quorum` is nothing for a node that is no part of any cluster: then nothing is told any more.
    pub fn look(&mut self, now: Millis, wall: Millis, quorum: Option<bool>) -> Vec<Action> {
        if self.under_way {
            return Vec::new();
        }
        let Some(quorum) = quorum else {
            return self.forget();
        };
        match self.stage {
            Stage::Well if quorum => Vec::new(),
            Stage::Well => {
                self.stage = Stage::Without { since: now };
                Vec::new()
            }
            Stage::Without { .. } if quorum => {
                self.stage = Stage::Well;
                Vec::new()
            }
            Stage::Without { since } => {
                let lasted = now.saturating_sub(since);
                if lasted < self.after {
                    return Vec::new();
                }
                let note = Note {
                    since: wall.saturating_sub(lasted),
                    heard: false,
                    told: false,
                };
                self.begin(Stage::Lost(note), now);
                let mut actions = vec![Action::Keep(Some(note))];
                actions.extend(self.tell(now));
                actions
            }
            // Nobody has heard that it was away, so nobody needs to hear that it is back.
            Stage::Lost(note) if quorum && !note.heard => self.forget(),
            Stage::Lost(note) if quorum => {
                self.begin(Stage::Back { note, at: wall }, now);
                self.tell(now)
            }
            // It was back for so short a time that nobody has heard of it: what they know is true again.
            Stage::Back { note, .. } if !quorum => {
                self.begin(Stage::Lost(note), now);
                Vec::new()
            }
            Stage::Lost(_) | Stage::Back { .. } => self.tell(now),
        }
    }

    fn begin(&mut self, stage: Stage, now: Millis) {
        self.stage = stage;
        self.attempts = 0;
        self.due = now;
    }

    fn forget(&mut self) -> Vec<Action> {
        let kept = matches!(self.stage, Stage::Lost(_) | Stage::Back { .. });
        self.stage = Stage::Well;
        if kept {
            vec![Action::Keep(None)]
        } else {
            Vec::new()
        }
    }

    fn tell(&mut self, now: Millis) -> Vec<Action> {
        let notice = match self.stage {
            Stage::Lost(note) if !note.told => Notice::Lost { since: note.since },
            Stage::Back { note, at } => Notice::Back {
                since: note.since,
                at,
            },
            Stage::Well | Stage::Without { .. } | Stage::Lost(_) => return Vec::new(),
        };
        if now < self.due {
            return Vec::new();
        }
        self.under_way = true;
        self.attempts += 1;
        vec![Action::Tell(notice)]
    }

    /// What came of [`Action::Tell`].
    pub fn answered(&mut self, now: Millis, answer: Answer) -> Vec<Action> {
        self.under_way = false;
        if let Answer::Failed { permanent, .. } = answer {
            self.due = retry_at(now, self.attempts, None, permanent);
        }
        match &mut self.stage {
            Stage::Lost(note) => {
                let before = *note;
                match answer {
                    Answer::Told => {
                        note.heard = true;
                        note.told = true;
                    }
                    Answer::Failed { maybe_heard, .. } => note.heard |= maybe_heard,
                }
                let note = *note;
                if note == before {
                    Vec::new()
                } else {
                    vec![Action::Keep(Some(note))]
                }
            }
            Stage::Back { .. } if answer == Answer::Told => self.forget(),
            Stage::Back { .. } | Stage::Well | Stage::Without { .. } => Vec::new(),
        }
    }
}

/// When a watchdog is called: at once when this node becomes the master of a group with quorum, and then at equal intervals while it is.
#[derive(Debug)]
pub struct Watchdog {
    every: Millis,
    next: Option<Millis>,
}

impl Watchdog {
    /// Calls at this interval.
    pub fn new(every: Millis) -> Watchdog {
        Watchdog { every, next: None }
    }

    /// Whether to call now. `leads`: this node is master and hears enough others.
    pub fn look(&mut self, now: Millis, leads: bool) -> bool {
        if !leads {
            self.next = None;
            return false;
        }
        let due = self.next.is_none_or(|next| next <= now);
        if due {
            self.next = Some(now + self.every);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Millis = 120_000;
    const FAILED: Answer = Answer::Failed {
        maybe_heard: false,
        permanent: false,
    };

    /// The machine, with a wall clock that is a million ahead.
    struct Stand {
        machine: Fallback,
        kept: Option<Note>,
        told: Vec<Notice>,
    }

    impl Stand {
        fn new() -> Stand {
            Stand {
                machine: Fallback::new(AFTER, None),
                kept: None,
                told: Vec::new(),
            }
        }

        fn restart(self) -> Stand {
            Stand {
                machine: Fallback::new(AFTER, self.kept),
                ..self
            }
        }

        fn take(&mut self, actions: Vec<Action>) {
            for action in actions {
                match action {
                    Action::Keep(note) => self.kept = note,
                    Action::Tell(notice) => self.told.push(notice),
                }
            }
        }

        fn look(&mut self, now: Millis, quorum: bool) -> usize {
            let actions = self.machine.look(now, now + 1_000_000, Some(quorum));
            self.take(actions);
            self.told.len()
        }

        fn answered(&mut self, now: Millis, answer: Answer) {
            let actions = self.machine.answered(now, answer);
            self.take(actions);
        }
    }

    #[test]
    fn one_note_when_it_is_lost_and_one_when_it_is_back() {
        let mut stand = Stand::new();
        assert_eq!(stand.look(0, true), 0);
        assert_eq!(stand.look(10, false), 0);
        assert_eq!(stand.look(10 + AFTER - 1, false), 0);
        assert_eq!(stand.look(10 + AFTER, false), 1);
        assert_eq!(stand.told, [Notice::Lost { since: 1_000_010 }]);
        stand.answered(10 + AFTER + 5, Answer::Told);
        assert_eq!(stand.look(900_000, false), 1);
        assert_eq!(stand.look(900_001, true), 2);
        let back = Notice::Back {
            since: 1_000_010,
            at: 1_900_001,
        };
        assert_eq!(stand.told[1], back);
        stand.answered(900_010, Answer::Told);
        assert_eq!(stand.kept, None);
        assert_eq!(stand.look(900_011, true), 2);
    }

    #[test]
    fn a_short_loss_is_not_told() {
        let mut stand = Stand::new();
        stand.look(0, false);
        stand.look(AFTER - 1, true);
        stand.look(AFTER, false);
        assert_eq!(stand.look(AFTER + AFTER - 1, false), 0);
        assert_eq!(stand.kept, None);
    }

    #[test]
    fn a_restart_repeats_nothing() {
        let mut stand = Stand::new();
        stand.look(0, false);
        stand.look(AFTER, false);
        stand.answered(AFTER, Answer::Told);
        let mut stand = stand.restart();
        assert_eq!(stand.look(0, false), 1);
        assert_eq!(stand.look(10 * AFTER, false), 1);
        // The second message belongs to the first, whoever sends it.
        assert_eq!(stand.look(10 * AFTER + 1, true), 2);
        stand.answered(10 * AFTER + 2, Answer::Told);
        let mut stand = stand.restart();
        assert_eq!(stand.look(0, true), 2);
    }

    #[test]
    fn a_message_that_was_under_way_at_a_restart_is_the_same_message() {
        let mut stand = Stand::new();
        stand.look(0, false);
        stand.look(AFTER, false);
        let mut stand = stand.restart();
        assert_eq!(stand.look(7, false), 2);
        assert_eq!(stand.told[0], stand.told[1]);
    }

    #[test]
    fn what_is_not_taken_is_tried_again() {
        let mut stand = Stand::new();
        stand.look(0, false);
        assert_eq!(stand.look(AFTER, false), 1);
        // One at a time.
        assert_eq!(stand.look(AFTER + 60_000, false), 1);
        stand.answered(AFTER + 60_000, FAILED);
        assert_eq!(stand.look(AFTER + 64_999, false), 1);
        assert_eq!(stand.look(AFTER + 65_000, false), 2);
        stand.answered(AFTER + 65_000, FAILED);
        assert_eq!(stand.look(AFTER + 79_999, false), 2);
        assert_eq!(stand.look(AFTER + 80_000, false), 3);
        stand.answered(AFTER + 80_000, Answer::Told);
        assert_eq!(stand.look(AFTER + 3_600_000, false), 3);
    }

    #[test]
    fn who_has_not_heard_of_the_loss_does_not_hear_of_the_return() {
        let mut stand = Stand::new();
        stand.look(0, false);
        stand.look(AFTER, false);
        stand.answered(AFTER, FAILED);
        assert_eq!(stand.look(AFTER + 1, true), 1);
        assert_eq!(stand.kept, None);
        // Who may have heard it does.
        let mut stand = Stand::new();
        stand.look(0, false);
        stand.look(AFTER, false);
        let maybe = Answer::Failed {
            maybe_heard: true,
            permanent: false,
        };
        stand.answered(AFTER, maybe);
        let mut stand = stand.restart();
        assert_eq!(stand.look(1, true), 2);
        assert!(matches!(stand.told[1], Notice::Back { .. }));
    }

    #[test]
    fn a_return_that_nobody_heard_of_was_none() {
        let mut stand = Stand::new();
        stand.look(0, false);
        stand.look(AFTER, false);
        stand.answered(AFTER, Answer::Told);
        assert_eq!(stand.look(AFTER + 1, true), 2);
        stand.answered(AFTER + 2, FAILED);
        assert_eq!(stand.look(AFTER + 3, false), 2);
        assert_eq!(stand.look(9 * AFTER, false), 2);
        assert_eq!(stand.look(9 * AFTER + 1, true), 3);
    }

    #[test]
    fn a_node_that_was_removed_has_lost_nothing() {
        let mut stand = Stand::new();
        stand.look(0, false);
        stand.look(AFTER, false);
        stand.answered(AFTER, Answer::Told);
        let actions = stand.machine.look(AFTER + 1, 0, None);
        assert_eq!(actions, [Action::Keep(None)]);
        assert_eq!(stand.machine.look(9 * AFTER, 0, None), []);
    }

    #[test]
    fn the_watchdog_hears_of_the_master_alone() {
        let mut watchdog = Watchdog::new(60_000);
        assert!(!watchdog.look(0, false));
        assert!(watchdog.look(1, true));
        assert!(!watchdog.look(60_000, true));
        assert!(watchdog.look(60_001, true));
        assert!(!watchdog.look(60_002, false));
        assert!(watchdog.look(60_003, true));
    }
}
