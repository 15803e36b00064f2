//! [`Message`]: what is to be told, as plain data that any channel can be made of.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// A check went down.
    Down,
    /// A check that was down is up again.
    Recovered,
    /// A check is up, without having been down.
    Up,
    /// A check changes so often that no more changes are told.
    Flapping,
    /// A check that flapped has come to rest.
    Stable,
    /// What was told before is still so.
    Reminder,
    /// Something worth knowing that is no incident of a check.
    Notice,
    /// A rule began to hold.
    Firing,
    /// A rule that held does so no longer.
    Resolved,
    /// A check that was down is not there any more; whether it is well nobody knows.
    Removed,
    /// A check that was down is not looked at any more.
    Disabled,
}

impl Verb {
    /// Its name in messages, in capitals: `DOWN`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Down => "DOWN",
            Self::Recovered => "RECOVERED",
            Self::Up => "UP",
            Self::Flapping => "FLAPPING",
            Self::Stable => "STABLE",
            Self::Reminder => "REMINDER",
            Self::Notice => "NOTICE",
            Self::Firing => "FIRING",
            Self::Resolved => "RESOLVED",
            Self::Removed => "REMOVED",
            Self::Disabled => "DISABLED",
        }
    }

    /// Whether something is wrong after a message with this verb, as far as the verb alone can say.
    fn leaves_open(self) -> bool {
        match self {
            Self::Down | Self::Flapping | Self::Reminder | Self::Notice | Self::Firing => true,
            Self::Recovered | Self::Up | Self::Stable | Self::Resolved | Self::Removed | Self::Disabled => {
                false
            }
        }
    }

    fn severity(self) -> Severity {
        match self {
            Self::Down | Self::Reminder | Self::Firing => Severity::Critical,
            Self::Flapping => Severity::Warning,
            Self::Recovered
            | Self::Up
            | Self::Stable
            | Self::Notice
            | Self::Resolved
            | Self::Removed
            | Self::Disabled => Severity::Info,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How bad it is; the words are those of PagerDuty's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it today.
    Warning,
    /// Something does not work.
    Error,
    /// Somebody must act now.
    Critical,
}

impl Severity {
    /// Its name in messages, in small letters: `critical`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// Names with values, in an order that is kept. A name stands in it once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value; a name that is there already keeps its place.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut all = Self::new();
        for (name, value) in pairs {
            all.set(name, value);
        }
        all
    }
}

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names with texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Pairs::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    pairs.set(name, value);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A page to go to, such as a runbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What it is: `Runbook`.
    pub title: String,
    /// Where it is.
    pub url: String,
}

/// Something to tell. [`Message::new`] fills in what follows from the verb; every field may be changed afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The program that tells: `quptime`, `slo`.
    pub source: String,
    /// What has happened.
    pub verb: Verb,
    /// How bad it is now.
    pub severity: Severity,
    /// Whether the incident is open after this message. It decides between trigger and resolve, firing and resolved. A
    /// [`Verb::Stable`] that came to rest while down sets it to true.
    pub open: bool,
    /// The rendered subject: one line. Line breaks in it become blanks.
    pub subject: String,
    /// The rendered text.
    pub body: String,
    /// Whether the body was written by the user's own template. Chat channels then send it without decoration, and the
    /// webhook sends it as it is in place of its event.
    pub own_body: bool,
    /// Identity of this delivery: the same for every attempt, different for every other delivery.
    pub delivery_id: String,
    /// Identity of the incident, such as cluster id and incident id: the same from its beginning to its end.
    pub dedup_key: String,
    /// What the incident is about (check, group, severity of its rule): the same in all messages of an incident, since
    /// Alertmanager knows an alert by its labels.
    pub labels: Pairs,
    /// What is known about it now.
    pub details: Pairs,
    /// Where to read on.
    pub links: Vec<Link>,
    /// When it happened: milliseconds since 1970.
    pub when_unix_ms: u64,
    /// When the incident began, in milliseconds since 1970, if it began before this message.
    pub since_unix_ms: Option<u64>,
    /// Whether somebody only tries out the channel.
    pub test: bool,
    /// Whether an earlier attempt may have arrived.
    pub repeat: bool,
}

impl Message {
    /// A message without labels, details and links; severity and `open` follow from the verb.
    pub fn new(
        source: impl Into<String>,
        verb: Verb,
        subject: impl Into<String>,
        body: impl Into<String>,
    ) -> Self {
        Self {
            source: source.into(),
            verb,
            severity: verb.severity(),
            open: verb.leaves_open(),
            subject: subject.into(),
            body: body.into(),
            own_body: false,
            delivery_id: String::new(),
            dedup_key: String::new(),
            labels: Pairs::new(),
            details: Pairs::new(),
            links: vec![],
            when_unix_ms: 0,
            since_unix_ms: None,
            test: false,
            repeat: false,
        }
    }
}

#[cfg(test)]
pub(crate) fn example() -> Message {
    let mut message = Message::new(
        "quptime",
        Verb::Down,
        "[quptime] DOWN: homepage",
        "target: https://example.com\nstate: up -> down",
    );
    message.delivery_id = "c1/7/oncall".into();
    message.dedup_key = "cluster-1/incident-9".into();
    message.labels = Pairs::from_iter([("check", "homepage"), ("type", "http")]);
    message.details = Pairs::from_iter([("reports", "1/3"), ("detail", "connect: timed out")]);
    message.links = vec![Link {
        title: "Runbook".into(),
        url: "https://wiki.example.com/homepage".into(),
    }];
    message.when_unix_ms = 1_778_598_092_000;
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_being_stored() {
        let message = example();
        let stored = serde_json::to_string(&message).unwrap();
        assert!(
            stored.contains(r#""labels":{"check":"homepage","type":"http"}"#),
            "{stored}"
        );
        assert_eq!(serde_json::from_str::<Message>(&stored).unwrap(), message);
    }

    #[test]
    fn a_name_stands_once_and_keeps_its_place() {
        let pairs = Pairs::from_iter([("b", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [("b", "3"), ("a", "2")]);
        assert_eq!(pairs.get("b"), Some("3"));
        assert_eq!(pairs.get("c"), None);
    }
}
