//! What becomes of requests when servers go. (What a store does otherwise is tested by its first user, `pgaf`.)

use std::time::Duration;

use anyhow::{Result, ensure};
use etcd::Store;
use etcd::store::{Change, Error, Outcome};
use testkit::{Chainfire, Etcd, Server};

const TIMEOUT: Duration = Duration::from_secs(10);

fn store(endpoints: &[String]) -> Result<Store> {
    Ok(Store::new(endpoints, None, TIMEOUT)?)
}

async fn a_lost_answer_is_no_refusal(server: &mut Server) -> Result<()> {
    let store = store(&[server.endpoint()])?;
    store.commit(Change::default().put("/a/kept", "1")).await?;
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
async fn chainfire_may_die_before_it_answers() -> Result<()> {
    a_lost_answer_is_no_refusal(&mut *Chainfire::start_new()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_may_die_before_it_answers() -> Result<()> {
    a_lost_answer_is_no_refusal(&mut *Etcd::start()?).await
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
