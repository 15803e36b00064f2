//! The same expectations of Chainfire and of Debian's etcd.

use std::time::Duration;

use anyhow::{Result, ensure};
use etcd::Store;
use etcd::store::{Change, Error, Outcome};
use testkit::{Chainfire, Etcd, Server};

const TIMEOUT: Duration = Duration::from_secs(10);

fn store(endpoints: &[String]) -> Result<Store> {
    Ok(Store::new(endpoints, None, TIMEOUT)?)
}

/// What every endpoint has to do.
async fn expectations(server: &mut Server) -> Result<()> {
    let store = store(&[server.endpoint()])?;
    changes_rest_on_what_was_read(&store).await?;
    watches_tell_what_happens(&store).await?;
    leases_take_their_keys_with_them(&store).await?;
    a_lost_answer_is_no_refusal(&store, server).await
}

async fn changes_rest_on_what_was_read(store: &Store) -> Result<()> {
    let first = Change::default()
        .if_at("/a/one", 0)
        .put("/a/one", "1")
        .put("/a/two", "2")
        .put("/b", "3");
    let Outcome::Done(revision) = store.commit(first.clone()).await? else {
        anyhow::bail!("the key is not there yet")
    };
    ensure!(store.commit(first).await? == Outcome::Conflict, "it is there now");
    let read = store.read("/a/").await?;
    ensure!(read.revision == revision && read.entries.len() == 2, "{read:?}");
    ensure!(read.entries["/a/two"].value == "2" && read.entries["/a/two"].revision == revision);
    let second = Change::default()
        .if_at("/a/two", revision)
        .put("/a/one", "1")
        .delete("/a/two");
    ensure!(matches!(store.commit(second.clone()).await?, Outcome::Done(_)));
    ensure!(
        store.commit(second).await? == Outcome::Conflict,
        "what it rests on is gone"
    );
    ensure!(store.read("/a/").await?.entries.len() == 1);
    Ok(())
}

async fn watches_tell_what_happens(store: &Store) -> Result<()> {
    let Outcome::Done(before) = store.commit(Change::default().put("/w/old", "0")).await? else {
        anyhow::bail!("nothing to compare")
    };
    let mut watch = store.watch("/w/", before + 1).await?;
    store.commit(Change::default().put("/x", "elsewhere")).await?;
    store
        .commit(Change::default().put("/w/new", "1").delete("/w/old"))
        .await?;
    let changes = tokio::time::timeout(TIMEOUT, watch.next()).await??;
    let told: Vec<(&str, bool)> = changes
        .keys
        .iter()
        .map(|(key, entry)| (key.as_str(), entry.is_some()))
        .collect();
    ensure!(told == [("/w/new", true), ("/w/old", false)], "{told:?}");
    Ok(())
}

async fn leases_take_their_keys_with_them(store: &Store) -> Result<()> {
    let lease = store.grant(2).await?;
    let held = Change::default()
        .if_at("/lock", 0)
        .put_with_lease("/lock", "me", lease);
    ensure!(matches!(store.commit(held).await?, Outcome::Done(_)));
    for _ in 0..6 {
        ensure!(store.renew(lease).await?, "renewed in time");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ensure!(store.read("/lock").await?.entries["/lock"].lease == lease);
    let gone = async {
        while !store.read("/lock").await?.entries.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(TIMEOUT * 3, gone).await??;
    ensure!(!store.renew(lease).await?, "it has ended");
    Ok(())
}

async fn a_lost_answer_is_no_refusal(store: &Store, server: &mut Server) -> Result<()> {
    server.kill9()?;
    let failed = store.commit(Change::default().put("/late", "1")).await;
    ensure!(
        matches!(failed, Err(Error::Unknown(_) | Error::Unreachable { .. })),
        "{failed:?}"
    );
    ensure!(matches!(store.read("/").await, Err(Error::Unreachable { .. })));
    server.start()?;
    let read = async {
        loop {
            if let Ok(read) = store.read("/a/").await {
                return read;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let read = tokio::time::timeout(TIMEOUT * 3, read).await?;
    ensure!(
        read.entries.len() == 1,
        "what was acknowledged is there: {read:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn chainfire_does_what_is_expected() -> Result<()> {
    let mut server = Chainfire::start_new()?;
    expectations(&mut server).await
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_does_what_is_expected() -> Result<()> {
    let mut server = Etcd::start()?;
    expectations(&mut server).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_endpoint_is_asked_when_one_is_gone() -> Result<()> {
    let server = Chainfire::start_new()?;
    let nobody = format!("http://{}:1", server.address());
    let store = store(&[nobody, server.endpoint()])?;
    ensure!(matches!(
        store.commit(Change::default().put("/k", "v")).await?,
        Outcome::Done(_)
    ));
    ensure!(store.read("/k").await?.entries.len() == 1);
    Ok(())
}
