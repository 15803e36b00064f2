//! Virtual time: events in the order of their time, and of their making where times are equal.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Events to come.
#[derive(Debug)]
pub struct Queue<E> {
    now: u64,
    made: u64,
    order: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, E>,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue {
            now: 0,
            made: 0,
            order: BinaryHeap::new(),
            events: BTreeMap::new(),
        }
    }
}

impl<E> Queue<E> {
    /// The time, in microseconds from the start.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// `event` happens `delay` microseconds from now.
    pub fn after(&mut self, delay: u64, event: E) {
        self.made += 1;
        self.order.push(Reverse((self.now + delay, self.made)));
        self.events.insert(self.made, event);
    }

    /// The next event; time moves on to it.
    #[allow(clippy::should_implement_trait, reason = "not a plain sequence: time moves")]
    pub fn next(&mut self) -> Option<E> {
        let Reverse((at, made)) = self.order.pop()?;
        self.now = at;
        self.events.remove(&made)
    }

    /// Forgets events for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&E) -> bool) {
        self.events.retain(|_, event| keep(event));
        let events = &self.events;
        self.order.retain(|Reverse((_, made))| events.contains_key(made));
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;

    #[test]
    fn time_goes_forward_and_equals_keep_their_order() {
        let mut queue = Queue::default();
        for (delay, event) in [(5, "c"), (1, "a"), (5, "d"), (2, "b")] {
            queue.after(delay, event);
        }
        queue.retain(|event| *event != "b");
        let order: Vec<_> = std::iter::from_fn(|| queue.next().map(|event| (queue.now(), event))).collect();
        assert_eq!(order, [(1, "a"), (5, "c"), (5, "d")]);
    }
}
