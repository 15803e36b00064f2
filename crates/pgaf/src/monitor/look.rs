//! The monitor's looks at every PostgreSQL.
//!
//! One task for all nodes: it looks at those whose turn it is side by side, so that one that answers slowly keeps nobody waiting. A look that
//! fails is repeated; what counts is when the first one of a row of failures was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use service::clock::SharedClock;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::groups;
use crate::NodeId;
use crate::decide::{Health, Now};
use crate::group::GroupState;
use crate::layout::{GroupId, Looked};
use crate::probe::{Found, Probe, Target};
use crate::settings::Settings;
use crate::state::NodeState;
use crate::store::Snapshot;

type Node = (GroupId, NodeId);

/// How often it is seen whose turn it is.
const ROUND: Duration = Duration::from_millis(50);

/// What was found so far. The looking ends with it.
#[derive(Debug)]
pub struct Looks {
    found: Arc<Mutex<BTreeMap<Node, Health>>>,
    task: JoinHandle<()>,
}

impl Looks {
    /// Looks at all nodes of all groups, as often as the settings say.
    pub fn start<P: Probe>(
        state: watch::Receiver<Arc<Snapshot>>,
        probe: Arc<P>,
        clock: SharedClock,
    ) -> Looks {
        let found = Arc::default();
        let task = tokio::spawn(go_round(state, probe, clock, Arc::clone(&found)));
        Looks { found, task }
    }

    /// As it is decided by.
    pub fn health(&self, group: &GroupId, node: NodeId) -> Health {
        let found = self.found.lock();
        found
            .get(&(group.clone(), node))
            .copied()
            .unwrap_or(Health::Unknown)
    }

    /// As tables show it; nothing before the first look.
    pub fn looked(&self, group: &GroupId, node: NodeId) -> Option<Looked> {
        match self.health(group, node) {
            Health::Unknown => None,
            Health::Good => Some(Looked { good: true }),
            Health::Bad { .. } => Some(Looked { good: false }),
        }
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn go_round<P: Probe>(
    state: watch::Receiver<Arc<Snapshot>>,
    probe: Arc<P>,
    clock: SharedClock,
    found: Arc<Mutex<BTreeMap<Node, Health>>>,
) {
    let mut next: BTreeMap<Node, Now> = BTreeMap::new();
    let mut looking = JoinSet::new();
    let mut round = tokio::time::interval(ROUND);
    loop {
        tokio::select! {
            _ = round.tick() => {}
            Some(Ok((node, good, begun, interval))) = looking.join_next() => {
                note(&found, &node, good, begun);
                next.insert(node, begun + interval);
                continue;
            }
        }
        let snapshot = state.borrow().clone();
        let now = clock.now().millis();
        for id in groups(&snapshot) {
            let Ok(group) = GroupState::read(&snapshot, &id) else {
                continue;
            };
            for (node, target) in targets(&group) {
                let key = (id.clone(), node);
                let turn = next.get(&key).is_none_or(|turn| *turn <= now);
                if turn {
                    // Until it has answered it is nobody's turn.
                    next.insert(key.clone(), Now::MAX);
                    let (probe, settings) = (probe.clone(), group.settings.clone());
                    let interval = settings.pgaf_health_check_interval.0;
                    looking
                        .spawn(async move { (key, look(&*probe, &target, &settings).await, now, interval) });
                }
            }
        }
    }
}

/// Nodes whose PostgreSQL is to run.
fn targets(group: &GroupState) -> impl Iterator<Item = (NodeId, Target)> {
    group.nodes.iter().filter_map(|(node, at)| {
        let entry = &at.value;
        let reported = group.reports.get(node)?.value.state;
        let runs = !matches!(reported, NodeState::Init | NodeState::WaitStandby);
        let target = Target {
            node: *node,
            host: entry.host.clone(),
            port: entry.port,
            writable: reported.writable() && entry.goal.writable(),
        };
        runs.then_some((*node, target))
    })
}

/// One look, repeated if it fails. A primary that turns out to be a standby is not well either.
async fn look<P: Probe>(probe: &P, target: &Target, settings: &Settings) -> bool {
    for repetition in 0..=settings.health_check_max_retries {
        if repetition > 0 {
            tokio::time::sleep(settings.health_check_retry_delay.duration()).await;
        }
        let found = probe.look(target, settings.health_check_timeout.duration()).await;
        if matches!(found, Found::Good { standby } if !(standby && target.writable)) {
            return true;
        }
    }
    false
}

fn note(found: &Mutex<BTreeMap<Node, Health>>, node: &Node, good: bool, begun: Now) {
    let mut found = found.lock();
    let health = match (good, found.get(node)) {
        (true, _) => Health::Good,
        (false, Some(Health::Bad { since })) => Health::Bad { since: *since },
        (false, _) => Health::Bad { since: begun },
    };
    found.insert(node.clone(), health);
}
