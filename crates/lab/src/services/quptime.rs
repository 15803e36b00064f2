//! qu as a service of the lab: a node on every host, a sink for its alerts on the first one, and checks of the lab's own services.
//!
//! The nodes initialise themselves from their environment; what makes them a cluster with something to watch is a handful of commands
//! that [`set_up`] types once, as an operator would.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{chainfire, sink};
use crate::host::Host;
use crate::lab::Lab;
use crate::topology::{Program, Readiness, ServiceSpec, Topology};
use crate::wait;

/// Between nodes.
pub const PORT: u16 = 9901;
/// Fewer nodes cannot lose one and go on.
pub const NODES_MIN: u32 = 3;
/// The lab is nobody's secret.
const SECRET: &str = "the lab's";
/// How long the nodes may take to elect a master and to let another one in.
const LIMIT: Duration = Duration::from_secs(30);

/// One node, which knows nobody yet.
fn service() -> ServiceSpec {
    let variables = [
        ("QUPTIME_DIR", "{data_dir}/etc"),
        ("QUPTIME_SOCKET", "{data_dir}/qu.sock"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let own = [
        ("QUPTIME_ADVERTISE", format!("{{address}}:{PORT}")),
        ("QUPTIME_BIND_ADDR", "{address}".to_owned()),
        ("QUPTIME_CLUSTER_SECRET", SECRET.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    ServiceSpec {
        name: "quptime".into(),
        program: Program::Applet("qu".into()),
        args: vec!["serve".into()],
        env: variables.clone().into_iter().chain(own).collect(),
        config: None,
        ready: Readiness::Tcp { port: PORT },
        host_env: variables.into(),
        machine_config_dir: "/etc".into(),
        machine_data_dir: "/var/lib/lab-quptime".into(),
    }
}

/// Adds a node to every host, after what it watches, and the sink to the first one.
pub fn watch(topology: &mut Topology) {
    if let Some(first) = topology.hosts.first_mut() {
        first.services.push(sink::service());
    }
    for host in &mut topology.hosts {
        host.services.push(service());
    }
}

/// Makes the nodes of a lab one cluster that watches every Chainfire and tells the sink. Does nothing where that was done before, and
/// nothing in a lab without qu.
///
/// # Errors
/// A command failed.
pub fn set_up(lab: &Lab) -> Result<()> {
    let names: Vec<String> = lab
        .hosts()
        .filter(|host| {
            host.spec()
                .is_ok_and(|spec| spec.services.iter().any(|service| service.name == "quptime"))
        })
        .map(|host| host.name().to_owned())
        .collect();
    let Some(first) = names.first() else {
        return Ok(());
    };
    let first = lab.host(first)?;
    // A cluster of an earlier run elects its master first.
    wait::until(LIMIT, "qu to have a master", || {
        ensure!(!lab.is_interrupted(), "interrupted");
        Ok((first.run("qu status")?.code == 0).then_some(()))
    })?;
    if said(&first, "qu alert list")?.contains("sink") {
        return whole(lab, &first);
    }
    for name in &names[1..] {
        let address = lab.host(name)?.address()?;
        said(&first, &format!("qu node add -y {address}:{PORT}"))?;
    }
    for name in &names {
        let address = lab.host(name)?.address()?;
        let target = format!("http://{address}:{}/healthz", chainfire::API_PORT);
        said(
            &first,
            &format!("qu check add http chainfire-{name} {target} --interval 2s --timeout 2s"),
        )?;
    }
    let address = first.address()?;
    // Last, because it tells that everything was done.
    said(
        &first,
        &format!(
            "qu alert add webhook sink --url http://{address}:{}/ --default",
            sink::PORT
        ),
    )?;
    whole(lab, &first)
}

/// Waits until every node is heard and votes: only then may one of them be lost.
fn whole(lab: &Lab, first: &Host<'_>) -> Result<()> {
    wait::until(LIMIT, "all nodes of qu to vote", || {
        ensure!(!lab.is_interrupted(), "interrupted");
        let status = first.run("qu status")?;
        let missing = status.stdout.lines().any(|line| {
            line.starts_with("joining:") || line.split_ascii_whitespace().any(|word| word == "false")
        });
        Ok((status.code == 0 && !missing).then_some(()))
    })
}

fn said(host: &Host<'_>, line: &str) -> Result<String> {
    let output = host.run(line)?;
    ensure!(
        output.code == 0,
        "cannot set up qu: {line}: {}",
        output.stderr.trim()
    );
    Ok(output.stdout)
}
