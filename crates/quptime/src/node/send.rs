//! Messages to channels: one attempt, with its result.

use std::sync::Arc;
use std::time::Duration;

use notify::{Channel, Failure, Gate, Message, Pairs, Sender};
use serde::{Deserialize, Serialize};

use super::shared::Shared;
use crate::channel::channel;
use crate::document::{Alert, Check};
use crate::identity::NodeId;
use crate::machine::command::Snapshot;
use crate::machine::mastery::ATTEMPT_MS;
use crate::machine::state::{Delivery, State, Status, Verb};
use crate::message::{Event, changed, is_told_late, render, reports, target};
use crate::secret::random;

/// How long an attempt may take.
pub const DEADLINE: Duration = Duration::from_millis(ATTEMPT_MS);

fn verb_of(verb: Verb) -> notify::Verb {
    match verb {
        Verb::Up => notify::Verb::Up,
        Verb::Down => notify::Verb::Down,
        Verb::Recovered => notify::Verb::Recovered,
        Verb::Reminder => notify::Verb::Reminder,
        Verb::Flapping => notify::Verb::Flapping,
        Verb::Stable => notify::Verb::Stable,
        Verb::Removed => notify::Verb::Removed,
        Verb::Disabled => notify::Verb::Disabled,
    }
}

fn message(cluster: &str, alert: &Alert, event: &Event<'_>) -> Message {
    let text = render(alert, event);
    for error in &text.errors {
        tracing::error!(target: "quptime", alert = alert.name, error, "template failed, the default text is sent");
    }
    let mut message = Message::new("quptime", verb_of(event.verb), text.subject, text.body);
    message.own_body = text.own_body;
    message.open = event.to == Status::Down || event.verb == Verb::Flapping;
    event.delivery.clone_into(&mut message.delivery_id);
    message.dedup_key = match event.incident {
        Some(incident) => format!("{cluster}/{incident}"),
        None => format!("{cluster}/{}", event.delivery),
    };
    message.labels = Pairs::from_iter([
        ("check", &*terminal::harmless(&event.check.name)),
        ("type", event.check.kind.name()),
        ("target", &target(event.check)),
    ]);
    message.details = Pairs::new();
    message.details.set("state", changed(event));
    if let Some(reports) = reports(event) {
        message.details.set("reports", reports);
    }
    message
        .details
        .set("detail", terminal::harmless(&event.snapshot.detail).into_owned());
    message.details.set("master", event.node.to_string());
    message.when_unix_ms = event.at;
    let tells_since = event.verb != Verb::Down || is_told_late(event);
    message.since_unix_ms = (event.since > 0 && tells_since).then_some(event.since);
    message.test = event.test;
    message.repeat = event.repeat;
    message
}

/// Attempts a delivery once.
pub async fn attempt(
    sender: &Sender,
    me: NodeId,
    state: &State,
    delivery: &Delivery,
    gate: &Gate,
) -> Result<(), Failure> {
    let alert = state
        .document
        .alerts
        .iter()
        .find(|alert| alert.id == delivery.alert);
    let check = state
        .document
        .checks
        .iter()
        .find(|check| check.id == delivery.check)
        .or(delivery.gone.as_deref());
    let (Some(alert), Some(check)) = (alert, check) else {
        return Ok(());
    };
    // Numbers begin again where a cluster begins again from its file, and receivers drop what they know already.
    let id = format!("{}/{}", delivery.id, delivery.at);
    let event = Event {
        check,
        verb: delivery.verb,
        from: delivery.from,
        to: delivery.to,
        snapshot: &delivery.snapshot,
        node: me,
        at: delivery.at,
        since: delivery.since,
        incident: delivery.incident.as_deref(),
        delivery: &id,
        test: false,
        repeat: delivery.uncertain,
    };
    match channel(alert) {
        Ok(channel) => send(sender, &channel, &message(&state.cluster, alert, &event), gate).await,
        Err(text) => Err(Failure {
            kind: notify::Kind::Permanent,
            retry_after: None,
            uncertain: false,
            held: false,
            text: format!("alert {}: {text}", alert.name),
        }),
    }
}

async fn send(sender: &Sender, channel: &Channel, message: &Message, gate: &Gate) -> Result<(), Failure> {
    let receipt = sender.send_through(channel, message, DEADLINE, gate).await?;
    for remark in receipt.remarks {
        tracing::warn!(target: "quptime", delivery = message.delivery_id, remark, "delivered with a remark");
    }
    Ok(())
}

/// A test that a node shall send by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestCall {
    /// The alert, by id or name.
    pub alert: String,
    /// The check that the message pretends to be about; an invented one if left out.
    #[serde(default)]
    pub check: Option<String>,
    /// What it says.
    pub verb: Verb,
}

/// A test has been sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// The alert, by name.
    pub alert: String,
    /// Which node sent it.
    pub node: NodeId,
}

/// Sends a test from here and waits for the channel.
///
/// # Errors
/// What the channel said.
pub async fn test_here(shared: &Arc<Shared>, call: &TestCall) -> Result<Tested, String> {
    let document = shared.document();
    let alert = document
        .alert(&call.alert)
        .ok_or_else(|| format!("there is no alert \"{}\"", terminal::brief(&call.alert)))?;
    let invented = Check {
        id: "test".to_owned(),
        ..Check::new("test", crate::document::CheckKind::Http, "https://example.com")
    };
    let check = match &call.check {
        None => &invented,
        Some(name) => document
            .check(name)
            .ok_or_else(|| format!("there is no check \"{}\"", terminal::brief(name)))?,
    };
    let (from, to) = match call.verb {
        Verb::Down | Verb::Reminder | Verb::Flapping => (Status::Up, Status::Down),
        Verb::Up => (Status::Unknown, Status::Up),
        Verb::Recovered | Verb::Stable => (Status::Down, Status::Up),
        Verb::Removed | Verb::Disabled => (Status::Down, Status::Unknown),
    };
    let voters = document.peers.len() as u32;
    let snapshot = Snapshot {
        reports: voters,
        ok: if to == Status::Up { voters } else { 0 },
        detail: if to == Status::Up {
            String::new()
        } else {
            "test".to_owned()
        },
        // As in a real message: on a RECOVERED nobody finds it down any more.
        bad_nodes: if to == Status::Up {
            Vec::new()
        } else {
            document.peers.iter().map(|peer| peer.node_id).collect()
        },
    };
    let now = shared.wall();
    let number = u64::from_be_bytes(random::<8>());
    let delivery = format!("test/{number}/{}", alert.id);
    let incident = format!("test-{number}");
    let event = Event {
        check,
        verb: call.verb,
        from,
        to,
        snapshot: &snapshot,
        node: shared.me,
        at: now,
        since: now.saturating_sub(60_000),
        incident: Some(&incident),
        delivery: &delivery,
        test: true,
        repeat: false,
    };
    let cluster = shared
        .view()
        .map_or_else(String::new, |view| view.state.cluster.clone());
    let channel = channel(alert)?;
    let sender = shared.sender.as_ref().map_err(Clone::clone)?;
    let sent = send(sender, &channel, &message(&cluster, alert, &event), &Gate::open()).await;
    sent.map_err(|failure| failure.text)?;
    tracing::info!(target: "quptime", alert = alert.name, "test sent");
    shared.tests.taken(&document, &alert.id, shared.wall());
    Ok(Tested {
        alert: alert.name.clone(),
        node: shared.me,
    })
}
