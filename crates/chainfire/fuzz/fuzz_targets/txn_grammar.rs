//! Random bytes as the text of a transaction: `cargo xtask fuzz 60 txn_grammar`.
#![no_main]

use chainfire::client::grammar;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let lines = text.split(|byte| *byte == b'\n').count();
    match grammar::parse(text) {
        Ok(txn) => assert!(txn.compare.len() + txn.success.len() + txn.failure.len() <= lines),
        Err(problem) => {
            assert!((1..=lines).contains(&problem.line));
            assert!((1..=text.len() + 1).contains(&problem.column));
            assert!(!problem.message.is_empty() && !problem.message.contains('\n'));
        }
    }
});
