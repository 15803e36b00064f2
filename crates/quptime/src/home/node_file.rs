//! `node.yaml`: what a node is, apart from the cluster it belongs to.
//!
//! Settings of one host: where it listens, the cluster's secret, and whom it tells by itself when there is no quorum. Variables of the environment
//! may stand in for them.

use serde::{Deserialize, Serialize};

use super::PORT;
use crate::document::{self, Alert, AlertKind};
use crate::duration::Span;
use crate::identity::NodeId;
use crate::secret::Secret;

/// `node.yaml`: what this node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// Its id.
    pub node_id: NodeId,
    /// Address to listen on.
    #[serde(default = "any_address")]
    pub bind_addr: String,
    /// Port to listen on.
    #[serde(default = "default_port")]
    pub bind_port: u16,
    /// Where the others reach it.
    pub advertise: String,
    /// What nodes of one cluster prove to each other to know.
    #[serde(default)]
    pub cluster_secret: Secret,
    /// Where pages and metrics are served; `127.0.0.1:9902` if left out, nowhere if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_listen: Option<String>,
    /// `text` or `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_format: Option<service::logs::Format>,
    /// Who is told by this node itself that the cluster lost quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_alert: Option<FallbackAlert>,
    /// How long quorum must be away before that is told; 2m if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_after: Option<Span>,
    /// Fetched by the master while quorum holds.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub watchdog_url: Secret,
    /// From one fetch to the next; 1m if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog_every: Option<Span>,
}

/// A channel of one node. Not an [`Alert`]: that has a name, templates, escalation and other channels, of which nothing is meant here, and a key
/// that means nothing is refused only if the type does not know it (shared parts cannot be flattened into strict structs).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FallbackAlert {
    /// Which.
    #[serde(rename = "type")]
    pub kind: FallbackKind,
    /// webhook: where to.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub webhook_url: Secret,
    /// webhook: key of the signature.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub webhook_secret: Secret,
    /// smtp: the relay.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub smtp_host: String,
    /// smtp: 587 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp_port: Option<u16>,
    /// smtp.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub smtp_user: String,
    /// smtp.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub smtp_password: Secret,
    /// smtp: a file that holds the password.
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
    #[serde(default)]
    pub smtp_tls: bool,
}

/// What kind of channel that can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FallbackKind {
    /// A JSON event.
    Webhook,
    /// Mail.
    Smtp,
}

impl FallbackAlert {
    /// The same as an alert of the cluster.
    pub fn as_alert(&self) -> Alert {
        let kind = match self.kind {
            FallbackKind::Webhook => AlertKind::Webhook,
            FallbackKind::Smtp => AlertKind::Smtp,
        };
        Alert {
            webhook_url: self.webhook_url.clone(),
            webhook_secret: self.webhook_secret.clone(),
            smtp_host: self.smtp_host.clone(),
            smtp_port: self.smtp_port.unwrap_or_default(),
            smtp_user: self.smtp_user.clone(),
            smtp_password: self.smtp_password.clone(),
            smtp_password_file: self.smtp_password_file.clone(),
            smtp_from: self.smtp_from.clone(),
            smtp_to: self.smtp_to.clone(),
            smtp_starttls: self.smtp_starttls,
            smtp_tls: self.smtp_tls,
            ..Alert::new("fallback_alert", kind)
        }
    }
}

fn any_address() -> String {
    "0.0.0.0".to_owned()
}

fn default_port() -> u16 {
    PORT
}

impl NodeFile {
    /// See [`NodeFile::fallback_after`].
    pub fn fallback_after(&self) -> Span {
        self.fallback_after.unwrap_or(Span::from_secs(120))
    }

    /// See [`NodeFile::watchdog_every`].
    pub fn watchdog_every(&self) -> Span {
        self.watchdog_every.unwrap_or(Span::from_secs(60))
    }

    /// Looks at what a type cannot say.
    ///
    /// # Errors
    /// The first key whose value makes no sense, and why.
    pub fn review(&self) -> Result<(), (&'static str, String)> {
        if let Some(alert) = &self.fallback_alert {
            if alert.smtp_port == Some(0) {
                return Err(("fallback_alert", "smtp_port 0 is none; 587 is usual".to_owned()));
            }
            crate::channel::channel(&alert.as_alert()).map_err(|text| ("fallback_alert", text))?;
        }
        if let Some(web) = self.web_listen.as_deref().filter(|web| self.is_own_place(web)) {
            let text = format!(
                "{web} is where other nodes are listened for (bind_addr, bind_port); take another port, such as 127.0.0.1:9902"
            );
            return Err(("web_listen", text));
        }
        let url = self.watchdog_url.reveal();
        if !url.is_empty() && probe::Target::parse(probe::TargetKind::Http, url).is_err() {
            // The address itself is a secret.
            let text = "it is no http:// or https:// URL, such as https://watchdog.example.com/ping/7f3a";
            return Err(("watchdog_url", text.to_owned()));
        }
        for (key, span) in [
            ("fallback_after", self.fallback_after()),
            ("watchdog_every", self.watchdog_every()),
        ] {
            if span < Span::from_secs(1) {
                return Err((key, format!("{span} is too short; at least 1s")));
            }
        }
        Ok(())
    }

    /// Whether this `host:port` cannot be listened on besides where other nodes are listened for.
    fn is_own_place(&self, place: &str) -> bool {
        let Some((host, port)) = place.rsplit_once(':') else {
            return false;
        };
        let number = |host: &str| host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().ok();
        let is_all = |host: &str| number(host).is_some_and(|number| number.is_unspecified());
        let is_same = match (number(host), number(&self.bind_addr)) {
            (Some(one), Some(other)) => one == other,
            _ => host == self.bind_addr,
        };
        port.parse() == Ok(self.bind_port) && (is_same || is_all(host) || is_all(&self.bind_addr))
    }

    /// Lays `QUPTIME_*` over the file. Empty variables count as not there.
    ///
    /// # Errors
    /// A value that is none, with the variable's name.
    pub fn overlay(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), String> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(id) = set("QUPTIME_NODE_ID") {
            self.node_id = id.parse().map_err(|error| format!("QUPTIME_NODE_ID: {error}"))?;
        }
        if let Some(address) = set("QUPTIME_BIND_ADDR") {
            self.bind_addr = address;
        }
        if let Some(port) = set("QUPTIME_BIND_PORT") {
            let parsed = port.parse().ok().filter(|port| *port > 0);
            self.bind_port = parsed.ok_or_else(|| {
                format!(
                    "QUPTIME_BIND_PORT: \"{}\" is no port; write 1 to 65535",
                    terminal::brief(&port)
                )
            })?;
        }
        if let Some(advertise) = set("QUPTIME_ADVERTISE") {
            document::review::advertise(&advertise).map_err(|error| format!("QUPTIME_ADVERTISE: {error}"))?;
            self.advertise = advertise;
        }
        if let Some(secret) = set("QUPTIME_CLUSTER_SECRET") {
            self.cluster_secret = Secret::new(secret);
        }
        Ok(())
    }
}
