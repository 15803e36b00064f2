//! A token that says: stop taking new work, finish what you hold.
//!
//! Clones share one state. It is triggered once and stays triggered; waiting after that returns at once.

use std::sync::Arc;

use tokio::sync::watch;

/// A cloneable stop signal.
#[derive(Clone, Debug)]
pub struct Shutdown {
    sender: Arc<watch::Sender<bool>>,
}

impl Shutdown {
    /// A token that has not been triggered.
    pub fn new() -> Self {
        Self {
            sender: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Asks everybody holding a clone to stop. Doing it again has no effect.
    pub fn trigger(&self) {
        self.sender.send_replace(true);
    }

    /// Whether stopping was asked for.
    pub fn is_triggered(&self) -> bool {
        *self.sender.borrow()
    }

    /// Returns when stopping is asked for. Safe to drop at any await point (`select!`).
    pub async fn wait(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives as long as `self`, so the channel cannot close while we wait.
        receiver
            .wait_for(|stopped| *stopped)
            .await
            .map(drop)
            .unwrap_or_default();
    }

    /// Like [`Shutdown::wait`], as a future that owns its token, for `with_graceful_shutdown` and `spawn`.
    pub fn signal(&self) -> impl Future<Output = ()> + Send + 'static {
        let token = self.clone();
        async move { token.wait().await }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn trigger_reaches_every_clone_and_stays() {
        let token = Shutdown::new();
        let waiter = tokio::spawn(token.signal());
        assert!(!token.is_triggered());
        token.clone().trigger();
        tokio::time::timeout(Duration::from_secs(10), waiter)
            .await
            .unwrap()
            .unwrap();
        assert!(token.is_triggered());
        token.wait().await;
    }
}
