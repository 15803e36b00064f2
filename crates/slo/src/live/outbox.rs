//! Messages that wait for their channels: one line for each channel, in order, tried until it is taken or given up.
//!
//! No IO and no clock; the caller says when it is and how an attempt went.
//!
//! **Invariant:** of a channel at most one message is under way, so an end never overtakes its beginning.

use std::collections::VecDeque;

use notify::{Kind, Message};
use serde::{Deserialize, Serialize};

/// First pause after an attempt that failed; twice as long each time.
const PAUSE_FIRST_MS: u64 = 1000;

/// Longest pause, unless the other end asks for more: whoever mends a channel wants to see it work.
const PAUSE_MAX_MS: u64 = 60_000;

/// Attempts with a failure that only a person can mend.
const PERMANENT_MAX: u32 = 5;

/// What is older is given up: nobody acts on the page of the day before.
const AGE_MAX_MS: u64 = 24 * 3600 * 1000;

/// Most messages that wait. Each objective has a handful in an hour; more than this many are noise.
const WAITING_MAX: usize = 10_000;

/// A message for a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Its number.
    pub number: u64,
    /// The channel: `page/slack`.
    pub channel: String,
    /// What is told.
    pub message: Message,
    /// When it was decided, in milliseconds since 1970.
    pub made_ms: u64,
    /// Attempts that failed.
    pub attempts: u32,
    /// Not before this moment.
    pub next_ms: u64,
    /// Whether an attempt is under way, or was when the process ended.
    pub is_under_way: bool,
}

/// What becomes of a message after an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is tried again after so many milliseconds.
    Again(u64),
    /// It is not.
    GivenUp,
}

/// All that wait.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbox {
    numbered: u64,
    waiting: VecDeque<Delivery>,
}

impl Outbox {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Those that wait, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Delivery> {
        self.waiting.iter()
    }

    /// After a start: whatever was under way may have arrived.
    pub fn resume(&mut self) {
        for delivery in self.waiting.iter_mut().filter(|delivery| delivery.is_under_way) {
            delivery.is_under_way = false;
            delivery.message.repeat = true;
        }
    }

    /// Adds a message. The oldest that is not under way is returned if there are too many.
    pub fn push(&mut self, channel: &str, message: Message, now_ms: u64) -> Option<Delivery> {
        self.numbered += 1;
        self.waiting.push_back(Delivery {
            number: self.numbered,
            channel: channel.to_owned(),
            message,
            made_ms: now_ms,
            attempts: 0,
            next_ms: now_ms,
            is_under_way: false,
        });
        if self.waiting.len() <= WAITING_MAX {
            return None;
        }
        let oldest = self.waiting.iter().position(|delivery| !delivery.is_under_way)?;
        self.waiting.remove(oldest)
    }

    /// Takes what can be sent now: the first of each channel, if its time has come. They are under way from then on.
    pub fn take_due(&mut self, now_ms: u64) -> Vec<Delivery> {
        let due: Vec<usize> = self
            .firsts()
            .filter(|(_, delivery)| !delivery.is_under_way && delivery.next_ms <= now_ms)
            .map(|(place, _)| place)
            .collect();
        let mut taken = Vec::new();
        for place in due {
            let delivery = &mut self.waiting[place];
            delivery.is_under_way = true;
            taken.push(delivery.clone());
        }
        taken
    }

    /// When the next one can be sent, if any waits for its time.
    pub fn next_ms(&self) -> Option<u64> {
        self.firsts()
            .filter(|(_, delivery)| !delivery.is_under_way)
            .map(|(_, delivery)| delivery.next_ms)
            .min()
    }

    /// The first of each channel.
    fn firsts(&self) -> impl Iterator<Item = (usize, &Delivery)> {
        let mut seen: Vec<&str> = Vec::new();
        self.waiting.iter().enumerate().filter(move |(_, delivery)| {
            let is_first = !seen.contains(&delivery.channel.as_str());
            if is_first {
                seen.push(&delivery.channel);
            }
            is_first
        })
    }

    /// It has arrived.
    pub fn arrived(&mut self, number: u64) {
        self.waiting.retain(|delivery| delivery.number != number);
    }

    /// An attempt failed. `dice` is between 0 and 1: several evaluators do not come back at the same moment.
    pub fn failed(&mut self, number: u64, failure: &notify::Failure, now_ms: u64, dice: f64) -> Next {
        let Some(delivery) = self.waiting.iter_mut().find(|delivery| delivery.number == number) else {
            return Next::GivenUp;
        };
        delivery.is_under_way = false;
        delivery.attempts += 1;
        delivery.message.repeat |= failure.uncertain;
        let is_hopeless = failure.kind == Kind::Permanent && delivery.attempts >= PERMANENT_MAX;
        if is_hopeless || now_ms.saturating_sub(delivery.made_ms) > AGE_MAX_MS {
            self.arrived(number);
            return Next::GivenUp;
        }
        let doubled = PAUSE_FIRST_MS << (delivery.attempts - 1).min(16);
        let pause = (doubled.min(PAUSE_MAX_MS) as f64 * (0.5 + dice / 2.0)) as u64;
        let asked = failure.retry_after.map_or(0, |wait| wait.as_millis() as u64);
        let pause = pause.max(asked);
        delivery.next_ms = now_ms + pause;
        Next::Again(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::{Failure, Verb};
    use std::time::Duration;

    fn message(subject: &str) -> Message {
        Message::new("slo", Verb::Firing, subject, "")
    }

    fn failure(kind: Kind, uncertain: bool) -> Failure {
        Failure {
            kind,
            retry_after: None,
            uncertain,
            held: false,
            text: "x".to_owned(),
        }
    }

    fn subjects(taken: &[Delivery]) -> Vec<&str> {
        taken
            .iter()
            .map(|delivery| delivery.message.subject.as_str())
            .collect()
    }

    #[test]
    fn each_channel_has_its_own_line() {
        let mut outbox = Outbox::default();
        for (channel, subject) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
            assert_eq!(outbox.push(channel, message(subject), 0), None);
        }
        let taken = outbox.take_due(0);
        assert_eq!(subjects(&taken), ["a1", "b1"]);
        assert!(outbox.take_due(0).is_empty());
        outbox.arrived(taken[0].number);
        assert_eq!(subjects(&outbox.take_due(0)), ["a2"]);
        assert_eq!(outbox.next_ms(), None);
    }

    #[test]
    fn pauses_grow_and_the_other_end_may_ask_for_more() {
        let mut outbox = Outbox::default();
        outbox.push("a", message("m"), 0);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let number = outbox.take_due(now)[0].number;
            let Next::Again(pause) = outbox.failed(number, &failure(Kind::Temporary, false), now, 1.0) else {
                panic!("a temporary failure is tried again");
            };
            assert!(outbox.take_due(now + pause - 1).is_empty());
            assert_eq!(outbox.next_ms(), Some(now + pause));
            pauses.push(pause / 1000);
            now += pause;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        let number = outbox.take_due(now)[0].number;
        let patient = Failure {
            retry_after: Some(Duration::from_mins(5)),
            ..failure(Kind::Temporary, false)
        };
        assert_eq!(outbox.failed(number, &patient, now, 0.0), Next::Again(300_000));
    }

    #[test]
    fn what_cannot_arrive_is_given_up_and_lets_the_next_one_go() {
        let mut outbox = Outbox::default();
        outbox.push("a", message("bad"), 0);
        outbox.push("a", message("good"), 0);
        let mut now = 0;
        loop {
            let number = outbox.take_due(now)[0].number;
            match outbox.failed(number, &failure(Kind::Permanent, false), now, 0.5) {
                Next::Again(pause) => now += pause,
                Next::GivenUp => break,
            }
        }
        assert_eq!(subjects(&outbox.take_due(now)), ["good"]);
        // And so is what is older than a day.
        let number = outbox.iter().next().unwrap().number;
        let late = outbox.failed(number, &failure(Kind::Temporary, false), AGE_MAX_MS + 1, 0.5);
        assert_eq!(late, Next::GivenUp);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_may_have_arrived_is_marked() {
        let mut outbox = Outbox::default();
        outbox.push("a", message("m"), 0);
        let number = outbox.take_due(0)[0].number;
        outbox.failed(number, &failure(Kind::Temporary, false), 0, 0.0);
        assert!(!outbox.iter().next().unwrap().message.repeat);
        outbox.take_due(10_000);
        let stored = serde_json::to_string(&outbox).unwrap();
        let mut after: Outbox = serde_json::from_str(&stored).unwrap();
        after.resume();
        assert!(after.take_due(10_000)[0].message.repeat);
        outbox.failed(number, &failure(Kind::Temporary, true), 10_000, 0.0);
        assert!(outbox.iter().next().unwrap().message.repeat);
    }

    #[test]
    fn there_is_an_end_to_waiting() {
        let mut outbox = Outbox::default();
        for number in 0..WAITING_MAX {
            assert_eq!(outbox.push("a", message(&number.to_string()), 0), None);
        }
        outbox.take_due(0);
        assert_eq!(outbox.push("a", message("last"), 0).unwrap().message.subject, "1");
    }
}
