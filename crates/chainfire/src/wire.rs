//! The generated protocol types, and what travels beside them.
//!
//! Everything below `gen/` is made by `cargo xtask codegen` from `proto/`; what is etcd's own comes from the crate [`etcd`]. Decisions never see these modules' services, only
//! their plain messages.

pub use etcd::wire::{authpb, etcdserverpb, mvccpb, v3electionpb, v3lockpb};

etcd::generated!(
    health,
    "grpc.health.v1.rs",
    "The health checking service of gRPC."
);
/// What is ours alone, by version.
pub mod chainfire {
    etcd::generated!(
        v1,
        "chainfire.v1.rs",
        "Members by the operator's numbers, leadership, a member's own view."
    );
}
etcd::generated!(logpb, "logpb.rs", "What the entries of the log say.");

/// The serialised `FileDescriptorSet` of all protocol files.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptor.bin");
