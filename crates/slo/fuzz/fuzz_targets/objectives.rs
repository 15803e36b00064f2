//! Random bytes through the reading of objectives and everything that is made of what was read: `cargo xtask fuzz 60 objectives`.
#![no_main]

use slo::document::{Findings, parse};
use slo::pace::Pace;
use slo::{objective, page, rules};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut findings = Findings::default();
    let documents = parse("fuzz.yaml", text, false, &mut findings);
    if !findings.mistakes.is_empty() {
        return;
    }
    let objectives = objective::resolve(&documents, &mut findings);
    if !findings.mistakes.is_empty() {
        return;
    }
    let _ = rules::file(&rules::groups(&objectives, Pace::REAL), "0", Pace::REAL);
    let _ = rules::file(&rules::extra(&objectives), "0", Pace::REAL);
    for objective in &objectives {
        // What was made is taken back as it is.
        let made = page::write(objective, None).expect("a new page has nothing to lose");
        assert_eq!(page::write(objective, Some(&made)).as_ref(), Ok(&made));
    }
});
