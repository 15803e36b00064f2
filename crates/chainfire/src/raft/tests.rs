//! One member with its threads, and a leader that the test plays.

use std::sync::mpsc::{Receiver, Sender};

use consensus::{Body, Entry, GroupId, HardState, Incarnation, Index, Kind, Restored, Settings, Term};
use parking_lot::Condvar;
use service::clock::ManualClock;

use super::*;
use crate::mvcc::family;
use crate::wire::etcdserverpb::PutRequest;
use crate::wire::logpb::command::Request;

const MEMBER: (NodeId, Incarnation) = (NodeId(1), Incarnation(5));
const LEADER: (NodeId, Incarnation) = (NodeId(2), Incarnation(6));

/// Far above what anything here takes.
const LONG: Duration = Duration::from_mins(1);

struct Sent(Sender<Message>);

impl Network for Sent {
    fn send(&self, message: Message) {
        // The test may be over.
        drop(self.0.send(message));
    }
    fn members(&self, _: &Configuration) {}
    fn snapshot_wanted(&self, _: NodeId) {}
}

/// What the apply thread has to pass.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut is_open = self.is_open.lock();
        while !*is_open {
            self.opened.wait(&mut is_open);
        }
    }

    fn open(&self) {
        *self.is_open.lock() = true;
        self.opened.notify_all();
    }
}

/// A follower that leads never: its clock stands still.
struct Follower {
    raft: Raft,
    answers: Receiver<Message>,
    gate: Arc<Gate>,
    round: u64,
    _dir: tempfile::TempDir,
}

fn put(index: Index, bytes: usize) -> Entry {
    let command = Command {
        internal: true,
        request: Some(Request::Put(PutRequest {
            key: format!("key{index}").into(),
            value: vec![7; bytes].into(),
            ..PutRequest::default()
        })),
        ..Command::default()
    };
    Entry {
        index,
        term: Term(2),
        kind: Kind::Command,
        payload: command.encode_to_vec().into(),
    }
}

impl Follower {
    fn start(unapplied_bytes_max: usize) -> Follower {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), &store::Options::default(), family::ALL).unwrap());
        let machine = Arc::new(StateMachine::load(store.clone()).unwrap());
        let mut log = Log::open(store.clone(), 0).unwrap();
        let first = Configuration::of_voters([MEMBER, LEADER].map(|(node, life)| (node, life, Bytes::new())));
        let founding = Entry {
            index: 1,
            term: Term(1),
            kind: Kind::Configuration,
            payload: first.encode(),
        };
        let mut hard_state = HardState::new(MEMBER.1, false);
        hard_state.term = Term(1);
        log.write(std::slice::from_ref(&founding), Some(&hard_state))
            .unwrap();
        let restored = Restored {
            hard_state,
            base: Snapshot::default(),
            applied: 0,
            entries: vec![founding],
        };
        let (sent, answers) = channel();
        let gate = Arc::new(Gate::default());
        let clock = Arc::new(ManualClock::at(1_000_000));
        let raft = Raft::start(Parts {
            replica: Replica::new(Settings::new(GroupId(1), MEMBER.0, 1), restored).unwrap(),
            log,
            node: MEMBER.0,
            machine,
            store,
            staged: Arc::default(),
            network: Arc::new(Sent(sent)),
            publish: Box::new(|_, _| {}),
            applied: {
                let gate = gate.clone();
                Box::new(move |_| gate.pass())
            },
            role_changed: Box::new(|_| {}),
            replaced: Box::new(|_| {}),
            clock,
            tick: Duration::from_hours(1),
            metrics: Arc::new(Metrics::new("0")),
            retain: Retain { every: 1000, keep: 0 },
            unapplied_bytes_max,
            fail: Arc::new(|fatal| panic!("{fatal}")),
        });
        Follower {
            raft: raft.unwrap(),
            answers,
            gate,
            round: 0,
            _dir: dir,
        }
    }

    fn tell(&self, body: Body) {
        self.raft.deliver(vec![Message {
            group: GroupId(1),
            from: LEADER.0,
            to: MEMBER.0,
            from_incarnation: LEADER.1,
            to_incarnation: MEMBER.1,
            recovering: false,
            term: Term(2),
            body,
        }]);
    }

    /// Sends an entry after `matched`, all before it being committed; the index that the follower then holds.
    fn append(&mut self, matched: Index, bytes: usize) -> Index {
        let term = if matched == 1 { Term(1) } else { Term(2) };
        self.tell(Body::Append {
            previous: Position { term, index: matched },
            entries: vec![put(matched + 1, bytes)],
            commit: matched,
        });
        // The answer to the second one comes after whatever the entry has led to.
        let mut held = matched;
        for _ in 0..2 {
            self.round += 1;
            let round = self.round;
            self.tell(Body::Heartbeat {
                commit: matched,
                round,
            });
            loop {
                match self.answers.recv_timeout(LONG).unwrap().body {
                    Body::HeartbeatAnswer { round: answered } if answered == round => break,
                    Body::AppendAnswer { matched } => held = held.max(matched),
                    _ => {}
                }
            }
        }
        held
    }
}

#[tokio::test]
async fn a_follower_that_applies_slowly_takes_no_more_than_it_may_keep_in_memory() {
    let mut follower = Follower::start(4 << 20);
    let mut matched = 1;
    // The first one is only agreed on with the second, and so on.
    for _ in 0..20 {
        matched = follower.append(matched, 1 << 20);
    }
    assert!(
        (5..=8).contains(&matched),
        "{matched} entries of 1 MiB were taken"
    );
    assert_eq!(
        follower.raft.propose(Command::default()).map(drop),
        Err(Error::TooManyRequests)
    );

    follower.gate.open();
    while matched < 20 {
        tokio::time::timeout(LONG, follower.raft.applied_to(matched - 1))
            .await
            .unwrap()
            .unwrap();
        matched = follower.append(matched, 1 << 20);
    }
    assert_eq!(follower.raft.appended(), 20);
}
