//! The handshakes that are under way: not more than a number of them, the newest.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// See the module.
#[derive(Debug)]
pub(super) struct Handshakes {
    most: usize,
    under_way: Mutex<UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    /// By number, so the first is the oldest.
    turns: BTreeMap<u64, CancellationToken>,
}

/// The place of one handshake, given back when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    number: u64,
    over: CancellationToken,
    all: Arc<Handshakes>,
}

impl Handshakes {
    pub(super) fn new(most: usize) -> Arc<Handshakes> {
        Arc::new(Handshakes {
            most,
            under_way: Mutex::default(),
        })
    }

    /// One more; the oldest makes room for it.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        let mut under_way = self.under_way.lock();
        if under_way.turns.len() >= self.most
            && let Some((_, oldest)) = under_way.turns.pop_first()
        {
            oldest.cancel();
        }
        let number = under_way.next;
        under_way.next += 1;
        let over = CancellationToken::new();
        under_way.turns.insert(number, over.clone());
        Turn {
            number,
            over,
            all: self.clone(),
        }
    }
}

impl Turn {
    /// Returns when a newer one needs the place.
    pub(super) async fn is_over(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.under_way.lock().turns.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let all = Handshakes::new(2);
        let (first, second) = (all.begin(), all.begin());
        assert!(!first.over.is_cancelled());
        let third = all.begin();
        assert!(first.over.is_cancelled() && !second.over.is_cancelled());
        drop(second);
        let fourth = all.begin();
        assert!(!third.over.is_cancelled() && !fourth.over.is_cancelled());
        drop((first, third, fourth));
        assert!(all.under_way.lock().turns.is_empty());
    }
}
