//! Watches, each of one key, on streams that are made again at another member when theirs breaks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chainfire::wire::etcdserverpb::watch_client::WatchClient;
use chainfire::wire::etcdserverpb::watch_request::RequestUnion;
use chainfire::wire::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::{Members, PER_STREAM, pause, until, violation};

pub(crate) fn key(number: usize) -> String {
    format!("key/{number:08}")
}

pub(crate) struct Watches {
    followers: Vec<Arc<Follower>>,
    tasks: Vec<JoinHandle<()>>,
}

/// A stream of watches.
struct Follower {
    members: Arc<Members>,
    keys: Range<usize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// For each key: the revision after the last that was told, 0 before the first reply.
    next: Vec<i64>,
    /// For each key: the revisions told, in the order of telling.
    told: Vec<Vec<i64>>,
    /// When the present connection was made, once everything was told on it; and up to which revision.
    up_to_date: Option<(Instant, i64)>,
    /// Asks anew how far it is.
    ask: Option<mpsc::UnboundedSender<WatchRequest>>,
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

fn progress() -> WatchRequest {
    request(RequestUnion::ProgressRequest(WatchProgressRequest {}))
}

async fn open(
    members: &Members,
    creates: Vec<WatchCreateRequest>,
) -> Result<(mpsc::UnboundedSender<WatchRequest>, Streaming<WatchResponse>), Status> {
    let channel: Channel = members.connect().await;
    let (ask, asked) = mpsc::unbounded_channel();
    let creates = creates
        .into_iter()
        .map(|create| request(RequestUnion::CreateRequest(create)));
    let requests = futures::stream::iter(creates).chain(UnboundedReceiverStream::new(asked));
    let replies = WatchClient::new(channel).watch(requests).await?;
    Ok((ask, replies.into_inner()))
}

impl Watches {
    /// Makes that many.
    pub(crate) async fn start(members: &Arc<Members>, count: usize) -> Watches {
        let followers: Vec<_> = (0..count.div_ceil(PER_STREAM))
            .map(|number| {
                let keys = number * PER_STREAM..count.min((number + 1) * PER_STREAM);
                let state = State {
                    next: vec![0; keys.len()],
                    told: vec![Vec::new(); keys.len()],
                    ..State::default()
                };
                Arc::new(Follower {
                    members: members.clone(),
                    keys,
                    state: Mutex::new(state),
                })
            })
            .collect();
        let started = Instant::now();
        let tasks = followers
            .iter()
            .map(|follower| {
                let follower = follower.clone();
                tokio::spawn(async move {
                    loop {
                        // It ends with the member's death.
                        drop(follower.follow().await);
                        pause().await;
                    }
                })
            })
            .collect();
        let watches = Watches { followers, tasks };
        watches.all_resumed_since(started).await;
        watches
    }

    /// Waits until every stream was made anew after `since` and has told everything since its last one.
    pub(crate) async fn all_resumed_since(&self, since: Instant) {
        until("watches to be resumed", || {
            let resumed = |follower: &Arc<Follower>| {
                let state = follower.state.lock().unwrap();
                state.up_to_date.is_some_and(|(connected, _)| connected > since)
            };
            self.followers.iter().all(resumed)
        })
        .await;
    }

    /// What was told is what the store remembers, each revision once.
    pub(crate) async fn check(self, members: &Arc<Members>) {
        let (truth, revision) = history(members).await.unwrap();
        until("watches to be told the last revision", || {
            let told = |follower: &Arc<Follower>| {
                let state = follower.state.lock().unwrap();
                if state.up_to_date.is_some_and(|(_, told)| told >= revision) {
                    return true;
                }
                if let Some(ask) = &state.ask {
                    // It is made anew if the stream has broken.
                    drop(ask.send(progress()));
                }
                false
            };
            self.followers.iter().all(told)
        })
        .await;
        for follower in &self.followers {
            let state = follower.state.lock().unwrap();
            for (number, told) in follower.keys.clone().zip(&state.told) {
                let truth = truth.get(key(number).as_bytes()).map_or(&[][..], Vec::as_slice);
                assert_eq!(told, truth, "revisions of {}", key(number));
            }
        }
        for task in self.tasks {
            task.abort();
        }
    }
}

/// The revisions of every key as one new watch of all of them tells, and the newest revision.
async fn history(members: &Members) -> Result<(BTreeMap<Vec<u8>, Vec<i64>>, i64), Status> {
    let create = WatchCreateRequest {
        key: "key/".into(),
        range_end: "key0".into(),
        start_revision: 1,
        ..Default::default()
    };
    let (ask, mut replies) = open(members, vec![create]).await?;
    drop(ask.send(progress()));
    let mut history: BTreeMap<Vec<u8>, Vec<i64>> = BTreeMap::new();
    while let Some(reply) = replies.message().await? {
        if reply.watch_id == -1 {
            return Ok((history, reply.header.unwrap_or_default().revision));
        }
        for event in reply.events {
            let kv = event.kv.unwrap_or_default();
            history.entry(kv.key.to_vec()).or_default().push(kv.mod_revision);
        }
    }
    Err(Status::unavailable("the stream has ended"))
}

impl Follower {
    async fn follow(&self) -> Result<(), Status> {
        let creates = self.creates();
        let (ask, mut replies) = open(&self.members, creates).await?;
        let connected = Instant::now();
        let mut waiting = self.keys.len();
        while let Some(reply) = replies.message().await? {
            let mut state = self.state.lock().unwrap();
            let revision = reply.header.unwrap_or_default().revision;
            if reply.watch_id == -1 {
                state.up_to_date = Some((connected, revision));
                state.ask = Some(ask.clone());
                continue;
            }
            if reply.canceled {
                violation(format!("{reply:?}"));
            }
            // Number 0 would leave the choice to the server.
            let place = usize::try_from(reply.watch_id - 1).unwrap();
            if reply.created {
                waiting -= 1;
                if state.next[place] == 0 {
                    state.next[place] = revision + 1;
                }
                if waiting == 0 {
                    drop(ask.send(progress()));
                }
            }
            for event in reply.events {
                let modified = event.kv.unwrap_or_default().mod_revision;
                let next = state.next[place];
                if modified < next {
                    violation(format!("told {modified}, which is before {next}"));
                }
                state.told[place].push(modified);
                state.next[place] = modified + 1;
            }
        }
        Ok(())
    }

    fn creates(&self) -> Vec<WatchCreateRequest> {
        let state = self.state.lock().unwrap();
        let numbered = self.keys.clone().zip(&state.next).zip(1..);
        numbered
            .map(|((number, next), watch_id)| WatchCreateRequest {
                key: key(number).into(),
                start_revision: *next,
                watch_id,
                ..Default::default()
            })
            .collect()
    }
}
