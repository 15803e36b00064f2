//! A group that was founded and has not begun: founding, following, adopting, giving up.

use super::action::{Action, Row, Waiting};
use super::facts::{Content, Founding, Group, NodeId, Note, RaftFacts, Standing, Statement, Ticket};
use super::rule::Founded;
use super::{Answer, Entrance, broken, took};

impl Entrance {
    pub(super) fn found(&mut self, founded: Founded, ticket: Ticket, fresh: u64) -> Vec<Action> {
        let mut members = founded.others;
        members.insert(self.node, ticket.incarnation);
        let group = Group {
            generation: self.highest_generation() + 1,
            id: fresh,
        };
        let from_log = self.has_state() && !self.edited && !broken!(self, AlwaysFromFile);
        let founding = Founding {
            group,
            founder: self.node,
            members,
            digest: self.digest(),
            content: if from_log { Content::Log } else { Content::File },
            // A placeholder that became a state must not look like one.
            version: (self.version() + u64::from(founded.raises_version)).max(1),
            base: self.extent(),
        };
        self.try_out(founding, founded.row)
    }

    pub(super) fn follow(&mut self, founding: Founding) -> Vec<Action> {
        self.try_out(founding, Row::Follows)
    }

    /// Leaves the old group, on disk, before anything of the new one happens. The replica of the old one stops first, so nothing is
    /// acknowledged after the look at the log that the ticket promises.
    fn try_out(&mut self, founding: Founding, row: Row) -> Vec<Action> {
        let note = Note {
            generation: founding.group.generation.max(self.note.generation),
            standing: Standing::Trial(founding.clone()),
        };
        let take_part = self.take_part(founding);
        let mut actions = vec![Action::StopReplica];
        if broken!(self, FollowsBeforeDisk) {
            actions.push(take_part.clone());
        }
        if broken!(self, DropsOldData) {
            self.raft = None;
        }
        self.begin_asking();
        actions.extend(self.persist(note, vec![take_part, took(row)]));
        actions
    }

    /// Founds or follows, again after a crash.
    pub(super) fn take_part(&self, founding: Founding) -> Action {
        if founding.founder == self.node {
            Action::Found(founding)
        } else {
            Action::Follow(founding)
        }
    }

    /// What a founder says it founded, with exactly this ticket.
    pub(super) fn founding_with(&self, ticket: Ticket) -> Option<Founding> {
        let told = self
            .said()
            .filter_map(|(peer, statement)| Some((peer, statement.trial.as_ref()?)));
        told.filter(|(peer, founding)| {
            let named = match founding.members.get(&self.node) {
                Some(life) => *life == ticket.incarnation || broken!(self, FollowsAnyLife),
                None => false,
            };
            let agreed = founding.digest == self.digest() || broken!(self, FollowsOtherFile);
            founding.founder == *peer && named && agreed
        })
        .map(|(_, founding)| founding.clone())
        .next()
    }

    /// The new group's log has begun here. That takes a leader, so a majority has left whatever group it was in.
    pub(super) fn adopt(&mut self, begun: RaftFacts, restart: bool) -> Vec<Action> {
        self.raft = Some(begun);
        self.edited = false;
        self.waiting = None;
        self.begin_asking();
        let note = Note {
            generation: self.note.generation,
            ..Note::default()
        };
        self.note.standing = Standing::Own;
        let mut actions = vec![Action::Adopt, took(Row::Adopts)];
        if restart {
            actions.extend([Action::RewriteFile, Action::StartReplica]);
        }
        actions.extend(self.persist(note, Vec::new()));
        actions
    }

    pub(super) fn look_at_trial(&mut self, founding: &Founding) -> Vec<Action> {
        self.waiting = Some(Waiting::Trial(founding.group));
        let hopeless = if founding.founder == self.node {
            self.is_without_members(founding)
        } else {
            self.is_without_founder(founding)
        };
        let changed = founding.digest != self.digest();
        if !(hopeless || changed) || broken!(self, NeverGivesUp) {
            return Vec::new();
        }
        let note = Note {
            standing: if broken!(self, GoesBack) {
                Standing::Own
            } else {
                Standing::Left
            },
            generation: self.note.generation,
        };
        self.begin_asking();
        let mut then = vec![Action::DropTrial, took(Row::GivesUpTrial)];
        if broken!(self, GoesBack) {
            then.push(Action::StartReplica);
        }
        self.persist(note, then)
    }

    /// A follower's log is empty, so it can let go as soon as the founder has.
    fn is_without_founder(&self, founding: &Founding) -> bool {
        match self.answers.get(&founding.founder) {
            None => false,
            Some(Answer::Unreachable) => self.has_waited(),
            Some(Answer::Said(statement)) => !is_in(statement, founding.group),
        }
    }

    /// The members that are in, or still may follow, are no majority.
    fn is_without_members(&self, founding: &Founding) -> bool {
        let may_count = |(peer, life): &(&NodeId, &_)| match self.answers.get(peer) {
            _ if **peer == self.node => true,
            None => true,
            Some(Answer::Unreachable) => false,
            Some(Answer::Said(statement)) => {
                let may_follow = statement
                    .ticket
                    .is_some_and(|ticket| ticket.incarnation == **life);
                may_follow || is_in(statement, founding.group)
            }
        };
        let left = founding.members.iter().filter(may_count).count();
        self.is_concluded() && left <= founding.members.len() / 2
    }
}

/// In the group, and able to go on in it: one that left still has the data.
fn is_in(statement: &Statement, group: Group) -> bool {
    let trial = statement.trial.as_ref().is_some_and(|trial| trial.group == group);
    let begun = statement.data.as_ref();
    trial || begun.is_some_and(|data| data.facts.group == group && data.votes)
}
