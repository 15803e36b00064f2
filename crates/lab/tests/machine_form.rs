//! The machine form, booted for real. Without root, or where machines cannot start, the test says so in one line
//! that begins with `skipped: `, which the closing summary of `cargo xtask test` counts.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::{Condition, Form, Host, HostSpec, Lab, Program, Readiness, ServiceSpec, Topology, wait};

/// A service that answers on a port, made of what a bare Debian has.
fn greeter() -> ServiceSpec {
    ServiceSpec {
        name: "greeter".into(),
        program: Program::Path("systemd-socket-activate".into()),
        args: [
            "-l",
            "{address}:7000",
            "--inetd",
            "-E",
            "GREETER",
            "-a",
            "sh",
            "-c",
            "cat {config_dir}/greeting; echo $GREETER",
        ]
        .map(str::to_owned)
        .into(),
        env: [("GREETER".to_owned(), "100% {host}".to_owned())].into(),
        config: Some(lab::ConfigFile {
            name: "greeting".into(),
            contents: "this is {host} at {address}\n".into(),
        }),
        ready: Readiness::Tcp { port: 7000 },
        host_env: [("GREETER_ADDRESS".to_owned(), "{address}:7000".to_owned())].into(),
        machine_config_dir: "/etc/greeter".into(),
        machine_data_dir: "/var/lib/greeter".into(),
    }
}

fn topology() -> Topology {
    let host = |name: &str| HostSpec {
        name: name.into(),
        services: vec![greeter()],
        packages: vec![],
    };
    Topology {
        name: "machines".into(),
        hosts: vec![host("node1"), host("node2")],
    }
}

/// Starts the topology, or prints why machines cannot be started here.
fn machines() -> Option<Lab> {
    if let Some(reason) = lab::machines_missing() {
        println!("skipped: {reason}");
        return None;
    }
    Some(Lab::scoped(topology(), Form::Machine).unwrap())
}

fn ok(host: &Host<'_>, line: &str) -> String {
    let output = host.run(line).unwrap();
    assert_eq!(output.code, 0, "{line}: {output:?}");
    output.stdout
}

/// Asks the greeter of another host.
fn greet(from: &Host<'_>, to: &str) -> lab::Output {
    from.run(&format!(
        "timeout 2 bash -c 'exec 3<>/dev/tcp/{to}/7000; cat <&3'"
    ))
    .unwrap()
}

/// Sends a datagram to a port on which nobody listens; the receiver's kernel counts it.
fn datagram(from: &Host<'_>, to: &str) {
    ok(from, &format!("bash -c 'echo x > /dev/udp/{to}/9'"));
}

fn datagrams_received(host: &Host<'_>) -> u64 {
    ok(host, "awk '/^Udp: [0-9]/ {print $3}' /proc/net/snmp")
        .trim()
        .parse()
        .unwrap()
}

/// A package with a program and a unit.
fn build_package(folder: &Path) -> PathBuf {
    let root = folder.join("proof");
    for (file, text) in [
        (
            "DEBIAN/control",
            "Package: proof\nVersion: 1\nArchitecture: all\nMaintainer: lab <lab@localhost>\nDescription: proof\n",
        ),
        (
            "usr/bin/proof",
            "#!/bin/sh\necho proof of $(hostname) > /run/proof\nexec sleep infinity\n",
        ),
        (
            "lib/systemd/system/proof.service",
            "[Service]\nExecStart=/usr/bin/proof\n",
        ),
    ] {
        std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        std::fs::write(root.join(file), text).unwrap();
    }
    std::fs::set_permissions(
        root.join("usr/bin/proof"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let package = folder.join("proof_1_all.deb");
    let status = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-b"])
        .arg(&root)
        .arg(&package)
        .status()
        .unwrap();
    assert!(status.success());
    package
}

#[test]
fn machine_boots_and_runs_systemctl() {
    let Some(lab) = machines() else { return };
    let (one, two) = (lab.host("node1").unwrap(), lab.host("node2").unwrap());

    // A real Debian with a real systemd.
    println!(
        "systemctl is-system-running: {}",
        one.run("systemctl is-system-running").unwrap().stdout.trim()
    );
    assert_eq!(ok(&one, "systemctl is-system-running"), "running\n");
    assert_eq!(ok(&one, "hostname"), "node1\n");
    assert_eq!(ok(&one, "systemctl is-active greeter"), "active\n");
    assert_ne!(ok(&one, "cat /etc/machine-id"), ok(&two, "cat /etc/machine-id"));
    assert_eq!(
        ok(&one, "echo $GREETER_ADDRESS"),
        format!("{}:7000\n", one.address().unwrap())
    );
    assert!(one.logs("greeter").unwrap().contains("Listening on"));

    let status = one.run("systemctl status greeter --no-pager").unwrap();
    assert!(
        status.stdout.contains("/usr/bin/systemd-socket-activate"),
        "its process is listed: {status:?}"
    );
    assert_eq!(status.stderr, "");

    // Hosts reach each other by name, and their own addresses are nobody else's.
    assert_eq!(
        greet(&one, "node2").stdout,
        format!("this is node2 at {}\n100% node2\n", two.address().unwrap())
    );
    let outside = Command::new("ip").args(["-o", "addr"]).output().unwrap();
    let outside = String::from_utf8_lossy(&outside.stdout).into_owned();
    assert!(
        !outside.contains("198.18.0."),
        "the lab's network is its own: {outside}"
    );

    // Cut one way: what node1 sends is lost, what node2 sends arrives.
    lab.cut_one_way("node1", "node2").unwrap();
    let (before_one, before_two) = (datagrams_received(&one), datagrams_received(&two));
    datagram(&one, "node2");
    datagram(&two, "node1");
    let arrives = || Ok((datagrams_received(&one) == before_one + 1).then_some(()));
    wait::until(Duration::from_secs(10), "node2's datagram", arrives).unwrap();
    assert_eq!(
        datagrams_received(&two),
        before_two,
        "node1's datagram was dropped"
    );
    // Cut both ways, then heal.
    lab.cut("node1", "node2").unwrap();
    assert_eq!(greet(&one, "node2").code, 124, "packets vanish without an error");
    assert_eq!(greet(&two, "node1").code, 124);
    assert_eq!(greet(&one, "node1").code, 0, "a host reaches itself");
    lab.heal().unwrap();
    assert_eq!(greet(&one, "node2").code, 0);
    assert_eq!(greet(&two, "node1").code, 0);

    // A killed service is dead, and starts again.
    one.kill("greeter").unwrap();
    let dies = || Ok((one.condition("greeter")? == Condition::Dead).then_some(()));
    wait::until(Duration::from_secs(10), "greeter to be dead", dies).unwrap();
    one.start("greeter").unwrap();
    one.stop("greeter").unwrap();
    assert_eq!(
        one.run("systemctl is-active greeter").unwrap().stdout,
        "inactive\n"
    );

    // A package brings a unit.
    let folder = tempfile::tempdir().unwrap();
    one.install_deb(&build_package(folder.path())).unwrap();
    one.start("proof").unwrap();
    let proof = || Ok((one.run("cat /run/proof")?.stdout == "proof of node1\n").then_some(()));
    wait::until(Duration::from_secs(10), "the packaged service", proof).unwrap();
    ok(&one, "dpkg --purge proof");
    assert_ne!(one.run("systemctl cat proof").unwrap().code, 0);

    // A power cut ends everything at once; the disk stays.
    ok(&two, "echo kept > /root/kept; sync");
    let boot = ok(&two, "cat /proc/1/stat | cut -d' ' -f22");
    two.kill_power().unwrap();
    assert_eq!(two.run("true").unwrap_err().to_string(), "node2 is switched off");
    assert_ne!(greet(&one, "node2").code, 0);
    two.boot().unwrap();
    assert_eq!(ok(&two, "cat /root/kept"), "kept\n");
    assert_ne!(ok(&two, "cat /proc/1/stat | cut -d' ' -f22"), boot);
    assert_eq!(two.condition("greeter").unwrap(), Condition::Ready);
    assert_eq!(greet(&one, "node2").code, 0);

    // Nothing is left of it.
    let state = lab.state().unwrap();
    let network = state.network.clone().unwrap();
    let processes: Vec<_> = state.leftovers().collect();
    assert_eq!(processes.len(), 2);
    drop(lab);
    assert!(processes.iter().all(|process| !process.is_alive()));
    assert!(!Path::new("/run/netns").join(&network).exists());
    assert!(
        !std::fs::read_to_string("/proc/mounts")
            .unwrap()
            .contains(&network)
    );
}

#[test]
fn machines_form_a_cluster_that_outlives_a_cut_and_a_power_cut() {
    if let Some(reason) = lab::machines_missing() {
        println!("skipped: {reason}");
        return;
    }
    let lab = Lab::scoped(lab::services::chainfire::nodes(3), Form::Machine).unwrap();
    let (one, two, three) = (
        lab.host("node1").unwrap(),
        lab.host("node2").unwrap(),
        lab.host("node3").unwrap(),
    );
    ok(&one, "chainfire-client put hello world");
    let get = |host: &Host<'_>| ok(host, "chainfire-client get hello --print-value-only");
    assert_eq!(get(&three), "world\n");
    let endpoints = ok(&one, "echo $CHAINFIRE_ENDPOINT $ETCDCTL_ENDPOINTS");
    let address = one.address().unwrap();
    assert!(
        endpoints.starts_with(&format!("http://{address}:2379 http://{address}:2379,http://")),
        "{endpoints}"
    );

    // Cut off, the third finds that it has no leader, and the others go on.
    lab.cut("node3", "node1").unwrap();
    lab.cut("node3", "node2").unwrap();
    let alone = || {
        Ok((three
            .run("chainfire-client status | grep -x 'leader: none'")?
            .code
            == 0)
            .then_some(()))
    };
    wait::until(Duration::from_mins(1), "node3 to be alone", alone).unwrap();
    let goes_on = || Ok((one.run("chainfire-client put hello again")?.code == 0).then_some(()));
    wait::until(Duration::from_mins(1), "the others to go on", goes_on).unwrap();
    lab.heal().unwrap();
    let caught_up = || {
        Ok((three.run("chainfire-client get hello --print-value-only")?.stdout == "again\n").then_some(()))
    };
    wait::until(Duration::from_mins(1), "node3 to catch up", caught_up).unwrap();

    two.kill_power().unwrap();
    let goes_on = || Ok((one.run("chainfire-client put hello twice")?.code == 0).then_some(()));
    wait::until(Duration::from_mins(1), "the others to go on", goes_on).unwrap();
    two.boot().unwrap();
    assert_eq!(get(&two), "twice\n");
}
