//! What the checks remember, and what must be.

use std::collections::BTreeSet;

use super::group::Log;
use super::world::{EDIT, Kind, Text, World, place};

/// Changes by bit: those that were acknowledged, and those that may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Ghost {
    acked: u8,
    excused: u8,
    /// For each change: who voted in its group, and who of these holds it no more because the operator removed it.
    voters: [u8; CHANGES],
    wiped: [u8; CHANGES],
    proposed: u8,
    /// What was acknowledged when each kind of file was put on a node last.
    put: [u8; 4],
    surgery: bool,
}

const CHANGES: usize = 4;

impl Ghost {
    pub(super) fn next_change(&mut self) -> u8 {
        let bit = 1 << self.proposed;
        self.proposed += 1;
        bit
    }

    pub(super) fn wipe(&mut self, node: usize) {
        for change in 0..CHANGES {
            let voters = self.voters[change];
            if self.acked & (1 << change) != 0 && voters & (1 << node) != 0 {
                self.wiped[change] |= 1 << node;
                let intact = (voters & !self.wiped[change]).count_ones();
                if intact <= voters.count_ones() / 2 {
                    self.excused |= 1 << change;
                }
            }
        }
    }

    pub(super) fn put_file(&mut self, kind: Kind) {
        self.put[kind as usize] = self.acked;
        self.surgery |= kind == Kind::Surgery;
    }

    /// What a founding from this file may lose: what had been acknowledged when the operator put it there.
    pub(super) fn excuses(&self, file: Text, composed: [Option<Text>; 2]) -> u8 {
        let kind = if composed[0] == Some(file) {
            Kind::Edited
        } else if composed[1] == Some(file) {
            Kind::Surgery
        } else if file.version == 1 && file.changes == 0 {
            Kind::Backup
        } else {
            return 0;
        };
        self.put[kind as usize] & !file.changes
    }

    pub(super) fn commit(&mut self, log: &Log, holders: u8) -> Result<(), String> {
        self.excused |= log.excuses;
        let content = log.content.changes & !EDIT;
        let lost = self.acked & !content & !self.excused;
        if lost != 0 && !self.surgery {
            return Err(format!(
                "acknowledged changes are lost: {lost:#b} in {:?}",
                log.group
            ));
        }
        for change in (0..CHANGES).filter(|change| content & (1 << change) != 0) {
            if self.acked & (1 << change) == 0 {
                self.voters[change] = log.voters.keys().fold(0, |all, node| all | 1 << place(*node));
            }
            self.wiped[change] &= !holders;
        }
        self.acked |= content;
        Ok(())
    }

    pub(super) fn is_surgery(&self) -> bool {
        self.surgery
    }
}

impl World<'_> {
    pub(super) fn running(&self) -> BTreeSet<crate::machine::entrance::Group> {
        (0..self.rules.nodes)
            .filter(|at| self.node(*at).leads)
            .filter_map(|at| self.active(at))
            .filter(|log| log.commit.term == log.term)
            .map(|log| log.group)
            .collect()
    }

    pub(super) fn truth(&self) -> Result<(), String> {
        let running = self.running();
        if running.len() > 1 {
            if !self.state.ghost.is_surgery() {
                return Err(format!("two running groups: {running:?}"));
            }
            self.see("two groups after surgery");
        }
        Ok(())
    }
}
