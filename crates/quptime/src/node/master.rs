//! Carries out what [`crate::machine::mastery`] decides: shows it the group, proposes, sends, and takes the answers back to it.
//!
//! One task owns the machine; whatever takes time is a task of its own that ends with an [`Ended`]. Nothing is decided here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::send;
use super::shared::{Leave, Shared, quorum_of};
use super::status;
use super::wire::{Found, Report, encode, kind};
use crate::document::Document;
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::command::Command;
use crate::machine::mastery::{self, Action, Answer, Failure, Look, Mastery, Member, Ticket};
use crate::machine::rounds::Finding;
use crate::machine::state::{Delivery, Outcome};
use crate::raft::core::Core;
use crate::raft::view::View;
use crate::secret::random;

/// How often the master looks around.
const TURN: Duration = Duration::from_millis(100);
/// A request to look again is worth nothing later.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// What is committed is in the next view, unless the node stops.
const VIEW_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for another node to lead before this one stops: messages under way, then the transfer, and a little more.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(15);

/// Something that was begun for the machine has ended.
enum Ended {
    Answered(u64, Ticket, Answer),
    Attempted(u64, String, Result<(), Failure>),
    MemberChanged(u64),
}

/// Is the master whenever this node leads, until the run ends.
pub async fn run(
    shared: Arc<Shared>,
    mut reports: mpsc::Receiver<(NodeId, Vec<Report>)>,
    mut tables: mpsc::Receiver<status::TableCall>,
) {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut mastery = Mastery::new(shared.me, u64::from_be_bytes(random::<8>()));
    loop {
        let event = tokio::select! {
            _ = turn.tick() => None,
            Some(event) = ends.recv() => Some(event),
            Some((node, found)) = reports.recv() => {
                mastery.report(shared.now(), node, found.into_iter().map(report_of).collect());
                continue;
            }
            Some(call) = tables.recv() => {
                if let (Some(view), Some(rounds)) = (shared.view(), mastery.rounds()) {
                    // Who asked may have gone.
                    drop(call.send(status::table(&shared, &view.state, Some(rounds))));
                }
                continue;
            }
            () = shared.stop.cancelled() => return,
        };
        let Some(view) = shared.view() else { continue };
        let seen = Seen::of(&shared, &view);
        let look = seen.look(&shared, &view);
        if *shared.leave.borrow() == Leave::Asked {
            mastery.stop();
        }
        let actions = match event {
            None => mastery.turn(&look),
            Some(Ended::Answered(term, ticket, answer)) => mastery.answered(&look, term, &ticket, answer),
            Some(Ended::Attempted(term, delivery, result)) => {
                mastery.attempted(&look, term, &delivery, result)
            }
            Some(Ended::MemberChanged(term)) => {
                mastery.member_changed(term);
                Vec::new()
            }
        };
        shared.handing_over.send_replace(mastery.is_leaving());
        if mastery.may_stop() {
            shared.leave.send_replace(Leave::Left);
        }
        for action in actions {
            carry_out(&shared, &view, action, &ended);
        }
    }
}

/// Lets the best other voter lead before this node stops. Returns when it does, or when there is none.
pub async fn hand_over_before_stopping(shared: &Arc<Shared>) {
    let Some(core) = shared.core.get() else { return };
    let view = core.view();
    if !view.is_master() || quorum_of(&view) < 2 {
        return;
    }
    shared.leave.send_replace(Leave::Asked);
    let mut leave = shared.leave.subscribe();
    // If nobody takes the role, the others elect one of them when this node is gone.
    drop(tokio::time::timeout(LEAVE_TIMEOUT, leave.wait_for(|leave| *leave == Leave::Left)).await);
}

/// What of a look has to be put together.
struct Seen {
    members: BTreeMap<consensus::NodeId, Member>,
    live: BTreeMap<NodeId, Millis>,
    master: Option<NodeId>,
}

impl Seen {
    fn of(shared: &Shared, view: &View) -> Seen {
        let members = view.members.iter().map(|(number, voter)| {
            let progress = view.progress.get(number);
            let member = Member {
                voter: *voter,
                ready: progress.is_some_and(|progress| progress.caught_up && progress.active),
            };
            (*number, member)
        });
        let (now, dead_after) = (shared.now(), shared.dead_after());
        let ears = shared.ears.lock();
        let live = view.state.document.peers.iter().filter_map(|peer| {
            let since = if peer.node_id == shared.me {
                Some(0)
            } else {
                ears.live_since(peer.node_id, now, dead_after)
            };
            Some((peer.node_id, since?))
        });
        Seen {
            members: members.collect(),
            live: live.collect(),
            master: view.leader.and_then(|leader| shared.node_of(leader)),
        }
    }

    fn look<'a>(&'a self, shared: &Shared, view: &'a View) -> Look<'a> {
        Look {
            now: shared.now(),
            wall: shared.wall(),
            term: view.term,
            master: self.master,
            leads: view.is_master(),
            state: &view.state,
            members: &self.members,
            live: &self.live,
        }
    }
}

fn report_of(report: Report) -> mastery::Report {
    mastery::Report {
        check: report.check,
        definition: report.definition,
        age: report.age,
        took: report.took,
        finding: match report.result {
            Found::Up => Finding::Good,
            Found::Down => Finding::Bad(report.detail),
            Found::Unable => Finding::Unable(report.detail),
        },
    }
}

fn carry_out(shared: &Arc<Shared>, view: &Arc<View>, action: Action, ended: &mpsc::UnboundedSender<Ended>) {
    let (shared, ended) = (shared.clone(), ended.clone());
    let Some(core) = shared.core.get().cloned() else {
        return;
    };
    // Whoever waits for an end is there as long as the run.
    match action {
        Action::Propose {
            term,
            ticket,
            command,
        } => {
            tokio::spawn(async move {
                let answer = propose(&shared, &core, term, *command).await;
                drop(ended.send(Ended::Answered(term, ticket, answer)));
            });
        }
        Action::Send {
            term,
            delivery,
            decided,
        } => {
            let view = view.clone();
            tokio::spawn(async move {
                let result = attempt(&shared, &view, &delivery, decided).await;
                drop(ended.send(Ended::Attempted(term, delivery.id, result)));
            });
        }
        Action::TellAgain { term, delivery } => {
            let view = view.clone();
            tokio::spawn(async move {
                let result = attempt_again(&shared, &view, &delivery).await;
                drop(ended.send(Ended::Attempted(term, delivery.id, result)));
            });
        }
        Action::ChangeMembers { term, change } => {
            tokio::spawn(async move {
                match core.change(change.clone()).await {
                    Ok(_) => {
                        tracing::info!(target: "quptime", change = ?change, "membership of the group changes");
                    }
                    // It is tried again at the next look.
                    Err(refusal) => tracing::debug!(target: "quptime", change = ?change, %refusal, "not yet"),
                }
                drop(ended.send(Ended::MemberChanged(term)));
            });
        }
        Action::LookAgain(checks) => look_again(&shared, &view.state.document, checks),
        Action::RoleChanged(changed) => {
            if changed.new.is_some() {
                shared.counts.master_changed();
            }
            let show = |node: Option<NodeId>| node.map_or_else(|| "none".to_owned(), |node| node.to_string());
            tracing::info!(
                target: "quptime",
                old = show(changed.old), new = show(changed.new), term = changed.term, reason = changed.reason,
                "master changed"
            );
        }
        Action::HandsOver { to, reason } => {
            tracing::info!(
                target: "quptime",
                to = %to, term = view.term, reason = reason.text(), "handing the role of master over"
            );
        }
        Action::Transfer { to } => {
            tokio::spawn(async move {
                if let Err(refusal) = core.transfer(to.number()).await {
                    tracing::warn!(target: "quptime", to = %to, %refusal, "the role was not handed over");
                }
            });
        }
    }
}

async fn propose(shared: &Shared, core: &Core, term: u64, command: Command) -> Answer {
    let Ok(applied) = core.propose(command.clone(), Some(term)).await else {
        return Answer::Lost;
    };
    let mut views = core.views();
    let shows = views.wait_for(|view| view.applied >= applied.index);
    drop(tokio::time::timeout(VIEW_TIMEOUT, shows).await);
    match applied.outcome {
        Outcome::Done(_) => {
            tell(shared, &command);
            Answer::Done
        }
        Outcome::Outdated | Outcome::Conflict(_) | Outcome::Invalid(_) => Answer::Outdated,
    }
}

/// Says what has changed.
fn tell(shared: &Shared, command: &Command) {
    match command {
        Command::Transition(transition) => {
            let document = shared.document();
            let name = document.check(&transition.check).map_or("", |check| &check.name);
            tracing::info!(
                target: "quptime",
                check = name, id = transition.check, to = transition.to.name(), ok = transition.snapshot.ok,
                reports = transition.snapshot.reports, detail = transition.snapshot.detail,
                "check changed"
            );
        }
        Command::Impair { node, impaired, .. } => {
            tracing::warn!(target: "quptime", node = %node, impaired, "a node finds what the others do not");
        }
        Command::Configure(_)
        | Command::Announce(_)
        | Command::Claim(_)
        | Command::Settle(_)
        | Command::Acknowledge(_) => {}
    }
}

fn look_again(shared: &Arc<Shared>, document: &Document, checks: Vec<String>) {
    let body = encode(&checks);
    for peer in document.peers.iter().filter(|peer| peer.node_id != shared.me) {
        let (shared, to, body) = (shared.clone(), peer.node_id, body.clone());
        tokio::spawn(async move {
            if let Some(transport) = shared.transport.get() {
                let asked = transport.request(to.number(), kind::LOOK_AGAIN, body, LOOK_TIMEOUT);
                // Who does not hear it looks again at its own time.
                drop(asked.await);
            }
        });
    }
    // If too many wait, the next round will do.
    drop(shared.look_again.try_send(checks));
}

async fn send_once(
    shared: &Arc<Shared>,
    view: &View,
    delivery: &Delivery,
    decided: Millis,
) -> Result<(), notify::Failure> {
    let gate = {
        let shared = shared.clone();
        notify::Gate::new(move || !shared.standstill.since(decided, shared.now(), shared.wall()))
    };
    match &shared.sender {
        Ok(sender) => send::attempt(sender, shared.me, &view.state, delivery, &gate).await,
        Err(text) => Err(notify::Failure {
            kind: notify::Kind::Temporary,
            retry_after: None,
            uncertain: false,
            held: false,
            text: text.clone(),
        }),
    }
}

fn failed(failure: notify::Failure) -> Failure {
    Failure {
        permanent: failure.kind == notify::Kind::Permanent,
        uncertain: failure.uncertain,
        held: failure.held,
        asked: failure.retry_after.map(|wait| wait.as_millis() as Millis),
        text: failure.text,
    }
}

/// Tells once more what a channel would forget. It is no delivery, and the log says nothing of it while it goes well.
async fn attempt_again(shared: &Arc<Shared>, view: &View, delivery: &Delivery) -> Result<(), Failure> {
    let sent = send_once(shared, view, delivery, shared.now())
        .await
        .map_err(failed);
    match &sent {
        Ok(()) => tracing::debug!(target: "quptime", delivery = delivery.id, "told again"),
        Err(failure) => {
            tracing::error!(target: "quptime", delivery = delivery.id, error = failure.text, "not told again");
        }
    }
    sent
}

/// Tries to tell somebody once.
async fn attempt(
    shared: &Arc<Shared>,
    view: &View,
    delivery: &Delivery,
    decided: Millis,
) -> Result<(), Failure> {
    let sent = send_once(shared, view, delivery, decided).await;
    if let Err(failure) = &sent
        && failure.held
    {
        tracing::info!(target: "quptime", delivery = delivery.id, "stood still; who sends is agreed on once more");
        return sent.map_err(failed);
    }
    let after = shared.wall().saturating_sub(delivery.at);
    let taken_after = sent.is_ok().then_some(Duration::from_millis(after));
    shared.counts.attempted(&delivery.alert, taken_after);
    let document = &view.state.document;
    let check = document
        .check(&delivery.check)
        .map_or("", |check| check.name.as_str());
    let alert = document
        .alert(&delivery.alert)
        .map_or("", |alert| alert.name.as_str());
    let (id, verb) = (delivery.id.as_str(), delivery.verb.name());
    match sent {
        Ok(()) => {
            tracing::info!(target: "quptime", delivery = id, check, alert, verb, "delivered");
            Ok(())
        }
        Err(failure) => {
            let permanent = failure.kind == notify::Kind::Permanent;
            tracing::error!(
                target: "quptime",
                delivery = id, check, alert, verb, error = failure.text, permanent, "not delivered"
            );
            Err(failed(failure))
        }
    }
}
