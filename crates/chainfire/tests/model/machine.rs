//! The state machine and the reads beside it agree with the model on every result, whatever the sizes of the groups that are
//! applied together and whenever the sweeps run.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use chainfire::error::Error;
use chainfire::mvcc::{Event, Limits, family};
use chainfire::state_machine::{Committed, Outcome, StateMachine};
use chainfire::wire::etcdserverpb::{RangeRequest, TxnRequest};
use chainfire::wire::logpb::Command;
use chainfire::wire::logpb::command::Request;
use proptest::prelude::*;
use store::{Durability, Store};

use crate::agreement::{Checked, agree, agree_when_swept, same_events, unexpected};
use crate::generate::{self, resolve, resolve_range, resolve_txn, revision_of};
use crate::reference::{Reference, is_internal};

/// Small, so that they are met.
pub(crate) const LIMITS: Limits = Limits {
    request_bytes: 36,
    txn_ops: 5,
};

/// One step of a sequence.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Commands that one machine applies together and the other one by one.
    Apply(Vec<Request>),
    Range(RangeRequest),
    ReadTxn(TxnRequest),
    /// `steps` steps of `changes` changes each, by one machine.
    Sweep {
        second: bool,
        changes: usize,
        steps: usize,
    },
    /// One machine is made anew from its database.
    Reload {
        second: bool,
    },
    Hash(i64),
    Changes {
        from: i64,
        to: i64,
        bytes_max: usize,
    },
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let commands = prop::collection::vec(generate::command(generate::value()), 1..7);
    let step = prop_oneof![
        12 => commands.prop_map(Step::Apply),
        4 => generate::range().prop_map(Step::Range),
        2 => generate::read_txn().prop_map(Step::ReadTxn),
        2 => (any::<bool>(), 1..5usize, 1..4usize)
            .prop_map(|(second, changes, steps)| Step::Sweep { second, changes, steps }),
        1 => any::<bool>().prop_map(|second| Step::Reload { second }),
        1 => generate::distance().prop_map(Step::Hash),
        1 => (1..14i64, 1..14i64, 0..200usize)
            .prop_map(|(from, to, bytes_max)| Step::Changes { from, to, bytes_max }),
    ];
    prop::collection::vec(step, 1..20)
}

/// A machine and its database.
pub(crate) struct Member {
    pub(crate) store: Arc<Store>,
    pub(crate) machine: StateMachine,
    index: u64,
}

impl Member {
    pub(crate) fn new(store: Arc<Store>) -> Result<Member, Error> {
        let machine = StateMachine::load(store.clone())?;
        machine.lessor.lock().lead(0);
        let index = machine.mvcc.applied_index();
        Ok(Member {
            store,
            machine,
            index,
        })
    }

    pub(crate) fn apply(&mut self, requests: &[Request]) -> Result<(Vec<Outcome>, Vec<Event>), Error> {
        let mut entries = Vec::new();
        for request in requests {
            self.index += 1;
            entries.push(Committed {
                index: self.index,
                term: 1,
                command: Command {
                    internal: is_internal(request),
                    request: Some(request.clone()),
                    ..Default::default()
                },
            });
        }
        let mut events = Vec::new();
        let outcomes = self.machine.apply(entries, 0, &mut |more| events.extend(more))?;
        Ok((outcomes, events))
    }
}

/// Databases that many cases use one after the other: opening is slow, emptying is not.
pub(crate) struct Databases {
    directory: tempfile::TempDir,
    open: Vec<Arc<Store>>,
    generation: usize,
    used: u32,
}

/// Cases after which databases are made anew, before what was removed slows them down.
const REUSE_MAX: u32 = 100;

impl Databases {
    pub(crate) fn new() -> Databases {
        Databases {
            directory: tempfile::tempdir().expect("a place for temporary files"),
            open: Vec::new(),
            generation: 0,
            used: 0,
        }
    }

    /// `count` empty ones.
    pub(crate) fn empty(&mut self, count: usize) -> Vec<Arc<Store>> {
        self.used += 1;
        if self.used.is_multiple_of(REUSE_MAX) {
            self.open.clear();
        }
        while self.open.len() < count {
            self.generation += 1;
            let path: PathBuf = self.directory.path().join(self.generation.to_string());
            let options = store::Options::default();
            self.open.push(Arc::new(
                Store::open(&path, &options, family::ALL).expect("a new store opens"),
            ));
        }
        for store in &self.open {
            wipe(store);
        }
        self.open[..count].to_vec()
    }
}

fn wipe(store: &Store) {
    let mut batch = store.batch();
    for family in family::ALL {
        let mut cursor = store.cursor(family, None, None);
        cursor.seek_to_first();
        while let Some((key, _)) = cursor.entry() {
            batch.delete(family, key);
            cursor.next();
        }
    }
    store
        .write(batch, Durability::Volatile)
        .expect("emptying a store");
}

/// Lets the model and two machines do the same.
pub(crate) fn run(stores: &[Arc<Store>], steps: &[Step]) -> Checked {
    let mut model = Reference::default();
    let mut members = Vec::new();
    for store in stores {
        members.push(Member::new(store.clone()).map_err(unexpected)?);
    }
    for step in steps {
        match step {
            Step::Apply(requests) => apply(&mut model, &mut members, requests)?,
            Step::Range(range) => {
                let mut range = range.clone();
                resolve_range(&mut range, model.revision);
                let checked = LIMITS.check_range(&range);
                prop_assert_eq!(&checked, &Reference::check_range(&range));
                if checked.is_ok() {
                    for member in &members {
                        let found = member.machine.mvcc.range(&range);
                        let wanted = model.range(&range).map(|response| (response, model.revision));
                        prop_assert_eq!(found, wanted, "{:?}", range);
                    }
                }
            }
            Step::ReadTxn(txn) => {
                let mut txn = txn.clone();
                resolve_txn(&mut txn, model.revision);
                let checked = LIMITS.check_txn(&txn);
                let request = Request::Txn(txn.clone());
                prop_assert_eq!(
                    &checked,
                    &Reference::check(&request, LIMITS.txn_ops, LIMITS.request_bytes)
                );
                if checked.is_ok() {
                    for member in &members {
                        let found = member.machine.mvcc.read_txn(&txn);
                        let wanted = model.read_txn(&txn).map(|response| (response, model.revision));
                        prop_assert_eq!(found, wanted, "{:?}", txn);
                    }
                }
            }
            Step::Sweep {
                second,
                changes,
                steps,
            } => {
                let member = &members[usize::from(*second)];
                let mut left = *steps;
                let mut pause = || {
                    left -= 1;
                    if left == 0 {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                };
                member
                    .machine
                    .mvcc
                    .sweep_in_steps(*changes, &mut pause)
                    .map_err(unexpected)?;
            }
            Step::Reload { second } => {
                let member = &mut members[usize::from(*second)];
                *member = Member::new(member.store.clone()).map_err(unexpected)?;
            }
            Step::Hash(distance) => hash(&model, &members, revision_of(*distance, model.revision))?,
            Step::Changes { from, to, bytes_max } => {
                let from = revision_of(*from, model.revision).max(1);
                let to = revision_of(*to, model.revision).clamp(from, model.revision.max(from));
                for member in &members {
                    changes(&model, member, from, to, *bytes_max)?;
                }
            }
        }
    }
    for member in &members {
        agree(&member.machine, &member.store, &model)?;
        agree_when_swept(&member.machine, &member.store, &model)?;
    }
    Ok(())
}

fn apply(model: &mut Reference, members: &mut [Member], requests: &[Request]) -> Checked {
    let happened = model.happened.len();
    let mut group = Vec::new();
    let mut wanted = Vec::new();
    for request in requests {
        let mut request = request.clone();
        resolve(&mut request, model.revision);
        let checked = match &request {
            Request::Put(put) => LIMITS.check_put(put),
            Request::DeleteRange(delete) => LIMITS.check_delete(delete),
            Request::Txn(txn) => LIMITS.check_txn(txn),
            _ => Ok(()),
        };
        let expected = Reference::check(&request, LIMITS.txn_ops, LIMITS.request_bytes);
        prop_assert_eq!(&checked, &expected, "{:?}", request);
        if checked.is_ok() {
            wanted.push((model.apply(&request), model.revision));
            group.push(request);
        }
    }
    for (member, together) in members.iter_mut().zip([true, false]) {
        let size = if together { group.len().max(1) } else { 1 };
        let (mut outcomes, mut events) = (Vec::new(), Vec::new());
        for part in group.chunks(size) {
            let (more, published) = member.apply(part).map_err(unexpected)?;
            outcomes.extend(more.into_iter().map(|outcome| (outcome.reply, outcome.revision)));
            events.extend(published);
        }
        for ((found, wanted), request) in outcomes.iter().zip(&wanted).zip(&group) {
            prop_assert_eq!(found, wanted, "{:?}", request);
        }
        prop_assert_eq!(outcomes.len(), wanted.len());
        same_events(&events, &model.happened[happened..], 0)?;
    }
    Ok(())
}

fn hash(model: &Reference, members: &[Member], at: i64) -> Checked {
    for member in members {
        let found = member.machine.mvcc.hash_kv(at);
        let wanted = if at > model.revision {
            Err(Error::FutureRevision)
        } else if at > 0 && at < model.compacted {
            Err(Error::Compacted)
        } else {
            let at = if at > 0 { at } else { model.revision };
            Ok((model.hash(at), model.compacted, at))
        };
        prop_assert_eq!(
            found.map(|hash| (hash.hash, hash.compacted, hash.revision)),
            wanted
        );
    }
    Ok(())
}

/// Reads changes piece by piece, as a watch that catches up does.
fn changes(model: &Reference, member: &Member, from: i64, to: i64, bytes_max: usize) -> Checked {
    let concerns = |key: &[u8]| key.first() == Some(&b'a');
    let mut next = from;
    let mut found = Vec::new();
    while next <= to {
        let (more, continued) = match member.machine.mvcc.changes(next, to, &concerns, bytes_max) {
            Ok(read) => read,
            Err(error) => {
                prop_assert_eq!(error, Error::Compacted);
                prop_assert!(next == from && from < model.compacted);
                return Ok(());
            }
        };
        prop_assert!(
            continued > next
                && more
                    .iter()
                    .all(|event| (next..continued).contains(&event.revision))
        );
        found.extend(more);
        next = continued;
    }
    prop_assert!(from >= model.compacted, "changes from {} were given", from);
    let happened: Vec<_> = model
        .happened
        .iter()
        .filter(|happened| (from..=to).contains(&happened.revision) && concerns(&happened.key))
        .cloned()
        .collect();
    same_events(&found, &happened, model.compacted)
}

#[test]
fn state_machine_agrees_with_the_model() -> Result<(), String> {
    let databases = std::cell::RefCell::new(Databases::new());
    crate::check(2000, &steps(), |steps| {
        let stores = databases.borrow_mut().empty(2);
        run(&stores, &steps)
    })
}
