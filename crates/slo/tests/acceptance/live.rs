//! The live evaluator beside the real Prometheus and Alertmanager: one outage in compressed time, told by both.

use std::time::Duration;

use serde_json::Value;
use testkit::{Output, Readiness, Server, mainstay_binary, require, wait_until};

use super::town::{Oracle, Town};
use super::{dir, read, root, slo, text};

/// Whatever has to happen happens by then.
const LIMIT: Duration = Duration::from_mins(1);

/// Seconds in one.
const SCALE: u64 = 60;

/// Part of the addresses that must not be seen.
const SECRET: &str = "T0hunter22hunter22";

fn http(port: u16, path: &str) -> Readiness {
    Readiness::Http {
        port,
        path: path.to_owned(),
    }
}

/// `slo run` with settings, ready to be started.
fn evaluator(town: &Town, endpoint: &str, scale: u64, more: &str) -> Server {
    let mut server = Server::new("slo", mainstay_binary().unwrap(), http(9098, "/healthz")).unwrap();
    let folder = server.dir();
    for (name, content) in [
        ("slack", town.url(&format!("/slo/slack/{SECRET}"))),
        ("tickets", town.url(&format!("/slo/tickets/{SECRET}"))),
        ("pagerduty", SECRET.to_owned()),
    ] {
        std::fs::write(folder.join(name), format!("{content}\n")).unwrap();
    }
    let objectives = root("examples/slo/api-availability.yaml").canonicalize().unwrap();
    let objectives = text(&objectives);
    let settings = format!(
        "objectives = [\"{objectives}\"]\nendpoint = \"{endpoint}\"\nstate = \"{state}\"\nlisten = \"{address}:9098\"\ntime_scale = {scale}\n\
         runbook_base = \"https://git.example.com/ops\"\n{more}\n\
         [page]\nslack_url_file = \"{slack}\"\npagerduty_key_file = \"{key}\"\npagerduty_url = \"{pagerduty}\"\n\
         [ticket]\nslack_url_file = \"{tickets}\"\n",
        state = text(&folder.join("state.json")),
        address = server.address(),
        slack = text(&folder.join("slack")),
        key = text(&folder.join("pagerduty")),
        tickets = text(&folder.join("tickets")),
        pagerduty = town.url("/slo/pagerduty"),
    );
    let path = folder.join("slo.toml");
    std::fs::write(&path, settings).unwrap();
    let arguments = ["slo", "run", "--config", text(&path)].map(str::to_owned);
    server.set_args(arguments);
    server
}

/// Messages of the channels that hold a text.
fn holding(told: &[Value], part: &str) -> usize {
    told.iter().filter(|body| body.to_string().contains(part)).count()
}

fn slack(town: &Town, who: &str) -> Vec<Value> {
    town.told(&format!("/slo/{who}/{SECRET}"))
}

/// The actions of PagerDuty's events, reminders left out.
fn events(told: &[Value]) -> Vec<(String, String)> {
    let word = |body: &Value, name: &str| body[name].as_str().unwrap_or_default().to_owned();
    told.iter()
        .filter(|body| !body.to_string().contains("REMINDER"))
        .map(|body| (word(body, "event_action"), word(body, "dedup_key")))
        .collect()
}

fn json(server: &Server, path: &str) -> Value {
    serde_json::from_str(&server.get(path).unwrap().body).unwrap_or_default()
}

fn prometheus(town: &Town, alertmanager: &Server) -> Server {
    let mut prometheus = Server::new(
        "prometheus",
        require("prometheus").unwrap(),
        http(9090, "/-/ready"),
    )
    .unwrap();
    let folder = prometheus.dir();
    let scale = SCALE.to_string();
    slo(&[
        "generate",
        "examples/slo/api-availability.yaml",
        "--time-scale",
        &scale,
        "--out",
        text(folder),
    ])
    .ok();
    let config = format!(
        "global: {{ scrape_interval: 200ms, evaluation_interval: 500ms }}\n\
         rule_files: [slo.yml]\n\
         alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ['{}'] }}] }}] }}\n\
         scrape_configs: [{{ job_name: veza-backend, scrape_timeout: 200ms, static_configs: [{{ targets: ['{}'] }}] }}]\n",
        alertmanager.socket(),
        town.address(),
    );
    let path = folder.join("prometheus.yml");
    std::fs::write(&path, config).unwrap();
    let arguments = [
        format!("--config.file={}", text(&path)),
        format!("--storage.tsdb.path={}", text(&folder.join("data"))),
        format!("--web.listen-address={}", prometheus.socket()),
    ];
    prometheus.set_args(arguments);
    prometheus
}

fn alertmanager(town: &Town) -> Server {
    let program = require("prometheus-alertmanager").unwrap();
    let mut alertmanager = Server::new("alertmanager", program, http(9093, "/-/ready")).unwrap();
    let folder = alertmanager.dir();
    let (url, key) = (folder.join("slack"), folder.join("pagerduty"));
    std::fs::write(&url, town.url("/am/slack")).unwrap();
    std::fs::write(&key, "key").unwrap();
    let path = folder.join("routes.yml");
    let (scale, pagerduty) = (SCALE.to_string(), town.url("/am/pagerduty"));
    slo(&[
        "routes",
        "--time-scale",
        &scale,
        "--slack-url-file",
        text(&url),
        "--pagerduty-key-file",
        text(&key),
        "--pagerduty-url",
        &pagerduty,
        "--out",
        text(&path),
    ])
    .ok();
    let arguments = [
        format!("--config.file={}", text(&path)),
        format!("--storage.path={}", text(&folder.join("data"))),
        format!("--web.listen-address={}", alertmanager.socket()),
        "--cluster.listen-address=".to_owned(),
    ];
    alertmanager.set_args(arguments);
    alertmanager
}

#[test]
fn an_outage_is_paged_by_prometheus_and_by_us_in_the_same_minutes() {
    let town = Town::new();
    let mut alertmanager = alertmanager(&town);
    alertmanager.start().unwrap();
    let mut prometheus = prometheus(&town, &alertmanager);
    prometheus.start().unwrap();
    let mut ours = evaluator(&town, &prometheus.endpoint(), SCALE, "");
    ours.start().unwrap();
    wait_until(LIMIT, "the shortest window to be measured", || {
        let past = json(
            &prometheus,
            "/api/v1/query?query=slo:api_availability:error_ratio_rate5m%20offset%205s",
        );
        !past["data"]["result"].as_array().is_none_or(Vec::is_empty)
            && ours.get("/readyz").unwrap().status == 200
    });
    assert!(
        ours.get("/metrics")
            .unwrap()
            .body
            .contains("slo_data_ok{slo=\"api_availability\"} 1")
    );

    town.fail(true);
    wait_until(LIMIT, "both to have paged", || {
        !town.told("/am/pagerduty").is_empty()
            && !town.told("/am/slack").is_empty()
            && !town.told("/slo/pagerduty").is_empty()
            && !slack(&town, "slack").is_empty()
    });
    // Both saw it at the same time: each evaluates every half minute, and the machine may be busy for a second or two.
    let alerts = json(&prometheus, "/api/v1/alerts");
    let theirs = alerts["data"]["alerts"].as_array().unwrap().iter();
    let theirs = theirs.filter(|alert| alert["labels"]["alertname"] == "APIAvailabilitySLOFastBurn");
    let theirs: jiff::Timestamp = theirs
        .map(|alert| alert["activeAt"].as_str().unwrap())
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let state: Value = serde_json::from_str(&read(&ours.dir().join("state.json"))).unwrap();
    let since = state["alerts"]["APIAvailabilitySLOFastBurn"]["since_ms"]
        .as_i64()
        .unwrap();
    let apart_ms = (theirs.as_millisecond() - since).unsigned_abs();
    assert!(apart_ms * SCALE <= 3 * 60_000, "{apart_ms} ms apart");

    let page = &slack(&town, "slack")[0].to_string();
    assert!(
        page.contains("FIRING: APIAvailabilitySLOFastBurn: SLO_API_AVAILABILITY burns more than 2 %"),
        "{page}"
    );
    assert!(
        page.contains("https://git.example.com/ops/docs/runbooks/api-availability-slo-burn.md"),
        "{page}"
    );

    // Killed while it fires: nobody is paged again for it. What is under way might be, so that has to be over.
    wait_until(LIMIT, "the messages to be off its hands", || {
        let state: Value = serde_json::from_str(&read(&ours.dir().join("state.json"))).unwrap();
        state["outbox"]["waiting"].as_array().unwrap().is_empty()
    });
    ours.kill9().unwrap();
    ours.start().unwrap();
    wait_until(LIMIT, "it to see again", || {
        ours.get("/readyz").unwrap().status == 200
    });

    town.fail(false);
    wait_until(LIMIT, "both to say that it is over", || {
        holding(&town.told("/am/pagerduty"), "\"resolve\"") > 0
            && holding(&town.told("/slo/pagerduty"), "\"resolve\"") > 0
    });
    // Not told while the page fired, the ticket is now; by both, to nobody's pager.
    wait_until(LIMIT, "both to open the ticket", || {
        holding(&slack(&town, "tickets"), "FIRING: APIAvailabilitySLOSlowBurn") > 0
            && holding(&town.told("/am/slack"), "APIAvailabilitySLOSlowBurn") > 0
    });
    let told = events(&town.told("/slo/pagerduty"));
    let key = format!("api_availability/APIAvailabilitySLOFastBurn/{since}");
    assert_eq!(
        told,
        [("trigger".to_owned(), key.clone()), ("resolve".to_owned(), key)]
    );
    let pages = slack(&town, "slack");
    assert_eq!(
        (holding(&pages, "FIRING"), holding(&pages, "RESOLVED")),
        (1, 1),
        "{pages:?}"
    );
    assert_eq!(holding(&town.told("/am/pagerduty"), "SlowBurn"), 0);

    assert!(ours.sigterm().unwrap().success());
    let state = read(&ours.dir().join("state.json"));
    assert!(
        !ours.log().contains("hunter22") && !state.contains("hunter22"),
        "{}",
        ours.log()
    );
}

/// An answer to every query, with one value.
fn vector(value: &str) -> String {
    format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{{\"metric\":{{}},\"value\":[1,\"{value}\"]}}]}}}}"
    )
}

#[test]
fn what_is_no_answer_of_prometheus_is_said_and_changes_nothing() {
    let town = Town::new();
    let json = "application/json";
    let two = vector("1").replace("[{", "[{\"metric\":{},\"value\":[1,\"2\"]},{");
    for (oracle, expected) in [
        (
            Oracle::Says("200 OK", "text/html; charset=utf-8", "<html>log in".to_owned()),
            "it answers 200 OK with text/html, which is no answer of Prometheus",
        ),
        (
            Oracle::Says("503 Service Unavailable", "text/plain", "starting".to_owned()),
            "it answers 503 Service Unavailable with text/plain",
        ),
        (Oracle::Says("200 OK", json, vector("NaN")), "the value is NaN"),
        (Oracle::Says("200 OK", json, vector("+Inf")), "the value is +Inf"),
        (
            Oracle::Says("200 OK", json, two),
            "it answers with 2 series; one is wanted",
        ),
        (
            Oracle::Says(
                "400 Bad Request",
                json,
                "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse \\u001b[31merror\"}"
                    .to_owned(),
            ),
            "bad_data: parse",
        ),
    ] {
        town.set_oracle(oracle.clone());
        let told = slo(&[
            "eval",
            "examples/slo/api-availability.yaml",
            "--endpoint",
            &town.url(""),
        ]);
        assert_eq!(told.code, 2, "{oracle:?}: {told:?}");
        assert!(told.stderr.contains(expected), "{oracle:?}: {}", told.stderr);
        assert!(!told.stderr.contains('\u{1b}'), "{}", told.stderr);
    }
    let nobody = slo(&[
        "eval",
        "examples/slo",
        "--endpoint",
        "http://127.0.0.1:1/prometheus",
    ]);
    assert_eq!(nobody.code, 2);
    assert!(
        nobody.stderr.contains("cannot connect: Connection refused"),
        "{nobody:?}"
    );
    let password = slo(&[
        "eval",
        "examples/slo",
        "--endpoint",
        "http://u:hunter22@127.0.0.1:1",
    ]);
    assert!(
        password.code == 1 && !password.stderr.contains("hunter22"),
        "{password:?}"
    );
}

#[test]
fn an_endpoint_that_is_away_is_a_ticket_and_no_page() {
    let town = Town::new();
    town.set_oracle(Oracle::Silence);
    // Five minutes last a second.
    let mut ours = evaluator(&town, &town.url(""), 300, "timeout = \"200ms\"");
    ours.start().unwrap();
    let tickets = |part: &str| holding(&slack(&town, "tickets"), part) > 0;
    wait_until(LIMIT, "the ticket", || tickets("FIRING: SLOEndpointDown"));
    assert_eq!(ours.get("/readyz").unwrap().status, 503);

    // Another one must not tell the same things.
    let config = ours.dir().join("slo.toml");
    let second = slo(&["run", "--config", text(&config)]);
    assert!(
        second.code == 1 && second.stderr.contains("another `slo run` has it"),
        "{second:?}"
    );

    // An answer, and a ratio that burns; what answers is old, and that is a ticket of its own.
    town.set_oracle(Oracle::Says("200 OK", "application/json", vector("0.5")));
    wait_until(LIMIT, "the end of the ticket", || {
        tickets("RESOLVED: SLOEndpointDown")
    });
    wait_until(LIMIT, "the page", || {
        holding(&slack(&town, "slack"), "FIRING: APIAvailabilitySLOFastBurn") > 0
    });
    wait_until(LIMIT, "the ticket about old measurements", || {
        tickets("FIRING: APIAvailabilitySLONoData")
    });

    // Numbers that are none end nothing.
    town.set_oracle(Oracle::Says("200 OK", "application/json", vector("NaN")));
    ours.wait_log("data=invalid").unwrap();
    let state = read(&ours.dir().join("state.json"));
    assert!(state.contains("\"APIAvailabilitySLOFastBurn\""), "{state}");
    assert_eq!(holding(&slack(&town, "slack"), "RESOLVED"), 0);
    town.set_oracle(Oracle::Says("200 OK", "application/json", vector("0")));
    wait_until(LIMIT, "the end of the page", || {
        holding(&slack(&town, "slack"), "RESOLVED: APIAvailabilitySLOFastBurn") > 0
    });
}

#[test]
fn settings_are_refused_before_anything_is_opened() {
    let dir = dir();
    let path = dir.join("slo.toml");
    std::fs::write(&path, "objectives = [\"none.yaml\"]\n[page]\nslack_url_file = \"/none\"\n[ticket]\nslack_url_file = \"/none\"\n").unwrap();
    let refused = slo(&["run", "--config", text(&path)]);
    assert!(
        refused.code == 1 && refused.stderr.contains("none.yaml: No such file"),
        "{refused:?}"
    );
    let fast = slo(&["run", "--config", text(&path), "--time-scale", "1000"]);
    assert_eq!(fast.code, 64, "{fast:?}");
    let mut command = std::process::Command::new(mainstay_binary().unwrap());
    command
        .args(["slo", "run", "--config", text(&path)])
        .env("SLO__PAGE__SLACK_URL", "https://h/hunter22");
    let both = Output::of(&mut command).unwrap();
    assert!(
        both.code == 1 && both.stderr.contains("not both") && !both.stderr.contains("hunter22"),
        "{both:?}"
    );
}
