//! The store's state beside us: read once, then kept up by watching.
//!
//! It may be late, never wrong: it holds all keys as they were at one revision. Whoever changes something on its word compares the revisions of
//! what it looked at, so being late costs another try. Events are left out; nobody decides by them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::layout;
use crate::store::{Changes, Error, Snapshot, Store};

/// Between tries to reach a store that does not answer.
const AGAIN: Duration = Duration::from_millis(300);

/// See the module. The watching ends with it.
#[derive(Debug)]
pub struct Mirror {
    state: watch::Receiver<Arc<Snapshot>>,
    task: JoinHandle<()>,
}

impl Mirror {
    /// Reads and begins to watch.
    pub async fn start(store: Store) -> Result<Mirror, Error> {
        let snapshot = read(&store).await?;
        let (sender, state) = watch::channel(Arc::new(snapshot));
        let task = tokio::spawn(keep_up(store, sender));
        Ok(Mirror { state, task })
    }

    /// As far as it is known now.
    pub fn now(&self) -> Arc<Snapshot> {
        self.state.borrow().clone()
    }

    /// When something has changed since this was called or answered last.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            // The task ends with this value only.
            std::future::pending::<()>().await;
        }
    }

    /// Until it is as late as that revision, or for so long. Whoever has changed something waits for it before it looks again.
    pub async fn reach(&mut self, revision: i64, patience: Duration) -> bool {
        let reached = self.state.wait_for(|snapshot| snapshot.revision >= revision);
        tokio::time::timeout(patience, reached)
            .await
            .is_ok_and(|reached| reached.is_ok())
    }

    /// Another view of the same.
    pub fn receiver(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.state.clone()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(store: &Store) -> Result<Snapshot, Error> {
    let mut snapshot = store.read(layout::PREFIX).await?;
    snapshot.entries.retain(|key, _| !key.starts_with(layout::EVENTS));
    Ok(snapshot)
}

async fn keep_up(store: Store, sender: watch::Sender<Arc<Snapshot>>) {
    loop {
        let from = sender.borrow().revision + 1;
        if let Ok(mut watch) = store.watch(layout::PREFIX, from).await {
            while let Ok(changes) = watch.next().await {
                sender.send_modify(|snapshot| apply(Arc::make_mut(snapshot), changes));
            }
        }
        // The watch has ended, or what it would begin with is gone. Where it ended is not known for sure.
        let snapshot = loop {
            tokio::time::sleep(AGAIN).await;
            if let Ok(snapshot) = read(&store).await {
                break snapshot;
            }
        };
        sender.send_if_modified(|old| {
            let newer = snapshot.revision >= old.revision && **old != snapshot;
            if newer {
                *old = Arc::new(snapshot);
            }
            newer
        });
    }
}

fn apply(snapshot: &mut Snapshot, changes: Changes) {
    // The revision that a server tells may be later than what it tells of.
    let told = changes
        .keys
        .iter()
        .filter_map(|(_, entry)| Some(entry.as_ref()?.revision))
        .max();
    snapshot.revision = snapshot.revision.max(told.unwrap_or(changes.revision));
    for (key, entry) in changes.keys {
        if key.starts_with(layout::EVENTS) {
            continue;
        }
        match entry {
            Some(entry) => snapshot.entries.insert(key, entry),
            None => snapshot.entries.remove(&key),
        };
    }
}
