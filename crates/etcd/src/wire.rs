//! The generated protocol types of etcd v3.
//!
//! Everything below `gen/` is made by `cargo xtask codegen` from `proto/`.

/// A module of generated code: its name, its file in `gen/` beside the file that says this, and what it is. The lints of hand-written code
/// do not apply to it.
#[macro_export]
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

generated!(
    etcdserverpb,
    "etcdserverpb.rs",
    "KV, Watch, Lease, Cluster, Maintenance and Auth of etcd v3."
);
generated!(mvccpb, "mvccpb.rs", "Keys, values and events of etcd v3.");
generated!(authpb, "authpb.rs", "Users, roles and permissions of etcd v3.");
generated!(v3lockpb, "v3lockpb.rs", "The lock service of etcd v3.");
generated!(
    v3electionpb,
    "v3electionpb.rs",
    "The election service of etcd v3."
);
