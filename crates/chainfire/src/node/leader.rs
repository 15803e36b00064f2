//! Writes and linearizable reads on a node that may not lead: whoever leads is found, asked, and found anew when that changes.

use std::time::Duration;

use consensus::NodeId;
use prost::Message as _;

use super::Node;
use crate::error::{Error, Result};
use crate::state_machine::Outcome;
use crate::wire::logpb::Command;

/// How long to wait for news of a leader before asking again.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long handing leadership over may take before this node stops all the same.
const HAND_OVER: Duration = Duration::from_secs(5);

/// True for refusals that mean: nothing was done, somebody else leads or will.
pub(super) fn asks_again(error: &Error) -> bool {
    matches!(error, Error::NotLeader | Error::NoLeader | Error::LeaderChanged)
}

impl Node {
    /// Gets a command into the log and waits for what it does here. The caller limits the time.
    pub(super) async fn through_leader(&self, command: Command) -> Result<Outcome> {
        if !command.internal {
            self.refuse_as_learner()?;
        }
        loop {
            let outcome = self.attempt(command.clone()).await;
            match &outcome {
                Ok(outcome) if outcome.reply.as_ref().is_err_and(asks_again) => {}
                Err(error) if asks_again(error) => {}
                _ => return outcome,
            }
            self.news_of_leader().await;
        }
    }

    /// A learner serves reads of its own copy and nothing else, as in etcd.
    fn refuse_as_learner(&self) -> Result<()> {
        let view = self.raft.view();
        let own = view.configuration.member(NodeId(self.id()));
        if own.is_some_and(|member| !member.voter) {
            return Err(Error::NotSupportedForLearner);
        }
        Ok(())
    }

    /// Refuses a read of this node's own copy while that may lack what this node acknowledged in an earlier life.
    pub fn check_local_read(&self) -> Result<()> {
        if self.raft.is_alone() || self.raft.view().serves_local_reads {
            return Ok(());
        }
        Err(Error::Unready(
            "node is recovering: it has no data that may be read until the cluster has admitted it"
                .to_owned(),
        ))
    }

    async fn attempt(&self, command: Command) -> Result<Outcome> {
        let view = self.raft.view();
        if view.leads() {
            return self.raft.propose(command)?.await.map_err(|_| Error::Stopped);
        }
        match view.leader {
            Some(leader) => self.pass_on(leader, command).await,
            None => Err(Error::NoLeader),
        }
    }

    /// Passes the command on to the leader and waits for it to come back through the log.
    async fn pass_on(&self, leader: NodeId, mut command: Command) -> Result<Outcome> {
        let limit = Duration::from_millis(self.config.limits.request_timeout_ms);
        let place = tokio::select! {
            place = self.peers.place_for_write() => place,
            () = self.led_by_another(leader) => return Err(Error::LeaderChanged),
        };
        let mut expected = self.raft.expect(&mut command);
        let passed = tokio::select! {
            passed = self.peers.pass_on(leader, command.encode_to_vec().into(), limit) => passed,
            // A leader that is paused or cut off would keep the place until the time is up.
            () = self.led_by_another(leader) => Err(Error::TimeoutConnectionLost),
        };
        drop(place);
        match passed {
            // It may have reached the log all the same: then it shows.
            Ok(()) | Err(Error::TimeoutConnectionLost) => expected.outcome().await.ok_or(Error::Stopped),
            Err(error) => Err(error),
        }
    }

    /// Waits for the group to change, or a little.
    pub(super) async fn news_of_leader(&self) {
        let mut view = self.raft.watch();
        view.mark_unchanged();
        // Whether something changed or not: asking again tells.
        let _ = tokio::time::timeout(PATIENCE, view.changed()).await;
    }

    /// Waits until `member` leads, as far as this node hears of it; fails if that takes longer than a request may.
    pub async fn leads_now(&self, member: NodeId) -> Result<()> {
        let limit = Duration::from_millis(self.config.limits.request_timeout_ms);
        let mut view = self.raft.watch();
        let led = view.wait_for(|view| view.leader == Some(member));
        match tokio::time::timeout(limit, led).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::TimeoutLeaderFailure),
        }
    }

    /// Before this node stops: hands leadership over, if it leads and somebody else can.
    pub async fn hand_over(&self) {
        let view = self.raft.view();
        let others = view.configuration.voters().any(|(voter, _)| voter.0 != self.id());
        if !view.leads() || !others {
            return;
        }
        let handed = async {
            let to = self.raft.transfer(None).await.ok()?;
            let mut view = self.raft.watch();
            view.wait_for(|view| view.leader == Some(to))
                .await
                .ok()
                .map(|_| to)
        };
        if let Ok(Some(to)) = tokio::time::timeout(HAND_OVER, handed).await {
            tracing::info!(target: "chainfire_raft", node_id = to.0, "Leadership handed over");
        } else {
            tracing::warn!(target: "chainfire_raft", "Leadership could not be handed over");
        }
    }

    /// Waits until all that was acknowledged before the call can be read here, in spite of changes of leader.
    pub(super) async fn settled_read(&self) -> Result<()> {
        self.refuse_as_learner()?;
        let limit = Duration::from_millis(self.config.limits.request_timeout_ms);
        let attempts = async {
            loop {
                match self.raft.read().await {
                    Err(error) if asks_again(&error) => self.news_of_leader().await,
                    outcome => return outcome,
                }
            }
        };
        match tokio::time::timeout(limit, attempts).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.timed_out()),
        }
    }
}
