//! The directories that are being received into: not two transfers into one, and not too many at once.
//!
//! A sender that lost its connection begins again before this end has noticed. So a transfer of the same sender into the same directory
//! ends the older one, and waits until that has really let go.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use consensus::NodeId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long an older transfer may take to let go: a piece has to be written.
const WAIT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: Mutex<BTreeMap<PathBuf, Taken>>,
    freed: Notify,
}

#[derive(Debug)]
struct Taken {
    from: NodeId,
    over: CancellationToken,
    is_sealed: bool,
}

/// One of them; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    over: CancellationToken,
    all: Arc<Places>,
}

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Places> {
        Arc::new(Places {
            most,
            taken: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Takes a directory for a transfer, or says why not.
    pub(crate) async fn take(self: &Arc<Places>, dir: PathBuf, from: NodeId) -> Result<Place, String> {
        let taken = tokio::time::timeout(WAIT, async {
            loop {
                let freed = self.freed.notified();
                if let Some(result) = self.try_take(&dir, from) {
                    return result;
                }
                freed.await;
            }
        });
        taken
            .await
            .unwrap_or_else(|_| Err("busy: an older transfer does not end".to_owned()))
    }

    /// Nothing if an older transfer was asked to end.
    fn try_take(self: &Arc<Places>, dir: &PathBuf, from: NodeId) -> Option<Result<Place, String>> {
        let mut taken = self.taken.lock();
        if let Some(old) = taken.get(dir) {
            if old.from != from || old.is_sealed {
                return Some(Err(
                    "busy: another transfer into the same place is under way".to_owned()
                ));
            }
            old.over.cancel();
            return None;
        }
        if taken.len() >= self.most {
            return Some(Err("busy: too many transfers are under way".to_owned()));
        }
        let over = CancellationToken::new();
        let entry = Taken {
            from,
            over: over.clone(),
            is_sealed: false,
        };
        taken.insert(dir.clone(), entry);
        Some(Ok(Place {
            dir: dir.clone(),
            over,
            all: self.clone(),
        }))
    }
}

impl Place {
    /// Returns when a newer transfer wants it.
    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// From now on no newer transfer gets it.
    pub(crate) fn seal(&self) {
        if let Some(taken) = self.all.taken.lock().get_mut(&self.dir) {
            taken.is_sealed = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.taken.lock().remove(&self.dir);
        self.all.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_transfer_waits_until_the_older_one_has_let_go() {
        let places = Places::new(2);
        let dir = PathBuf::from("/staging");
        let old = places.take(dir.clone(), NodeId(1)).await.unwrap();
        let newer = tokio::spawn({
            let (places, dir) = (places.clone(), dir.clone());
            async move { places.take(dir, NodeId(1)).await }
        });
        old.over().await;
        assert!(!newer.is_finished());
        drop(old);
        let newer = newer.await.unwrap().unwrap();
        assert!(
            places
                .take(dir.clone(), NodeId(2))
                .await
                .unwrap_err()
                .contains("busy")
        );
        newer.seal();
        assert!(places.take(dir, NodeId(1)).await.unwrap_err().contains("busy"));
        let _second = places.take("/other".into(), NodeId(1)).await.unwrap();
        assert!(
            places
                .take("/third".into(), NodeId(1))
                .await
                .unwrap_err()
                .contains("too many")
        );
    }
}
