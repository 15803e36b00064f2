//! What waits to be sent to one peer: two lanes of messages, each bounded in bytes.
//!
//! Messages with entries go in a lane of their own, so that a heartbeat or a vote passes the mebibytes of entries that a leader sends
//! ahead to a member that lags. Within a lane the order stays.

use std::collections::VecDeque;

use consensus::{Message, wire};

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    urgent: Lane,
    entries: Lane,
    /// A message that is longer would be refused by its receiver.
    longest: usize,
}

#[derive(Debug)]
struct Lane {
    waiting: VecDeque<(usize, Message)>,
    bytes: usize,
    bytes_max: usize,
}

impl Lane {
    fn push(&mut self, size: usize, message: Message) -> bool {
        // One that is larger than the whole lane must not be stuck for ever.
        if !self.waiting.is_empty() && self.bytes + size > self.bytes_max {
            return false;
        }
        self.bytes += size;
        self.waiting.push_back((size, message));
        true
    }

    fn take(&mut self, mut room: usize) -> Vec<Message> {
        let mut taken = Vec::new();
        while let Some((size, _)) = self.waiting.front()
            && (taken.is_empty() || *size <= room)
            && let Some((size, message)) = self.waiting.pop_front()
        {
            self.bytes -= size;
            room = room.saturating_sub(size);
            taken.push(message);
        }
        taken
    }

    fn clear(&mut self) -> usize {
        self.bytes = 0;
        let dropped = self.waiting.len();
        self.waiting = VecDeque::new();
        dropped
    }
}

impl Outbox {
    pub(crate) fn new(urgent_bytes: usize, entries_bytes: usize, longest: usize) -> Outbox {
        let lane = |bytes_max| Lane {
            waiting: VecDeque::new(),
            bytes: 0,
            bytes_max,
        };
        Outbox {
            urgent: lane(urgent_bytes),
            entries: lane(entries_bytes),
            longest,
        }
    }

    /// False if there is no room, and then the message is dropped.
    pub(crate) fn push(&mut self, message: Message) -> bool {
        let size = wire::size(&message);
        if size > self.longest {
            return false;
        }
        if wire::carries_entries(&message) {
            self.entries.push(size, message)
        } else {
            self.urgent.push(size, message)
        }
    }

    /// Urgent messages of up to `room` bytes, but at least one if there is any.
    pub(crate) fn take_urgent(&mut self, room: usize) -> Vec<Message> {
        self.urgent.take(room.min(self.longest))
    }

    /// The same of those with entries.
    pub(crate) fn take_entries(&mut self, room: usize) -> Vec<Message> {
        self.entries.take(room.min(self.longest))
    }

    /// Drops everything; how many messages that were.
    pub(crate) fn clear(&mut self) -> usize {
        self.urgent.clear() + self.entries.clear()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use consensus::{Body, Entry, GroupId, Incarnation, Kind, NodeId, Position, Term};

    use super::*;

    fn message(body: Body) -> Message {
        Message {
            group: GroupId(1),
            from: NodeId(1),
            to: NodeId(2),
            from_incarnation: Incarnation(1),
            to_incarnation: Incarnation(1),
            recovering: false,
            term: Term(1),
            body,
        }
    }

    fn heartbeat(round: u64) -> Message {
        message(Body::Heartbeat { commit: 0, round })
    }

    fn append(index: u64, bytes: usize) -> Message {
        message(Body::Append {
            previous: Position {
                term: Term(1),
                index: index - 1,
            },
            entries: vec![Entry {
                index,
                term: Term(1),
                kind: Kind::Command,
                payload: Bytes::from(vec![0; bytes]),
            }],
            commit: 0,
        })
    }

    #[test]
    fn lanes_keep_their_order_and_their_bounds() {
        let mut outbox = Outbox::new(200, 1000, 5000);
        assert!((0..2).all(|round| outbox.push(heartbeat(round))));
        assert!((1..=3).all(|index| outbox.push(append(index, 200))));
        assert!(!outbox.push(append(4, 200)), "the lane of entries is full");
        assert!(outbox.push(heartbeat(2)), "the other is not");
        assert!(!outbox.push(heartbeat(3)));
        assert_eq!(
            outbox.take_urgent(1 << 20),
            (0..3).map(heartbeat).collect::<Vec<_>>()
        );
        assert_eq!(outbox.take_entries(700), [append(1, 200), append(2, 200)]);
        assert_eq!((outbox.clear(), outbox.clear()), (1, 0));
    }

    #[test]
    fn a_message_larger_than_its_lane_passes_alone_and_one_larger_than_a_frame_does_not() {
        let mut outbox = Outbox::new(200, 1000, 5000);
        assert!(!outbox.push(append(1, 5000)));
        assert!(outbox.push(append(1, 4000)));
        assert!(!outbox.push(append(2, 10)));
        assert_eq!(outbox.take_entries(1000).len(), 1);
        assert!(outbox.push(append(2, 10)));
    }
}
