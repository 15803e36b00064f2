//! Making the best of a damaged directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use consensus::{Configuration, HardState, Incarnation, NodeId, Position, Snapshot, Term};
use store::{Durability, Hold, Options, Salvage, Store};

use super::check::{check_held, state_problems, words};
use super::entries::{self, Record};
use super::{Error, must_be_database};
use crate::error::Error::Damaged;
use crate::log;
use crate::mvcc::family;
use crate::node::restore::{MARK, REPAIRED};
use crate::node::{IDENTITY, VERSION};
use crate::state_machine::StateMachine;

/// What a repair did.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing: everything is as it was written.
    Clean,
    /// What could be read was kept.
    Repaired {
        /// What was dropped or made anew, a line each.
        notes: Vec<String>,
        /// Where the damaged files are.
        lost: PathBuf,
    },
}

/// Where the new database is made.
const WORK: &str = "repairing";

/// Repairs the data in `dir`, if it needs that. No server may use the directory meanwhile.
pub fn repair(dir: &Path) -> Result<Outcome, Error> {
    must_be_database(dir)?;
    let _hold = Hold::take(dir, true)?;
    let work = dir.join(WORK);
    remove(&work)?;
    if let Some(lost) = store::finish_replacement(dir)? {
        let notes = vec!["went on with an earlier repair, which had been interrupted".to_owned()];
        return Ok(Outcome::Repaired { notes, lost });
    }
    let problems = check_held(dir)?;
    if problems.is_empty() {
        return Ok(Outcome::Clean);
    }
    let made = make(dir, &work).map(|mut notes| {
        // A log that lacks its end has nothing that could be dropped.
        if notes.is_empty() {
            notes = problems;
        }
        notes
    });
    if made.is_err() {
        // Only a copy.
        remove(&work)?;
    }
    let notes = made?;
    let lost = store::replace(dir, &work)?;
    Ok(Outcome::Repaired { notes, lost })
}

fn remove(work: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(work) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(store::Error::File {
            operation: "remove",
            path: work.to_owned(),
            source,
        }
        .into()),
        _ => Ok(()),
    }
}

/// Makes a sound database of the one in `dir` in `work`; what had to be dropped.
fn make(dir: &Path, work: &Path) -> Result<Vec<String>, Error> {
    let impossible = |reason: String| Error::Impossible { reason };
    let Salvage { store, mut notes } =
        store::salvage(dir, work, &Options::default(), family::ALL).map_err(|error| {
            if error.is_corruption() {
                impossible(error.to_string())
            } else {
                error.into()
            }
        })?;
    let store = Arc::new(store);
    settle(&store, &mut notes).map_err(|error| impossible(words(&error)))?;
    store.flush()?;
    store.stop_background_work();
    drop(store);
    let left = check_held(work)?;
    if let Some(problem) = left.first() {
        return Err(impossible(format!(
            "what can be read does not fit together: {problem}"
        )));
    }
    let mark = work.join(MARK);
    std::fs::write(&mark, format!("chainfire {VERSION}\n{REPAIRED}\n")).map_err(|source| {
        store::Error::File {
            operation: "write",
            path: mark,
            source,
        }
    })?;
    Ok(notes)
}

/// Makes state and log fit.
fn settle(store: &Arc<Store>, notes: &mut Vec<String>) -> crate::error::Result<()> {
    let impossible = |reason: String| Err(Damaged(reason));
    if entries::is_being_replaced(store)? {
        return Ok(());
    }
    let log = Log::load(store)?;
    let problems = state_problems(store);
    if let Some(problem) = problems.first() {
        if log.base.as_ref().is_none_or(|base| base.position.index > 0) || log.first != Some(1) {
            return impossible(format!(
                "the state is damaged ({problem}) and the log from which it could be made anew does not begin with entry 1"
            ));
        }
        notes.push(format!(
            "the state is damaged ({problem}): the next start makes it anew from the log"
        ));
        forget_state(store)?;
    }
    let meta = StateMachine::load(store.clone())?.mvcc.meta();
    let applied = meta.applied_index;
    if let Some(base) = log.base.as_ref().filter(|base| base.position.index > applied) {
        return impossible(format!(
            "the log begins after entry {}, the state has only what is before {}",
            base.position.index,
            applied + 1
        ));
    }
    let mut batch = store.batch();
    let cut = log.cut(applied);
    if cut.rebase {
        let base = Snapshot {
            position: Position {
                term: Term(meta.applied_term),
                index: applied,
            },
            configuration: log.configuration(applied),
        };
        batch.delete_range(family::LOG, &[], &(applied + 1).to_be_bytes());
        batch.put(family::HARD, log::BASE, &log::encode_base(&base));
        notes.push(format!(
            "log entries up to {applied} are dropped; the state has what they did"
        ));
    }
    if cut.last < log.last {
        batch.delete_range(family::LOG, &(cut.last + 1).to_be_bytes(), &[0xff; 9]);
        notes.push(format!(
            "the log is cut: entries {} to {} are dropped, and with them writes that clients were told are done; this node gets \
             them back only from other members",
            cut.last + 1,
            log.last
        ));
    }
    if cut.last == 0 && log.last > 0 {
        return impossible(
            "not even the first entry of the log can be read, and the state has nothing".to_owned(),
        );
    }
    let before = entries::hard_state(store)?;
    if let Record::Whole(hard) = &before
        && hard.commit > cut.last.max(log.last)
    {
        notes.push(format!(
            "log entries {} to {} are gone, and with them writes that clients were told are done; this node gets them back only \
             from other members",
            cut.last + 1,
            hard.commit
        ));
    }
    if cut.last > 0 || before != Record::None {
        let mut hard = promises(store, &log, before, cut.last, notes)?;
        hard.term = hard.term.max(Term(meta.applied_term.max(log.term)));
        hard.commit = hard.commit.clamp(applied, cut.last);
        log::put_hard_state(&mut batch, &hard);
    }
    if store.get(family::META, IDENTITY)?.is_none() {
        notes.push(
            "the numbers of node and cluster are gone: the next start takes them from the settings"
                .to_owned(),
        );
    }
    store.write(batch, Durability::Synced)?;
    Ok(())
}

/// The hard state of the repaired directory. A node that was certainly alone goes on. Any other counts for nothing until the others
/// admit it: what is left may name fewer members than there are, and a node that takes itself for the only one would lead a second
/// cluster beside the first.
fn promises(
    store: &Store,
    log: &Log,
    before: Record<HardState>,
    last: u64,
    notes: &mut Vec<String>,
) -> crate::error::Result<HardState> {
    let own = match store.get(family::META, IDENTITY)? {
        Some(bytes) => bytes.first_chunk().map(|id| NodeId(u64::from_be_bytes(*id))),
        None => None,
    };
    let configuration = log.configuration(last);
    let mut members = configuration.members();
    let alone = members.next().filter(|(node, _)| {
        members.next().is_none() && own.is_none_or(|own| own == *node) && log.knows_only(*node)
    });
    let known = match before {
        Record::Whole(hard) => Some(hard),
        Record::None | Record::Unreadable => {
            // Without one the server takes the directory for a new one.
            notes.push("the hard state (term, vote and commit) is gone".to_owned());
            None
        }
    };
    let voted_for = known.as_ref().and_then(|hard| hard.vote).map(|vote| vote.node);
    if let Some((_, member)) = alone.filter(|(node, _)| voted_for.is_none_or(|other| other == *node)) {
        return Ok(known.unwrap_or_else(|| HardState::new(member.incarnation, false)));
    }
    if configuration.members().count() < 2 {
        notes.push(
            "who belongs to the cluster is not known any more, so this node waits until the other members admit it; if there are none, \
             `chainfire recover --force-new-cluster --yes-i-lose-writes --data-dir DIR` makes it go on alone"
                .to_owned(),
        );
    }
    let mut random = [0; 2];
    (crate::auth::system_entropy())(&mut random)?;
    let life = Incarnation::draw(
        service::SystemClock::shared().unix_ms(),
        u16::from_be_bytes(random),
    );
    Ok(known.unwrap_or_else(|| HardState::new(life, true)).restored(life))
}

/// Empties all families that entries of the log write to. The node's own numbers stay.
fn forget_state(store: &Store) -> crate::error::Result<()> {
    let mut batch = store.batch();
    for family in [
        family::KEY,
        family::HIST,
        family::REV,
        family::LEASE,
        family::AUTH,
    ] {
        let mut last = store.cursor(family, None, None);
        last.seek_to_last();
        if let Some((key, _)) = last.entry() {
            let end = [key, &[0]].concat();
            batch.delete_range(family, &[], &end);
        }
        last.check()?;
    }
    let mut cursor = store.cursor(family::META, None, None);
    cursor.seek_to_first();
    while let Some((key, _)) = cursor.entry() {
        if key != IDENTITY {
            batch.delete(family::META, key);
        }
        cursor.next();
    }
    cursor.check()?;
    store.write(batch, Durability::Synced)?;
    Ok(())
}

/// What the family `log` holds.
#[derive(Debug)]
struct Log {
    /// What it begins after; none if that cannot be read.
    base: Option<Snapshot>,
    first: Option<u64>,
    last: u64,
    /// Highest term of the entries.
    term: u64,
    /// Runs of good entries that follow each other: first and last index.
    runs: Vec<(u64, u64)>,
    /// Changes of the members, by index.
    configurations: BTreeMap<u64, Configuration>,
}

/// What stays of a log.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    /// The log begins anew after what the state has.
    rebase: bool,
    /// The last entry that stays; the last one that the state has, if none does.
    last: u64,
}

impl Log {
    fn load(store: &Store) -> crate::error::Result<Log> {
        let mut log = Log {
            base: match entries::base(store)? {
                Record::None => Some(Snapshot::default()),
                Record::Whole(base) => Some(base),
                Record::Unreadable => None,
            },
            first: None,
            last: 0,
            term: 0,
            runs: Vec::new(),
            configurations: BTreeMap::new(),
        };
        if let Some(base) = &log.base {
            (log.last, log.term) = (base.position.index, base.position.term.0);
        }
        entries::scan(store, &mut |found| {
            log.first.get_or_insert(found.index);
            log.last = log.last.max(found.index);
            let Ok(entry) = found.entry else { return };
            match log.runs.last_mut() {
                Some((_, last)) if *last + 1 == found.index && entry.term >= log.term => *last = found.index,
                _ => log.runs.push((found.index, found.index)),
            }
            log.term = log.term.max(entry.term);
            if let Some(configuration) = entry.configuration {
                log.configurations.insert(found.index, configuration);
            }
        })?;
        Ok(log)
    }

    /// What stays beside a state that has everything up to `applied`: the entries that follow it without a gap, and those before,
    /// if nothing of them is missing.
    fn cut(&self, applied: u64) -> Cut {
        let end = self
            .runs
            .iter()
            .find(|(first, last)| *first <= applied + 1 && *last > applied)
            .map_or(applied, |(_, last)| *last);
        let unbroken = self.base.as_ref().is_some_and(|base| {
            let base = base.position.index;
            let from_base = |(first, last): &(u64, u64)| *first == base + 1 && *last >= applied;
            base == applied || self.runs.iter().any(from_base)
        });
        let rest = self
            .first
            .is_none_or(|first| Some(first) > self.base.as_ref().map(|base| base.position.index));
        Cut {
            rebase: !(unbroken && rest) && applied > 0,
            last: end,
        }
    }

    /// True if nothing that can be read, wherever it lies, knows of another member.
    fn knows_only(&self, node: NodeId) -> bool {
        let base = self.base.iter().map(|base| &base.configuration);
        let mut all = base.chain(self.configurations.values());
        all.all(|configuration| configuration.members().all(|(member, _)| member == node))
    }

    /// Who belongs to the cluster at `index`, as far as can be told.
    fn configuration(&self, index: u64) -> Configuration {
        let newest = self.configurations.range(..=index).next_back();
        let base = || self.base.as_ref().map(|base| base.configuration.clone());
        newest.map_or_else(|| base().unwrap_or_default(), |(_, newest)| newest.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(base: u64, runs: &[(u64, u64)], last: u64) -> Log {
        let mut snapshot = Snapshot::default();
        snapshot.position.index = base;
        Log {
            base: Some(snapshot),
            first: (last > base).then_some(base + 1),
            last,
            term: 1,
            runs: runs.to_vec(),
            configurations: BTreeMap::new(),
        }
    }

    #[test]
    fn the_log_keeps_what_leads_up_to_the_state_and_follows_it() {
        let cut = |log: &Log, applied| {
            let cut = log.cut(applied);
            (cut.rebase, cut.last)
        };
        let whole = log(0, &[(1, 30)], 30);
        for applied in [0, 20, 30] {
            assert_eq!(cut(&whole, applied), (false, 30));
        }
        // Entry 9 is bad.
        let holed = log(0, &[(1, 8), (10, 30)], 30);
        assert_eq!(cut(&holed, 20), (true, 30));
        assert_eq!(cut(&holed, 9), (true, 30));
        assert_eq!(cut(&holed, 8), (false, 8));
        assert_eq!(cut(&holed, 3), (false, 8));
        assert_eq!(cut(&holed, 0), (false, 8));
        // What was applied is ahead of the log.
        assert_eq!(cut(&holed, 40), (true, 40));
        // The first one is bad, or all.
        assert_eq!(cut(&log(0, &[(2, 5)], 5), 0), (false, 0));
        assert_eq!(cut(&log(0, &[], 5), 3), (true, 3));
        // A log that begins later.
        assert_eq!(cut(&log(10, &[(11, 15)], 15), 12), (false, 15));
        assert_eq!(cut(&log(10, &[(12, 15)], 15), 12), (true, 15));
        assert_eq!(cut(&log(10, &[], 10), 10), (false, 10));
        assert_eq!(cut(&log(10, &[(11, 15)], 15), 10), (false, 15));
        let mut lost = log(10, &[(11, 15)], 15);
        lost.base = None;
        assert_eq!(cut(&lost, 12), (true, 15));
    }
}
