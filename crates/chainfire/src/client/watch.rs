//! `watch`: prints changes as they happen, and goes on where it was when the connection is lost.
//!
//! What is printed last decides where to resume: the revision after the newest event or progress notice, or after the one at
//! which the watch was created. All events of one revision come in one reply (fragments are not asked for), so resuming
//! neither repeats nor loses one.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use tokio_stream::StreamExt as _;

use super::argument;
use super::cli::Context;
use super::connection::Session;
use super::failure::{Failure, Result};
use super::interrupt::Interrupt;
use super::kv;
use super::output::Printer;
use crate::wire::etcdserverpb::watch_create_request::FilterType;
use crate::wire::etcdserverpb::watch_request::RequestUnion;
use crate::wire::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};

/// Wait before the first attempt to connect again; doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Put,
    Delete,
}

/// Watch arguments.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Key to watch, or first key of a range
    #[arg(value_parser = argument::bytes(), allow_negative_numbers = true)]
    key: Bytes,
    /// End of the range; not part of it
    #[arg(value_parser = argument::bytes(), allow_negative_numbers = true, conflicts_with = "prefix")]
    end: Option<Bytes>,
    /// Every key that starts with KEY
    #[arg(long)]
    prefix: bool,
    /// Start with the changes of this revision instead of the next
    #[arg(long, value_name = "REVISION", value_parser = argument::revision, default_value_t = 0, hide_default_value = true)]
    rev: i64,
    /// Print the pair as it was before, too
    #[arg(long)]
    prev_kv: bool,
    /// Print the revision reached now and then, when nothing happens
    #[arg(long)]
    progress_notify: bool,
    /// Leave these events out
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    filter: Vec<Kind>,
}

impl Watch {
    fn request(self) -> WatchCreateRequest {
        let (key, range_end) = kv::range(self.key, self.end, self.prefix, false);
        let leave_out = |kind| match kind {
            Kind::Put => FilterType::Noput.into(),
            Kind::Delete => FilterType::Nodelete.into(),
        };
        WatchCreateRequest {
            key,
            range_end,
            start_revision: self.rev,
            progress_notify: self.progress_notify,
            filters: self.filter.into_iter().map(leave_out).collect(),
            prev_kv: self.prev_kv,
            ..Default::default()
        }
    }
}

pub(super) async fn watch(arguments: Watch, context: &mut Context) -> Result<()> {
    let mut interrupt = Interrupt::listen()?;
    tokio::select! {
        result = follow(arguments.request(), context) => result,
        _ = interrupt.wait() => Ok(()),
    }
}

/// How far a watch has come.
struct Progress {
    /// Asked on each connection; its start revision moves on.
    request: WatchCreateRequest,
    /// Whether a server ever accepted the watch: only then is there something to go on with.
    accepted: bool,
    /// Wait before the next attempt to connect.
    pause: Duration,
}

/// Watches, over as many connections as it takes.
async fn follow(request: WatchCreateRequest, context: &mut Context) -> Result<()> {
    let mut progress = Progress {
        request,
        accepted: false,
        pause: PAUSE_FIRST,
    };
    loop {
        let ended = match context.open().await {
            Ok(session) => one_stream(&session, &mut progress, &mut context.printer).await,
            Err(failure) => Err(failure),
        };
        match ended {
            Err(failure) if failure.is_transient() && progress.accepted => {
                // Said once for each loss, not for every attempt.
                if progress.pause == PAUSE_FIRST {
                    let reason = failure.text().unwrap_or_default();
                    let text = format!(
                        "watch: {reason}; going on at revision {}",
                        progress.request.start_revision
                    );
                    context.note(&text);
                }
            }
            ended => return ended,
        }
        tokio::time::sleep(progress.pause).await;
        progress.pause = (progress.pause * 2).min(PAUSE_LONGEST);
    }
}

/// Watches over one connection until it ends.
async fn one_stream(session: &Session, progress: &mut Progress, printer: &mut Printer) -> Result<()> {
    let create = RequestUnion::CreateRequest(progress.request.clone());
    let first = tokio_stream::once(WatchRequest {
        request_union: Some(create),
    });
    // The server ends the watch when this half of the stream ends, so it never does.
    let requests = first.chain(tokio_stream::pending());
    let mut client = session.watch();
    let mut replies = session.ask(client.watch(requests)).await?;
    loop {
        let reply = match replies.message().await {
            Ok(Some(reply)) => reply,
            Ok(None) => {
                return Err(Failure::unreachable(format!(
                    "{}: the server ended the stream",
                    session.endpoint
                )));
            }
            Err(status) => return Err(Failure::of_status(&status, &session.endpoint)),
        };
        if reply.canceled {
            return Err(canceled(&reply));
        }
        progress.accepted = true;
        progress.pause = PAUSE_FIRST;
        print(&reply, printer)?;
        progress.request.start_revision = next_revision(progress.request.start_revision, &reply);
    }
}

/// Where to go on after a reply, having asked for changes from `start` on (0: from the next one).
fn next_revision(start: i64, reply: &WatchResponse) -> i64 {
    let newest = reply
        .events
        .last()
        .and_then(|event| event.kv.as_ref())
        .map(|pair| pair.mod_revision);
    match newest {
        Some(newest) => newest + 1,
        // History before the revision at which the watch was created is still to come.
        None if reply.created && start > 0 => start,
        None => start.max(reply.header.as_ref().map_or(0, |header| header.revision) + 1),
    }
}

fn canceled(reply: &WatchResponse) -> Failure {
    match (reply.compact_revision, reply.cancel_reason.as_str()) {
        (0, "") => Failure::refused("etcdserver: watch canceled"),
        (0, reason) => Failure::refused(reason),
        (compacted, _) => Failure::refused(format!(
            "etcdserver: mvcc: required revision has been compacted (history begins at revision {compacted})"
        )),
    }
}

fn print(reply: &WatchResponse, printer: &mut Printer) -> Result<()> {
    if reply.created {
        return Ok(());
    }
    if reply.events.is_empty() && !printer.is_json() {
        let revision = reply.header.as_ref().map_or(0, |header| header.revision);
        return printer.text(|text| text.line(format_args!("progress notify: {revision}")));
    }
    printer.reply(reply, |text| {
        for event in &reply.events {
            text.line(event.r#type().as_str_name());
            if let Some(before) = &event.prev_kv {
                text.pair(before, false);
            }
            if let Some(pair) = &event.kv {
                text.pair(pair, false);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::etcdserverpb::ResponseHeader;
    use crate::wire::mvccpb::{Event, KeyValue};

    fn reply(created: bool, revision: i64, events: &[i64]) -> WatchResponse {
        let event = |mod_revision: &i64| Event {
            kv: Some(KeyValue {
                mod_revision: *mod_revision,
                ..Default::default()
            }),
            ..Default::default()
        };
        WatchResponse {
            header: Some(ResponseHeader {
                revision,
                ..Default::default()
            }),
            created,
            events: events.iter().map(event).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn resuming_neither_repeats_nor_loses() {
        // From the next change: what was there at creation is not asked again.
        assert_eq!(next_revision(0, &reply(true, 9, &[])), 10);
        // From the past: nothing is skipped by the creation.
        assert_eq!(next_revision(3, &reply(true, 9, &[])), 3);
        // From the future.
        assert_eq!(next_revision(30, &reply(true, 9, &[])), 30);
        // Events count, not the revision of the store while they were sent.
        assert_eq!(next_revision(3, &reply(false, 9, &[4, 5, 5])), 6);
        // A progress notice.
        assert_eq!(next_revision(6, &reply(false, 12, &[])), 13);
    }

    #[test]
    fn a_compacted_start_names_where_history_begins() {
        let reply = WatchResponse {
            canceled: true,
            compact_revision: 7,
            ..Default::default()
        };
        let failure = canceled(&reply);
        assert_eq!(failure.exit_code(), 1);
        assert!(
            failure
                .text()
                .unwrap()
                .ends_with("compacted (history begins at revision 7)"),
            "{failure:?}"
        );
    }
}
