//! A node of a test, and clients of it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pgaf::database::{Database as _, Options, Peer, Running, Status};
use pgaf::postgres::{Postgres, bindir};
use pgaf::{Names, NodeId};
use testkit::AddressBlock;
use tokio_postgres::{Client, NoTls};

/// For anything that real servers do on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

const PORT: u16 = 5432;

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: Ipv4Addr,
    pub(crate) options: Options,
    pub(crate) postgres: Postgres,
}

/// Runs a test as somebody whom PostgreSQL accepts, with a runtime.
pub(crate) fn run(name: &str, test: impl AsyncFnOnce(&Path, &AddressBlock) -> Result<()>) -> Result<()> {
    testkit::as_postgres(name, |dir, addresses| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(async {
            tokio::time::timeout(LIMIT * 3, test(dir, addresses))
                .await
                .context("the test takes too long")?
        })
    })
}

impl Node {
    /// One that has not begun, or has been left behind by another keeper.
    pub(crate) async fn new(dir: &Path, addresses: &AddressBlock, id: NodeId) -> Result<Node> {
        let address = addresses.host(id as usize)?;
        let folder = dir.join(format!("node{id}"));
        std::fs::create_dir_all(&folder)?;
        let options = Options {
            pgdata: folder.join("data"),
            bindir: bindir(None).await?,
            socket_dir: folder,
            listen: address.to_string(),
            port: PORT,
            hostname: address.to_string(),
            auth: Some("trust".to_owned()),
            sslmode: "prefer".to_owned(),
            username: Some("app".to_owned()),
            dbname: Some("app".to_owned()),
            maximum_backup_rate: None,
            wal_timeout: Duration::from_secs(30),
        };
        Ok(Node {
            id,
            address,
            postgres: Postgres::open(options.clone()).await?,
            options,
        })
    }

    /// A primary that serves.
    pub(crate) async fn primary(dir: &Path, addresses: &AddressBlock, id: NodeId) -> Result<Node> {
        let node = Node::new(dir, addresses, id).await?;
        node.postgres.create().await?;
        node.postgres.serve().await?;
        Ok(node)
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer {
            node: self.id,
            host: self.address.to_string(),
            port: PORT,
        }
    }

    /// A client of the application.
    pub(crate) async fn client(&self) -> Result<Client> {
        let config = format!(
            "host={} port={PORT} user=app dbname=app connect_timeout=5",
            self.address
        );
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// One value, as a text.
    pub(crate) async fn ask(&self, sql: &str) -> Result<String> {
        let rows = self.client().await?.simple_query(sql).await?;
        let row = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        Ok(row.context("no row")?.to_owned())
    }

    /// Waits for a status.
    pub(crate) async fn until(&self, what: &str, fits: impl Fn(&Status) -> bool) -> Result<Status> {
        let looking = async {
            loop {
                if let Ok(status) = self.postgres.status().await
                    && fits(&status)
                {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, looking)
            .await
            .with_context(|| format!("waited for {what} of node {}", self.id))
    }

    pub(crate) async fn runs(&self) -> Result<Running> {
        Ok(self.postgres.status().await?.running)
    }

    /// Waits until standbys have all there is, as a change of names does.
    pub(crate) async fn barrier(&self, standbys: &[NodeId]) -> Result<()> {
        let lsn = self.postgres.inserted().await?;
        let waiting = async {
            loop {
                let flushed = self.postgres.flushed(lsn).await?;
                if standbys.iter().all(|standby| flushed.contains(standby)) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting)
            .await
            .context("the barrier")?
    }
}

pub(crate) fn names(members: &[NodeId], any: u32) -> Names {
    Names::of(members.iter().copied().collect(), any).unwrap()
}

/// A table with rows from 1 to `last`.
pub(crate) async fn has_rows(node: &Node, last: i64) -> Result<()> {
    let found = node
        .ask("select count(*) || ' ' || coalesce(max(n), 0) from rows")
        .await?;
    ensure!(found == format!("{last} {last}"), "{found} rather than {last}");
    Ok(())
}
