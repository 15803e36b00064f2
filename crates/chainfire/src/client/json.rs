//! Replies as JSON, and requests from JSON, in the canonical mapping of protocol buffers: 64-bit integers are strings, bytes
//! are base64, default values are left out, fields have the names of the protocol files. The same as the server's gateway.

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};

use super::failure::{Failure, Result};
use crate::wire::{self, etcdserverpb as pb};

/// A message that knows its full name in the protocol files.
pub(super) trait Named: Message + Default {
    /// Such as `etcdserverpb.RangeResponse`.
    const NAME: &'static str;
}

macro_rules! named {
    ($($name:ident)*) => { $( impl Named for pb::$name { const NAME: &'static str = concat!("etcdserverpb.", stringify!($name)); } )* };
}

named! {
    RangeResponse PutResponse DeleteRangeResponse TxnRequest TxnResponse CompactionResponse
    WatchResponse
    LeaseGrantResponse LeaseRevokeResponse LeaseKeepAliveResponse LeaseTimeToLiveResponse LeaseLeasesResponse
    MemberAddResponse MemberRemoveResponse MemberListResponse MemberPromoteResponse
    AlarmResponse StatusResponse DefragmentResponse HashResponse MoveLeaderResponse
    AuthEnableResponse AuthDisableResponse AuthStatusResponse
    AuthUserAddResponse AuthUserGetResponse AuthUserListResponse AuthUserDeleteResponse AuthUserChangePasswordResponse
    AuthUserGrantRoleResponse AuthUserRevokeRoleResponse
    AuthRoleAddResponse AuthRoleGetResponse AuthRoleListResponse AuthRoleDeleteResponse
    AuthRoleGrantPermissionResponse AuthRoleRevokePermissionResponse
}

impl Named for pb::HashKvResponse {
    const NAME: &'static str = "etcdserverpb.HashKVResponse";
}

impl Named for wire::v3lockpb::LockResponse {
    const NAME: &'static str = "v3lockpb.LockResponse";
}

impl Named for wire::v3electionpb::LeaderResponse {
    const NAME: &'static str = "v3electionpb.LeaderResponse";
}

impl Named for wire::v3electionpb::CampaignResponse {
    const NAME: &'static str = "v3electionpb.CampaignResponse";
}

impl Named for wire::chainfire::v1::MemberAddResponse {
    const NAME: &'static str = "chainfire.v1.MemberAddResponse";
}

impl Named for wire::chainfire::v1::GossipResponse {
    const NAME: &'static str = "chainfire.v1.GossipResponse";
}

fn descriptor(name: &str) -> MessageDescriptor {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(wire::DESCRIPTORS).expect("the generated descriptors are well-formed")
    })
    .get_message_by_name(name)
    .expect("every named message is in the generated descriptors")
}

/// The message as JSON on one line, without the newline.
pub(super) fn text<M: Named>(message: &M) -> String {
    let dynamic = DynamicMessage::decode(descriptor(M::NAME), message.encode_to_vec().as_slice())
        .expect("what was encoded can be decoded");
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(true)
        .use_proto_field_name(true);
    let mut serializer = serde_json::Serializer::new(Vec::new());
    dynamic
        .serialize_with_options(&mut serializer, &options)
        .expect("writing JSON to memory does not fail");
    String::from_utf8(serializer.into_inner()).expect("JSON is UTF-8")
}

/// Reads a message from JSON. `whence` names the text in errors.
pub(super) fn parse<M: Named>(json: &str, whence: &str) -> Result<M> {
    let refuse =
        |error: &dyn std::fmt::Display| Failure::usage(format!("{whence}: not a JSON {}: {error}", M::NAME));
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let dynamic = DynamicMessage::deserialize_with_options(
        descriptor(M::NAME),
        &mut deserializer,
        &DeserializeOptions::new().deny_unknown_fields(true),
    )
    .map_err(|error| refuse(&error))?;
    deserializer.end().map_err(|error| refuse(&error))?;
    dynamic.transcode_to().map_err(|error| refuse(&error))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::mvccpb::KeyValue;

    #[test]
    fn integers_are_strings_and_bytes_base64() {
        let reply = pb::RangeResponse {
            header: Some(pb::ResponseHeader {
                cluster_id: u64::MAX,
                revision: 7,
                ..Default::default()
            }),
            kvs: vec![KeyValue {
                key: Bytes::from_static(b"\xff"),
                create_revision: 5,
                ..Default::default()
            }],
            more: false,
            count: 1,
        };
        assert_eq!(
            text(&reply),
            r#"{"header":{"cluster_id":"18446744073709551615","revision":"7"},"kvs":[{"key":"/w==","create_revision":"5"}],"count":"1"}"#
        );
    }

    #[test]
    fn transactions_are_read_from_json() {
        let json = r#"{"compare":[{"key":"aw==","target":"VALUE","value":"dg=="}],"success":[{"request_put":{"key":"aw=="}}]}"#;
        let txn: pb::TxnRequest = parse(json, "f").unwrap();
        assert_eq!(
            (txn.compare.len(), txn.success.len(), &txn.compare[0].key[..]),
            (1, 1, &b"k"[..])
        );
        let refused = parse::<pb::TxnRequest>(r#"{"compares":[]}"#, "f").unwrap_err();
        assert!(
            refused
                .text()
                .unwrap()
                .starts_with("f: not a JSON etcdserverpb.TxnRequest: "),
            "{refused:?}"
        );
        assert!(parse::<pb::TxnRequest>("{} {}", "f").is_err());
    }

    #[test]
    fn every_name_exists() {
        fn check<M: Named>() {
            assert_eq!(descriptor(M::NAME).full_name(), M::NAME);
        }
        check::<pb::HashKvResponse>();
        check::<wire::v3lockpb::LockResponse>();
        check::<wire::v3electionpb::LeaderResponse>();
        check::<wire::v3electionpb::CampaignResponse>();
    }
}
