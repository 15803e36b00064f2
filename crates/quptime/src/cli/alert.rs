//! `qu alert`: who is told.

mod list;

use clap::{Args, Subcommand, ValueEnum};

use super::client;
use crate::api::{Answer, Request};
use crate::document::schema::OnUncertain;
use crate::document::{Alert, AlertKind, Change, Document, Entry, change};
use crate::duration::Span;
use crate::machine::state::Verb;
use crate::secret::Secret;

#[derive(Debug, Subcommand)]
pub(super) enum AlertCommand {
    /// Tell somebody new.
    #[command(subcommand)]
    Add(AddCommand),
    /// List the alerts.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell nobody there any more.
    Remove {
        /// By id or name.
        alert: String,
        /// Also if checks name it; they go on without it.
        #[arg(long)]
        force: bool,
    },
    /// Tell again.
    Enable {
        /// By id or name.
        alert: String,
    },
    /// Pause an alert.
    Disable {
        /// By id or name.
        alert: String,
    },
    /// Change what is given; everything else stays.
    Edit(Edit),
    /// Attach an alert to every check, or not.
    Default {
        /// By id or name.
        alert: String,
        /// on or off.
        state: OnOff,
    },
    /// Send a test now and wait for the channel.
    Test {
        /// By id or name.
        alert: String,
        /// From this node: its id, the beginning of it, or its address.
        #[arg(long, value_name = "NODE", conflicts_with = "all_nodes")]
        from_node: Option<String>,
        /// From every node.
        #[arg(long)]
        all_nodes: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum OnOff {
    /// Yes.
    On,
    /// No.
    Off,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Uncertain {
    /// Send it again, and say so.
    Resend,
    /// Do not.
    Drop,
}

/// What every alert has.
#[derive(Debug, Default, Args)]
pub(super) struct Common {
    /// Attach it to every check.
    #[arg(long)]
    default: bool,
    /// Template of the body.
    #[arg(long, value_name = "TEMPLATE")]
    body: Option<String>,
    /// A file with the template of the body.
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    body_file: Option<String>,
    /// Template of the subject.
    #[arg(long, value_name = "TEMPLATE")]
    subject: Option<String>,
    /// A file with the template of the subject.
    #[arg(long, value_name = "FILE", conflicts_with = "subject")]
    subject_file: Option<String>,
    /// Tell only when an outage has lasted so long.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    after: Option<Span>,
    /// What becomes of a message of which nobody knows whether it was sent (resend).
    #[arg(long, value_enum)]
    on_uncertain: Option<Uncertain>,
}

#[derive(Debug, Default, Args)]
pub(super) struct SmtpArgs {
    /// The relay.
    #[arg(long, alias = "server")]
    host: Option<String>,
    /// Its port (587).
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Name to log in with.
    #[arg(long, alias = "username")]
    user: Option<String>,
    /// Its password; - reads standard input.
    #[arg(long)]
    password: Option<String>,
    /// A file on each node that holds the password.
    #[arg(long, value_name = "FILE", conflicts_with = "password")]
    password_file: Option<String>,
    /// Sender.
    #[arg(long)]
    from: Option<String>,
    /// Recipients.
    #[arg(long, value_name = "ADDRESS,...", value_delimiter = ',')]
    to: Option<Vec<String>>,
    /// Whether STARTTLS is required (true).
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    starttls: Option<bool>,
    /// TLS from the first byte.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tls: Option<bool>,
}

/// Addresses and keys of channels; - reads standard input.
#[derive(Debug, Default, Args)]
pub(super) struct UrlArgs {
    /// discord, slack: the webhook.
    #[arg(long, value_name = "URL", alias = "webhook-url")]
    webhook: Option<String>,
    /// webhook, ntfy, alertmanager, pagerduty: the address.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// webhook: key of the signature.
    #[arg(long)]
    secret: Option<String>,
    /// ntfy: access token.
    #[arg(long)]
    token: Option<String>,
    /// pagerduty: integration key.
    #[arg(long, aliases = ["integration-key", "key"])]
    routing_key: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct UrlAlert {
    /// Unique.
    name: String,
    #[command(flatten)]
    own: UrlArgs,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
pub(super) enum AddCommand {
    /// Mail.
    Smtp {
        /// Unique.
        name: String,
        #[command(flatten)]
        own: SmtpArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Discord: --webhook.
    Discord(UrlAlert),
    /// A JSON event by HTTP: --url.
    Webhook(UrlAlert),
    /// Slack: --webhook.
    Slack(UrlAlert),
    /// PagerDuty: --routing-key.
    Pagerduty(UrlAlert),
    /// ntfy: --url.
    Ntfy(UrlAlert),
    /// Alertmanager: --url.
    Alertmanager(UrlAlert),
}

#[derive(Debug, Args)]
pub(super) struct Edit {
    /// By id or name.
    alert: String,
    /// Another name.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    smtp: SmtpArgs,
    #[command(flatten)]
    urls: UrlArgs,
    #[command(flatten)]
    common: Common,
}

fn secret(text: &str) -> anyhow::Result<Secret> {
    if text == "-" {
        super::init::read_secret("-")
    } else {
        Ok(Secret::new(text))
    }
}

fn template(text: Option<String>, file: Option<String>) -> anyhow::Result<Option<String>> {
    match (text, file) {
        (Some(text), _) => Ok(Some(text)),
        (None, Some(path)) => std::fs::read_to_string(&path)
            .map(Some)
            .map_err(|error| anyhow::anyhow!("read the template {path}: {error}")),
        (None, None) => Ok(None),
    }
}

impl Common {
    fn lay_over(self, alert: &mut Alert) -> anyhow::Result<()> {
        alert.default |= self.default;
        if let Some(text) = template(self.body, self.body_file)? {
            alert.body_template = text;
        }
        if let Some(text) = template(self.subject, self.subject_file)? {
            alert.subject_template = text;
        }
        if let Some(after) = self.after {
            alert.after = Some(after).filter(|after| !after.is_zero());
        }
        if let Some(uncertain) = self.on_uncertain {
            alert.on_uncertain = match uncertain {
                Uncertain::Resend => None,
                Uncertain::Drop => Some(OnUncertain::Drop),
            };
        }
        Ok(())
    }
}

impl SmtpArgs {
    fn is_empty(&self) -> bool {
        let texts = [
            &self.host,
            &self.user,
            &self.password,
            &self.password_file,
            &self.from,
        ];
        texts.iter().all(|text| text.is_none())
            && self.port.is_none()
            && self.to.is_none()
            && self.starttls.is_none()
            && self.tls.is_none()
    }

    fn lay_over(self, alert: &mut Alert) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.is_empty() || alert.kind == AlertKind::Smtp,
            "options of mail do not fit an alert of type {}",
            alert.kind.name()
        );
        let put = |value: Option<String>, place: &mut String| {
            if let Some(value) = value {
                *place = value;
            }
        };
        put(self.host, &mut alert.smtp_host);
        put(self.user, &mut alert.smtp_user);
        put(self.password_file, &mut alert.smtp_password_file);
        put(self.from, &mut alert.smtp_from);
        if let Some(port) = self.port {
            alert.smtp_port = port;
        }
        if let Some(password) = self.password {
            alert.smtp_password = secret(&password)?;
        }
        if let Some(to) = self.to {
            alert.smtp_to = to;
        }
        if let Some(starttls) = self.starttls {
            alert.smtp_starttls = Some(starttls);
        }
        if let Some(tls) = self.tls {
            alert.smtp_tls = tls;
        }
        Ok(())
    }
}

impl UrlArgs {
    fn lay_over(self, alert: &mut Alert) -> anyhow::Result<()> {
        let kind = alert.kind;
        let misfit = |option: &str| {
            let (name, takes) = (kind.name(), takes(kind));
            anyhow::anyhow!("{option} does not fit an alert of type {name}, which takes {takes}")
        };
        // Of these two options each type has one; that it is the other one is easily guessed.
        let address = match (self.webhook, self.url) {
            (Some(_), Some(_)) => anyhow::bail!("--webhook and --url are one too many: {}", takes(kind)),
            (Some(_), None) if kind == AlertKind::Pagerduty => return Err(misfit("--webhook")),
            (webhook, url) => webhook.or(url),
        };
        if let Some(url) = address {
            match kind {
                AlertKind::Discord => alert.discord_webhook = secret(&url)?,
                AlertKind::Slack => alert.slack_webhook = secret(&url)?,
                AlertKind::Webhook => alert.webhook_url = secret(&url)?,
                AlertKind::Ntfy => alert.ntfy_url = secret(&url)?,
                AlertKind::Alertmanager => alert.alertmanager_url = url,
                AlertKind::Pagerduty => alert.pagerduty_url = url,
                AlertKind::Smtp => return Err(misfit("--url")),
            }
        }
        if let Some(key) = self.secret {
            match kind {
                AlertKind::Webhook => alert.webhook_secret = secret(&key)?,
                _ => return Err(misfit("--secret")),
            }
        }
        if let Some(token) = self.token {
            match kind {
                AlertKind::Ntfy => alert.ntfy_token = secret(&token)?,
                _ => return Err(misfit("--token")),
            }
        }
        if let Some(key) = self.routing_key {
            match kind {
                AlertKind::Pagerduty => alert.pagerduty_routing_key = secret(&key)?,
                _ => return Err(misfit("--routing-key")),
            }
        }
        Ok(())
    }
}

/// The options of a type.
fn takes(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::Smtp => "--host, --from and --to",
        AlertKind::Discord | AlertKind::Slack => "--webhook URL",
        AlertKind::Webhook => "--url URL, and --secret KEY if it signs",
        AlertKind::Pagerduty => "--routing-key KEY, and --url URL for another place",
        AlertKind::Ntfy => "--url URL, and --token TOKEN if the topic needs one",
        AlertKind::Alertmanager => "--url URL",
    }
}

impl AddCommand {
    fn alert(self) -> anyhow::Result<Alert> {
        let new = |name: String, kind| Alert {
            id: super::new_id(),
            ..Alert::new(name, kind)
        };
        let (kind, given) = match self {
            AddCommand::Smtp { name, own, common } => {
                let mut alert = new(name, AlertKind::Smtp);
                own.lay_over(&mut alert)?;
                common.lay_over(&mut alert)?;
                return Ok(alert);
            }
            AddCommand::Discord(given) => (AlertKind::Discord, given),
            AddCommand::Webhook(given) => (AlertKind::Webhook, given),
            AddCommand::Slack(given) => (AlertKind::Slack, given),
            AddCommand::Pagerduty(given) => (AlertKind::Pagerduty, given),
            AddCommand::Ntfy(given) => (AlertKind::Ntfy, given),
            AddCommand::Alertmanager(given) => (AlertKind::Alertmanager, given),
        };
        let mut alert = new(given.name, kind);
        given.own.lay_over(&mut alert)?;
        given.common.lay_over(&mut alert)?;
        Ok(alert)
    }
}

fn found<'a>(document: &'a Document, text: &str) -> anyhow::Result<&'a Alert> {
    document.alert(text).ok_or_else(|| {
        anyhow::anyhow!(
            "there is no alert \"{}\"; see qu alert list",
            terminal::brief(text)
        )
    })
}

fn entry(alert: &Alert) -> Entry {
    Entry::Alert(Box::new(alert.clone()))
}

fn edit(known: &Alert, after: Alert, what: &str, done: &str) -> anyhow::Result<()> {
    let changes = if after == *known {
        Vec::new()
    } else {
        vec![Change::edit(entry(known), entry(&after))]
    };
    client::configure(changes, what, &format!("alert {} {done}", after.name))
}

impl AlertCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            AlertCommand::Add(add) => {
                let alert = add.alert()?;
                crate::channel::channel(&alert).map_err(|error| {
                    let (name, kind) = (&alert.name, alert.kind);
                    anyhow::anyhow!("alert {name}: {error}; {} takes {}", kind.name(), takes(kind))
                })?;
                let done = format!("alert {} added, id {}", alert.name, alert.id);
                client::configure(vec![Change::add(entry(&alert))], "alert add", &done)
            }
            AlertCommand::List { json } => list::print(&client::document()?, json),
            AlertCommand::Remove { alert, force } => remove(&alert, force),
            AlertCommand::Enable { alert } => {
                let document = client::document()?;
                let known = found(&document, &alert)?;
                let after = Alert {
                    disabled: false,
                    ..known.clone()
                };
                edit(known, after, "alert enable", "enabled")
            }
            AlertCommand::Disable { alert } => {
                let document = client::document()?;
                let known = found(&document, &alert)?;
                let after = Alert {
                    disabled: true,
                    ..known.clone()
                };
                edit(known, after, "alert disable", "disabled")
            }
            AlertCommand::Edit(arguments) => {
                let document = client::document()?;
                let known = found(&document, &arguments.alert)?;
                let mut after = known.clone();
                if let Some(name) = arguments.name {
                    after.name = name;
                }
                arguments.smtp.lay_over(&mut after)?;
                arguments.urls.lay_over(&mut after)?;
                arguments.common.lay_over(&mut after)?;
                anyhow::ensure!(after != *known, "nothing to change; see qu alert edit --help");
                edit(known, after, "alert edit", "changed")
            }
            AlertCommand::Default { alert, state } => {
                let document = client::document()?;
                let known = found(&document, &alert)?;
                let default = matches!(state, OnOff::On);
                let after = Alert {
                    default,
                    ..known.clone()
                };
                let done = if default {
                    "is a default now"
                } else {
                    "is no default any more"
                };
                edit(known, after, "alert default", done)
            }
            AlertCommand::Test {
                alert,
                from_node,
                all_nodes,
            } => test(&alert, from_node.as_deref(), all_nodes),
        }
    }
}

fn remove(alert: &str, force: bool) -> anyhow::Result<()> {
    let document = client::document()?;
    let known = found(&document, alert)?;
    let telling = change::telling(&document, known);
    anyhow::ensure!(
        force || telling.is_empty(),
        "alert {}: {} {} it; name another one there (qu check edit NAME --alerts), or remove it nevertheless with --force",
        known.name,
        telling.join(", "),
        if telling.len() == 1 { "tells" } else { "tell" },
    );
    let changes = change::without_alert(&document, known);
    client::configure(changes, "alert remove", &format!("alert {} removed", known.name))
}

fn test(alert: &str, from_node: Option<&str>, all_nodes: bool) -> anyhow::Result<()> {
    let document = client::document()?;
    let known = found(&document, alert)?;
    let nodes = match (from_node, all_nodes) {
        (Some(node), _) => vec![super::node::meant(&document, node)?],
        (None, true) => document.peers.iter().map(|peer| peer.node_id).collect(),
        (None, false) => Vec::new(),
    };
    let answer = client::ask(&Request::TestAlert {
        alert: known.id.clone(),
        check: None,
        verb: Verb::Down,
        nodes,
    })?;
    let Answer::Tested(results) = answer else {
        anyhow::bail!("the daemon answers something else; is it another version?");
    };
    let mut failures = Vec::new();
    for (node, error) in results {
        match error {
            None => terminal::out(&format!(
                "alert {}: test sent from {node}\n",
                terminal::harmless(&known.name)
            )),
            Some(error) => failures.push(format!("alert {}: test from {node}: {error}", known.name)),
        }
    }
    match failures.pop() {
        None => Ok(()),
        Some(last) => {
            for failure in failures {
                super::say(&anyhow::anyhow!(failure));
            }
            Err(anyhow::anyhow!(last))
        }
    }
}
