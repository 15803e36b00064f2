//! Random bytes through the page parser, the author's checks and the terminal view: `cargo xtask fuzz 60 runbook`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let parsed = runbook::parse("fuzz", "fuzz.md", bytes);
    let _ = runbook::check::lint(&parsed.page);
    let _ = runbook::render::page(&parsed.page, 80, false);
});
