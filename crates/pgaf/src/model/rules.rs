//! The rules that protect rows, each of which can be taken away.

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The record covers the new names before they come into effect.
    CoverFirst,
    /// The first write is made even if it changes nothing.
    FreshWrite,
    /// Until names are certainly in effect the record is not narrowed.
    AwaitEffect,
    /// The new names' standbys have everything before the record says so.
    Barrier,
    /// A covering record demands of old members what was demanded before.
    KeepDemand,
    /// Who is alone stays alone while names change.
    AloneStays,
    /// As many members report as the record needs.
    Need,
    /// Who reports has cut itself off.
    Cut,
    /// The cut outlives a restart.
    DurableCut,
    /// Reports are of this election.
    Revision,
    /// The timeline decides before the position.
    Timeline,
    /// Taking the lock compares the record's revision.
    Compare,
    /// Who has promised follows nobody on the word of an earlier record.
    Promise,
    /// Nobody follows a primary of an earlier epoch than one it followed.
    Epoch,
    /// Only whom the record names takes the lock again.
    NamedOnly,
    /// A position at which somebody stopped is void when it begins again.
    ReleaseVoid,
    /// A primary that takes its lock again starts with the names on its disk.
    NamesOnDisk,
}

/// All rules but one, or all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rules {
    pub(super) without: Option<Rule>,
}

impl Rules {
    pub(super) fn hold(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}
