//! Budgets and alerts over days that Prometheus has in its blocks: what `slo eval`, `slo status` and `slo report` say of them.

use std::fmt::Write as _;

use serde_json::Value;
use testkit::{Output, Readiness, Server, require};

use super::{dir, judge, slo, text};

/// The end of what was measured: midnight.
const END: u64 = 1_768_089_600;

/// Days before it; on the second everything fails for a quarter of an hour from noon on.
const DAYS: u64 = 3;

const NOON: u64 = END - 2 * 86_400 + 12 * 3600;

/// Events in a minute.
const TRAFFIC: u64 = 100;

/// A Prometheus that holds the three days.
fn prometheus() -> Server {
    let ready = Readiness::Http {
        port: 9090,
        path: "/-/ready".to_owned(),
    };
    let mut prometheus = Server::new("prometheus", require("prometheus").unwrap(), ready).unwrap();
    let folder = prometheus.dir().to_owned();
    let mut samples = [String::new(), String::new()];
    let mut counts = [0, 0];
    for minute in 0..=DAYS * 1440 {
        let at = END - DAYS * 86_400 + minute * 60;
        for ((status, lines), count) in ["200", "503"].iter().zip(&mut samples).zip(&counts) {
            writeln!(
                lines,
                "http_requests_total{{job=\"veza-backend\",method=\"GET\",status=\"{status}\"}} {count} {at}"
            )
            .unwrap();
        }
        counts[usize::from((NOON..NOON + 900).contains(&at))] += TRAFFIC;
    }
    let all = format!(
        "# TYPE http_requests counter\n{}{}# EOF\n",
        samples[0], samples[1]
    );
    std::fs::write(folder.join("samples.txt"), all).unwrap();
    judge(
        "promtool",
        &folder,
        &["tsdb", "create-blocks-from", "openmetrics", "samples.txt", "data"],
    )
    .ok();
    std::fs::write(folder.join("prometheus.yml"), "").unwrap();
    prometheus.set_args([
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        "--storage.tsdb.retention.time=100y".to_owned(),
        format!("--web.listen-address={}", prometheus.socket()),
    ]);
    prometheus.start().unwrap();
    prometheus
}

const EXAMPLE: &str = "examples/slo/api-availability.yaml";

fn ask(prometheus: &Server, command: &str, at: u64, more: &[&str]) -> Output {
    let (endpoint, at) = (prometheus.endpoint(), at.to_string());
    let arguments = [command, EXAMPLE, "--endpoint", &endpoint, "--at", &at];
    slo(&[&arguments[..], more].concat())
}

#[test]
fn three_days_as_people_ask_for_them() {
    let prometheus = prometheus();

    // 4m 19s after the beginning, and 4m 38s after the end; samples are a minute apart.
    for (seconds, code) in [(-60, 0), (180, 0), (360, 3), (900 + 180, 3), (900 + 420, 0)] {
        let at = NOON.checked_add_signed(seconds).unwrap();
        let told = ask(&prometheus, "eval", at, &["--json"]);
        let answer: Value = serde_json::from_str(&told.ok()).unwrap();
        let holds = &answer[0]["alerts"]["APIAvailabilitySLOFastBurn"];
        assert_eq!(holds, &Value::Bool(code == 3), "{seconds}: {answer}");
        let checked = ask(&prometheus, "eval", at, &["--check"]);
        // The ticket's windows are longer.
        assert!(checked.code == code || seconds > 900, "{seconds}: {checked:?}");
    }
    let none = ask(&prometheus, "eval", END - 40 * 86_400, &[]).ok();
    assert!(none.contains("no-data"), "{none}");

    // 432,000 events may have 2160 failures; there were 1500.
    let told = ask(&prometheus, "status", END, &["--json", "--check"]).ok();
    let standing: Value = serde_json::from_str(&told).unwrap();
    let left = standing[0]["budget_left"].as_f64().unwrap();
    assert!((left - 0.3056).abs() < 0.01, "{told}");
    assert_eq!(standing[0]["history"], "3d of 30d", "{told}");
    let table = ask(&prometheus, "status", END, &[]).ok();
    assert!(
        table.contains("EXHAUSTED IN") && table.contains("3d of 30d"),
        "{table}"
    );
    let during = ask(&prometheus, "status", NOON + 900, &["--check"]);
    assert_eq!(
        during.code, 3,
        "half of the traffic so far is worth less: {during:?}"
    );
    assert!(during.stdout.contains("APIAvailabilitySLOFastBurn"), "{during:?}");

    let report = ask(&prometheus, "report", END, &[]).ok();
    for part in ["2026-01-09", "WORST 1h", "2026-01-09 12:00", "100 % │", "99.65"] {
        assert!(report.contains(part), "{part}: {report}");
    }
    let week: Value = serde_json::from_str(
        &ask(
            &prometheus,
            "report",
            END,
            &["--format", "json", "--window", "7d"],
        )
        .ok(),
    )
    .unwrap();
    assert_eq!(week[0]["history"], "3d of 7d", "{week}");
    assert_eq!(week[0]["days"].as_array().unwrap().len(), 3, "{week}");
    let markdown = ask(&prometheus, "report", END, &["--format", "md"]).ok();
    assert!(
        markdown.starts_with("# Error budgets\n") && markdown.contains("| 2026-01-09 |"),
        "{markdown}"
    );
    let svg = ask(&prometheus, "report", END, &["--format", "svg"]).ok();
    assert!(svg.starts_with("<svg ") && svg.contains("<path d=\"M"), "{svg}");
    let page = ask(&prometheus, "report", END, &["--format", "html"]).ok();
    assert!(
        page.starts_with("<!doctype html>") && page.contains(&svg),
        "{page}"
    );

    let nothing = ask(&prometheus, "report", END - 40 * 86_400, &[]).ok();
    assert!(nothing.contains("no events within 30d"), "{nothing}");
    let refused = ask(&prometheus, "report", END, &["--window", "5m"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("at least 1h"),
        "{refused:?}"
    );
}

#[test]
fn without_an_endpoint_the_exit_code_says_so() {
    let empty = dir();
    for command in ["status", "report"] {
        let told = slo(&[command, EXAMPLE, "--endpoint", "http://127.0.0.1:1"]);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{command}: {told:?}");
        assert!(told.stderr.contains("cannot connect"), "{told:?}");
        let none = slo(&[command, text(empty.path())]);
        assert_eq!(none.code, 1, "{none:?}");
    }
}
