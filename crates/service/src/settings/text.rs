//! Texts from the environment and the command line, given the type that the default has.

use toml::{Table, Value};

/// `text` as a value of the type of `like`. What does not parse stays a text, so that the check of types names it.
pub(super) fn typed(text: &str, like: Option<&Value>) -> Value {
    let parsed = match like {
        Some(Value::Boolean(_)) => match text.trim() {
            "true" | "1" => Some(Value::Boolean(true)),
            "false" | "0" => Some(Value::Boolean(false)),
            _ => None,
        },
        Some(Value::Integer(_)) => text.trim().parse().ok().map(Value::Integer),
        Some(Value::Float(_)) => text.trim().parse().ok().map(Value::Float),
        Some(Value::Array(like)) => list(text, like.first()),
        Some(Value::Table(_)) => toml_value(text),
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A list in TOML, or texts separated by commas.
fn list(text: &str, like: Option<&Value>) -> Option<Value> {
    if text.trim_start().starts_with('[') {
        return toml_value(text);
    }
    let elements = text
        .split(',')
        .map(str::trim)
        .filter(|element| !element.is_empty());
    Some(Value::Array(
        elements.map(|element| typed(element, like)).collect(),
    ))
}

fn toml_value(text: &str) -> Option<Value> {
    let mut table: Table = toml::from_str(&format!("value = {text}")).ok()?;
    table.remove("value")
}
