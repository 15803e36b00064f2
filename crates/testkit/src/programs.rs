//! Real programs that judge ours, and the Debian package that holds each.

use std::path::PathBuf;

use anyhow::{Context, Result};
use lab::applets::find_program;

/// Program, package.
const PACKAGES: [(&str, &str); 26] = [
    ("amtool", "prometheus-alertmanager"),
    ("curl", "curl"),
    ("dpkg-deb", "dpkg"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    ("jq", "jq"),
    ("ldb", "rocksdb-tools"),
    ("nc", "netcat-openbsd"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("patroni", "patroni"),
    ("patronictl", "patroni"),
    ("prometheus", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("prometheus-blackbox-exporter", "prometheus-blackbox-exporter"),
    ("promtool", "prometheus"),
    ("psql", "postgresql-client"),
    ("python3", "python3"),
    ("redis-server", "redis-server"),
    ("setpriv", "util-linux"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("sshd", "openssh-server"),
    ("tar", "tar"),
    ("unbound", "unbound"),
    ("unshare", "util-linux"),
];

/// Path of a program.
///
/// # Errors
/// `etcd is not installed: apt-get install etcd-server`
pub fn require(program: &str) -> Result<PathBuf> {
    find_program(program).with_context(|| match PACKAGES.iter().find(|(name, _)| *name == program) {
        Some((_, package)) => format!("{program} is not installed: apt-get install {package}"),
        None => format!("{program} is not installed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_program_is_named() {
        assert!(require("sh").is_ok());
        assert_eq!(
            require("no-such-thing").unwrap_err().to_string(),
            "no-such-thing is not installed"
        );
    }

    #[test]
    fn packages_are_sorted_by_program() {
        assert!(PACKAGES.is_sorted());
    }
}
