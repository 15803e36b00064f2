//! What the configuration must be, and how its text is edited.

use std::collections::BTreeMap;

use quptime::document::parse;

/// Checks by name, with the number that tells their contents apart: it is the port of their target.
pub(crate) type Checks = BTreeMap<String, u64>;

/// What a text says; nothing if it makes no sense.
pub(crate) fn checks_of(text: &str) -> Option<Checks> {
    let document = parse(text).ok()?;
    let number = |target: &str| target.rsplit_once(':')?.1.parse().ok();
    document
        .checks
        .iter()
        .map(|check| Some((check.name.clone(), number(&check.target)?)))
        .collect()
}

/// One edit of one entry.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    Set(String, u64),
    Add(String, u64),
    Remove(String),
}

impl Edit {
    pub(crate) fn name(&self) -> &str {
        match self {
            Edit::Set(name, _) | Edit::Add(name, _) | Edit::Remove(name) => name,
        }
    }

    pub(crate) fn carry_out(&self, checks: &mut Checks) {
        match self {
            Edit::Set(name, number) | Edit::Add(name, number) => {
                checks.insert(name.clone(), *number);
            }
            Edit::Remove(name) => {
                checks.remove(name);
            }
        }
    }

    /// As somebody does it in an editor.
    pub(crate) fn write(&self, text: &str) -> String {
        match self {
            Edit::Set(name, number) => {
                let at = text.find(&format!("    name: {name}\n")).unwrap();
                let target = at + text[at..].find("    target: ").unwrap();
                let end = target + text[target..].find('\n').unwrap();
                format!(
                    "{}    target: 127.0.0.1:{number}{}",
                    &text[..target],
                    &text[end..]
                )
            }
            Edit::Add(name, number) => {
                let entry = format!(
                    "  - name: {name}\n    type: tcp\n    target: 127.0.0.1:{number}\n    interval: 1h\n"
                );
                text.replacen("\nchecks:\n", &format!("\nchecks:\n{entry}"), 1)
            }
            Edit::Remove(name) => {
                let named = text.find(&format!("    name: {name}\n")).unwrap();
                let start = text[..named].rfind("\n  - ").unwrap() + 1;
                let rest = &text[named..];
                let next = rest.find("\n  - ").into_iter().chain(rest.find("\nalerts:"));
                let end = named + next.min().unwrap() + 1;
                format!("{}{}", &text[..start], &text[end..])
            }
        }
    }
}
