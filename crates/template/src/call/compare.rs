//! `eq`, `lt` and what is made of them. Values of different kinds are not compared, but for integers and bytes.

use crate::exec::Slot;
use crate::limits::{Budget, Fault};
use crate::value::Value;

use super::{present, type_name};

/// What can be compared with what.
#[derive(PartialEq, Eq)]
enum Kind {
    Bool,
    Integer,
    Float,
    Text,
    /// Lists, maps, records, and nothing.
    Other,
}

fn kind(value: Option<&Value>) -> Kind {
    match value {
        Some(Value::Bool(_)) => Kind::Bool,
        Some(Value::Int(_) | Value::Byte(_)) => Kind::Integer,
        Some(Value::Float(_)) => Kind::Float,
        Some(Value::Str(_)) => Kind::Text,
        _ => Kind::Other,
    }
}

/// Whether `first` equals one of `others`; those behind it are not looked at.
pub(super) fn equal(budget: &mut Budget<'_>, first: &Slot, others: &[Slot]) -> Result<bool, Fault> {
    if others.is_empty() {
        return Fault::mismatch("missing argument for comparison");
    }
    let one = present(first);
    for other in others {
        let two = present(other);
        let same = if kind(one) == kind(two) {
            match (one, two) {
                (Some(one), Some(two)) => equal_values(budget, one, two)?,
                (one, two) => one.is_none() && two.is_none(),
            }
        } else if one.is_some() && two.is_some() {
            return incompatible(first, other);
        } else {
            false
        };
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal_values(budget: &mut Budget<'_>, one: &Value, two: &Value) -> Result<bool, Fault> {
    budget.step(1)?;
    Ok(match (one, two) {
        (Value::Bool(one), Value::Bool(two)) => one == two,
        // As in Go, where an infinity equals itself and what is not a number does not.
        #[allow(clippy::float_cmp, reason = "the template asks for exactly this")]
        (Value::Float(one), Value::Float(two)) => one == two,
        (Value::Str(one), Value::Str(two)) => {
            budget.bytes(one.as_bytes().len().min(two.as_bytes().len()))?;
            one == two
        }
        (Value::Record(one), Value::Record(two)) => {
            let same_type = one.type_name() == two.type_name() && one.fields().len() == two.fields().len();
            if !same_type {
                return Ok(false);
            }
            budget.enter()?;
            let mut same = true;
            // All fields are looked at: one that cannot be compared is an error wherever it stands.
            for ((_, one), (_, two)) in one.fields().iter().zip(two.fields()) {
                same &= equal_fields(budget, one, two)?;
            }
            budget.leave();
            same
        }
        (Value::List(_) | Value::Map(_) | Value::Record(_), _) | (_, Value::List(_) | Value::Map(_)) => {
            return Fault::mismatch(format!(
                "non-comparable types {} and {}",
                one.type_name(),
                two.type_name()
            ));
        }
        _ => integer(one).is_some() && integer(one) == integer(two),
    })
}

/// Inside of records types must be the same, and nil is a value.
fn equal_fields(budget: &mut Budget<'_>, one: &Value, two: &Value) -> Result<bool, Fault> {
    match (one, two) {
        (Value::Null, Value::Null) => Ok(true),
        (Value::Null, _) | (_, Value::Null) => Ok(false),
        _ if one.type_name() != two.type_name() => Ok(false),
        _ => equal_values(budget, one, two),
    }
}

/// Whether `first` is less than `second`.
pub(super) fn less(budget: &mut Budget<'_>, first: &Slot, second: &Slot) -> Result<bool, Fault> {
    Ok(match (present(first), present(second)) {
        (Some(Value::Float(one)), Some(Value::Float(two))) => one < two,
        (Some(Value::Str(one)), Some(Value::Str(two))) => {
            budget.bytes(one.as_bytes().len().min(two.as_bytes().len()))?;
            one < two
        }
        (one, two) => match (one.and_then(integer), two.and_then(integer)) {
            (Some(one), Some(two)) => one < two,
            _ => return incompatible(first, second),
        },
    })
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) => Some(*value),
        Value::Byte(value) => Some((*value).into()),
        _ => None,
    }
}

fn incompatible(first: &Slot, second: &Slot) -> Result<bool, Fault> {
    let (one, two) = (type_name(first), type_name(second));
    Fault::mismatch(format!("incompatible types for comparison: {one} and {two}"))
}
