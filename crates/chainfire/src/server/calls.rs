//! Counting calls, and telling slow ones.

use std::collections::HashMap;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use service::SharedClock;
use service::clock::Stopwatch;
use service::logs::Throttle;
use service::metrics::{Counter, Histogram};
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::deadline;
use crate::metrics::{CallLabels, HandledLabels, Metrics};

/// Requests that took longer are always logged, in milliseconds.
const SLOW_MS: u64 = 100;

/// Handles of one method, so that a call costs no look-up by label.
#[derive(Debug)]
struct Method {
    service: &'static str,
    started: Counter,
    ok: Counter,
    seconds: Histogram,
    newest: Throttle,
    newest_refused: Throttle,
    is_stream: bool,
}

/// Counters of all methods.
#[derive(Debug)]
pub struct Calls {
    methods: HashMap<&'static str, Method>,
    metrics: Arc<Metrics>,
    clock: SharedClock,
}

/// Methods of unary calls, by service.
const UNARY: &[(&str, &[&str])] = &[
    (
        "etcdserverpb.KV",
        &["Range", "Put", "DeleteRange", "Txn", "Compact"],
    ),
    (
        "etcdserverpb.Lease",
        &["LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases"],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            "MemberAdd",
            "MemberRemove",
            "MemberUpdate",
            "MemberList",
            "MemberPromote",
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            "Alarm",
            "Status",
            "Defragment",
            "Hash",
            "HashKV",
            "MoveLeader",
            "Downgrade",
        ],
    ),
    (
        "etcdserverpb.Auth",
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
    ),
    ("v3lockpb.Lock", &["Lock", "Unlock"]),
    (
        "v3electionpb.Election",
        &["Campaign", "Proclaim", "Leader", "Resign"],
    ),
];

/// Methods of streams.
const STREAMS: &[(&str, &str, &str)] = &[
    ("etcdserverpb.Watch", "Watch", "bidi_stream"),
    ("etcdserverpb.Lease", "LeaseKeepAlive", "bidi_stream"),
    ("etcdserverpb.Maintenance", "Snapshot", "server_stream"),
    ("v3electionpb.Election", "Observe", "server_stream"),
];

/// True for the paths of calls whose request is a stream of messages.
pub(super) fn is_sent_a_stream(path: &str) -> bool {
    let (service, method) = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .unwrap_or_default();
    STREAMS.contains(&(service, method, "bidi_stream"))
}

impl Calls {
    /// Counters for every method there is.
    pub fn new(metrics: Arc<Metrics>, clock: SharedClock) -> Calls {
        let mut methods = HashMap::new();
        let unary = UNARY
            .iter()
            .flat_map(|(service, names)| names.iter().map(move |name| (*service, *name, "unary")));
        for (service, name, grpc_type) in unary.chain(STREAMS.iter().copied()) {
            let labels = CallLabels {
                grpc_type,
                grpc_service: service.to_owned(),
                grpc_method: name.to_owned(),
            };
            let handled = HandledLabels {
                grpc_service: service.to_owned(),
                grpc_method: name.to_owned(),
                grpc_code: code_name(Code::Ok),
            };
            let method = Method {
                service,
                started: metrics.grpc_started.get_or_create(&labels).clone(),
                ok: metrics.grpc_handled.get_or_create(&handled).clone(),
                seconds: metrics.grpc_seconds.get_or_create(&labels).clone(),
                newest: Throttle::new(Duration::from_secs(1)),
                newest_refused: Throttle::new(Duration::from_secs(1)),
                is_stream: grpc_type != "unary",
            };
            methods.insert(name, method);
        }
        Calls {
            methods,
            metrics,
            clock,
        }
    }

    /// Carries out a unary call and counts it.
    pub async fn count<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<tonic::Response<T>, Status> {
        let mut begun = Begun::new(self, name);
        let result = call.await;
        begun.end(result.as_ref().err().map_or(Code::Ok, Status::code));
        result.map(tonic::Response::new)
    }

    /// Begins a stream of replies and counts it; it ends when its last reply is taken, or when it is dropped.
    pub(super) async fn count_stream<T, S>(
        self: &Arc<Calls>,
        name: &'static str,
        begin: impl Future<Output = Result<S, Status>>,
    ) -> Result<tonic::Response<Replies<T>>, Status>
    where
        T: 'static,
        S: Stream<Item = Result<T, Status>> + Send + Unpin + 'static,
    {
        let mut begun = Begun::new(self.clone(), name);
        let replies = begin.await.inspect_err(|status| begun.end(status.code()))?;
        Ok(tonic::Response::new(Box::pin(Counted { replies, begun })))
    }

    fn ended(&self, name: &'static str, took: Duration, code: Code) {
        let Some(method) = self.methods.get(name) else {
            return;
        };
        method.seconds.observe(took.as_secs_f64());
        if code == Code::Ok {
            method.ok.inc();
        } else {
            self.failed(name, method, code);
        }
        if method.is_stream {
            tracing::debug!(target: "chainfire_api", code = code_name(code), "Ended {} stream", spoken(name));
        } else if code == Code::Ok {
            self.tell(name, method, took);
        } else {
            self.tell_refused(name, method, code, took);
        }
    }

    fn failed(&self, name: &str, method: &Method, code: Code) {
        let labels = HandledLabels {
            grpc_service: method.service.to_owned(),
            grpc_method: name.to_owned(),
            grpc_code: code_name(code),
        };
        self.metrics.grpc_handled.get_or_create(&labels).inc();
    }

    /// The same for a call that was refused. What a client asked wrongly is its own affair; a login that fails, a permission
    /// that is missing and a server that cannot are worth a warning.
    fn tell_refused(&self, name: &str, method: &Method, code: Code, took: Duration) {
        let ms = took.as_millis() as u64;
        if ms <= SLOW_MS && !method.newest_refused.permit(self.clock.now()) {
            return;
        }
        let latency = format_args!("{ms}ms").to_string();
        let held_back = method.newest_refused.held_back_field();
        let code_name = code_name(code);
        let of_the_client = matches!(
            code,
            Code::InvalidArgument
                | Code::NotFound
                | Code::OutOfRange
                | Code::FailedPrecondition
                | Code::Cancelled
                | Code::DeadlineExceeded
        );
        if of_the_client && name != "Authenticate" {
            tracing::info!(target: "chainfire_api", latency = %latency, code = code_name, held_back, "Refused {} request", spoken(name));
        } else {
            tracing::warn!(target: "chainfire_api", latency = %latency, code = code_name, held_back, "Refused {} request", spoken(name));
        }
    }

    /// One line for the newest call of a method each second at info, and one for every slow call.
    fn tell(&self, name: &str, method: &Method, took: Duration) {
        let ms = took.as_millis() as u64;
        if ms > SLOW_MS || method.newest.permit(self.clock.now()) {
            let latency = format_args!("{ms}ms").to_string();
            let held_back = method.newest.held_back_field();
            tracing::info!(target: "chainfire_api", latency = %latency, held_back, "Handled {} request", spoken(name));
        } else {
            tracing::debug!(target: "chainfire_api", latency_us = took.as_micros() as u64, "Handled {} request", spoken(name));
        }
    }
}

/// A call under way. One that is dropped without having ended was given up by its client, or its time has passed.
struct Begun<C: Deref<Target = Calls>> {
    calls: C,
    name: &'static str,
    watch: Stopwatch,
    until: Option<Instant>,
    has_ended: bool,
}

impl<C: Deref<Target = Calls>> Begun<C> {
    fn new(calls: C, name: &'static str) -> Begun<C> {
        if let Some(method) = calls.methods.get(name) {
            method.started.inc();
        }
        Begun {
            calls,
            name,
            watch: Stopwatch::start(),
            until: deadline::of_this_call(),
            has_ended: false,
        }
    }

    /// It has ended like this; only the first end counts.
    fn end(&mut self, code: Code) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.calls.ended(self.name, self.watch.elapsed(), code);
        }
    }
}

impl<C: Deref<Target = Calls>> Drop for Begun<C> {
    fn drop(&mut self) {
        let is_late = self.until.is_some_and(|until| until <= Instant::now());
        self.end(if is_late {
            Code::DeadlineExceeded
        } else {
            Code::Cancelled
        });
    }
}

/// The replies of a call that answers with a stream.
pub(super) type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Counted<S> {
    replies: S,
    begun: Begun<Arc<Calls>>,
}

impl<T, S: Stream<Item = Result<T, Status>> + Unpin> Stream for Counted<S> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.replies).poll_next(cx));
        match &next {
            None => self.begun.end(Code::Ok),
            Some(Err(status)) => self.begun.end(status.code()),
            Some(Ok(_)) => {}
        }
        Poll::Ready(next)
    }
}

/// `DeleteRange` as people say it: `delete range`.
fn spoken(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    let mut last_upper = true;
    for letter in name.chars() {
        if letter.is_uppercase() && !last_upper {
            words.push(' ');
        }
        last_upper = letter.is_uppercase();
        words.extend(letter.to_lowercase());
    }
    words
}

/// As etcd spells status codes, in its metrics and in texts.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_spoken_in_words() {
        assert_eq!(spoken("Put"), "put");
        assert_eq!(spoken("DeleteRange"), "delete range");
        assert_eq!(spoken("HashKV"), "hash kv");
    }
}
