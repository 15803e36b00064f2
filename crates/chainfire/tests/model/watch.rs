//! Every watch is told exactly what happened in its range from its start on: in order, nothing twice, nothing missing, a
//! revision whole unless it asked for fragments, or that it came too late because of a compaction.
//!
//! What the threads of a node do at the same time is done here in a random order, step by step: the state machine applies,
//! the hub learns of it some steps later, sessions are moved on or left alone while their buffers overflow.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use chainfire::mvcc::{Event, Revision};
use chainfire::state_machine::{Committed, StateMachine};
use chainfire::watch::{Hub, Session, SessionSettings};
use chainfire::wire::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use chainfire::wire::logpb::Command;
use chainfire::wire::logpb::command::Request;
use chainfire::wire::mvccpb;
use proptest::prelude::*;
use prost::Message;
use store::Store;

use crate::agreement::{Checked, unexpected};
use crate::generate::{self, resolve, revision_of};
use crate::machine::{Databases, LIMITS};
use crate::reference::{Happened, Reference, in_range, is_internal};

/// Replies of watches with fragments are cut above this.
const FRAGMENT_BYTES: usize = 150;

/// Milliseconds between two notices of a quiet watch.
const INTERVAL_MS: u64 = 100;

/// Sessions of a sequence.
const SESSIONS: usize = 2;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write(Vec<Request>),
    /// The hub learns of so many of the groups that were applied.
    Publish(usize),
    Create(usize, WatchCreateRequest),
    Cancel(usize, i64),
    Progress(usize),
    Advance(usize),
    Sweep,
    Tick(u64),
}

/// How much fits where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) buffer: usize,
    pub(crate) catch_up: usize,
}

fn create() -> impl Strategy<Value = WatchCreateRequest> {
    let switches = (any::<bool>(), any::<bool>(), any::<bool>());
    let id = prop_oneof![3 => Just(0i64), 1 => 1..4i64];
    let start = prop_oneof![3 => Just(0i64), 5 => 1..14i64, 1 => Just(-2i64)];
    let filters =
        prop_oneof![4 => Just(Vec::new()), 1 => Just(vec![0]), 1 => Just(vec![1]), 1 => Just(vec![0, 1])];
    (
        generate::key(),
        generate::range_end(),
        start,
        switches,
        filters,
        id,
    )
        .prop_map(
            |(key, range_end, start_revision, (progress_notify, prev_kv, fragment), filters, watch_id)| {
                WatchCreateRequest {
                    key,
                    range_end,
                    start_revision,
                    progress_notify,
                    filters,
                    prev_kv,
                    watch_id,
                    fragment,
                }
            },
        )
}

pub(crate) fn steps() -> impl Strategy<Value = (Sizes, Vec<Step>)> {
    let session = 0..SESSIONS;
    let commands = prop::collection::vec(generate::command(generate::value()), 1..6);
    let step = prop_oneof![
        10 => commands.prop_map(Step::Write),
        8 => (1..5usize).prop_map(Step::Publish),
        6 => (session.clone(), create()).prop_map(|(session, request)| Step::Create(session, request)),
        1 => (session.clone(), 0..5i64).prop_map(|(session, id)| Step::Cancel(session, id)),
        2 => session.clone().prop_map(Step::Progress),
        8 => session.prop_map(Step::Advance),
        1 => Just(Step::Sweep),
        1 => (1..150u64).prop_map(Step::Tick),
    ];
    let size = || prop_oneof![2 => 0..400usize, 1 => Just(1usize << 20)];
    let sizes = (size(), size()).prop_map(|(buffer, catch_up)| Sizes { buffer, catch_up });
    (sizes, prop::collection::vec(step, 1..50))
}

/// A watch as its client sees it.
#[derive(Debug)]
struct Seen {
    request: WatchCreateRequest,
    start: Revision,
    /// Of what concerns it, so much has come.
    delivered: usize,
    /// The last reply ended within a revision, as it said.
    open: bool,
    /// When something last came.
    told_ms: u64,
}

impl Seen {
    /// All that concerns it, in order.
    fn concerned(&self, model: &Reference) -> Vec<Happened> {
        let request = &self.request;
        let key = if request.key.is_empty() {
            b"\0"
        } else {
            request.key.as_ref()
        };
        let concerns = |happened: &&Happened| {
            happened.revision >= self.start
                && in_range(&happened.key, key, &request.range_end)
                && !request.filters.contains(&i32::from(happened.now.is_none()))
        };
        model.happened.iter().filter(concerns).cloned().collect()
    }
}

struct Client {
    session: Session,
    watches: BTreeMap<i64, Seen>,
    next_id: i64,
    /// Progress was asked for and not answered yet.
    asked: bool,
}

struct Scene {
    model: Reference,
    machine: Arc<StateMachine>,
    hub: Arc<Hub>,
    index: u64,
    unpublished: VecDeque<(Vec<Event>, Revision)>,
    clients: Vec<Client>,
    now_ms: u64,
}

impl Scene {
    fn new(store: &Arc<Store>, sizes: Sizes) -> Result<Scene, TestCaseError> {
        let machine = Arc::new(StateMachine::load(store.clone()).map_err(unexpected)?);
        let hub = Arc::new(Hub::with_buffer(machine.mvcc.revision(), sizes.buffer));
        let settings = SessionSettings {
            header: ResponseHeader::default(),
            fragment_bytes: FRAGMENT_BYTES,
            progress_interval_ms: INTERVAL_MS,
        };
        let client = |_| Client {
            session: Session::new(machine.clone(), hub.clone(), settings).with_catch_up_bytes(sizes.catch_up),
            watches: BTreeMap::new(),
            next_id: 0,
            asked: false,
        };
        Ok(Scene {
            clients: (0..SESSIONS).map(client).collect(),
            model: Reference::default(),
            machine,
            hub,
            index: 0,
            unpublished: VecDeque::new(),
            now_ms: 0,
        })
    }

    fn step(&mut self, step: &Step) -> Checked {
        match step {
            Step::Write(requests) => self.write(requests)?,
            Step::Publish(groups) => self.publish(*groups),
            Step::Create(client, request) => self.create(*client, request)?,
            Step::Cancel(client, id) => self.cancel(*client, *id)?,
            Step::Progress(client) => {
                self.clients[*client].session.request_progress();
                self.clients[*client].asked = true;
            }
            Step::Advance(client) => {
                self.advance(*client)?;
            }
            Step::Sweep => {
                self.machine
                    .mvcc
                    .sweep(&mut || ControlFlow::Continue(()))
                    .map_err(unexpected)?;
            }
            Step::Tick(ms) => self.now_ms += ms,
        }
        Ok(())
    }

    fn write(&mut self, requests: &[Request]) -> Checked {
        let mut entries = Vec::new();
        for request in requests {
            let mut request = request.clone();
            resolve(&mut request, self.model.revision);
            if Reference::check(&request, LIMITS.txn_ops, LIMITS.request_bytes).is_err() {
                continue;
            }
            // Refused or not: what happened is compared elsewhere.
            drop(self.model.apply(&request));
            self.index += 1;
            entries.push(Committed {
                index: self.index,
                term: 1,
                command: Command {
                    internal: is_internal(&request),
                    request: Some(request),
                    ..Default::default()
                },
            });
        }
        let mvcc = &self.machine.mvcc;
        let unpublished = &mut self.unpublished;
        let mut publish = |events| unpublished.push_back((events, mvcc.revision()));
        self.machine.apply(entries, 0, &mut publish).map_err(unexpected)?;
        prop_assert_eq!(mvcc.revision(), self.model.revision);
        Ok(())
    }

    fn publish(&mut self, groups: usize) {
        for (events, revision) in self.unpublished.drain(..groups.min(self.unpublished.len())) {
            self.hub.publish(events, revision);
        }
    }

    fn create(&mut self, client: usize, request: &WatchCreateRequest) -> Checked {
        let mut request = request.clone();
        request.start_revision = revision_of(request.start_revision, self.model.revision);
        let (newest, now_ms) = (self.model.revision, self.now_ms);
        let client = &mut self.clients[client];
        let replies = client.session.create(request.clone(), now_ms);
        prop_assert_eq!(replies.len(), 1);
        let reply = &replies[0];
        prop_assert!(reply.created && reply.events.is_empty());
        let first = if request.key.is_empty() {
            b"\0"
        } else {
            request.key.as_ref()
        };
        let end = request.range_end.as_ref();
        let refused = if request.start_revision < 0 {
            Some("etcdserver: mvcc: required revision has been compacted")
        } else if !end.is_empty() && end != b"\0" && end <= first {
            Some("mvcc: watcher range is empty")
        } else if request.watch_id != 0 && client.watches.contains_key(&request.watch_id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream")
        } else {
            None
        };
        if let Some(reason) = refused {
            prop_assert!(reply.canceled, "{:?}", request);
            prop_assert_eq!((reply.cancel_reason.as_str(), reply.watch_id), (reason, -1));
            return Ok(());
        }
        prop_assert!(!reply.canceled, "{:?} for {:?}", reply, request);
        let id = if request.watch_id == 0 {
            while client.watches.contains_key(&client.next_id) {
                client.next_id += 1;
            }
            client.next_id += 1;
            client.next_id - 1
        } else {
            request.watch_id
        };
        prop_assert_eq!(reply.watch_id, id);
        prop_assert_eq!(revision(reply), newest);
        let start = if request.start_revision == 0 {
            newest + 1
        } else {
            request.start_revision
        };
        let seen = Seen {
            request,
            start,
            delivered: 0,
            open: false,
            told_ms: now_ms,
        };
        client.watches.insert(id, seen);
        Ok(())
    }

    fn cancel(&mut self, client: usize, id: i64) -> Checked {
        let client = &mut self.clients[client];
        let replies = client.session.cancel(id);
        let there = client.watches.remove(&id).is_some();
        prop_assert_eq!(replies.len(), usize::from(there));
        if let Some(reply) = replies.first() {
            prop_assert!(reply.canceled && reply.watch_id == id && reply.compact_revision == 0);
        }
        Ok(())
    }

    /// Moves a session on and judges what it says. True if it said something.
    fn advance(&mut self, client: usize) -> Result<bool, TestCaseError> {
        let now_ms = self.now_ms;
        let replies = self.clients[client].session.advance(now_ms);
        for reply in &replies {
            let newest = self.model.revision;
            prop_assert!(!reply.created && revision(reply) <= newest, "{:?}", reply);
            if reply.canceled {
                self.compacted(client, reply)?;
            } else if reply.events.is_empty() {
                self.progress(client, reply)?;
            } else {
                self.events(client, reply)?;
            }
        }
        let clients = &self.clients[client];
        prop_assert_eq!(clients.session.len(), clients.watches.len());
        Ok(!replies.is_empty())
    }

    fn events(&mut self, client: usize, reply: &WatchResponse) -> Checked {
        let Some(seen) = self.clients[client].watches.get_mut(&reply.watch_id) else {
            return Err(TestCaseError::fail(format!(
                "events for a watch that is not there: {reply:?}"
            )));
        };
        let concerned = seen.concerned(&self.model);
        for event in &reply.events {
            let Some(happened) = concerned.get(seen.delivered) else {
                return Err(TestCaseError::fail(format!(
                    "an event too many: {event:?} for {seen:?}"
                )));
            };
            same_event(event, happened, seen.request.prev_kv, self.model.compacted)?;
            prop_assert!(happened.revision <= revision(reply), "{:?}", reply);
            seen.delivered += 1;
        }
        let last = concerned[seen.delivered - 1].revision;
        let cut = concerned
            .get(seen.delivered)
            .is_some_and(|next| next.revision == last);
        prop_assert_eq!(reply.fragment, cut, "{:?} for {:?}", reply, seen);
        prop_assert!(
            !cut || seen.request.fragment,
            "a revision in pieces for {:?}",
            seen
        );
        if seen.request.fragment && reply.events.len() > 1 {
            let bytes: usize = reply.events.iter().map(Message::encoded_len).sum();
            prop_assert!(bytes <= FRAGMENT_BYTES, "{} bytes in one reply", bytes);
        }
        seen.open = cut;
        seen.told_ms = self.now_ms;
        Ok(())
    }

    fn progress(&mut self, client: usize, reply: &WatchResponse) -> Checked {
        let told = revision(reply);
        let client = &mut self.clients[client];
        let mut concerned: Vec<&mut Seen> = if reply.watch_id == -1 {
            prop_assert!(
                std::mem::take(&mut client.asked),
                "progress nobody asked for: {:?}",
                reply
            );
            client.watches.values_mut().collect()
        } else {
            client.watches.get_mut(&reply.watch_id).into_iter().collect()
        };
        if reply.watch_id != -1 {
            prop_assert_eq!(concerned.len(), 1);
            let seen = &mut *concerned[0];
            prop_assert!(seen.request.progress_notify && self.now_ms >= seen.told_ms + INTERVAL_MS);
            seen.told_ms = self.now_ms;
        }
        for seen in concerned {
            let owed = seen.concerned(&self.model);
            let next = owed.get(seen.delivered);
            prop_assert!(
                !seen.open && next.is_none_or(|next| next.revision > told),
                "{:?} before {:?}",
                reply,
                next
            );
            prop_assert!(
                seen.start <= told + 1,
                "{:?} below the start of {:?}",
                reply,
                seen
            );
        }
        Ok(())
    }

    /// A watch may be given up only if a revision it was still to be told of may be gone.
    fn compacted(&mut self, client: usize, reply: &WatchResponse) -> Checked {
        let Some(seen) = self.clients[client].watches.remove(&reply.watch_id) else {
            return Err(TestCaseError::fail(format!(
                "the end of a watch that is not there: {reply:?}"
            )));
        };
        let compacted = self.model.compacted;
        prop_assert_eq!(reply.compact_revision, compacted);
        prop_assert_eq!(
            reply.cancel_reason.as_str(),
            "etcdserver: mvcc: required revision has been compacted"
        );
        let concerned = seen.concerned(&self.model);
        let told = seen
            .delivered
            .checked_sub(1)
            .map_or(0, |last| concerned[last].revision);
        prop_assert!(
            seen.start.max(told + 1) < compacted && !seen.open,
            "{:?} for {:?}",
            reply,
            seen
        );
        Ok(())
    }

    /// Everything is published and read: nothing may be owed any more.
    fn settle(&mut self) -> Checked {
        self.publish(usize::MAX);
        for client in 0..SESSIONS {
            let mut rounds = 0;
            while self.advance(client)? || self.clients[client].session.is_catching_up() {
                rounds += 1;
                prop_assert!(rounds < 1000, "a session does not come to rest");
            }
            for seen in self.clients[client].watches.values() {
                let concerned = seen.concerned(&self.model);
                prop_assert_eq!(
                    seen.delivered,
                    concerned.len(),
                    "missing: {:?} for {:?}",
                    &concerned[seen.delivered..],
                    seen
                );
            }
            // Then everyone is up to date, but for those that start later.
            self.clients[client].session.request_progress();
            self.clients[client].asked = true;
            self.advance(client)?;
            let waits = self.clients[client]
                .watches
                .values()
                .any(|seen| seen.start > self.model.revision + 1);
            prop_assert_eq!(self.clients[client].asked, waits);
        }
        let live: usize = self.clients.iter().map(|client| client.watches.len()).sum();
        prop_assert_eq!(self.hub.len(), live);
        self.clients.clear();
        prop_assert!(self.hub.is_empty(), "a watch outlives its session");
        Ok(())
    }
}

fn revision(reply: &WatchResponse) -> Revision {
    reply.header.as_ref().map_or(0, |header| header.revision)
}

fn same_event(event: &mvccpb::Event, happened: &Happened, prev_kv: bool, compacted: i64) -> Checked {
    let kv = match &happened.now {
        Some(now) => now.key_value(&happened.key),
        None => mvccpb::KeyValue {
            key: Bytes::from(happened.key.clone()),
            mod_revision: happened.revision,
            ..Default::default()
        },
    };
    prop_assert_eq!(
        event.r#type,
        i32::from(happened.now.is_none()),
        "{:?} for {:?}",
        event,
        happened
    );
    prop_assert_eq!(event.kv.as_ref(), Some(&kv));
    let before = happened.before.as_ref().filter(|_| prev_kv);
    let before = before.map(|before| before.key_value(&happened.key));
    // What a compaction has taken cannot be shown.
    if event.prev_kv.is_some() || happened.revision > compacted {
        prop_assert_eq!(&event.prev_kv, &before);
    }
    Ok(())
}

/// Plays `steps`; with `eager`, everybody is told everything at once.
pub(crate) fn run(store: &Arc<Store>, sizes: Sizes, steps: &[Step], eager: bool) -> Checked {
    let mut scene = Scene::new(store, sizes)?;
    for step in steps {
        let watches: usize = scene.clients.iter().map(|client| client.watches.len()).sum();
        scene.step(step)?;
        if eager {
            scene.publish(usize::MAX);
            let created = matches!(step, Step::Create(..));
            for client in 0..SESSIONS {
                scene.advance(client)?;
                while scene.clients[client].session.is_catching_up() {
                    scene.advance(client)?;
                }
            }
            let left: usize = scene.clients.iter().map(|client| client.watches.len()).sum();
            // Only a watch that starts too far in the past, or is canceled, ever ends.
            prop_assert!(
                created || left == watches || matches!(step, Step::Cancel(..)),
                "a prompt watch ended"
            );
        }
    }
    scene.settle()
}

fn check(eager: bool, usual: u32) -> Result<(), String> {
    let databases = std::cell::RefCell::new(Databases::new());
    crate::check(usual, &steps(), |(mut sizes, steps)| {
        if eager {
            sizes.buffer = usize::MAX;
        }
        let stores = databases.borrow_mut().empty(1);
        run(&stores[0], sizes, &steps, eager)
    })
}

#[test]
fn slow_watches_are_told_everything_once() -> Result<(), String> {
    check(false, 2000)
}

#[test]
fn prompt_watches_never_end_by_compaction() -> Result<(), String> {
    check(true, 800)
}
