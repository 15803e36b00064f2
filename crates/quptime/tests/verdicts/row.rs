//! A check, the question that means the same, and what both must say.

use quptime::document::{Check, CheckKind};
use serde_json::{Value, json};

/// Long enough for any target that answers, on a machine that is busy.
pub(crate) const AMPLE_S: u64 = 5;

/// For targets that never answer.
pub(crate) const SHORT_S: u64 = 1;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What is looked at and what is wanted, in a few words; no two rows have the same.
    pub(crate) about: String,
    /// As qu is told.
    pub(crate) check: Check,
    /// As the exporter is told.
    pub(crate) question: Question,
    /// Whether qu must call it up.
    pub(crate) qu: bool,
    /// Whether the exporter must.
    pub(crate) blackbox: bool,
    /// Why they differ, where they do.
    pub(crate) why: Option<&'static str>,
}

/// A question to the exporter.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) target: String,
    /// A module of its configuration.
    pub(crate) module: Value,
}

/// What one side said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) up: bool,
    pub(crate) detail: String,
}

impl Row {
    /// Both must say the same.
    pub(crate) fn same(about: impl Into<String>, check: Check, question: Question, up: bool) -> Self {
        Self {
            about: about.into(),
            check,
            question,
            qu: up,
            blackbox: up,
            why: None,
        }
    }

    /// They mean something different: qu says this, the exporter the contrary.
    pub(crate) fn different(
        about: impl Into<String>,
        check: Check,
        question: Question,
        qu: bool,
        why: &'static str,
    ) -> Self {
        Self {
            about: about.into(),
            check,
            question,
            qu,
            blackbox: !qu,
            why: Some(why),
        }
    }

    /// The same if both say the same; else different for this reason.
    pub(crate) fn pinned(
        about: impl Into<String>,
        check: Check,
        question: Question,
        (qu, blackbox): (bool, bool),
        why: &'static str,
    ) -> Self {
        if qu == blackbox {
            Self::same(about, check, question, qu)
        } else {
            Self::different(about, check, question, qu, why)
        }
    }

    /// For a target that keeps everybody waiting.
    pub(crate) fn impatient(mut self) -> Self {
        self.check.timeout = quptime::duration::Span::from_secs(SHORT_S);
        self.question.module["timeout"] = json!(format!("{SHORT_S}s"));
        self
    }
}

/// A check that looks every few seconds and takes each look at its word.
pub(crate) fn check(kind: CheckKind, target: impl Into<String>) -> Check {
    Check {
        interval: quptime::duration::Span::from_secs(AMPLE_S + 1),
        timeout: quptime::duration::Span::from_secs(AMPLE_S),
        confirm: 1,
        recover: 1,
        second_opinion: Some(false),
        ..Check::new("", kind, target)
    }
}

/// A question by this prober with these settings.
pub(crate) fn question(prober: &str, target: impl Into<String>, settings: &Value) -> Question {
    let mut module = json!({ "prober": prober, "timeout": format!("{AMPLE_S}s") });
    module[prober] = settings.clone();
    Question {
        target: target.into(),
        module,
    }
}

/// A text as a regular expression that matches it and nothing else.
pub(crate) fn quoted(text: &str) -> String {
    regex::escape(text)
}
