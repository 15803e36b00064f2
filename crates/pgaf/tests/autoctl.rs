//! The program `pg_autoctl` with real PostgreSQL servers and a real etcd: from empty directories to a group that loses its primary.

#![allow(
    clippy::disallowed_methods,
    reason = "a test with real programs waits in real time"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::{AddressBlock, as_postgres, mainstay_binary, require};

/// Far more than any step takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program that is killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command, log: &Path) -> Result<Running> {
        let log = File::options().create(true).append(true).open(log)?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Running(child))
    }

    /// Asks it to end, and answers with whether it did so well.
    fn end(&mut self) -> Result<bool> {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM)?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("it does not end")
    }
}

struct Group<'a> {
    dir: &'a Path,
    program: PathBuf,
    addresses: &'a AddressBlock,
    store: String,
    _etcd: Running,
}

impl Group<'_> {
    fn new<'a>(dir: &'a Path, addresses: &'a AddressBlock) -> Result<Group<'a>> {
        let program = dir.join("pg_autoctl");
        std::os::unix::fs::symlink(mainstay_binary()?, &program)?;
        let host = addresses.host(1)?;
        let (client, peer) = (format!("http://{host}:2379"), format!("http://{host}:2380"));
        let mut etcd = Command::new(require("etcd")?);
        etcd.args([
            "--name=default".to_owned(),
            format!("--data-dir={}", dir.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ]);
        let etcd = Running::start(&mut etcd, &dir.join("etcd.log"))?;
        Ok(Group {
            dir,
            program,
            addresses,
            store: format!("chainfire://{host}"),
            _etcd: etcd,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_remove("PGDATA")
            .env_remove("PG_AUTOCTL_MONITOR")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .env("XDG_RUNTIME_DIR", self.dir.join("run"))
            .env("HOME", self.dir);
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(arguments).output()?)
    }

    /// What a command prints; it has to succeed.
    fn print(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {told}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn host(&self, node: usize) -> Result<String> {
        Ok(self.addresses.host(1 + node)?.to_string())
    }

    fn node(&self, node: usize) -> Result<Running> {
        let (host, pgdata) = (self.host(node)?, self.dir.join(format!("n{node}")));
        let mut command = self.command(&["create", "postgres", "--run", "--auth", "trust", "--no-ssl"]);
        command
            .arg("--pgdata")
            .arg(pgdata)
            .args(["--monitor", &self.store, "--hostname", &host, "--listen", &host])
            .args(["--pgport", "7400", "--pghost"])
            .arg(self.dir.join(format!("s{node}")));
        std::fs::create_dir_all(self.dir.join(format!("s{node}")))?;
        Running::start(&mut command, &self.dir.join(format!("n{node}.log")))
    }

    /// Until `show state` has these reported and assigned states.
    fn until(&self, states: &[&str]) -> Result<()> {
        let begun = Instant::now();
        let mut last = String::new();
        while begun.elapsed() < PATIENCE {
            last = self.print(&["show", "state", "--json"]).unwrap_or_default();
            let nodes: Vec<serde_json::Value> = serde_json::from_str(&last).unwrap_or_default();
            let is = |node: &serde_json::Value, state: &str| {
                node["current_group_state"] == state && node["assigned_group_state"] == state
            };
            if nodes.len() == states.len() && nodes.iter().zip(states).all(|(node, state)| is(node, state)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("never {states:?}: {last}")
    }

    fn sql(&self, node: usize, text: &str) -> Result<String> {
        let output = Command::new(require("psql")?)
            .args([
                "-X",
                "-At",
                "-v",
                "ON_ERROR_STOP=1",
                "-p",
                "7400",
                "-U",
                "postgres",
                "-d",
                "postgres",
            ])
            .args(["-h", &self.host(node)?, "-c", text])
            .output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{text}: {told}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

fn group_of_two(dir: &Path, addresses: &AddressBlock) -> Result<()> {
    let group = Group::new(dir, addresses)?;
    let pgdata = dir.join("m").display().to_string();
    let configure = [
        "create",
        "monitor",
        "--profile",
        "fast",
        "--pgdata",
        &pgdata,
        "--store",
    ];
    let configure: Vec<&str> = configure.into_iter().chain([group.store.as_str()]).collect();
    let begun = Instant::now();
    while !group.run(&configure)?.status.success() {
        ensure!(begun.elapsed() < PATIENCE, "the store never answers");
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut monitor = Running::start(
        &mut group.command(&["run", "--pgdata", &pgdata]),
        &dir.join("m.log"),
    )?;

    let mut one = group.node(1)?;
    group.until(&["single"])?;
    let mut two = group.node(2)?;
    group.until(&["primary", "secondary"])?;
    // Without --pgdata and --monitor: three directories share one monitor.
    let table = group.print(&["show", "state"])?;
    ensure!(table.contains("|       TLI: LSN |   Connection |"), "{table}");
    ensure!(
        table.contains("node1 |     1 |") && table.contains("|             primary |"),
        "{table}"
    );
    let names = group.print(&["show", "standby-names"])?;
    ensure!(names == "'ANY 1 (pgautofailover_standby_2)'\n", "{names}");
    let there = group.sql(1, "show synchronous_standby_names")?;
    ensure!(format!("'{there}'\n") == names, "{there}");

    group.sql(1, "create table t as select generate_series(1, 1000) as i")?;
    one.0.kill()?;
    one.0.wait()?;
    group.sql_until_written(2)?;
    ensure!(
        group.sql(2, "select count(*) from t")? == "1001",
        "no row is lost"
    );

    let mut one = group.node(1)?;
    group.until(&["secondary", "primary"])?;
    let printed = group.print(&["perform", "failover", "--formation", "default", "--group", "0"])?;
    ensure!(printed.contains("draining"), "{printed}");
    group.until(&["primary", "secondary"])?;
    ensure!(group.sql(1, "select count(*) from t")? == "1001");
    let events = group.print(&["show", "events", "--count", "100"])?;
    ensure!(
        events.contains("node1 is to become draining: primary is unhealthy"),
        "{events}"
    );

    for running in [&mut two, &mut one, &mut monitor] {
        ensure!(running.end()?, "ends well");
    }
    Ok(())
}

/// The standby dies, then the primary that went on alone; the standby comes back, and lacks what was written meanwhile.
fn a_lost_primary(dir: &Path, addresses: &AddressBlock) -> Result<()> {
    let group = Group::new(dir, addresses)?;
    let pgdata = dir.join("m").display().to_string();
    let configure = ["create", "monitor", "--profile", "fast", "--pgdata", &pgdata];
    let configure: Vec<&str> = configure
        .into_iter()
        .chain(["--store", group.store.as_str()])
        .collect();
    let begun = Instant::now();
    while !group.run(&configure)?.status.success() {
        ensure!(begun.elapsed() < PATIENCE, "the store never answers");
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut monitor = Running::start(
        &mut group.command(&["run", "--pgdata", &pgdata]),
        &dir.join("m.log"),
    )?;
    let mut one = group.node(1)?;
    group.until(&["single"])?;
    let mut two = group.node(2)?;
    group.until(&["primary", "secondary"])?;
    group.sql(1, "create table t as select 1 as i")?;
    let forced = ["perform", "failover", "--formation", "default", "--group", "0"];

    two.0.kill()?;
    two.0.wait()?;
    group.until_assigned(&["wait_primary", "catchingup"])?;
    group.sql(1, "insert into t values (2)")?;
    let served = group.run(&forced)?;
    ensure!(served.status.code() == Some(3), "it serves: {served:?}");
    one.0.kill()?;
    one.0.wait()?;
    let nobody = group.run(&forced)?;
    ensure!(nobody.status.code() == Some(3), "no standby is there: {nobody:?}");

    let mut two = group.node(2)?;
    group.until_answers(&[&forced[..], &["--dry-run"]].concat(), "would cut itself off")?;
    let planned = group.run(&["perform", "switchover"])?;
    ensure!(planned.status.code() == Some(3), "{planned:?}");
    group.until_assigned(&["wait_primary", "catchingup"])?;

    let done = group.run(&forced)?;
    let told = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{told}");
    ensure!(
        told.contains(" WARN ") && told.contains("node1 is not confirmed stopped"),
        "{told}"
    );
    group.sql(2, "insert into t values (3)")?;
    ensure!(group.sql(2, "select string_agg(i::text, ' ' order by i) from t")? == "1 3");
    let events = group.print(&["show", "events", "--count", "100"])?;
    ensure!(events.contains("by the word of the operator"), "{events}");

    let mut one = group.node(1)?;
    group.until(&["secondary", "primary"])?;
    ensure!(
        group.sql(1, "select pg_is_in_recovery()")? == "t",
        "never again on its own"
    );
    ensure!(group.sql(1, "select string_agg(i::text, ' ' order by i) from t")? == "1 3");
    for running in [&mut two, &mut one, &mut monitor] {
        ensure!(running.end()?, "ends well");
    }
    Ok(())
}

impl Group<'_> {
    /// Until the monitor has assigned these states.
    fn until_assigned(&self, states: &[&str]) -> Result<()> {
        let begun = Instant::now();
        let mut last = String::new();
        while begun.elapsed() < PATIENCE {
            last = self.print(&["show", "state", "--json"]).unwrap_or_default();
            let nodes: Vec<serde_json::Value> = serde_json::from_str(&last).unwrap_or_default();
            let mut pairs = nodes.iter().zip(states);
            if nodes.len() == states.len()
                && pairs.all(|(node, state)| node["assigned_group_state"] == **state)
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("never assigned {states:?}: {last}")
    }

    /// Until a command succeeds and prints that.
    fn until_answers(&self, arguments: &[&str], expected: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            let last = self.print(arguments);
            if last.as_ref().is_ok_and(|printed| printed.contains(expected)) {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "never `{expected}`: {last:?}");
        }
    }

    /// Until this node takes a row.
    fn sql_until_written(&self, node: usize) -> Result<()> {
        let begun = Instant::now();
        while let Err(error) = self.sql(node, "insert into t values (0)") {
            ensure!(begun.elapsed() < PATIENCE, "never takes writes: {error}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

#[test]
fn a_group_of_two_is_made_fails_over_and_gets_whole_again() -> Result<()> {
    as_postgres(
        "a_group_of_two_is_made_fails_over_and_gets_whole_again",
        group_of_two,
    )
}

#[test]
fn a_lost_primary_that_was_alone_is_replaced_by_the_operators_word() -> Result<()> {
    as_postgres(
        "a_lost_primary_that_was_alone_is_replaced_by_the_operators_word",
        a_lost_primary,
    )
}

#[test]
fn what_does_not_exist_is_refused() -> Result<()> {
    let program = mainstay_binary()?;
    let refused = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = Command::new(&program)
            .arg("pg_autoctl")
            .args(arguments)
            .env("HOME", "/nonexistent")
            .output()
            .context("run it")?;
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    };
    let (code, told) = refused(&[
        "create",
        "monitor",
        "--pgdata",
        "/nonexistent/m",
        "--store",
        "file",
    ])?;
    ensure!(code == Some(1) && told.contains("chainfire://HOST"), "{told}");
    let (code, told) = refused(&[
        "create",
        "postgres",
        "--pgdata",
        "/nonexistent/n",
        "--monitor",
        "x",
        "--no-ssl",
    ])?;
    ensure!(code == Some(1) && told.contains("--auth"), "{told}");
    let (code, told) = refused(&["show", "state"])?;
    ensure!(
        code == Some(1) && told.contains("--pgdata DIR or --monitor URI"),
        "{told}"
    );
    let (code, told) = refused(&["enable", "maintenance"])?;
    ensure!(code == Some(1) && told.contains("unrecognized"), "{told}");
    let (code, told) = refused(&["show", "state", "--monitor", "chainfire://127.0.0.1:1"])?;
    ensure!(code == Some(5) && told.contains("no answer"), "{told}");
    Ok(())
}
