//! The lab's own network: a namespace that holds a bridge, and packet filter rules for cuts.
//!
//! Addresses are from 198.18.0.0/24, set aside for benchmarks by RFC 2544, and exist in the namespace alone.
//! A cut is a drop rule on the bridge, so nothing is installed in the machines and packets vanish without an error, as
//! in a real partition; both directions are separate rules.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};

use super::tool;
use crate::address::HOSTS_MAX;

/// Address of the bridge.
const BRIDGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Name of the bridge inside the namespace.
pub(super) const BRIDGE_NAME: &str = "br0";

/// Address of the host with this index: 198.18.0.11 and on.
pub(crate) fn host_address(index: usize) -> Result<Ipv4Addr> {
    ensure!(index < HOSTS_MAX, "too many hosts: a lab has at most {HOSTS_MAX}");
    Ok(Ipv4Addr::new(198, 18, 0, 11 + index as u8))
}

/// The file that stands for a named network namespace.
pub(super) fn file(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

pub(super) fn create(name: &str) -> Result<()> {
    tool("ip", &["netns", "add", name])?;
    let bridge = format!("{BRIDGE}/24");
    run(name, &["ip", "link", "set", "lo", "up"])?;
    run(name, &["ip", "link", "add", BRIDGE_NAME, "type", "bridge"])?;
    run(name, &["ip", "addr", "add", &bridge, "dev", BRIDGE_NAME])?;
    run(name, &["ip", "link", "set", BRIDGE_NAME, "up"])?;
    run(
        name,
        &[
            "nft",
            "add table bridge lab { chain forward { type filter hook forward priority 0; policy accept; }; }",
        ],
    )
}

pub(super) fn delete(name: &str) -> Result<()> {
    if !file(name).exists() {
        return Ok(());
    }
    tool("ip", &["netns", "delete", name]).map(drop)
}

/// Gives a booted machine its address. Done from outside, so the machine needs no network service.
pub(super) fn set_address(leader: u32, address: Ipv4Addr) -> Result<()> {
    let (leader, address, via) = (leader.to_string(), format!("{address}/24"), BRIDGE.to_string());
    let inside = |words: &[&str]| tool("nsenter", &[&["-t", &leader, "-n", "ip"], words].concat()).map(drop);
    inside(&["addr", "replace", &address, "dev", "host0"])?;
    inside(&["link", "set", "host0", "up"])?;
    inside(&["route", "replace", "default", "via", &via])
}

/// Drops every packet from one address to another.
pub(crate) fn cut(name: &str, from: Ipv4Addr, to: Ipv4Addr) -> Result<()> {
    run(
        name,
        &[
            "nft",
            &format!("add rule bridge lab forward ip saddr {from} ip daddr {to} drop"),
        ],
    )
}

/// Removes every cut.
pub(crate) fn heal(name: &str) -> Result<()> {
    run(name, &["nft", "flush chain bridge lab forward"])
}

/// Removes the end of a machine's cable that is left in the lab's network when its power was cut: the kernel does so too, but in its own
/// time, and until then the machine cannot be started again.
pub(crate) fn unplug(name: &str, machine: &str) {
    // The name is longer than interfaces may be called; systemd-nspawn keeps it as the alternative one. Mostly there is none.
    drop(run(
        name,
        &["ip", "link", "delete", "dev", &format!("vb-{machine}")],
    ));
}

fn run(name: &str, words: &[&str]) -> Result<()> {
    let namespace = format!("--net={}", file(name).display());
    tool("nsenter", &[&[namespace.as_str()], words].concat()).map(drop)
}

/// Calls `look` in the lab's network, on a thread of its own because a thread cannot be trusted to come back from
/// another namespace.
pub(super) fn inside<T: Send>(name: &str, look: impl FnOnce() -> T + Send) -> Result<T> {
    let path = file(name);
    let namespace = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("cannot enter network namespace {name}"))?;
                Ok(look())
            })
            .join()
            .map_err(|_| anyhow!("a look into network namespace {name} has panicked"))?
    })
}
