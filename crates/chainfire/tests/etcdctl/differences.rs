//! Where Chainfire answers otherwise than Debian's etcd 3.4.23, and why. Both sides are pinned: a difference that changes or
//! goes away fails the test.

/// One step that is answered differently.
#[derive(Debug)]
pub(crate) struct Difference {
    /// Name of the script.
    pub(crate) script: &'static str,
    /// The step as written, input included.
    pub(crate) step: &'static str,
    /// Why.
    pub(crate) reason: &'static str,
    /// What etcd shows.
    pub(crate) etcd: &'static str,
    /// What Chainfire shows.
    pub(crate) ours: &'static str,
}

/// All of them.
pub(crate) const KNOWN: &[Difference] = &[
    Difference {
        script: "txn",
        step: "run txn\n|\n| del a --from-key\n| put b 1\n|\n|",
        reason: "etcd refuses a put of a key that the same branch deletes, but overlooks it where the range has no end; its \
                 watchers then get two changes of one key in one revision",
        etcd: "exit 0\nstdout: SUCCESS\nstdout: \nstdout: 3\nstdout: \nstdout: OK\n",
        ours: concat!(
            "exit 1\n",
            r#"stderr: {"level":"warn","ts":"MASKED","caller":"clientv3/retry_interceptor.go:62","#,
            r#""msg":"retrying of unary invoker failed","target":"endpoint://client-UUID/ENDPOINT","attempt":0,"#,
            r#""error":"rpc error: code = InvalidArgument desc = etcdserver: duplicate key given in txn request"}"#,
            "\nstderr: Error: etcdserver: duplicate key given in txn request\n",
        ),
    },
    Difference {
        script: "watch",
        step: "end compacted-json",
        reason: "every reply's header has the revision; etcd leaves it out of a reply that cancels",
        etcd: concat!(
            r#"exit 5
stdout: {"Header":{"cluster_id":N,"member_id":N,"raft_term":N},"Events":[],"CompactRevision":25,"#,
            r#""Canceled":true,"Created":false}
stderr: watch was canceled (etcdserver: mvcc: required revision has been compacted)
stderr: Error: watch is canceled by the server
"#,
        ),
        ours: concat!(
            r#"exit 5
stdout: {"Header":{"cluster_id":N,"member_id":N,"revision":27,"raft_term":N},"Events":[],"CompactRevision":25,"#,
            r#""Canceled":true,"Created":false}
stderr: watch was canceled (etcdserver: mvcc: required revision has been compacted)
stderr: Error: watch is canceled by the server
"#,
        ),
    },
    Difference {
        script: "maintenance",
        step: "fail endpoint hashkv --rev=7",
        reason: "etcd 3.4 refuses the hash at exactly the compacted revision; since 3.5 it answers, as reads there do",
        etcd: concat!(
            "exit 1\n",
            r#"stderr: {"level":"warn","ts":"MASKED","caller":"clientv3/retry_interceptor.go:62","#,
            r#""msg":"retrying of unary invoker failed","target":"passthrough:///http://ENDPOINT","attempt":0,"#,
            r#""error":"rpc error: code = OutOfRange desc = etcdserver: mvcc: required revision has been compacted"}"#,
            "\nstderr: Failed to get the hash of endpoint http://ENDPOINT ",
            "(etcdserver: mvcc: required revision has been compacted)\n",
            "stderr: Error: etcdserver: mvcc: required revision has been compacted\n",
        ),
        ours: "exit 0\nstdout: http://ENDPOINT, HASH\n",
    },
    Difference {
        script: "maintenance",
        step: "run alarm list -w json",
        reason: "every reply has a header; etcd 3.4 forgets it here",
        etcd: "exit 0\nstdout: {}\n",
        ours: r#"exit 0
stdout: {"header":{"cluster_id":N,"member_id":N,"revision":8,"raft_term":N}}
"#,
    },
    Difference {
        script: "maintenance",
        step: "run member list -w json",
        reason: "every reply's header has the revision; etcd leaves it out where members are concerned",
        etcd: concat!(
            r#"exit 0
stdout: {"header":{"cluster_id":N,"member_id":N,"raft_term":N},"#,
            r#""members":[{"ID":ID,"name":"default","peerURLs":["http://ENDPOINT_HOST:2380"],"#,
            r#""clientURLs":["http://ENDPOINT"]}]}
"#,
        ),
        ours: concat!(
            r#"exit 0
stdout: {"header":{"cluster_id":N,"member_id":N,"revision":8,"raft_term":N},"#,
            r#""members":[{"ID":ID,"name":"default","peerURLs":["http://ENDPOINT_HOST:2380"],"#,
            r#""clientURLs":["http://ENDPOINT"]}]}
"#,
        ),
    },
    Difference {
        script: "maintenance",
        step: "run snapshot status $dir/saved",
        reason: "a snapshot of Chainfire is an archive of its own store: `chainfire-client snapshot status` reads it",
        etcd: "exit 0\nstdout: HASH, 8, KEYS, SIZE\n",
        ours: "exit 1\nstderr: Error: invalid database\n",
    },
];
