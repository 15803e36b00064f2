//! The data directory: where files are, how they are written, and `node.yaml`.
//!
//! `$QUPTIME_DIR`, else `/etc/quptime` for root and for the user `quptime` (whose commands come through sudo, which clears the
//! environment), else below the user's configuration directory. There is no other persistent place, so removing the directory is a
//! complete reset.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::document::{self, Alert, AlertKind, Document, Mistake};
use crate::duration::Span;
use crate::identity::NodeId;
use crate::secret::Secret;

/// The port between nodes.
pub const PORT: u16 = 9901;
/// The directory of the service that a package installs, and the user it runs as.
const SERVICE_DIR: &str = "/etc/quptime";
const SERVICE_USER: &str = "quptime";

/// Why a file of the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The system refused.
    #[error("{operation} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The content is wrong.
    #[error("{}: {mistake}", .path.display())]
    Mistake {
        /// Which file.
        path: PathBuf,
        /// What and where.
        mistake: Mistake,
    },
    /// The directory is not that of a node yet.
    #[error(
        "{}: this host is about to enroll; repeat qu enroll join to finish it, or remove {} to begin anew",
        .path.display(), .path.parent().unwrap_or(Path::new(".")).display()
    )]
    Enrolling {
        /// The file that says so.
        path: PathBuf,
    },
    /// Somebody else's daemon would not get at what is written.
    #[error("{} is the directory of the user {SERVICE_USER}; run sudo -u {SERVICE_USER} qu {command} ...", .path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What to run as that user.
        command: &'static str,
    },
    /// Others may read a secret.
    #[error("{}: mode {mode:04o} lets others read a secret; run chmod 600 {}", .path.display(), .path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// The directory.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

impl Home {
    /// A directory that the caller has chosen.
    pub fn at(dir: impl Into<PathBuf>) -> Home {
        Home { dir: dir.into() }
    }

    /// The directory that the environment chooses.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Home {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(dir) = set("QUPTIME_DIR") {
            return Home::at(dir);
        }
        if nix::unistd::geteuid().is_root() || is_service_user() {
            return Home::at(SERVICE_DIR);
        }
        let base = set("XDG_CONFIG_HOME").map_or_else(
            || PathBuf::from(set("HOME").unwrap_or_else(|| "/".to_owned())).join(".config"),
            PathBuf::from,
        );
        Home::at(base.join("quptime"))
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `node.yaml`.
    pub fn node_file(&self) -> PathBuf {
        self.dir.join("node.yaml")
    }

    /// `cluster.yaml`.
    pub fn cluster_file(&self) -> PathBuf {
        self.dir.join("cluster.yaml")
    }

    /// `trust.yaml`.
    pub fn trust_file(&self) -> PathBuf {
        self.dir.join("trust.yaml")
    }

    /// `keys/`.
    pub fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// `raft/`.
    pub fn raft(&self) -> PathBuf {
        self.dir.join("raft")
    }

    /// `raft.trial/`: a group that was founded and has not begun.
    pub fn trial(&self) -> PathBuf {
        self.dir.join("raft.trial")
    }

    /// `joining.yaml`: the placeholder of a node that has promised to join a cluster and has not given its own group up yet.
    pub fn joining(&self) -> PathBuf {
        self.dir.join("joining.yaml")
    }

    /// `enrolling.yaml`: the host is about to enroll with a token, or has and was not started yet.
    pub fn enrolling(&self) -> PathBuf {
        self.dir.join("enrolling.yaml")
    }

    /// `quorum.note`: that the loss of quorum has been told.
    pub fn quorum_note(&self) -> PathBuf {
        self.dir.join("quorum.note")
    }

    /// `tests.note`: when alerts last took a test from this node.
    pub fn tests_note(&self) -> PathBuf {
        self.dir.join("tests.note")
    }

    /// `raft.note`: where the node stands between groups.
    pub fn note(&self) -> PathBuf {
        self.dir.join("raft.note")
    }

    /// Makes the directory if it is not there.
    ///
    /// # Errors
    /// The system.
    pub fn create(&self) -> Result<(), HomeError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir);
        made.map_err(io_error("create", &self.dir))
    }

    /// Reads `node.yaml`; nothing if it is not there.
    ///
    /// # Errors
    /// It cannot be read, is wrong, or others may read it.
    pub fn read_node(&self) -> Result<Option<NodeFile>, HomeError> {
        let path = self.node_file();
        let Some(text) = read(&path)? else { return Ok(None) };
        refuse_open(&path)?;
        let node = document::parse::parse_strictly(&text).and_then(|node: NodeFile| match node.review() {
            Ok(()) => Ok(node),
            Err((key, objection)) => Err(Mistake {
                line: document::parse::line_of(&text, &format!("{key}:")),
                text: format!("{key}: {objection}"),
            }),
        });
        node.map(Some)
            .map_err(|mistake| HomeError::Mistake { path, mistake })
    }

    /// Writes `node.yaml`.
    ///
    /// # Errors
    /// The system.
    pub fn write_node(&self, node: &NodeFile) -> Result<(), HomeError> {
        let text = serde_saphyr::to_string(node).expect("a few texts and numbers");
        write(&self.node_file(), text.as_bytes())
    }

    /// Reads `enrolling.yaml`; nothing if it is not there.
    ///
    /// # Errors
    /// It cannot be read or is wrong.
    pub fn read_enrolling(&self) -> Result<Option<Enrolling>, HomeError> {
        let path = self.enrolling();
        let Some(text) = read(&path)? else { return Ok(None) };
        document::parse::parse_strictly(&text)
            .map(Some)
            .map_err(|mistake| HomeError::Mistake { path, mistake })
    }

    /// Writes `enrolling.yaml`.
    ///
    /// # Errors
    /// The system.
    pub fn write_enrolling(&self, enrolling: &Enrolling) -> Result<(), HomeError> {
        let text = serde_saphyr::to_string(enrolling).expect("a few texts and numbers");
        write(&self.enrolling(), text.as_bytes())
    }

    /// Whether nothing else is under way that would make this directory a node's.
    ///
    /// # Errors
    /// A host is about to enroll here.
    pub fn refuse_enrolling(&self) -> Result<(), HomeError> {
        let path = self.enrolling();
        if path.exists() && !self.node_file().exists() {
            return Err(HomeError::Enrolling { path });
        }
        Ok(())
    }

    /// Whether what this user writes here can be read by the daemon's user, if the directory is his.
    ///
    /// # Errors
    /// It could not; `command` is how to say it as that user.
    pub fn refuse_foreign_user(&self, command: &'static str) -> Result<(), HomeError> {
        let Ok(Some(service)) = nix::unistd::User::from_name(SERVICE_USER) else {
            return Ok(());
        };
        let is_his = fs::metadata(&self.dir).is_ok_and(|known| known.uid() == service.uid.as_raw());
        if is_his && nix::unistd::geteuid() != service.uid {
            return Err(HomeError::Foreign {
                path: self.dir.clone(),
                command,
            });
        }
        Ok(())
    }

    /// The text of `cluster.yaml`; nothing if it is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_cluster_text(&self) -> Result<Option<String>, HomeError> {
        read(&self.cluster_file())
    }

    /// Reads `cluster.yaml`; nothing if it is not there.
    ///
    /// # Errors
    /// It cannot be read or is wrong.
    pub fn read_cluster(&self) -> Result<Option<Document>, HomeError> {
        let Some(text) = self.read_cluster_text()? else {
            return Ok(None);
        };
        document::parse(&text)
            .map(Some)
            .map_err(|mistake| HomeError::Mistake {
                path: self.cluster_file(),
                mistake,
            })
    }

    /// Writes `cluster.yaml` unless somebody else has written it since `same` was true last. Yields whether it was written.
    ///
    /// # Errors
    /// The system.
    pub fn write_cluster(&self, text: &str, same: impl FnOnce() -> bool) -> Result<bool, HomeError> {
        write_if(&self.cluster_file(), text.as_bytes(), same)
    }

    /// Writes `trust.yaml` for the peers of this document.
    ///
    /// # Errors
    /// The system.
    pub fn write_trust(&self, trust: &Trust) -> Result<(), HomeError> {
        let text = serde_saphyr::to_string(trust).expect("a few texts");
        write(&self.trust_file(), text.as_bytes())
    }

    /// Reads `trust.yaml`; empty if it is not there.
    ///
    /// # Errors
    /// It cannot be read or is wrong.
    pub fn read_trust(&self) -> Result<Trust, HomeError> {
        let path = self.trust_file();
        match read(&path)? {
            None => Ok(Trust::default()),
            Some(text) => {
                document::parse::parse_strictly(&text).map_err(|mistake| HomeError::Mistake { path, mistake })
            }
        }
    }
}

/// Whether this is a command of the service's user.
fn is_service_user() -> bool {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    user.ok().flatten().is_some_and(|user| user.name == SERVICE_USER)
}

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

/// A channel of one node.
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

/// `enrolling.yaml`: as what a host enrolls. Nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolling {
    /// Of the token that was shown last.
    pub enrollment: String,
    /// What the node will be called.
    pub node_id: NodeId,
    /// Where the others will reach it.
    pub advertise: String,
    /// Address to listen on.
    pub bind_addr: String,
    /// Port to listen on.
    pub bind_port: u16,
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
            self.bind_port = parsed
                .ok_or_else(|| format!("QUPTIME_BIND_PORT: \"{port}\" is no port; write 1 to 65535"))?;
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

/// `trust.yaml`: whose keys this node knows. Made of the peers in `cluster.yaml`, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// One for each peer.
    #[serde(default)]
    pub entries: Vec<TrustEntry>,
}

/// Whose key this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustEntry {
    /// The peer.
    pub node_id: NodeId,
    /// Where it is.
    pub address: String,
    /// Of its key.
    pub fingerprint: String,
    /// Its certificate.
    pub cert_pem: String,
    /// Since when it is known here, RFC 3339.
    pub added_at: String,
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |source| HomeError::Io {
        operation,
        path,
        source,
    }
}

fn read(path: &Path) -> Result<Option<String>, HomeError> {
    let mistake = |line: u64, text: String| HomeError::Mistake {
        path: path.to_owned(),
        mistake: Mistake { line, text },
    };
    // Opening a pipe would wait for somebody who writes into it, and opening a device may do anything.
    let not_a_file = || mistake(0, "it is not a file; put a file in its place".to_owned());
    match fs::metadata(path) {
        Ok(known) if !known.is_file() => return Err(not_a_file()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let known = file.metadata().map_err(io_error("look at", path))?;
    if !known.is_file() {
        return Err(not_a_file());
    }
    let most = document::parse::BYTES_MAX as u64;
    let mut bytes = Vec::new();
    if known.len() <= most {
        // One byte more, in case that the file grows.
        let read = file.take(most + 1).read_to_end(&mut bytes);
        read.map_err(io_error("read", path))?;
    }
    let length = known.len().max(bytes.len() as u64);
    if length > most {
        return Err(mistake(
            0,
            format!("the file has {length} bytes; at most {most} are read"),
        ));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count() as u64;
        mistake(line, "it is not UTF-8 text".to_owned())
    })
}

fn refuse_open(path: &Path) -> Result<(), HomeError> {
    let mode = fs::metadata(path).map_err(io_error("look at", path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(HomeError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Writes a file whole, readable by its owner alone: what is there is the old or the new content, also after a crash.
///
/// # Errors
/// The system.
pub fn write(path: &Path, content: &[u8]) -> Result<(), HomeError> {
    write_if(path, content, || true).map(drop)
}

/// The same, if this still holds when the new content has been synced and is about to take its place.
fn write_if(path: &Path, content: &[u8], still: impl FnOnce() -> bool) -> Result<bool, HomeError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let new = dir.join(format!(".{}.new", name.unwrap_or_default()));
    let written = || -> io::Result<bool> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        if !still() {
            return fs::remove_file(&new).map(|()| false);
        }
        fs::rename(&new, path)?;
        File::open(dir)?.sync_all().map(|()| true)
    };
    written().map_err(io_error("write", path))
}

/// A path that nothing has yet: this one, or with a number behind it.
pub fn free_path(path: &Path) -> PathBuf {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("-{number}"));
        PathBuf::from(name)
    };
    let mut free = path.to_owned();
    let mut number = 1;
    while free.symlink_metadata().is_ok() {
        number += 1;
        free = numbered(number);
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn node() -> NodeFile {
        NodeFile {
            node_id: NodeId::draw(),
            bind_addr: any_address(),
            bind_port: PORT,
            advertise: "alpha.example.com:9901".to_owned(),
            cluster_secret: Secret::draw(),
            web_listen: None,
            log_format: None,
            fallback_alert: None,
            fallback_after: None,
            watchdog_url: Secret::default(),
            watchdog_every: None,
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let begin = format!("node_id: {}\nadvertise: a:1\n", NodeId::draw());
        for (text, expected) in [
            (
                "watchdog_url: ftp://x/secret\n",
                "line 3: watchdog_url: it is no http://",
            ),
            (
                "watchdog_every: 10ms\n",
                "line 3: watchdog_every: 10ms is too short",
            ),
            ("watchdog_every: often\n", "line 3: bad duration"),
            ("fallback_after: 0s\n", "line 3: fallback_after: 0s is too short"),
            (
                "fallback_alert:\n  type: webhook\n",
                "line 3: fallback_alert: webhook_url is missing",
            ),
            ("fallback_alert:\n  type: discord\n", "line 4: "),
            (
                "fallback_alert: hello\n",
                "line 3: fallback_alert: write keys with values",
            ),
            (
                "bind_port: 70000\n",
                "line 3: bind_port: write a whole number from 0 to 65535",
            ),
            (
                "web_listen: 127.0.0.1:9901\n",
                "line 3: web_listen: 127.0.0.1:9901 is where other nodes are listened for",
            ),
            (
                "web_listen: 127.0.0.1:8\nbind_addr: 127.0.0.1\nbind_port: 8\n",
                "line 3: web_listen: 127.0.0.1:8 is where",
            ),
            (
                "web_listen: \"[::]:8\"\nbind_addr: 127.0.0.1\nbind_port: 8\n",
                "line 3: web_listen: [::]:8 is where",
            ),
            (
                "fallback_alert:\n  type: webhook\n  url: http://x/\n",
                "line 5: unknown field",
            ),
            (
                "fallback_alert:\n  type: smtp\n  smtp_host: mail.test\n  smtp_from: a\n  smtp_to: [b@test]\n",
                "line 3: fallback_alert: ",
            ),
        ] {
            write(&home.node_file(), format!("{begin}{text}").as_bytes()).unwrap();
            let error = home.read_node().unwrap_err().to_string();
            assert!(
                error.contains(&format!("node.yaml: {expected}")),
                "{text}: {error}"
            );
            assert!(!error.contains("x/secret"), "{error}");
        }
        let good = "watchdog_url: http://x/\nbind_addr: 127.0.0.1\nweb_listen: 127.0.0.2:9901\nfallback_alert:\n  type: webhook\n  webhook_url: http://x/\n";
        write(&home.node_file(), format!("{begin}{good}").as_bytes()).unwrap();
        assert!(home.read_node().unwrap().is_some());
    }

    #[test]
    fn files_survive_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("q"));
        home.create().unwrap();
        assert!(home.read_node().unwrap().is_none());
        let node = node();
        home.write_node(&node).unwrap();
        assert_eq!(home.read_node().unwrap(), Some(node));
        fs::set_permissions(home.node_file(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = home.read_node().unwrap_err().to_string();
        assert!(
            error.contains("mode 0640") && error.contains("chmod 600"),
            "{error}"
        );
    }

    #[test]
    fn mistakes_name_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        write(&home.node_file(), b"node_id: x\nadvertise: a:1\n").unwrap();
        let error = home.read_node().unwrap_err().to_string();
        assert!(error.contains("node.yaml: line 1: bad node id \"x\""), "{error}");
        write(
            &home.node_file(),
            format!("node_id: {}\nadvertise: a:1\nfoo: 1\n", NodeId::draw()).as_bytes(),
        )
        .unwrap();
        let error = home.read_node().unwrap_err().to_string();
        assert!(error.contains("node.yaml: line 3: unknown field"), "{error}");
        write(&home.cluster_file(), b"version: 1\nfoo: 1\n").unwrap();
        let error = home.read_cluster().unwrap_err().to_string();
        assert!(error.contains("cluster.yaml: line 2: unknown field"), "{error}");
    }

    #[test]
    fn what_is_no_small_text_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let path = home.cluster_file();
        let told = || home.read_cluster_text().unwrap_err().to_string();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(told().ends_with("cluster.yaml: it is not a file; put a file in its place"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(told().contains("it is not a file"));
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("cluster.yaml", &path).unwrap();
        assert!(told().starts_with("read "), "{}", told());
        fs::remove_file(&path).unwrap();
        let large = File::create(&path).unwrap();
        large.set_len(document::parse::BYTES_MAX as u64 + 1).unwrap();
        assert!(told().contains("the file has 16777217 bytes; at most 16777216 are read"));
        fs::write(&path, b"version: 1\nchecks:\n  - name: \xff\n").unwrap();
        assert!(told().ends_with("line 3: it is not UTF-8 text"), "{}", told());
    }

    #[test]
    fn variables_win_over_the_file_and_empty_ones_do_not() {
        let mut file = node();
        let before = file.clone();
        file.overlay(|_| Some(String::new())).unwrap();
        assert_eq!(file, before);
        let port = |name: &str| (name == "QUPTIME_BIND_PORT").then(|| "9911".to_owned());
        file.overlay(port).unwrap();
        assert_eq!(file.bind_port, 9911);
        let bad = |name: &str| (name == "QUPTIME_BIND_PORT").then(|| "0".to_owned());
        assert!(file.overlay(bad).unwrap_err().starts_with("QUPTIME_BIND_PORT: "));
    }
}
