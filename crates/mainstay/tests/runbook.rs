//! `mainstay runbook` as operators and programs use it: streams, exit codes, transcript, Ctrl-C.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const PAGE: &str = "\
# Demo

alert: DemoBroken

## Symptom
## Parameters

| param | default | meaning |
|---|---|---|
| WORD | hello | what to say |
| FILE | | file to remove |

## Checks

```sh step=say
echo \"$WORD $HOST_NAME $HOST_ADDR\"
```

```output
[..] [..] 127.0.0.[..]
```

```sh step=where on=node1
echo $HOST_NAME
```

```output
node1
```

## Fix

```sh step=remove destructive
rm \"$FILE\"
```

## Proof

```sh step=gone
test ! -e \"$FILE\"
```

## Prevention
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(page: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("demo.md"), page).expect("the page is written");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        command.arg("runbook").args(args).stdin(Stdio::null());
        // No lab of the person who runs the tests may be found.
        command
            .env("MAINSTAY_RUNBOOKS", self.path())
            .env("XDG_STATE_HOME", self.path())
            .env_remove("MAINSTAY_LAB");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary can be started")
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}

#[test]
fn list_and_show_and_check_print_to_stdout() {
    let folder = Folder::new(PAGE);
    let list = folder.run(&["list"]);
    assert_eq!(
        text(&list.stdout),
        "NAME  STEPS  DESTRUCTIVE  ALERTS      TITLE\ndemo      4  remove       DemoBroken  Demo\n"
    );
    let json = folder.run(&["list", "--format", "json"]);
    assert!(
        text(&json.stdout).starts_with(r#"[{"name":"demo","title":"Demo""#),
        "{}",
        text(&json.stdout)
    );
    let show = folder.run(&["show", "demo"]);
    assert!(text(&show.stdout).contains("[step remove, DESTRUCTIVE]"));
    let check = folder.run(&["check"]);
    assert_eq!(
        (check.status.code(), text(&check.stdout)),
        (Some(0), "1 checked, 0 errors, 0 warnings\n")
    );
}

#[test]
fn mistakes_are_named_and_keep_the_page_from_running() {
    let folder = Folder::new(&PAGE.replace("on=node1", "onn=node1"));
    let place = format!(
        "{}/demo.md:23:18: error: unknown attribute `onn`; did you mean `on`?",
        folder.path().display()
    );
    let check = folder.run(&["check", "demo"]);
    assert_eq!(check.status.code(), Some(1));
    assert!(text(&check.stdout).starts_with(&place), "{}", text(&check.stdout));
    let run = folder.run(&["run", "demo"]);
    assert_eq!(run.status.code(), Some(64));
    assert!(run.stdout.is_empty());
    assert!(text(&run.stderr).starts_with(&place), "{}", text(&run.stderr));
}

#[test]
fn run_follows_the_page_and_writes_the_transcript() {
    let folder = Folder::new(PAGE);
    let file = folder.path().join("victim");
    std::fs::write(&file, "").unwrap();
    let param = format!("FILE={}", file.display());
    let transcript = folder.path().join("t.json");
    let base = ["run", "demo", "--on", "node1=127.0.0.77", "--param", &param];
    let output = folder.run(
        &[
            &base[..],
            &["--yes", "--transcript", transcript.to_str().unwrap()],
        ]
        .concat(),
    );
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}{}", text(&output.stderr));
    assert!(stdout.contains("[1/4] say on local\n  $ echo \"$WORD $HOST_NAME $HOST_ADDR\"\n  hello local 127.0.0.1\n  = ok, exit 0"));
    assert!(stdout.contains("4 passed, 0 failed in "));
    assert!(!file.exists());
    let json = std::fs::read_to_string(&transcript).unwrap();
    for wanted in [
        r#""outcome": "passed""#,
        r#""host": "node1""#,
        r#""exit": 0"#,
        r#""status": "passed""#,
    ] {
        assert!(json.contains(wanted), "{wanted} in {json}");
    }
}

#[test]
fn json_leaves_stdout_to_the_transcript() {
    let folder = Folder::new(PAGE);
    let output = folder.run(&[
        "run", "demo", "--step", "say", "--param", "FILE=x", "--format", "json",
    ]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stdout).starts_with("{\n  \"runbook\": \"demo\"")
            && text(&output.stdout).ends_with("}\n")
    );
    assert!(text(&output.stderr).contains("[1/1] say on local"));
}

#[test]
fn destructive_step_without_terminal_wants_yes_and_nothing_runs() {
    let folder = Folder::new(PAGE);
    let file = folder.path().join("victim");
    std::fs::write(&file, "").unwrap();
    let param = format!("FILE={}", file.display());
    let args = ["run", "demo", "--on", "node1=127.0.0.77", "--param", &param];
    let output = folder.run(&args);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).starts_with("Error: destructive steps (remove) want consent"));
    assert!(output.stdout.is_empty() && file.exists());
    let dry = folder.run(&[&args[..], &["--dry-run"]].concat());
    assert_eq!(dry.status.code(), Some(0));
    assert!(text(&dry.stdout).contains("4 planned"), "{}", text(&dry.stdout));
    assert!(file.exists());
}

#[test]
fn person_at_a_terminal_is_asked() {
    for (answer, code, word, stays) in [("n\n", 1, "= declined", true), ("y\n", 0, "= ok", false)] {
        let folder = Folder::new("# T\n\n```sh step=remove destructive\nrm victim\n```\n");
        std::fs::write(folder.path().join("victim"), "").unwrap();
        // `script` gives the command a terminal and passes on what is typed.
        let line = format!("'{}' runbook run demo", env!("CARGO_BIN_EXE_mainstay"));
        let mut terminal = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .current_dir(folder.path())
            .env("MAINSTAY_RUNBOOKS", folder.path())
            .env("XDG_STATE_HOME", folder.path())
            .env_remove("MAINSTAY_LAB")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut typing = terminal.stdin.take().unwrap();
        let mut screen = terminal.stdout.take().unwrap();
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.ends_with("run it? [y/N] ") && screen.read(&mut byte).unwrap() == 1 {
            seen.push(char::from(byte[0]));
        }
        typing.write_all(answer.as_bytes()).unwrap();
        screen.read_to_string(&mut seen).unwrap();
        assert_eq!(terminal.wait().unwrap().code(), Some(code), "{seen}");
        assert!(
            seen.contains("step remove on local is destructive: run it? [y/N] ") && seen.contains(word),
            "{seen}"
        );
        assert_eq!(folder.path().join("victim").exists(), stays);
    }
}

#[test]
fn wrong_calls_say_what_would_be_right() {
    let folder = Folder::new(PAGE);
    let cases: [(&[&str], &str); 6] = [
        (&["run", "dmeo"], "did you mean `demo`?"),
        (
            &["run", "demo"],
            "parameter `FILE` (file to remove) is wanted; give --param FILE=VALUE",
        ),
        (
            &["run", "demo", "--param", "FIEL=x"],
            "no parameter `FIEL` in `demo`; did you mean `FILE`?",
        ),
        (
            &["run", "demo", "--param", "FILE=x"],
            "start a lab with `mainstay up`, or name it with --on node1=ADDRESS",
        ),
        (
            &["run", "demo", "--param", "FILE=x", "--step", "sya"],
            "no step `sya` in `demo`; did you mean `say`?",
        ),
        (
            &["run", "demo", "--param", "FILE=x", "--lab", "nowhere"],
            "is the lab running?",
        ),
    ];
    for (args, message) in cases {
        let output = folder.run(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(
            text(&output.stderr).contains(message),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn failed_step_is_exit_code_one_and_the_step_after_it_is_named() {
    let folder = Folder::new("# T\n\n```sh step=a\nfalse\n```\n```sh step=b\ntrue\n```\n");
    let output = folder.run(&["run", "demo"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).ends_with("FAILED: a (line 3)\nto go on, run it again with --from b\n"));
}

#[test]
fn failed_check_does_not_keep_the_others_from_being_collected() {
    let folder = Folder::new(&PAGE.replace("[..] [..] 127.0.0.[..]", "nothing of the kind"));
    let args = [
        "run",
        "demo",
        "--section",
        "Checks",
        "--param",
        "FILE=x",
        "--on",
        "node1=127.0.0.77",
    ];
    let output = folder.run(&args);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(
        stdout.contains("[1/2] say on local") && stdout.contains("= FAILED, exit 0"),
        "{stdout}"
    );
    assert!(
        stdout.contains("[2/2] where on node1\n  $ echo $HOST_NAME\n  node1\n  = ok"),
        "{stdout}"
    );
    assert!(stdout.contains("1 passed, 1 failed in "), "{stdout}");
    assert!(
        stdout.ends_with("to mend it, run it again with --section Fix\n"),
        "{stdout}"
    );
    assert!(!stdout.contains('\u{1b}'), "no colour where there is no terminal");
}

#[test]
fn alert_is_as_good_as_the_name_of_its_page() {
    let folder = Folder::new(PAGE);
    assert!(text(&folder.run(&["show", "DemoBroken"]).stdout).starts_with("Demo\n====\n"));
    let fix = folder.run(&["show", "DemoBroken", "--section", "fix"]);
    assert!(
        text(&fix.stdout).starts_with("Fix\n---\n"),
        "{}",
        text(&fix.stdout)
    );
    assert!(!text(&fix.stdout).contains("Proof"));
    let run = folder.run(&["run", "DemoBroken", "--step", "say", "--param", "FILE=x"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    assert!(text(&run.stdout).starts_with("demo: Demo ("));
    for verb in ["run", "show", "check"] {
        let output = folder.run(&[verb, "DemoBorken"]);
        assert_eq!(output.status.code(), Some(64), "{verb}");
        assert!(
            text(&output.stderr).ends_with("did you mean `DemoBroken`?\n"),
            "{verb}"
        );
    }
    assert_eq!(
        folder.run(&["show", "demo", "--section", "Fxi"]).status.code(),
        Some(64)
    );
}

#[test]
fn check_compares_pages_with_alert_rules() {
    let folder = Folder::new(PAGE);
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules).unwrap();
    let rule = |page: &str| format!("- alert: DemoBroken\n  annotations:\n    runbook: {page}\n");
    let check = |page: &str| {
        std::fs::write(rules.join("r.yml"), rule(page)).unwrap();
        folder.run(&["check", "--rules", rules.to_str().unwrap()])
    };
    assert_eq!(check("demo").status.code(), Some(0));
    let wrong = check("dmeo");
    assert_eq!(wrong.status.code(), Some(1));
    let line =
        "r.yml:3:1: error: alert `DemoBroken` names runbook `dmeo`, which is no page; did you mean `demo`?\n";
    assert!(text(&wrong.stdout).contains(line), "{}", text(&wrong.stdout));
}

#[test]
fn steps_outside_a_lab_find_the_programs_of_this_binary() {
    let folder =
        Folder::new("# T\n\n```sh step=a on=node1\nchainfire-client --version; command -v chainfire\n```\n");
    let mut command = folder.command(&["run", "demo", "--on", "node1=127.0.0.77"]);
    let output = command
        .env("PATH", "/usr/bin:/bin")
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("  chainfire-client "), "{stdout}");
    assert!(stdout.contains("/mainstay-programs-"), "{stdout}");
    let left = std::fs::read_dir(folder.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["demo.md"], "the links go with the run");
}

#[test]
fn dry_run_wants_no_lab_and_no_parameter() {
    let folder = Folder::new(PAGE);
    let output = folder.run(&["run", "demo", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("  FILE=(file to remove)\n"));
    assert!(text(&output.stdout).contains("4 planned"));
}

#[test]
fn variable_without_a_value_names_no_lab() {
    let folder = Folder::new(PAGE);
    let mut command = folder.command(&["run", "demo", "--step", "say", "--param", "FILE=x"]);
    let output = command.env("MAINSTAY_LAB", "").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let named = folder.run(&["run", "demo", "--step", "say", "--param", "FILE=x", "--lab", ""]);
    assert_eq!(
        named.status.code(),
        Some(64),
        "an empty name on the command line is a mistake"
    );
}

#[test]
fn failure_is_red_on_a_terminal() {
    let folder = Folder::new("# T\n\n```sh step=a\nfalse\n```\n");
    let line = format!("'{}' runbook run demo", env!("CARGO_BIN_EXE_mainstay"));
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("MAINSTAY_RUNBOOKS", folder.path())
        .env("XDG_STATE_HOME", folder.path())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .env_remove("MAINSTAY_LAB")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("= \u{1b}[31mFAILED\u{1b}[0m, exit 1"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn lab_state_names_the_hosts() {
    let folder = Folder::new(PAGE);
    let lab = folder.path().join("mainstay/lab");
    std::fs::create_dir_all(&lab).unwrap();
    let state = r#"{"name":"l","form":"process","hosts":[{"name":"node1","address":"127.0.0.11","path":[],"env":{}}]}"#;
    std::fs::write(lab.join("lab.json"), state).unwrap();
    let output = folder.run(&["run", "demo", "--section", "checks", "--param", "FILE=x"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let place = format!("lab l in {}, form process", lab.display());
    assert!(text(&output.stdout).contains(&place), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("hello node1 127.0.0.11"));
}

#[test]
fn interrupt_stops_the_step_and_still_writes_the_transcript() {
    let folder =
        Folder::new("# T\n\n```sh step=a timeout=10m\necho $$ > pid.tmp; mv pid.tmp pid; sleep 600\n```\n");
    let transcript = folder.path().join("t.txt");
    let mut command = folder.command(&["run", "demo", "--transcript", transcript.to_str().unwrap()]);
    let mut child = command
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = folder.path().join("pid");
    wait_until("the step runs", || pid.exists());
    let step = std::fs::read_to_string(&pid).unwrap();
    assert!(
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert!(stdout.contains("= interrupted"), "{stdout}");
    assert!(
        std::fs::read_to_string(&transcript)
            .unwrap()
            .contains("1 interrupted")
    );
    wait_until("the step is gone", || {
        !Path::new("/proc").join(step.trim()).exists()
    });
}

/// Polls a condition for at most half a minute.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let (_open, never) = std::sync::mpsc::channel::<()>();
    let holds = (0..3000).any(|_| {
        let _ = never.recv_timeout(Duration::from_millis(10)); // nobody sends: this is the pause between two looks
        condition()
    });
    assert!(holds, "{what}: not within 30 s");
}
