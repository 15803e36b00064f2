//! What is read, and what is refused with which words.

use super::*;
use crate::objective::{Objective, resolve};

const SLO: &str = "\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: api
spec:
  service: backend
  budgetingMethod: Occurrences
  timeWindow:
    - duration: 30d
      isRolling: true
  indicator:
    spec:
      ratioMetric:
        counter: true
        bad: { metricSource: { type: Prometheus, spec: { query: bad } } }
        total: { metricSource: { type: Prometheus, spec: { query: total } } }
  objectives:
    - target: 0.995
";

fn read(text: &str, lenient: bool) -> (Vec<Objective>, Findings) {
    let mut findings = Findings::default();
    let documents = parse("f.yaml", text, lenient, &mut findings);
    let objectives = if findings.mistakes.is_empty() {
        resolve(&documents, &mut findings)
    } else {
        Vec::new()
    };
    (objectives, findings)
}

fn mistakes(text: &str) -> Vec<String> {
    read(text, false)
        .1
        .mistakes
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The one mistake that a change of the sound document makes.
#[track_caller]
fn mistake(from: &str, to: &str) -> String {
    assert!(SLO.contains(from), "{from:?} is not in the document");
    let told = mistakes(&SLO.replace(from, to));
    assert_eq!(told.len(), 1, "{to:?}: {told:?}");
    told[0].clone()
}

#[test]
fn a_sound_document_is_read_without_a_word() {
    let (objectives, findings) = read(SLO, false);
    assert!(
        findings.mistakes.is_empty() && findings.notices.is_empty(),
        "{findings:?}"
    );
    let objective = &objectives[0];
    assert_eq!(
        (objective.title.as_str(), objective.prefix.as_str()),
        ("api", "Api")
    );
    assert_eq!(objective.runbook.value, "docs/runbooks/api-slo-burn.md");
    let names: Vec<&str> = objective.alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(names, ["ApiSLOFastBurn", "ApiSLOSlowBurn"]);
    let pages: Vec<bool> = objective.alerts.iter().map(|alert| alert.page).collect();
    assert_eq!(pages, [true, false]);
}

#[test]
fn targets_are_shares_with_room_for_errors() {
    for (to, expected) in [
        ("target: 1", "1 leaves no budget"),
        ("target: 1.0", "1 leaves no budget"),
        ("targetPercent: 100", "100 leaves no budget"),
        (
            "target: 99.5",
            "99.5 is no share of one; write `targetPercent: 99.5`",
        ),
        ("target: 0", "0 is not between 0 and 1"),
        ("target: -0.5", "-0.5 is not between 0 and 1"),
        ("targetPercent: 100.5", "100.5 is not between 0 and 100"),
        (
            "target: \"0.995\"",
            "a number is wanted here, not the text \"0.995\"",
        ),
        ("target: 0.99555555555555555", "too many digits"),
    ] {
        let told = mistake("target: 0.995", to);
        assert!(
            told.starts_with("f.yaml:18: document 1: spec.objectives[0].target"),
            "{told}"
        );
        assert!(told.contains(expected), "{told}");
    }
    let both = mistake("target: 0.995", "target: 0.995\n      targetPercent: 99.5");
    assert!(
        both.contains(":19: ") && both.contains("give `target` or `targetPercent`, not both"),
        "{both}"
    );
    let none = mistake("target: 0.995", "displayName: x");
    assert!(none.contains("spec.objectives[0]: `target` is missing"), "{none}");
    let (percent, _) = read(&SLO.replace("target: 0.995", "targetPercent: 99.5"), false);
    assert_eq!(percent[0].budget().to_string(), "0.005");
}

#[test]
fn a_target_whose_alert_cannot_fire_is_refused_with_the_arithmetic() {
    let told = mistakes(&SLO.replace("0.995", "0.9"));
    assert_eq!(
        told,
        [
            "f.yaml:18: document 1: spec.objectives[0].target: ApiSLOFastBurn can never fire: its factor 14.4 times the budget 0.1 is \
             1.44, and no error ratio is above that (at most 1); the target must be above 0.931"
        ]
    );
    // The slow one, with its factor of 6, can fire down to here.
    assert_eq!(mistakes(&SLO.replace("0.995", "0.8")).len(), 2);
}

#[test]
fn windows_are_lengths_of_time() {
    for (to, expected) in [
        (
            "duration: a month",
            "\"a month\" is no length of time; write a number and a unit",
        ),
        ("duration: 30", "text is wanted here, not the number 30"),
        ("duration: 1M", "months differ; write 30d"),
        ("duration: 1d", "1d is too short for the standard alerts"),
        ("duration: 5d", "is burn rate 1, at which the budget lasts"),
    ] {
        let told = mistake("duration: 30d", to);
        assert!(
            told.starts_with("f.yaml:9: ") && told.contains(expected),
            "{told}"
        );
        assert!(told.contains("spec.timeWindow[0].duration"), "{told}");
    }
    let calendar = "duration: 1M\n      calendar: { startTime: 2026-01-01 00:00:00, timeZone: UTC }\n      isRolling: false";
    let (objectives, findings) = read(
        &SLO.replace("duration: 30d\n      isRolling: true", calendar),
        false,
    );
    assert!(findings.mistakes.is_empty(), "{findings:?}");
    assert_eq!(objectives[0].window.to_string(), "30d");
    let told = mistake("isRolling: true", "isRolling: false");
    assert!(told.contains("needs a `calendar`"), "{told}");
    let told = mistake(
        "    - duration: 30d\n      isRolling: true",
        "    - { duration: 30d }\n    - { duration: 7d }",
    );
    assert!(told.contains("has 2 windows; exactly one"), "{told}");
}

#[test]
fn good_or_bad_and_not_both() {
    let bad = "        bad: { metricSource: { type: Prometheus, spec: { query: bad } } }\n";
    let good = bad.replace("bad", "good");
    let told = mistake(bad, "");
    assert!(
        told.contains("spec.indicator.spec.ratioMetric: neither `good` nor `bad`"),
        "{told}"
    );
    let told = mistake(bad, &format!("{bad}{good}"));
    assert!(
        told.contains("f.yaml:15") && told.contains("both `good` and `bad`"),
        "{told}"
    );
    let total = "        total: { metricSource: { type: Prometheus, spec: { query: total } } }\n";
    let told = mistake(total, "");
    assert!(told.contains("`total` is missing"), "{told}");
    let raw = "        raw: { metricSource: { type: Prometheus, spec: { query: ratio } } }\n";
    let told = mistake(&format!("{bad}{total}"), raw);
    assert!(told.contains("`rawType` is missing"), "{told}");
    let told = mistake(bad, &format!("{bad}{raw}"));
    assert!(told.contains("give `raw`, or `total`"), "{told}");
    let (objectives, findings) = read(
        &SLO.replace(
            &format!("{bad}{total}"),
            &format!("{raw}        rawType: failure\n"),
        ),
        false,
    );
    assert!(
        findings.mistakes.is_empty() && objectives.len() == 1,
        "{findings:?}"
    );
}

#[test]
fn queries_are_looked_at() {
    let told = mistake("query: bad }", "query: \"rate(bad[5m])\" }");
    assert!(
        told.contains("ratioMetric.bad.metricSource.spec.query: a plain selector ends here"),
        "{told}"
    );
    let told = mistakes(&SLO.replace("counter: true", "counter: false"));
    assert!(
        told.len() == 2 && told[0].contains("no rate can be taken"),
        "{told:?}"
    );
    let told = mistake(
        "type: Prometheus, spec: { query: bad }",
        "type: Datadog, spec: { query: bad }",
    );
    assert!(told.contains("type \"Datadog\" cannot be asked"), "{told}");
}

#[test]
fn unknown_fields_are_named_unless_lenient() {
    let text = SLO.replace("  service: backend", "  servise: x\n  service: backend");
    assert_eq!(
        mistakes(&text),
        ["f.yaml:6: document 1: spec.servise: unknown field `servise`; did you mean `service`?"]
    );
    let (objectives, findings) = read(&text, true);
    assert_eq!(
        (objectives.len(), findings.mistakes.len(), findings.notices.len()),
        (1, 0, 1)
    );
    let text = SLO.replace(
        "metadata:\n",
        "metadata:\n  annotations: { mainstay/alertname: x }\n",
    );
    let told = mistakes(&text);
    assert!(
        told[0].contains("metadata.annotations[\"mainstay/alertname\"]: annotation is not known"),
        "{told:?}"
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = SLO
        .replace("0.995", "2")
        .replace("30d", "x")
        .replace("kind: SLO", "kind: SLO\nkine: x");
    assert_eq!(mistakes(&text).len(), 3);
}

#[test]
fn names_are_good_and_unique_in_their_kind() {
    let told = mistake("name: api", "name: \"a\\e[2J\"");
    assert!(told.contains("name \"a\\u{1b}[2J\" is not good"), "{told}");
    for name in ["Api", "-a", "a-", "a_b", "a.b", &"a".repeat(64)] {
        let told = mistake("name: api", &format!("name: {name}"));
        assert!(
            told.starts_with("f.yaml:4: document 1: metadata.name: name "),
            "{told}"
        );
    }
    let told = mistakes(&format!("{SLO}---\n{SLO}"));
    assert_eq!(
        told[0],
        "f.yaml:23: document 2: metadata.name: SLO api exists already, at f.yaml:4"
    );
    let service = "apiVersion: openslo/v1\nkind: Service\nmetadata: { name: api }\nspec: {}\n---\n";
    let told = mistakes(&format!("{service}{SLO}"));
    assert_eq!(
        told,
        ["f.yaml:11: document 2: spec.service: there is no Service \"backend\"; there are api"]
    );
    let other = SLO.replace(
        "name: api",
        "name: other\n  annotations: { mainstay/alert-name: Api }",
    );
    let told = mistakes(&format!("{SLO}---\n{other}"));
    assert!(
        told[0].contains("alert ApiSLOFastBurn exists already, by api"),
        "{told:?}"
    );
}

#[test]
fn long_descriptions_and_several_objectives_are_refused() {
    let told = mistake(
        "  service: backend",
        &format!("  description: {}\n  service: backend", "a".repeat(1051)),
    );
    assert!(told.contains("has 1051 characters; at most 1050"), "{told}");
    let told = mistake(
        "    - target: 0.995\n",
        "    - target: 0.995\n    - target: 0.99\n",
    );
    assert!(
        told.contains("f.yaml:19: ") && told.contains("has 2 objectives; exactly one"),
        "{told}"
    );
    let told = mistake("Occurrences", "Timeslices");
    assert!(told.contains("only Occurrences is possible"), "{told}");
}

#[test]
fn what_is_no_yaml_or_no_openslo_is_said_with_its_line() {
    for (text, expected) in [
        ("", "f.yaml: no document"),
        ("---\n---\n", "f.yaml: no document"),
        ("a: [\n", "f.yaml:"),
        ("a: 1\na: 2\n", "f.yaml:2: duplicate mapping key: a"),
        (
            "- a\n",
            "f.yaml:1: document 1: a mapping is wanted here, not a list",
        ),
        ("kind: SLO\n", "f.yaml:1: document 1: `apiVersion` is missing"),
        (
            "apiVersion: openslo/v2\n",
            "version \"openslo/v2\" is not known; openslo/v1 is",
        ),
        (
            "apiVersion: openslo/v1\nkind: Thing\nmetadata: { name: a }\nspec: {}\n",
            "f.yaml:2: document 1: kind: kind \"Thing\" is not known",
        ),
    ] {
        let told = mistakes(text);
        assert!(
            told.iter().any(|told| told.contains(expected)),
            "{text:?}: {told:?}"
        );
    }
}

#[test]
fn documents_refer_to_each_other() {
    let parts = "
apiVersion: openslo/v1
kind: Service
metadata: { name: backend, labels: { team: [a, b] } }
spec: { description: it }
---
apiVersion: openslo/v1
kind: DataSource
metadata: { name: here }
spec: { type: Prometheus, connectionDetails: { url: http://127.0.0.1:9090 } }
---
apiVersion: openslo/v1
kind: SLI
metadata: { name: errors }
spec:
  ratioMetric:
    good: { metricSource: { metricSourceRef: here, spec: { query: good } } }
    total: { metricSource: { metricSourceRef: here, spec: { query: total } } }
---
apiVersion: openslo/v1
kind: AlertNotificationTarget
metadata: { name: team }
spec: { target: slack }
---
apiVersion: openslo/v1
kind: AlertCondition
metadata: { name: very-fast }
spec: { severity: page, condition: { kind: burnrate, op: gt, threshold: 20, lookbackWindow: 30m, alertAfter: 2m } }
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: { name: mine }
spec:
  alertWhenBreaching: true
  conditions:
    - conditionRef: very-fast
    - kind: AlertCondition
      metadata: { name: slow }
      spec: { severity: warning, condition: { kind: burnrate, threshold: 2.5, lookbackWindow: 1d } }
  notificationTargets: [{ targetRef: team }]
---
apiVersion: openslo/v1
kind: SLO
metadata: { name: api }
spec:
  service: backend
  budgetingMethod: Occurrences
  timeWindow: [{ duration: 4w }]
  indicatorRef: errors
  alertPolicies: [mine]
  objectives: [{ target: 0.99 }]
";
    let (objectives, findings) = read(parts, false);
    assert!(findings.mistakes.is_empty(), "{:?}", findings.mistakes);
    let alerts: Vec<String> = objectives[0]
        .alerts
        .iter()
        .map(|alert| {
            let condition = &alert.condition;
            format!(
                "{} {} {} {} {} {:?}",
                alert.name, condition.factor, condition.long, condition.short, alert.page, alert.after
            )
        })
        .collect();
    assert_eq!(
        alerts,
        [
            "ApiSLOVeryFast 20 30m 150s true Some(Span(120))",
            "ApiSLOSlow 2.5 1d 2h false None"
        ]
    );
    for (from, to, expected) in [
        (
            "indicatorRef: errors",
            "indicatorRef: none",
            "there is no SLI \"none\"; there are errors",
        ),
        (
            "metricSourceRef: here, spec: { query: good",
            "metricSourceRef: there, spec: { query: good",
            "there is no DataSource \"there\"",
        ),
        (
            "[mine]",
            "[{ alertPolicyRef: yours }]",
            "there is no AlertPolicy \"yours\"; there are mine",
        ),
        (
            "conditionRef: very-fast",
            "conditionRef: fast",
            "there is no AlertCondition \"fast\"",
        ),
        (
            "targetRef: team",
            "targetRef: crew",
            "there is no AlertNotificationTarget \"crew\"",
        ),
        (
            "kind: burnrate, op: gt",
            "kind: burnrate, op: lt",
            "`gt` is wanted here",
        ),
        ("threshold: 20", "threshold: 0", "0 is no burn rate"),
        (
            "lookbackWindow: 1d",
            "lookbackWindow: 29d",
            "looks back 29d, farther than the objective's window of 28d",
        ),
        (
            "threshold: 20",
            "threshold: 200",
            "ApiSLOVeryFast can never fire: its factor 200 times the budget 0.01 is 2",
        ),
    ] {
        assert!(parts.contains(from), "{from}");
        let told = mistakes(&parts.replace(from, to));
        assert!(told.iter().any(|told| told.contains(expected)), "{to}: {told:?}");
    }
}

#[test]
fn the_version_before_is_read_with_a_notice() {
    let text = "
apiVersion: openslo/v1alpha
kind: SLO
metadata: { name: old }
spec:
  service: backend
  budgetingMethod: Occurrences
  timeWindows: [{ count: 30, unit: Day, isRolling: true }]
  objectives:
    - target: 0.99
      ratioMetrics:
        incremental: true
        good: { source: prometheus, queryType: promql, query: good }
        total: { source: prometheus, queryType: promql, query: total }
";
    let (objectives, findings) = read(text, false);
    assert!(findings.mistakes.is_empty(), "{findings:?}");
    assert_eq!(findings.notices.len(), 1);
    assert!(
        findings.notices[0]
            .to_string()
            .contains("openslo/v1 is what it became")
    );
    assert_eq!(objectives[0].window.to_string(), "30d");
    let told = mistakes(&text.replace("count: 30", "count: 0.5"));
    assert!(told[0].contains("0.5 is not possible"), "{told:?}");
    let told = mistakes(&text.replace("unit: Day", "unit: Fortnight"));
    assert!(told[0].contains("Day, Week"), "{told:?}");
}

proptest::proptest! {
    #[test]
    fn whatever_is_in_a_file_there_is_an_answer(at in 0..SLO.len(), cut in 0..30_usize, new in "[a-z0-9:{}\\[\\]&*!|>'\"%@`#,? .\\-\\n\\t]{0,8}") {
        let end = (at + cut).min(SLO.len());
        let text = format!("{}{new}{}", &SLO[..at], &SLO[end..]);
        let (objectives, findings) = read(&text, false);
        let lines = text.lines().count() as u64;
        proptest::prop_assert!(!objectives.is_empty() || !findings.mistakes.is_empty() || !text.contains("kind: SLO"), "{}", text);
        for mistake in &findings.mistakes {
            proptest::prop_assert!(mistake.at.line <= lines + 1, "{}", mistake);
            proptest::prop_assert!(!mistake.to_string().contains('\n'), "{}", mistake);
        }
        for objective in &objectives {
            crate::rules::file(&crate::rules::groups(std::slice::from_ref(objective), crate::pace::Pace::REAL), "x", crate::pace::Pace::REAL);
            crate::page::write(objective, None).unwrap();
        }
    }
}
