//! PostgreSQL as a few fields: what the keeper's tests go without is processes, files and SQL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use pgaf::database::{Database, Error, Peer, Running, Status, Stop};
use pgaf::probe::{Found, Probe, Target};
use pgaf::{Names, NodeId, Position};

/// All nodes, and the network between them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<BTreeMap<NodeId, Postgres>>>);

#[derive(Debug, Clone, Default)]
struct Postgres {
    runs: bool,
    standby: bool,
    upstream: Option<NodeId>,
    /// Rows; a promotion is a row too, so that logs that part never agree again.
    log: Vec<u64>,
    timeline: u32,
    names: Names,
}

impl Postgres {
    fn serves(&self) -> bool {
        self.runs && !self.standby
    }

    fn position(&self) -> Option<Position> {
        (self.timeline > 0).then_some(Position {
            timeline: self.timeline,
            lsn: self.log.len() as u64,
        })
    }
}

impl Cluster {
    /// What standbys do all the time.
    fn replicate(nodes: &mut BTreeMap<NodeId, Postgres>) {
        let upstreams: Vec<(NodeId, Postgres)> = nodes
            .iter()
            .filter(|(_, node)| node.runs && node.standby)
            .filter_map(|(id, node)| Some((*id, nodes.get(&node.upstream?)?.clone())))
            .filter(|(_, upstream)| upstream.serves())
            .collect();
        for (id, upstream) in upstreams {
            let node = nodes.get_mut(&id).expect("it is there");
            if upstream.log.starts_with(&node.log) {
                node.log = upstream.log;
                node.timeline = upstream.timeline;
            }
        }
    }

    pub(crate) fn serves(&self, node: NodeId) -> bool {
        self.0.lock().get(&node).is_some_and(Postgres::serves)
    }

    pub(crate) fn has(&self, node: NodeId, rows: &[u64]) -> bool {
        let nodes = self.0.lock();
        nodes
            .get(&node)
            .is_some_and(|node| rows.iter().all(|row| node.log.contains(row)))
    }

    /// Kills its processes.
    pub(crate) fn kill(&self, node: NodeId) {
        if let Some(node) = self.0.lock().get_mut(&node) {
            node.runs = false;
        }
    }

    /// Writes rows and waits until each is acknowledged.
    pub(crate) async fn write_until_acknowledged(&self, node: NodeId, count: u64) -> Result<Vec<u64>> {
        let mut rows = Vec::new();
        for number in 0..count {
            let row = 1_000 + number;
            let names = {
                let mut nodes = self.0.lock();
                let node = nodes.get_mut(&node).expect("it is there");
                anyhow::ensure!(node.serves());
                node.log.push(row);
                node.names.clone()
            };
            let acknowledged = || {
                let mut nodes = self.0.lock();
                Self::replicate(&mut nodes);
                let have = nodes.iter().filter(|(_, node)| node.log.contains(&row));
                names.acknowledge(&have.map(|(id, _)| *id).collect())
            };
            while !acknowledged() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Made {
    cluster: Cluster,
    node: NodeId,
}

impl Made {
    pub(crate) fn new(cluster: &Cluster, node: NodeId) -> Made {
        cluster.0.lock().entry(node).or_default();
        Made {
            cluster: cluster.clone(),
            node,
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<NodeId, Postgres>, NodeId) -> T) -> T {
        let mut nodes = self.cluster.0.lock();
        Cluster::replicate(&mut nodes);
        act(&mut nodes, self.node)
    }

    fn own<T>(&self, act: impl FnOnce(&mut Postgres) -> T) -> T {
        self.with(|nodes, node| act(nodes.get_mut(&node).expect("it was made")))
    }
}

impl Database for Made {
    async fn status(&self) -> Result<Status, Error> {
        Ok(self.with(|nodes, node| {
            let own = &nodes[&node];
            let receiving = own.upstream.is_some_and(|upstream| nodes[&upstream].serves());
            Status {
                running: match (own.runs, own.standby) {
                    (false, _) => Running::Not,
                    (true, true) => Running::Standby { receiving },
                    (true, false) => Running::Primary,
                },
                position: own.position(),
                system_identifier: own.position().map(|_| 7),
            }
        }))
    }

    async fn ended(&self) {
        std::future::pending::<()>().await;
    }

    async fn create(&self) -> Result<(), Error> {
        self.own(|own| own.timeline = own.timeline.max(1));
        Ok(())
    }

    async fn names(&self) -> Result<Names, Error> {
        Ok(self.own(|own| own.names.clone()))
    }

    async fn serve(&self) -> Result<(), Error> {
        self.own(|own| {
            if own.standby || own.timeline == 0 {
                return Err(Error::failed("start", "this is no primary"));
            }
            own.runs = true;
            Ok(())
        })
    }

    async fn let_in(&self, _others: &[Peer]) -> Result<(), Error> {
        Ok(())
    }

    async fn set_names(&self, names: &Names) -> Result<(), Error> {
        self.own(|own| own.names = names.clone());
        Ok(())
    }

    async fn inserted(&self) -> Result<u64, Error> {
        Ok(self.own(|own| own.log.len() as u64))
    }

    async fn flushed(&self, lsn: u64) -> Result<BTreeSet<NodeId>, Error> {
        Ok(self.with(|nodes, primary| {
            nodes
                .iter()
                .filter(|(_, node)| node.runs && node.upstream == Some(primary))
                .filter(|(_, node)| node.log.len() as u64 >= lsn)
                .map(|(id, _)| *id)
                .collect()
        }))
    }

    async fn follow(&self, _me: NodeId, upstream: &Peer) -> Result<(), Error> {
        self.with(|nodes, me| {
            let above = nodes[&upstream.node].clone();
            if !above.serves() {
                return Err(Error::failed("follow", "nobody answers"));
            }
            let own = nodes.get_mut(&me).expect("it was made");
            let common = own
                .log
                .iter()
                .zip(&above.log)
                .take_while(|(own, its)| own == its)
                .count();
            own.log.truncate(common);
            own.standby = true;
            own.runs = true;
            own.timeline = above.timeline;
            own.upstream = Some(upstream.node);
            Ok(())
        })
    }

    async fn cut(&self) -> Result<Position, Error> {
        self.own(|own| {
            own.standby = true;
            own.runs = true;
            own.upstream = None;
            own.position().ok_or_else(|| Error::failed("cut", "empty"))
        })
    }

    async fn fetch(&self, _me: NodeId, from: &Peer, _until: Position) -> Result<(), Error> {
        self.with(|nodes, me| {
            let log = nodes[&from.node].log.clone();
            nodes.get_mut(&me).expect("it was made").log = log;
        });
        Ok(())
    }

    async fn replay(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn promote(&self) -> Result<(), Error> {
        self.own(|own| {
            if own.standby {
                own.timeline += 1;
                own.log.push(u64::from(own.timeline));
                own.standby = false;
                own.upstream = None;
            }
        });
        Ok(())
    }

    async fn stop(&self, how: Stop) -> Result<Option<Position>, Error> {
        Ok(self.own(|own| {
            let ran = std::mem::replace(&mut own.runs, false);
            own.position().filter(|_| ran && how == Stop::Clean)
        }))
    }
}

impl Probe for Cluster {
    async fn look(&self, target: &Target, _timeout: Duration) -> Found {
        match self.0.lock().get(&target.node) {
            Some(node) if node.runs => Found::Good {
                standby: node.standby,
            },
            _ => Found::Refused,
        }
    }
}
