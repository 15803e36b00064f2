//! What the parser cannot call an error but a reader at night would miss: absent sections, parameters nobody uses, steps
//! that check nothing. Only warnings; a page with warnings runs.

use crate::model::{Expect, Page, Step};
use crate::problem::{Problem, Severity};

/// Sections every runbook has, in reading order.
pub const SECTIONS: [&str; 5] = ["Symptom", "Checks", "Fix", "Proof", "Prevention"];

/// Warnings about a page, in the order of its lines.
pub fn lint(page: &Page) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut warn = |line: usize, message: String| {
        let file = page.label.clone();
        problems.push(Problem {
            file,
            line,
            column: 1,
            severity: Severity::Warning,
            message,
        });
    };
    if !page.has_alert_line {
        warn(
            1,
            "no `alert:` line; name the alerts this page serves, or write `alert: none`".to_owned(),
        );
    }
    for wanted in SECTIONS {
        if !page
            .sections
            .iter()
            .any(|section| section.title.eq_ignore_ascii_case(wanted))
        {
            warn(
                1,
                format!("no section `## {wanted}`; a runbook has {}", SECTIONS.join(", ")),
            );
        }
    }
    if page.steps.is_empty() {
        warn(
            1,
            "no step; mark the commands a person would type with `sh step=NAME`".to_owned(),
        );
    }
    for parameter in &page.parameters {
        let used = page.steps.iter().any(|step| uses(step, &parameter.name));
        if !used {
            warn(
                parameter.line,
                format!("parameter `{}` is used by no step; remove it", parameter.name),
            );
        }
    }
    for step in &page.steps {
        if step.expect == Expect::Any && step.output.is_none() {
            let message = "checks nothing: any exit code and no output; add an `output` fence";
            warn(step.line, format!("step `{}` {message}", step.name));
        }
        if step.destructive && step.retry.is_some() {
            let message = "is destructive and repeated; put `retry=` on a step of its own that only looks";
            warn(step.line, format!("step `{}` {message}", step.name));
        }
    }
    problems.sort_by_key(|problem| problem.line);
    problems
}

/// Whether the step's command or host mentions the variable.
fn uses(step: &Step, name: &str) -> bool {
    if step.on == crate::model::Place::Parameter(name.to_owned()) {
        return true;
    }
    step.command.match_indices(name).any(|(at, _)| {
        let before = &step.command[..at];
        let after = step.command[at + name.len()..].chars().next();
        (before.ends_with('$') || before.ends_with("${"))
            && !after.is_some_and(|next| next.is_ascii_alphanumeric() || next == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn warnings(text: &str) -> Vec<String> {
        let parsed = parse("x", "x.md", text.as_bytes());
        assert_eq!(parsed.problems, vec![], "the page itself is fine");
        lint(&parsed.page).iter().map(ToString::to_string).collect()
    }

    const SOUND: &str = "# T\n\nalert: none\n\n## Symptom\n## Checks\n```sh step=a\ntrue\n```\n## Fix\n## Proof\n## Prevention\n";

    #[test]
    fn sound_page_has_no_warning() {
        assert_eq!(warnings(SOUND), Vec::<String>::new());
    }

    #[test]
    fn absent_parts_are_named() {
        let without = SOUND.replace("alert: none\n", "").replace("## Proof\n", "");
        assert_eq!(
            warnings(&without),
            [
                "x.md:1:1: warning: no `alert:` line; name the alerts this page serves, or write `alert: none`",
                "x.md:1:1: warning: no section `## Proof`; a runbook has Symptom, Checks, Fix, Proof, Prevention",
            ]
        );
    }

    #[test]
    fn steps_that_prove_nothing_are_named() {
        let any = SOUND.replace("step=a", "step=a expect=any");
        assert!(warnings(&any)[0].contains("step `a` checks nothing"));
        let again = SOUND.replace("step=a", "step=a destructive retry=1s");
        assert!(warnings(&again)[0].contains("step `a` is destructive and repeated"));
    }

    #[test]
    fn unused_parameter_is_named_but_a_longer_name_does_not_use_it() {
        let table = "## Parameters\n\n|p|d|m|\n|-|-|-|\n|NODE|x|y|\n|NODE_IP|x|y|\n\n## Fix\n";
        let page = SOUND
            .replace("## Fix\n", table)
            .replace("true", "echo ${NODE_IP}");
        assert_eq!(
            warnings(&page),
            ["x.md:14:1: warning: parameter `NODE` is used by no step; remove it"]
        );
    }
}
