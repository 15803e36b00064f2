//! Places for connections of those who are not known: one more ends the oldest of whoever has most of them, so that a single source
//! cannot keep others out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Places for connections of those who are not known, a bounded number: one more ends the oldest of whoever has most of them.
#[derive(Debug)]
pub struct Seats {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By number, so the first of a source is its oldest.
    all: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    number: u64,
    over: CancellationToken,
    seats: Arc<Seats>,
}

impl Seats {
    /// So many, all free.
    pub fn new(most: usize) -> Arc<Seats> {
        Arc::new(Seats {
            most,
            taken: Mutex::default(),
        })
    }

    /// Takes one for a connection from there, which may end an older connection (see [`Seat::over`]).
    pub fn take(self: &Arc<Self>, source: IpAddr) -> Seat {
        let mut taken = self.taken.lock();
        if taken.all.len() >= self.most
            && let Some(oldest) = taken.oldest_of_the_greediest()
            && let Some((_, over)) = taken.all.remove(&oldest)
        {
            over.cancel();
        }
        let number = taken.next;
        taken.next += 1;
        let over = CancellationToken::new();
        taken.all.insert(number, (source, over.clone()));
        Seat {
            number,
            over,
            seats: self.clone(),
        }
    }
}

impl Taken {
    fn oldest_of_the_greediest(&self) -> Option<u64> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (source, _) in self.all.values() {
            *counts.entry(*source).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        self.all
            .iter()
            .find(|(_, (source, _))| counts.get(source) == Some(&most))
            .map(|(number, _)| *number)
    }
}

impl Seat {
    /// Waits until another one needs the place; then the connection is to be ended.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.lock().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_most_makes_room_with_his_oldest() {
        let seats = Seats::new(3);
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let quiet = seats.take(two);
        let (first, second) = (seats.take(one), seats.take(one));
        let third = seats.take(one);
        assert!(first.over.is_cancelled() && !second.over.is_cancelled());
        let late = seats.take(two);
        assert!(second.over.is_cancelled() && !third.over.is_cancelled());
        assert!(!quiet.over.is_cancelled() && !late.over.is_cancelled());
        drop((quiet, first, second, third, late));
        assert!(seats.taken.lock().all.is_empty());
    }
}
