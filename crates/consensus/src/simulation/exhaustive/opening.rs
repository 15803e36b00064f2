//! Searches that do not begin at the very beginning.

use sim::explore::Model as _;

use super::world::{self, Move, World};
use super::{Action, Exhaustive, NODES, State};
use crate::Incarnation;

impl Exhaustive {
    /// Begins where these actions lead. What they take is taken from the budget. Each must be possible.
    pub(super) fn after(mut self, opening: &[Action]) -> Exhaustive {
        let mut state = self.initial().swap_remove(0);
        for action in opening {
            let next = self.next(&state, action).expect("an opening breaks nothing");
            state = next.unwrap_or_else(|| panic!("{action:?} is not possible"));
        }
        self.start = Some(state);
        self
    }

    pub(super) fn hear_all(&self, state: &State, at: usize) -> Result<Option<State>, String> {
        let mut heard = None;
        for message in &state.messages {
            let content = self.world.borrow().message(*message);
            if world::place(content.to) == at {
                let before = heard.as_ref().unwrap_or(state);
                heard = self.next(before, &Action::Hear(*message, content))?.or(heard);
            }
        }
        Ok(heard)
    }

    /// Lets member 1 win an election and tell everybody.
    pub(super) fn lead(&self, world: &mut World, members: &mut [u32; NODES]) {
        let mut act = |members: &mut [u32; NODES], at: usize, what: Move| {
            let moved = world.act(members[at], what);
            members[at] = moved.member;
            moved
                .said
                .iter()
                .map(|id| (*id, world::place(world.message(*id).to)))
                .collect::<Vec<_>>()
        };
        let mut heard = |members: &mut [u32; NODES], by: usize, what: Move| {
            let mut said = act(members, by, what);
            while let Some((message, to)) = said.pop() {
                said.extend(act(members, to, Move::Hear(message)));
            }
        };
        heard(members, 0, Move::Stand);
        // Once for the entries, once for what is committed.
        for _ in 0..2 {
            for to in 1..self.nodes() {
                let to = (world::node(to), Incarnation(world::node(to).0), false);
                heard(members, 0, Move::Append { to, until: 2 });
            }
        }
    }
}
