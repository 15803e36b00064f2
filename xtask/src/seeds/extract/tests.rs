//! The readers on small pages of each form, and what they find in the seeds themselves.

use super::{Form, command_lines, is_complete};

#[track_caller]
fn check(form: Form, text: &str, expected: &[&str]) {
    let found: Vec<String> = command_lines(form, text)
        .into_iter()
        .map(|line| line.text)
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn fences_of_a_shell_are_read_and_others_are_not() {
    let text = "Prose with `qu status`.\n|\n```sh\n|\n# why\n|\nqu init \\\n|\n  --advertise a:1\n|\nqu status # fine\n|\n```\n|\n\
                ```yaml\n|\nsudo: no\n|\n```\n|\n";
    check(
        Form::Fenced,
        text,
        &["qu init \\\n--advertise a:1", "qu status # fine"],
    );
}

#[test]
fn captioned_blocks_end_where_the_indentation_ends() {
    let text = "  1. Check:\n    List tokens bash\n    mezctl tokens ls\n  2. Next: prose\n    Clean up sql\n    SELECT 1\n    FROM x;\n";
    check(Form::Captioned, text, &["mezctl tokens ls", "SELECT 1\nFROM x;"]);
}

#[test]
fn plain_text_loses_its_glued_captions() {
    let text = "Symptoms:\n- curl commands fail\ncurl -s http://m:1/varz | jq '{a}'Step 2: Check the network.\nsystemctl status zester-peel\n";
    check(
        Form::Plain,
        text,
        &[
            "curl -s http://m:1/varz | jq '{a}'",
            "systemctl status zester-peel",
        ],
    );
}

#[test]
fn a_loop_is_one_command() {
    let text = "for a in x y; do\nfor b in x y; do\necho \"$a for $b\"\ndone\ndone\n";
    check(Form::Plain, text, &[text.trim_end()]);
}

#[test]
fn quotes_and_comments_are_told_apart() {
    assert!(is_complete("sleep 10 # don't hurry"));
    assert!(!is_complete("echo 'it"));
    assert!(is_complete(r#"echo "a \" b""#));
    assert!(!is_complete("a |"));
}
