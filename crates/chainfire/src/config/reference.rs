//! The page `docs/reference/chainfire-config.md`, made of the settings themselves: keys and defaults as they are, and the comments
//! of the fields as they stand in the source.
//!
//! `cargo xtask codegen` writes the page; a test here fails when it is not current, or when a key has no comment.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::{Table, Value};

use super::Config;

/// The files that define settings.
const SOURCES: [&str; 3] = [
    include_str!("../config.rs"),
    include_str!("../auth/settings.rs"),
    include_str!("../../../service/src/logs.rs"),
];

const HEAD: &str = "\
# Settings of Chainfire

<!-- Made by `cargo xtask codegen` from the comments in the source: change those. -->

The server reads a TOML file, `/etc/centra-cloud/chainfire.toml` unless `--config FILE` names another. Every key can also be given in
the environment, as `CHAINFIRE__SECTION__KEY` (`CHAINFIRE__NODE__ID=2`); what the file says wins. Unknown keys and impossible values
are refused, all of them at once; to see whether a file is good before a restart:

```sh
chainfire --config /etc/centra-cloud/chainfire.toml --check-config
```

Sizes are bytes, or a text with a unit such as `\"128MiB\"`; times whose key does not end in `_ms` are texts such as `\"5m\"` or
`\"1h30m\"`.
";

/// A field as the source has it.
struct Field {
    name: String,
    kind: String,
    comment: String,
}

/// The page.
pub fn page() -> String {
    let structs: BTreeMap<String, Vec<Field>> = SOURCES.into_iter().flat_map(structs).collect();
    let table = |config| Table::try_from(config).expect("settings serialise to a TOML table");
    let mut page = HEAD.to_owned();
    Writer {
        structs: &structs,
        page: &mut page,
    }
    .section(
        "",
        "Config",
        "",
        &table(Config::example()),
        &table(Config::default()),
    );
    page
}

struct Writer<'a> {
    structs: &'a BTreeMap<String, Vec<Field>>,
    page: &'a mut String,
}

impl Writer<'_> {
    /// Writes the keys of a section, then the sections in it, in the order of the source.
    fn section(&mut self, path: &str, kind: &str, comment: &str, keys: &Table, defaults: &Table) {
        let fields = self
            .structs
            .get(kind)
            .unwrap_or_else(|| unreachable!("{kind} is in a file that defines settings"));
        let (sections, plain): (Vec<&Field>, Vec<&Field>) = fields
            .iter()
            .filter(|field| keys.contains_key(&field.name))
            .partition(|field| keys[&field.name].is_table());
        if !plain.is_empty() {
            self.line(format_args!(
                "\n## `[{path}]`\n\n{comment}\n\n| key | default | meaning |\n| --- | --- | --- |"
            ));
        }
        for field in plain {
            let default = defaults.get(&field.name).unwrap_or(&keys[&field.name]);
            self.line(format_args!(
                "| `{}` | {} | {} |",
                field.name,
                shown(default, &field.kind),
                field.comment.replace('|', "\\|")
            ));
        }
        let none = Table::new();
        for field in sections {
            let inner = if path.is_empty() {
                field.name.clone()
            } else {
                format!("{path}.{}", field.name)
            };
            let keys = keys[&field.name].as_table().unwrap_or(&none);
            let defaults = defaults.get(&field.name).and_then(Value::as_table);
            self.section(
                &inner,
                &field.kind,
                &field.comment,
                keys,
                defaults.unwrap_or(&none),
            );
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a `String` does not fail.
        let _ = writeln!(self.page, "{line}");
    }
}

fn shown(default: &Value, kind: &str) -> String {
    match default {
        Value::Integer(bytes) if kind == "ByteSize" => {
            format!(
                "`{bytes}` ({})",
                service::settings::ByteSize(bytes.unsigned_abs())
            )
        }
        value => format!("`{value}`"),
    }
}

/// The public structs of a source file with their public fields. `Option` is taken off the type of a field.
fn structs(source: &str) -> Vec<(String, Vec<Field>)> {
    let mut found: Vec<(String, Vec<Field>)> = Vec::new();
    let mut open = false;
    let mut comment = Vec::new();
    for line in source.lines() {
        let text = line.trim();
        if let Some(name) = line.strip_prefix("pub struct ") {
            let name = name.split([' ', '(', ';']).next().unwrap_or_default();
            open = line.ends_with('{');
            found.push((name.to_owned(), Vec::new()));
        } else if line == "}" {
            open = false;
        } else if let Some(words) = text.strip_prefix("///") {
            comment.push(words.trim());
            continue;
        } else if text.starts_with("#[") {
            continue;
        } else if let Some((name, kind)) = text.strip_prefix("pub ").and_then(|field| field.split_once(": "))
            && open
            && let Some((_, fields)) = found.last_mut()
        {
            let kind = kind.trim_end_matches(',');
            let kind = kind
                .strip_prefix("Option<")
                .and_then(|inner| inner.strip_suffix('>'))
                .unwrap_or(kind);
            fields.push(Field {
                name: name.to_owned(),
                kind: kind.to_owned(),
                comment: comment.join(" "),
            });
        }
        comment.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = include_str!("../../../../docs/reference/chainfire-config.md");

    #[test]
    fn the_committed_page_is_current() {
        assert!(
            page() == COMMITTED,
            "docs/reference/chainfire-config.md differs from the settings: run `cargo xtask codegen`"
        );
    }

    #[test]
    fn every_key_is_on_the_page_and_explained() {
        fn check(table: &Table, section: &str, page: &str) {
            for (key, value) in table {
                if let Value::Table(inner) = value {
                    let section = if section.is_empty() {
                        key.clone()
                    } else {
                        format!("{section}.{key}")
                    };
                    check(inner, &section, page);
                    continue;
                }
                let start = page.find(&format!("\n## `[{section}]`\n")).unwrap() + 1;
                let rest = &page[start..];
                let rest = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
                let row = rest
                    .lines()
                    .find(|line| line.starts_with(&format!("| `{key}` |")));
                let row = row.unwrap_or_else(|| panic!("{section}.{key} is not on the page"));
                assert!(!row.ends_with("|  |"), "{section}.{key} has no comment");
            }
        }
        check(&Table::try_from(Config::example()).unwrap(), "", &page());
    }
}
