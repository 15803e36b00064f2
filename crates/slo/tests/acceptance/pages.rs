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
