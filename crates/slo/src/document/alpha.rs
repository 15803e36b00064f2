//! Documents of `openslo/v1alpha`: the service, and the objective with its queries inside the objectives.

use super::kinds::{budgeting_method, description, read_metadata, rolling, target};
use super::reader::{Fields, Place, Reader};
use super::schema::{Document, Either, Kind, Metric, Objective, Part, Sli, Slo, Window};
use crate::span::Span;

/// Reads what comes after `apiVersion`.
pub fn read(reader: &mut Reader<'_>, mut fields: Fields<'_>) -> Option<Document> {
    let at = fields.at(reader);
    let kind = fields.required(reader, "kind");
    let metadata = fields.required(reader, "metadata");
    let spec = fields.required(reader, "spec");
    fields.finish(reader);
    let metadata = metadata.and_then(|place| read_metadata(reader, &place));
    let (kind, spec) = (kind?, spec?);
    let kind = match reader.text(&kind)?.as_str() {
        "Service" => {
            let mut fields = reader.fields(&spec)?;
            description(reader, &mut fields);
            fields.finish(reader);
            Kind::Service
        }
        "SLO" => Kind::Slo(Box::new(slo(reader, &spec)?)),
        _ => {
            reader.mistake(&kind, "openslo/v1alpha has the kinds Service and SLO");
            return None;
        }
    };
    Some(Document {
        at,
        metadata: metadata?,
        kind,
    })
}

fn slo(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Slo> {
    let mut fields = reader.fields(place)?;
    let description = description(reader, &mut fields);
    let service = fields
        .required(reader, "service")
        .and_then(|place| reader.located(&place));
    let method = fields
        .required(reader, "budgetingMethod")
        .and_then(|place| budgeting_method(reader, &place));
    let window = fields
        .required(reader, "timeWindows")
        .and_then(|place| window(reader, &place));
    let objectives = fields.required(reader, "objectives");
    if let Some(place) = fields.optional("indicator") {
        reader.mistake(
            &place,
            "a threshold cannot be used here; write `ratioMetrics` into the objective",
        );
        return None;
    }
    fields.finish(reader);
    let places = reader.list(&objectives?)?;
    let objectives: Option<Vec<Objective>> = places.iter().map(|place| objective(reader, place)).collect();
    method?;
    Some(Slo {
        description,
        service: service?,
        indicator: None,
        window: window?,
        objectives: objectives?,
        policies: Vec::new(),
    })
}

fn window(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Window> {
    let windows = reader.list(place)?;
    let [window] = &windows[..] else {
        reader.mistake(
            place,
            format!("has {} windows; exactly one is possible", windows.len()),
        );
        return None;
    };
    let mut fields = reader.fields(window)?;
    let (count, unit) = (fields.required(reader, "count"), fields.required(reader, "unit"));
    let is_rolling = fields.optional("isRolling").and_then(|place| reader.flag(&place));
    let has_calendar = fields.optional("calendar").is_some();
    fields.finish(reader);
    let (count, unit) = (count?, unit?);
    let number = reader.number(&count)?;
    let letter = match reader.text(&unit)?.as_str() {
        "Second" => 's',
        "Minute" => 'm',
        "Hour" => 'h',
        "Day" => 'd',
        "Week" => 'w',
        "Month" => 'M',
        "Quarter" => 'Q',
        "Year" => 'Y',
        _ => {
            reader.mistake(
                &unit,
                "Second, Minute, Hour, Day, Week, Month, Quarter or Year is wanted here",
            );
            return None;
        }
    };
    let Some(parsed) = Span::parse(&format!("{number}{letter}")) else {
        reader.mistake(
            &count,
            format!("{number} is not possible; write a whole number above 0, such as 30"),
        );
        return None;
    };
    rolling(reader, &count, parsed, is_rolling, has_calendar)
}

fn objective(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Objective> {
    let mut fields = reader.fields(place)?;
    if let Some(place) = fields.optional("displayName") {
        reader.text(&place);
    }
    let metrics = fields.required(reader, "ratioMetrics");
    let share = fields.optional("target");
    let at = fields.at(reader);
    fields.finish(reader);
    let target = target(reader, place, share, None);
    let indicator = ratio_metrics(reader, &metrics?)?;
    Some(Objective {
        at,
        target: target?,
        indicator: Some(Either::Inline(indicator)),
    })
}

fn ratio_metrics(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Sli> {
    let mut fields = reader.fields(place)?;
    // Both names were used for the same thing.
    let counter = fields.optional("counter").and_then(|place| reader.flag(&place));
    let incremental = fields
        .optional("incremental")
        .and_then(|place| reader.flag(&place));
    let (good, bad) = (fields.optional("good"), fields.optional("bad"));
    let total = fields.required(reader, "total");
    fields.finish(reader);
    let (part_is, part) = match (good, bad) {
        (Some(good), None) => (Part::Good, good),
        (None, Some(bad)) => (Part::Bad, bad),
        _ => {
            reader.mistake(place, "exactly one of `good` and `bad` is wanted");
            return None;
        }
    };
    let (part, total) = (query(reader, &part), query(reader, &total?));
    Some(Sli::Events {
        part_is,
        part: part?,
        total: total?,
        counter: counter.or(incremental).unwrap_or(true),
    })
}

fn query(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Metric> {
    let mut fields = reader.fields(place)?;
    for name in ["source", "queryType"] {
        if let Some(place) = fields.optional(name) {
            reader.text(&place);
        }
    }
    fields.optional("metadata");
    let query = fields.required(reader, "query");
    fields.finish(reader);
    let query = reader.located(&query?)?;
    Some(Metric { query, source: None })
}
