//! References follow a new name.
//!
//! Checks and alerts may be referred to by name. Whoever gives one another name means the same thing, so what named it names it still; that
//! it is the same, its id says.

use std::collections::{BTreeMap, BTreeSet};

use super::schema::Document;

/// Ids and names.
type Names = BTreeMap<String, String>;

fn checks_of(document: &Document) -> Names {
    let named = document
        .checks
        .iter()
        .map(|check| (check.id.clone(), check.name.clone()));
    named.collect()
}

fn alerts_of(document: &Document) -> Names {
    let named = document
        .alerts
        .iter()
        .map(|alert| (alert.id.clone(), alert.name.clone()));
    named.collect()
}

/// Old names that nothing has any more, and what has which name instead.
fn renamed(before: &Names, after: &Names) -> BTreeMap<String, String> {
    let taken: BTreeSet<&String> = after.iter().flat_map(|(id, name)| [id, name]).collect();
    let pairs = before.iter().filter_map(|(id, was)| {
        let is = after.get(id).filter(|is| *is != was && !taken.contains(was))?;
        Some((was.clone(), is.clone()))
    });
    pairs.collect()
}

fn follow(texts: &mut [String], renamed: &BTreeMap<String, String>) {
    for text in texts {
        if let Some(name) = renamed.get(text) {
            text.clone_from(name);
        }
    }
}

/// In `edited`, which came of `base`: what refers to something by the name that it had there refers to it by its new one, unless something
/// else has the old one now.
pub fn follow_renames(base: &Document, edited: &mut Document) {
    let checks = renamed(&checks_of(base), &checks_of(edited));
    let alerts = renamed(&alerts_of(base), &alerts_of(edited));
    if checks.is_empty() && alerts.is_empty() {
        return;
    }
    for check in &mut edited.checks {
        follow(&mut check.depends_on, &checks);
        follow(&mut check.alert_ids, &alerts);
        follow(&mut check.suppress_alert_ids, &alerts);
    }
    for window in &mut edited.maintenance {
        follow(&mut window.checks, &checks);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{integrity, parse};
    use super::*;

    const TEXT: &str = "version: 7
peers: []
checks:
  - {id: c1, name: parent, type: tcp, target: '127.0.0.1:1', alert_ids: [hook, a2]}
  - {id: c2, name: child, type: tcp, target: '127.0.0.1:2', depends_on: [parent], suppress_alert_ids: [hook]}
alerts:
  - {id: a1, name: hook, type: webhook, webhook_url: 'http://127.0.0.1:1/'}
  - {id: a2, name: other, type: webhook, webhook_url: 'http://127.0.0.1:2/'}
maintenance:
  - {id: m1, name: work, checks: [parent, c2], start: '2026-01-01T00:00:00Z', end: '2026-01-02T00:00:00Z'}
";

    fn edited(change: impl FnOnce(&mut Document)) -> Document {
        let base = parse(TEXT).unwrap();
        let mut edited = base.clone();
        change(&mut edited);
        follow_renames(&base, &mut edited);
        integrity::check(&edited).unwrap();
        edited
    }

    fn names(document: &mut Document, parent: &str, child: &str) {
        document.checks[0].name = parent.to_owned();
        document.checks[1].name = child.to_owned();
    }

    #[test]
    fn what_named_it_names_it_still() {
        let after = edited(|document| {
            names(document, "mother", "child");
            document.alerts[0].name = "pager".to_owned();
        });
        assert_eq!(after.checks[0].alert_ids, ["pager", "a2"]);
        assert_eq!(after.checks[1].depends_on, ["mother"]);
        assert_eq!(after.checks[1].suppress_alert_ids, ["pager"]);
        assert_eq!(after.maintenance[0].checks, ["mother", "c2"]);
    }

    #[test]
    fn a_name_that_something_else_has_now_is_meant_so() {
        let after = edited(|document| {
            names(document, "mother", "child");
            let mut other = document.checks[0].clone();
            other.id = "c3".to_owned();
            other.name = "parent".to_owned();
            document.checks.push(other);
        });
        assert_eq!(after.checks[1].depends_on, ["parent"]);
        assert_eq!(after.maintenance[0].checks, ["parent", "c2"]);
    }

    #[test]
    fn nothing_else_changes() {
        assert_eq!(edited(|_| {}), parse(TEXT).unwrap());
        let mut after = edited(|document| names(document, "mother", "child"));
        names(&mut after, "parent", "child");
        after.checks[1].depends_on = vec!["parent".to_owned()];
        after.maintenance[0].checks[0] = "parent".to_owned();
        assert_eq!(after, parse(TEXT).unwrap());
    }
}
