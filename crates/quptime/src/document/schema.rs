//! What `cluster.yaml` consists of.
//!
//! Two levels: level 1 is what the reference knows up to v0.3; level 2 is what this program adds. A document says `schema: 2` from the
//! moment it uses a field of level 2, so a cluster that uses none can go back to an older program.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::duration::Span;
use crate::identity::NodeId;
use crate::secret::Secret;

/// The highest level that this program reads and writes.
pub const SCHEMA: u32 = 2;

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Grows by one with each committed change. 0 in a file: a placeholder that is never proposed.
    pub version: u64,
    /// When the version was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// On which node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_by: Option<NodeId>,
    /// Level of the fields in use; 1 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    /// DNS servers for all checks; the system's if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<String>,
    /// The nodes.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// What is watched.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Who is told.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// Invitations that nobody has used up yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_enrollments: Vec<Enrollment>,
    /// Announced work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Window>,
    /// What differs from the defaults.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub settings: Settings,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Who.
    pub node_id: NodeId,
    /// Where the others reach it: `host:port`.
    pub advertise: String,
    /// `sha256:` and the hash of its public key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// Its certificate, PEM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cert_pem: String,
    /// Where it stands; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// What kind of probe a check makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// A GET.
    Http,
    /// A connection.
    Tcp,
    /// An echo.
    Icmp,
    /// The end date of a certificate.
    Tls,
    /// A name.
    Dns,
}

impl CheckKind {
    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            CheckKind::Http => "http",
            CheckKind::Tcp => "tcp",
            CheckKind::Icmp => "icmp",
            CheckKind::Tls => "tls",
            CheckKind::Dns => "dns",
        }
    }
}

/// How often a check is made if it does not say.
pub const INTERVAL: Span = Span::from_secs(30);
/// How long a probe may take if its check does not say.
pub const TIMEOUT: Span = Span::from_secs(10);
/// Days before the end of a certificate from which a new check fails.
pub const TLS_WARN_DAYS: u32 = 14;
/// Percentage of lost echoes up to which a check is up that does not say: only when all are lost it is down.
pub const ICMP_MAX_LOSS: u32 = 99;
/// Rounds in a row before a new state holds.
pub const CONFIRM: u32 = 2;

fn default_interval() -> Span {
    INTERVAL
}

fn default_timeout() -> Span {
    TIMEOUT
}

/// Something that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Given by the cluster when left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Unique.
    pub name: String,
    /// What is done.
    #[serde(rename = "type")]
    pub kind: CheckKind,
    /// URL, `host:port`, host or host name.
    pub target: String,
    /// From one probe to the next.
    #[serde(default = "default_interval")]
    pub interval: Span,
    /// How long a probe may take.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// http: the status; 0 means any 2xx.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub expect_status: u16,
    /// http: text that the body must contain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body_match: String,
    /// tls: days before the end from which the check fails.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tls_warn_days: u32,
    /// tls: name to ask for, if not the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tls_server_name: String,
    /// tls: whether the chain and the name are verified as well.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tls_verify: bool,
    /// dns: `a`, `aaaa`, `cname`, `mx`, `txt` or `ns`; `a` if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dns_record: String,
    /// dns: the server to ask.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dns_resolver: String,
    /// dns: what one answer must be; of a txt record, a part of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dns_expect: String,
    /// icmp: echoes sent; 1 if left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub icmp_count: u32,
    /// icmp: percentage of lost echoes up to which it is up, 0 to 100; 99 if left out. When all are lost it is down in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_max_loss: Option<u32>,
    /// Alerts by id or name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alert_ids: Vec<String>,
    /// Default alerts that this check does not want.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suppress_alert_ids: Vec<String>,
    /// Not probed at all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disabled: bool,
    /// DNS servers for this check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<String>,
    /// Rounds in a row before the check is down; 2 if left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub confirm: u32,
    /// Rounds in a row before the check is up again; 2 if left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recover: u32,
    /// Reports that a verdict needs; the quorum if left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_reports: u32,
    /// Checks that this one cannot do without, by id or name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// For maintenance of several checks at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Whether the first failure is looked at again at once; true if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_opinion: Option<bool>,
    /// How often an outage that lasts is announced again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind_every: Option<Span>,
}

/// What kind of channel an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertKind {
    /// Mail.
    Smtp,
    /// Discord.
    Discord,
    /// A JSON event.
    Webhook,
    /// Slack, and what understands its messages.
    Slack,
    /// PagerDuty events.
    Pagerduty,
    /// ntfy topics.
    Ntfy,
    /// Prometheus' Alertmanager.
    Alertmanager,
}

impl AlertKind {
    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            AlertKind::Smtp => "smtp",
            AlertKind::Discord => "discord",
            AlertKind::Webhook => "webhook",
            AlertKind::Slack => "slack",
            AlertKind::Pagerduty => "pagerduty",
            AlertKind::Ntfy => "ntfy",
            AlertKind::Alertmanager => "alertmanager",
        }
    }
}

/// A channel that is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Given by the cluster when left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Unique.
    pub name: String,
    /// Which channel.
    #[serde(rename = "type")]
    pub kind: AlertKind,
    /// Whether it is attached to every check.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub default: bool,
    /// Not told anything.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disabled: bool,
    /// discord.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub discord_webhook: Secret,
    /// smtp: the relay.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub smtp_host: String,
    /// smtp: 587 if left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub smtp_port: u16,
    /// smtp.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub smtp_user: String,
    /// smtp.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub smtp_password: Secret,
    /// smtp: a file on each node that holds the password.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub smtp_password_file: String,
    /// smtp: sender.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub smtp_from: String,
    /// smtp: recipients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub smtp_to: Vec<String>,
    /// smtp: STARTTLS is required; true if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp_starttls: Option<bool>,
    /// smtp: TLS from the first byte.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub smtp_tls: bool,
    /// webhook: where to.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub webhook_url: Secret,
    /// webhook: key of the signature.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub webhook_secret: Secret,
    /// slack.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub slack_webhook: Secret,
    /// pagerduty.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub pagerduty_routing_key: Secret,
    /// pagerduty: another place that takes its events.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pagerduty_url: String,
    /// ntfy: address of the topic.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub ntfy_url: Secret,
    /// ntfy.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub ntfy_token: Secret,
    /// alertmanager.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub alertmanager_url: String,
    /// Own subject.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject_template: String,
    /// Own body.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body_template: String,
    /// Told only when an outage has lasted so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Span>,
    /// `resend` (if left out) or `drop`: what becomes of a message of which nobody knows whether it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_uncertain: Option<OnUncertain>,
}

/// What becomes of a message of which nobody knows whether it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUncertain {
    /// It is sent again, and says so.
    Resend,
    /// It is not.
    Drop,
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrollment {
    /// Its id.
    pub id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `sha256:` and the hash of the secret.
    pub secret_hash: String,
    /// From then on it is void, RFC 3339.
    pub expires_at: String,
    /// Whether whoever shows it is a peer at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub auto_approve: bool,
    /// Who has shown it and waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applicant: Option<Peer>,
}

/// Announced work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Given by the cluster when left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Unique.
    pub name: String,
    /// Checks by id or name; with no group either: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// Checks of this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Begin, RFC 3339.
    pub start: String,
    /// End, RFC 3339.
    pub end: String,
    /// Whether probing stops as well.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pause: bool,
}

/// What differs from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long a preferred node must be live without a break before it becomes master again; 2m if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_cooldown: Option<Span>,
    /// From one heartbeat to the next; 1s if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Span>,
    /// Silence after which a peer is not live; 4s if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_after: Option<Span>,
    /// Whether a check that comes and goes is told as flapping instead of each time; true if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flap_damping: Option<bool>,
}

impl Settings {
    /// See [`Settings::master_cooldown`].
    pub fn cooldown(&self) -> Span {
        self.master_cooldown.unwrap_or(Span::from_secs(120))
    }

    /// See [`Settings::heartbeat`].
    pub fn beat(&self) -> Span {
        self.heartbeat.unwrap_or(Span::from_secs(1))
    }

    /// See [`Settings::dead_after`].
    pub fn silence(&self) -> Span {
        self.dead_after.unwrap_or(Span::from_secs(4))
    }
}

impl Check {
    /// A check with nothing but what it must have.
    pub fn new(name: impl Into<String>, kind: CheckKind, target: impl Into<String>) -> Check {
        Check {
            id: String::new(),
            name: name.into(),
            kind,
            target: target.into(),
            interval: INTERVAL,
            timeout: TIMEOUT,
            expect_status: 0,
            body_match: String::new(),
            tls_warn_days: 0,
            tls_server_name: String::new(),
            tls_verify: false,
            dns_record: String::new(),
            dns_resolver: String::new(),
            dns_expect: String::new(),
            icmp_count: 0,
            icmp_max_loss: None,
            alert_ids: Vec::new(),
            suppress_alert_ids: Vec::new(),
            disabled: false,
            resolvers: Vec::new(),
            confirm: 0,
            recover: 0,
            min_reports: 0,
            depends_on: Vec::new(),
            group: None,
            second_opinion: None,
            remind_every: None,
        }
    }

    /// Whether this text names the check.
    pub fn is_called(&self, text: &str) -> bool {
        self.id == text || self.name == text
    }
}

impl Alert {
    /// A channel with nothing but a name.
    pub fn new(name: impl Into<String>, kind: AlertKind) -> Alert {
        Alert {
            id: String::new(),
            name: name.into(),
            kind,
            default: false,
            disabled: false,
            discord_webhook: Secret::default(),
            smtp_host: String::new(),
            smtp_port: 0,
            smtp_user: String::new(),
            smtp_password: Secret::default(),
            smtp_password_file: String::new(),
            smtp_from: String::new(),
            smtp_to: Vec::new(),
            smtp_starttls: None,
            smtp_tls: false,
            webhook_url: Secret::default(),
            webhook_secret: Secret::default(),
            slack_webhook: Secret::default(),
            pagerduty_routing_key: Secret::default(),
            pagerduty_url: String::new(),
            ntfy_url: Secret::default(),
            ntfy_token: Secret::default(),
            alertmanager_url: String::new(),
            subject_template: String::new(),
            body_template: String::new(),
            after: None,
            on_uncertain: None,
        }
    }

    /// Whether this text names the alert.
    pub fn is_called(&self, text: &str) -> bool {
        self.id == text || self.name == text
    }
}

impl Document {
    /// The level of the fields in use.
    pub fn schema_level(&self) -> u32 {
        self.schema.unwrap_or(1)
    }

    /// The lowest level that knows every field in use.
    pub fn needed_level(&self) -> u32 {
        let check = |check: &Check| {
            check.tls_verify
                || check.icmp_count != 0
                || check.icmp_max_loss.is_some()
                || check.confirm != 0
                || check.recover != 0
                || check.min_reports != 0
                || !check.depends_on.is_empty()
                || check.group.is_some()
                || check.second_opinion.is_some()
                || check.remind_every.is_some()
        };
        let alert = |alert: &Alert| {
            !matches!(alert.kind, AlertKind::Smtp | AlertKind::Discord)
                || alert.smtp_tls
                || !alert.smtp_password_file.is_empty()
                || alert.after.is_some()
                || alert.on_uncertain.is_some()
        };
        let newer = self.checks.iter().any(check)
            || self.alerts.iter().any(alert)
            || self.peers.iter().any(|peer| peer.location.is_some())
            || !self.maintenance.is_empty()
            || self.settings != Settings::default();
        if newer { 2 } else { 1 }
    }

    /// The peer with this id.
    pub fn peer(&self, id: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.node_id == id)
    }

    /// A text of the transport, which knows peers as `member NUMBER`, with their addresses instead.
    pub fn with_addresses(&self, text: &str) -> String {
        const MEMBER: &str = "member ";
        let mut parts = text.split(MEMBER);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.find(|letter: char| !letter.is_ascii_digit());
            let (number, rest) = part.split_at(digits.unwrap_or(part.len()));
            let mut peers = self.peers.iter();
            match peers.find(|peer| peer.node_id.number().to_string() == number) {
                Some(peer) => out.extend([peer.advertise.as_str(), rest]),
                None => out.extend([MEMBER, part]),
            }
        }
        out
    }

    /// The check with this id or name.
    pub fn check(&self, text: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.is_called(text))
    }

    /// The alert with this id or name.
    pub fn alert(&self, text: &str) -> Option<&Alert> {
        self.alerts.iter().find(|alert| alert.is_called(text))
    }

    /// Nodes that a majority consists of.
    pub fn quorum(&self) -> usize {
        self.peers.len() / 2 + 1
    }

    /// The alerts that are told of this check, in the order of the file: those it names and the default ones, without those it
    /// does not want and those that are disabled. The flag says whether it is there only because it is a default.
    pub fn alerts_of<'a>(&'a self, check: &'a Check) -> impl Iterator<Item = (&'a Alert, bool)> {
        // Both lists may be long, and this is asked for every check.
        let set = |texts: &'a [String]| texts.iter().map(String::as_str).collect::<HashSet<&str>>();
        let (wanted, suppressed) = (set(&check.alert_ids), set(&check.suppress_alert_ids));
        self.alerts.iter().filter_map(move |alert| {
            let is_in =
                |set: &HashSet<&str>| set.contains(alert.id.as_str()) || set.contains(alert.name.as_str());
            let (named, unwanted) = (is_in(&wanted), is_in(&suppressed));
            let told = (named || alert.default) && !unwanted && !alert.disabled;
            told.then_some((alert, !named))
        })
    }
}
