//! The runbooks of the examples, carried out against a Prometheus that has loaded the shipped rules.

use std::process::Command;
use std::time::Duration;

use testkit::{Output, Readiness, Server, mainstay_binary, require, wait_until};

use super::{dir, root, text};

#[test]
fn every_page_passes_while_nothing_burns() {
    let mut prometheus = Server::new(
        "prometheus",
        require("prometheus").unwrap(),
        Readiness::Http {
            port: 9090,
            path: "/-/ready".to_owned(),
        },
    )
    .unwrap();
    let address = format!("{}:9090", prometheus.address());
    let config = prometheus.dir().join("prometheus.yml");
    let rules = root("config/prometheus/slo.yml").canonicalize().unwrap();
    std::fs::write(&config, format!("rule_files: [{}]\n", text(&rules))).unwrap();
    prometheus.set_args([
        format!("--config.file={}", text(&config)),
        format!("--storage.tsdb.path={}", text(&prometheus.dir().join("data"))),
        format!("--web.listen-address={address}"),
    ]);
    prometheus.start().unwrap();

    let empty = dir();
    let pages = root("docs/runbooks");
    for page in [
        "api-availability-slo-burn",
        "api-latency-slo-burn",
        "payment-success-slo-burn",
    ] {
        let parameter = format!("PROMETHEUS=http://{address}");
        let arguments = [
            "runbook",
            "run",
            page,
            "--dir",
            text(&pages),
            "--param",
            &parameter,
            "--yes",
        ];
        let mut command = Command::new(mainstay_binary().unwrap());
        // No lab of the person who runs the tests may be found.
        command
            .env("XDG_STATE_HOME", empty.path())
            .env_remove("MAINSTAY_LAB");
        let told = Output::of(command.args(arguments)).unwrap().ok();
        assert!(told.contains("no traffic"), "{told}");
    }
    wait_until(Duration::from_mins(2), "the rules to be evaluated", || {
        let url = format!("http://{address}/api/v1/rules");
        let told = Output::of(Command::new(require("curl").unwrap()).args(["-fsS", &url]))
            .unwrap()
            .ok();
        told.matches("\"health\":\"ok\"").count() == 18
    });
}

/// Carries a page out; no lab of the person who runs the tests may be found.
fn carry_out(page: &str, parameters: &[(&str, String)]) -> Output {
    let (empty, pages) = (dir(), root("docs/runbooks"));
    let mut command = Command::new(mainstay_binary().unwrap());
    command
        .env("XDG_STATE_HOME", empty.path())
        .env_remove("MAINSTAY_LAB")
        .args(["runbook", "run", page, "--dir", text(&pages)]);
    for (name, value) in parameters {
        command.arg("--param").arg(format!("{name}={value}"));
    }
    Output::of(&mut command).unwrap()
}

#[test]
fn redis_is_found_well_and_then_away() {
    let ready = Readiness::Tcp { port: 6379 };
    let mut redis = Server::new("redis", require("redis-server").unwrap(), ready).unwrap();
    let address = redis.address().to_string();
    redis.set_args(["--bind", &address, "--port", "6379", "--save", ""]);
    redis.start().unwrap();
    let parameters = [("REDIS_HOST", address)];
    let told = carry_out("redis-down", &parameters).ok();
    assert!(told.contains("role:master"), "{told}");
    redis.kill9().unwrap();
    let told = carry_out("redis-down", &parameters);
    assert!(
        told.code == 1 && told.stdout.contains("Connection refused"),
        "{told:?}"
    );
}

#[test]
fn a_disk_with_room_passes() {
    let folder = dir();
    let told = carry_out("disk-full", &[("MOUNT", text(folder.path()).to_owned())]);
    // The machine of the test may be what the page is about: its last step alone says so.
    let steps = told.stdout.matches("looked").count();
    assert!(steps >= 2 && told.stdout.contains("IUse%"), "{told:?}");
}

#[test]
fn certificates_are_judged_by_what_is_served() {
    for (days, code) in [("90", 0), ("3", 1)] {
        let mut server = Server::new(
            "openssl",
            require("openssl").unwrap(),
            Readiness::Tcp { port: 4433 },
        )
        .unwrap();
        let folder = server.dir().to_owned();
        let mut command = Command::new(require("openssl").unwrap());
        command.current_dir(&folder).args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]);
        command.args([
            "-nodes",
            "-days",
            days,
            "-subj",
            "/CN=api.example.com",
            "-keyout",
            "key",
            "-out",
            "cert",
        ]);
        Output::of(&mut command).unwrap().ok();
        let address = server.address().to_string();
        let accept = format!("{address}:4433");
        server.set_args([
            "s_server", "-accept", &accept, "-cert", "cert", "-key", "key", "-quiet",
        ]);
        server.start().unwrap();
        let parameters = [
            ("CERT_HOST", address),
            ("CERT_PORT", "4433".to_owned()),
            ("CERT_NAME", "api.example.com".to_owned()),
        ];
        let told = carry_out("cert-expiring-soon", &parameters);
        assert_eq!(told.code, code, "{told:?}");
        assert!(
            told.stdout.contains("days are left") && told.stdout.contains("does match certificate"),
            "{told:?}"
        );
    }
}

/// The folder of PostgreSQL's programs, and what makes root run them as the user of Debian's package.
fn postgres_programs() -> (std::path::PathBuf, Vec<String>) {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is not installed: apt-get install postgresql-15");
    let folder = versions
        .map(|version| version.unwrap().path().join("bin"))
        .find(|folder| folder.join("initdb").exists())
        .expect("PostgreSQL is not installed: apt-get install postgresql-15");
    let change = [
        "setpriv",
        "--reuid",
        "postgres",
        "--regid",
        "postgres",
        "--init-groups",
    ];
    let id = Output::of(Command::new("id").arg("-u")).unwrap().ok();
    let is_root = id.trim() == "0";
    (
        folder,
        change
            .iter()
            .take(if is_root { 6 } else { 0 })
            .map(|word| (*word).to_owned())
            .collect(),
    )
}

#[test]
fn a_database_that_takes_writes_is_told_from_one_that_is_away() {
    let (programs, prefix) = postgres_programs();
    let mut server = Server::new(
        "postgres",
        programs.join("postgres"),
        Readiness::Tcp { port: 5432 },
    )
    .unwrap();
    let folder = server.dir().to_owned();
    if !prefix.is_empty() {
        Output::of(Command::new("chown").arg("postgres:").arg(&folder))
            .unwrap()
            .ok();
    }
    let line = |program: &str, more: &[&str]| {
        let path = text(&programs.join(program)).to_owned();
        let more = more.iter().map(|word| (*word).to_owned());
        prefix
            .iter()
            .cloned()
            .chain([path])
            .chain(more)
            .collect::<Vec<String>>()
    };
    let initdb = line(
        "initdb",
        &["-D", "data", "-A", "trust", "-U", "postgres", "--no-sync"],
    );
    Output::of(Command::new(&initdb[0]).args(&initdb[1..]).current_dir(&folder))
        .unwrap()
        .ok();
    let address = server.address().to_string();
    let postgres = line(
        "postgres",
        &[
            "-D",
            "data",
            "-h",
            &address,
            "-k",
            text(&folder),
            "-c",
            "shared_buffers=16MB",
        ],
    );
    let program = if prefix.is_empty() {
        programs.join("postgres")
    } else {
        require("setpriv").unwrap()
    };
    server.set_command(program, postgres[1..].to_vec());
    server.start().unwrap();
    let parameters = [(
        "DATABASE_URL",
        format!("postgres://postgres@{address}:5432/postgres"),
    )];
    wait_until(Duration::from_mins(1), "it to take connections", || {
        carry_out("db-failover", &parameters).code == 0
    });
    server.kill9().unwrap();
    let told = carry_out("db-failover", &parameters);
    assert!(
        told.code == 1 && told.stdout.contains("Connection refused"),
        "{told:?}"
    );
}
