//! A small client for state that several processes decide on: read a prefix, change it if it is as it was read, hold a lease, hear of changes.
//!
//! A [`Store`] keeps one connection, to the first endpoint that answers, and goes on to the next when that one fails. Reads are asked again
//! there. A [`Change`] is never sent twice: when its answer is lost nobody knows whether it happened, and the caller has to say what
//! that means ([`Error::Unknown`]).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::wire::etcdserverpb as pb;
use crate::wire::etcdserverpb::kv_client::KvClient;
use crate::wire::etcdserverpb::lease_client::LeaseClient;
use crate::wire::etcdserverpb::watch_client::WatchClient;
use crate::wire::mvccpb;

/// Pings find a dead server under a stream that is silent anyway. etcd refuses them more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(4);
/// Of one answer.
const ANSWER_LIMIT: usize = 64 << 20;

/// A connection to an etcd v3 endpoint, or to several of one cluster.
#[derive(Debug)]
pub struct Store {
    endpoints: Vec<Endpoint>,
    timeout: Duration,
    /// Which endpoint is asked, and the connection to it.
    current: Mutex<(usize, Option<Channel>)>,
}

/// Why something was not done, or perhaps not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An endpoint cannot be used at all.
    #[error("{endpoint}: {reason}")]
    Endpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answered. Nothing was changed.
    #[error("no answer from {endpoints}: {reason}")]
    Unreachable {
        /// All that were asked.
        endpoints: String,
        /// The last one's error.
        reason: String,
    },
    /// A change was sent and no answer came: it may have happened, or may still happen.
    #[error("it is not known whether the change was made: {0}")]
    Unknown(String),
    /// The server refused. Nothing was changed.
    #[error("refused: {0}")]
    Refused(String),
}

/// A key's value at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub value: Bytes,
    /// The revision at which it was written last.
    pub revision: i64,
    /// The lease it hangs on; 0 for none.
    pub lease: i64,
}

/// All keys of a prefix at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The store's revision at that moment.
    pub revision: i64,
    /// By key.
    pub entries: BTreeMap<String, Entry>,
}

/// What is to be changed, and what it rests on: all of it happens, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    unchanged: Vec<(String, i64)>,
    puts: Vec<(String, Bytes, i64)>,
    deletes: Vec<String>,
}

/// What became of a [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It happened, at this revision.
    Done(i64),
    /// Something it rests on was not as it said; nothing happened.
    Conflict,
}

impl Change {
    /// Only if the key was last written at that revision; 0 if it must not exist.
    #[must_use]
    pub fn if_at(mut self, key: impl Into<String>, revision: i64) -> Change {
        self.unchanged.push((key.into(), revision));
        self
    }

    /// Writes a key.
    #[must_use]
    pub fn put(self, key: impl Into<String>, value: impl Into<Bytes>) -> Change {
        self.put_with_lease(key, value, 0)
    }

    /// Writes a key that goes when the lease does.
    #[must_use]
    pub fn put_with_lease(mut self, key: impl Into<String>, value: impl Into<Bytes>, lease: i64) -> Change {
        self.puts.push((key.into(), value.into(), lease));
        self
    }

    /// Deletes a key.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Change {
        self.deletes.push(key.into());
        self
    }

    /// What it rests on: keys, and the revisions at which they must have been written last.
    pub fn conditions(&self) -> impl Iterator<Item = (&str, i64)> {
        self.unchanged
            .iter()
            .map(|(key, revision)| (key.as_str(), *revision))
    }

    /// What it writes: keys, values, leases.
    pub fn puts(&self) -> impl Iterator<Item = (&str, &Bytes, i64)> {
        self.puts
            .iter()
            .map(|(key, value, lease)| (key.as_str(), value, *lease))
    }

    /// What it deletes.
    pub fn deletes(&self) -> impl Iterator<Item = &str> {
        self.deletes.iter().map(String::as_str)
    }

    fn into_request(self) -> pb::TxnRequest {
        use pb::compare::{CompareResult, CompareTarget, TargetUnion};
        use pb::request_op::Request;
        let compare = self.unchanged.into_iter().map(|(key, revision)| pb::Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: key.into(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::ModRevision(revision)),
        });
        let puts = self.puts.into_iter().map(|(key, value, lease)| {
            Request::RequestPut(pb::PutRequest {
                key: key.into(),
                value,
                lease,
                ..pb::PutRequest::default()
            })
        });
        let deletes = self.deletes.into_iter().map(|key| {
            Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: key.into(),
                ..pb::DeleteRangeRequest::default()
            })
        });
        pb::TxnRequest {
            compare: compare.collect(),
            success: puts
                .chain(deletes)
                .map(|request| pb::RequestOp {
                    request: Some(request),
                })
                .collect(),
            failure: Vec::new(),
        }
    }
}

impl Store {
    /// Of these endpoints, `http://` or `https://`, which are asked in their order. Nothing is connected yet.
    ///
    /// `timeout` limits the wait for one answer of one endpoint.
    pub fn new(
        endpoints: &[String],
        tls: Option<&ClientTlsConfig>,
        timeout: Duration,
    ) -> Result<Store, Error> {
        let endpoints = endpoints.iter().map(|text| {
            let wrong = |reason: String| Error::Endpoint {
                endpoint: text.clone(),
                reason,
            };
            let endpoint = Endpoint::from_shared(text.clone())
                .map_err(|error| wrong(chain(&error)))?
                .connect_timeout(timeout)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT);
            match (text.starts_with("https://"), tls) {
                (true, Some(tls)) => endpoint
                    .tls_config(tls.clone())
                    .map_err(|error| wrong(chain(&error))),
                (true, None) => Err(wrong("needs the certificate of an authority to trust".to_owned())),
                (false, _) => Ok(endpoint),
            }
        });
        let endpoints = endpoints.collect::<Result<Vec<Endpoint>, Error>>()?;
        if endpoints.is_empty() {
            return Err(Error::Endpoint {
                endpoint: String::new(),
                reason: "no endpoint is given".to_owned(),
            });
        }
        Ok(Store {
            endpoints,
            timeout,
            current: Mutex::new((0, None)),
        })
    }

    /// The same endpoints over connections of its own, with another limit for one answer.
    ///
    /// For what has to be done by a certain time: it leaves an endpoint that hangs early enough to ask the next one.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Store {
        let endpoints = self.endpoints.iter().cloned();
        Store {
            endpoints: endpoints
                .map(|endpoint| endpoint.connect_timeout(timeout))
                .collect(),
            timeout,
            current: Mutex::new((0, None)),
        }
    }

    /// All keys that begin with `prefix`, as the cluster has agreed on them at a moment after the call.
    pub async fn read(&self, prefix: &str) -> Result<Snapshot, Error> {
        let request = pb::RangeRequest {
            key: prefix.to_owned().into(),
            range_end: end_of(prefix).into(),
            ..pb::RangeRequest::default()
        };
        let answer = self
            .ask(|channel| {
                let request = request.clone();
                async move {
                    let mut kv = KvClient::new(channel).max_decoding_message_size(ANSWER_LIMIT);
                    kv.range(request).await
                }
            })
            .await?;
        Ok(Snapshot {
            revision: answer.header.as_ref().map_or(0, |header| header.revision),
            entries: answer.kvs.into_iter().map(entry).collect(),
        })
    }

    /// Makes a change if everything is as it says.
    pub async fn commit(&self, change: Change) -> Result<Outcome, Error> {
        let (at, channel) = self.channel().await?;
        let mut kv = KvClient::new(channel);
        let request = kv.txn(change.into_request());
        let answer = match tokio::time::timeout(self.timeout, request).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => {
                if !lost(&status) {
                    return Err(Error::Refused(status.message().to_owned()));
                }
                self.leave(at);
                return Err(Error::Unknown(status.message().to_owned()));
            }
            Err(_elapsed) => {
                self.leave(at);
                return Err(Error::Unknown(format!("no answer within {:?}", self.timeout)));
            }
        };
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        Ok(if answer.succeeded {
            Outcome::Done(revision)
        } else {
            Outcome::Conflict
        })
    }

    /// A lease that lives for so many seconds without renewal. One that nobody heard of ends by itself.
    pub async fn grant(&self, seconds: i64) -> Result<i64, Error> {
        let answer = self
            .ask(|channel| async move {
                let request = pb::LeaseGrantRequest { ttl: seconds, id: 0 };
                LeaseClient::new(channel).lease_grant(request).await
            })
            .await?;
        Ok(answer.id)
    }

    /// Renews a lease. Answers whether it still lived.
    pub async fn renew(&self, lease: i64) -> Result<bool, Error> {
        let mut answers = self
            .ask(|channel| async move {
                let request = tokio_stream::once(pb::LeaseKeepAliveRequest { id: lease });
                LeaseClient::new(channel).lease_keep_alive(request).await
            })
            .await?;
        match tokio::time::timeout(self.timeout, answers.message()).await {
            Ok(Ok(answer)) => Ok(answer.is_some_and(|answer| answer.ttl > 0)),
            Ok(Err(status)) => Err(self.unreachable(status.message())),
            Err(_elapsed) => Err(self.unreachable(&format!("no answer within {:?}", self.timeout))),
        }
    }

    /// Everything that happens to keys that begin with `prefix`, from that revision on.
    pub async fn watch(&self, prefix: &str, from: i64) -> Result<Watch, Error> {
        let create = pb::WatchCreateRequest {
            key: prefix.to_owned().into(),
            range_end: end_of(prefix).into(),
            start_revision: from,
            ..pb::WatchCreateRequest::default()
        };
        let request = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        let answers = self
            .ask(|channel| {
                let request = request.clone();
                async move {
                    let mut watch = WatchClient::new(channel).max_decoding_message_size(ANSWER_LIMIT);
                    // The stream of requests stays open: its end would end the watch.
                    let requests =
                        tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
                    watch.watch(requests).await
                }
            })
            .await?;
        Ok(Watch { answers })
    }

    /// Asks the endpoints in turn, from the one that answered last.
    async fn ask<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut last = String::new();
        for _ in &self.endpoints {
            let (at, channel) = match self.connect().await {
                Ok(connected) => connected,
                Err(reason) => {
                    last = reason;
                    continue;
                }
            };
            match tokio::time::timeout(self.timeout, call(channel)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if !lost(&status) => return Err(Error::Refused(status.message().to_owned())),
                Ok(Err(status)) => status.message().clone_into(&mut last),
                Err(_elapsed) => last = format!("no answer within {:?}", self.timeout),
            }
            self.leave(at);
        }
        Err(self.unreachable(&last))
    }

    /// A connection to the first endpoint that takes one.
    async fn channel(&self) -> Result<(usize, Channel), Error> {
        let mut last = String::new();
        for _ in &self.endpoints {
            match self.connect().await {
                Ok(connected) => return Ok(connected),
                Err(reason) => last = reason,
            }
        }
        Err(self.unreachable(&last))
    }

    /// The connection there is, or a new one to the endpoint whose turn it is.
    async fn connect(&self) -> Result<(usize, Channel), String> {
        let (at, channel) = self.current.lock().expect("nobody panics holding it").clone();
        if let Some(channel) = channel {
            return Ok((at, channel));
        }
        let connecting = self.endpoints[at].connect();
        let reason = match tokio::time::timeout(self.timeout, connecting).await {
            Ok(Ok(channel)) => {
                *self.current.lock().expect("nobody panics holding it") = (at, Some(channel.clone()));
                return Ok((at, channel));
            }
            Ok(Err(error)) => chain(&error),
            Err(_elapsed) => format!("no connection within {:?}", self.timeout),
        };
        self.leave(at);
        Err(format!("{}: {reason}", self.endpoints[at].uri()))
    }

    /// The next endpoint's turn, unless somebody else has gone on already.
    fn leave(&self, at: usize) {
        let mut current = self.current.lock().expect("nobody panics holding it");
        if current.0 == at {
            *current = ((at + 1) % self.endpoints.len(), None);
        }
    }

    fn unreachable(&self, reason: &str) -> Error {
        let endpoints: Vec<String> = self
            .endpoints
            .iter()
            .map(|endpoint| endpoint.uri().to_string())
            .collect();
        Error::Unreachable {
            endpoints: endpoints.join(", "),
            reason: reason.to_owned(),
        }
    }
}

/// A stream of changes.
#[derive(Debug)]
pub struct Watch {
    answers: Streaming<pb::WatchResponse>,
}

/// Keys that changed in one or several revisions; without a value they were deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The store's revision when this was sent.
    pub revision: i64,
    /// In their order.
    pub keys: Vec<(String, Option<Entry>)>,
}

impl Watch {
    /// The next changes. After an error the stream is over; read again, and watch from there.
    pub async fn next(&mut self) -> Result<Changes, Error> {
        loop {
            let answer = match self.answers.message().await {
                Ok(Some(answer)) => answer,
                Ok(None) => return Err(Error::Unknown("the watch has ended".to_owned())),
                Err(status) => return Err(Error::Unknown(status.message().to_owned())),
            };
            if answer.canceled {
                return Err(Error::Refused(answer.cancel_reason));
            }
            if answer.events.is_empty() {
                continue;
            }
            let keys = answer.events.into_iter().filter_map(|event| {
                let deleted = event.r#type() == mvccpb::event::EventType::Delete;
                let (key, entry) = entry(event.kv?);
                Some((key, (!deleted).then_some(entry)))
            });
            return Ok(Changes {
                keys: keys.collect(),
                revision: answer.header.map_or(0, |header| header.revision),
            });
        }
    }
}

fn entry(kv: mvccpb::KeyValue) -> (String, Entry) {
    let entry = Entry {
        value: kv.value,
        revision: kv.mod_revision,
        lease: kv.lease,
    };
    (String::from_utf8_lossy(&kv.key).into_owned(), entry)
}

/// The first key after all that begin with `prefix`.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // All keys: etcd's way of saying that there is no end.
    vec![0]
}

/// Whether the answer to a request was lost, rather than given.
fn lost(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal
    )
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(end_of("/pgaf/"), b"/pgaf0");
        assert_eq!(end_of(""), [0]);
    }

    #[test]
    fn what_cannot_be_an_endpoint_is_refused() {
        let wrong = |endpoint: &str| {
            Store::new(&[endpoint.to_owned()], None, Duration::from_secs(1)).expect_err("refused")
        };
        assert!(matches!(wrong("not a url"), Error::Endpoint { .. }));
        assert!(wrong("https://127.0.0.1:1").to_string().contains("authority"));
        assert!(Store::new(&[], None, Duration::from_secs(1)).is_err());
    }
}
