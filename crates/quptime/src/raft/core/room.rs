//! A disk that is full, as the core lives through it: it waits for room, as for a disk that is very slow, and then goes on where it was.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use consensus::{Refusal, RoleName};
use service::clock::Stopwatch;

use super::{ELECTION_TICKS, Flow, Input, ProposeError, Publish, TICK, Worker};
use crate::raft::disk::DiskError;

/// How often a write is tried again for which there was no room.
const ROOM_RETRY: Duration = Duration::from_secs(1);

impl Worker {
    /// Carries out what there is to do, and waits for room as long as there is none.
    pub(super) fn carry_out_when_there_is_room(
        &mut self,
        taken: &Receiver<Input>,
        publish: &Publish,
    ) -> Result<Flow, DiskError> {
        loop {
            match self.carry_out() {
                Ok(()) => return Ok(Flow::Go),
                Err(error @ DiskError::Full { .. }) => {
                    if self.wait_for_room(taken, publish, &error) == Flow::Stop {
                        return Ok(Flow::Stop);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits a while for room on the disk. What arrives meanwhile is lost on the way, as far as others can tell, or kept.
    fn wait_for_room(&mut self, taken: &Receiver<Input>, publish: &Publish, full: &DiskError) -> Flow {
        let text = full.to_string();
        if self.full.is_none() {
            tracing::error!(
                target: "quptime",
                "the disk is full: {text}; until there is room this node goes on checking, but changes nothing and is not master"
            );
        }
        for pending in self.pending.drain(..) {
            let why = format!("the disk of the master is full ({text})");
            drop(pending.reply.send(Err(ProposeError::Unknown(why))));
        }
        self.full = Some(text.into());
        let since = Stopwatch::start();
        while since.elapsed() < ROOM_RETRY {
            publish.send_replace(std::sync::Arc::new(self.look()));
            let mut next = match taken.recv_timeout(TICK) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Flow::Stop,
            };
            while let Some(input) = next {
                if self.put_off(input) == Flow::Stop {
                    return Flow::Stop;
                }
                next = taken.try_recv().ok();
            }
        }
        Flow::Go
    }

    /// What becomes of an input for which there is no room now.
    fn put_off(&mut self, input: Input) -> Flow {
        // Whoever asked may have gone away.
        match input {
            Input::Stop => return Flow::Stop,
            Input::Messages(_) | Input::Content(..) => {}
            Input::Propose { reply, .. } => drop(reply.send(Err(ProposeError::NotTaken))),
            Input::Change(_, reply) => drop(reply.send(Err(Refusal::NotLeader { leader: None }))),
            Input::Transfer(_, reply) => drop(reply.send(Err(Refusal::NotLeader { leader: None }))),
            // What it was offered with may be out of date by then.
            Input::SnapshotArrived(to, _) | Input::SnapshotFailed(to) => {
                let is_held = |held: &Input| matches!(held, Input::SnapshotFailed(known) if *known == to);
                if !self.held.iter().any(is_held) {
                    self.held.push(Input::SnapshotFailed(to));
                }
            }
            Input::Found(_) | Input::Founded(_) => self.held.push(input),
        }
        Flow::Go
    }

    /// There is room. False if the node stops.
    pub(super) fn begin_again(&mut self) -> bool {
        self.full = None;
        tracing::info!(target: "quptime", "there is room on the disk again; this node takes part again");
        let mut going_on = true;
        for held in std::mem::take(&mut self.held) {
            going_on &= self.take(held);
        }
        self.doubt_the_lead();
        going_on
    }

    /// Who has led and has not been heard since: as if the time had passed in which others had to answer.
    fn doubt_the_lead(&mut self) {
        for _ in 0..2 * ELECTION_TICKS {
            if self.replica.status().role != RoleName::Leader {
                break;
            }
            self.tick();
        }
    }
}
