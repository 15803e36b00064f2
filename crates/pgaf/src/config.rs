//! Where a node's files are, and `pg_autoctl.cfg`.
//!
//! The file is of the kind that users of `pg_auto_failover` know: sections in brackets, `key = value`, `#` and `;` begin a comment. It is read
//! strictly, with the line of what is wrong: a setting with a slip in its name would silently be the default.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::keeper::state::replace;

/// Name of the configuration file.
const CONFIG: &str = "pg_autoctl.cfg";

/// Files that belong to a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The configuration.
    pub config: PathBuf,
    /// What the keeper remembers.
    pub state: PathBuf,
    /// There when `create` has begun and not ended.
    pub init: PathBuf,
    /// The running process.
    pub pid: PathBuf,
}

/// Folders below which they lie, from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    config: PathBuf,
    data: PathBuf,
    runtime: PathBuf,
}

impl Folders {
    /// As `variable` answers for `XDG_CONFIG_HOME` and the others, and `HOME`.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Folders {
        let set = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = set("HOME").unwrap_or_else(|| PathBuf::from("/"));
        Folders {
            config: set("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")),
            data: set("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")),
            runtime: set("XDG_RUNTIME_DIR").unwrap_or_else(std::env::temp_dir),
        }
    }

    /// Of this data directory, whose path is absolute.
    pub fn paths(&self, pgdata: &Path) -> Paths {
        let below = Path::new("pg_autoctl").join(pgdata.strip_prefix("/").unwrap_or(pgdata));
        let data = self.data.join(&below);
        Paths {
            config: self.config.join(&below).join(CONFIG),
            state: data.join("pg_autoctl.state"),
            init: data.join("pg_autoctl.init"),
            pid: self.runtime.join(&below).join("pg_autoctl.pid"),
        }
    }

    /// Data directories that are configured for this user, in order.
    pub fn configured(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let top = self.config.join("pg_autoctl");
        let mut folders = vec![top.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if entry.file_name() == CONFIG
                    && let Ok(below) = folder.strip_prefix(&top)
                {
                    found.push(Path::new("/").join(below));
                }
            }
        }
        found.sort();
        found
    }
}

/// What is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// It cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {reason}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// Something is missing or does not fit.
    #[error("{path}: {key}: {reason}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// `section.key`.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Every key that there is, as `section.key`.
const KEYS: &[&str] = &[
    "pg_autoctl.role",
    "pg_autoctl.monitor",
    "pg_autoctl.formation",
    "pg_autoctl.group",
    "pg_autoctl.name",
    "pg_autoctl.hostname",
    "postgresql.pgdata",
    "postgresql.pg_ctl",
    "postgresql.username",
    "postgresql.dbname",
    "postgresql.host",
    "postgresql.port",
    "postgresql.listen_addresses",
    "postgresql.auth_method",
    "ssl.sslmode",
    "replication.maximum_backup_rate",
];

/// What a configuration file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    path: PathBuf,
    values: BTreeMap<&'static str, String>,
}

impl Config {
    /// One that says nothing yet.
    pub fn new(path: &Path) -> Config {
        Config {
            path: path.to_owned(),
            values: BTreeMap::new(),
        }
    }

    /// Reads the file.
    pub fn read(path: &Path) -> Result<Config, Invalid> {
        let text = std::fs::read_to_string(path).map_err(|error| Invalid::File {
            path: path.to_owned(),
            error,
        })?;
        Config::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Config, Invalid> {
        let mut config = Config::new(path);
        let mut section = None;
        for (number, line) in text.lines().enumerate() {
            let wrong = |reason: String| Invalid::Line {
                path: path.to_owned(),
                line: number + 1,
                reason,
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = Some(name.trim().to_owned());
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| wrong(format!("`{line}` is not of the form key = value")))?;
            let section = section
                .as_ref()
                .ok_or_else(|| wrong("stands before any [section]".to_owned()))?;
            let full = format!("{section}.{}", key.trim());
            let key = KEYS
                .iter()
                .find(|known| **known == full)
                .ok_or_else(|| wrong(format!("no setting is called {full}")))?;
            if config.values.insert(key, value.trim().to_owned()).is_some() {
                return Err(wrong(format!("{full} stands there twice")));
            }
        }
        Ok(config)
    }

    /// Writes the file, as a whole.
    pub fn write(&self) -> Result<(), Invalid> {
        replace(&self.path, self.text().as_bytes()).map_err(|error| Invalid::File {
            path: self.path.clone(),
            error,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut before = "";
        for key in KEYS {
            let (section, name) = key.split_once('.').expect("written so");
            let Some(value) = self.values.get(key) else {
                continue;
            };
            if section != before {
                let gap = if before.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{section}]"); // writing into memory
                before = section;
            }
            let _ = writeln!(text, "{name} = {value}"); // writing into memory
        }
        text
    }

    /// Sets a key. A value is one line.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Config {
        assert!(KEYS.contains(&key), "{key} is in the list");
        self.values.insert(key, value.into());
        self
    }

    /// The same, if there is a value.
    #[must_use]
    pub fn with_some(self, key: &'static str, value: Option<impl Into<String>>) -> Config {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// The value of a key, if it is there.
    pub fn get(&self, key: &'static str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// The value of a key that must be there.
    pub fn need(&self, key: &'static str) -> Result<&str, Invalid> {
        self.get(key).ok_or_else(|| self.wrong(key, "is missing"))
    }

    /// An error about a key.
    pub fn wrong(&self, key: &'static str, reason: impl Into<String>) -> Invalid {
        Invalid::Key {
            path: self.path.clone(),
            key,
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("c"), text).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        let config = Config::new(Path::new("c"))
            .with("postgresql.pgdata", "/srv/a = b")
            .with("pg_autoctl.role", "keeper");
        let text = config.text();
        assert_eq!(
            text,
            "[pg_autoctl]\nrole = keeper\n\n[postgresql]\npgdata = /srv/a = b\n"
        );
        assert_eq!(parse(&text).as_ref(), Ok(&config));
        assert_eq!(parse(&format!("# x\n; y\n\n{text}")), Ok(config));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, told) in [
            ("role = keeper", "c:1: stands before any [section]"),
            (
                "[pg_autoctl]\nrule = keeper",
                "c:2: no setting is called pg_autoctl.rule",
            ),
            ("[pg_autoctl]\nrole", "c:2: `role` is not of the form key = value"),
            (
                "[pg_autoctl]\nrole = a\nrole = b",
                "c:3: pg_autoctl.role stands there twice",
            ),
        ] {
            assert_eq!(parse(text), Err(told.to_owned()));
        }
    }

    #[test]
    fn files_lie_where_the_environment_says() {
        let folders = Folders::of(|name| match name {
            "HOME" => Some("/var/lib/p".to_owned()),
            "XDG_RUNTIME_DIR" => Some("/run/p".to_owned()),
            _ => None,
        });
        let paths = folders.paths(Path::new("/srv/pg"));
        assert_eq!(
            paths.config,
            Path::new("/var/lib/p/.config/pg_autoctl/srv/pg/pg_autoctl.cfg")
        );
        assert_eq!(
            paths.state,
            Path::new("/var/lib/p/.local/share/pg_autoctl/srv/pg/pg_autoctl.state")
        );
        assert_eq!(paths.pid, Path::new("/run/p/pg_autoctl/srv/pg/pg_autoctl.pid"));
    }
}
