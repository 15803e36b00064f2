//! The answer of `/livez`, `/readyz` and `/healthz`: a list of named checks and the text made of them.
//!
//! The text is etcd's: one line per check (`[+]name ok`, `[-]name failed: reason`) when asked for, or when something
//! failed, and `ok` at the end when nothing did. This module runs no checks and serves no HTTP.

use std::fmt::Write;

/// One named check and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Name of the check, in snake case.
    pub name: &'static str,
    /// `None` when it passed, else why it failed.
    pub failure: Option<String>,
}

impl Check {
    /// A check that passed.
    pub const fn ok(name: &'static str) -> Self {
        Self { name, failure: None }
    }

    /// A check that failed.
    pub fn failed(name: &'static str, reason: impl Into<String>) -> Self {
        Self {
            name,
            failure: Some(reason.into()),
        }
    }

    /// Passed when `result` is.
    pub fn of(name: &'static str, result: Result<(), impl std::fmt::Display>) -> Self {
        Self {
            name,
            failure: result.err().map(|error| error.to_string()),
        }
    }
}

/// All checks of one question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The checks, in the order shown.
    pub checks: Vec<Check>,
}

impl Health {
    /// The given checks; none at all is healthy.
    pub fn new(checks: impl IntoIterator<Item = Check>) -> Self {
        Self {
            checks: checks.into_iter().collect(),
        }
    }

    /// Whether every check passed.
    pub fn is_ok(&self) -> bool {
        self.checks.iter().all(|check| check.failure.is_none())
    }

    /// 200 or 503.
    pub fn http_status(&self) -> u16 {
        if self.is_ok() { 200 } else { 503 }
    }

    /// The reasons of the failed checks, joined by `; `. Empty when healthy.
    pub fn reason(&self) -> String {
        let reasons: Vec<&str> = self
            .checks
            .iter()
            .filter_map(|check| check.failure.as_deref())
            .collect();
        reasons.join("; ")
    }

    /// The body: `ok`, or one line per check when `verbose` or when one failed.
    pub fn text(&self, verbose: bool) -> String {
        let mut text = String::new();
        if verbose || !self.is_ok() {
            for check in &self.checks {
                match &check.failure {
                    None => writeln!(text, "[+]{} ok", check.name),
                    Some(reason) => writeln!(text, "[-]{} failed: {reason}", check.name),
                }
                .expect("writing to a string cannot fail");
            }
        }
        if self.is_ok() {
            text.push_str("ok\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_is_short_unless_asked() {
        let health = Health::new([Check::ok("data_corruption"), Check::ok("serializable_read")]);
        assert_eq!(health.text(false), "ok\n");
        assert_eq!(
            health.text(true),
            "[+]data_corruption ok\n[+]serializable_read ok\nok\n"
        );
        assert_eq!((health.http_status(), health.reason()), (200, String::new()));
    }

    #[test]
    fn failure_always_names_the_check() {
        let health = Health::new([
            Check::ok("data_corruption"),
            Check::of("linearizable_read", Err("no leader")),
            Check::of("disk", Ok::<(), &str>(())),
        ]);
        let text = "[+]data_corruption ok\n[-]linearizable_read failed: no leader\n[+]disk ok\n";
        assert_eq!(health.text(false), text);
        assert_eq!(
            (health.http_status(), health.reason()),
            (503, "no leader".to_owned())
        );
    }
}
