//! Monitors and keepers together, through real stores; only PostgreSQL is made up.

mod database;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use database::{Cluster, Made};
use pgaf::database::Stop;
use pgaf::group::GroupState;
use pgaf::keeper::state::StateFile;
use pgaf::keeper::{Keeper, Registration, Trouble, register};
use pgaf::layout::{self, Event, Formation, GroupId, Leader, Stored as _, Wish};
use pgaf::monitor::Monitor;
use pgaf::settings::{Profile, Settings};
use pgaf::state::NodeState;
use pgaf::store::{Change, Store};
use pgaf::{Kind, NodeId};
use service::clock::{BootClock, SystemClock};
use service::settings::Millis;
use testkit::{Etcd, TestDir};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(40);

struct Group {
    store: Store,
    id: GroupId,
    dir: TestDir,
    cluster: Cluster,
}

impl Group {
    async fn new(store: Store, dir: TestDir) -> Result<Group> {
        let id = GroupId::of("default")?;
        let change = Change::default()
            .put(layout::SETTINGS, Profile::Fast.settings().encode())
            .put(id.formation_key(), Formation::default().encode());
        store.commit(change).await?;
        Ok(Group {
            store,
            id,
            dir,
            cluster: Cluster::default(),
        })
    }

    fn monitor(&self, name: &str) -> JoinHandle<()> {
        let probe = Arc::new(self.cluster.clone());
        let monitor = Monitor::new(self.store.clone(), probe, SystemClock::shared(), name.to_owned());
        tokio::spawn(monitor.run())
    }

    async fn keeper(&self, port: u16) -> Result<(NodeId, JoinHandle<Result<(), Trouble>>)> {
        self.keeper_with(self.store.clone(), port).await
    }

    /// A keeper that reaches the store another way.
    async fn keeper_with(
        &self,
        store: Store,
        port: u16,
    ) -> Result<(NodeId, JoinHandle<Result<(), Trouble>>)> {
        let who = Registration {
            name: None,
            host: "localhost".to_owned(),
            port,
            candidate_priority: 50,
            replication_quorum: true,
            system_identifier: None,
            dbname: None,
        };
        let node = register(&self.store, &self.id, &who).await?;
        let path = self.dir.join(format!("{node}.state"));
        let remembered = match StateFile::open(&path)? {
            Some(remembered) => remembered,
            None => StateFile::create(&path, self.id.clone(), node)?,
        };
        let database = Made::new(&self.cluster, node);
        let keeper = Keeper::new(store, database, Arc::new(BootClock), remembered).await?;
        let run = keeper.run(std::future::pending::<Stop>());
        Ok((node, tokio::spawn(run)))
    }

    async fn state(&self) -> Result<GroupState> {
        Ok(GroupState::read(
            &self.store.read(layout::PREFIX).await?,
            &self.id,
        )?)
    }

    /// Until the group is so.
    async fn until(&self, what: &str, is: impl Fn(&GroupState) -> bool) -> Result<GroupState> {
        let waiting = async {
            loop {
                if let Ok(state) = self.state().await
                    && is(&state)
                {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(state) => Ok(state),
            Err(_elapsed) => anyhow::bail!(
                "never {what}: {:#?}\nthe last events: {:#?}",
                self.state().await,
                self.told(40).await
            ),
        }
    }

    /// The newest events, oldest first.
    async fn told(&self, count: usize) -> Result<Vec<String>> {
        let events = self.store.read(layout::EVENTS).await?;
        let newest = events
            .entries
            .iter()
            .skip(events.entries.len().saturating_sub(count));
        newest
            .map(|(key, entry)| Ok(Event::read(key, entry)?))
            .map(|event: Result<Event>| event.map(|event| format!("{} {}", event.time_ms, event.description)))
            .collect()
    }

    /// Until this node is primary and those are secondaries, also to themselves.
    async fn until_whole(&self, primary: NodeId, others: &[NodeId]) -> Result<GroupState> {
        self.until("whole", |state| {
            let is = |node: NodeId, what: NodeState| {
                state.nodes.get(&node).is_some_and(|at| at.value.goal == what)
                    && state.reports.get(&node).is_some_and(|at| at.value.state == what)
            };
            let members = state.record.as_ref().map(|at| &at.value.members);
            is(primary, NodeState::Primary)
                && others.iter().all(|node| is(*node, NodeState::Secondary))
                && members.is_some_and(|members| members.iter().eq(others.iter()))
        })
        .await
    }

    async fn leader(&self) -> Result<String> {
        let waiting = async {
            loop {
                let read = self.store.read(layout::LEADER).await?;
                if let Some(entry) = read.entries.get(layout::LEADER) {
                    return anyhow::Ok(Leader::read(layout::LEADER, entry)?.monitor);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .context("nobody is elected")?
    }
}

/// Monitors and primaries die one after the other; no acknowledged row is lost.
async fn everybody_is_replaced(store: Store, dir: TestDir) -> Result<()> {
    let group = Group::new(store, dir).await?;
    let first = group.monitor("first");
    ensure!(group.leader().await? == "first");
    let second = group.monitor("second");
    let (one, keeper_of_one) = group.keeper(7401).await?;
    group
        .until("single", |state| {
            state
                .reports
                .get(&1)
                .is_some_and(|at| at.value.state == NodeState::Single)
        })
        .await?;
    let (two, _keeper) = group.keeper(7402).await?;
    let (three, _keeper) = group.keeper(7403).await?;
    ensure!((one, two, three) == (1, 2, 3));
    let whole = group.until_whole(1, &[2, 3]).await?;
    ensure!(
        whole
            .record
            .is_some_and(|at| at.value.kind == Kind::Sync && at.value.need == 2)
    );
    let rows = group.cluster.write_until_acknowledged(1, 5).await?;
    group
        .until("looked at", |state| {
            state.health.len() == 3 && state.health.values().all(|looked| looked.good)
        })
        .await?;

    first.abort();
    let gone = async {
        while group.leader().await? != "second" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .context("the other monitor is elected")??;

    keeper_of_one.abort();
    group.cluster.kill(1);
    let state = group
        .until("taken over", |state| {
            state
                .lock
                .as_ref()
                .is_some_and(|at| at.value.node != 1 && at.value.epoch > 1)
        })
        .await?;
    let primary = state.lock.context("there is one")?.value.node;
    let other = 5 - primary;
    let (again, _keeper) = group.keeper(7401).await?;
    ensure!(again == 1, "it is known");
    let mut others = [1, other];
    others.sort_unstable();
    group.until_whole(primary, &others).await?;
    ensure!(group.cluster.has(primary, &rows), "acknowledged rows are there");
    ensure!(group.cluster.has(1, &rows), "and where they came from");

    // As planned: nobody asks for votes, and nobody else writes meanwhile.
    let at = group.store.read(&group.id.group_key()).await?;
    let mut kept = group.state().await?.group;
    kept.request = Some(Wish::Promotion(1));
    let revision = at.entries.values().next().context("the group")?.revision;
    let change = Change::default()
        .if_at(group.id.group_key(), revision)
        .put(group.id.group_key(), kept.encode());
    group.store.commit(change).await?;
    let mut others = [primary, other];
    others.sort_unstable();
    group.until_whole(1, &others).await?;
    ensure!(group.cluster.has(1, &rows));

    let events = group.store.read(layout::EVENTS).await?;
    let events: Result<Vec<Event>, _> = events
        .entries
        .iter()
        .map(|(key, entry)| Event::read(key, entry))
        .collect();
    let told: Vec<String> = events?.into_iter().map(|event| event.description).collect();
    for expected in [
        "node1 is to become single: first node of the group",
        "node1 is to become draining: primary is unhealthy",
        "node1 is to become prepare_promotion: the operator asked for another primary",
    ] {
        ensure!(told.iter().any(|told| told == expected), "{expected}: {told:#?}");
    }
    second.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_file_everybody_is_replaced_and_no_row_is_lost() -> Result<()> {
    let dir = TestDir::new("pgaf-group")?;
    let store = Store::in_file(&dir.join("store.json"), SystemClock::shared())?;
    everybody_is_replaced(store, dir).await
}

#[tokio::test(flavor = "multi_thread")]
async fn through_etcd_everybody_is_replaced_and_no_row_is_lost() -> Result<()> {
    let server = Etcd::start()?;
    let store = Store::of_endpoints(&[server.endpoint()], Duration::from_secs(5))?;
    everybody_is_replaced(store, TestDir::new("pgaf-group")?).await
}

/// What an aborted keeper left behind would report what no longer is, beside its successor, and hold a lock that nobody uses.
#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_is_dropped_reports_and_renews_nothing_more() -> Result<()> {
    let dir = TestDir::new("pgaf-group")?;
    let store = Store::in_file(&dir.join("store.json"), SystemClock::shared())?;
    let group = Group::new(store, dir).await?;
    let _monitor = group.monitor("only");
    let (one, keeper) = group.keeper(7401).await?;
    group
        .until("single", |state| {
            state
                .reports
                .get(&one)
                .is_some_and(|at| at.value.state == NodeState::Single)
        })
        .await?;
    keeper.abort();
    ensure!(keeper.await.is_err(), "it is gone");
    let last = group.state().await?.reports[&one].value.number;
    let state = group
        .until("without a lock", |state| state.lock.is_none())
        .await?;
    ensure!(
        state.reports[&one].value.number <= last + 1,
        "only a report that was on its way comes later"
    );
    Ok(())
}

/// Who may be replaced stops when it hears nothing from the store; who may not be serves on.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_only_who_cannot_be_replaced_serves_on() -> Result<()> {
    let mut server = Etcd::start()?;
    let store = Store::of_endpoints(&[server.endpoint()], Duration::from_secs(1))?;
    let group = Group::new(store, TestDir::new("pgaf-group")?).await?;
    let _monitor = group.monitor("only");
    let (one, _keeper) = group.keeper(7401).await?;
    group
        .until("single", |state| {
            state
                .reports
                .get(&1)
                .is_some_and(|at| at.value.state == NodeState::Single)
        })
        .await?;
    server.kill9()?;
    // Twice the lock's life.
    tokio::time::sleep(Duration::from_secs(4)).await;
    ensure!(group.cluster.serves(one), "nobody else can be promoted");
    server.start()?;
    let (two, _keeper) = group.keeper(7402).await?;
    group.until_whole(one, &[two]).await?;
    server.kill9()?;
    let stopped = async {
        while group.cluster.serves(one) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3), stopped)
        .await
        .context("it stops before its lock may be over")?;
    server.start()?;
    let serves = async {
        while !group.cluster.serves(one) && !group.cluster.serves(two) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, serves)
        .await
        .context("one of them serves when the store is back")?;
    Ok(())
}

/// Hands everything on to an endpoint, until it freezes: then it takes connections and answers nothing, like a member that was stopped.
struct Freezing {
    endpoint: String,
    frozen: watch::Sender<bool>,
}

impl Freezing {
    async fn before(endpoint: &str) -> Result<Freezing> {
        let behind = endpoint.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let (frozen, is) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (behind, mut is) = (behind.clone(), is.clone());
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(behind).await?;
                    tokio::select! {
                        copied = copy_bidirectional(&mut near, &mut far) => copied.map(|_| ()),
                        () = async { is.wait_for(|frozen| *frozen).await.map(drop).unwrap_or_default() } => {
                            std::future::pending().await
                        }
                    }
                });
            }
        });
        Ok(Freezing { endpoint, frozen })
    }
}

/// The time that a question to an endpoint may take is far longer than the lock lives. A renewal does not wait that long.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_hangs_costs_no_primary_its_lock() -> Result<()> {
    let server = Etcd::start()?;
    let proxy = Freezing::before(&server.endpoint()).await?;
    let patience = Duration::from_secs(30);
    let direct = Store::of_endpoints(&[server.endpoint()], patience)?;
    let both = Store::of_endpoints(&[proxy.endpoint.clone(), server.endpoint()], patience)?;
    let group = Group::new(direct, TestDir::new("pgaf-group")?).await?;
    // Long enough for a disk that stands still for a second, also after one endpoint has been given up.
    let settings = Settings {
        primary_lease_ttl: Millis::seconds(6),
        ..Profile::Fast.settings()
    };
    let change = Change::default().put(layout::SETTINGS, settings.encode());
    group.store.commit(change).await?;
    let _monitor = group.monitor("only");
    let (one, _keeper) = group.keeper_with(both, 7401).await?;
    group
        .until("single", |state| {
            state
                .reports
                .get(&one)
                .is_some_and(|at| at.value.state == NodeState::Single)
        })
        .await?;
    let (two, _keeper) = group.keeper(7402).await?;
    let whole = group.until_whole(one, &[two]).await?;
    let epoch = whole.lock.context("held")?.value.epoch;
    proxy.frozen.send_replace(true);
    // At two thirds of the lock's life it would stop.
    let stops = async {
        while group.cluster.serves(one) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let stopped = tokio::time::timeout(settings.primary_lease_ttl.duration(), stops).await;
    ensure!(stopped.is_err(), "it stopped");
    let lock = group.state().await?.lock.context("held")?;
    ensure!(lock.value.epoch == epoch && lock.value.node == one, "{lock:?}");
    Ok(())
}
