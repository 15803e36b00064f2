//! Talking to the daemon, away from the thread that draws: one thread looks every two seconds, another carries orders out one after the
//! other. A daemon that hangs makes either wait and never the keys.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::order::{Failure, Look, News, Order, Outcome};
use crate::api::{Answer, Request};
use crate::cli::client::{ask, ask_within};
use crate::document::{Change, Document, Entry};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(2);
/// How long a look may take before the daemon counts as not reachable.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// The two threads. They end with the program.
#[derive(Debug)]
pub(super) struct Work {
    looks: Sender<()>,
    orders: Sender<Order>,
}

impl Work {
    /// Begins to look; `tell` takes the news.
    ///
    /// # Errors
    /// There are no threads.
    pub(super) fn start(tell: impl Fn(News) + Clone + Send + 'static) -> std::io::Result<Work> {
        let (looks, wanted) = channel();
        let (orders, given) = channel();
        let told = tell.clone();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("tui-look").spawn(move || look_again(&wanted, &told))?;
        thread("tui-order").spawn(move || {
            for order in given {
                tell(News::Finished(carry_out(order)));
            }
        })?;
        Ok(Work { looks, orders })
    }

    /// Looks now.
    pub(super) fn look(&self) {
        // The thread ends only with the program.
        let _ = self.looks.send(());
    }

    /// Carries an order out, after those before it.
    pub(super) fn carry_out(&self, order: Order) {
        // As above.
        let _ = self.orders.send(order);
    }
}

fn look_again(wanted: &Receiver<()>, tell: &impl Fn(News)) {
    use std::sync::mpsc::RecvTimeoutError;
    let mut known: Option<Arc<Document>> = None;
    loop {
        let look = look(known.as_ref()).map_err(|error| terminal::chain(&error));
        if let Ok(look) = &look {
            known = Some(look.document.clone());
        }
        tell(News::Looked(look));
        if wanted.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        // Several wishes are one look.
        while wanted.try_recv().is_ok() {}
    }
}

/// The configuration is asked for again when it is another one; it may have ten thousand checks.
fn look(known: Option<&Arc<Document>>) -> anyhow::Result<Look> {
    let status = match ask_within(LOOK_TIMEOUT, &Request::Status { no_wait: true })? {
        Answer::Status(status) => *status,
        _ => return unexpected(),
    };
    let same = known.filter(|document| {
        // A node that joins takes over a document whose number may be the same.
        document.version == status.config_version
            && document.peers.len() == status.peers.len()
            && document.checks.len() == status.checks.len()
            && status.peers.iter().all(|line| document.peer(line.node).is_some())
    });
    let document = match same {
        Some(document) => document.clone(),
        None => match ask_within(LOOK_TIMEOUT, &Request::Document)? {
            Answer::Document(document) => Arc::from(document),
            _ => return unexpected(),
        },
    };
    Ok(Look { status, document })
}

fn unexpected<T>() -> anyhow::Result<T> {
    anyhow::bail!("the daemon answers something else; is it another version?")
}

fn carry_out(order: Order) -> Result<Outcome, Failure> {
    carried_out(order).map_err(|error| Failure {
        code: service::exit::code_of(&error),
        text: terminal::chain(&error),
    })
}

fn done(text: String) -> Outcome {
    Outcome::Done { text, added: None }
}

fn carried_out(order: Order) -> anyhow::Result<Outcome> {
    match order {
        Order::Add(entry) => add(entry),
        Order::Change {
            changes,
            what,
            done: text,
        } => configure(changes, what, &text).map(done),
        Order::Meet { address, discard } => match ask(&Request::Meet {
            address: address.clone(),
        })? {
            Answer::Met { node, fingerprint } => Ok(Outcome::Met {
                address,
                node,
                fingerprint,
                discard,
            }),
            _ => unexpected(),
        },
        Order::Invite {
            address,
            fingerprint,
            discard,
        } => match ask(&Request::Invite {
            address,
            fingerprint,
            discard,
        })? {
            Answer::Invited { node, version, .. } => Ok(done(format!(
                "secret proof succeeded, node {node} added (cluster version now {version})"
            ))),
            _ => unexpected(),
        },
        Order::TestAlert { id, name } => {
            let request = Request::TestAlert {
                alert: id,
                check: None,
                verb: crate::machine::state::Verb::Down,
                nodes: Vec::new(),
            };
            tested(&request).map_err(|error| anyhow::anyhow!("alert {name}: {error}"))?;
            Ok(done(format!("alert {name}: test sent")))
        }
        Order::TestCheck {
            id,
            name,
            verb,
            alerts,
        } => {
            let (mut sent, mut failed) = (Vec::new(), Vec::new());
            for (alert, alert_name) in alerts {
                let request = Request::TestAlert {
                    alert,
                    check: Some(id.clone()),
                    verb,
                    nodes: Vec::new(),
                };
                match tested(&request) {
                    Ok(()) => sent.push(alert_name),
                    Err(error) => failed.push(format!("alert {alert_name}: {error}")),
                }
            }
            if !failed.is_empty() {
                anyhow::bail!("{}", failed.join("; "));
            }
            let (verb, sent) = (verb.name(), sent.join(", "));
            Ok(done(format!("check {name}: {verb} sent as a test to {sent}")))
        }
        Order::Acknowledge {
            id,
            name,
            note,
            until,
        } => match ask(&Request::Acknowledge {
            check: id,
            note,
            until,
        })? {
            Answer::Changed { .. } => Ok(done(format!("check {name} acknowledged"))),
            _ => unexpected(),
        },
    }
}

fn add(mut entry: Entry) -> anyhow::Result<Outcome> {
    let id = crate::cli::new_id();
    let what = match &mut entry {
        Entry::Check(check) => {
            check.id.clone_from(&id);
            "check add"
        }
        Entry::Alert(alert) => {
            alert.id.clone_from(&id);
            "alert add"
        }
        _ => anyhow::bail!("only checks and alerts are added like this"),
    };
    let text = format!("{} added, id {id}", entry.title());
    let text = configure(vec![Change::add(entry)], what, &text)?;
    Ok(Outcome::Done {
        text,
        added: Some(id),
    })
}

fn configure(changes: Vec<Change>, what: &str, done: &str) -> anyhow::Result<String> {
    let request = Request::Configure {
        changes,
        what: what.to_owned(),
        force: false,
    };
    match ask(&request)? {
        Answer::Changed { version, warnings } => {
            let mut text = format!("{done} (cluster version now {version})");
            for warning in warnings {
                text.push_str("; ");
                text.push_str(&warning);
            }
            Ok(text)
        }
        _ => unexpected(),
    }
}

/// From this node alone.
fn tested(request: &Request) -> anyhow::Result<()> {
    let Answer::Tested(results) = ask(request)? else {
        return unexpected();
    };
    match results.into_iter().find_map(|(_, error)| error) {
        None => Ok(()),
        Some(error) => anyhow::bail!("{error}"),
    }
}
