//! What documents consist of, as far as it means something here; the rest is checked and passed over.

use std::collections::BTreeMap;

use super::reader::{At, Located};
use crate::decimal::Decimal;
use crate::span::Span;

/// Longest description that OpenSLO allows, in characters.
pub const DESCRIPTION_MAX: usize = 1050;

/// Annotations of ours begin so.
pub const OURS: &str = "mainstay/";

/// Annotations of ours: the start of alerts' names, the page of alerts, the dashboard, the events below which nothing is said.
pub const ANNOTATIONS: [&str; 4] = [ALERT_NAME, RUNBOOK, DASHBOARD, MIN_EVENTS];

/// The start of the names of alerts.
pub const ALERT_NAME: &str = "mainstay/alert-name";
/// The page that alerts name.
pub const RUNBOOK: &str = "mainstay/runbook";
/// The dashboard that alerts name.
pub const DASHBOARD: &str = "mainstay/dashboard";
/// Alerts say nothing about fewer events than these in their long window.
pub const MIN_EVENTS: &str = "mainstay/min-events";

/// One document.
#[derive(Debug, Clone)]
pub struct Document {
    /// Where it begins.
    pub at: At,
    /// Its head.
    pub metadata: Metadata,
    /// The rest.
    pub kind: Kind,
}

/// The head of a document.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// Unique among documents of a kind.
    pub name: Located<String>,
    /// For people.
    pub display_name: Option<String>,
    /// Notes for programs.
    pub annotations: BTreeMap<String, Located<String>>,
}

/// What a document describes.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Something that is offered to somebody.
    Service,
    /// Where measurements come from.
    DataSource,
    /// How good events are told from bad ones.
    Sli(Sli),
    /// An objective.
    Slo(Box<Slo>),
    /// Conditions and who is told.
    AlertPolicy(Policy),
    /// When something is told.
    AlertCondition(Condition),
    /// Who is told.
    AlertNotificationTarget,
}

impl Kind {
    /// As `kind:` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::DataSource => "DataSource",
            Kind::Sli(_) => "SLI",
            Kind::Slo(_) => "SLO",
            Kind::AlertPolicy(_) => "AlertPolicy",
            Kind::AlertCondition(_) => "AlertCondition",
            Kind::AlertNotificationTarget => "AlertNotificationTarget",
        }
    }
}

/// A reference to another document, or what would be in it.
#[derive(Debug, Clone)]
pub enum Either<T> {
    /// The name of a document.
    Reference(Located<String>),
    /// Written in place.
    Inline(T),
}

/// An objective as it is written.
#[derive(Debug, Clone)]
pub struct Slo {
    /// For people.
    pub description: Option<String>,
    /// The service it is about.
    pub service: Located<String>,
    /// How good is told from bad.
    pub indicator: Option<Either<Sli>>,
    /// Over which time.
    pub window: Window,
    /// The objectives: at least one.
    pub objectives: Vec<Objective>,
    /// Alerts other than the standard ones.
    pub policies: Vec<Either<Policy>>,
}

/// The time over which an objective holds.
#[derive(Debug, Clone)]
pub struct Window {
    /// Its length.
    pub length: Located<Span>,
    /// Whether it ends now, or with the calendar.
    pub is_rolling: bool,
}

/// A target.
#[derive(Debug, Clone)]
pub struct Objective {
    /// Where it is.
    pub at: At,
    /// The share of good events, below one.
    pub target: Located<Decimal>,
    /// An indicator of its own.
    pub indicator: Option<Either<Sli>>,
}

/// How good is told from bad.
#[derive(Debug, Clone)]
pub enum Sli {
    /// Counted: good or bad ones, and all.
    Events {
        /// Which of them are counted in `part`.
        part_is: Part,
        /// Good or bad ones.
        part: Metric,
        /// All.
        total: Metric,
        /// Whether the series only grow.
        counter: bool,
    },
    /// A ratio that something else has computed.
    Raw {
        /// What it is the ratio of.
        ratio_of: Part,
        /// The query.
        query: Metric,
    },
    /// A value compared with a threshold; nothing here can use it.
    Threshold(At),
}

/// A query and where it is asked.
#[derive(Debug, Clone)]
pub struct Metric {
    /// What is asked.
    pub query: Located<String>,
    /// The document that says where.
    pub source: Option<Located<String>>,
}

/// Good or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// As it should be.
    Good,
    /// Not so.
    Bad,
}

/// Conditions.
#[derive(Debug, Clone)]
pub struct Policy {
    /// At least one.
    pub conditions: Vec<Either<Named<Condition>>>,
    /// Documents that are named as targets.
    pub targets: Vec<Located<String>>,
}

/// Something written in place with a name.
#[derive(Debug, Clone)]
pub struct Named<T> {
    /// Its name.
    pub name: Located<String>,
    /// What it is.
    pub value: T,
}

/// When something is told.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Where it is.
    pub at: At,
    /// How urgent: `critical` and `page` wake people.
    pub severity: Located<String>,
    /// The burn rate that has to be exceeded.
    pub threshold: Decimal,
    /// The long window.
    pub lookback: Span,
    /// How long it has to last.
    pub after: Option<Span>,
}
