//! The binary as a person or a package script meets it.

use std::path::Path;
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_mainstay");

fn run(args: &[&str]) -> Output {
    Command::new(BINARY)
        .args(args)
        .output()
        .expect("the binary can be started")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}

/// First words of `mainstay --list`.
fn programs() -> Vec<String> {
    let output = run(&["--list"]);
    assert!(output.status.success());
    text(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn list_is_an_interface() {
    let output = run(&["--list"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), include_str!("list.txt"));
    assert!(output.stderr.is_empty());
}

#[test]
fn help_and_version_go_to_stdout() {
    for (args, start) in [
        (["--help"], "mainstay keeps"),
        (["--version"], "mainstay 0."),
        (["-h"], "mainstay keeps"),
    ] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).starts_with(start), "{args:?}");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn help_before_a_command_is_that_commands_help() {
    for words in [
        &["up"][..],
        &["runbook", "run"],
        &["chainfire"],
        &["chainfire-client", "put"],
    ] {
        let before = run(&[&["help"], words].concat());
        assert_eq!(before.status.code(), Some(0), "{words:?}");
        let after = run(&[words, &["--help"]].concat());
        assert_eq!(text(&before.stdout), text(&after.stdout), "{words:?}");
    }
    let unknown = run(&["help", "runbok"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(text(&unknown.stderr).starts_with("Error: no command or program `runbok`; did you mean"));
}

#[test]
fn unknown_name_is_refused_with_the_list() {
    let output = run(&["runbok"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty());
    let stderr = text(&output.stderr);
    assert!(
        stderr.starts_with("Error: no command or program `runbok`; did you mean `runbook`?\n"),
        "{stderr}"
    );
    for name in programs()
        .iter()
        .map(String::as_str)
        .chain(["runbook", "certs", "completions", "man"])
    {
        assert!(
            stderr
                .lines()
                .any(|line| line.split_whitespace().next() == Some(name)),
            "{name} in {stderr}"
        );
    }
}

#[test]
fn words_of_other_tools_and_of_deeper_commands_are_understood() {
    for (word, right) in [
        ("start", "up"),
        ("logs", "lab logs"),
        ("check", "runbook check"),
        ("put", "chainfire-client put"),
    ] {
        let output = run(&[word]);
        assert_eq!(output.status.code(), Some(64));
        let start = format!("Error: no command or program `{word}`; did you mean `{right}`?\n");
        assert!(
            text(&output.stderr).starts_with(&start),
            "{}",
            text(&output.stderr)
        );
    }
    let bogus = run(&["bogus"]);
    assert!(
        text(&bogus.stderr).starts_with("Error: no command or program `bogus`; there are:\n"),
        "{}",
        text(&bogus.stderr)
    );
}

#[test]
fn no_argument_shows_what_there_is_and_fails() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty());
    assert!(text(&output.stderr).contains("runbook"));
}

#[test]
fn wrong_arguments_of_a_subcommand_are_wrong_usage() {
    for args in [
        &["runbook", "lst"][..],
        &["completions", "sh"],
        &["man", "--dri"],
        &["runbook"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn every_program_answers_help_under_both_names() {
    let folder = tempfile::tempdir().unwrap();
    for name in programs() {
        let link = folder.path().join(&name);
        std::os::unix::fs::symlink(BINARY, &link).unwrap();
        let by_link = Command::new(&link).arg("--help").output().unwrap();
        assert_eq!(by_link.status.code(), Some(0), "{name}");
        assert!(!by_link.stdout.is_empty(), "{name}");
        assert_eq!(run(&[&name, "--help"]).stdout, by_link.stdout, "{name}");
    }
}

#[test]
fn link_of_another_name_is_mainstay_itself() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("runbook"); // a subcommand's word is no program
    std::os::unix::fs::symlink(BINARY, &link).unwrap();
    let output = Command::new(&link).arg("--version").output().unwrap();
    assert!(text(&output.stdout).starts_with("mainstay "));
}

#[test]
fn completions_exist_for_every_shell_and_program() {
    for shell in ["bash", "zsh", "fish"] {
        let whole = run(&["completions", shell]);
        assert_eq!(whole.status.code(), Some(0));
        assert!(text(&whole.stdout).contains("runbook"), "{shell}");
        for name in programs() {
            let output = run(&["completions", shell, &name]);
            assert_eq!(output.status.code(), Some(0), "{shell} {name}");
            assert!(text(&output.stdout).contains(&name), "{shell} {name}");
        }
    }
    let unknown = run(&["completions", "bash", "nothing"]);
    assert_eq!(
        (unknown.status.code(), unknown.stdout.is_empty()),
        (Some(64), true)
    );
}

#[test]
fn bash_accepts_its_completions() {
    let output = run(&["completions", "bash"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mainstay.bash");
    std::fs::write(&file, &output.stdout).unwrap();
    assert!(
        Command::new("bash")
            .arg("-n")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn manual_pages_exist_for_every_program_and_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("man1");
    let output = run(&["man", "--dir", dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let wanted = [
        "mainstay",
        "mainstay-runbook",
        "mainstay-runbook-run",
        "mainstay-man",
    ]
    .map(str::to_owned);
    for name in programs().into_iter().chain(wanted) {
        let page =
            std::fs::read_to_string(dir.join(format!("{name}.1"))).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    assert!(text(&run(&["man", "runbook"]).stdout).contains(".TH mainstay-runbook 1"));
    let page = |name: &str| std::fs::read_to_string(dir.join(name)).expect("the page was written");
    let run_page = page("mainstay-runbook-run.1");
    for part in [
        ".SH OPTIONS",
        ".SH \"EXIT STATUS\"",
        ".SH \"ENVIRONMENT\"",
        "\\fBMAINSTAY_LAB\\fR",
        ".SH \"FILES\"",
        ".SH \"SEE ALSO\"\n\\fBmainstay\\-runbook\\fR(1)\n",
    ] {
        assert!(run_page.contains(part), "{part} in {run_page}");
    }
    assert!(page("chainfire.1").contains("/etc/centra\\-cloud/chainfire.toml"));
    // The client has a code of its own for wrong usage, and its pages say what `--help` says.
    let put = page("chainfire-client-put.1");
    assert!(
        put.contains(".TP\n\\fB2\\fR\nWrong usage") && !put.contains("\\fB64\\fR"),
        "{put}"
    );
    assert_eq!(run(&["chainfire-client", "put"]).status.code(), Some(2));
    assert!(put.contains(".SH EXAMPLES\n") && !put.contains("EXTRA"), "{put}");
    for words in [
        &["runbook run"][..],
        &["runbook", "run"],
        &["runbook-run"],
        &["mainstay-runbook-run"],
    ] {
        let output = run(&[&["man"], words].concat());
        assert_eq!(text(&output.stdout), run_page, "{words:?}");
    }
    let unknown = run(&["man", "runbook", "rnu"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert_eq!(
        text(&unknown.stderr),
        "Error: no manual page `runbook rnu`; did you mean `runbook run`?\n"
    );
    let refused = run(&["man", "--dir", &Path::new(BINARY).join("x").display().to_string()]);
    assert_eq!(refused.status.code(), Some(1));
}
