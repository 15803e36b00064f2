//! Several servers: who follows, who acknowledges, who takes over, who comes back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgaf::Names;
use pgaf::database::{Database as _, Error, Running, Stop};

use crate::node::{LIMIT, Node, has_rows, names, run};

/// Long enough for a commit that does not wait to be over, many times.
const BLOCKED: Duration = Duration::from_millis(500);

const FOLLOWS: Running = Running::Standby { receiving: true };

#[test]
fn acknowledged_rows_survive_the_primary_and_it_comes_back_rewound() -> Result<()> {
    run(
        "pair::acknowledged_rows_survive_the_primary_and_it_comes_back_rewound",
        async |dir, addresses| {
            let one = Node::primary(dir, addresses, 1).await?;
            let two = Node::new(dir, addresses, 2).await?;
            one.postgres.let_in(&[two.peer()]).await?;
            two.postgres.follow(2, &one.peer()).await?;
            two.postgres.follow(2, &one.peer()).await?;
            ensure!(two.runs().await? == FOLLOWS);
            two.postgres.let_in(&[one.peer()]).await?;
            one.postgres.set_names(&names(&[2], 1)).await?;
            one.barrier(&[2]).await?;
            one.ask("create table rows (n bigint primary key); select ''")
                .await?;
            one.ask("insert into rows select generate_series(1, 100); select ''")
                .await?;

            // The cut is the fence: nothing is acknowledged any more, though both run.
            let end = two.postgres.cut().await?;
            ensure!(two.runs().await? == Running::Standby { receiving: false });
            let late = one.client().await?;
            let mut late =
                tokio::spawn(async move { late.simple_query("insert into rows values (101)").await });
            ensure!(
                tokio::time::timeout(BLOCKED, &mut late).await.is_err(),
                "nobody confirms"
            );
            ensure!(
                two.postgres.status().await?.position == Some(end),
                "nothing comes any more"
            );
            // More than that, so that there is something to rewind.
            one.ask("set synchronous_commit = local; insert into rows select generate_series(1000, 9000); select ''").await?;

            two.postgres.replay().await?;
            two.postgres.promote().await?;
            ensure!(two.runs().await? == Running::Primary);
            has_rows(&two, 100).await?;
            ensure!(two.postgres.status().await?.position.context("it runs")?.timeline == 2);

            // The old primary dies as it may, and comes back without what nobody was told is safe.
            let refused = one.postgres.follow(1, &two.peer()).await;
            ensure!(refused.is_err_and(|error| error.to_string().contains("takes writes")));
            one.postgres.stop(Stop::Kill).await?;
            ensure!(tokio::time::timeout(LIMIT, late).await??.is_err());
            ensure!(one.postgres.status().await?.position.is_none(), "nobody knows");
            one.postgres.follow(1, &two.peer()).await?;
            ensure!(one.runs().await? == FOLLOWS);
            two.postgres.set_names(&names(&[1], 1)).await?;
            two.barrier(&[1]).await?;
            two.ask("insert into rows values (101); select ''").await?;
            let end = two.postgres.status().await?.position;
            one.until("all rows", |status| status.position >= end).await?;
            one.postgres.cut().await?;
            has_rows(&one, 101).await?;
            let kept = std::fs::read_dir(dir.join("node1"))?.flatten();
            let kept: Vec<_> = kept
                .map(|entry| entry.file_name())
                .filter(|name| name.to_string_lossy().starts_with("data."))
                .collect();
            ensure!(kept.is_empty(), "rewound, not copied: {kept:?}");
            Ok(())
        },
    )
}

#[test]
fn a_clean_stop_ends_where_the_standby_ends_and_roles_are_exchanged() -> Result<()> {
    run(
        "pair::a_clean_stop_ends_where_the_standby_ends_and_roles_are_exchanged",
        async |dir, addresses| {
            let one = Node::primary(dir, addresses, 1).await?;
            let two = Node::new(dir, addresses, 2).await?;
            one.postgres.let_in(&[two.peer()]).await?;
            two.postgres.follow(2, &one.peer()).await?;
            two.postgres.let_in(&[one.peer()]).await?;
            one.ask("create table rows (n bigint primary key); select ''")
                .await?;
            let released = one.postgres.stop(Stop::Clean).await?;
            ensure!(released.is_some());
            two.until("all of it", |status| status.position == released)
                .await?;
            ensure!(two.postgres.cut().await?.lsn == released.context("cleanly")?.lsn);
            two.postgres.promote().await?;
            two.ask("insert into rows values (1); select ''").await?;
            let system = one.postgres.status().await?.system_identifier;
            one.postgres.follow(1, &two.peer()).await?;
            ensure!(one.runs().await? == FOLLOWS);
            ensure!(one.postgres.status().await?.system_identifier == system);

            // A standby that is killed comes back by itself.
            let pid = one.postgres.pid().context("it runs")?;
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
            tokio::time::timeout(LIMIT, one.postgres.ended()).await?;
            one.postgres.follow(1, &two.peer()).await?;
            two.barrier(&[1]).await?;

            // Another cluster is nobody's standby.
            let other = Node::new(dir, addresses, 3).await?;
            other.postgres.create().await?;
            let refused = other.postgres.follow(3, &two.peer()).await;
            ensure!(matches!(refused, Err(Error::OtherCluster { .. })), "{refused:?}");
            Ok(())
        },
    )
}

#[test]
fn names_are_in_effect_when_they_are_said_to_be() -> Result<()> {
    run(
        "pair::names_are_in_effect_when_they_are_said_to_be",
        async |dir, addresses| {
            let one = Node::primary(dir, addresses, 1).await?;
            let (two, three) = (
                Node::new(dir, addresses, 2).await?,
                Node::new(dir, addresses, 3).await?,
            );
            one.postgres.let_in(&[two.peer(), three.peer()]).await?;
            two.postgres.follow(2, &one.peer()).await?;
            three.postgres.follow(3, &one.peer()).await?;
            one.ask("create table rows (n bigint); select ''").await?;
            let writer = one.client().await?;
            let row = "insert into rows values (1)";

            // Whoever keeps the flag that there are names has not read them.
            changes_only_after(&one, "postgres: checkpointer", names(&[2, 3], 1)).await?;
            one.barrier(&[2, 3]).await?;
            // Any one of them is enough.
            three.postgres.stop(Stop::Kill).await?;
            tokio::time::timeout(LIMIT, writer.simple_query(row)).await??;
            // Both are needed from the moment this has answered, though the one there is confirms at once.
            changes_only_after(&one, "postgres: walsender", names(&[2, 3], 2)).await?;
            let mut waiting = tokio::spawn(async move {
                let written = writer.simple_query(row).await;
                (writer, written)
            });
            ensure!(
                tokio::time::timeout(BLOCKED, &mut waiting).await.is_err(),
                "one is not enough"
            );
            three.postgres.follow(3, &one.peer()).await?;
            let (writer, written) = tokio::time::timeout(LIMIT, waiting).await??;
            written?;

            // Nobody is waited for, and then somebody who is not there: never a commit that does not wait.
            two.postgres.stop(Stop::Kill).await?;
            for _ in 0..4 {
                one.postgres.set_names(&Names::nobody()).await?;
                tokio::time::timeout(LIMIT, writer.simple_query(row)).await??;
                one.postgres.set_names(&names(&[2], 1)).await?;
                let client = one.client().await?;
                client.simple_query("set statement_timeout = 0").await?;
                let before = one.ask("select count(*) from rows").await?;
                let blocked = tokio::spawn(async move { client.simple_query(row).await });
                tokio::time::sleep(Duration::from_millis(30)).await;
                ensure!(!blocked.is_finished(), "a commit did not wait");
                ensure!(one.ask("select count(*) from rows").await? == before);
            }
            Ok(())
        },
    )
}

/// Changes names while a process of the primary is frozen, which has to go on before they are in effect.
async fn changes_only_after(primary: &Node, process: &str, names: Names) -> Result<()> {
    let frozen = Frozen::new(primary, process)?;
    let mut change = Box::pin(primary.postgres.set_names(&names));
    let early = tokio::time::timeout(BLOCKED, &mut change).await;
    ensure!(early.is_err(), "in effect without {process}: {early:?}");
    drop(frozen);
    Ok(tokio::time::timeout(LIMIT, change).await??)
}

/// A process that is stopped until this is dropped.
struct Frozen(Pid);

impl Frozen {
    fn new(node: &Node, title: &str) -> Result<Frozen> {
        let parent = node.postgres.pid().context("it runs")?;
        let parent = format!("PPid:\t{parent}");
        let mut pids = Vec::new();
        // One whose standby has just died may still be there.
        testkit::wait_until(LIMIT, "one process of that title", || {
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            let children = processes.filter(|entry| {
                let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
                read("cmdline").starts_with(title) && read("status").lines().any(|line| line == parent)
            });
            pids = children
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .collect();
            pids.len() == 1
        });
        let pid = Pid::from_raw(pids[0]);
        kill(pid, Signal::SIGSTOP)?;
        Ok(Frozen(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}
