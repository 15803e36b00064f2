//! The data directory: where files are, and who may use them. [`files`] writes them; [`node_file`] is the one about this node; [`lock`] keeps
//! a second process out.
//!
//! `$QUPTIME_DIR`, else `/etc/quptime` for root and for the user `quptime` (whose commands come through sudo, which clears the
//! environment), else below the user's configuration directory. There is no other persistent place, so removing the directory is a
//! complete reset.

mod files;
mod lock;
mod node_file;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::document::{self, Document, Mistake};
use crate::identity::NodeId;
pub use files::{free_path, write};
use files::{io_error, read, refuse_open, write_if};
pub use lock::HomeLock;
pub use node_file::{FallbackAlert, FallbackKind, NodeFile};

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
    /// One process at a time.
    #[error(
        "{} is in use by another qu process{}; stop that first (the service: systemctl stop quptime), or set QUPTIME_DIR to a directory of its own",
        .path.display(), .holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The number of the process that uses it, if it has one here.
        holder: Option<u32>,
    },
    /// A node is made once.
    #[error(
        "{} is in use: this host is a node already, and it runs{}; ask it with qu status, or set QUPTIME_DIR to a directory of its own for another node",
        .path.display(), .holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Runs {
        /// The directory.
        path: PathBuf,
        /// The number of its process, if it has one here.
        holder: Option<u32>,
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

/// One content of a file, by what the system says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64, i64, i64, u64);

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

    /// Whether `cluster.yaml` says exactly this, however long it is.
    pub fn cluster_says(&self, text: &str) -> bool {
        let path = self.cluster_file();
        let has_length =
            fs::metadata(&path).is_ok_and(|known| known.is_file() && known.len() == text.len() as u64);
        has_length && fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes())
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

    /// Keeps a text of `cluster.yaml` beside it, as `cluster.yaml.<why>-<time>`. Yields where.
    ///
    /// # Errors
    /// The system.
    pub fn keep_beside(&self, why: &str, at_unix_ms: u64, text: &str) -> Result<PathBuf, HomeError> {
        let kept = self.beside(why, at_unix_ms);
        write(&kept, text.as_bytes())?;
        Ok(kept)
    }

    /// Moves whatever is in the place of `cluster.yaml` out of the way, to where [`Home::keep_beside`] would put a text. Yields where.
    ///
    /// # Errors
    /// The system.
    pub fn move_beside(&self, why: &str, at_unix_ms: u64) -> Result<PathBuf, HomeError> {
        let kept = self.beside(why, at_unix_ms);
        fs::rename(self.cluster_file(), &kept).map_err(io_error("move", &self.cluster_file()))?;
        Ok(kept)
    }

    fn beside(&self, why: &str, at_unix_ms: u64) -> PathBuf {
        let stamp = service::clock::utc_compact(at_unix_ms);
        free_path(&self.dir.join(format!("cluster.yaml.{why}-{stamp}")))
    }

    /// What tells one content of `cluster.yaml` from another without reading it; nothing if it is not there.
    pub fn cluster_stamp(&self) -> Option<Stamp> {
        let known = fs::metadata(self.cluster_file()).ok()?;
        Some(Stamp(known.ino(), known.mtime(), known.mtime_nsec(), known.len()))
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

#[cfg(test)]
mod tests;
