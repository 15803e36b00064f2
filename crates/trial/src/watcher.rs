//! Watches of everything on one member: every revision once and in order, and each what everybody else says it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use chainfire::wire::etcdserverpb::watch_request::RequestUnion;
use chainfire::wire::etcdserverpb::{WatchCreateRequest, WatchRequest};
use chainfire::wire::mvccpb::Event;
use futures::{StreamExt as _, stream};

use crate::client::{self, Client};
use crate::findings::{Findings, Kind};
use crate::keys;
use crate::ledger::{Ledger, Write};

/// The first revision of a write; an empty store has revision 1.
const FIRST: i64 = 2;

/// Before a lost watch is opened again.
const PAUSE: Duration = Duration::from_millis(100);

/// A watch that is opened again, from where it was, whenever it is lost.
#[derive(Debug)]
pub(crate) struct Watcher {
    client: Client,
    who: String,
    ledger: Arc<Ledger>,
    findings: Arc<Findings>,
    /// The revision that comes next.
    next: AtomicI64,
    /// How often it was opened.
    opened: AtomicU64,
}

impl Watcher {
    /// A watch of everything from revision 1; `who` names it in findings.
    pub(crate) fn new(
        client: Client,
        who: String,
        ledger: Arc<Ledger>,
        findings: Arc<Findings>,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            who,
            ledger,
            findings,
            next: AtomicI64::new(FIRST),
            opened: AtomicU64::new(0),
        })
    }

    /// Its name in findings.
    pub(crate) fn who(&self) -> &str {
        &self.who
    }

    /// The last revision that it has had.
    pub(crate) fn last(&self) -> i64 {
        self.next.load(Ordering::Acquire) - 1
    }

    /// How often it had to be opened again.
    pub(crate) fn reopened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Watches until it is aborted, or broken.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut versions = HashMap::new();
        loop {
            // A lost stream is what faults are for; only what it delivers is judged.
            match self.stream(&mut versions).await {
                Ok(never) => match never {},
                Err(Broken::Lost) => tokio::time::sleep(PAUSE).await,
                Err(Broken::Wrong(text)) => {
                    self.findings
                        .add(Kind::WatchBroken, &format!("{}: {text}", self.who));
                    return;
                }
            }
        }
    }

    async fn stream(&self, versions: &mut HashMap<u64, i64>) -> Result<std::convert::Infallible, Broken> {
        let create = WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: self.next.load(Ordering::Acquire),
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        // The request side stays open: its end would end the watch.
        let requests = stream::iter([request]).chain(stream::pending());
        let mut replies = self
            .client
            .watch()
            .watch(requests)
            .await
            .map_err(|_| Broken::Lost)?
            .into_inner();
        self.opened.fetch_add(1, Ordering::Relaxed);
        while let Some(reply) = replies.message().await.map_err(|_| Broken::Lost)? {
            if reply.compact_revision != 0 {
                return Err(Broken::Wrong(format!(
                    "it was cancelled as compacted at {}, but nothing was compacted",
                    reply.compact_revision
                )));
            }
            if reply.canceled {
                return Err(Broken::Lost);
            }
            for event in reply.events {
                self.take(&event, versions)
                    .map_err(|error| Broken::Wrong(format!("{error:#}")))?;
            }
        }
        Err(Broken::Lost)
    }

    fn take(&self, event: &Event, versions: &mut HashMap<u64, i64>) -> Result<()> {
        let kv = event.kv.as_ref().context("an event without a key")?;
        let next = self.next.load(Ordering::Acquire);
        if kv.mod_revision != next {
            bail!("it delivered revision {} where {next} is due", kv.mod_revision);
        }
        let key = keys::number(&kv.key)
            .with_context(|| format!("revision {next} is of a key that nobody wrote: {:?}", kv.key))?;
        let version = versions.entry(key).or_default();
        *version += 1;
        if kv.version != *version {
            bail!(
                "revision {next} is version {} of key {key} where {version} is due",
                kv.version
            );
        }
        let value = client::parse(&kv.value).unwrap_or(0);
        self.ledger.told(next, Write { key, value }, &self.who);
        self.next.store(next + 1, Ordering::Release);
        Ok(())
    }
}

enum Broken {
    /// The stream ended; it is opened again.
    Lost,
    /// It delivered something that cannot be.
    Wrong(String),
}
