//! What a node does while it is master: verdicts, messages, members that come and go, and handing the role over.
//!
//! [`Mastery`] follows the role on every node ([`super::role`]). While its node leads it holds a *reign*: what one master knows in one
//! term. A reign begins with nothing but the replicated state and ends with its term, and everything it wants proposed names the term, so
//! nothing of an earlier reign slips into a later one.
//!
//! Inputs: looks at the group, reports of nodes, answers to proposals, ends of attempts. Outputs: [`Action`]s, to be carried out in their
//! order. Whoever carries out gives each answer back once.
//!
//! **Invariant:** a message is attempted only after its claim is committed in the term of this reign, and so soon after the claim was proposed
//! that nobody else can lead yet. A node that stood still meanwhile, or whose disk is slow, has its claim committed once more before it
//! sends: that succeeds only for whoever still leads in the same term.

mod leaving;
mod reign;

use std::collections::BTreeMap;

use super::Millis;
use super::command::Command;
use super::role::{Changed, Role};
use super::rounds::{Finding, Rounds};
use super::state::{Delivery, State};
use crate::identity::NodeId;
pub use leaving::Reason;
use reign::Reign;

/// How long an attempt to tell somebody may take.
pub const ATTEMPT_MS: Millis = 10_000;
/// A new master learns nothing from before: reports that are older than this do not count.
const AGE_MAX_MS: Millis = 30_000;

/// The group at one moment, as this node sees it.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Of the own monotonic clock, since the run began.
    pub now: Millis,
    /// Of the own wall clock.
    pub wall: Millis,
    /// The term.
    pub term: u64,
    /// Who leads, as far as known here.
    pub master: Option<NodeId>,
    /// Whether this node leads, and everything that was acknowledged before its term is applied.
    pub leads: bool,
    /// The replicated state.
    pub state: &'a State,
    /// The group. What is said of how far members have come counts on its leader only.
    pub members: &'a BTreeMap<consensus::NodeId, Member>,
    /// Since when each live peer is heard without a gap. This node is always among them.
    pub live: &'a BTreeMap<NodeId, Millis>,
}

/// A member of the group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Member {
    /// Whether it votes.
    pub voter: bool,
    /// Whether it holds nearly all of the log, and answered lately.
    pub ready: bool,
}

/// What a node found when it made a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The check, by id.
    pub check: String,
    /// What was looked at: see [`crate::target::definition`].
    pub definition: u64,
    /// Milliseconds since the probe ended.
    pub age: Millis,
    /// Milliseconds that it took.
    pub took: Millis,
    /// What came of it.
    pub finding: Finding,
}

/// Something to be done for the master.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The role has changed hands: say so.
    RoleChanged(Changed),
    /// Propose this in this term and no other. The outcome comes back by [`Mastery::answered`].
    Propose {
        /// The term.
        term: u64,
        /// What the answer is about.
        ticket: Ticket,
        /// What.
        command: Box<Command>,
    },
    /// Attempt this message once. The end comes back by [`Mastery::attempted`].
    Send {
        /// The term.
        term: u64,
        /// What to tell.
        delivery: Box<Delivery>,
        /// When this was decided, of the own monotonic clock. A node that stood still since must not send ([`Failure::held`]).
        decided: Millis,
    },
    /// Tell this again to a channel that forgets. The end comes back by [`Mastery::attempted`].
    TellAgain {
        /// The term.
        term: u64,
        /// What to tell.
        delivery: Box<Delivery>,
    },
    /// Ask all nodes to make these checks again at once.
    LookAgain(Vec<String>),
    /// Change the group. The end comes back by [`Mastery::member_changed`].
    ChangeMembers {
        /// The term.
        term: u64,
        /// How.
        change: consensus::Change,
    },
    /// This node is about to hand the role over: say so.
    HandsOver {
        /// To whom.
        to: NodeId,
        /// Why.
        reason: Reason,
    },
    /// Let that node lead.
    Transfer {
        /// Who.
        to: NodeId,
    },
}

/// What an answer is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ticket {
    /// A change of state, or something told, of this check.
    Check(String),
    /// The votes of this node.
    Node(NodeId),
    /// A claim, or the end of an attempt, of this delivery.
    Delivery(String),
}

/// What a proposal came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is committed, had its effect, and shows in the next look.
    Done,
    /// It is committed and was out of date.
    Outdated,
    /// It is not committed, or nobody knows whether it is.
    Lost,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people.
    pub text: String,
    /// Whether the channel will hardly ever take it.
    pub permanent: bool,
    /// Whether it may have been taken nevertheless.
    pub uncertain: bool,
    /// Whether nothing was sent because the node stood still on the way.
    pub held: bool,
    /// How long the channel wants to be left alone.
    pub asked: Option<Millis>,
}

/// Is the master whenever its node leads.
#[derive(Debug)]
pub struct Mastery {
    me: NodeId,
    role: Role,
    reign: Option<Reign>,
    ids: Ids,
    stopping: bool,
}

impl Mastery {
    /// Of a node that knows nothing yet. `seed` is a random number, from which the ids of incidents are made.
    pub fn new(me: NodeId, seed: u64) -> Mastery {
        Mastery {
            me,
            role: Role::default(),
            reign: None,
            ids: Ids(seed),
            stopping: false,
        }
    }

    /// Some time has passed; a few times in a second is often enough.
    pub fn turn(&mut self, look: &Look<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        let changed = self.role.look(look.now, look.master, look.term);
        actions.extend(changed.map(Action::RoleChanged));
        let leads = look.leads && look.state.document.version > 0;
        let is_over = |reign: &Reign| !leads || reign.term() != look.term;
        if self.reign.as_ref().is_some_and(is_over) {
            self.reign = None;
        }
        if leads && self.reign.is_none() {
            let regained = self.role.regained(look.now);
            self.reign = Some(Reign::new(self.me, look.term, regained));
        }
        if let Some(reign) = &mut self.reign {
            if self.stopping {
                reign.leave(look, &mut actions);
            }
            reign.turn(look, self.role.preference(), &mut self.ids, &mut actions);
        }
        actions
    }

    /// A peer has reported. What is about another definition than the present one, or too old, does not count.
    pub fn report(&mut self, now: Millis, node: NodeId, reports: Vec<Report>) {
        if let Some(reign) = &mut self.reign {
            for report in reports.into_iter().filter(|report| report.age <= AGE_MAX_MS) {
                reign.report(now, node, report);
            }
        }
    }

    /// A proposal has come to this.
    pub fn answered(&mut self, look: &Look<'_>, term: u64, ticket: &Ticket, answer: Answer) -> Vec<Action> {
        let reign = self.reign.as_mut().filter(|reign| reign.term() == term);
        reign.map_or_else(Vec::new, |reign| reign.answered(look, ticket, answer))
    }

    /// An attempt has ended.
    pub fn attempted(
        &mut self,
        look: &Look<'_>,
        term: u64,
        delivery: &str,
        result: Result<(), Failure>,
    ) -> Vec<Action> {
        let reign = self.reign.as_mut().filter(|reign| reign.term() == term);
        reign.map_or_else(Vec::new, |reign| reign.attempted(look, delivery, result))
    }

    /// A change of the group is under way, or was refused.
    pub fn member_changed(&mut self, term: u64) {
        if let Some(reign) = self.reign.as_mut().filter(|reign| reign.term() == term) {
            reign.member_changed();
        }
    }

    /// The node is about to stop: whoever is best suited shall lead.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether the node may stop as far as the role goes: it has none, nobody can take it, or nobody did in time.
    pub fn may_stop(&self) -> bool {
        self.stopping && self.reign.as_ref().is_none_or(Reign::gave_up)
    }

    /// Whether the role is being handed over: nothing new is begun.
    pub fn is_leaving(&self) -> bool {
        self.reign.as_ref().is_some_and(Reign::is_leaving)
    }

    /// The rounds of the reign, if there is one.
    pub fn rounds(&self) -> Option<&Rounds> {
        self.reign.as_ref().map(Reign::rounds)
    }
}

/// Ids of incidents (SplitMix64 from a random seed): unlike any other, and the same again for the same seed.
#[derive(Debug)]
struct Ids(u64);

impl Ids {
    fn draw(&mut self) -> String {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        format!("{:016x}", mixed ^ (mixed >> 31))
    }
}

#[cfg(test)]
mod tests;
