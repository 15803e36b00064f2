//! `put`, `get`, `del` and `compact`. The same arguments are the operations of a transaction ([`super::grammar`]).

use std::io::{IsTerminal as _, Read};

use bytes::Bytes;
use clap::{Args, ValueEnum};

use super::argument;
use super::cli::Context;
use super::failure::{Failure, Result};
use super::output::Text;
use crate::wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::wire::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse,
};

/// Longest value read from standard input: far above what a server takes, so that it is the server that refuses.
const VALUE_BYTES_MAX: u64 = 64 << 20;

/// Put arguments.
#[derive(Debug, Args)]
pub(super) struct Put {
    /// Key to write
    #[arg(value_parser = argument::bytes(), allow_negative_numbers = true)]
    key: Bytes,
    /// Value to write; `-` or nothing reads it from standard input
    #[arg(value_parser = argument::bytes(), allow_negative_numbers = true)]
    value: Option<Bytes>,
    /// Attach the key to this lease; it is deleted with the lease
    #[arg(long, value_name = "ID", value_parser = argument::lease_id, default_value = "0", hide_default_value = true)]
    lease: i64,
    /// Print the pair as it was before
    #[arg(long)]
    prev_kv: bool,
    /// Keep the value and change only the lease
    #[arg(long, conflicts_with = "value")]
    ignore_value: bool,
    /// Keep the lease and change only the value
    #[arg(long, conflicts_with = "lease")]
    ignore_lease: bool,
}

impl Put {
    /// The request; `value` makes the value from what was written, if anything was.
    pub(super) fn request(self, value: impl FnOnce(Option<Bytes>) -> Result<Bytes>) -> Result<PutRequest> {
        let value = if self.ignore_value {
            Bytes::new()
        } else {
            value(self.value)?
        };
        Ok(PutRequest {
            key: self.key,
            value,
            lease: self.lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }
}

/// What to sort by.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SortBy {
    Create,
    Key,
    #[value(alias = "mod")]
    Modify,
    Value,
    Version,
}

/// Direction of sorting.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Order {
    Ascend,
    Descend,
}

/// Consistency of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Consistency {
    /// Linearizable: sees every write acknowledged before
    L,
    /// Serializable: what this node has, perhaps old, without asking the leader
    S,
}

/// Get arguments.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// Key to read, or first key of a range
    #[arg(value_parser = argument::bytes(), allow_negative_numbers = true)]
    key: Bytes,
    /// End of the range; not part of it
    #[arg(value_parser = argument::bytes(), allow_negative_numbers = true, conflicts_with_all = ["prefix", "from_key"])]
    end: Option<Bytes>,
    /// Every key that starts with KEY
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// Every key from KEY on
    #[arg(long)]
    from_key: bool,
    /// At most this many results
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..), default_value_t = 0, hide_default_value = true)]
    limit: i64,
    /// Read as of this revision instead of the newest
    #[arg(long, value_name = "REVISION", value_parser = argument::revision, default_value_t = 0, hide_default_value = true)]
    rev: i64,
    /// Sort by this
    #[arg(long, ignore_case = true)]
    sort_by: Option<SortBy>,
    /// Sort in this direction
    #[arg(long, ignore_case = true)]
    order: Option<Order>,
    /// Leave the values out
    #[arg(long)]
    keys_only: bool,
    /// Print only how many there are
    #[arg(long, conflicts_with_all = ["keys_only", "print_value_only"])]
    count_only: bool,
    /// Leave the keys out
    #[arg(long)]
    print_value_only: bool,
    /// `l` for linearizable, `s` for serializable
    #[arg(long, default_value = "l")]
    consistency: Consistency,
}

impl Get {
    /// The request.
    pub(super) fn request(self) -> RangeRequest {
        let (key, range_end) = range(self.key, self.end, self.prefix, self.from_key);
        let target = match self.sort_by {
            None | Some(SortBy::Key) => SortTarget::Key,
            Some(SortBy::Create) => SortTarget::Create,
            Some(SortBy::Modify) => SortTarget::Mod,
            Some(SortBy::Value) => SortTarget::Value,
            Some(SortBy::Version) => SortTarget::Version,
        };
        let order = match self.order {
            // Keys come in ascending order anyway; asking for it would make the server fetch everything before the limit.
            Some(Order::Ascend) if target == SortTarget::Key => SortOrder::None,
            None => SortOrder::None,
            Some(Order::Ascend) => SortOrder::Ascend,
            Some(Order::Descend) => SortOrder::Descend,
        };
        RangeRequest {
            key,
            range_end,
            limit: self.limit,
            revision: self.rev,
            sort_order: order.into(),
            sort_target: target.into(),
            serializable: self.consistency == Consistency::S,
            keys_only: self.keys_only,
            count_only: self.count_only,
            ..Default::default()
        }
    }
}

/// Delete arguments.
#[derive(Debug, Args)]
pub(super) struct Del {
    /// Key to delete, or first key of a range
    #[arg(value_parser = argument::bytes(), allow_negative_numbers = true)]
    key: Bytes,
    /// End of the range; not part of it
    #[arg(value_parser = argument::bytes(), allow_negative_numbers = true, conflicts_with_all = ["prefix", "from_key"])]
    end: Option<Bytes>,
    /// Every key that starts with KEY
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// Every key from KEY on
    #[arg(long)]
    from_key: bool,
    /// Print the deleted pairs
    #[arg(long)]
    prev_kv: bool,
}

impl Del {
    /// The request.
    pub(super) fn request(self) -> DeleteRangeRequest {
        let (key, range_end) = range(self.key, self.end, self.prefix, self.from_key);
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.prev_kv,
        }
    }
}

/// Compact arguments.
#[derive(Debug, Args)]
pub(super) struct Compact {
    /// Revision up to which history is dropped
    #[arg(value_parser = argument::past_revision, allow_negative_numbers = true)]
    revision: i64,
    /// Return only when the space is free
    #[arg(long)]
    physical: bool,
}

/// Key and range end of a request. The empty key cannot be asked for: as a prefix or a start it means the smallest key there is.
pub(super) fn range(key: Bytes, end: Option<Bytes>, prefix: bool, from_key: bool) -> (Bytes, Bytes) {
    let open = Bytes::from_static(b"\0");
    match end {
        _ if (prefix || from_key) && key.is_empty() => (open.clone(), open),
        _ if prefix => {
            let end = prefix_end(&key);
            (key, end)
        }
        _ if from_key => (key, open),
        end => (key, end.unwrap_or_default()),
    }
}

/// The first key after all that start with `prefix`; `\0`, which means no end, if there is none.
pub(super) fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|byte| *byte < u8::MAX) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => Bytes::from_static(b"\0"),
    }
}

pub(super) async fn put(arguments: Put, context: &mut Context) -> Result<()> {
    let request = arguments.request(|value| match value {
        Some(value) if value != "-" => Ok(value),
        _ => {
            if std::io::stdin().is_terminal() {
                context.note("the value is read from standard input: type it, and Ctrl-D at its end");
            }
            read_value(&mut *context.input)
        }
    })?;
    let session = context.open().await?;
    let reply = session.ask(session.kv().put(request)).await?;
    context.printer.reply(&reply, |text| write_put(text, &reply))
}

fn read_value(input: &mut dyn Read) -> Result<Bytes> {
    let mut value = Vec::new();
    input
        .take(VALUE_BYTES_MAX + 1)
        .read_to_end(&mut value)
        .map_err(|error| Failure::refused(format!("read value from standard input: {error}")))?;
    if value.len() as u64 > VALUE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "read value from standard input: above {VALUE_BYTES_MAX} bytes"
        )));
    }
    Ok(value.into())
}

pub(super) async fn get(arguments: Get, context: &mut Context) -> Result<()> {
    let (value_only, count_only) = (arguments.print_value_only, arguments.count_only);
    let request = arguments.request();
    let session = context.open().await?;
    let reply = session.ask(session.kv().range(request)).await?;
    context.printer.listing(
        &reply,
        |text| {
            if count_only {
                text.line(reply.count);
            } else {
                write_range(text, &reply, value_only);
            }
        },
        |shown| {
            if count_only {
                super::output::column("COUNT", [reply.count.to_string()])
            } else {
                shown.pairs(&reply.kvs)
            }
        },
    )
}

pub(super) async fn del(arguments: Del, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session
        .ask(session.kv().delete_range(arguments.request()))
        .await?;
    context.printer.reply(&reply, |text| write_deleted(text, &reply))
}

pub(super) async fn compact(arguments: Compact, context: &mut Context) -> Result<()> {
    let Compact { revision, physical } = arguments;
    let session = context.open().await?;
    let reply = session
        .ask(session.kv().compact(CompactionRequest { revision, physical }))
        .await?;
    context.printer.reply(&reply, |text| {
        text.line(format_args!("compacted revision {revision}"));
    })
}

pub(super) fn write_put(text: &mut Text, reply: &PutResponse) {
    text.line("OK");
    if let Some(before) = &reply.prev_kv {
        text.pair(before, false);
    }
}

pub(super) fn write_range(text: &mut Text, reply: &RangeResponse, value_only: bool) {
    for pair in &reply.kvs {
        text.pair(pair, value_only);
    }
}

pub(super) fn write_deleted(text: &mut Text, reply: &DeleteRangeResponse) {
    text.line(reply.deleted);
    for pair in &reply.prev_kvs {
        text.pair(pair, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_after_their_last_key() {
        assert_eq!(prefix_end(b"foo"), "fop");
        assert_eq!(prefix_end(b"a\xff\xff"), "b");
        assert_eq!(prefix_end(b"\xff\xff"), "\0");
        assert_eq!(prefix_end(b""), "\0");
    }

    #[test]
    fn the_empty_key_means_everything() {
        let open = || Bytes::from_static(b"\0");
        assert_eq!(range(Bytes::new(), None, true, false), (open(), open()));
        assert_eq!(range(Bytes::new(), None, false, true), (open(), open()));
        assert_eq!(range("k".into(), None, false, true), ("k".into(), open()));
        assert_eq!(
            range("k".into(), Some("m".into()), false, false),
            ("k".into(), "m".into())
        );
        assert_eq!(range("k".into(), None, false, false), ("k".into(), Bytes::new()));
    }
}
