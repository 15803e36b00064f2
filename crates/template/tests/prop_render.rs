//! Whatever the text and whatever the limits: no panic, nothing beyond the limits, the same result each time.

use proptest::collection::vec;
use proptest::prelude::*;
use template::{Limits, Template, Value};

/// Pieces that templates are made of, some of them whole blocks so that good templates come about.
const PIECES: [&str; 64] = [
    "{{",
    "}}",
    "{{- ",
    " -}}",
    " ",
    "\n",
    "text",
    "é",
    "/*",
    "*/",
    "(",
    ")",
    "|",
    ":=",
    "=",
    ",",
    ".",
    "$",
    "$x",
    "$y ",
    ".S ",
    ".L ",
    ".M ",
    ".R ",
    ".R.Name ",
    ".N ",
    "nil ",
    "true ",
    "1 ",
    "-2 ",
    "2.5 ",
    "'a' ",
    "\"s\" ",
    "`r` ",
    "\"%v %5d %q\" ",
    "\"%*[2]d%!\" ",
    "print ",
    "printf ",
    "println ",
    "len ",
    "eq ",
    "lt ",
    "index ",
    "slice ",
    "html ",
    "js ",
    "urlquery ",
    "and ",
    "or ",
    "not ",
    "{{if 1}}",
    "{{else}}",
    "{{end}}",
    "{{range .L}}",
    "{{range $x, $y := .M}}",
    "{{with .R}}",
    "{{break}}",
    "{{continue}}",
    "{{define \"d\"}}",
    "{{template \"d\" .}}",
    "{{block \"b\" .}}",
    "{{$x := .S}}",
    "{{$x = print $x $x}}",
    "{{$x}}",
];

fn data() -> Value {
    Value::record(
        "Event",
        [
            ("S", Value::from("häl<lo")),
            (
                "L",
                Value::list([Value::Int(1), Value::from("two"), Value::Null, Value::Float(0.5)]),
            ),
            (
                "M",
                Value::map(
                    Value::Null,
                    [("k", Value::Int(1)), ("l", Value::list([Value::Bool(true)]))],
                ),
            ),
            ("R", Value::record("Rec", [("Name", Value::from("n"))])),
            ("N", Value::Null),
        ],
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rendering_stays_within_its_limits(
        pieces in vec(prop::sample::select(PIECES.as_slice()), 0..40),
        output_bytes in 0_usize..2000,
        steps in 0_u64..5000,
        depth in 0_usize..30,
    ) {
        let text = pieces.concat();
        let mut limits = Limits::default();
        (limits.output_bytes, limits.steps, limits.depth) = (output_bytes, steps, depth);
        match Template::parse_within("body", &text, &limits) {
            Err(error) => {
                let lines = text.split('\n').count();
                prop_assert!((1..=lines).contains(&error.line), "{error}");
                let line = text.split('\n').nth(error.line - 1).unwrap_or_default();
                prop_assert!((1..=line.chars().count() + 1).contains(&error.column), "{error}");
                prop_assert!(!error.message.is_empty() && !error.message.contains('\n'), "{error}");
            }
            Ok(template) => {
                let first = template.render(&data(), &limits);
                prop_assert_eq!(&first, &template.render(&data(), &limits));
                match first {
                    Ok(text) => prop_assert!(text.len() <= output_bytes),
                    Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
                }
            }
        }
    }

    #[test]
    fn any_text_parses_or_says_where_not(text in "\\PC{0,30}(\\{\\{\\PC{0,30}\\}\\}){0,3}") {
        if let Ok(template) = Template::parse("body", &text) {
            // Whether it fits the data does not matter here.
            let _ = template.render(&data(), &Limits::default());
        }
    }

    #[test]
    fn text_without_actions_stays_as_it_is(text in "[^{]{0,200}") {
        let template = Template::parse("body", &text).expect("no action");
        prop_assert_eq!(template.render(&data(), &Limits::default()), Ok(text));
    }
}
