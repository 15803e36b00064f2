//! What ends a template that would do too much, and what messages say.

use std::cell::Cell;

use template::{ExecErrorKind, Limits, Template, Value};

fn limits() -> Limits<'static> {
    Limits::default()
}

fn data() -> Value {
    let check = Value::record("Check", [("Name", Value::from("shop"))]);
    let numbers = Value::list((0..100).map(Value::Int));
    Value::record(
        "Event",
        [("Check", check), ("Numbers", numbers), ("Verb", "DOWN".into())],
    )
}

/// The message of a text that does not parse.
fn parse_error(text: &str) -> String {
    Template::parse("body", text).expect_err(text).to_string()
}

/// The error of a text that does not execute with the default limits.
fn exec_error(text: &str) -> template::ExecError {
    Template::parse("body", text)
        .expect(text)
        .render(&data(), &limits())
        .expect_err(text)
}

#[test]
fn parse_errors_say_where_and_what() {
    for (text, message) in [
        (
            "a\nb\n c {{.X }",
            "template: body:3:9: unexpected \"}\" in operand",
        ),
        ("{{.X", "template: body:1:1: unclosed action: \"}}\" is missing"),
        (
            "é {{if .X}}",
            "template: body:1:3: unexpected end of the text: the {{end}} of this {{if}} is missing",
        ),
        (
            "{{end}}",
            "template: body:1:1: unexpected {{end}}: no {{if}}, {{range}} or {{with}} is open",
        ),
        (
            "{{$x}}",
            "template: body:1:3: undefined variable \"$x\": a := that gives it a value must come first",
        ),
        (
            "{{$x = 1}}",
            "template: body:1:3: undefined variable \"$x\": a := that gives it a value must come first",
        ),
        (
            "{{template \"t\"}}",
            "template: body:1:3: template \"t\" is not defined: a {{define \"t\"}} is missing",
        ),
        ("{{break}}", "template: body:1:3: {{break}} outside {{range}}"),
        (
            "{{1 | 2}}",
            "template: body:1:7: non executable command in pipeline stage 2: only functions take a value from \"|\"",
        ),
        (
            "{{(1}}",
            "template: body:1:3: unclosed left paren: \")\" is missing",
        ),
        (
            "{{\"a",
            "template: body:1:3: unterminated quoted string: the closing \" must be on the same line",
        ),
        (
            "{{define x}}{{end}}",
            "template: body:1:10: unexpected \"x\" in define: its name in quotes is missing",
        ),
    ] {
        assert_eq!(parse_error(text), message);
    }
    assert!(
        parse_error("{{upper .X}}")
            .starts_with("template: body:1:3: function \"upper\" not defined; there are and, eq, ")
    );
}

#[test]
fn messages_are_one_line_whatever_the_template_has() {
    for text in [
        "{{\"\n\"}}",
        "{{`\n` `a\nb`.x}}",
        "{{template `a\nb`}}",
        "{{\u{7}}}",
        "{{a\u{7}}}",
        "{{'\n'}}",
    ] {
        let message = parse_error(text);
        assert!(!message.contains(char::is_control), "{message:?}");
    }
    let message = exec_error("{{index\n.Numbers\n1000}}").to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
}

#[test]
fn execution_errors_say_where_and_what() {
    for (text, message) in [
        (
            "\n {{.Chek.Name}}",
            "template: body:2:4: executing \"body\" at <.Chek.Name>: can't evaluate field Chek in type Event; it has Check, \
             Numbers, Verb",
        ),
        (
            "{{define \"line\"}}{{len .}}{{end}}{{template \"line\" 3}}",
            "template: body:1:20: executing \"line\" at <len>: len of type int: it takes a string, a list or a map",
        ),
        (
            "{{.Verb | lt 1}}",
            "template: body:1:11: executing \"body\" at <lt>: incompatible types for comparison: int and string",
        ),
        (
            "{{range .Verb}}{{end}}",
            "template: body:1:9: executing \"body\" at <.Verb>: range can't iterate over string: it takes a list or a map",
        ),
    ] {
        let error = exec_error(text);
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind, ExecErrorKind::Mismatch);
    }
}

#[test]
fn output_is_limited() {
    let double = "{{$x := \"0123456789abcdef\"}}{{range .Numbers}}{{$x = print $x $x}}{{end}}";
    for text in [
        "{{range .Numbers}}{{printf \"%1000d\" 1}}{{end}}",
        "{{printf \"%1000000d\" 1}}",
        "{{printf \"%.1000000d\" 1}}",
        "{{printf \"%.1000000f\" 1.5}}",
        "{{printf \"%.1000000e\" 1.5}}",
        "{{printf \"%#.1000000x\" 1.5}}",
        "{{printf \"%.1000000U\" 1}}",
        "{{printf \"%*s\" 1000000 \"\"}}",
        "{{len (printf \"%100000d\" 1)}}",
        double,
    ] {
        let error = exec_error(text);
        assert_eq!(error.kind, ExecErrorKind::Limit, "{text}");
        assert!(error.message.contains("longer than 65536 bytes"), "{error}");
    }
    let template = Template::parse("body", "{{printf \"%5d\" 1}}").expect("good");
    let mut short = limits();
    short.output_bytes = 5;
    assert_eq!(template.render(&data(), &short).as_deref(), Ok("    1"));
    short.output_bytes = 4;
    assert!(template.render(&data(), &short).is_err());
}

#[test]
fn bytes_that_are_not_text_count_as_long_as_they_become() {
    let template = Template::parse("body", "{{\"\\xff\\xff\"}}").expect("good");
    let mut short = limits();
    short.output_bytes = 6;
    assert_eq!(
        template.render(&data(), &short).as_deref(),
        Ok("\u{fffd}\u{fffd}")
    );
    short.output_bytes = 5;
    assert!(template.render(&data(), &short).is_err());
}

#[test]
fn loops_are_limited_by_steps() {
    let nested = "{{range $.Numbers}}{{range $.Numbers}}{{range $.Numbers}}{{end}}{{end}}{{end}}";
    // Makes no output, but much text.
    let copies = "{{$x := printf \"%60000d\" 1}}{{range $.Numbers}}{{range $.Numbers}}{{$y := print $x}}{{end}}{{end}}";
    let compares = "{{$x := printf \"%60000d\" 1}}{{range $.Numbers}}{{range $.Numbers}}{{$y := eq $x $x}}{{end}}{{end}}";
    let quotes =
        "{{range $.Numbers}}{{range $.Numbers}}{{$y := printf \"%q\" (printf \"%1000d\" 1)}}{{end}}{{end}}";
    let digits = "{{range $.Numbers}}{{range $.Numbers}}{{$y := printf \"%.1000f\" 1e-300}}{{end}}{{end}}";
    let many: String = (0..5000).map(|_| "{{$v := 1}}").collect();
    let searches = format!(
        "{{{{$x := 1}}}}{many}{{{{range .Numbers}}}}{{{{range $.Numbers}}}}{{{{$x = 2}}}}{{{{end}}}}{{{{end}}}}"
    );
    for text in [nested, copies, compares, quotes, digits, &searches] {
        let error = exec_error(text);
        assert_eq!(error.kind, ExecErrorKind::Limit, "{text}");
        assert!(error.message.contains("more than 200000 steps"), "{error}");
    }
}

#[test]
fn a_template_that_calls_itself_ends() {
    let error = exec_error("{{define \"r\"}}{{template \"r\" .}}{{end}}{{template \"r\" .}}");
    assert_eq!(error.kind, ExecErrorKind::Limit);
    assert!(error.message.contains("more than 100 deep"), "{error}");
}

#[test]
fn nesting_is_limited_in_templates_and_in_data() {
    let blocks = |depth: usize| "{{if 1}}".repeat(depth) + &"{{end}}".repeat(depth);
    assert!(
        Template::parse("body", &blocks(99))
            .expect("within")
            .render(&data(), &limits())
            .is_ok()
    );
    assert!(parse_error(&blocks(101)).contains("nested more than 100 deep"));
    let parens = |depth: usize| format!("{{{{{}1{}}}}}", "(".repeat(depth), ")".repeat(depth));
    assert!(
        Template::parse("body", &parens(98))
            .expect("within")
            .render(&data(), &limits())
            .is_ok()
    );
    assert!(parse_error(&parens(20_000)).contains("nested more than 100 deep"));
    let mut list = Value::list([]);
    for _ in 0..150 {
        list = Value::list([list]);
    }
    let error = Template::parse("body", "{{.}}")
        .expect("good")
        .render(&list, &limits())
        .expect_err("too deep");
    assert_eq!(error.kind, ExecErrorKind::Limit);
    let chain = "{{if 0}}".to_owned() + &"{{else if 0}}".repeat(1000) + "{{else}}x{{end}}";
    assert_eq!(
        Template::parse("body", &chain)
            .expect("flat")
            .render(&data(), &limits())
            .as_deref(),
        Ok("x")
    );
}

#[test]
fn the_deepest_template_fits_a_small_stack() {
    let run = || {
        let text = "{{define \"r\"}}{{with (and 1 (or 0 (print (.))))}}{{template \"r\" .}}{{end}}{{end}}{{template \"r\" .}}";
        assert_eq!(exec_error(text).kind, ExecErrorKind::Limit);
        let deep = "{{if 1}}".repeat(49)
            + "{{"
            + &"(".repeat(49)
            + "1"
            + &")".repeat(49)
            + "}}"
            + &"{{end}}".repeat(49);
        assert!(
            Template::parse("body", &deep)
                .expect("within")
                .render(&data(), &limits())
                .is_ok()
        );
    };
    let thread = std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(run)
        .expect("a thread");
    thread.join().expect("the stack is enough");
}

#[test]
fn source_is_limited() {
    let mut short = limits();
    short.source_bytes = 3;
    assert!(Template::parse_within("body", "abc", &short).is_ok());
    let error = Template::parse_within("body", "abcd", &short).expect_err("too long");
    assert_eq!(
        error.to_string(),
        "template: body:1:1: the template has 4 bytes, more than the 3 that are allowed"
    );
}

#[test]
fn the_deadline_is_asked_and_obeyed() {
    let template =
        Template::parse("body", "{{range .Numbers}}{{range $.Numbers}}{{end}}{{end}}").expect("good");
    let asked = Cell::new(0);
    let over = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    let mut limits = limits();
    limits.deadline = Some(&over);
    let error = template.render(&data(), &limits).expect_err("over");
    assert_eq!(error.kind, ExecErrorKind::Deadline);
    assert_eq!(asked.get(), 4);
}

#[test]
fn assigning_in_a_range_sets_the_named_variable() {
    let text = "{{$x := 0}}{{$y := 7}}{{range $x = .Numbers}}{{end}}{{$x}} {{$y}}";
    let template = Template::parse("body", text).expect("good");
    assert_eq!(template.render(&data(), &limits()).as_deref(), Ok("99 7"));
}

#[test]
fn missing_keys_give_the_zero_of_their_map() {
    let map = |zero: Value| Value::map(zero, [("a", Value::Int(1))]);
    let template = Template::parse("body", "[{{.none}}]").expect("good");
    for (zero, text) in [
        (Value::from(""), "[]"),
        (Value::Int(0), "[0]"),
        (Value::Null, "[<no value>]"),
    ] {
        assert_eq!(template.render(&map(zero), &limits()).as_deref(), Ok(text));
    }
}
