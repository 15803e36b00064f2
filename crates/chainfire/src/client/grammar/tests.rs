//! The grammar as etcdctl understands it, and what is said about mistakes.

use proptest::prelude::*;

use super::*;
use crate::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::wire::etcdserverpb::request_op::Request;
use crate::wire::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp};

fn compare(key: &'static [u8], target: CompareTarget, result: CompareResult, value: TargetUnion) -> Compare {
    Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        target_union: Some(value),
        ..Default::default()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

#[test]
fn the_three_blocks_are_told_apart() {
    let text =
        b"mod(\"a\") > \"0\"\nval(\"b\") = \"v w\"\n\nput a 'x y'\nget b --limit 3\n\ndel c d --prev-kv\n\n";
    let txn = parse(text).unwrap();
    assert_eq!(
        txn.compare,
        [
            compare(
                b"a",
                CompareTarget::Mod,
                CompareResult::Greater,
                TargetUnion::ModRevision(0)
            ),
            compare(
                b"b",
                CompareTarget::Value,
                CompareResult::Equal,
                TargetUnion::Value("v w".into())
            ),
        ]
    );
    let put = PutRequest {
        key: "a".into(),
        value: "x y".into(),
        ..Default::default()
    };
    let get = RangeRequest {
        key: "b".into(),
        limit: 3,
        ..Default::default()
    };
    assert_eq!(
        txn.success,
        [op(Request::RequestPut(put)), op(Request::RequestRange(get))]
    );
    let del = DeleteRangeRequest {
        key: "c".into(),
        range_end: "d".into(),
        prev_kv: true,
    };
    assert_eq!(txn.failure, [op(Request::RequestDeleteRange(del))]);
}

#[test]
fn the_end_of_the_text_ends_every_block() {
    assert_eq!(parse(b"").unwrap(), TxnRequest::default());
    assert_eq!(parse(b"\n\n\n\n\n").unwrap(), TxnRequest::default());
    assert_eq!(parse(b"\nput a b").unwrap().success.len(), 1);
    assert_eq!(parse(b"\r\nput a b\r\n\r\nget a\r\n").unwrap().failure.len(), 1);
}

#[test]
fn every_target_and_operator_is_known() {
    for (text, wanted) in [
        (
            "ver(\"k\") = \"1\"",
            compare(
                b"k",
                CompareTarget::Version,
                CompareResult::Equal,
                TargetUnion::Version(1),
            ),
        ),
        (
            "version(\"k\") != \"1\"",
            compare(
                b"k",
                CompareTarget::Version,
                CompareResult::NotEqual,
                TargetUnion::Version(1),
            ),
        ),
        (
            "c(\"k\") < \"-2\"",
            compare(
                b"k",
                CompareTarget::Create,
                CompareResult::Less,
                TargetUnion::CreateRevision(-2),
            ),
        ),
        (
            "create(`k`) < \"2\"",
            compare(
                b"k",
                CompareTarget::Create,
                CompareResult::Less,
                TargetUnion::CreateRevision(2),
            ),
        ),
        (
            "m( \"k\" )>\"3\"",
            compare(
                b"k",
                CompareTarget::Mod,
                CompareResult::Greater,
                TargetUnion::ModRevision(3),
            ),
        ),
        (
            "lease(\"k\") = \"1f\"",
            compare(
                b"k",
                CompareTarget::Lease,
                CompareResult::Equal,
                TargetUnion::Lease(31),
            ),
        ),
        (
            r#"value("\xff\n\101\u00e9") = "\"""#,
            compare(
                b"\xff\nA\xc3\xa9",
                CompareTarget::Value,
                CompareResult::Equal,
                TargetUnion::Value("\"".into()),
            ),
        ),
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap().compare, [wanted], "{text}");
    }
}

#[test]
fn operations_are_quoted_like_a_shell() {
    for (text, key, value) in [
        (r#"put k "a\tb""#, "k", "a\tb"),
        (r"put k 'a\tb'", "k", r"a\tb"),
        ("put   k\t-5 ", "k", "-5"),
        (r#"put it's a"b"#, "it's", "a\"b"),
        (r#"put "" """#, "", ""),
        ("put k -- --v", "k", "--v"),
    ] {
        let wanted = PutRequest {
            key: key.into(),
            value: value.into(),
            ..Default::default()
        };
        let parsed =
            parse(format!("\n{text}\n").as_bytes()).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!(parsed.success, [op(Request::RequestPut(wanted))], "{text}");
    }
}

#[test]
fn problems_name_the_place_and_the_cure() {
    for (text, wanted) in [
        (
            "foo(\"k\") = \"1\"",
            "line 1, column 1: want version, create, mod, value or lease, such as mod(\"name\") > \"0\"",
        ),
        (
            "mod \"k\" = \"1\"",
            "line 1, column 5: want the key in brackets, such as mod(\"name\") > \"0\"",
        ),
        (
            "mod(k) = \"1\"",
            "line 1, column 5: want a string in double quotes, such as \"name\"",
        ),
        ("mod(\"k\" = \"1\"", "line 1, column 9: want ) after the key"),
        ("mod(\"k\") == \"1\"", "line 1, column 10: want one of = != < >"),
        (
            "mod(\"\u{e9}\") > 1",
            "line 1, column 12: want the value in double quotes, such as \"0\"",
        ),
        (
            "mod(\"k\") > \"x\"",
            "line 1, column 12: \"x\" is no number: want a whole number such as \"0\"",
        ),
        (
            "mod(\"k\") > \"1\" x",
            "line 1, column 16: want nothing after the value: one comparison on a line",
        ),
        (
            "mod(\"k",
            "line 1, column 5: the string has no closing \" on this line",
        ),
        (
            "mod(\"\\q\")",
            "line 1, column 6: unknown escape: want \\\\, \\\", \\n, \\t, \\r, \\a, \\b, \\f, \\v, \\xHH, \\OOO, \\uHHHH or \\UHHHHHHHH",
        ),
        (
            "mod(\"\\xg0\")",
            "line 1, column 6: want 2 hexadecimal digits in this escape",
        ),
        (
            "mod(\"\\777\")",
            "line 1, column 6: an octal escape is at most \\377",
        ),
        (
            "mod(\"\\ud800\")",
            "line 1, column 6: this escape names no Unicode character",
        ),
        (
            "put a b",
            "line 1, column 1: an operation among the comparisons: end them with an empty line, also when there are none",
        ),
        (
            "\n frob a",
            "line 2, column 2: want an operation: put KEY VALUE, get KEY [END], or del KEY [END]",
        ),
        (
            "\nput 'a b",
            "line 2, column 5: the string has no closing ' on this line",
        ),
        (
            "\nput a",
            "line 2, column 1: want put KEY VALUE: a transaction has the value on the line",
        ),
        (
            "\nget a --frob",
            "line 2, column 1: unexpected argument '--frob' found",
        ),
        (
            "\nget",
            "line 2, column 1: the following required arguments were not provided: <KEY>",
        ),
        (
            "\n\n\nput a b",
            "line 4, column 1: text after the third block: want comparisons, an empty line, operations, an empty line, operations for the other case, and nothing more",
        ),
    ] {
        assert_eq!(
            parse(text.as_bytes()).map_err(|problem| problem.to_string()),
            Err(wanted.to_owned()),
            "{text:?}"
        );
    }
}

#[test]
fn size_is_bounded() {
    assert!(parse(&vec![b'\n'; TEXT_BYTES_MAX + 1]).is_err());
    let line = b"mod(\"k\") > \"0\"\n";
    assert!(parse(&line.repeat(LINES_MAX)).is_ok());
    let problem = parse(&line.repeat(LINES_MAX + 1)).unwrap_err();
    assert_eq!(problem.line, LINES_MAX + 1);
}

/// Go's quoting of any bytes.
fn quoted(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::from('"'), |text, byte| format!("{text}\\x{byte:02x}"))
        + "\""
}

proptest! {
    #[test]
    fn random_bytes_never_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&text);
    }

    #[test]
    fn near_misses_never_panic(text in r#"((mod|val|lease)[("k\\x0-9f)<=> ]{0,20}\n){0,3}\n((put|get|del)[ '"\\a-z0-9=-]{0,30}\n){0,3}"#) {
        if let Err(problem) = parse(text.as_bytes()) {
            prop_assert!(problem.line >= 1 && problem.column >= 1 && !problem.message.is_empty());
        }
    }

    #[test]
    fn any_key_and_value_survive(key in proptest::collection::vec(any::<u8>(), 0..20), value in proptest::collection::vec(any::<u8>(), 0..20)) {
        let text = format!("value({0}) = {1}\n\nput -- {0} {1}\n", quoted(&key), quoted(&value));
        let txn = parse(text.as_bytes()).unwrap();
        prop_assert_eq!(&txn.compare[0].key[..], &key[..]);
        prop_assert_eq!(&txn.compare[0].target_union, &Some(TargetUnion::Value(value.clone().into())));
        let put = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        prop_assert_eq!(&txn.success[..], &[op(Request::RequestPut(put))]);
    }
}
