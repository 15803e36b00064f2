//! Documents of `openslo/v1`, kind by kind.

use std::collections::BTreeMap;

use super::policy::{condition, notification_target, policies, policy};
use super::reader::{Fields, Located, Place, Reader};
use super::schema::{
    ANNOTATIONS, DESCRIPTION_MAX, Document, Either, Kind, Metadata, Metric, OURS, Objective, Part, Sli, Slo,
    Window,
};
use crate::decimal::Decimal;
use crate::span::Span;

/// Longest name, as that of a host (RFC 1123).
const NAME_MAX: usize = 63;

const KINDS: &str = "Service, DataSource, SLI, SLO, AlertPolicy, AlertCondition, AlertNotificationTarget";

/// Reads what comes after `apiVersion`.
pub fn read(reader: &mut Reader<'_>, mut fields: Fields<'_>) -> Option<Document> {
    let at = fields.at(reader);
    let kind = fields.required(reader, "kind");
    let metadata = fields.required(reader, "metadata");
    let spec = fields.required(reader, "spec");
    fields.finish(reader);
    let metadata = metadata.and_then(|place| read_metadata(reader, &place));
    let kind = read_kind(reader, &kind?, &spec?)?;
    Some(Document {
        at,
        metadata: metadata?,
        kind,
    })
}

fn read_kind(reader: &mut Reader<'_>, kind: &Place<'_>, spec: &Place<'_>) -> Option<Kind> {
    match reader.text(kind)?.as_str() {
        "Service" => {
            let mut fields = reader.fields(spec)?;
            description(reader, &mut fields);
            fields.finish(reader);
            Some(Kind::Service)
        }
        "DataSource" => data_source(reader, spec),
        "SLI" => sli(reader, spec).map(Kind::Sli),
        "SLO" => slo(reader, spec).map(|slo| Kind::Slo(Box::new(slo))),
        "AlertPolicy" => policy(reader, spec).map(Kind::AlertPolicy),
        "AlertCondition" => condition(reader, spec).map(Kind::AlertCondition),
        "AlertNotificationTarget" => {
            notification_target(reader, spec)?;
            Some(Kind::AlertNotificationTarget)
        }
        other => {
            reader.mistake(kind, format!("kind {other:?} is not known; there are {KINDS}"));
            None
        }
    }
}

/// The head of a document.
pub(super) fn read_metadata(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Metadata> {
    let mut fields = reader.fields(place)?;
    let name = fields.required(reader, "name");
    let display_name = fields
        .optional("displayName")
        .and_then(|place| reader.text(&place));
    // Labels are for other programs: one text or several for a key.
    if let Some(labels) = fields.optional("labels") {
        reader.fields(&labels);
    }
    let annotations = fields
        .optional("annotations")
        .and_then(|place| annotations(reader, &place));
    fields.finish(reader);
    Some(Metadata {
        name: read_name(reader, &name?)?,
        display_name,
        annotations: annotations.unwrap_or_default(),
    })
}

fn annotations(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<BTreeMap<String, Located<String>>> {
    let fields = reader.fields(place)?;
    let mut annotations = BTreeMap::new();
    for (key, place) in fields.all() {
        if key.starts_with(OURS) && !ANNOTATIONS.contains(&key) {
            reader.mistake(
                &place,
                format!("annotation is not known; there are {}", ANNOTATIONS.join(", ")),
            );
        }
        if let Some(text) = reader.located(&place) {
            annotations.insert(key.to_owned(), text);
        }
    }
    Some(annotations)
}

fn read_name(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Located<String>> {
    let name = reader.located(place)?;
    let text = name.value.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_good = text.len() <= NAME_MAX
        && text.iter().all(|byte| plain(byte) || *byte == b'-')
        && text.first().is_some_and(plain)
        && text.last().is_some_and(plain);
    if !is_good {
        let found = &name.value;
        reader.mistake(
            place,
            format!(
                "name {found:?} is not good; use small letters, digits and `-` between them, at most {NAME_MAX}"
            ),
        );
        return None;
    }
    Some(name)
}

/// The description, which is checked for its length.
pub(super) fn description(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<String> {
    let place = fields.optional("description")?;
    let text = reader.text(&place)?;
    let length = text.chars().count();
    if length > DESCRIPTION_MAX {
        reader.mistake(
            &place,
            format!("has {length} characters; at most {DESCRIPTION_MAX} are allowed"),
        );
    }
    Some(text)
}

fn data_source(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Kind> {
    let mut fields = reader.fields(place)?;
    description(reader, &mut fields);
    let kind = fields.required(reader, "type");
    fields.optional("connectionDetails");
    fields.finish(reader);
    prometheus(reader, &kind?)?;
    Some(Kind::DataSource)
}

/// Only Prometheus is asked, or what speaks as it does.
fn prometheus(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<()> {
    let kind = reader.text(place)?;
    if kind.eq_ignore_ascii_case("prometheus") {
        return Some(());
    }
    reader.mistake(
        place,
        format!("type {kind:?} cannot be asked; only Prometheus can, or what speaks like it"),
    );
    None
}

/// The document that stands in the place of a reference: its metadata, if it may have some, and its spec.
pub(super) fn inline<'a>(
    reader: &mut Reader<'_>,
    place: &Place<'a>,
    kind: Option<&str>,
) -> Option<(Option<Metadata>, Option<Place<'a>>)> {
    let mut fields = reader.fields(place)?;
    if let Some(kind) = kind
        && let Some(place) = fields.optional("kind")
        && let Some(found) = reader.text(&place)
        && found != kind
    {
        reader.mistake(&place, format!("kind {kind} is wanted here"));
    }
    let metadata = fields
        .optional("metadata")
        .and_then(|place| read_metadata(reader, &place));
    let spec = fields.required(reader, "spec");
    fields.finish(reader);
    Some((metadata, spec))
}

fn indicator(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Either<Sli>> {
    let here = fields.optional("indicator");
    let reference = fields.optional("indicatorRef");
    match (here, reference) {
        (Some(_), Some(reference)) => {
            reader.mistake(&reference, "give `indicator` or `indicatorRef`, not both");
            None
        }
        (Some(here), None) => {
            let (_, spec) = inline(reader, &here, None)?;
            sli(reader, &spec?).map(Either::Inline)
        }
        (None, Some(reference)) => reader.located(&reference).map(Either::Reference),
        (None, None) => None,
    }
}

fn sli(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Sli> {
    let mut fields = reader.fields(place)?;
    description(reader, &mut fields);
    let ratio = fields.optional("ratioMetric");
    let threshold = fields.optional("thresholdMetric");
    fields.finish(reader);
    match (ratio, threshold) {
        (Some(ratio), None) => ratio_metric(reader, &ratio),
        (None, Some(threshold)) => {
            let metric = metric(reader, &threshold)?;
            Some(Sli::Threshold(metric.query.at))
        }
        (Some(_), Some(threshold)) => {
            reader.mistake(&threshold, "give `ratioMetric` or `thresholdMetric`, not both");
            None
        }
        (None, None) => {
            reader.mistake(place, "`ratioMetric` is missing: `total`, and `good` or `bad`");
            None
        }
    }
}

fn ratio_metric(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Sli> {
    let mut fields = reader.fields(place)?;
    let counter = fields.optional("counter").and_then(|place| reader.flag(&place));
    let (good, bad) = (fields.optional("good"), fields.optional("bad"));
    let total = fields.optional("total");
    let (raw_type, raw) = (fields.optional("rawType"), fields.optional("raw"));
    fields.finish(reader);

    if let Some(raw) = raw {
        if good.is_some() || bad.is_some() || total.is_some() {
            reader.mistake(place, "give `raw`, or `total` with `good` or `bad`, not both");
            return None;
        }
        let Some(raw_type) = raw_type else {
            reader.mistake(place, "`rawType` is missing: `success` or `failure`");
            return None;
        };
        let ratio_of = match reader.text(&raw_type)?.as_str() {
            "success" => Part::Good,
            "failure" => Part::Bad,
            _ => {
                reader.mistake(&raw_type, "`success` or `failure` is wanted here");
                return None;
            }
        };
        let query = metric(reader, &raw)?;
        return Some(Sli::Raw { ratio_of, query });
    }
    if let Some(raw_type) = raw_type {
        reader.mistake(&raw_type, "`rawType` belongs to `raw`, which is missing");
        return None;
    }
    let (part_is, part) = match (good, bad) {
        (Some(good), None) => (Part::Good, good),
        (None, Some(bad)) => (Part::Bad, bad),
        (Some(_), Some(bad)) => {
            reader.mistake(
                &bad,
                "both `good` and `bad` are given; leave one out, it follows from the other and `total`",
            );
            return None;
        }
        (None, None) => {
            reader.mistake(
                place,
                "neither `good` nor `bad` is given; write the one that is easier to ask for",
            );
            return None;
        }
    };
    let Some(total) = total else {
        reader.mistake(place, "`total` is missing");
        return None;
    };
    let (part, total) = (metric(reader, &part), metric(reader, &total));
    Some(Sli::Events {
        part_is,
        part: part?,
        total: total?,
        counter: counter.unwrap_or(true),
    })
}

/// The query of a `metricSource`.
fn metric(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Metric> {
    let mut fields = reader.fields(place)?;
    let source = fields.required(reader, "metricSource");
    fields.finish(reader);
    let mut fields = reader.fields(&source?)?;
    if let Some(kind) = fields.optional("type") {
        prometheus(reader, &kind)?;
    }
    let source = fields
        .optional("metricSourceRef")
        .and_then(|place| reader.located(&place));
    let spec = fields.required(reader, "spec");
    fields.finish(reader);
    let mut fields = reader.fields(&spec?)?;
    let query = fields.required(reader, "query");
    fields.finish(reader);
    let query = reader.located(&query?)?;
    Some(Metric { query, source })
}

fn slo(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Slo> {
    let mut fields = reader.fields(place)?;
    let description = description(reader, &mut fields);
    let service = fields
        .required(reader, "service")
        .and_then(|place| reader.located(&place));
    let before = reader.mistakes();
    let indicator = indicator(reader, &mut fields);
    let indicator_is_bad = reader.mistakes() > before;
    let method = fields.required(reader, "budgetingMethod");
    let window = fields
        .required(reader, "timeWindow")
        .and_then(|place| window(reader, &place));
    let objectives = fields
        .required(reader, "objectives")
        .and_then(|place| objectives(reader, &place));
    let policies = fields
        .optional("alertPolicies")
        .map(|place| policies(reader, &place));
    let at = fields.at(reader);
    fields.finish(reader);
    let method = method.and_then(|place| budgeting_method(reader, &place));
    let objectives = objectives?;
    if indicator_is_bad {
        return None;
    }
    if indicator.is_none() && objectives.iter().any(|objective| objective.indicator.is_none()) {
        reader.mistake_at(at, "`indicator` or `indicatorRef` is missing");
        return None;
    }
    method?;
    Some(Slo {
        description,
        service: service?,
        indicator,
        window: window?,
        objectives,
        policies: policies.unwrap_or(Some(Vec::new()))?,
    })
}

/// Only occurrences are counted so far.
pub(super) fn budgeting_method(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<()> {
    match reader.text(place)?.as_str() {
        "Occurrences" => Some(()),
        known @ ("Timeslices" | "RatioTimeslices") => {
            reader.mistake(
                place,
                format!(
                    "{known} needs the live evaluator, which does not exist yet; only Occurrences is possible"
                ),
            );
            None
        }
        _ => {
            reader.mistake(place, "`Occurrences` is wanted here");
            None
        }
    }
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
    let duration = fields.required(reader, "duration");
    let is_rolling = fields.optional("isRolling").and_then(|place| reader.flag(&place));
    let calendar = fields.optional("calendar");
    fields.finish(reader);
    if let Some(place) = &calendar {
        let mut fields = reader.fields(place)?;
        for name in ["startTime", "timeZone"] {
            if let Some(place) = fields.required(reader, name) {
                reader.text(&place);
            }
        }
        fields.finish(reader);
    }
    let duration = duration?;
    let text = reader.text(&duration)?;
    let Some(parsed) = Span::parse(&text) else {
        reader.mistake(
            &duration,
            format!("{text:?} is no length of time; write a number and a unit, such as 30d, 4w, or 1M with a calendar"),
        );
        return None;
    };
    rolling(reader, &duration, parsed, is_rolling, calendar.is_some())
}

/// Whether the window ends now or with the calendar, if that goes together.
pub(super) fn rolling(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    parsed: crate::span::Parsed,
    is_rolling: Option<bool>,
    has_calendar: bool,
) -> Option<Window> {
    let is_rolling = is_rolling.unwrap_or(!has_calendar);
    let wrong = match (is_rolling, has_calendar) {
        (true, true) => Some("a window with a `calendar` is not rolling; leave one of them out".to_owned()),
        (false, false) => Some("a window that is not rolling needs a `calendar`".to_owned()),
        (true, false) if parsed.is_calendar => Some(format!(
            "a rolling window has a fixed length, and months differ; write {} for example",
            parsed.span
        )),
        _ => None,
    };
    if let Some(wrong) = wrong {
        reader.mistake(place, wrong);
        return None;
    }
    let at = reader.place(place);
    Some(Window {
        length: Located {
            value: parsed.span,
            at,
        },
        is_rolling,
    })
}

fn objectives(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Vec<Objective>> {
    let places = reader.list(place)?;
    if places.is_empty() {
        reader.mistake(place, "is empty; write `- target: 0.995`");
        return None;
    }
    places.iter().map(|place| objective(reader, place)).collect()
}

fn objective(reader: &mut Reader<'_>, place: &Place<'_>) -> Option<Objective> {
    let mut fields = reader.fields(place)?;
    if let Some(place) = fields.optional("displayName") {
        reader.text(&place);
    }
    for name in ["op", "value"] {
        if let Some(place) = fields.optional(name) {
            reader.mistake(
                &place,
                format!("`{name}` belongs to a `thresholdMetric`, which cannot be used here"),
            );
        }
    }
    for name in ["timeSliceTarget", "timeSliceWindow"] {
        if let Some(place) = fields.optional(name) {
            reader.mistake(
                &place,
                format!("`{name}` belongs to `budgetingMethod: Timeslices`"),
            );
        }
    }
    if let Some(place) = fields.optional("compositeWeight") {
        reader.mistake(
            &place,
            "composite objectives are not supported; write one SLO for each",
        );
    }
    let before = reader.mistakes();
    let indicator = indicator(reader, &mut fields);
    let indicator_is_bad = reader.mistakes() > before;
    let (share, percent) = (fields.optional("target"), fields.optional("targetPercent"));
    let at = fields.at(reader);
    fields.finish(reader);
    let target = target(reader, place, share, percent)?;
    (!indicator_is_bad).then_some(Objective {
        at,
        target,
        indicator,
    })
}

/// `target` or `targetPercent`, as a share.
pub(super) fn target(
    reader: &mut Reader<'_>,
    place: &Place<'_>,
    share: Option<Place<'_>>,
    percent: Option<Place<'_>>,
) -> Option<Located<Decimal>> {
    let (place, is_percent) = match (share, percent) {
        (Some(share), None) => (share, false),
        (None, Some(percent)) => (percent, true),
        (Some(_), Some(percent)) => {
            reader.mistake(&percent, "give `target` or `targetPercent`, not both");
            return None;
        }
        (None, None) => {
            reader.mistake(
                place,
                "`target` is missing: a share such as 0.995, or `targetPercent: 99.5`",
            );
            return None;
        }
    };
    let number = reader.number(&place)?;
    let (most, example) = if is_percent {
        (100.0, "99.5")
    } else {
        (1.0, "0.995")
    };
    if number >= most && !is_percent && number > 1.0 && number < 100.0 {
        reader.mistake(
            &place,
            format!("{number} is no share of one; write `targetPercent: {number}`"),
        );
        return None;
    }
    if !(number > 0.0 && number < most) {
        let text = if number.to_bits() == most.to_bits() {
            format!(
                "{number} leaves no budget: nothing could ever fail, and every error would burn it infinitely fast; write less, such as {example}"
            )
        } else {
            format!("{number} is not between 0 and {most}; write {example} for example")
        };
        reader.mistake(&place, text);
        return None;
    }
    let value = Decimal::of(number).and_then(|value| if is_percent { value.percent() } else { Some(value) });
    let Some(value) = value else {
        reader.mistake(
            &place,
            format!("{number} has too many digits; ten after the point are enough"),
        );
        return None;
    };
    let at = reader.place(&place);
    Some(Located { value, at })
}
