//! Incarnations and group ids are drawn again and again; states that differ only by these are one.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::group::Log;
use super::world::State;
use crate::machine::entrance::{
    Answer, Extent, Founding, Group, Incarnation, NodeId, Note, RaftFacts, Running, Standing, Statement,
    Ticket, Waiting,
};

pub(super) fn number(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

#[derive(Default)]
struct Names(BTreeMap<u64, u64>);

pub(super) fn canonical(state: &State) -> State {
    let mut names = Names::default();
    let mut state = state.clone();
    state.fresh = 0;
    for node in &mut state.nodes {
        node.raft.iter_mut().for_each(|log| names.log(log));
        node.trial.iter_mut().for_each(|log| names.log(log));
        names.note(&mut node.note);
        let Some(entrance) = &mut node.entrance else {
            continue;
        };
        entrance.waiting = None;
        entrance.silent = 0;
        names.note(&mut entrance.note);
        entrance.ticket.iter_mut().for_each(|ticket| names.ticket(ticket));
        if let Some((note, _)) = &mut entrance.writing {
            names.note(note);
        }
        entrance.raft.iter_mut().for_each(|facts| names.facts(facts));
        entrance
            .leader
            .iter_mut()
            .for_each(|running| names.running(running));
        for answer in entrance.answers.values_mut() {
            if let Answer::Said(statement) = answer {
                names.statement(statement);
            }
        }
        // What follows from a note says the same as the note.
        if let Some((_, then)) = &mut entrance.writing {
            then.clear();
        }
    }
    state
}

impl Names {
    fn name(&mut self, number: &mut u64) {
        let next = self.0.len() as u64 + 1;
        *number = *self.0.entry(*number).or_insert(next);
    }

    fn life(&mut self, life: &mut Incarnation) {
        self.name(&mut life.0);
    }

    fn group(&mut self, group: &mut Group) {
        self.name(&mut group.id);
    }

    fn extent(&mut self, extent: &mut Extent) {
        self.group(&mut extent.group);
    }

    fn lives(&mut self, lives: &mut BTreeMap<NodeId, Incarnation>) {
        for life in lives.values_mut() {
            self.life(life);
        }
    }

    fn log(&mut self, log: &mut Log) {
        self.group(&mut log.group);
        self.life(&mut log.life);
        self.lives(&mut log.voters);
    }

    fn facts(&mut self, facts: &mut RaftFacts) {
        self.group(&mut facts.group);
        self.life(&mut facts.incarnation);
        self.lives(&mut facts.voters);
    }

    fn running(&mut self, running: &mut Running) {
        self.group(&mut running.group);
    }

    fn founding(&mut self, founding: &mut Founding) {
        self.group(&mut founding.group);
        self.lives(&mut founding.members);
        founding.base.iter_mut().for_each(|base| self.extent(base));
    }

    fn ticket(&mut self, ticket: &mut Ticket) {
        self.life(&mut ticket.incarnation);
        ticket.extent.iter_mut().for_each(|extent| self.extent(extent));
    }

    fn note(&mut self, note: &mut Note) {
        match &mut note.standing {
            Standing::Own | Standing::Left => {}
            Standing::Trial(founding) => self.founding(founding),
            Standing::Entering(group, life) => {
                self.group(group);
                self.life(life);
            }
        }
    }

    fn statement(&mut self, statement: &mut Statement) {
        statement
            .running
            .iter_mut()
            .for_each(|running| self.running(running));
        if let Some(data) = &mut statement.data {
            self.facts(&mut data.facts);
        }
        statement.ticket.iter_mut().for_each(|ticket| self.ticket(ticket));
        statement
            .trial
            .iter_mut()
            .for_each(|founding| self.founding(founding));
    }
}

/// What a reason to wait is called among the things that were seen.
pub(super) fn waiting_name(waiting: &Waiting) -> &'static str {
    match waiting {
        Waiting::Asking => "waits: asking",
        Waiting::NotListed => "waits: not listed",
        Waiting::Unreachable(_) => "waits: unreachable",
        Waiting::Differs(_) => "waits: differs",
        Waiting::PeerInGroup(..) => "waits: peer in group",
        Waiting::Electable(_) => "waits: electable",
        Waiting::Placeholder(_) => "waits: placeholder",
        Waiting::Undecided(_) => "waits: undecided",
        Waiting::Founder(_) => "waits: founder",
        Waiting::Trial(_) => "waits: trial",
        Waiting::Joining(_) => "waits: joining",
    }
}
