//! Where Chainfire answers otherwise than Debian's etcd 3.4.23, and why: the table is `differences.txt`. Both sides are pinned,
//! so a difference that changes or goes away fails the test.
//!
//! An entry is `=== SCRIPT`, the step as written, `why:` and the reason, `etcd:` and what etcd shows, `ours:` and what Chainfire
//! shows. Lines before the first entry are for people.

/// One step that is answered differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Name of the script.
    pub(crate) script: String,
    /// The step as written, input included.
    pub(crate) step: String,
    /// Why.
    pub(crate) reason: String,
    /// What etcd shows.
    pub(crate) etcd: String,
    /// What Chainfire shows.
    pub(crate) ours: String,
}

/// The differences of one script.
pub(crate) fn known(script: &str) -> Vec<Difference> {
    let mut all = parse(include_str!("differences.txt"));
    all.retain(|difference| difference.script == script);
    all
}

fn parse(table: &str) -> Vec<Difference> {
    table.split("\n=== ").skip(1).map(entry).collect()
}

fn entry(text: &str) -> Difference {
    let (script, rest) = text.split_once('\n').expect("an entry has a step");
    let (step, rest) = rest.split_once("\nwhy: ").expect("an entry has a reason");
    let (reason, rest) = rest.split_once("\netcd:\n").expect("an entry shows etcd");
    let (etcd, ours) = rest.split_once("\nours:\n").expect("an entry shows ours");
    Difference {
        script: script.to_owned(),
        step: step.to_owned(),
        reason: reason.to_owned(),
        etcd: format!("{etcd}\n"),
        ours: format!("{}\n", ours.trim_end_matches('\n')),
    }
}

#[test]
fn entries_are_read_and_give_reasons() {
    let table = "For people.\n\n=== kv\nrun txn\n| x\nwhy: because\netcd:\nexit 0\nstdout: a\nours:\nexit 1\n\n=== kv\nrun get\nwhy: so\n\
                 etcd:\nexit 0\nours:\nexit 1\n";
    let entries = parse(table);
    assert_eq!(entries.len(), 2);
    let first = Difference {
        script: "kv".into(),
        step: "run txn\n| x".into(),
        reason: "because".into(),
        etcd: "exit 0\nstdout: a\n".into(),
        ours: "exit 1\n".into(),
    };
    assert_eq!(entries[0], first);
    let real = parse(include_str!("differences.txt"));
    assert!(
        real.iter()
            .all(|known| known.reason.len() > 20 && known.etcd != known.ours),
        "{real:#?}"
    );
}
