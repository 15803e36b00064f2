//! One server: made, crashed, stopped, refused.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgaf::Names;
use pgaf::database::{Database as _, Running, Stop};
use pgaf::postgres::{Login, Postgres};
use pgaf::probe::{Found, Probe as _, Target};

use crate::node::{LIMIT, Node, names, run};

#[test]
fn a_crash_is_noticed_and_recovered_from() -> Result<()> {
    run(
        "alone::a_crash_is_noticed_and_recovered_from",
        async |dir, addresses| {
            let node = Node::new(dir, addresses, 1).await?;
            let status = node.postgres.status().await?;
            ensure!(status.running == Running::Not && status.system_identifier.is_none());
            node.postgres.create().await?;
            ensure!(node.postgres.status().await?.system_identifier.is_some());
            node.postgres.serve().await?;
            ensure!(node.runs().await? == Running::Primary);
            ensure!(node.ask("show wal_log_hints").await? == "on");

            // Its children do not survive it, even while they are busy.
            let busy = node.client().await?;
            let busy = tokio::spawn(async move {
                busy.simple_query("select count(*) from generate_series(1, 1e12)")
                    .await
            });
            let backend =
                "select count(*) from pg_stat_activity where query like '%1e12%' and pid <> pg_backend_pid()";
            while node.ask(backend).await? == "0" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let pid = node.postgres.pid().context("it runs")?;
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL)?;
            tokio::time::timeout(LIMIT, node.postgres.ended()).await?;
            ensure!(
                node.runs().await? == Running::Not,
                "nothing is left when it is told"
            );
            ensure!(tokio::time::timeout(LIMIT, busy).await??.is_err());

            node.postgres.serve().await?;
            let target = |writable| Target {
                node: 1,
                host: node.address.to_string(),
                port: node.options.port,
                writable,
            };
            ensure!(Login::default().look(&target(true), LIMIT).await == Found::Good { standby: false });
            let end = node
                .postgres
                .stop(Stop::Clean)
                .await?
                .context("it ended cleanly")?;
            ensure!(node.postgres.status().await?.position == Some(end));
            ensure!(Login::default().look(&target(true), LIMIT).await == Found::Refused);
            // A stop that was asked for is no news.
            let told = tokio::time::timeout(Duration::from_millis(200), node.postgres.ended()).await;
            ensure!(told.is_err());
            Ok(())
        },
    )
}

#[test]
fn what_is_not_ours_is_refused() -> Result<()> {
    run("alone::what_is_not_ours_is_refused", async |dir, addresses| {
        let node = Node::primary(dir, addresses, 1).await?;
        node.postgres.stop(Stop::Clean).await?;
        // Somebody else decides who acknowledges.
        let auto = node.options.pgdata.join("postgresql.auto.conf");
        std::fs::write(&auto, "synchronous_standby_names = 'other'\n")?;
        let refused = node
            .postgres
            .serve()
            .await
            .err()
            .context("it must not run")?
            .to_string();
        ensure!(
            refused.contains("synchronous_standby_names is `other`"),
            "{refused}"
        );
        ensure!(node.runs().await? == Running::Not);
        std::fs::write(&auto, "")?;

        // Somebody else has started it.
        let options = node.options.clone();
        drop(node);
        let pg_ctl = options.bindir.join("pg_ctl");
        let socket = format!(
            "-k {} -c listen_addresses= -p {}",
            options.socket_dir.display(),
            options.port
        );
        let ctl = |action: &str| {
            let mut command = Command::new(&pg_ctl);
            command.args([
                action,
                "-w",
                "-m",
                "immediate",
                "-o",
                &socket,
                "-l",
                "/dev/null",
                "-D",
            ]);
            command.arg(&options.pgdata).status()
        };
        ensure!(ctl("start")?.success());
        let refused = Postgres::open(options.clone())
            .await
            .err()
            .map(|error| error.to_string());
        ensure!(ctl("stop")?.success());
        let refused = refused.context("it is somebody else's")?;
        ensure!(refused.contains("pg_autoctl did not start"), "{refused}");

        // What it has left is no hindrance, and neither is what a keeper has begun and not completed.
        let half = options.pgdata.with_file_name("data.new-20260101T000000Z-1");
        std::fs::create_dir(&half)?;
        let again = Postgres::open(options).await?;
        ensure!(!half.exists());
        again.serve().await?;
        Ok(())
    })
}

#[test]
fn a_stop_gets_through_whatever_goes_on() -> Result<()> {
    run(
        "alone::a_stop_gets_through_whatever_goes_on",
        async |dir, addresses| {
            let node = Node::primary(dir, addresses, 1).await?;
            // Waits for a standby that is not there.
            node.postgres.set_names(&names(&[2], 1)).await?;
            let client = node.client().await?;
            let write = tokio::spawn(async move { client.simple_query("create table t (n int)").await });
            let status = node.postgres.status().await?;
            ensure!(status.running == Running::Primary, "{status:?}");
            let serving = async {
                loop {
                    node.postgres.serve().await?;
                }
                #[allow(unreachable_code, reason = "says of what type the error is")]
                Ok::<(), pgaf::database::Error>(())
            };
            let stopping = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                node.postgres.stop(Stop::Within(Duration::from_secs(20))).await
            };
            let (served, stopped) =
                tokio::time::timeout(LIMIT, async { tokio::join!(serving, stopping) }).await?;
            stopped?;
            let why = served.err().context("it was interrupted")?.to_string();
            ensure!(why.ends_with("PostgreSQL is to stop"), "{why}");
            ensure!(node.runs().await? == Running::Not);
            ensure!(
                tokio::time::timeout(LIMIT, write).await??.is_err(),
                "never acknowledged"
            );
            // Frozen, it does not listen to anybody.
            node.postgres.serve().await?;
            ensure!(node.postgres.names().await? == names(&[2], 1));
            let pid = Pid::from_raw(node.postgres.pid().context("it runs")?.cast_signed());
            kill(pid, Signal::SIGSTOP)?;
            node.postgres
                .stop(Stop::Within(Duration::from_millis(200)))
                .await?;
            ensure!(node.runs().await? == Running::Not);
            node.postgres.set_names(&Names::nobody()).await?;
            ensure!(node.postgres.names().await? == Names::nobody());
            Ok(())
        },
    )
}

/// Set for the second process of this test, which is the keeper.
const KEEPER: &str = "MAINSTAY_TEST_KEEPER";

#[test]
fn a_server_ends_with_its_keeper() -> Result<()> {
    const NAME: &str = "alone::a_server_ends_with_its_keeper";
    run(NAME, async |dir, addresses| {
        if std::env::var_os(KEEPER).is_some() {
            let _node = Node::primary(dir, addresses, 1).await?;
            return std::future::pending().await;
        }
        let mut keeper = Command::new(std::env::current_exe()?);
        keeper.args(["--exact", NAME, "--nocapture"]).env(KEEPER, "1");
        // What `testkit` tells a second run, also when this is the first.
        keeper.env("MAINSTAY_TEST_DIR", dir);
        keeper.env("MAINSTAY_TEST_BLOCK", addresses.host(0)?.octets()[2].to_string());
        let mut keeper = keeper.spawn()?;
        let socket = (addresses.host(1)?, 5432);
        let serves = || std::net::TcpStream::connect(socket).is_ok();
        let role = dir.join("node1/data/pg_autoctl.unfinished");
        testkit::wait_until(LIMIT, "the keeper to serve", || serves() && !role.exists());
        keeper.kill()?;
        keeper.wait()?;
        testkit::wait_until(LIMIT, "the server to end", || !serves());
        let node = Node::new(dir, addresses, 1).await?;
        node.postgres.serve().await?;
        ensure!(node.ask("select 1").await? == "1");
        Ok(())
    })
}
