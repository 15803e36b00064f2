//! Whether everything in a directory is as it was written and fits together.

use std::path::Path;
use std::sync::Arc;

use store::{Hold, Options, Store};

use super::entries::{self, Record};
use super::{Error, must_be_database};
use crate::log;
use crate::mvcc::{Problems, family};
use crate::node::identity;
use crate::state_machine::StateMachine;

/// What is wrong with the data in `dir`, a line each. Changes nothing; no server may use the directory meanwhile.
pub fn check(dir: &Path) -> Result<Vec<String>, Error> {
    must_be_database(dir)?;
    let _hold = Hold::take(dir, false)?;
    check_held(dir)
}

/// The same of a directory that is held already.
pub(super) fn check_held(dir: &Path) -> Result<Vec<String>, Error> {
    let damage = store::damage(dir)?;
    if !damage.is_empty() {
        return Ok(lines(&damage));
    }
    let store = match Store::open_read_only(dir, &Options::default(), family::ALL) {
        Ok(store) => store,
        Err(error) if error.is_corruption() => return Ok(lines(&[error])),
        Err(error) => return Err(error.into()),
    };
    let unreadable = store.verify();
    if !unreadable.is_empty() {
        return Ok(lines(&unreadable));
    }
    let mut problems = Vec::new();
    // Where it is missing the next start takes it from the settings.
    problems.extend(identity(&store, dir).err().map(|error| error.to_string()));
    let store = Arc::new(store);
    if !entries::is_being_replaced(&store).is_ok_and(|replaced| replaced) {
        problems.extend(state_problems(&store));
        problems.extend(log_problems(&store));
    }
    Ok(problems)
}

fn lines(errors: &[store::Error]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// The error without what clients of the API want in front of it.
pub(super) fn words(error: &crate::error::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("etcdserver: ").unwrap_or(&text).to_owned()
}

/// What is wrong with keys, leases, users and alarms.
pub(super) fn state_problems(store: &Arc<Store>) -> Vec<String> {
    let audited = StateMachine::load(store.clone()).and_then(|machine| {
        let problems = machine.mvcc.audit()?;
        // It must be possible to tell members apart that hold different data.
        machine.mvcc.hash_kv(0)?;
        Ok(problems)
    });
    audited.unwrap_or_else(|error| vec![words(&error)])
}

/// What is wrong with the log, by itself and beside the state.
fn log_problems(store: &Arc<Store>) -> Vec<String> {
    let mut problems = Problems::default();
    match look_at_log(store, &mut problems) {
        Ok(()) => problems.into_lines(),
        Err(error) => vec![words(&error)],
    }
}

fn look_at_log(store: &Arc<Store>, problems: &mut Problems) -> crate::error::Result<()> {
    // What is wrong with it was told already.
    let Ok(applied) = StateMachine::load(store.clone()).map(|machine| machine.mvcc.applied_index()) else {
        return Ok(());
    };
    let (mut last, mut term) = match entries::base(store)? {
        Record::None => (0, 0),
        Record::Whole(base) => (base.position.index, base.position.term.0),
        Record::Unreadable => {
            problems.add("what the log begins after is not as it was written".to_owned());
            (applied, 0)
        }
    };
    let corrupted = |index: &dyn std::fmt::Display, reason: &dyn std::fmt::Display| {
        format!("corrupted log entry, index={index}, error={reason}")
    };
    let missing = |from: u64, to: u64| {
        if from == to {
            corrupted(&from, &"missing")
        } else {
            corrupted(&format_args!("{from} to {to}"), &"missing")
        }
    };
    if last > applied {
        problems.add(missing(applied + 1, last));
    }
    entries::scan(store, &mut |found| {
        let index = found.index;
        if index <= last {
            problems.add(corrupted(&index, &"base"));
            return;
        }
        if index > last + 1 {
            problems.add(missing(last + 1, index - 1));
        }
        last = index;
        match found.entry {
            Ok(entry) if entry.term < term => {
                problems.add(corrupted(
                    &index,
                    &format_args!("term {} after {term}", entry.term),
                ));
            }
            Ok(entry) => term = entry.term,
            Err(reason) => problems.add(corrupted(&index, &reason)),
        }
    })?;
    let commit = match entries::hard_state(store)? {
        Record::Whole(hard) => {
            if hard.term.0 < term {
                let hard = hard.term.0;
                problems.add(format!(
                    "the hard state is of term {hard}, the log has reached {term}"
                ));
            }
            hard.commit
        }
        Record::None if last == 0 => 0,
        Record::None => {
            problems.add("the hard state (term, vote and commit) is missing".to_owned());
            0
        }
        Record::Unreadable => {
            problems.add("the hard state (term, vote and commit) is not as it was written".to_owned());
            0
        }
    };
    if last < applied.max(commit) {
        problems.add(missing(last + 1, applied.max(commit)));
    } else if log::is_cut(store).unwrap_or(false) {
        problems.add(corrupted(&(last + 1), &"missing"));
    }
    Ok(())
}
