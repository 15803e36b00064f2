//! Log lines: one line per event, in a form that operators grep and count.
//!
//! Text: `LEVEL target: Message, key=value, key=value`, without colour. A time stamp in front of it where nobody else adds one:
//! the journal does, a file does not.
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

use layer::{Errors, LineLayer};

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

/// Whether text lines begin with the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamps {
    /// Unless standard error is the journal, which adds its own.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl serde::Serialize for Timestamps {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Always => serializer.serialize_bool(true),
            Self::Never => serializer.serialize_bool(false),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Timestamps {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Timestamps;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"auto\", true or false")
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Timestamps, E> {
                Ok(if value {
                    Timestamps::Always
                } else {
                    Timestamps::Never
                })
            }

            // The environment gives texts.
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Timestamps, E> {
                match value {
                    "auto" => Ok(Timestamps::Auto),
                    "true" | "1" => Ok(Timestamps::Always),
                    "false" | "0" => Ok(Timestamps::Never),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The `[log]` section of every program.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or directives such as `info,chainfire_raft=debug`. SIGHUP
    /// makes a running server read it again.
    pub level: String,
    /// `text`: one line each, as the runbooks search for it; or `json`.
    pub format: Format,
    /// Whether text lines begin with the time (UTC): `true`, `false`, or `"auto"`, which is true unless the lines go to the
    /// journal, which has its own. JSON lines always have it.
    pub timestamps: Timestamps,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: Format::Text,
            timestamps: Timestamps::Auto,
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
    start(settings, None)
}

/// The same, and every line of level error with this target is told to somebody as well, as plain text without the time.
pub fn init_telling_errors(
    settings: &LogSettings,
    target: &'static str,
    told: impl Fn(&str) + Send + Sync + 'static,
) -> Result<LogHandle, Error> {
    let told = Arc::new(told);
    start(settings, Some(Errors { target, told }))
}

fn start(settings: &LogSettings, errors: Option<Errors>) -> Result<LogHandle, Error> {
    let (filter, reload) = reload::Layer::new(filter::parse(&settings.level)?);
    let journal = journal::is_stderr();
    let timestamps = match settings.timestamps {
        Timestamps::Auto => !journal,
        Timestamps::Always => true,
        Timestamps::Never => false,
    };
    let layer = LineLayer::new(
        settings.format,
        timestamps,
        journal,
        SystemClock::shared(),
        Arc::new(|line: &str| {
            // Nowhere is left to report that standard error is gone.
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        }),
    );
    let layer = match errors {
        Some(errors) => layer.telling(errors),
        None => layer,
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init()
        .map_err(|_set| Error::Started)?;
    Ok(LogHandle { reload })
}
