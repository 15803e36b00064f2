//! Objectives of other programs as OpenSLO: what Sloth (`prometheus/v1` and its Kubernetes resource) and Pyrra (`ServiceLevelObjective`)
//! read. What has no counterpart is told and left out; what would change the meaning is refused.

use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::decimal::Decimal;
use crate::span::Span;
use crate::yaml::scalar;

/// Whose objectives are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Origin {
    /// Sloth
    Sloth,
    /// Pyrra
    Pyrra,
}

/// What came of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// OpenSLO, a document for each objective.
    pub text: String,
    /// How many there are.
    pub count: usize,
    /// What was left out.
    pub notices: Vec<String>,
}

/// The period of Sloth's objectives, which do not say one.
const SLOTH_WINDOW: &str = "30d";

#[derive(Deserialize)]
struct Sloth {
    #[serde(default)]
    kind: String,
    service: Option<String>,
    #[serde(default)]
    slos: Vec<SlothSlo>,
    spec: Option<Box<Sloth>>,
}

#[derive(Deserialize)]
struct SlothSlo {
    name: String,
    objective: f64,
    #[serde(default)]
    description: String,
    sli: SlothSli,
    #[serde(default)]
    alerting: SlothAlerting,
}

#[derive(Deserialize)]
struct SlothSli {
    events: Option<SlothEvents>,
    raw: Option<SlothRaw>,
}

#[derive(Deserialize)]
struct SlothEvents {
    #[serde(alias = "errorQuery")]
    error_query: String,
    #[serde(alias = "totalQuery")]
    total_query: String,
}

#[derive(Deserialize)]
struct SlothRaw {
    #[serde(alias = "errorRatioQuery")]
    error_ratio_query: String,
}

#[derive(Deserialize, Default)]
struct SlothAlerting {
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Pyrra {
    #[serde(default)]
    kind: String,
    metadata: PyrraMetadata,
    spec: PyrraSpec,
}

#[derive(Deserialize)]
struct PyrraMetadata {
    name: String,
}

#[derive(Deserialize)]
struct PyrraSpec {
    target: String,
    window: String,
    #[serde(default)]
    description: String,
    indicator: PyrraIndicator,
}

#[derive(Deserialize)]
struct PyrraIndicator {
    ratio: Option<PyrraRatio>,
    latency: Option<PyrraLatency>,
    bool_gauge: Option<PyrraGauge>,
}

#[derive(Deserialize)]
struct PyrraRatio {
    errors: PyrraMetric,
    total: PyrraMetric,
    #[serde(default)]
    grouping: Vec<String>,
}

#[derive(Deserialize)]
struct PyrraLatency {
    success: PyrraMetric,
    total: PyrraMetric,
    #[serde(default)]
    grouping: Vec<String>,
}

#[derive(Deserialize)]
struct PyrraGauge {
    metric: String,
}

#[derive(Deserialize)]
struct PyrraMetric {
    metric: String,
}

/// An objective on its way.
struct Slo<'a> {
    name: String,
    service: &'a str,
    description: &'a str,
    percent: Decimal,
    window: &'a str,
    runbook: Option<&'a str>,
    /// Field of `ratioMetric` and query, and the same of the total.
    metrics: Vec<(&'static str, &'a str)>,
    raw_type: Option<&'static str>,
}

/// Reads a file of objectives.
///
/// # Errors
/// What is wrong, or cannot be said in OpenSLO.
pub fn import(origin: Origin, text: &str) -> Result<Imported, String> {
    let mut imported = Imported::default();
    match origin {
        Origin::Sloth => {
            for file in read::<Sloth>(text)? {
                sloth(&file, &mut imported)?;
            }
        }
        Origin::Pyrra => {
            for file in read::<Pyrra>(text)? {
                pyrra(&file, &mut imported)?;
            }
        }
    }
    if imported.count == 0 {
        return Err("there is no objective in it".to_owned());
    }
    Ok(imported)
}

fn read<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, String> {
    let parts = text
        .split("\n---")
        .map(|part| part.strip_prefix("---").unwrap_or(part));
    let parts = parts.filter(|part| {
        part.lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    parts
        .map(|part| serde_saphyr::from_str(part).map_err(|error| error.to_string().replace('\n', " ")))
        .collect()
}

fn sloth(file: &Sloth, imported: &mut Imported) -> Result<(), String> {
    let inner = file.spec.as_deref().unwrap_or(file);
    if !file.kind.is_empty() && file.kind != "PrometheusServiceLevel" {
        return Err(format!(
            "kind {:?} is not Sloth's PrometheusServiceLevel",
            file.kind
        ));
    }
    let Some(service) = &inner.service else {
        return Err("`service` is missing; is this a file of Sloth?".to_owned());
    };
    for slo in &inner.slos {
        let (metrics, raw_type) = match (&slo.sli.events, &slo.sli.raw) {
            (Some(events), None) => (
                vec![("bad", &*events.error_query), ("total", &*events.total_query)],
                None,
            ),
            (None, Some(raw)) => (vec![("raw", &*raw.error_ratio_query)], Some("failure")),
            _ => {
                return Err(format!(
                    "{}: its `sli` has to be `events` or `raw`; write the queries that a plugin makes",
                    slo.name
                ));
            }
        };
        imported.add(&Slo {
            name: format!("{service}-{}", slo.name),
            service,
            description: &slo.description,
            percent: Decimal::of(slo.objective).ok_or_else(|| {
                format!(
                    "{}: objective {} is no share in per cent",
                    slo.name, slo.objective
                )
            })?,
            window: SLOTH_WINDOW,
            runbook: slo.alerting.annotations.get("runbook").map(String::as_str),
            metrics,
            raw_type,
        })?;
    }
    Ok(())
}

fn pyrra(file: &Pyrra, imported: &mut Imported) -> Result<(), String> {
    if file.kind != "ServiceLevelObjective" {
        return Err(format!(
            "kind {:?} is not Pyrra's ServiceLevelObjective",
            file.kind
        ));
    }
    let (name, spec) = (&file.metadata.name, &file.spec);
    let indicator = &spec.indicator;
    let (metrics, raw_type, grouping) = match (&indicator.ratio, &indicator.latency, &indicator.bool_gauge) {
        (Some(ratio), None, None) => (
            vec![("bad", &*ratio.errors.metric), ("total", &*ratio.total.metric)],
            None,
            &ratio.grouping[..],
        ),
        (None, Some(latency), None) => (
            vec![
                ("good", &*latency.success.metric),
                ("total", &*latency.total.metric),
            ],
            None,
            &latency.grouping[..],
        ),
        (None, None, Some(gauge)) => (vec![("raw", &*gauge.metric)], Some("success"), &[][..]),
        _ => {
            return Err(format!(
                "{name}: only `ratio`, `latency` and `bool_gauge` can be said in OpenSLO"
            ));
        }
    };
    if !grouping.is_empty() {
        imported.notices.push(format!(
            "{name}: grouping by {} is left out, so all groups share one budget; write an objective for each that needs its own",
            grouping.join(", ")
        ));
    }
    imported.add(&Slo {
        name: name.clone(),
        service: name,
        description: &spec.description,
        percent: Decimal::parse(&spec.target)
            .ok_or_else(|| format!("{name}: target {:?} is no share in per cent", spec.target))?,
        window: &spec.window,
        runbook: None,
        metrics,
        raw_type,
    })
}

impl Imported {
    fn add(&mut self, slo: &Slo<'_>) -> Result<(), String> {
        let name = rfc1123(&slo.name);
        if name != slo.name {
            self.notices.push(format!(
                "{} is called {name}: names are small letters, digits and `-`",
                slo.name
            ));
        }
        if Span::parse(slo.window).is_none() {
            return Err(format!(
                "{name}: its window {:?} is no length; write 28d",
                slo.window
            ));
        }
        if self.count > 0 {
            self.text.push_str("---\n");
        }
        let mut line = |depth: usize, line: &str| {
            writeln!(self.text, "{}{line}", "  ".repeat(depth)).expect("a String takes everything");
        };
        line(0, "apiVersion: openslo/v1\nkind: SLO\nmetadata:");
        line(1, &format!("name: {}", scalar(&name)));
        if let Some(runbook) = slo.runbook {
            line(
                1,
                &format!("annotations:\n    mainstay/runbook: {}", scalar(runbook)),
            );
        }
        line(0, "spec:");
        line(1, &format!("service: {}", scalar(&rfc1123(slo.service))));
        if !slo.description.trim().is_empty() {
            line(1, &format!("description: {}", scalar(slo.description.trim())));
        }
        line(1, "budgetingMethod: Occurrences");
        line(
            1,
            &format!(
                "timeWindow:\n    - duration: {}\n      isRolling: true",
                slo.window
            ),
        );
        line(1, "indicator:");
        line(
            2,
            &format!("metadata:\n      name: {}", scalar(&format!("{name}-sli"))),
        );
        line(2, "spec:\n      ratioMetric:\n        counter: true");
        if let Some(raw_type) = slo.raw_type {
            line(4, &format!("rawType: {raw_type}"));
        }
        for (field, query) in &slo.metrics {
            line(
                4,
                &format!(
                    "{field}:\n          metricSource:\n            type: Prometheus\n            spec:"
                ),
            );
            line(7, &format!("query: {}", scalar(query.trim())));
        }
        line(1, &format!("objectives:\n    - targetPercent: {}", slo.percent));
        self.count += 1;
        Ok(())
    }
}

/// A name as OpenSLO allows it.
fn rfc1123(name: &str) -> String {
    let letters = name.to_lowercase();
    let letters = letters.chars().map(|letter| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    });
    let name: String = letters.take(63).collect();
    name.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Findings, parse};
    use crate::objective::{Objective, resolve};
    use crate::pace::Pace;
    use crate::rules;

    fn objectives(text: &str) -> Vec<Objective> {
        let mut findings = Findings::default();
        let documents = parse("f.yaml", text, false, &mut findings);
        let objectives = resolve(&documents, &mut findings);
        assert!(findings.mistakes.is_empty(), "{findings:?}\n{text}");
        objectives
    }

    fn ratio(objective: &Objective) -> String {
        rules::error_ratio(&objective.indicator, Span::minutes(5), Pace::REAL)
    }

    const SLOTH: &str = r#"
version: "prometheus/v1"
service: "myservice"
labels: { owner: "myteam" }
slos:
  - name: "requests_availability"
    objective: 99.9
    description: "Common SLO: it's based on availability."
    sli:
      events:
        error_query: sum(rate(http_request_duration_seconds_count{job="my",code=~"(5..|429)"}[{{.window}}]))
        total_query: sum(rate(http_request_duration_seconds_count{job="my"}[{{.window}}]))
    alerting:
      name: High
      annotations: { runbook: docs/runbooks/x.md }
      page_alert: { labels: { severity: page } }
  - name: raw
    objective: 99
    sli: { raw: { error_ratio_query: "avg_over_time(bad[{{.window}}])" } }
"#;

    #[test]
    fn sloth_keeps_its_queries() {
        let imported = import(Origin::Sloth, SLOTH).unwrap();
        assert_eq!(imported.count, 2);
        assert_eq!(imported.notices.len(), 1, "{:?}", imported.notices);
        let objectives = objectives(&imported.text);
        let first = &objectives[0];
        assert_eq!(
            (first.name.as_str(), first.target.to_string().as_str()),
            ("myservice-requests-availability", "0.999")
        );
        assert_eq!(
            (first.window, first.runbook.value.as_str()),
            (Span::days(30), "docs/runbooks/x.md")
        );
        assert_eq!(
            ratio(first),
            "((sum(rate(http_request_duration_seconds_count{job=\"my\",code=~\"(5..|429)\"}[5m]))) or vector(0)) / \
             ((sum(rate(http_request_duration_seconds_count{job=\"my\"}[5m]))) > 0)"
        );
        assert_eq!(ratio(&objectives[1]), "(avg_over_time(bad[5m]))");
        let resource = "apiVersion: sloth.slok.dev/v1\nkind: PrometheusServiceLevel\nmetadata: { name: x }\nspec:\n  service: s\n  slos:\n    - name: a\n      \
                        objective: 95\n      sli: { events: { errorQuery: 'rate(e[{{.window}}])', totalQuery: 'rate(t[{{.window}}])' } }\n";
        assert_eq!(import(Origin::Sloth, resource).unwrap().count, 1);
    }

    const PYRRA: &str = "
apiVersion: pyrra.dev/v1alpha1
kind: ServiceLevelObjective
metadata: { name: pyrra-latency, namespace: monitoring, labels: { team: x } }
spec:
  target: '99.5'
  window: 2w
  indicator:
    latency:
      success: { metric: 'h_bucket{job=\"a\",le=\"0.5\"}' }
      total: { metric: 'h_count{job=\"a\"}' }
      grouping: [handler]
---
apiVersion: pyrra.dev/v1alpha1
kind: ServiceLevelObjective
metadata: { name: up }
spec: { target: '99', window: 4w, indicator: { bool_gauge: { metric: up } } }
";

    #[test]
    fn pyrra_says_what_is_left_out() {
        let imported = import(Origin::Pyrra, PYRRA).unwrap();
        assert!(
            imported.notices[0].contains("grouping by handler is left out"),
            "{:?}",
            imported.notices
        );
        let objectives = objectives(&imported.text);
        assert_eq!(objectives[0].window, Span::days(14));
        assert_eq!(
            ratio(&objectives[0]),
            "1 - ((sum(rate(h_bucket{job=\"a\",le=\"0.5\"}[5m])) or vector(0)) / (sum(rate(h_count{job=\"a\"}[5m])) > 0))"
        );
        assert_eq!(ratio(&objectives[1]), "1 - avg(avg_over_time(up[5m]))");
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for (origin, text, expected) in [
            (Origin::Sloth, "a: b", "`service` is missing"),
            (Origin::Sloth, "service: a\nslos: []", "there is no objective"),
            (Origin::Sloth, "", "there is no objective"),
            (
                Origin::Sloth,
                PYRRA,
                "kind \"ServiceLevelObjective\" is not Sloth's",
            ),
            (
                Origin::Sloth,
                "service: a\nslos: [{ name: b, objective: 99, sli: { plugin: { id: x } } }]",
                "write the queries that a plugin makes",
            ),
            (
                Origin::Pyrra,
                "kind: X\nmetadata: { name: a }\nspec: { target: '1', window: 1d, indicator: {} }",
                "kind \"X\"",
            ),
            (
                Origin::Pyrra,
                "kind: ServiceLevelObjective\nmetadata: { name: a }\nspec: { target: many, window: 1d, indicator: { bool_gauge: { metric: up } } }",
                "target \"many\" is no share",
            ),
        ] {
            let told = import(origin, text).unwrap_err();
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}
