//! Alert policies of `openslo/v1`: conditions, and who is told.

use super::kinds::{description, inline};
use super::reader::{Located, Place, Reader};
use super::schema::{Condition, Either, Named, Policy};
use crate::decimal::Decimal;
use crate::span::Span;

/// The alert policies of an objective.
pub(super) fn policies(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Vec<Either<Policy>>> {
    let places = reader.list(place)?;
    places
        .iter()
        .map(|place| {
            if place.is_text() {
                return reader.located(place).map(Either::Reference);
            }
            if let Some(place) = reference(reader, place, "alertPolicyRef") {
                return reader.located(&place).map(Either::Reference);
            }
            let (_, spec) = inline(reader, place, Some("AlertPolicy"))?;
            policy(reader, &spec?).map(Either::Inline)
        })
        .collect()
}

/// The reference in a mapping that consists of nothing else.
fn reference<'a>(reader: &mut Reader<'_>, place: &Place<'a>, name: &'static str) -> Option<Place<'a>> {
    if !place.has(name) {
        return None;
    }
    let mut fields = reader.fields(place)?;
    let found = fields.optional(name);
    fields.finish(reader);
    found
}

/// Conditions and who is told.
pub(super) fn policy(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Policy> {
    let mut fields = reader.fields(place)?;
    description(reader, &mut fields);
    for name in ["alertWhenNoData", "alertWhenBreaching", "alertWhenResolved"] {
        if let Some(place) = fields.optional(name) {
            reader.flag(&place);
        }
    }
    let conditions = fields.required(reader, "conditions");
    let targets = fields.optional("notificationTargets");
    fields.finish(reader);
    let targets = match targets {
        Some(place) => notification_targets(reader, &place)?,
        None => Vec::new(),
    };
    let conditions = conditions?;
    let places = reader.list(&conditions)?;
    if places.is_empty() {
        reader.mistake(&conditions, "is empty; a policy has at least one condition");
        return None;
    }
    let conditions: Option<Vec<_>> = places
        .iter()
        .map(|place| {
            if let Some(place) = reference(reader, place, "conditionRef") {
                return reader.located(&place).map(Either::Reference);
            }
            let (metadata, spec) = inline(reader, place, Some("AlertCondition"))?;
            let value = condition(reader, &spec?)?;
            let Some(metadata) = metadata else {
                reader.mistake(
                    place,
                    "`metadata` with a `name` is missing; the alert is named after it",
                );
                return None;
            };
            let name = metadata.name;
            Some(Either::Inline(Named { name, value }))
        })
        .collect();
    let conditions = conditions?;
    Some(Policy { conditions, targets })
}

fn notification_targets(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Vec<Located<String>>> {
    let mut names = Vec::new();
    for place in reader.list(place)? {
        if let Some(place) = reference(reader, &place, "targetRef") {
            names.push(reader.located(&place)?);
            continue;
        }
        let (_, spec) = inline(reader, &place, Some("AlertNotificationTarget"))?;
        notification_target(reader, &spec?)?;
    }
    Some(names)
}

/// Who is told; only checked.
pub(super) fn notification_target(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<()> {
    let mut fields = reader.fields(place)?;
    description(reader, &mut fields);
    let target = fields.required(reader, "target");
    fields.finish(reader);
    reader.text(&target?).map(|_| ())
}

/// When something is told.
pub(super) fn condition(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Condition> {
    let mut fields = reader.fields(place)?;
    description(reader, &mut fields);
    let severity = fields
        .required(reader, "severity")
        .and_then(|place| reader.located(&place));
    let inner = fields.required(reader, "condition");
    let at = fields.at(reader);
    fields.finish(reader);

    let mut fields = reader.fields(&inner?)?;
    let kind = fields.required(reader, "kind");
    let op = fields.optional("op");
    let threshold = fields.required(reader, "threshold");
    let lookback = fields
        .required(reader, "lookbackWindow")
        .and_then(|place| fixed_span(reader, &place));
    let after = fields
        .optional("alertAfter")
        .map(|place| fixed_span(reader, &place));
    fields.finish(reader);
    for (place, wanted) in [(kind, "burnrate"), (op, "gt")] {
        let Some(place) = place else { continue };
        if reader.text(&place)? != wanted {
            reader.mistake(
                &place,
                format!("`{wanted}` is wanted here; nothing else can be computed"),
            );
            return None;
        }
    }
    let place = threshold?;
    let number = reader.number(&place)?;
    let Some(threshold) = Decimal::of(number).filter(|threshold| !threshold.is_zero()) else {
        reader.mistake(
            &place,
            format!("{number} is no burn rate; write a number above 0, such as 14.4"),
        );
        return None;
    };
    Some(Condition {
        at,
        severity: severity?,
        threshold,
        lookback: lookback?,
        after: match after {
            Some(after) => Some(after?),
            None => None,
        },
    })
}

fn fixed_span(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Span> {
    let text = reader.text(place)?;
    let parsed = Span::parse(&text).filter(|parsed| !parsed.is_calendar);
    if parsed.is_none() {
        reader.mistake(
            place,
            format!("{text:?} is no length of time; write a number and a unit, such as 5m or 1h"),
        );
    }
    parsed.map(|parsed| parsed.span)
}
