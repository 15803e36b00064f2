//! The files of the oracle: cases, answers, and their comparison with ours. `main.go` describes the format.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use template::{Limits, Template, Value};

/// Templates and the data they are given.
pub(crate) struct CaseFile {
    data: BTreeMap<String, Json>,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    data: String,
    text: String,
}

impl CaseFile {
    pub(crate) fn parse(text: &str) -> Self {
        let json: Json = serde_json::from_str(text).expect("the case file is JSON");
        let data = json["data"].as_object().expect("the case file has data");
        let string = |json: &Json| json.as_str().unwrap_or_default().to_owned();
        let cases = json["cases"].as_array().expect("the case file has cases").iter();
        Self {
            data: data
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            cases: cases
                .map(|case| Case {
                    name: string(&case["name"]),
                    data: string(&case["data"]),
                    text: string(&case["text"]),
                })
                .collect(),
        }
    }

    /// The same data with other templates.
    pub(crate) fn with_texts(mut self, data: &str, texts: Vec<String>) -> Self {
        let case = |(at, text)| Case {
            name: format!("random-{at}"),
            data: data.to_owned(),
            text,
        };
        self.cases = texts.into_iter().enumerate().map(case).collect();
        self
    }

    pub(crate) fn to_json(&self) -> String {
        let cases: Vec<Json> = self
            .cases
            .iter()
            .map(|case| json!({ "name": case.name, "data": case.data, "text": case.text }))
            .collect();
        json!({ "data": self.data, "cases": cases }).to_string()
    }
}

/// What Go made of a case.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    name: String,
    outcome: Outcome,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Text(Vec<u8>),
    FailsToParse,
    FailsToExecute,
}

impl Answer {
    pub(crate) fn worked(&self) -> bool {
        matches!(self.outcome, Outcome::Text(_))
    }
}

/// Reads the answers.
pub(crate) fn answers(text: &str) -> Vec<Answer> {
    let json: Json = serde_json::from_str(text).expect("the answers are JSON");
    let answer = |json: &Json| {
        let outcome = match (json["out"].as_str(), json["hex"].as_str(), json["fails"].as_str()) {
            (Some(text), None, None) => Outcome::Text(text.as_bytes().to_vec()),
            (None, Some(hex), None) => Outcome::Text(bytes(hex)),
            (None, None, Some("parse")) => Outcome::FailsToParse,
            (None, None, Some("exec")) => Outcome::FailsToExecute,
            _ => unreachable!("no answer: {json}"),
        };
        Answer {
            name: json["name"].as_str().expect("answers have names").to_owned(),
            outcome,
        }
    };
    json.as_array()
        .expect("the answers are a list")
        .iter()
        .map(answer)
        .collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| digit.to_digit(16).expect("hex") as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The cases of which we make something else than Go, each with both results.
pub(crate) fn differences(file: &CaseFile, answers: &[Answer]) -> Vec<String> {
    let names: Vec<&str> = file.cases.iter().map(|case| case.name.as_str()).collect();
    let answered: Vec<&str> = answers.iter().map(|answer| answer.name.as_str()).collect();
    assert_eq!(names, answered, "each case has its answer");
    file.cases
        .iter()
        .zip(answers)
        .filter_map(|(case, answer)| difference(file, case, answer))
        .collect()
}

fn difference(file: &CaseFile, case: &Case, answer: &Answer) -> Option<String> {
    let data = file.data.get(&case.data).map_or(Value::Null, value);
    let parsed = Template::parse("body", &case.text);
    let (agrees, ours) = match (&parsed, &answer.outcome) {
        // What Go finds while executing, we may find before.
        (Err(problem), outcome) => (!matches!(outcome, Outcome::Text(_)), problem.to_string()),
        (Ok(template), outcome) => match (template.render(&data, &Limits::default()), outcome) {
            (Ok(text), Outcome::Text(said)) => (text == String::from_utf8_lossy(said), format!("{text:?}")),
            (Ok(text), _) => (false, format!("{text:?}")),
            (Err(problem), outcome) => (*outcome == Outcome::FailsToExecute, problem.to_string()),
        },
    };
    let said = match &answer.outcome {
        Outcome::Text(said) => format!("{:?}", String::from_utf8_lossy(said)),
        other => format!("{other:?}"),
    };
    (!agrees).then(|| format!("{}: {:?}\n  Go:   {said}\n  ours: {ours}", case.name, case.text))
}

/// Our data for a description.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => (*truth).into(),
        Json::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64().expect("numbers fit").into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => Value::list(items.iter().map(value)),
        Json::Object(tagged) => {
            let (kind, inside) = tagged.iter().next().expect("an object has a tag");
            let entries = || inside.as_object().expect("maps are objects").iter();
            let map =
                |zero: Value| Value::map(zero, entries().map(|(key, item)| (key.as_str(), value(item))));
            match kind.as_str() {
                "map" => map(Value::Null),
                "strings" => map("".into()),
                "ints" => map(0.into()),
                "record" => record(inside),
                other => unreachable!("unknown kind of value {other}"),
            }
        }
    }
}

/// A struct without a name: Go calls its type by its fields.
fn record(fields: &Json) -> Value {
    let fields = fields.as_array().expect("records are lists of fields");
    let fields: Vec<(&str, Value)> = fields
        .iter()
        .map(|field| (field[0].as_str().expect("fields have names"), value(&field[1])))
        .collect();
    let types: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name} {}", type_name(value)))
        .collect();
    Value::record(format!("struct {{ {} }}", types.join("; ")), fields)
}

fn type_name(value: &Value) -> String {
    let probe = Template::parse("probe", "{{printf \"%T\" .}}").expect("a good template");
    match value {
        Value::Null => "interface {}".to_owned(),
        value => probe.render(value, &Limits::default()).expect("a good template"),
    }
}
