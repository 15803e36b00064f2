//! Making the best of a damaged directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use consensus::{Position, Snapshot, Term};
use store::{Durability, Hold, Options, Salvage, Store};

use super::check::{NO_IDENTITY, check_held, state_problems};
use super::entries::{self, Hard};
use super::{Error, must_be_database};
use crate::mvcc::family;
use crate::node::VERSION;
use crate::node::restore::MARK;
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
    if check_held(dir)?.is_empty() {
        return Ok(Outcome::Clean);
    }
    let made = make(dir, &work);
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
    settle(&store, &mut notes).map_err(|error| impossible(error.to_string()))?;
    store.flush()?;
    store.stop_background_work();
    drop(store);
    let left: Vec<String> = check_held(work)?
        .into_iter()
        .filter(|problem| problem != NO_IDENTITY)
        .collect();
    if let Some(problem) = left.first() {
        return Err(impossible(format!(
            "what can be read does not fit together: {problem}"
        )));
    }
    let mark = work.join(MARK);
    std::fs::write(&mark, format!("chainfire {VERSION}\nrepaired\n")).map_err(|source| {
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
    let log = Log::load(store)?;
    let problems = state_problems(store);
    if let Some(problem) = problems.first() {
        if log.first != Some(1) {
            return Err(crate::error::Error::Damaged(format!(
                "the state is damaged ({problem}) and the log from which it could be made anew does not begin with entry 1"
            )));
        }
        notes.push(format!(
            "the state is damaged ({problem}): the next start makes it anew from the log"
        ));
        forget_state(store)?;
    }
    let machine = StateMachine::load(store.clone())?;
    let meta = machine.mvcc.meta();
    let cut = log.cut(meta.applied_index);
    let mut batch = store.batch();
    if let Some(through) = cut.before {
        notes.push(format!(
            "log entries up to {through} are dropped; the state has what they did"
        ));
    }
    if store.get(family::META, crate::node::IDENTITY)?.is_none() {
        notes.push(NO_IDENTITY.to_owned());
    }
    let gone = if meta.applied_index > 0 && !log.leads_up_to(base_index(store)?, meta.applied_index) {
        Some(meta.applied_index)
    } else {
        cut.before
    };
    if let Some(through) = gone {
        // The state says exactly where it is, so the log begins anew right behind it.
        let through = through.max(meta.applied_index);
        let configuration = entries::configuration_at(store, through)?.ok_or_else(|| {
            crate::error::Error::Damaged("nothing that is left says who belongs to the cluster".to_owned())
        })?;
        let base = Snapshot {
            position: Position {
                term: Term(meta.applied_term),
                index: through,
            },
            configuration,
        };
        batch.delete_range(family::LOG, &[], &(through + 1).to_be_bytes());
        crate::log::put_base(&mut batch, &base);
    }
    let hard = Hard::load(store)?;
    if cut.last < log.last {
        batch.delete_range(family::LOG, &(cut.last + 1).to_be_bytes(), &[0xff; 9]);
        notes.push(format!(
            "the log is cut: entries {} to {} are dropped, and with them writes that clients were told are done; this node gets \
             them back only from other members",
            cut.last + 1,
            log.last
        ));
    } else if cut.last < hard.commit() {
        notes.push(format!(
            "log entries {} to {} are gone, and with them writes that clients were told are done; this node gets them back only \
             from other members",
            cut.last + 1,
            hard.commit()
        ));
    }
    let fitted = hard.clone().fitted(cut.last, meta.applied_term.max(log.term));
    if fitted != hard && (hard != Hard::None || log.last > 0) {
        fitted.save(&mut batch);
        if matches!(hard, Hard::Unreadable | Hard::None) {
            notes.push("the hard state (term, vote and commit) is gone".to_owned());
        }
    }
    store.write(batch, Durability::Synced)?;
    Ok(())
}

/// Index that the log begins after, as far as that can be read.
fn base_index(store: &Store) -> crate::error::Result<u64> {
    Ok(entries::base(store)?.map_or(0, |base| base.position.index))
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
        if key != crate::node::IDENTITY {
            batch.delete(family::META, key);
        }
        cursor.next();
    }
    cursor.check()?;
    store.write(batch, Durability::Synced)?;
    Ok(())
}

/// What the family `log` holds.
#[derive(Debug, Default)]
struct Log {
    first: Option<u64>,
    last: u64,
    /// Highest term of the entries.
    term: u64,
    /// Runs of good entries that follow each other: first and last index.
    runs: Vec<(u64, u64)>,
}

/// What stays of a log.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    /// Everything up to this one goes.
    before: Option<u64>,
    /// The last one that stays; the last one that the state has, if none does.
    last: u64,
}

impl Log {
    fn load(store: &Store) -> crate::error::Result<Log> {
        let mut log = Log::default();
        entries::scan(store, &mut |found| {
            log.first.get_or_insert(found.index);
            log.last = log.last.max(found.index);
            let Ok(term) = found.entry else { return };
            match log.runs.last_mut() {
                Some((_, last)) if *last + 1 == found.index && term >= log.term => *last = found.index,
                _ => log.runs.push((found.index, found.index)),
            }
            log.term = log.term.max(term);
        })?;
        Ok(log)
    }

    /// True if the log begins right behind `base` and leads, without a gap, up to a state that has everything up to `applied`.
    fn leads_up_to(&self, base: u64, applied: u64) -> bool {
        let begins = self
            .runs
            .iter()
            .any(|(first, last)| *first == base + 1 && *last >= applied);
        begins || (base == applied && self.first.is_none())
    }

    /// What stays beside a state that has everything up to `applied`: the entries that follow it without a gap, and those before
    /// that lead up to it.
    fn cut(&self, applied: u64) -> Cut {
        let good = self
            .runs
            .iter()
            .find(|(first, last)| *first <= applied + 1 && *last >= applied.max(1));
        let (first, last) = match good {
            Some((first, last)) => (*first, *last),
            None => (applied + 1, applied),
        };
        Cut {
            before: (self.first.is_some_and(|found| found < first)).then(|| first - 1),
            last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(runs: &[(u64, u64)], first: u64, last: u64) -> Log {
        Log {
            first: (last > 0).then_some(first),
            last,
            term: 1,
            runs: runs.to_vec(),
        }
    }

    #[test]
    fn the_log_keeps_what_leads_up_to_the_state_and_follows_it() {
        let cut = |log: &Log, applied| {
            let cut = log.cut(applied);
            (cut.before, cut.last)
        };
        let whole = log(&[(1, 30)], 1, 30);
        assert_eq!(cut(&whole, 20), (None, 30));
        assert_eq!(cut(&whole, 0), (None, 30));
        assert_eq!(cut(&whole, 30), (None, 30));
        // Entry 9 is bad.
        let holed = log(&[(1, 8), (10, 30)], 1, 30);
        assert_eq!(cut(&holed, 20), (Some(9), 30));
        assert_eq!(cut(&holed, 9), (Some(9), 30));
        assert_eq!(cut(&holed, 8), (None, 8));
        assert_eq!(cut(&holed, 3), (None, 8));
        assert_eq!(cut(&holed, 0), (None, 8));
        // What was applied is ahead of the log.
        assert_eq!(cut(&holed, 40), (Some(40), 40));
        // The first one is bad, or all.
        assert_eq!(cut(&log(&[(2, 5)], 1, 5), 0), (None, 0));
        assert_eq!(cut(&log(&[], 1, 5), 3), (Some(3), 3));
        assert_eq!(cut(&log(&[], 0, 0), 3), (None, 3));
    }
}
