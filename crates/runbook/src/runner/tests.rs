//! Pages carried out with real commands on this machine.

use std::path::Path;

use super::*;
use crate::host::LocalHost;
use crate::model::Form;
use crate::parse;

/// Answers every question with `yes` and keeps what it heard.
#[derive(Default)]
struct Listener {
    yes: bool,
    heard: Vec<String>,
}

impl Observer for Listener {
    fn begins(&mut self, _transcript: &Transcript) {}

    fn step_begins(&mut self, number: usize, total: usize, record: &Record) {
        self.heard.push(format!("{number}/{total} {}", record.step));
    }

    fn step_ends(&mut self, _number: usize, _total: usize, _record: &Record) {}

    fn consents<'a>(&'a mut self, record: &'a Record) -> BoxFuture<'a, bool> {
        self.heard.push(format!("asked {}", record.step));
        Box::pin(std::future::ready(self.yes))
    }
}

fn page(body: &str) -> Page {
    let parsed = parse("demo", "demo.md", format!("# Demo\n\n{body}").as_bytes());
    assert_eq!(parsed.problems, vec![]);
    parsed.page
}

fn hosts() -> Hosts {
    let mut hosts = Hosts::local_only();
    hosts.form = Form::Process;
    hosts.insert(
        "node1",
        Box::new(LocalHost {
            address: "127.0.0.11".to_owned(),
            ..LocalHost::default()
        }),
    );
    hosts
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

async fn run_select(body: &str, select: Select, yes: bool) -> (Transcript, Vec<String>) {
    let (page, hosts) = (page(body), hosts());
    let plan = Plan::new(&page, &hosts, &BTreeMap::new(), &select).unwrap();
    let (_stopper, stop) = Stop::pair();
    let mut listener = Listener {
        yes,
        ..Listener::default()
    };
    let transcript = plan.run(&mut listener, &stop, now).await;
    (transcript, listener.heard)
}

async fn run(body: &str) -> Transcript {
    run_select(body, Select::All, true).await.0
}

fn statuses(transcript: &Transcript) -> Vec<(&str, Status)> {
    transcript
        .steps
        .iter()
        .map(|record| (record.step.as_str(), record.status))
        .collect()
}

const THREE: &str = "## Checks\n```sh step=a\necho a\n```\n```output\na\n```\n## Fix\n```sh step=b expect=3\nexit 3\n```\n\
                     ```sh step=c expect=any on=node1\nexit 9\n```\n";

#[tokio::test]
async fn all_steps_pass_in_order() {
    let (transcript, heard) = run_select(THREE, Select::All, false).await;
    assert_eq!(transcript.outcome, Outcome::Passed);
    assert_eq!(
        statuses(&transcript),
        [
            ("a", Status::Passed),
            ("b", Status::Passed),
            ("c", Status::Passed)
        ]
    );
    assert_eq!(
        transcript
            .steps
            .iter()
            .map(|record| record.exit)
            .collect::<Vec<_>>(),
        [Some(0), Some(3), Some(9)]
    );
    assert_eq!(heard, ["1/3 a", "2/3 b", "3/3 c"]);
}

#[tokio::test]
async fn steps_can_be_chosen() {
    let names = |transcript: &Transcript| {
        transcript
            .steps
            .iter()
            .map(|r| r.step.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&run_select(THREE, Select::Only("b".to_owned()), false).await.0),
        ["b"]
    );
    assert_eq!(
        names(&run_select(THREE, Select::From("b".to_owned()), false).await.0),
        ["b", "c"]
    );
    assert_eq!(
        names(
            &run_select(THREE, Select::Section("checks".to_owned()), false)
                .await
                .0
        ),
        ["a"]
    );
}

#[tokio::test]
async fn run_ends_at_the_first_change_that_fails() {
    let transcript = run("## Fix\n```sh step=a\nexit 2\n```\n```sh step=b\ntouch never\n```\n").await;
    assert_eq!(transcript.outcome, Outcome::Failed);
    assert_eq!(
        statuses(&transcript),
        [("a", Status::Failed), ("b", Status::NotRun)]
    );
    assert_eq!(transcript.steps[0].reason.as_deref(), Some("expected exit 0"));
    let text = transcript.text();
    assert!(text.contains("= FAILED, exit 2"), "{text}");
    assert!(
        text.ends_with("FAILED: a (line 4)\nto go on, run it again with --from b\n"),
        "{text}"
    );
    let body = "## Proof\n```sh step=a destructive\nfalse\n```\n";
    let (transcript, _) = run_select(body, Select::All, false).await;
    assert_eq!(transcript.steps[0].status, Status::Declined);
    assert_eq!(
        transcript.next.as_deref(),
        Some("no step comes after it; read the page: mainstay runbook show demo.md")
    );
}

/// A page whose check `a` fails and `b` passes; `fix` and `proof` are the commands of the other sections.
fn failing_check(fix: &str, proof: &str) -> String {
    format!(
        "## Checks\n```sh step=a\nfalse\n```\n```sh step=b\ntrue\n```\n## Fix\nRestart it.\n{fix}\
         ## Proof\n```sh step=p\n{proof}\n```\n"
    )
}

#[tokio::test]
async fn a_check_that_fails_is_a_finding_and_the_others_are_collected() {
    let body = failing_check("```sh step=f\ntrue\n```\n", "true");
    let (transcript, _) = run_select(&body, Select::Section("Checks".to_owned()), false).await;
    assert_eq!(transcript.outcome, Outcome::Failed);
    assert_eq!(
        statuses(&transcript),
        [("a", Status::Failed), ("b", Status::Passed)]
    );
    assert_eq!(
        transcript.next.as_deref(),
        Some("to mend it, run it again with --section Fix")
    );
    let summary = transcript.summary();
    assert!(summary.contains("1 passed, 1 failed in "), "{summary}");
    assert!(summary.contains("\nFAILED: a (line 4)\n"), "{summary}");

    let transcript = run(&body).await;
    assert_eq!(transcript.outcome, Outcome::Failed);
    assert_eq!(
        (transcript.count(Status::Passed), transcript.count(Status::NotRun)),
        (3, 0)
    );
    assert_eq!(
        transcript.next.as_deref(),
        Some("the steps of Proof passed all the same")
    );

    let transcript = run(&failing_check("", "false")).await;
    assert_eq!(transcript.count(Status::Failed), 2);
    assert_eq!(
        transcript.next.as_deref(),
        Some("what to do about it: mainstay runbook show demo.md --section Fix")
    );
}

#[tokio::test]
async fn a_program_that_is_not_there_is_not_waited_for() {
    for command in ["no-such-program-here", "no-such-program-here | grep x"] {
        let transcript = run(&format!("```sh step=a retry=1h\n{command}\n```\n")).await;
        let record = &transcript.steps[0];
        assert_eq!((record.status, record.attempts), (Status::Failed, 1), "{command}");
        assert_eq!(
            record.reason.as_deref(),
            Some("expected exit 0; a program of the command was not found")
        );
    }
}

#[test]
fn dry_run_leaves_open_what_is_not_known() {
    let table = "## Parameters\n\n|p|d|m|\n|-|-|-|\n|NODE_IP|@node1|a|\n|NAME||the name|\n\n";
    let page = page(&format!(
        "{table}```sh step=a on=node1\necho $NODE_IP $NAME\n```\n"
    ));
    let hosts = Hosts::local_only();
    assert!(Plan::new(&page, &hosts, &BTreeMap::new(), &Select::All).is_err());
    let plan = Plan::sketch(&page, &hosts, &BTreeMap::new(), &Select::All).unwrap();
    let text = plan.dry_run(now()).text();
    assert!(
        text.contains("  NAME=(the name)\n  NODE_IP=(address of node1)\n"),
        "{text}"
    );
    assert!(text.contains("[1/1] a on node1\n"), "{text}");
    assert!(text.contains("1 planned"), "{text}");
}

#[tokio::test]
async fn wrong_output_shows_where_it_differs() {
    let transcript = run("```sh step=a\nprintf 'x\\ny\\n'\n```\n```output\nx\nz\n```\n").await;
    let record = &transcript.steps[0];
    assert_eq!((record.status, record.exit), (Status::Failed, Some(0)));
    assert_eq!(
        record.reason.as_deref(),
        Some("output line 2 is `y`, line 8 of the page wants `z`")
    );
    assert!(
        record.closing().contains("      x\n    - z\n    + y\n"),
        "{}",
        record.closing()
    );
}

#[tokio::test]
async fn slow_step_fails_by_its_timeout_even_with_any_exit() {
    let transcript =
        run("```sh step=a timeout=200ms expect=any\nsleep 600\n```\n```output\n...\n```\n").await;
    assert_eq!(
        transcript.steps[0].reason.as_deref(),
        Some("took longer than its timeout of 200ms")
    );
}

#[tokio::test]
async fn retried_step_passes_once_its_condition_holds() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("n");
    let command = format!("echo x >> {0}; test $(wc -l < {0}) -ge 3", counter.display());
    let transcript = run(&format!("```sh step=a retry=30s\n{command}\n```\n")).await;
    assert_eq!(
        (transcript.outcome, transcript.steps[0].attempts),
        (Outcome::Passed, 3)
    );
    let transcript = run("```sh step=a retry=600ms\nfalse\n```\n").await;
    assert_eq!(transcript.outcome, Outcome::Failed);
    assert!(transcript.steps[0].attempts >= 2);
}

#[tokio::test]
async fn destructive_step_runs_only_with_consent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gone");
    let body = format!(
        "```sh step=wipe destructive\ntouch {}\n```\n```sh step=b\ntrue\n```\n",
        file.display()
    );
    let (transcript, heard) = run_select(&body, Select::All, false).await;
    assert_eq!(transcript.outcome, Outcome::Failed);
    assert_eq!(
        statuses(&transcript),
        [("wipe", Status::Declined), ("b", Status::NotRun)]
    );
    assert_eq!(heard, ["1/2 wipe", "asked wipe", "2/2 b"]);
    assert!(!file.exists());
    let (transcript, _) = run_select(&body, Select::All, true).await;
    assert_eq!(transcript.outcome, Outcome::Passed);
    assert!(file.exists());
}

#[tokio::test]
async fn step_of_another_form_is_skipped_and_says_so() {
    let transcript =
        run("```sh step=a when=machine on=nowhere\nexit 1\n```\n```sh step=b when=process\ntrue\n```\n")
            .await;
    assert_eq!(
        statuses(&transcript),
        [("a", Status::Skipped), ("b", Status::Passed)]
    );
    assert!(
        transcript
            .text()
            .contains("skipped: only in form machine, this is process")
    );
    assert!(transcript.text().contains("1 passed, 0 failed, 1 skipped"));
}

#[tokio::test]
async fn stop_ends_the_run_and_the_transcript_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("begun");
    let body = format!(
        "```sh step=a\ntouch {}; sleep 600\n```\n```sh step=b\ntrue\n```\n",
        begun.display()
    );
    let (page, hosts) = (page(&body), hosts());
    let plan = Plan::new(&page, &hosts, &BTreeMap::new(), &Select::All).unwrap();
    let (stopper, stop) = Stop::pair();
    let mut listener = Listener::default();
    let (transcript, ()) = tokio::join!(plan.run(&mut listener, &stop, now), async {
        for _ in 0..3000 {
            if begun.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stopper.stop();
    });
    assert_eq!(transcript.outcome, Outcome::Interrupted);
    assert_eq!(
        statuses(&transcript),
        [("a", Status::Interrupted), ("b", Status::NotRun)]
    );
}

#[tokio::test]
async fn parameters_come_from_page_host_and_caller() {
    let table = "## Parameters\n\n|p|d|m|\n|-|-|-|\n|NODE_IP|@node1|a|\n|NODE|node1|b|\n|NAME||c|\n|ADMIN_PASSWORD|hunter2|d|\n\n";
    let page = page(&format!(
        "{table}```sh step=a on=$NODE\necho \"$NODE_IP $NODE $NAME $ADMIN_PASSWORD\"\n```\n"
    ));
    let hosts = hosts();
    let given = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let plan = Plan::new(&page, &hosts, &given(&[("NAME", "$(id) a")]), &Select::All).unwrap();
    let (_stopper, stop) = Stop::pair();
    let transcript = plan.run(&mut Listener::default(), &stop, now).await;
    assert_eq!(transcript.steps[0].stdout, "127.0.0.11 node1 $(id) a (hidden)\n");
    assert_eq!(transcript.steps[0].host, "node1");
    assert!(!transcript.json().contains("hunter2"));

    let refused = |pairs: &[(&str, &str)]| Plan::new(&page, &hosts, &given(pairs), &Select::All).unwrap_err();
    assert_eq!(
        refused(&[]),
        "parameter `NAME` (c) is wanted; give --param NAME=VALUE"
    );
    assert_eq!(
        refused(&[("NAMES", "x")]),
        "no parameter `NAMES` in `demo`; did you mean `NAME`?"
    );
    assert!(
        refused(&[("NAME", "x"), ("NODE", "node9")])
            .contains("host `node9`, which is not known; did you mean `node1`?")
    );
}

#[test]
fn wrong_calls_are_refused_before_anything_runs() {
    let hosts = hosts();
    let refused =
        |page: &Page, select: Select| Plan::new(page, &hosts, &BTreeMap::new(), &select).unwrap_err();
    let three = page(THREE);
    assert_eq!(
        refused(&three, Select::Only("d".to_owned())),
        "no step `d` in `demo`; did you mean `a`?"
    );
    assert_eq!(
        refused(&three, Select::Section("Prof".to_owned())),
        "no steps in a section `Prof` of `demo`; known are Checks, Fix"
    );
    assert_eq!(
        refused(&page("```sh step=a when=machine\ntrue\n```\n"), Select::All),
        "nothing to run: no chosen step of `demo` exists in a process lab"
    );
    assert_eq!(
        refused(&page("text\n"), Select::All),
        "runbook `demo` has no steps to run"
    );
}

#[test]
fn dry_run_names_every_step_and_runs_none() {
    let (page, hosts) = (page("```sh step=a destructive\ntouch /never\n```\n"), hosts());
    let plan = Plan::new(&page, &hosts, &BTreeMap::new(), &Select::All).unwrap();
    assert_eq!(plan.destructive(), ["a"]);
    let transcript = plan.dry_run(now());
    assert_eq!(statuses(&transcript), [("a", Status::Planned)]);
    assert!(
        transcript
            .text()
            .contains("[1/1] a on local  [destructive]\n  $ touch /never\n  = would run\n")
    );
    assert!(!Path::new("/never").exists());
}

#[test]
fn transcript_file_is_complete_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.json");
    crate::transcript::write_file(&file, "one").unwrap();
    crate::transcript::write_file(&file, "two").unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "two");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(crate::transcript::write_file(&folder.path().join("no/such"), "x").is_err());
}
