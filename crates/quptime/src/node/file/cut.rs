//! Texts that look cut off: an editor was seen in the middle of saving, or the disk was full.
//!
//! What is missing at the end of a file is read as removed, and half a file often makes sense. So a text whose end is missing is not taken
//! for an edit. That costs something only where people remove what stands last, and they are told what to do about it.

/// What a text looks like beside the one that its author saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It has an end.
    There,
    /// Whole entries are missing at the end and nothing else: removed, or not saved yet.
    Unsure,
    /// The end is missing, and why it seems so.
    Missing(&'static str),
}

/// Sections that every text has which was written by the program.
const ALWAYS: [&str; 3] = ["peers:", "checks:", "alerts:"];

/// Looks at the end of an edited text; `base` is what its author saw.
pub fn end_of(text: &str, base: &str) -> End {
    if text.trim().is_empty() {
        return End::Missing("the file is empty");
    }
    if !text.ends_with('\n') {
        return End::Missing("the last line does not end with a line break");
    }
    let top = |line: &&str| line.starts_with(|letter: char| letter.is_ascii_alphabetic());
    let section = |line: &str| line.split_inclusive(':').next().unwrap_or_default().to_owned();
    let last = text.lines().rfind(top).map(section).unwrap_or_default();
    let mut after = base
        .lines()
        .filter(top)
        .map(section)
        .skip_while(|name| *name != last);
    after.next();
    let lost = |name: &String| {
        ALWAYS.contains(&name.as_str()) && !text.lines().any(|line| line.starts_with(name.as_str()))
    };
    if after.any(|name| lost(&name)) {
        return End::Missing("sections are missing at the end");
    }
    let gone = base
        .lines()
        .filter(top)
        .map(section)
        .skip_while(|name| *name != last)
        .skip(1);
    let entry = base.lines().rfind(|line| line.starts_with("  - "));
    let unsure = gone.count() > 0 || entry.is_some_and(|entry| !text.lines().any(|line| line == entry));
    match rest_of(text, base) {
        None | Some("") if unsure => End::Unsure,
        None | Some("") => End::There,
        // From one entry, or one section, to the next.
        Some(rest)
            if rest.starts_with("  - ") || rest.starts_with(|letter: char| letter.is_ascii_alphabetic()) =>
        {
            End::Unsure
        }
        Some(_) => End::Missing("the last entry ends early"),
    }
}

/// What follows in `base` after the last entry of `text`, if that entry is there and begins in the same way.
fn rest_of<'a>(text: &str, base: &'a str) -> Option<&'a str> {
    if let Some(rest) = base.strip_prefix(text) {
        return Some(rest);
    }
    let at = text.rfind("\n  - ")? + 1;
    let entry = &text[at..];
    // Entries begin with what names them, so this is found once.
    let found = base
        .match_indices(entry)
        .find(|(found, _)| base[..*found].ends_with('\n'));
    found.map(|(found, entry)| &base[found + entry.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "version: 7\npeers:\n  - node_id: n\n    advertise: h:1\nchecks:\n  - id: a\n    name: one\n    type: tcp\n  \
        - id: b\n    name: two\n    type: tcp\nalerts:\n  - id: x\n    name: mail\n    default: true\n  - id: y\n    name: chat\n    \
        default: true\n";

    #[test]
    fn every_beginning_of_a_text_lacks_its_end() {
        for length in 0..BASE.len() {
            let text = &BASE[..length];
            let expected_unsure = text.ends_with("name: mail\n    default: true\n");
            match end_of(text, BASE) {
                End::Missing(_) => assert!(!expected_unsure, "{text:?}"),
                End::Unsure => assert!(expected_unsure || text.ends_with("alerts:\n"), "{text:?}"),
                End::There => panic!("{text:?}"),
            }
        }
        assert_eq!(end_of(BASE, BASE), End::There);
    }

    #[test]
    fn a_cut_is_seen_behind_changes_too() {
        let edited = BASE
            .replace("name: one", "name: uno")
            .replace("version: 7", "version: 8 # mine");
        assert_eq!(end_of(&edited, BASE), End::There);
        let until = |what: &str| &edited[..edited.find(what).unwrap() + what.len()];
        assert!(matches!(end_of(until("name: uno\n"), BASE), End::Missing(_)));
        assert!(matches!(end_of(until("name: chat\n"), BASE), End::Missing(_)));
        assert_eq!(
            end_of(until("name: mail\n    default: true\n"), BASE),
            End::Unsure
        );
    }

    #[test]
    fn what_people_do_at_the_end_is_an_edit() {
        let added = format!("{BASE}  - name: third\n    type: webhook\n");
        assert_eq!(end_of(&added, BASE), End::There);
        let changed = BASE.replace("name: chat\n    default: true\n", "name: chat\n");
        assert!(matches!(end_of(&changed, BASE), End::Missing(_)));
        assert_eq!(end_of(&format!("{changed}# that is all\n"), BASE), End::There);
        let none = format!("{}alerts: []\n", &BASE[..BASE.find("alerts:").unwrap()]);
        assert_eq!(end_of(&none, BASE), End::Unsure);
        let fewer = BASE.replace("name: mail", "name: post");
        let fewer = &fewer[..fewer.find("  - id: y").unwrap()];
        assert_eq!(end_of(fewer, BASE), End::Unsure);
        let moved = BASE.replace(
            "    name: chat\n    default: true\n",
            "    default: true\n    name: chat\n",
        );
        assert_eq!(end_of(&moved, BASE), End::There);
    }
}
