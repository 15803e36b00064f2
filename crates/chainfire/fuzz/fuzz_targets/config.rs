//! Random bytes as the configuration file: `cargo xtask fuzz 60 config`.
#![no_main]

use std::path::Path;

use chainfire::config::Config;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(error) = Config::parse(Path::new("fuzz.toml"), text) {
        let message = error.to_string();
        assert!(!message.is_empty() && message.contains("fuzz.toml"), "{message}");
    }
});
