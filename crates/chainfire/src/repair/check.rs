//! Whether everything in a directory is as it was written and fits together.

use std::path::Path;
use std::sync::Arc;

use store::{Hold, Options, Store};

use super::entries::{self, Hard};
use super::{Error, must_be_database};
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
    match identity(&store, dir) {
        Ok(Some(_)) => {}
        Ok(None) => problems.push(NO_IDENTITY.to_owned()),
        Err(error) => problems.push(error.to_string()),
    }
    let store = Arc::new(store);
    problems.extend(state_problems(&store));
    problems.extend(log_problems(&store));
    Ok(problems)
}

/// What a directory lacks whose first writes are gone, or in which no server ever ran.
pub(super) const NO_IDENTITY: &str =
    "the numbers of node and cluster are not there: the next start takes them from the settings";

fn lines(errors: &[store::Error]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// What is wrong with keys, leases, users and alarms.
pub(super) fn state_problems(store: &Arc<Store>) -> Vec<String> {
    let audited = StateMachine::load(store.clone()).and_then(|machine| {
        let problems = machine.mvcc.audit()?;
        // It must be possible to tell members apart that hold different data.
        machine.mvcc.hash_kv(0)?;
        Ok(problems)
    });
    audited.unwrap_or_else(|error| vec![error.to_string()])
}

/// What is wrong with the log, by itself and beside the state.
fn log_problems(store: &Arc<Store>) -> Vec<String> {
    let mut problems = Problems::default();
    let applied = match StateMachine::load(store.clone()) {
        Ok(machine) => machine.mvcc.applied_index(),
        // Told already.
        Err(_) => return Vec::new(),
    };
    let hard = match Hard::load(store) {
        Ok(hard) => hard,
        Err(error) => return vec![error.to_string()],
    };
    if hard == Hard::Unreadable {
        problems.add("the hard state (term, vote and commit) is not as it was written".to_owned());
    }
    let missing = |problems: &mut Problems, from: u64, to: u64| {
        let range = if from == to {
            from.to_string()
        } else {
            format!("{from} to {to}")
        };
        problems.add(format!("corrupted log entry, index={range}, error=missing"));
    };
    let base = match entries::base(store) {
        Ok(base) => base.map(|base| (base.position.index, base.position.term.0)),
        Err(error) => return vec![error.to_string()],
    };
    let mut last: Option<(u64, u64)> = base;
    let scanned = entries::scan(store, &mut |found| {
        let index = found.index;
        match last {
            None if index > applied + 1 => missing(&mut problems, applied + 1, index - 1),
            Some((before, _)) if index > before + 1 => missing(&mut problems, before + 1, index - 1),
            _ => {}
        }
        let before = last.map_or(0, |(_, term)| term);
        let term = match found.entry {
            Ok(term) if term < before => {
                problems.add(format!(
                    "corrupted log entry, index={index}, error=term {term} after {before}"
                ));
                before
            }
            Ok(term) => term,
            Err(reason) => {
                problems.add(format!("corrupted log entry, index={index}, error={reason}"));
                before
            }
        };
        last = Some((index, term));
    });
    if let Err(error) = scanned {
        problems.add(error.to_string());
    }
    let (end, term) = last.unwrap_or((applied, 0));
    if end < applied {
        missing(&mut problems, end + 1, applied);
    } else if end < hard.commit() {
        missing(&mut problems, end + 1, hard.commit());
    }
    if hard.term() < term {
        problems.add(format!(
            "the hard state is of term {}, the log has reached {term}",
            hard.term()
        ));
    }
    let mut problems = problems.into_lines();
    if problems.is_empty()
        && let Err(error) = crate::log::Log::open(store.clone(), applied)
    {
        problems.push(error.to_string());
    }
    problems
}
