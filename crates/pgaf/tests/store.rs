//! The same expectations of a file, of Chainfire and of Debian's etcd.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use pgaf::store::{Change, Error, Outcome, Store};
use service::clock::SystemClock;
use testkit::{Chainfire, Etcd, TestDir};

const TIMEOUT: Duration = Duration::from_secs(10);

async fn expectations(store: &Store) -> Result<()> {
    changes_rest_on_what_was_read(store).await?;
    watches_tell_what_happens(store).await?;
    leases_take_their_keys_with_them(store).await?;
    what_hangs_on_no_lease_is_refused(store).await
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

async fn what_hangs_on_no_lease_is_refused(store: &Store) -> Result<()> {
    let before = store.read("/").await?;
    let refused = store
        .commit(Change::default().put_with_lease("/l", "1", 4_711))
        .await;
    ensure!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    ensure!(store.read("/").await? == before, "nothing has changed");
    Ok(())
}

fn in_file(path: &Path) -> Result<Store> {
    Ok(Store::in_file(path, Arc::new(SystemClock::new()))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn chainfire_does_what_is_expected() -> Result<()> {
    let server = Chainfire::start_new()?;
    expectations(&Store::of_endpoints(&[server.endpoint()], TIMEOUT)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_does_what_is_expected() -> Result<()> {
    let server = Etcd::start()?;
    expectations(&Store::of_endpoints(&[server.endpoint()], TIMEOUT)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_does_what_is_expected() -> Result<()> {
    let dir = TestDir::new("pgaf-store")?;
    let path = dir.join("store.json");
    let store = in_file(&path)?;
    expectations(&store).await?;
    let lease = store.grant(60).await?;
    store
        .commit(Change::default().put_with_lease("/held", "1", lease))
        .await?;
    let before = store.read("/").await?;
    // Another process, later.
    let store = in_file(&path)?;
    ensure!(store.read("/").await? == before, "all of it is there");
    ensure!(store.renew(lease).await?, "a lease lives on");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_something_else_is_refused_and_stays() -> Result<()> {
    let dir = TestDir::new("pgaf-store")?;
    let path = dir.join("store.json");
    for content in [
        "not json",
        r#"{"version":2,"revision":1,"next_lease":0,"leases":{},"keys":{}}"#,
    ] {
        std::fs::write(&path, content)?;
        let refused = in_file(&path)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        ensure!(refused.contains("store.json"), "{refused}");
        ensure!(std::fs::read_to_string(&path)? == content);
    }
    Ok(())
}

/// A folder that nobody may write to.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_has_not_happened() -> Result<()> {
    let dir = TestDir::new("pgaf-store")?;
    let path = dir.join("folder/store.json");
    std::fs::create_dir(dir.join("folder"))?;
    let store = in_file(&path)?;
    store.commit(Change::default().put("/k", "1")).await?;
    let before = store.read("/").await?;
    std::fs::rename(dir.join("folder"), dir.join("elsewhere"))?;
    let refused = store.commit(Change::default().put("/k", "2")).await;
    ensure!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    ensure!(store.read("/").await? == before);
    std::fs::rename(dir.join("elsewhere"), dir.join("folder"))?;
    ensure!(matches!(
        store.commit(Change::default().put("/k", "2")).await?,
        Outcome::Done(_)
    ));
    Ok(())
}
