//! `qu incidents --ended`: outages that are over, the newest last.

use serde_json::{Value, json};
use terminal::Table;

use super::super::ack::time;
use super::worked_on;
use crate::duration::Span;
use crate::machine::state::{Ended, State};

/// What the check is called now; if it is there no more, what it was called then.
fn name<'a>(state: &'a State, ended: &'a Ended) -> &'a str {
    let mut checks = state.document.checks.iter();
    let known = checks.find(|check| check.id == ended.check);
    known.map_or(&ended.name, |check| &check.name)
}

/// `recovered`, or who removed or disabled the check.
fn how(ended: &Ended) -> String {
    if ended.by.is_empty() {
        ended.how.name().to_lowercase()
    } else {
        ended.by.clone()
    }
}

/// In whole seconds, as the times beside it.
fn lasted(ended: &Ended) -> String {
    let seconds = |at: u64| (at + 500) / 1000;
    Span::from_secs(seconds(ended.at).saturating_sub(seconds(ended.since))).to_string()
}

pub(super) fn json(state: &State) -> Vec<Value> {
    let rows = state.ended.iter().map(|ended| {
        let mut acknowledged = json!(ended.acknowledged);
        if let (Some(fields), Some(known)) = (acknowledged.as_object_mut(), &ended.acknowledged) {
            fields.insert("by".to_owned(), json!(super::who(state, known)));
        }
        json!({
            "check": name(state, ended),
            "check_id": ended.check,
            "incident": {
                "id": ended.id,
                "since": ended.since,
                "ended": ended.at,
                "lasted": lasted(ended),
                "how": ended.how.name().to_lowercase(),
                "by": (!ended.by.is_empty()).then_some(&ended.by),
                "detail": ended.detail,
                "announced": ended.announced,
                "acknowledged": acknowledged,
            },
        })
    });
    rows.collect()
}

pub(super) fn table(state: &State) -> Table {
    let mut table = Table::new([
        "INCIDENT",
        "CHECK",
        "SINCE",
        "ENDED",
        "LASTED",
        "HOW",
        "TOLD",
        "ACKNOWLEDGED",
        "DETAIL",
    ]);
    for ended in state.ended.iter() {
        // An acknowledgement that was taken back ends before it holds.
        let acknowledged = ended.acknowledged.as_ref();
        let acknowledged = acknowledged.filter(|known| known.until.is_none_or(|until| until > known.at));
        table.row([
            ended.id.clone(),
            name(state, ended).to_owned(),
            time(ended.since),
            time(ended.at),
            lasted(ended),
            how(ended),
            if ended.announced { "yes" } else { "no" }.to_owned(),
            acknowledged.map_or_else(|| "-".to_owned(), |known| worked_on(state, known)),
            ended.detail.clone(),
        ]);
    }
    table
}
