//! Whether a state machine holds exactly what the model holds.

use std::ops::ControlFlow;

use bytes::Bytes;
use chainfire::error::Error;
use chainfire::lease::{self, Lease};
use chainfire::mvcc::{Event, Version, family};
use chainfire::state_machine::StateMachine;
use chainfire::wire::etcdserverpb::RangeRequest;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use store::Store;

use crate::reference::{Happened, Reference, Written};

pub(crate) type Checked = Result<(), TestCaseError>;

/// A failure that is no disagreement but an error nobody expected.
pub(crate) fn unexpected(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(format!("unexpected: {error}"))
}

fn version(written: &Written) -> Version {
    Version {
        created: written.created,
        modified: written.revision,
        version: written.version,
        lease: written.lease,
        value: written.value.clone().map(Bytes::from),
    }
}

/// The event as the store publishes it.
pub(crate) fn event(happened: &Happened) -> Event {
    Event {
        revision: happened.revision,
        key: Bytes::from(happened.key.clone()),
        version: happened.now.as_ref().map(version),
        previous: happened.before.as_ref().map(version),
    }
}

/// Compares events with what happened. What stood before a change at or below `forgotten` may be missing.
pub(crate) fn same_events(events: &[Event], happened: &[Happened], forgotten: i64) -> Checked {
    prop_assert_eq!(events.len(), happened.len(), "{:?}\nfor {:?}", events, happened);
    for (found, happened) in events.iter().zip(happened) {
        let mut wanted = event(happened);
        if found.previous.is_none() && happened.revision <= forgotten {
            wanted.previous = None;
        }
        prop_assert_eq!(found, &wanted);
    }
    Ok(())
}

fn everything(revision: i64) -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..Default::default()
    }
}

/// Everything that can be read: the present, every revision of the past, changes, leases, alarms, hash.
pub(crate) fn agree(machine: &StateMachine, store: &Store, model: &Reference) -> Checked {
    let mvcc = &machine.mvcc;
    prop_assert_eq!(mvcc.revision(), model.revision);
    prop_assert_eq!(mvcc.compacted(), model.compacted);
    let oldest = model.compacted.max(1);
    for revision in oldest..=model.revision {
        let (found, _) = mvcc.range(&everything(revision)).map_err(unexpected)?;
        prop_assert_eq!(
            found,
            model.range(&everything(revision)).map_err(unexpected)?,
            "as of {}",
            revision
        );
    }
    let future = mvcc.range(&everything(model.revision + 1));
    prop_assert_eq!(future, Err(Error::FutureRevision));
    if model.compacted > 1 {
        prop_assert_eq!(
            mvcc.range(&everything(model.compacted - 1)),
            Err(Error::Compacted)
        );
        let gone = mvcc.changes(model.compacted - 1, model.revision, &|_| true, usize::MAX);
        prop_assert_eq!(gone, Err(Error::Compacted));
    }
    let (changes, next) = mvcc
        .changes(oldest, model.revision, &|_| true, usize::MAX)
        .map_err(unexpected)?;
    let happened: Vec<Happened> = model
        .happened
        .iter()
        .filter(|happened| happened.revision >= oldest)
        .cloned()
        .collect();
    same_events(&changes, &happened, model.compacted)?;
    prop_assert_eq!(next, model.revision + 1);

    prop_assert_eq!(
        machine.lessor.lock().ids(),
        model.leases.keys().copied().collect::<Vec<_>>()
    );
    let wanted = model.leases.iter().map(|(id, granted)| Lease {
        id: *id,
        ttl: granted.ttl,
        remaining: granted.remaining,
    });
    prop_assert_eq!(
        lease::load(store).map_err(unexpected)?,
        wanted.collect::<Vec<_>>()
    );
    for id in model.leases.keys() {
        prop_assert_eq!(
            lease::attached(store, *id).map_err(unexpected)?,
            model.attached(*id)
        );
    }
    let alarms = machine
        .alarms()
        .iter()
        .map(|alarm| (alarm.member_id, alarm.alarm))
        .collect();
    prop_assert_eq!(&model.alarms, &alarms);

    prop_assert_eq!(mvcc.audit().map_err(unexpected)?, Vec::<String>::new());
    let hash = mvcc.hash_kv(0).map_err(unexpected)?;
    prop_assert_eq!((hash.revision, hash.compacted), (model.revision, model.compacted));
    prop_assert_eq!(
        hash.hash,
        model.hash(model.revision),
        "hash at {}",
        model.revision
    );
    Ok(())
}

fn entries(store: &Store, family: &'static str) -> usize {
    let mut cursor = store.cursor(family, None, None);
    cursor.seek_to_first();
    let mut count = 0;
    while cursor.entry().is_some() {
        count += 1;
        cursor.next();
    }
    count
}

/// Sweeps to the end, then compares what is left down to the number of stored entries.
pub(crate) fn agree_when_swept(machine: &StateMachine, store: &Store, model: &Reference) -> Checked {
    let done = machine
        .mvcc
        .sweep(&mut || ControlFlow::Continue(()))
        .map_err(unexpected)?;
    prop_assert!(done && machine.mvcc.is_swept());
    agree(machine, store, model)?;
    prop_assert_eq!(machine.mvcc.bytes_in_use(), model.bytes_in_use());
    let versions = entries(store, family::KEY) + entries(store, family::HIST);
    prop_assert_eq!(versions, model.kept().len(), "stored versions");
    let changes = model
        .happened
        .iter()
        .filter(|happened| happened.revision >= model.compacted);
    prop_assert_eq!(entries(store, family::REV), changes.count(), "stored changes");
    let attached: usize = model.leases.keys().map(|id| model.attached(*id).len()).sum();
    prop_assert_eq!(
        entries(store, family::LEASE),
        model.leases.len() + attached,
        "stored leases"
    );
    Ok(())
}
