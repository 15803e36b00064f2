//! JSON for people and their scripts: times in it are RFC 3339 in whole seconds, the same texts as in tables and messages, so that one can
//! be looked up in the other. Between daemon and command, and between nodes, they are numbers.

use serde::Serialize;
use serde_json::Value;

/// Keys whose numbers are UNIX milliseconds.
const TIMES: [&str; 7] = ["at", "due", "ended", "last_seen", "since", "told", "until"];

/// Prints a value with readable times.
///
/// # Errors
/// Standard output is gone.
pub(super) fn print<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    let mut value = serde_json::to_value(value)?;
    readable(&mut value);
    terminal::print_json(&value)?;
    Ok(())
}

fn readable(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(readable),
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                match value.as_u64() {
                    Some(at) if TIMES.contains(&key.as_str()) => *value = time(at),
                    _ => readable(value),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A time; null for one that never was.
fn time(unix_ms: u64) -> Value {
    if unix_ms == 0 {
        return Value::Null;
    }
    Value::String(super::ack::time(unix_ms))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_readable_wherever_they_stand() {
        let mut value = json!({
            "since": 1_778_597_492_250_u64,
            "checks": [{ "since": 0, "total": 3, "phase": { "claimed": { "at": 1_778_597_492_000_u64, "term": 4 } } }],
            "told": true,
            "at": "2026-05-12T14:51:32Z",
        });
        readable(&mut value);
        let expected = json!({
            "since": "2026-05-12T14:51:32Z",
            "checks": [{ "since": null, "total": 3, "phase": { "claimed": { "at": "2026-05-12T14:51:32Z", "term": 4 } } }],
            "told": true,
            "at": "2026-05-12T14:51:32Z",
        });
        assert_eq!(value, expected);
    }
}
