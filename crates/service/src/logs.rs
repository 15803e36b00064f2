//! Log lines: one line per event, in a form that operators grep and count.
//!
//! Text: `LEVEL target: Message, key=value, key=value`, no colour and no time stamp (the journal adds its own).
//! JSON: one flat object `{"ts":..,"level":"info","target":..,"msg":..,"key":value}`. Fields keep the order in which they
//! were written; fields of enclosing spans come before the event's own, because operators count by the last field.
//! When standard error is the journal (`JOURNAL_STREAM`), each line gets the `<N>` priority prefix that makes
//! `journalctl -p err` work.
//!
//! Call sites name their target, which is an interface: `tracing::info!(target: "chainfire_raft", term, "Leader elected")`.
//! Lines that could flood go through a [`Throttle`].
//!
//! This is the only module that starts a log subscriber. It never writes to standard output, and it never fails: a line
//! that cannot be written is lost.

mod capture;
mod filter;
mod format;
mod journal;
mod layer;
mod panics;
mod throttle;

use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::clock::SystemClock;

pub use capture::{Capture, capture};
pub use panics::install_panic_hook;
pub use throttle::Throttle;

use layer::LineLayer;

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `LEVEL target: Message, key=value`.
    #[default]
    Text,
    /// A flat JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("bad log format {text:?}: want text or json")),
        }
    }
}

/// The `[log]` section of every program.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or directives such as `info,chainfire_raft=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: Format,
    /// Put a UTC time stamp in front of text lines. JSON lines always carry one.
    pub timestamps: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: Format::Text,
            timestamps: false,
        }
    }
}

/// Why logging could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is neither a level nor a list of directives.
    #[error(
        "bad log level {level:?}: want error, warn, info, debug, trace, off or directives like \"info,target=debug\""
    )]
    Level {
        /// What was given.
        level: String,
    },
    /// Logging was started before in this process.
    #[error("start logging: already started in this process")]
    Started,
}

/// Changes the level while the program runs.
#[derive(Clone, Debug)]
pub struct LogHandle {
    reload: reload::Handle<EnvFilter, Registry>,
}

impl LogHandle {
    /// Puts another level or list of directives into force. On error the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), Error> {
        let filter = filter::parse(level)?;
        self.reload.reload(filter).map_err(|_gone| Error::Level {
            level: level.to_owned(),
        })
    }

    /// The directives in force.
    pub fn level(&self) -> String {
        self.reload.with_current(ToString::to_string).unwrap_or_default()
    }
}

/// Whether `level` would be accepted, for `--check-config`.
pub fn check_level(level: &str) -> Result<(), Error> {
    filter::parse(level).map(drop)
}

/// Starts logging to standard error for the whole process. Do it once, in the entry function.
pub fn init(settings: &LogSettings) -> Result<LogHandle, Error> {
    let (filter, reload) = reload::Layer::new(filter::parse(&settings.level)?);
    let layer = LineLayer::new(
        settings.format,
        settings.timestamps,
        journal::is_stderr(),
        SystemClock::shared(),
        Arc::new(|line: &str| {
            // Nowhere is left to report that standard error is gone.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        }),
    );
    tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init()
        .map_err(|_set| Error::Started)?;
    Ok(LogHandle { reload })
}
