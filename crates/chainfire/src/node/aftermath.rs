//! What an applied command changes on this node beside the database: tokens that are void now, chores that have work now.
//!
//! It is seen to when the command has been applied, whoever sent it to whichever member, and only then is its client answered.

use std::sync::Arc;

use service::SharedClock;
use tokio::sync::Notify;

use crate::auth::TokenProvider;
use crate::state_machine::{Outcome, Reply};

/// Whom applied commands concern on this node.
pub(super) struct Aftermath {
    pub(super) tokens: Arc<TokenProvider>,
    clock: SharedClock,
    /// A compaction was applied, so the sweep has work.
    pub(super) sweep_wanted: Notify,
    /// A lease may now be the next to run out.
    pub(super) lease_changed: Notify,
}

impl Aftermath {
    pub(super) fn new(tokens: Arc<TokenProvider>, clock: SharedClock) -> Aftermath {
        Aftermath {
            tokens,
            clock,
            sweep_wanted: Notify::new(),
            lease_changed: Notify::new(),
        }
    }

    /// Sees to what follows from a command.
    pub(super) fn see_to(&self, outcome: &Outcome) {
        match &outcome.reply {
            Ok(Reply::LeaseGrant(_)) => self.lease_changed.notify_one(),
            Ok(Reply::Compaction(_)) => self.sweep_wanted.notify_one(),
            Ok(Reply::Auth(tokens)) => self.tokens.follow(tokens, &*self.clock),
            _ => {}
        }
    }

    /// The whole state was replaced, or this node began or ceased to lead: everything may have changed.
    pub(super) fn see_to_everything(&self) {
        self.lease_changed.notify_one();
        self.sweep_wanted.notify_one();
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

    #[tokio::test]
    async fn what_follows_is_seen_to() {
        let clock = Arc::new(ManualClock::at(0));
        let tokens = Arc::new(TokenProvider::new(&AuthSettings::default(), system_entropy()).unwrap());
        let aftermath = Aftermath::new(tokens.clone(), clock.clone());
        let limit = Duration::from_mins(1);

        aftermath.see_to(&outcome(Reply::LeaseGrant(LeaseGrantResponse::default())));
        tokio::time::timeout(limit, aftermath.lease_changed.notified())
            .await
            .unwrap();
        aftermath.see_to(&outcome(Reply::Compaction(CompactionResponse::default())));
        tokio::time::timeout(limit, aftermath.sweep_wanted.notified())
            .await
            .unwrap();

        let token = tokens.assign("ann", 1, &*clock).unwrap();
        assert!(tokens.identify(&token, 1, &*clock).is_some());
        aftermath.see_to(&outcome(Reply::Auth(Tokens::DropUser("ann".into()))));
        assert!(tokens.identify(&token, 1, &*clock).is_none());
    }
}
