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
    if let Ok(bare) = level.parse::<LevelFilter>() {
        let mut directives = bare.to_string();
        if bare >= LevelFilter::DEBUG {
            for target in NOISY {
                directives.push_str(&format!(",{target}=info"));
            }
        }
        return EnvFilter::try_new(directives).map_err(|_| bad());
    }
    // EnvFilter takes a lone word for the name of a target. Here that is a misspelt level.
    if !level.contains('=') {
        return Err(bad());
    }
    EnvFilter::try_new(level).map_err(|_| bad())
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
        for wrong in ["", "inf", "loud", "info,warm", "chainfire_raft=loud"] {
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
