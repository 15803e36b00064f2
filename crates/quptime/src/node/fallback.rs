//! Notes about lost quorum, and calls of a watchdog, as `node.yaml` asks for them. What and when is decided in
//! [`crate::machine::fallback`].

use std::sync::Arc;
use std::time::Duration;

use notify::{Message, Pairs};
use probe::Prober;
use tokio::sync::mpsc;

use super::send::DEADLINE;
use super::shared::{Mastery, Shared, quorum_of};
use crate::channel::channel;
use crate::home::write;
use crate::machine::fallback::{Action, Answer, Fallback, Note, Notice, Watchdog};

/// How often the node looks whether there is something to tell.
const TURN: Duration = Duration::from_millis(500);
/// How long a watchdog may take to answer.
const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(10);

/// Does both until the run ends.
pub async fn run(shared: Arc<Shared>, prober: Arc<Prober>) {
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut fallback = Fallback::new(shared.settings.fallback_after().millis(), read(&shared));
    let mut watchdog = Watchdog::new(shared.settings.watchdog_every().millis());
    // Room for the one message that is under way.
    let (answers, mut answered) = mpsc::channel(1);
    let mut is_well_called = true;
    loop {
        let actions = tokio::select! {
            _ = turn.tick() => fallback.look(shared.now(), shared.wall(), quorum(&shared)),
            Some(answer) = answered.recv() => fallback.answered(shared.now(), answer),
            () = shared.stop.cancelled() => return,
        };
        for action in actions {
            match action {
                Action::Keep(note) => keep(&shared, note),
                Action::Tell(notice) => {
                    let (shared, answers) = (shared.clone(), answers.clone());
                    tokio::spawn(async move {
                        let answer = tell(&shared, notice).await;
                        // Nobody listens any more only when the run ends.
                        let _ = answers.send(answer).await;
                    });
                }
            }
        }
        if !shared.settings.watchdog_url.is_empty() && watchdog.look(shared.now(), leads(&shared)) {
            let is_well = tokio::select! {
                is_well = call(&shared, &prober, is_well_called) => is_well,
                () = shared.stop.cancelled() => return,
            };
            is_well_called = is_well;
        }
    }
}

/// Whether there is quorum; nothing for a node that nobody misses, or that was told to tell nobody.
fn quorum(shared: &Shared) -> Option<bool> {
    shared.settings.fallback_alert.as_ref()?;
    match shared.mastery() {
        Mastery::Is(_) => Some(true),
        Mastery::NoQuorum | Mastery::Election => Some(false),
        Mastery::Removed => None,
    }
}

/// Whether this node is master and hears a majority at this moment.
fn leads(shared: &Shared) -> bool {
    let view = shared.view();
    view.is_some_and(|view| {
        let enough = shared.live_voters(&view) >= quorum_of(&view);
        view.is_master() && enough && shared.mastery() == Mastery::Is(shared.me)
    })
}

fn read(shared: &Shared) -> Option<Note> {
    let path = shared.home.quorum_note();
    let text = std::fs::read_to_string(&path).ok()?;
    match serde_json::from_str(&text) {
        Ok(note) => Some(note),
        Err(error) => {
            tracing::warn!(
                target: "quptime",
                file = %path.display(), error = %error,
                "a note about lost quorum cannot be read and is left out of account"
            );
            None
        }
    }
}

fn keep(shared: &Shared, note: Option<Note>) {
    let path = shared.home.quorum_note();
    let kept = match note {
        Some(note) => {
            let text = serde_json::to_string(&note).expect("a number and two flags");
            write(&path, text.as_bytes()).map_err(|error| error.to_string())
        }
        None => match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("remove {}: {error}", path.display()))
            }
            _ => Ok(()),
        },
    };
    if let Err(error) = kept {
        tracing::error!(
            target: "quptime",
            error,
            "the note about lost quorum is not kept; it may be told again after a restart"
        );
    }
}

async fn tell(shared: &Shared, notice: Notice) -> Answer {
    let Some(alert) = &shared.settings.fallback_alert else {
        return Answer::Told;
    };
    let failed = |text: String, permanent: bool, maybe_heard: bool| {
        tracing::error!(target: "quptime", error = text, permanent, "fallback_alert not delivered");
        Answer::Failed {
            maybe_heard,
            permanent,
        }
    };
    let sender = match &shared.sender {
        Ok(sender) => sender,
        Err(text) => return failed(text.clone(), false, false),
    };
    let channel = match channel(&alert.as_alert()) {
        Ok(channel) => channel,
        Err(text) => return failed(text, true, false),
    };
    match sender.send(&channel, &message(shared, notice), DEADLINE).await {
        Ok(_) => {
            let what = match notice {
                Notice::Lost { .. } => "lost",
                Notice::Back { .. } => "back",
            };
            tracing::info!(target: "quptime", quorum = what, "fallback_alert delivered");
            Answer::Told
        }
        Err(failure) => failed(
            failure.text,
            failure.kind == notify::Kind::Permanent,
            failure.uncertain,
        ),
    }
}

fn message(shared: &Shared, notice: Notice) -> Message {
    let node = &shared.settings.advertise;
    let (live, need) = shared
        .view()
        .map_or((0, 0), |view| (shared.live_voters(&view), quorum_of(&view)));
    let (verb, since, subject, body) = match notice {
        Notice::Lost { since } => (
            notify::Verb::Down,
            since,
            format!("[quptime] cluster lost quorum: {node}"),
            format!(
                "Seen from {node}, {live} nodes are live and {need} are needed.\n\
                 No alert about any check is sent until enough nodes are back.\n"
            ),
        ),
        Notice::Back { since, .. } => (
            notify::Verb::Recovered,
            since,
            format!("[quptime] cluster has quorum again: {node}"),
            format!("Seen from {node}, the cluster has a master again, and alerts are sent.\n"),
        ),
    };
    let mut message = Message::new("quptime", verb, subject, body);
    message.open = matches!(notice, Notice::Lost { .. });
    message.dedup_key = format!("quorum/{}/{since}", shared.me);
    message.delivery_id = format!("{}/{}", message.dedup_key, verb.name().to_lowercase());
    message.labels = Pairs::from_iter([("check", "quorum"), ("node", node.as_str())]);
    message.details = Pairs::from_iter([
        ("live", live.to_string()),
        ("need", need.to_string()),
        ("node_id", shared.me.to_string()),
    ]);
    message.when_unix_ms = match notice {
        Notice::Lost { since } => since,
        Notice::Back { at, .. } => at,
    };
    message.since_unix_ms = matches!(notice, Notice::Back { .. }).then_some(since);
    message
}

/// Calls the watchdog; whether it answered well. Only the first failure in a row is logged.
async fn call(shared: &Shared, prober: &Prober, was_well: bool) -> bool {
    let Ok(probe::Target::Http(url)) =
        probe::Target::parse(probe::TargetKind::Http, shared.settings.watchdog_url.reveal())
    else {
        return false;
    };
    let outcome = prober
        .probe(&probe::Probe {
            kind: probe::Kind::Http(probe::Http::get(url)),
            timeout: WATCHDOG_TIMEOUT,
            resolvers: Vec::new(),
        })
        .await;
    match (outcome.is_up(), was_well) {
        (false, true) => {
            // The detail may hold the address, whose path is a secret; what the watchdog does next is its own affair.
            tracing::error!(target: "quptime", "watchdog_url is not answered as it should be");
        }
        (true, false) => tracing::info!(target: "quptime", "watchdog_url is answered again"),
        _ => {}
    }
    outcome.is_up()
}
