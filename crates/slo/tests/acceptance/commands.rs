//! The program as people type it: exit codes, what is said where, and that nothing of theirs is lost.

use testkit::TestDir;

use super::{dir, read, root, slo, text};

fn example() -> String {
    read(&root("examples/slo/api-availability.yaml"))
}

fn written(text: &str) -> (TestDir, String) {
    let dir = dir();
    let path = dir.join("a.yaml");
    std::fs::write(&path, text).unwrap();
    let path = super::text(&path).to_owned();
    (dir, path)
}

#[test]
fn mistakes_name_file_line_document_and_path() {
    let (_dir, path) = written(
        &example()
            .replace("target: 0.995", "target: 1.0")
            .replace("30d", "30days"),
    );
    let refused = slo(&["validate", &path]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    let lines: Vec<&str> = refused.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with(&format!(
        "error: {path}:16: document 1: spec.timeWindow[0].duration: \"30days\" is no length"
    )));
    assert!(lines[1].starts_with(&format!(
        "error: {path}:35: document 1: spec.objectives[0].target: 1 leaves no budget"
    )));
    assert_eq!(slo(&["generate", &path]).code, 1);
}

#[test]
fn unknown_fields_may_be_notices() {
    let (_dir, path) = written(&example().replace("  service:", "  team: x\n  service:"));
    let refused = slo(&["generate", &path]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("unknown field `team`"),
        "{}",
        refused.stderr
    );
    let lenient = slo(&["generate", "--lenient", &path]);
    assert_eq!(lenient.code, 0);
    assert!(
        lenient.stderr.starts_with("notice: ") && lenient.stdout.contains("- alert: "),
        "{lenient:?}"
    );
}

#[test]
fn what_is_not_there_is_said() {
    let dir = dir();
    for (arguments, code, expected) in [
        (
            &["generate", "no-such-file.yaml"][..],
            1,
            "error: read no-such-file.yaml: No such file",
        ),
        (&["validate", text(dir.path())], 1, "no .yaml or .yml file in it"),
        (&["generate"], 64, "required"),
        (
            &["import", "sloth", "examples/slo/api-latency.yaml"],
            1,
            "kind \"SLO\" is not Sloth's",
        ),
        (&["standing"], 64, "unrecognized subcommand 'standing'"),
        (&["generate", "examples/slo", "--extra-rules"], 64, "--out"),
        (
            &["simulate", "examples/slo", "--outage", "60"],
            1,
            "\"60\" is no outage; write how long and how much fails: 60s@100%",
        ),
        (
            &[
                "simulate",
                "examples/slo",
                "--outage",
                "50d@1%",
                "--outage",
                "50d@1%",
            ],
            1,
            "the outages last longer than 90d together",
        ),
        (
            &["simulate", "examples/slo", "--outage", "60s@1%", "--rps", "0"],
            1,
            "--rps \"0\" is no number above 0",
        ),
    ] {
        let refused = slo(arguments);
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (code, ""),
            "{arguments:?}"
        );
        assert!(
            refused.stderr.contains(expected),
            "{arguments:?}: {}",
            refused.stderr
        );
    }
}

#[test]
fn validate_wants_a_page_that_names_the_alerts() {
    let (dir, path) = written(&example().replace(
        "docs/runbooks/api-availability-slo-burn.md",
        "docs/runbooks/mine.md",
    ));
    let refused = slo(&["validate", &path]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("a.yaml:9: ")
            && refused
                .stderr
                .contains("runbook docs/runbooks/mine.md does not exist"),
        "{refused:?}"
    );

    let folder = dir.join("docs/runbooks");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("mine.md"),
        "# Mine\n\nalert: APIAvailabilitySLOFastBurn\n\n## APIAvailabilitySLOSlowBurn\n",
    )
    .unwrap();
    let refused = slo(&["validate", &path]);
    assert_eq!(
        (refused.code, refused.stderr.lines().count()),
        (1, 1),
        "{refused:?}"
    );
    assert!(
        refused
            .stderr
            .contains("mine.md does not name APIAvailabilitySLOSlowBurn before its first section"),
        "{refused:?}"
    );
}

#[test]
fn pages_keep_what_people_wrote() {
    let dir = dir();
    let arguments = [
        "runbooks",
        "examples/slo/api-availability.yaml",
        "--out",
        text(dir.path()),
    ];
    slo(&arguments).ok();
    let path = dir.join("api-availability-slo-burn.md");
    let first = read(&path);
    let mine = "\n| the moon is full | werewolves | the moon |\n";
    let (before, rest) = first.split_once("<!-- keep -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /keep -->").unwrap();
    let edited = format!("{before}<!-- keep -->\n{mine}<!-- /keep -->{after}");
    // A number that somebody typed over is made again; what stands between the marks stays.
    std::fs::write(&path, edited.replace("14.4", "99")).unwrap();
    slo(&arguments).ok();
    assert_eq!(read(&path), edited);

    for (spoilt, expected) in [
        (
            edited.replace("## Fix", "## Fixes"),
            "has text to keep in section \"Fixes\"",
        ),
        (edited.replacen("<!-- /keep -->", "", 1), "is not closed"),
        ("# Somebody's own\n".to_owned(), "was not made by `slo runbooks`"),
    ] {
        std::fs::write(&path, &spoilt).unwrap();
        let refused = slo(&arguments);
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        assert_eq!(read(&path), spoilt, "nothing was lost");
    }
}

#[test]
fn simulate_says_who_is_woken() {
    let file = "examples/slo/api-availability.yaml";
    let short = slo(&["simulate", file, "--outage", "60s@100%", "--rps", "50"]).ok();
    assert_eq!(
        short,
        "\
SLO_API_AVAILABILITY: 99.5 % over 30d, a budget of 3h 36m of total outage
3000 of 3000 events fail in 1m: 0.463 % of the budget

ALERT                       SEVERITY  PAGES  FIRES AFTER  QUIET AGAIN
APIAvailabilitySLOFastBurn  critical  yes    never        -
APIAvailabilitySLOSlowBurn  warning   no     never        -

Nobody is paged.
"
    );
    let long = slo(&["simulate", file, "--outage", "15m@100%"]).ok();
    assert!(
        long.contains("APIAvailabilitySLOFastBurn  critical  yes    4m 30s       5m after the end\n"),
        "{long}"
    );
    assert!(
        long.contains("APIAvailabilitySLOSlowBurn  warning   no     11m          29m 30s after the end\n"),
        "{long}"
    );
    assert!(long.ends_with("\nSomebody is paged after 4m 30s.\n"), "{long}");
    // Errors just at the threshold, as floating point sees them.
    let often = slo(&["simulate", file, "--outage", "3h@7.2%", "--scrape", "1s"]).ok();
    assert!(
        often.lines().count() < 15 && often.contains(" times more"),
        "{often}"
    );
    let json = slo(&["simulate", file, "--outage", "15m@100%", "--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["alerts"][0]["firings"][0]["from_seconds"], 270);
    assert_eq!(json[0]["alerts"][0]["firings"][0]["until_seconds"], 1200);
}
