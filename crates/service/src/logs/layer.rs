//! The bridge from `tracing` to lines: takes events and spans apart and hands each finished line to a sink.

use std::fmt::{self, Debug};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Format;
use super::format::{Line, Look, Value, line};
use crate::clock::SharedClock;

/// How errors look to those who are told of them.
const PLAIN: Look = Look {
    format: Format::Text,
    timestamps: false,
    priority: false,
};

/// Receives one finished line, newline included.
pub(super) type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// Writes every event that passed the filter.
pub(super) struct LineLayer {
    look: Look,
    clock: SharedClock,
    sink: Sink,
    errors: Option<Errors>,
}

/// Who is told errors besides, as plain text: those of this target.
pub(super) struct Errors {
    pub(super) target: &'static str,
    pub(super) told: Sink,
}

impl LineLayer {
    pub(super) fn new(
        format: Format,
        timestamps: bool,
        priority: bool,
        clock: SharedClock,
        sink: Sink,
    ) -> Self {
        Self {
            look: Look {
                format,
                timestamps,
                priority,
            },
            clock,
            sink,
            errors: None,
        }
    }

    pub(super) fn telling(self, errors: Errors) -> Self {
        Self {
            errors: Some(errors),
            ..self
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LineLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut parts = Parts::default();
        attributes.record(&mut parts);
        let span = context.span(id).expect("a new span is in the registry");
        span.extensions_mut().insert(parts);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).expect("a recorded span is in the registry");
        if let Some(parts) = span.extensions_mut().get_mut::<Parts>() {
            values.record(parts);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Vec::new();
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(parts) = span.extensions().get::<Parts>() {
                    fields.extend_from_slice(&parts.fields);
                }
            }
        }
        let mut parts = Parts {
            fields,
            ..Parts::default()
        };
        event.record(&mut parts);
        let metadata = event.metadata();
        let event = Line {
            level: *metadata.level(),
            target: parts.target.as_deref().unwrap_or(metadata.target()),
            message: &parts.message,
            fields: &parts.fields,
            unix_ms: self.clock.unix_ms(),
        };
        (self.sink)(&line(self.look, &event));
        if let Some(errors) = &self.errors
            && event.level == Level::ERROR
            && event.target == errors.target
        {
            (errors.told)(&line(PLAIN, &event));
        }
    }
}

impl Debug for LineLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineLayer")
            .field("look", &self.look)
            .finish_non_exhaustive()
    }
}

/// What a visit of an event's or a span's fields collects.
#[derive(Debug, Default)]
struct Parts {
    message: String,
    fields: Vec<(&'static str, Value)>,
    /// The true target of an event that came through the `log` crate.
    target: Option<String>,
}

impl Parts {
    fn set(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text)) => self.message = text,
            // What the `log` bridge adds: the target is wanted, module and file are not.
            ("log.target", Value::Text(text)) => self.target = Some(text),
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Value::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, Value::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, Value::Flag(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        self.set(field, Value::Text(text));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, capture};

    #[test]
    fn lines_are_exactly_those_the_runbooks_show() {
        let logs = capture(Format::Text, "info");
        tracing::info!(target: "chainfire_raft", term = 3, "Leader elected");
        tracing::info!(target: "chainfire_storage", index = 12345, held_back = None::<u64>, "Committed entry");
        tracing::info!(target: "chainfire_storage", index = 12399, held_back = Some(54_u64), "Committed entry");
        tracing::info!(target: "chainfire_api", latency = "15ms", "Handled put request");
        tracing::info!(target: "chainfire_api", latency = format_args!("{}ms", 15), "Handled {} request", "put");
        tracing::warn!(target: "chainfire_raft", "Election timeout, no heartbeat from leader");
        tracing::warn!(target: "chainfire_storage", duration = %"2000ms", "RocksDB stall detected");
        tracing::error!(target: "chainfire_network", addr = "node2:2380", "Failed to connect to peer");
        tracing::info!(target: "chainfire_raft", node_id = 2, addr = "node2:2380", learner = true, "Adding node to cluster");
        tracing::error!(target: "chainfire_storage", index = 123, error = "checksum", "corrupted log entry");
        tracing::debug!(target: "chainfire_raft", "not shown at info");
        assert_eq!(
            logs.text(),
            "\
INFO chainfire_raft: Leader elected, term=3
INFO chainfire_storage: Committed entry, index=12345
INFO chainfire_storage: Committed entry, index=12399, held_back=54
INFO chainfire_api: Handled put request, latency=15ms
INFO chainfire_api: Handled put request, latency=15ms
WARN chainfire_raft: Election timeout, no heartbeat from leader
WARN chainfire_storage: RocksDB stall detected, duration=2000ms
ERROR chainfire_network: Failed to connect to peer, addr=node2:2380
INFO chainfire_raft: Adding node to cluster, node_id=2, addr=node2:2380, learner=true
ERROR chainfire_storage: corrupted log entry, index=123, error=checksum
"
        );
    }

    #[test]
    fn span_fields_come_first() {
        let logs = capture(Format::Text, "info");
        let outer = tracing::info_span!("node", node_id = 1).entered();
        let inner = tracing::info_span!("peer", peer = tracing::field::Empty).entered();
        inner.record("peer", 2);
        tracing::warn!(target: "chainfire_raft", lag = 1200, "Follower is behind");
        drop((inner, outer));
        tracing::info!(target: "chainfire_raft", "Alone");
        assert_eq!(
            logs.text(),
            "WARN chainfire_raft: Follower is behind, node_id=1, peer=2, lag=1200\nINFO chainfire_raft: Alone\n"
        );
    }

    #[test]
    fn errors_show_their_sources() {
        let logs = capture(Format::Text, "info");
        let inner = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = anyhow::Error::new(inner).context("connect");
        tracing::error!(target: "x", error = AsRef::<dyn std::error::Error>::as_ref(&error), "Failed");
        assert_eq!(
            logs.text(),
            "ERROR x: Failed, error=connect: connection refused\n"
        );
    }

    #[test]
    fn json_lines_parse() {
        let logs = capture(Format::Json, "debug");
        tracing::debug!(target: "zester", jid = "2026", ok = true, "Job done");
        let line: serde_json::Value = serde_json::from_str(&logs.text()).unwrap();
        assert_eq!(line["msg"], "Job done");
        assert_eq!(
            (&line["jid"], &line["ok"], &line["level"]),
            (&"2026".into(), &true.into(), &"debug".into())
        );
    }

    #[test]
    fn level_changes_while_running() {
        let logs = capture(Format::Text, "warn");
        tracing::info!(target: "x", "hidden");
        logs.handle().set_level("info,y=error").unwrap();
        tracing::info!(target: "x", "shown");
        tracing::info!(target: "y", "hidden");
        assert!(logs.handle().set_level("loud").is_err());
        tracing::info!(target: "x", "still shown");
        assert_eq!(logs.text(), "INFO x: shown\nINFO x: still shown\n");
    }
}
