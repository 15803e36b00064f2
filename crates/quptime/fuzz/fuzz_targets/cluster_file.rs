//! Random text as `cluster.yaml`: `cargo xtask fuzz 60 cluster_file`.
//!
//! What is read is written as a text that is read as the same, with one line that begins with `version:`, the first; what is not is
//! refused with one line that names a line of the text.
#![no_main]

use quptime::document::{changes_between, parse, render, review};

libfuzzer_sys::fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(document) => {
            let written = render(&document);
            let again = parse(&written).expect("what was written can be read");
            assert_eq!(again, document);
            assert_eq!(render(&again), written);
            assert!(changes_between(&document, &again).is_empty());
            let versions = written.lines().filter(|line| line.starts_with("version:")).count();
            assert!(written.starts_with("version:") && versions == 1);
            if let Err(objection) = review::review(&document) {
                assert!(!objection.to_string().is_empty());
            }
        }
        Err(mistake) => {
            assert!(mistake.line as usize <= text.split(['\n', '\r']).count() + 1);
            assert!(!mistake.text.is_empty() && !mistake.text.contains('\n'));
        }
    }
});
