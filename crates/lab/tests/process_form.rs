//! The process form with a real daemon: Debian's etcd.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use lab::{ConfigFile, Form, HostSpec, Lab, Options, Ownership, Program, Readiness, ServiceSpec, Topology};

fn etcd() -> ServiceSpec {
    ServiceSpec {
        name: "etcd".into(),
        program: Program::Path("etcd".into()),
        args: vec!["--config-file".into(), "{config_dir}/etcd.yaml".into()],
        env: BTreeMap::new(),
        config: Some(ConfigFile {
            name: "etcd.yaml".into(),
            contents: "name: {host}\ndata-dir: {data_dir}\n\
                       listen-client-urls: http://{address}:2379\nadvertise-client-urls: http://{address}:2379\n\
                       listen-peer-urls: http://{address}:2380\n\
                       initial-advertise-peer-urls: http://{address}:2380\n\
                       initial-cluster: {host}=http://{address}:2380\n"
                .into(),
        }),
        ready: Readiness::Http { port: 2379, path: "/health".into() },
        host_env: [("ETCDCTL_API", "3"), ("ETCDCTL_ENDPOINTS", "http://{address}:2379")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        machine_config_dir: "/etc".into(),
        machine_data_dir: "/var/lib/etcd".into(),
    }
}

fn topology(hosts: &[&str], service: &ServiceSpec) -> Topology {
    let host = |name: &&str| HostSpec {
        name: (*name).to_owned(),
        services: vec![service.clone()],
        packages: vec![],
    };
    Topology {
        name: "etcds".into(),
        hosts: hosts.iter().map(host).collect(),
    }
}

fn options(dir: &std::path::Path, ownership: Ownership) -> Options {
    Options {
        dir: dir.to_owned(),
        form: Form::Process,
        ownership,
        addresses: lab::address::AddressBlock::free().expect("a free block"),
        progress: Box::new(|_| {}),
        interrupted: std::sync::Arc::default(),
    }
}

#[test]
fn hosts_have_default_ports_for_themselves_and_data_survives_sigkill() {
    let lab = Lab::scoped(topology(&["node1", "node2"], &etcd()), Form::Process).unwrap();
    let (one, two) = (lab.host("node1").unwrap(), lab.host("node2").unwrap());
    assert_ne!(one.address().unwrap(), two.address().unwrap());

    assert_eq!(one.run("etcdctl put hello world").unwrap().stdout, "OK\n");
    assert_eq!(
        two.run("etcdctl get hello").unwrap().stdout,
        "",
        "each host has its own store"
    );

    assert_eq!(
        one.run("echo $HOST_NAME $HOST_ADDR").unwrap().stdout,
        format!("node1 {}\n", one.address().unwrap())
    );
    assert_eq!(
        one.run_within("sleep 60", Duration::from_secs(1)).unwrap().code,
        124
    );

    one.kill("etcd").unwrap();
    let refused = one.run("etcdctl --command-timeout=1s get hello").unwrap();
    assert_ne!(refused.code, 0);
    assert_eq!(
        one.kill("etcd").unwrap_err().to_string(),
        "etcd does not run on node1"
    );
    one.start("etcd").unwrap();
    assert_eq!(one.run("etcdctl get hello").unwrap().stdout, "hello\nworld\n");
    assert!(
        one.logs("etcd")
            .unwrap()
            .contains("ready to serve client requests")
    );

    two.kill_power().unwrap();
    assert!(two.state().unwrap().services[0].process().is_none());
    let error = lab.cut("node1", "node2").unwrap_err().to_string();
    assert!(error.contains("use --form machine"), "{error}");

    let dir = lab.dir().to_owned();
    let processes: Vec<_> = lab.state().unwrap().leftovers().collect();
    assert_eq!(processes.len(), 1);
    drop(lab);
    assert!(!processes[0].is_alive());
    assert!(!dir.exists(), "a passed test leaves nothing behind");
}

#[test]
fn early_end_shows_the_log_and_keeps_the_directory() {
    let mut broken = etcd();
    broken.args.push("--no-such-flag".into());
    let error = Lab::scoped(topology(&["node1"], &broken), Form::Process).unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("etcd on node1 ended early (exit status: "),
        "{text}"
    );
    assert!(
        text.ends_with("Run the stateless etcd v3 gRPC L7 reverse proxy."),
        "its log comes last: {text}"
    );
    let dir = text
        .strip_prefix("logs and data are kept in ")
        .and_then(|rest| rest.split(": ").next())
        .unwrap();
    assert!(
        std::path::Path::new(dir).join("node1/logs/etcd.log").is_file(),
        "{text}"
    );
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn second_start_is_refused_and_leftovers_of_a_crash_are_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let first = Lab::up(
        topology(&["node1"], &etcd()),
        options(dir.path(), Ownership::Detached),
    )
    .unwrap();
    first.host("node1").unwrap().run("etcdctl put kept yes").unwrap();
    let process = first.state().unwrap().leftovers().next().unwrap();
    drop(first);
    assert!(process.is_alive(), "a detached lab outlives the value");

    let error = Lab::up(
        topology(&["node1"], &etcd()),
        options(dir.path(), Ownership::Detached),
    )
    .unwrap_err();
    assert!(
        error.to_string().starts_with("lab etcds is already running in "),
        "{error}"
    );

    // As after a crash of a foreground lab: its owner is gone, its service is not.
    let mut crashed = lab::state::LabState::read(dir.path()).unwrap().unwrap();
    crashed.owner = Some(lab::pid::ProcessRef {
        pid: process.pid,
        start_time: process.start_time - 1,
    });
    crashed.write(dir.path()).unwrap();
    let second = Lab::up(
        topology(&["node1"], &etcd()),
        options(dir.path(), Ownership::Foreground),
    )
    .unwrap();
    assert!(!process.is_alive(), "the leftover was stopped");
    let got = second.host("node1").unwrap().run("etcdctl get kept").unwrap();
    assert_eq!(got.stdout, "kept\nyes\n", "data is kept between runs");

    let opened = Lab::open(dir.path()).unwrap();
    opened.host("node1").unwrap().stop("etcd").unwrap();
    opened.host("node1").unwrap().start("etcd").unwrap();
    drop(opened);
    let process = second.state().unwrap().leftovers().next().unwrap();
    assert!(process.is_alive(), "dropping an opened lab stops nothing");
    drop(second);
    assert!(process.ends_within(Duration::from_secs(1)));
    assert!(Lab::open(dir.path()).is_err());
}

#[test]
fn members_of_a_cluster_are_told_each_others_addresses_and_started_together() {
    // Not one of three is healthy before a second runs.
    let mut member = etcd();
    let config = member.config.as_mut().unwrap();
    let all = "initial-cluster: node1=http://{address:node1}:2380,node2=http://{address:node2}:2380,node3=http://{address:node3}:2380\n";
    config.contents = config
        .contents
        .replace("initial-cluster: {host}=http://{address}:2380\n", all);
    let lab = Lab::scoped(topology(&["node1", "node2", "node3"], &member), Form::Process).unwrap();
    let (one, three) = (lab.host("node1").unwrap(), lab.host("node3").unwrap());
    assert_eq!(one.run("etcdctl put hello world").unwrap().stdout, "OK\n");
    assert_eq!(three.run("etcdctl get hello").unwrap().stdout, "hello\nworld\n");

    // All of them down, the first comes back without being waited for.
    for host in lab.hosts() {
        host.kill("etcd").unwrap();
    }
    one.launch("etcd").unwrap();
    assert_eq!(one.condition("etcd").unwrap(), lab::Condition::NotReady);
    three.start("etcd").unwrap();
    assert_eq!(three.run("etcdctl get hello").unwrap().stdout, "hello\nworld\n");
}

#[test]
fn the_member_that_ends_early_is_the_one_that_is_told_about() {
    let mut hosts = topology(&["node1", "node2"], &etcd());
    hosts.hosts[1].services[0].args.push("--no-such-flag".into());
    // Never ready, so that the wait would last.
    hosts.hosts[0].services[0].ready = Readiness::Http {
        port: 2379,
        path: "/nothing".into(),
    };
    let text = format!("{:#}", Lab::scoped(hosts, Form::Process).unwrap_err());
    assert!(
        text.contains("etcd on node2 ended early (exit status: "),
        "{text}"
    );
    let dir = text
        .strip_prefix("logs and data are kept in ")
        .and_then(|rest| rest.split(": ").next())
        .unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}
