//! Debian packages that building and testing need, and how they come onto the machine.
//!
//! A second run costs one `dpkg-query`; the package lists are fetched only when something is missing. Nothing is ever removed or
//! upgraded.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// What a build needs beyond the Rust toolchain: the C++ compiler and linker, and libclang for RocksDB's bindings.
pub(crate) const BUILD: &[&str] = &["clang", "libclang-dev", "mold", "pkg-config"];

/// What the steps of runbooks call on a host of the lab.
pub(crate) const LAB: &[&str] = &["curl", "procps"];

/// What building the tests needs: the third-party etcd client that they run compiles its protocol files itself.
pub(crate) const BUILD_TESTS: &[&str] = &["libprotobuf-dev", "protobuf-compiler"];

/// What the tests run against or judge us by.
pub(crate) const TEST: &[&str] = &[
    "curl",
    "debootstrap",
    "etcd-client",
    "etcd-server",
    "iproute2",
    "jq",
    "nftables",
    "nginx-light",
    "openssh-server",
    "openssl",
    "patroni",
    "postgresql-15",
    "procps",
    "prometheus",
    "prometheus-alertmanager",
    "prometheus-blackbox-exporter",
    "python3-aiosmtpd",
    "python3-venv",
    "redis-server",
    "rocksdb-tools",
    "systemd-container",
    "tmux",
    "unbound",
];

/// What the Chainfire benchmark compares with.
pub(crate) const BENCH_CHAINFIRE: &[&str] = &["etcd-server"];

/// What the benchmark of qu compares with.
pub(crate) const BENCH_QU: &[&str] = &["prometheus", "prometheus-blackbox-exporter"];

/// What a trial of Chainfire takes: the rival for calibration, networks to cut.
pub(crate) const TRIAL_CHAINFIRE: &[&str] = &["etcd-server", "iproute2", "nftables"];

/// What a trial of qu takes: a mail server that is told, networks to cut.
pub(crate) const TRIAL_QU: &[&str] = &["iproute2", "nftables", "python3-aiosmtpd"];

/// Packages of ours that come with a running service, and its unit.
const SERVICES: &[(&str, &str)] = &[
    ("etcd-server", "etcd.service"),
    ("nginx-light", "nginx.service"),
    ("openssh-server", "ssh.service"),
    ("patroni", "patroni.service"),
    ("postgresql-15", "postgresql.service"),
    ("prometheus", "prometheus.service"),
    ("prometheus-alertmanager", "prometheus-alertmanager.service"),
    (
        "prometheus-blackbox-exporter",
        "prometheus-blackbox-exporter.service",
    ),
    ("redis-server", "redis-server.service"),
    ("unbound", "unbound.service"),
];

/// Installs those of `wanted` that are missing. Without root and without passwordless sudo it fails with the line to type.
pub(crate) fn ensure(wanted: &[&str]) -> Result<()> {
    let missing = missing(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let by_hand = format!("apt-get update && apt-get install --no-install-recommends {names}");
    let prefix: &[&str] = if is_root()? {
        &[]
    } else if process::succeeds(Command::new("sudo").args(["-n", "true"])) {
        &["sudo", "-n"]
    } else {
        bail!("install {names}: neither root nor passwordless sudo; as root, run\n  {by_hand}");
    };
    eprintln!("installing {names}");
    let apt = |arguments: &[&str]| {
        let mut command = privileged(
            prefix,
            &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"],
        );
        process::run(command.args(arguments))
    };
    apt(&["update"])?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install).with_context(|| format!("install {names}; by hand: {by_hand}"))?;

    // Debian starts a service as soon as its package is there. The tests start their own, and the ports belong to the person.
    for (_, unit) in SERVICES.iter().filter(|(package, _)| missing.contains(package)) {
        if Path::new("/run/systemd/system").is_dir() {
            eprintln!("stopping and disabling {unit}, which came with its package; tests start their own");
            process::run(&mut privileged(
                prefix,
                &["systemctl", "disable", "--now", "--quiet", unit],
            ))?;
        }
    }
    Ok(())
}

/// A command that runs with the rights that `prefix` gives.
fn privileged(prefix: &[&str], words: &[&str]) -> Command {
    let words: Vec<&str> = prefix.iter().chain(words).copied().collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    // Progress of these tools is of no use in a log; stdout belongs to results.
    command.stdout(Stdio::null());
    command
}

/// Those of `wanted` that dpkg does not report as installed.
fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f=${Package} ${db:Status-Status}\n"])
        .args(wanted)
        .output()
        .context(
            "look for installed packages: dpkg-query did not start; these commands expect a Debian machine",
        )?;
    // It exits 1 when it does not know some of the names; the lines for the others are still there.
    let listing = String::from_utf8_lossy(&output.stdout);
    Ok(missing_from(&listing, wanted))
}

fn missing_from<'a>(listing: &str, wanted: &[&'a str]) -> Vec<&'a str> {
    let installed: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    wanted
        .iter()
        .copied()
        .filter(|name| !installed.contains(name))
        .collect()
}

fn is_root() -> Result<bool> {
    Ok(process::read(Command::new("id").arg("-u"))? == "0")
}

#[cfg(test)]
mod tests {
    use super::missing_from;

    #[test]
    fn a_removed_package_with_leftover_configuration_is_missing() {
        let listing = "clang installed\nmold config-files\npkg-config installed\npkg-config installed\n";
        assert_eq!(
            missing_from(listing, &["clang", "mold", "pkg-config", "jq"]),
            ["mold", "jq"]
        );
    }
}
