//! `TARGET("KEY") OPERATOR "VALUE"`.

use std::str::FromStr as _;

use super::scanner::{Mistake, Scanner};
use crate::client::argument;
use crate::wire::etcdserverpb::Compare;
use crate::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

/// Reads one comparison, the whole line.
pub(super) fn parse(scanner: &mut Scanner<'_>) -> Result<Compare, Mistake> {
    let target = target(scanner)?;
    scanner.skip_blanks();
    if !scanner.take(b'(') {
        return Err(scanner.mistake(r#"want the key in brackets, such as mod("name") > "0""#));
    }
    scanner.skip_blanks();
    let key = scanner.quoted()?;
    scanner.skip_blanks();
    if !scanner.take(b')') {
        return Err(scanner.mistake("want ) after the key"));
    }
    scanner.skip_blanks();
    let result = operator(scanner)?;
    scanner.skip_blanks();
    let value = value(scanner, target)?;
    scanner.skip_blanks();
    if !scanner.at_end() {
        return Err(scanner.mistake("want nothing after the value: one comparison on a line"));
    }
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        target_union: Some(value),
        ..Default::default()
    })
}

fn target(scanner: &mut Scanner<'_>) -> Result<CompareTarget, Mistake> {
    let start = scanner.clone();
    match scanner.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        b"ver" | b"version" => Ok(CompareTarget::Version),
        b"c" | b"create" => Ok(CompareTarget::Create),
        b"m" | b"mod" => Ok(CompareTarget::Mod),
        b"val" | b"value" => Ok(CompareTarget::Value),
        b"lease" => Ok(CompareTarget::Lease),
        b"put" | b"get" | b"del" => Err(start.mistake(
            "an operation among the comparisons: end them with an empty line, also when there are none",
        )),
        _ => Err(start.mistake(r#"want version, create, mod, value or lease, such as mod("name") > "0""#)),
    }
}

fn operator(scanner: &mut Scanner<'_>) -> Result<CompareResult, Mistake> {
    let start = scanner.clone();
    match scanner.take_while(|byte| matches!(byte, b'=' | b'!' | b'<' | b'>')) {
        b"=" => Ok(CompareResult::Equal),
        b"!=" => Ok(CompareResult::NotEqual),
        b"<" => Ok(CompareResult::Less),
        b">" => Ok(CompareResult::Greater),
        _ => Err(start.mistake("want one of = != < >")),
    }
}

fn value(scanner: &mut Scanner<'_>, target: CompareTarget) -> Result<TargetUnion, Mistake> {
    let start = scanner.clone();
    if scanner
        .peek()
        .is_some_and(|byte| byte.is_ascii_digit() || byte == b'-')
    {
        return Err(start.mistake(r#"want the value in double quotes, such as "0""#));
    }
    let bytes = scanner.quoted()?;
    let text = || String::from_utf8_lossy(&bytes).into_owned();
    let number = || {
        i64::from_str(&text()).map_err(|_| {
            start.mistake(format!(
                r#"{:?} is no number: want a whole number such as "0""#,
                text()
            ))
        })
    };
    Ok(match target {
        CompareTarget::Version => TargetUnion::Version(number()?),
        CompareTarget::Create => TargetUnion::CreateRevision(number()?),
        CompareTarget::Mod => TargetUnion::ModRevision(number()?),
        CompareTarget::Lease => {
            TargetUnion::Lease(argument::lease_id(&text()).map_err(|message| start.mistake(message))?)
        }
        CompareTarget::Value => TargetUnion::Value(bytes.into()),
    })
}
