//! Puts, transactions, deletions and ranges, by clients that each have keys of their own and remember what they were promised.

use std::sync::Arc;

use bytes::Bytes;
use chainfire::mvcc::KeyRange;
use chainfire::wire::etcdserverpb::request_op::Request;
use chainfire::wire::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;

use crate::access::{Access, expected, pause};
use crate::history::{Promise, digest};
use crate::{World, count};

const CLIENTS: u64 = 8;
const KEYS: u32 = 200;

pub(crate) fn start_all(world: &Arc<World>, seed: u64) -> Vec<JoinHandle<Vec<Promise>>> {
    (0..CLIENTS)
        .map(|number| {
            let writer = Writer {
                world: world.clone(),
                random: StdRng::seed_from_u64(seed ^ (1000 + number)),
                prefix: format!("w/{number}/"),
                count: 0,
                promises: Vec::new(),
            };
            tokio::spawn(writer.run())
        })
        .collect()
}

struct Writer {
    world: Arc<World>,
    random: StdRng,
    prefix: String,
    count: u64,
    promises: Vec<Promise>,
}

impl Writer {
    async fn run(mut self) -> Vec<Promise> {
        let world = self.world.clone();
        let mut access = world.access.own().await;
        while !world.is_done() {
            if self.random.random_bool(0.001) {
                self.vanish(&access).await;
                access = world.access.own().await;
            }
            if let Err(status) = self.step(&access).await {
                expected(&status);
                pause().await;
            }
        }
        self.promises
    }

    fn key(&mut self) -> Bytes {
        format!("{}k{}", self.prefix, self.random.random_range(0..KEYS)).into()
    }

    fn put(&mut self) -> PutRequest {
        self.count += 1;
        let length = match self.random.random_range(0..1000) {
            0 => 200_000,
            1..10 => 10_000,
            _ => self.random.random_range(0..300),
        };
        PutRequest {
            key: self.key(),
            value: format!("{}:{}", self.count, "v".repeat(length)).into(),
            ..Default::default()
        }
    }

    fn promise(&mut self, revision: i64, put: &PutRequest) {
        self.promises.push(Promise {
            revision,
            key: put.key.clone(),
            value: Some(digest(&put.value)),
        });
    }

    async fn step(&mut self, access: &Access) -> Result<(), tonic::Status> {
        let mut kv = access.kv();
        let counts = self.world.clone();
        let counts = &counts.counts;
        match self.random.random_range(0..100) {
            0..60 => {
                let put = self.put();
                let answer = kv.put(put.clone()).await?.into_inner();
                self.promise(answer.header.unwrap().revision, &put);
                count(&counts.puts);
            }
            60..75 => {
                let mut puts: Vec<PutRequest> =
                    (0..self.random.random_range(1..20)).map(|_| self.put()).collect();
                puts.sort_by(|a, b| a.key.cmp(&b.key));
                puts.dedup_by(|a, b| a.key == b.key);
                let operation = |put: &PutRequest| RequestOp {
                    request: Some(Request::RequestPut(put.clone())),
                };
                let txn = TxnRequest {
                    success: puts.iter().map(operation).collect(),
                    ..Default::default()
                };
                let answer = kv.txn(txn).await?.into_inner();
                for put in &puts {
                    self.promise(answer.header.unwrap().revision, put);
                }
                count(&counts.transactions);
            }
            75..85 => {
                let key = self.key();
                // With its tens and hundreds.
                let range = KeyRange::prefix(&key);
                let delete = DeleteRangeRequest {
                    key: key.clone(),
                    range_end: range.end.unwrap(),
                    prev_kv: true,
                };
                let answer = kv.delete_range(delete).await?.into_inner();
                assert_eq!(answer.deleted as usize, answer.prev_kvs.len());
                for kv in &answer.prev_kvs {
                    self.promises.push(Promise {
                        revision: answer.header.unwrap().revision,
                        key: kv.key.clone(),
                        value: None,
                    });
                }
                count(&counts.deletes);
            }
            _ => {
                let range = KeyRange::prefix(self.prefix.as_bytes());
                let request = RangeRequest {
                    key: range.start,
                    range_end: range.end.unwrap(),
                    limit: self.random.random_range(0..50),
                    keys_only: self.random.random_bool(0.3),
                    count_only: self.random.random_bool(0.1),
                    sort_order: self.random.random_range(0..3),
                    sort_target: self.random.random_range(0..5),
                    ..Default::default()
                };
                let answer = kv.range(request.clone()).await?.into_inner();
                assert!(request.limit == 0 || answer.kvs.len() as i64 <= request.limit);
                assert!(answer.count <= i64::from(KEYS));
                count(&counts.ranges);
            }
        }
        Ok(())
    }

    /// Begins calls and leaves with its connection: what is written by them is nobody's promise.
    async fn vanish(&mut self, access: &Access) {
        let mut calls = Vec::new();
        for _ in 0..5 {
            let (mut kv, put) = (access.kv(), self.put());
            calls.push(tokio::spawn(async move { kv.put(put).await.map(drop) }));
        }
        tokio::task::yield_now().await;
        for call in calls {
            call.abort();
        }
    }
}
