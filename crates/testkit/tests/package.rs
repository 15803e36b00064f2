//! The package on a real Debian: it installs, systemd runs Chainfire from it, and purging leaves nothing.
//!
//! The package is the file that `MAINSTAY_TEST_DEB` names; `cargo xtask test` packs it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::path::PathBuf;
use std::time::Duration;

use lab::{Form, Host, HostSpec, Lab, Topology};
use testkit::wait_until;

/// A bare machine and the package, or the reason why there is none.
fn machine_and_package() -> Result<(Lab, PathBuf), String> {
    let package = std::env::var_os("MAINSTAY_TEST_DEB").ok_or("MAINSTAY_TEST_DEB names no package")?;
    if let Some(reason) = lab::machines_missing() {
        return Err(reason);
    }
    // `adduser` is what the package needs beyond the base system.
    let host = HostSpec {
        name: "node1".into(),
        services: vec![],
        packages: vec!["adduser".into()],
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

fn ok(host: &Host<'_>, line: &str) -> String {
    let output = host.run(line).unwrap();
    assert_eq!(
        output.code,
        0,
        "{line}: {output:?}\n{}",
        host.logs("chainfire").unwrap_or_default()
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
    let (lab, package) = match machine_and_package() {
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
