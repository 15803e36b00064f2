//! The package on a real Debian: it installs, systemd runs Chainfire and qu from it, and purging leaves nothing.
//!
//! The package is the file that `MAINSTAY_TEST_DEB` names; `cargo xtask test` packs it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::path::PathBuf;
use std::time::Duration;

use lab::{Form, Host, HostSpec, Lab, Topology};
use testkit::wait_until;

/// A bare machine and the package, or the reason why there is none.
fn machine_and_package(packages: &[&str]) -> Result<(Lab, PathBuf), String> {
    let package = std::env::var_os("MAINSTAY_TEST_DEB").ok_or("MAINSTAY_TEST_DEB names no package")?;
    if let Some(reason) = lab::machines_missing() {
        return Err(reason);
    }
    let host = HostSpec {
        name: "node1".into(),
        services: vec![],
        packages: packages.iter().map(|name| (*name).to_owned()).collect(),
    };
    let lab = Lab::scoped(
        Topology {
            name: "package".into(),
            hosts: vec![host],
        },
        Form::Machine,
    )
    .unwrap();
    Ok((lab, package.into()))
}

#[track_caller]
fn ok(host: &Host<'_>, line: &str) -> String {
    let output = host.run(line).unwrap();
    assert_eq!(
        output.code,
        0,
        "{line}: {output:?}\n{}{}",
        host.logs("chainfire").unwrap_or_default(),
        host.logs("quptime").unwrap_or_default()
    );
    output.stdout
}

/// The timer's service saves, and the runbook's lines bring it back.
fn backed_up_and_restored(host: &Host<'_>) {
    assert_eq!(
        host.run("systemctl is-enabled chainfire-backup.timer")
            .unwrap()
            .stdout,
        "disabled\n"
    );
    ok(host, "systemctl enable --now chainfire-backup.timer");
    assert_eq!(ok(host, "systemctl is-active chainfire-backup.timer"), "active\n");
    ok(
        host,
        "for n in 0 1 2 3 4 5 6; do : > /var/backups/chainfire/chainfire-2020010${n}T000000Z.tar.gz; done",
    );
    ok(host, "systemctl start chainfire-backup.service");
    // The newest seven are kept.
    assert_eq!(ok(host, "ls /var/backups/chainfire/*.tar.gz | wc -l"), "7\n");
    assert_eq!(
        ok(
            host,
            "stat -c '%U %a' $(ls -t /var/backups/chainfire/*.tar.gz | head -1)"
        ),
        "chainfire 600\n"
    );
    ok(host, "chainfire-client put hello changed");
    ok(
        host,
        "systemctl stop chainfire && mv /var/lib/chainfire /var/lib/chainfire.corrupted && mkdir -p /var/lib/chainfire && \
         tar -xzf $(ls -t /var/backups/chainfire/*.tar.gz | head -1) -C /var/lib/chainfire --strip-components=1 && \
         chown -R chainfire:chainfire /var/lib/chainfire && systemctl start chainfire",
    );
    assert_eq!(ok(host, "chainfire-client get hello"), "hello\nworld\n");
    assert!(
        ok(host, "journalctl -u chainfire").contains("Data restored from a snapshot"),
        "the server tells that it begins with restored data"
    );
}

#[test]
fn installed_package_runs_under_systemd_and_is_purged_without_trace() {
    // `adduser` is what the package needs beyond the base system.
    let (lab, package) = match machine_and_package(&["adduser"]) {
        Ok(made) => made,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let host = lab.host("node1").unwrap();
    host.install_deb(&package).unwrap();

    // Installed and not started.
    assert_eq!(
        host.run("systemctl is-active chainfire").unwrap().stdout,
        "inactive\n"
    );
    ok(
        &host,
        "chainfire --check-config --config /etc/centra-cloud/chainfire.toml",
    );

    // The unit is of type notify: `start` returns when the server says that it serves.
    ok(&host, "systemctl start chainfire");
    assert_eq!(ok(&host, "chainfire-client put hello world"), "OK\n");
    assert_eq!(ok(&host, "chainfire-client get hello"), "hello\nworld\n");
    assert_eq!(ok(&host, "ps -o user= -C chainfire"), "chainfire\n");
    assert_eq!(ok(&host, "stat -c '%U %a' /var/lib/chainfire"), "chainfire 700\n");

    // systemd brings it back after SIGKILL, with everything that was acknowledged.
    let pid = ok(&host, "systemctl show -P MainPID chainfire");
    host.kill("chainfire").unwrap();
    wait_until(Duration::from_secs(30), "systemd to restart chainfire", || {
        host.run("systemctl show -P MainPID chainfire").unwrap().stdout != pid
            && host.run("systemctl is-active chainfire").unwrap().stdout == "active\n"
    });
    assert_eq!(ok(&host, "chainfire-client get hello"), "hello\nworld\n");

    backed_up_and_restored(&host);

    // A clean stop is a success, and so is a boot with the service enabled after a power cut.
    ok(
        &host,
        "systemctl enable chainfire && systemctl restart chainfire && systemctl stop chainfire",
    );
    assert_eq!(ok(&host, "systemctl show -P Result chainfire"), "success\n");
    ok(&host, "systemctl start chainfire");
    ok(&host, "chainfire-client put after restart");
    host.kill_power().unwrap();
    host.boot().unwrap();
    wait_until(
        Duration::from_secs(30),
        "chainfire to serve after the boot",
        || host.run("chainfire-client get after").unwrap().stdout == "after\nrestart\n",
    );

    ok(&host, "DEBIAN_FRONTEND=noninteractive dpkg --purge mainstay");
    assert_ne!(
        host.run("systemctl cat chainfire").unwrap().code,
        0,
        "the unit is gone"
    );
    assert_eq!(
        host.run("systemctl is-active chainfire").unwrap().stdout,
        "inactive\n"
    );
    for gone in [
        "/usr/bin/chainfire",
        "/usr/bin/mainstay",
        "/etc/centra-cloud/chainfire.toml",
    ] {
        assert_ne!(
            host.run(&format!("test -e {gone}")).unwrap().code,
            0,
            "{gone} is still there"
        );
    }
}

/// Which sets of capabilities hold CAP_NET_RAW, of the daemon that runs.
fn capabilities(host: &Host<'_>) -> String {
    let line = "grep -E '^Cap(Prm|Eff|Bnd|Amb):' /proc/$(systemctl show -P MainPID quptime)/status";
    ok(host, line).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn installed_qu_runs_under_systemd_and_is_replaced_by_a_copy_in_usr_local() {
    let packages = ["adduser", "libcap2-bin", "sudo"];
    let (lab, package) = match machine_and_package(&packages) {
        Ok(made) => made,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let host = lab.host("node1").unwrap();
    host.install_deb(&package).unwrap();
    assert_eq!(ok(&host, "stat -c '%U %a' /etc/quptime"), "quptime 700\n");
    assert_eq!(ok(&host, "readlink -f /usr/local/bin/qu"), "/usr/bin/mainstay\n");
    assert_ne!(
        host.run("sudo -u quptime qu status").unwrap().code,
        0,
        "nothing runs"
    );

    // As an operator does it: sudo clears the environment, and the directory and the socket are found nevertheless.
    let made = ok(
        &host,
        "sudo -u quptime qu init --advertise node1:9901 --secret s3cret",
    );
    assert!(made.contains("/etc/quptime"), "{made}");
    ok(&host, "systemctl start quptime");
    let status = ok(&host, "sudo -u quptime qu status");
    assert!(status.contains("quorum     true (need 1)"), "{status}");
    assert_eq!(ok(&host, "ps -o user= -C qu"), "quptime\n");
    assert_eq!(
        ok(
            &host,
            "stat -c '%U %a' /run/quptime/quptime.sock /etc/quptime/node.yaml"
        ),
        "quptime 600\nquptime 600\n"
    );
    let raw =
        "CapPrm: 0000000000002000 CapEff: 0000000000002000 CapBnd: 0000000000002000 CapAmb: 0000000000002000";
    assert_eq!(capabilities(&host), raw);
    ok(
        &host,
        "sudo -u quptime qu check add icmp self 127.0.0.1 --interval 1s --timeout 1s",
    );
    wait_until(Duration::from_secs(30), "the icmp check to be up", || {
        let status = ok(&host, "sudo -u quptime qu status");
        status
            .lines()
            .any(|line| line.contains(" self ") && line.contains(" up "))
    });

    // The recipe for upgrades by hand: what lies in /usr/local/bin runs, with a capability of its own, and the package's program is
    // not touched.
    let before = ok(&host, "sha256sum /usr/bin/mainstay");
    ok(&host, "cp /usr/bin/mainstay qu-new && printf x >> qu-new");
    ok(
        &host,
        "systemctl stop quptime && install -m 0755 qu-new /usr/local/bin/qu && setcap cap_net_raw=+ep /usr/local/bin/qu && systemctl start quptime",
    );
    assert_eq!(
        ok(&host, "readlink /proc/$(systemctl show -P MainPID quptime)/exe"),
        "/usr/local/bin/qu\n"
    );
    assert!(
        capabilities(&host).contains("CapEff: 0000000000002000"),
        "{}",
        capabilities(&host)
    );
    assert_eq!(ok(&host, "sha256sum /usr/bin/mainstay"), before);
    ok(&host, "sudo -u quptime qu status");
    // And back to the package's.
    ok(&host, "rm /usr/local/bin/qu && systemctl restart quptime");
    assert_eq!(
        ok(&host, "readlink /proc/$(systemctl show -P MainPID quptime)/exe"),
        "/usr/bin/mainstay\n"
    );

    // A hung daemon is ended and started by the watchdog; that takes too long for a test, so only that systemd waits for signs of life.
    assert_eq!(ok(&host, "systemctl show -P WatchdogUSec quptime"), "30s\n");
    let pid = ok(&host, "systemctl show -P MainPID quptime");
    host.kill("quptime").unwrap();
    wait_until(Duration::from_secs(30), "systemd to restart quptime", || {
        host.run("systemctl show -P MainPID quptime").unwrap().stdout != pid
            && host.run("systemctl is-active quptime").unwrap().stdout == "active\n"
    });
    // Files that root has put there do not keep it from starting.
    ok(
        &host,
        "systemctl stop quptime && chown root:root /etc/quptime/* && systemctl start quptime",
    );
    ok(&host, "systemctl stop quptime");
    assert_eq!(ok(&host, "systemctl show -P Result quptime"), "success\n");

    ok(
        &host,
        "ln -s /usr/bin/qu /usr/local/bin/qu && DEBIAN_FRONTEND=noninteractive dpkg --purge mainstay",
    );
    for gone in ["/etc/quptime", "/usr/bin/qu", "/usr/local/bin/qu", "/run/quptime"] {
        assert_ne!(
            host.run(&format!("test -e {gone} || test -L {gone}"))
                .unwrap()
                .code,
            0,
            "{gone} is still there"
        );
    }
    assert_ne!(
        host.run("getent passwd quptime").unwrap().code,
        0,
        "the user is gone"
    );
}
