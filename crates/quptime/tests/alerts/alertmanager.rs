//! Debian's Alertmanager: it holds an outage for as long as it is told of it again, and no longer than the outage lasts.

use lab::Readiness;
use serde_json::Value;
use testkit::{Output, QU_SECRET, Qu, Server, wait_until};

use super::target::Target;
use super::{LIMIT, is, watch};

const PORT: u16 = 9093;

fn alertmanager() -> Server {
    let program = testkit::require("prometheus-alertmanager").unwrap();
    let mut server = Server::new("alertmanager", program, Readiness::Tcp { port: PORT }).unwrap();
    let config = server.dir().join("alertmanager.yml");
    std::fs::write(
        &config,
        "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n",
    )
    .unwrap();
    server.set_args([
        format!("--config.file={}", config.display()),
        format!("--storage.path={}", server.dir().join("data").display()),
        format!("--web.listen-address={}:{PORT}", server.address()),
        "--cluster.listen-address=".to_owned(),
    ]);
    server.start().unwrap();
    server
}

/// The active alerts about this check.
fn active(server: &Server, check: &str) -> Vec<Value> {
    let url = format!("http://{}:{PORT}/api/v2/alerts?active=true", server.address());
    let curl = testkit::require("curl").unwrap();
    let output = Output::of(std::process::Command::new(curl).args(["-sS", "-m", "10", &url])).unwrap();
    let all: Vec<Value> = serde_json::from_str(&output.stdout).unwrap_or_default();
    let mut about = all;
    about.retain(|alert| alert["labels"]["check"] == check);
    about
}

#[test]
fn an_outage_is_held_until_it_is_over_also_over_a_change_of_the_master() {
    let server = alertmanager();
    let target = Target::start();
    let mut node = Qu::init(1, QU_SECRET).unwrap();
    node.start().unwrap();
    wait_until(LIMIT, "a master", || node.has_quorum());
    let url = format!("http://{}:{PORT}", server.address());
    let args = ["alert", "add", "alertmanager", "am", "--url", &url, "--default"];
    node.run(&args).unwrap().ok();
    watch(&node, "page", &target);
    wait_until(LIMIT, "page to be up", || is(&node, "page", "up"));
    assert_eq!(active(&server, "page"), [] as [Value; 0]);

    target.fail();
    wait_until(LIMIT, "Alertmanager to hold the outage", || {
        active(&server, "page").len() == 1
    });
    let before = active(&server, "page").remove(0);
    assert_eq!(before["labels"]["alertname"], "quptime");

    // Who is master after a restart tells it again, and that prolongs it.
    node.sigterm().unwrap();
    node.start().unwrap();
    wait_until(LIMIT, "the outage to be told again", || {
        let now = active(&server, "page");
        let end = |alert: &Value| alert["endsAt"].as_str().unwrap_or_default().to_owned();
        now.len() == 1 && end(&now[0]) > end(&before)
    });
    let now = active(&server, "page").remove(0);
    assert_eq!(now["fingerprint"], before["fingerprint"]);
    assert_eq!(now["startsAt"], before["startsAt"]);

    target.recover();
    wait_until(LIMIT, "Alertmanager to let go of it", || {
        active(&server, "page").is_empty()
    });
}
