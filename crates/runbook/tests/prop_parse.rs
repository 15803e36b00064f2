//! The parser ends with a page and places inside it, whatever the bytes are.

use proptest::prelude::*;

/// Pieces of the format, so that random pages reach past the first check.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("# Title\n\n".to_owned()),
        Just("## Parameters\n\n| p | d | m |\n|---|---|---|\n| A | @b | c |\n\n".to_owned()),
        Just("```sh step=a on=$A\n".to_owned()),
        Just("```sh step=b expect=any retry=1s destructive\ntrue\n```\n".to_owned()),
        Just("```output\n".to_owned()),
        Just("...\n".to_owned()),
        Just("```\n".to_owned()),
        Just("~~~~\r\n".to_owned()),
        Just("  - ".to_owned()),
        Just("> ".to_owned()),
        Just("alert: A, b c\n".to_owned()),
        Just("\r".to_owned()),
        Just("\n".to_owned()),
        "[a-z=`|~# \\-\\t\\n\u{e4}\u{200b}]{0,20}",
        any::<String>(),
    ]
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let parsed = runbook::parse("x", "x.md", bytes);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    for problem in &parsed.problems {
        prop_assert!((1..=lines).contains(&problem.line), "{problem} in {lines} lines");
        prop_assert!(problem.column >= 1);
        prop_assert!(!problem.message.contains('\n'), "one line: {problem}");
    }
    for step in &parsed.page.steps {
        prop_assert!((1..=lines).contains(&step.line));
    }
    prop_assert!(parsed.page.steps.len() <= runbook::parse::STEPS_MAX);
    let _ = runbook::check::lint(&parsed.page);
    let _ = runbook::render::page(&parsed.page, 80, false);
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        check(&bytes)?;
    }

    #[test]
    fn random_pages_never_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        check(pieces.concat().as_bytes())?;
    }

    #[test]
    fn any_output_matches_itself_and_any_lines(text in "[a-z. \\n]{0,60}") {
        prop_assume!(!text.lines().any(|line| line.trim_end() == "..."));
        prop_assert!(runbook::output::Pattern::new(&text, 1).compare(&text).is_ok());
        prop_assert!(runbook::output::Pattern::new("...", 1).compare(&text).is_ok());
        let framed = format!("...\n{text}\n...");
        let surrounded = format!("before\n{text}\nafter");
        prop_assert!(runbook::output::Pattern::new(&framed, 1).compare(&surrounded).is_ok());
    }
}
