//! From the `level` setting to a filter.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::Error;

/// Third-party crates whose debug lines drown ours. They are held at info when a bare level asks for more; directives
/// that name them still win.
const NOISY: [&str; 8] = [
    "h2",
    "hyper",
    "hyper_util",
    "reqwest",
    "rustls",
    "tonic",
    "tower",
    "mio",
];

/// Parses a level or a comma-separated list of `target=level` directives.
pub(super) fn parse(level: &str) -> Result<EnvFilter, Error> {
    let level = level.trim();
    let bad = || Error::Level {
        level: level.to_owned(),
    };
    // EnvFilter takes a lone word for the name of a target. Here that is a misspelt level.
    if !level
        .split(',')
        .all(|part| part.contains('=') || named(part).is_some())
    {
        return Err(bad());
    }
    let mut directives = level.to_owned();
    if named(level).is_some_and(|bare| bare >= LevelFilter::DEBUG) {
        for target in NOISY {
            directives.extend([",", target, "=info"]);
        }
    }
    EnvFilter::try_new(directives).map_err(|_| bad())
}

/// A level by its name. `LevelFilter` also reads digits, and the empty text as `error`.
fn named(text: &str) -> Option<LevelFilter> {
    text.parse()
        .ok()
        .filter(|_| text.starts_with(|c: char| c.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_accepted() {
        assert_eq!(parse("info").unwrap().to_string(), "info");
        assert_eq!(parse(" WARN ").unwrap().to_string(), "warn");
        assert_eq!(parse("off").unwrap().to_string(), "off");
        assert!(parse("debug").unwrap().to_string().contains("h2=info"));
        assert!(
            parse("info,chainfire_raft=debug")
                .unwrap()
                .to_string()
                .contains("chainfire_raft=debug")
        );
    }

    #[test]
    fn misspelt_levels_are_refused() {
        for wrong in [
            "",
            "3",
            "inf",
            "info,",
            "loud",
            "info,warm",
            "chainfire_raft=loud",
        ] {
            let error = parse(wrong)
                .map(|filter| filter.to_string())
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with(&format!("bad log level {wrong:?}: want error, warn")),
                "{error}"
            );
        }
    }
}
