//! The functions, except for `and` and `or`, which do not look at all their arguments.
//!
//! An argument that is nothing, or a nil in its place, is `None` or `Some(Value::Null)`; functions treat both alike.

mod compare;
mod escape;

use crate::exec::Slot;
use crate::format;
use crate::limits::{Budget, Fault};
use crate::tree::Function;
use crate::value::{Text, Value};

/// Calls a function with a number of arguments that it takes.
pub(crate) fn call(budget: &mut Budget<'_>, function: Function, arguments: &[Slot]) -> Result<Slot, Fault> {
    let truth = |value: bool| Some(Value::Bool(value));
    let text = |bytes: Vec<u8>| Some(Value::Str(Text::from(bytes)));
    Ok(match function {
        // Handled by the caller, which evaluates their arguments one by one.
        Function::And | Function::Or => arguments.last().cloned().flatten(),
        Function::Not => truth(!present(&arguments[0]).is_some_and(Value::is_true)),
        Function::Eq => truth(compare::equal(budget, &arguments[0], &arguments[1..])?),
        Function::Ne => truth(!compare::equal(budget, &arguments[0], &arguments[1..])?),
        Function::Lt => truth(compare::less(budget, &arguments[0], &arguments[1])?),
        Function::Le => truth(less_or_equal(budget, arguments)?),
        Function::Gt => truth(!less_or_equal(budget, arguments)?),
        Function::Ge => truth(!compare::less(budget, &arguments[0], &arguments[1])?),
        Function::Len => Some(Value::Int(length(&arguments[0])? as i64)),
        Function::Index => index(&arguments[0], &arguments[1..])?,
        Function::Slice => Some(slice(budget, &arguments[0], &arguments[1..])?),
        Function::Print => text(format::print(budget, arguments)?),
        Function::Println => text(format::println(budget, arguments)?),
        Function::Printf => match &arguments[0] {
            Some(Value::Str(pattern)) => text(format::printf(budget, pattern.as_bytes(), &arguments[1..])?),
            other => {
                let found = type_name(other);
                return Fault::mismatch(format!("printf wants a string first, the format; got {found}"));
            }
        },
        Function::Html => {
            let plain = joined(budget, arguments)?;
            text(escape::html(budget, &plain)?)
        }
        Function::Js => {
            let plain = joined(budget, arguments)?;
            text(escape::js(budget, &plain)?)
        }
        Function::UrlQuery => {
            let plain = joined(budget, arguments)?;
            text(escape::url_query(budget, &plain)?)
        }
    })
}

/// The argument, unless it is nothing or nil.
fn present(argument: &Slot) -> Option<&Value> {
    argument.as_ref().filter(|value| !matches!(value, Value::Null))
}

fn type_name(argument: &Slot) -> String {
    present(argument).map_or_else(|| "nil".to_owned(), Value::type_name)
}

/// The arguments of an escaping function as one text, where nothing reads `<no value>`.
fn joined(budget: &mut Budget<'_>, arguments: &[Slot]) -> Result<Vec<u8>, Fault> {
    let no_value = || Value::Str(Text::from(format::NO_VALUE.to_vec()));
    let arguments: Vec<Slot> = arguments
        .iter()
        .map(|argument| Some(present(argument).cloned().unwrap_or_else(no_value)))
        .collect();
    format::print(budget, &arguments)
}

fn less_or_equal(budget: &mut Budget<'_>, arguments: &[Slot]) -> Result<bool, Fault> {
    Ok(compare::less(budget, &arguments[0], &arguments[1])?
        || compare::equal(budget, &arguments[0], &arguments[1..])?)
}

fn length(argument: &Slot) -> Result<usize, Fault> {
    match present(argument) {
        Some(Value::Str(text)) => Ok(text.as_bytes().len()),
        Some(Value::List(list)) => Ok(list.items().len()),
        Some(Value::Map(map)) => Ok(map.entries().len()),
        _ => {
            let found = type_name(argument);
            Fault::mismatch(format!("len of type {found}: it takes a string, a list or a map"))
        }
    }
}

fn index(item: &Slot, indexes: &[Slot]) -> Result<Slot, Fault> {
    let Some(mut item) = present(item).cloned() else {
        return Fault::mismatch("index of untyped nil");
    };
    for index in indexes {
        item = match &item {
            Value::List(list) => {
                let at = position(index, list.items().len().saturating_sub(1))?;
                match list.items().get(at) {
                    Some(item) => item.clone(),
                    None => return Fault::mismatch("index out of range: the list is empty"),
                }
            }
            Value::Str(text) => {
                let at = position(index, text.as_bytes().len().saturating_sub(1))?;
                match text.as_bytes().get(at) {
                    Some(byte) => Value::Byte(*byte),
                    None => return Fault::mismatch("index out of range: the string is empty"),
                }
            }
            Value::Map(map) => {
                let Some(Value::Str(key)) = present(index) else {
                    let found = type_name(index);
                    return Fault::mismatch(format!("the key of a map is a string; got {found}"));
                };
                map.get(key.as_bytes()).clone()
            }
            Value::Null => return Fault::mismatch("index of nil pointer"),
            other => {
                let found = other.type_name();
                return Fault::mismatch(format!("can't index item of type {found}"));
            }
        };
    }
    Ok(Some(item))
}

/// A position up to `last`.
fn position(index: &Slot, last: usize) -> Result<usize, Fault> {
    let at = match present(index) {
        Some(Value::Int(at)) => *at,
        Some(Value::Byte(at)) => i64::from(*at),
        _ => {
            let found = type_name(index);
            return Fault::mismatch(format!("cannot index with {found}: it takes an integer"));
        }
    };
    match usize::try_from(at) {
        Ok(at) if at <= last => Ok(at),
        _ => Fault::mismatch(format!("index out of range: {at}, where the last is {last}")),
    }
}

fn slice(budget: &mut Budget<'_>, item: &Slot, indexes: &[Slot]) -> Result<Value, Fault> {
    if indexes.len() > 3 {
        return Fault::mismatch(format!("too many slice indexes: {}", indexes.len()));
    }
    let (length, capacity) = match present(item) {
        Some(Value::Str(_)) if indexes.len() == 3 => return Fault::mismatch("cannot 3-index slice a string"),
        Some(Value::Str(text)) => (text.as_bytes().len(), text.as_bytes().len()),
        Some(Value::List(list)) => (list.items().len(), list.capacity()),
        _ => {
            let found = type_name(item);
            return Fault::mismatch(format!("can't slice item of type {found}"));
        }
    };
    let mut bounds = [0, length, capacity];
    for (bound, index) in bounds.iter_mut().zip(indexes) {
        *bound = position(index, capacity)?;
    }
    let [from, to, end] = bounds;
    if from > to || to > end {
        return Fault::mismatch(format!(
            "invalid slice index: {from}, {to}, {end} are not in order"
        ));
    }
    Ok(match present(item) {
        Some(Value::List(list)) => Value::List(list.slice(from, to, end)),
        Some(Value::Str(text)) => {
            budget.bytes(to - from)?;
            Value::Str(Text::from(text.as_bytes()[from..to].to_vec()))
        }
        _ => Value::Null,
    })
}
