//! Which keys exist, and what to say about one that does not.

use strsim::damerau_levenshtein;
use toml::{Table, Value};

use super::error::UnknownKey;
use super::origin::{Layer, find as origin_of};
use super::types::SECRET_SHOWN;

/// A section with at most this many keys is listed whole when nothing resembles the unknown key.
const KEYS_LISTED_MAX: usize = 16;

/// Adds what only the example has.
pub(super) fn add_example(known: &mut Table, example: Table) {
    for (key, theirs) in example {
        match (known.get_mut(&key), theirs) {
            (Some(Value::Table(ours)), Value::Table(theirs)) => add_example(ours, theirs),
            (Some(Value::Array(ours)), Value::Array(theirs)) if ours.is_empty() => *ours = theirs,
            (Some(_), _) => {}
            (None, theirs) => {
                known.insert(key, theirs);
            }
        }
    }
}

/// Lays `over` on `base`: tables merge, everything else is replaced.
pub(super) fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Removes every placeholder of a secret.
pub(super) fn drop_secrets(table: &mut Table) {
    table.retain(|_, value| match value {
        Value::String(text) => text != SECRET_SHOWN,
        Value::Table(inner) => {
            drop_secrets(inner);
            true
        }
        _ => true,
    });
}

/// The known value at a path.
pub(super) fn find<'a>(known: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (last, sections) = path.split_last()?;
    let mut table = known;
    for section in sections {
        table = table.get(section)?.as_table()?;
    }
    table.get(last)
}

/// The known value at a path as shown, `a.b[0].c`; any element of an array stands for all.
pub(super) fn find_shown<'a>(root: &'a Table, path: &str, same_element: bool) -> Option<&'a Value> {
    let mut value: Option<&Value> = None;
    for part in path.split('.') {
        let (key, index) = match part.split_once('[') {
            Some((key, rest)) => (key, rest.strip_suffix(']')?.parse::<usize>().ok()),
            None => (part, None),
        };
        let table = match value {
            None => root,
            Some(value) => value.as_table()?,
        };
        let mut found = table.get(key)?;
        if let Some(index) = index {
            found = found.as_array()?.get(if same_element { index } else { 0 })?;
        }
        value = Some(found);
    }
    value
}

/// Puts the value of `from` at a path as shown, or nothing where `from` has none. An element of a list stands for the list.
/// False if that changes nothing.
pub(super) fn restore(table: &mut Table, from: &Table, path: &str) -> bool {
    let path = path.split('[').next().unwrap_or_default();
    let default = find_shown(from, path, true).cloned();
    let (sections, last) = path
        .rsplit_once('.')
        .map_or((None, path), |(sections, last)| (Some(sections), last));
    let mut table = table;
    for section in sections.into_iter().flat_map(|sections| sections.split('.')) {
        match table.get_mut(section).and_then(Value::as_table_mut) {
            Some(inner) => table = inner,
            None => return false,
        }
    }
    let before = match default.clone() {
        Some(default) => table.insert(last.to_owned(), default),
        None => table.remove(last),
    };
    before != default
}

/// Spells a path from the environment like the known keys; parts that match none become lower case.
pub(super) fn match_case(known: &Table, path: &[&str]) -> Vec<String> {
    let mut table = Some(known);
    path.iter()
        .map(|part| {
            let key = table
                .and_then(|table| table.keys().find(|key| key.eq_ignore_ascii_case(part)))
                .map_or_else(|| part.to_ascii_lowercase(), Clone::clone);
            table = table.and_then(|table| table.get(&key)?.as_table());
            key
        })
        .collect()
}

/// The keys of a layer that do not exist.
pub(super) fn unknown(known: &Table, layer: &Layer) -> Vec<UnknownKey> {
    let mut search = Search {
        root: known,
        layer,
        found: Vec::new(),
    };
    search.table("", known, &layer.table);
    search.found
}

struct Search<'a> {
    root: &'a Table,
    layer: &'a Layer,
    found: Vec<UnknownKey>,
}

impl Search<'_> {
    fn table(&mut self, prefix: &str, known: &Table, given: &Table) {
        for (key, value) in given {
            let path = join(prefix, key);
            match known.get(key) {
                Some(known) => self.value(&path, known, value),
                None => self.found.push(UnknownKey {
                    origin: origin_of(std::slice::from_ref(self.layer), &path),
                    hint: hint(self.root, known, key),
                    key: path,
                }),
            }
        }
    }

    fn value(&mut self, path: &str, known: &Value, given: &Value) {
        match (known, given) {
            // Nothing is known about the inside of an empty table: its keys are free.
            (Value::Table(known), Value::Table(given)) if !known.is_empty() => self.table(path, known, given),
            (Value::Array(known), Value::Array(given)) => {
                let Some(Value::Table(known)) = known.iter().find(|element| element.is_table()) else {
                    return;
                };
                for (n, element) in given.iter().enumerate() {
                    if let Value::Table(element) = element {
                        self.table(&format!("{path}[{n}]"), known, element);
                    }
                }
            }
            _ => {}
        }
    }
}

/// What the writer may have meant: a key of the same section spelt nearly so, the same key elsewhere, or the list.
fn hint(root: &Table, section: &Table, key: &str) -> String {
    let near = section
        .keys()
        .map(|known| {
            (
                damerau_levenshtein(&known.to_ascii_lowercase(), &key.to_ascii_lowercase()),
                known,
            )
        })
        .min()
        .filter(|(distance, _)| *distance <= (key.chars().count() / 3).max(1));
    if let Some((_, near)) = near {
        return format!("did you mean {near:?}?");
    }
    if let Some(elsewhere) = same_key_elsewhere(root, "", key) {
        return format!("did you mean {elsewhere:?}?");
    }
    if section.len() <= KEYS_LISTED_MAX {
        let known: Vec<&str> = section.keys().map(String::as_str).collect();
        return format!("known here: {}", known.join(", "));
    }
    "no known key resembles it".to_owned()
}

fn same_key_elsewhere(table: &Table, prefix: &str, key: &str) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let path = join(prefix, name);
        if name == key {
            Some(path)
        } else {
            same_key_elsewhere(value.as_table()?, &path, key)
        }
    })
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() {
        key.to_owned()
    } else {
        format!("{prefix}.{key}")
    }
}
