//! Look-ups in a document, made once for it.
//!
//! Every check is looked at several times a second: with which windows it is announced, and what it depends on. A document of thousands of checks
//! and of windows that name thousands of them is too large to be searched through for each. What is found here is what a search from its
//! first entry to its last would find, and costs no more than what is found.

use std::collections::HashMap;

use super::schema::{Check, Document, Window};

/// UNIX milliseconds.
type Millis = u64;

/// See the module. Entries are known by their position.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// By id and by name, the first check that is called so.
    checks: HashMap<String, usize>,
    /// When windows begin and end; nothing for one that cannot be read.
    times: Vec<Option<(Millis, Millis)>>,
    /// Windows for all checks.
    everything: Vec<usize>,
    /// Windows for groups.
    groups: HashMap<String, Vec<usize>>,
    /// Windows by what they name: an id or a name.
    named: HashMap<String, Vec<usize>>,
}

impl Index {
    /// Goes through the document once.
    pub fn of(document: &Document) -> Index {
        let mut index = Index::default();
        for (position, check) in document.checks.iter().enumerate() {
            for text in [&check.id, &check.name] {
                index.checks.entry(text.clone()).or_insert(position);
            }
        }
        for (position, window) in document.maintenance.iter().enumerate() {
            index.times.push(times(window));
            if window.checks.is_empty() && window.group.is_none() {
                index.everything.push(position);
            }
            if let Some(group) = &window.group {
                index.groups.entry(group.clone()).or_default().push(position);
            }
            for text in &window.checks {
                match index.named.get_mut(text) {
                    Some(windows) if windows.last() == Some(&position) => {}
                    Some(windows) => windows.push(position),
                    None => drop(index.named.insert(text.clone(), vec![position])),
                }
            }
        }
        index
    }

    /// The position of the first check with this id or name.
    pub fn check(&self, text: &str) -> Option<usize> {
        self.checks.get(text).copied()
    }

    /// The position of the first window that covers this check at this moment.
    pub fn window(&self, check: &Check, now: Millis) -> Option<usize> {
        let lists = self.windows(check).into_iter();
        let first = |list: &[usize]| list.iter().copied().find(|window| self.is_open(*window, now));
        lists.filter_map(first).min()
    }

    /// The windows that are about this check, whenever they are: each list in the order of the file.
    fn windows(&self, check: &Check) -> [&[usize]; 4] {
        let group = check.group.as_ref().and_then(|group| self.groups.get(group));
        let (by_id, by_name) = (self.named.get(&check.id), self.named.get(&check.name));
        [Some(&self.everything), group, by_id, by_name].map(|list| list.map_or(&[][..], Vec::as_slice))
    }

    fn is_open(&self, window: usize, now: Millis) -> bool {
        let times = self.times.get(window).copied().flatten();
        times.is_some_and(|(start, end)| (start..end).contains(&now))
    }
}

/// Begin and end. A window that cannot be read covers nothing; such a text is refused where it is entered.
fn times(window: &Window) -> Option<(Millis, Millis)> {
    let moment = |text: &str| {
        let stamp: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(stamp.as_millisecond()).ok()
    };
    Some((moment(&window.start)?, moment(&window.end)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::schema::CheckKind;
    use super::*;

    /// The rule, as it reads: from the first window to the last.
    fn searched(document: &Document, check: &Check, now: Millis) -> Option<usize> {
        let covers = |window: &Window| {
            let everything = window.checks.is_empty() && window.group.is_none();
            let named = window.checks.iter().any(|text| check.is_called(text));
            let grouped = window.group.is_some() && window.group == check.group;
            let open = times(window).is_some_and(|(start, end)| start <= now && now < end);
            (everything || named || grouped) && open
        };
        document.maintenance.iter().position(covers)
    }

    fn word() -> impl Strategy<Value = String> {
        "[a-d]{1,2}"
    }

    fn group() -> impl Strategy<Value = Option<String>> {
        proptest::option::of("[gh]")
    }

    /// Ids and names are the same words: what one check has as its id may be the name of another.
    fn check() -> impl Strategy<Value = Check> {
        (word(), word(), group()).prop_map(|(id, name, group)| Check {
            id,
            group,
            ..Check::new(name, CheckKind::Tcp, "h:1")
        })
    }

    fn window() -> impl Strategy<Value = Window> {
        let names = proptest::collection::vec(word(), 0..4);
        let second = prop_oneof![
            9 => (0..10u32).prop_map(|second| format!("1970-01-01T00:00:0{second}Z")),
            1 => Just("at noon".to_owned()),
        ];
        (names, group(), second.clone(), second).prop_map(|(checks, group, start, end)| Window {
            id: String::new(),
            name: String::new(),
            checks,
            group,
            start,
            end,
            pause: false,
        })
    }

    proptest! {
        #[test]
        fn what_is_looked_up_is_what_a_search_finds(
            checks in proptest::collection::vec(check(), 0..8),
            maintenance in proptest::collection::vec(window(), 0..8),
            stranger in check(),
            second in 0..10u64,
        ) {
            let document = Document { checks, maintenance, ..Document::default() };
            let index = Index::of(&document);
            for check in document.checks.iter().chain([&stranger]) {
                let now = second * 1000;
                prop_assert_eq!(index.window(check, now), searched(&document, check, now));
                for text in [&check.id, &check.name] {
                    let found = index.check(text).map(|position| &document.checks[position]);
                    prop_assert_eq!(found, document.check(text));
                }
            }
        }
    }

    #[test]
    fn only_windows_that_are_about_a_check_are_looked_at() {
        let check = |number: usize| Check {
            id: format!("k{number}"),
            ..Check::new(format!("name {number}"), CheckKind::Tcp, "h:1")
        };
        let window = |number: usize| Window {
            id: format!("w{number}"),
            name: format!("w{number}"),
            checks: (0..9000).map(|number| format!("k{number}")).collect(),
            group: None,
            start: "2026-01-01T00:00:00Z".to_owned(),
            end: "2036-01-01T00:00:00Z".to_owned(),
            pause: false,
        };
        let mut document = Document {
            checks: (0..9990).map(check).collect(),
            maintenance: (0..14).map(window).collect(),
            ..Document::default()
        };
        document.maintenance[3].checks.push("name 9500".to_owned());
        let index = Index::of(&document);
        let looked_at = |check: &Check| index.windows(check).iter().map(|list| list.len()).sum::<usize>();
        assert_eq!(looked_at(&document.checks[17]), 14);
        assert_eq!(looked_at(&document.checks[9500]), 1);
        assert_eq!(looked_at(&document.checks[9501]), 0);
    }
}
