//! The judgement at the end, when all faults are healed and all clients have stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use chainfire::wire::etcdserverpb::RangeResponse;

use crate::client::{self, Client, Failure};
use crate::findings::{Findings, Kind};
use crate::keys;
use crate::ledger::{Ledger, Write};
use crate::watcher::Watcher;

/// How long members may take to have everything, and watches to deliver it.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long a member may take to answer one question.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// A key of its own for the last write of all.
const LAST_KEY: u64 = 99_999_999;

/// Who judges.
#[derive(Debug)]
pub(crate) struct Finish<'a> {
    pub(crate) clients: &'a [Client],
    pub(crate) watchers: &'a [Arc<Watcher>],
    pub(crate) ledger: &'a Arc<Ledger>,
    pub(crate) findings: &'a Arc<Findings>,
}

impl Finish<'_> {
    /// Writes once more and waits until every member has that; the last revision. None if the cluster does not.
    pub(crate) async fn settle(&self) -> Option<i64> {
        let started = Instant::now();
        let write = Write {
            key: LAST_KEY,
            value: self.ledger.new_value(),
        };
        let last = loop {
            // The same value again would have two revisions, so each try has its own.
            let write = Write {
                value: self.ledger.new_value(),
                ..write
            };
            match self.clients[0].put(write, ANSWER_MAX).await {
                Ok(answer) => {
                    self.ledger.told(answer.revision, write, "the last write");
                    break answer.revision;
                }
                Err(_) if started.elapsed() < PATIENCE => tokio::time::sleep(POLL).await,
                Err(_) => {
                    self.findings
                        .add(Kind::NoProgress, "the last write does not succeed");
                    return None;
                }
            }
        };
        self.rest(last, started).await
    }

    /// Waits until all members are at the same revision and stay there: a write of unknown outcome may come late. None if they do not.
    async fn rest(&self, last: i64, started: Instant) -> Option<i64> {
        const REST: Duration = Duration::from_millis(500);
        let mut before = Vec::new();
        loop {
            let mut at = Vec::new();
            for client in self.clients {
                let answer = client.get(LAST_KEY, true, ANSWER_MAX).await;
                at.push(answer.map_or(0, |answer| answer.revision));
            }
            if at == before && at.iter().all(|at| *at >= last && *at == before[0]) {
                return Some(before[0]);
            }
            if started.elapsed() > PATIENCE {
                let text = format!("members are at revisions {at:?}; the last write was {last}");
                self.findings.add(Kind::NoProgress, &text);
                return None;
            }
            before = at;
            tokio::time::sleep(REST).await;
        }
    }

    /// Every member holds the same, and it is what the histories allow. The number of keys.
    pub(crate) async fn states(&self, last: i64, finals: &BTreeMap<u64, Vec<Option<u64>>>) -> Result<usize> {
        let mut first: Option<RangeResponse> = None;
        let mut hashes = Vec::new();
        for (member, client) in self.clients.iter().enumerate() {
            let who = format!("the state of member {}", member + 1);
            let state = answer(&who, client.everything(ANSWER_MAX).await)?;
            hashes.push(answer(&who, client.hash(last, ANSWER_MAX).await)?);
            match &first {
                None => {
                    self.state(&state, &who, finals);
                    first = Some(state);
                }
                Some(first) if first.kvs != state.kvs => {
                    let differ: Vec<String> = first
                        .kvs
                        .iter()
                        .zip(&state.kvs)
                        .filter(|(one, other)| one != other)
                        .take(5)
                        .map(|(one, other)| format!("{one:?} and {other:?}"))
                        .collect();
                    self.findings.add(
                        Kind::MembersDiffer,
                        &format!(
                            "member 1 holds {} keys, member {} {}: {}",
                            first.kvs.len(),
                            member + 1,
                            state.kvs.len(),
                            differ.join("; ")
                        ),
                    );
                }
                Some(_) => {}
            }
        }
        if hashes.windows(2).any(|two| two[0] != two[1]) {
            self.findings.add(
                Kind::MembersDiffer,
                &format!("the hashes of revision {last} are {hashes:?}"),
            );
        }
        Ok(first.map_or(0, |state| state.kvs.len()))
    }

    fn state(&self, state: &RangeResponse, who: &str, finals: &BTreeMap<u64, Vec<Option<u64>>>) {
        let mut held = BTreeMap::new();
        for kv in &state.kvs {
            let Some(key) = keys::number(&kv.key) else {
                self.findings.add(
                    Kind::WrongState,
                    &format!("{who}: a key that nobody wrote: {:?}", kv.key),
                );
                continue;
            };
            let value = client::parse(&kv.value).unwrap_or(0);
            self.ledger.told(kv.mod_revision, Write { key, value }, who);
            held.insert(key, value);
        }
        for (key, allowed) in finals {
            let value = held.get(key).copied();
            if !allowed.contains(&value) {
                self.findings.add(
                    Kind::WrongState,
                    &format!("{who}: key {key} has {value:?}; its history allows {allowed:?}"),
                );
            }
        }
    }

    /// Watches of all members have everything: those that lived through the faults, and new ones from revision 1.
    pub(crate) async fn watches(&self, last: i64) {
        let new: Vec<Arc<Watcher>> = self
            .clients
            .iter()
            .enumerate()
            .map(|(member, client)| {
                Watcher::new(
                    client.clone(),
                    format!("a watch at the end on member {}", member + 1),
                    Arc::clone(self.ledger),
                    Arc::clone(self.findings),
                )
            })
            .collect();
        let following: Vec<_> = new
            .iter()
            .map(|watcher| tokio::spawn(Arc::clone(watcher).follow()))
            .collect();
        let started = Instant::now();
        let all = || self.watchers.iter().chain(&new);
        while started.elapsed() < PATIENCE && all().any(|watcher| watcher.last() < last) {
            tokio::time::sleep(POLL).await;
        }
        for watcher in all().filter(|watcher| watcher.last() < last) {
            self.findings.add(
                Kind::WatchBroken,
                &format!(
                    "{} is at revision {}, not at {last}",
                    watcher.who(),
                    watcher.last()
                ),
            );
        }
        for task in following {
            task.abort();
        }
    }
}

fn answer<T>(who: &str, answered: Result<T, Failure>) -> Result<T> {
    match answered {
        Ok(answer) => Ok(answer),
        Err(Failure::NotSent) => bail!("{who}: not reached"),
        Err(Failure::Unknown(status)) => bail!("{who}: {status}"),
    }
}
