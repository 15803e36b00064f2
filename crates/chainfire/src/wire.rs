//! The generated protocol types, and what travels beside them.
//!
//! Everything below `gen/` is made by `cargo xtask codegen` from `proto/`; what is etcd's own comes from the crate [`etcd`]. Decisions never see these modules' services, only
//! their plain messages.

/// Generated code: the lints of hand-written code do not apply.
macro_rules! generated {
    ($name:ident, $file:literal, $what:literal) => {
        #[doc = $what]
        #[allow(
            clippy::all,
            clippy::pedantic,
            missing_docs,
            unreachable_pub,
            reason = "generated code"
        )]
        pub mod $name {
            include!(concat!("gen/", $file));
        }
    };
}

pub use etcd::wire::{authpb, etcdserverpb, mvccpb, v3electionpb, v3lockpb};

generated!(
    health,
    "grpc.health.v1.rs",
    "The health checking service of gRPC."
);
/// What is ours alone, by version.
pub mod chainfire {
    generated!(
        v1,
        "chainfire.v1.rs",
        "Members by the operator's numbers, leadership, a member's own view."
    );
}
generated!(logpb, "logpb.rs", "What the entries of the log say.");

/// The serialised `FileDescriptorSet` of all protocol files.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptor.bin");
