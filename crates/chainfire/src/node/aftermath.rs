//! What a command changes on this node beside the database: tokens that are void now, chores that have work now.
//!
//! It is seen to when the command has been applied, by a task of its own, and only then is the client answered. The client may
//! have gone away by then, or have waited long enough; what was applied has happened all the same.

use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use crate::auth::TokenProvider;
use crate::state_machine::{Outcome, Reply};
use crate::wire::logpb::command::Request;

/// Whom applied commands concern on this node.
pub(super) struct Aftermath {
    pub(super) tokens: Arc<TokenProvider>,
    /// A compaction was applied, so the sweep has work.
    pub(super) sweep_wanted: Notify,
    /// A lease may now be the next to run out.
    pub(super) lease_changed: Notify,
}

impl Aftermath {
    pub(super) fn new(tokens: Arc<TokenProvider>) -> Aftermath {
        Aftermath {
            tokens,
            sweep_wanted: Notify::new(),
            lease_changed: Notify::new(),
        }
    }

    /// True if applying `request` concerns more than the database.
    pub(super) fn follows(request: &Request) -> bool {
        // The frequent ones, which shall not cost a task.
        !matches!(
            request,
            Request::Put(_) | Request::DeleteRange(_) | Request::Txn(_) | Request::LeaseRevoke(_)
        )
    }

    /// Sees to what follows from a command, whether or not anybody waits for the outcome, which is passed on afterwards.
    pub(super) fn after(self: &Arc<Self>, outcome: oneshot::Receiver<Outcome>) -> oneshot::Receiver<Outcome> {
        let (pass_on, passed) = oneshot::channel();
        let aftermath = self.clone();
        tokio::spawn(async move {
            // Not applied: the node stops.
            let Ok(outcome) = outcome.await else { return };
            aftermath.see_to(&outcome);
            // A client that has gone away does not wait for its answer.
            drop(pass_on.send(outcome));
        });
        passed
    }

    fn see_to(&self, outcome: &Outcome) {
        match &outcome.reply {
            Ok(Reply::LeaseGrant(_)) => self.lease_changed.notify_one(),
            Ok(Reply::Compaction(_)) => self.sweep_wanted.notify_one(),
            Ok(Reply::Auth(tokens)) => self.tokens.forget(tokens),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use service::clock::ManualClock;

    use super::*;
    use crate::auth::{AuthSettings, Tokens, system_entropy};
    use crate::wire::etcdserverpb::{CompactionResponse, LeaseGrantResponse};

    fn outcome(reply: Reply) -> Outcome {
        Outcome {
            reply: Ok(reply),
            revision: 1,
            index: 1,
            term: 1,
        }
    }

    /// Applies a command whose client went away before.
    fn apply(aftermath: &Arc<Aftermath>, reply: Reply) {
        let (applied, waiting) = oneshot::channel();
        drop(aftermath.after(waiting));
        applied.send(outcome(reply)).unwrap();
    }

    #[tokio::test]
    async fn what_follows_does_not_hang_on_the_client() {
        let clock = ManualClock::at(0);
        let tokens = Arc::new(TokenProvider::new(&AuthSettings::default(), system_entropy()).unwrap());
        let aftermath = Arc::new(Aftermath::new(tokens.clone()));
        let limit = Duration::from_mins(1);

        apply(&aftermath, Reply::LeaseGrant(LeaseGrantResponse::default()));
        tokio::time::timeout(limit, aftermath.lease_changed.notified())
            .await
            .unwrap();
        apply(&aftermath, Reply::Compaction(CompactionResponse::default()));
        tokio::time::timeout(limit, aftermath.sweep_wanted.notified())
            .await
            .unwrap();

        let token = tokens.assign("ann", 1, &clock).unwrap();
        assert!(tokens.identify(&token, 1, &clock).is_some());
        apply(&aftermath, Reply::Auth(Tokens::DropUser("ann".into())));
        tokio::time::timeout(limit, async {
            while tokens.identify(&token, 1, &clock).is_some() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
}
