//! Random bytes as a template, rendered with data of each kind: `cargo xtask fuzz 60 template`.
#![no_main]

use template::{Limits, Template, Value};

/// Small, so that what takes long ends soon; the ways to a limit are the same.
const STEPS: u64 = 20_000;

fn data() -> Value {
    let check = Value::record(
        "Check",
        [("Name", Value::from("shop")), ("Port", Value::Int(443))],
    );
    Value::record(
        "Event",
        [
            ("Check", check),
            ("Verb", Value::from("DÖWN <b>")),
            (
                "Nodes",
                Value::list([
                    Value::from("n1"),
                    Value::from("n2"),
                    Value::Null,
                    Value::Float(2.5),
                ]),
            ),
            (
                "Detail",
                Value::map(
                    "".into(),
                    [("n1", Value::from("ok")), ("n2", Value::from("timeout"))],
                ),
            ),
            (
                "Any",
                Value::map(Value::Null, [("k", Value::list([Value::Bool(true)]))]),
            ),
            ("None", Value::Null),
        ],
    )
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut limits = Limits::default();
    limits.steps = STEPS;
    match Template::parse_within("body", text, &limits) {
        Ok(template) => match template.render(&data(), &limits) {
            Ok(out) => assert!(out.len() <= limits.output_bytes),
            Err(error) => assert!(!error.to_string().contains('\n')),
        },
        Err(error) => {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&error.line));
            assert!((1..=text.len() + 1).contains(&error.column));
            assert!(!error.message.is_empty() && !error.message.contains('\n'));
        }
    }
});
