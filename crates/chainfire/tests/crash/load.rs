//! Clients that write until the server goes away.
//!
//! Each has keys of its own and does one thing at a time; a counter that all of them swap makes them meet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::lease_client::LeaseClient;
use chainfire::wire::etcdserverpb::response_op::Response;
use chainfire::wire::etcdserverpb::{CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, TxnResponse};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::history::History;
use crate::ledger::{Ledger, Operation, delete, put, swap};

const CLIENTS: usize = 8;
/// Keys of each client. Few, so that they are written over and over.
const KEYS: u32 = 12;
const COUNTER: &str = "shared/counter";

/// Clients at work.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    acknowledged: AtomicU64,
    ledger: Mutex<Ledger>,
}

impl Load {
    /// Operations answered so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until every client has noticed that the server is gone.
    pub(crate) async fn end(self) -> Ledger {
        for client in self.clients {
            client.await.unwrap();
        }
        std::mem::take(&mut *self.shared.ledger.lock().unwrap())
    }
}

/// Starts the clients of a round.
pub(crate) async fn start(endpoint: &str, round: u64, seed: u64, history: &History) -> Load {
    let shared = Arc::new(Shared::default());
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let channel = Channel::from_shared(endpoint.to_owned())
            .unwrap()
            .connect()
            .await
            .unwrap();
        let client = Client {
            kv: KvClient::new(channel.clone()),
            leases: LeaseClient::new(channel),
            shared: shared.clone(),
            random: StdRng::seed_from_u64(seed.wrapping_add(number as u64)),
            name: format!("c{number}"),
            tag: format!("{round}.{number}"),
            count: 0,
            counter: String::new(),
            lease: None,
            compactable: (number == 0).then(|| history.compactable()),
        };
        clients.push(tokio::spawn(client.run()));
    }
    Load { shared, clients }
}

struct Client {
    kv: KvClient<Channel>,
    leases: LeaseClient<Channel>,
    shared: Arc<Shared>,
    random: StdRng,
    name: String,
    /// Round and client: no value is ever written twice.
    tag: String,
    count: u64,
    /// What this client last saw in the shared counter.
    counter: String,
    /// A lease of its own that is not revoked yet.
    lease: Option<i64>,
    /// Revisions that may be compacted, for the one client that does.
    compactable: Option<(i64, i64)>,
}

impl Client {
    async fn run(mut self) {
        loop {
            let operation = self.choose();
            if let Err(status) = self.carry_out(&operation).await {
                assert!(
                    matches!(
                        status.code(),
                        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
                    ),
                    "{operation:?} was refused: {status:?}"
                );
                self.shared.ledger.lock().unwrap().unknown.push(operation);
                return;
            }
            self.shared.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn value(&mut self) -> String {
        self.count += 1;
        let padding = self.random.random_range(0..600);
        format!("{}.{}:{}", self.tag, self.count, "x".repeat(padding))
    }

    fn key(&mut self) -> String {
        let group = ["a", "b"][self.random.random_range(0..2)];
        format!("{}/{group}/{}", self.name, self.random.random_range(0..KEYS))
    }

    fn choose(&mut self) -> Operation {
        match self.random.random_range(0..100) {
            0..50 => {
                let lease = match self.lease {
                    Some(id) if self.random.random_bool(0.3) => id,
                    _ => 0,
                };
                let (key, value) = (self.key(), self.value());
                Operation::Put { key, value, lease }
            }
            50..75 => {
                let value = self.value();
                let mut puts = vec![(COUNTER.to_owned(), value.clone())];
                for place in 0..self.random.random_range(1..5) {
                    puts.push((format!("{}/swapped/{place}", self.name), value.clone()));
                }
                Operation::Swap {
                    key: COUNTER.to_owned(),
                    old: self.counter.clone(),
                    puts,
                }
            }
            75..88 => {
                let group = ["a", "b", "swapped"][self.random.random_range(0..3)];
                Operation::Delete {
                    prefix: format!("{}/{group}/", self.name),
                }
            }
            88..96 => match self.lease {
                Some(id) => Operation::Revoke { id },
                None => Operation::Grant {
                    id: self.random.random_range(1..i64::MAX),
                },
            },
            _ => match self.compactable {
                Some((from, to)) if from <= to => {
                    let revision = self.random.random_range(from..=to);
                    self.compactable = Some((revision + 1, to));
                    Operation::Compact { revision }
                }
                _ => {
                    let (key, value) = (self.key(), self.value());
                    Operation::Put { key, value, lease: 0 }
                }
            },
        }
    }

    async fn carry_out(&mut self, operation: &Operation) -> Result<(), Status> {
        let (revision, changed) = match operation {
            Operation::Put { key, value, lease } => {
                let answer = self.kv.put(put(key, value, *lease)).await?.into_inner();
                (answer.header.unwrap().revision, true)
            }
            Operation::Delete { prefix } => {
                let answer = self.kv.delete_range(delete(prefix)).await?.into_inner();
                (answer.header.unwrap().revision, answer.deleted > 0)
            }
            Operation::Swap { key, old, puts } => {
                let answer = self.kv.txn(swap(key, old, puts)).await?.into_inner();
                self.counter = if answer.succeeded {
                    puts[0].1.clone()
                } else {
                    read_of(&answer)
                };
                (answer.header.unwrap().revision, answer.succeeded)
            }
            Operation::Grant { id } => {
                let request = LeaseGrantRequest {
                    id: *id,
                    ttl: 100_000,
                };
                let answer = self.leases.lease_grant(request).await?.into_inner();
                assert_eq!(answer.id, *id);
                self.lease = Some(*id);
                self.shared.ledger.lock().unwrap().granted.insert(*id);
                return Ok(());
            }
            Operation::Revoke { id } => {
                let request = LeaseRevokeRequest { id: *id };
                let answer = self.leases.lease_revoke(request).await?.into_inner();
                self.lease = None;
                let revision = answer.header.unwrap().revision;
                let mut ledger = self.shared.ledger.lock().unwrap();
                ledger.revoked.insert(*id);
                ledger.revocations.push((revision, operation.clone()));
                return Ok(());
            }
            Operation::Compact { revision } => {
                let request = CompactionRequest {
                    revision: *revision,
                    physical: self.random.random_bool(0.5),
                };
                self.kv.compact(request).await?;
                let mut ledger = self.shared.ledger.lock().unwrap();
                ledger.compacted = ledger.compacted.max(*revision);
                return Ok(());
            }
        };
        let mut ledger = self.shared.ledger.lock().unwrap();
        if changed {
            ledger.changed(revision, operation.clone());
        } else {
            ledger.unchanged.push((revision, operation.clone()));
        }
        Ok(())
    }
}

/// The value that the failure branch of a swap read.
fn read_of(answer: &TxnResponse) -> String {
    match &answer.responses[0].response {
        Some(Response::ResponseRange(range)) => range
            .kvs
            .first()
            .map_or(String::new(), |kv| String::from_utf8(kv.value.to_vec()).unwrap()),
        other => panic!("a failed swap answered {other:?}"),
    }
}
