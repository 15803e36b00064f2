//! Takes out of an output what differs between any two servers: ids, times, addresses, versions, raft terms and indices,
//! sizes and hashes. Everything else stays, so that revisions, counts, texts and the order of fields are compared.

use std::sync::LazyLock;

use regex::Regex;

/// Pattern and what replaces it; applied in this order.
const RULES: &[(&str, &str)] = &[
    // Widths of tables.
    (r"-{2,}", "--"),
    (r" {2,}", " "),
    // Values of JSON (-w json) and of the client's log.
    (
        r#""(cluster_id|member_id|raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|leader|hash|memberID)":[1-9]\d*"#,
        r#""$1":N"#,
    ),
    (r#""(ts|took|version|fetched|size)":"[^"]*""#, r#""$1":"MASKED""#),
    (r#""(ts|took)":[0-9.e+]+"#, r#""$1":N"#),
    (r"endpoint://client-[0-9a-f-]+/", "endpoint://client-UUID/"),
    (r#"("Status":.*)"errors":\[[^\]]*\]"#, r#"$1"errors":[]"#),
    // Values of -w fields.
    (
        r#""(ClusterID|MemberID|RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse|Leader|Hash|Raft term|Raft index|Raft applied index)" : [1-9]\d*"#,
        r#""$1" : N"#,
    ),
    (r#""(ClusterID|MemberID|ID)" : [1-9]\d*"#, r#""$1" : N"#),
    (r#""Version" : "[0-9.]+""#, r#""Version" : "VERSION""#),
    // Numbers of members and leases: sixteen hexadecimal digits or what they are in decimal.
    (r"\b[0-9a-f]{12,16}\b", "ID"),
    (r"\b\d{12,20}\b", "ID"),
    (r#""ID":[1-9]\d*"#, r#""ID":ID"#),
    // Lines about members.
    (r"(?m)^(\| )?[0-9a-f]+(, | \| )started", "${1}ID${2}started"),
    (
        r"(ENDPOINT(?:, | \| ))\S+(, | \| )[0-9.]+(?:, | \| )[0-9.]+ [kMG]?B(, | \| )(true|false)(, | \| )(true|false)(, | \| )\d+(?:, | \| )\d+(?:, | \| )\d+",
        "${1}ID${2}VERSION${3}SIZE, ${4}${5}${6}${7}TERM, INDEX, INDEX",
    ),
    (r"(?m)(ENDPOINT(?:, | \| ))\d+(| \|)$", "${1}HASH${2}"),
    // `snapshot status`: hash, revision, keys (with those of etcd itself), size.
    (
        r"(?m)^[0-9a-f]{1,8}, (\d+), \d+, [0-9.]+ [kMG]?B$",
        "HASH, $1, KEYS, SIZE",
    ),
    // Text.
    (r"\b[0-9.]+(ns|µs|us|ms|s)\b( ago)?", "TIME"),
    (r"remaining\(\d+s\)", "remaining(TIME)"),
    (r"(lease \S+ keepalived with TTL\([^)]*\)\n)+", "$1"),
    (r"(PUT\n\S+\npoke\n)+", "POKED\n"),
];

static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    RULES
        .iter()
        .map(|(pattern, with)| {
            (
                Regex::new(pattern).expect("a rule is a regular expression"),
                *with,
            )
        })
        .collect()
});

/// Pairs of texts of one run and what stands for them; longer ones first.
pub(crate) type Names = [(String, String)];

/// The output as it is compared.
pub(crate) fn mask(output: &str, names: &Names) -> String {
    let mut text = output.to_owned();
    for (value, name) in names {
        text = text.replace(value, name);
    }
    for (pattern, with) in PATTERNS.iter() {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    sort_log(&sort_attached(&text))
}

/// Lines of the client's own log, which several of its threads write: neighbours come in any order.
fn sort_log(text: &str) -> String {
    let is_log = |line: &str| line.starts_with(r#"{"level":"#);
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    for run in lines.chunk_by_mut(|one, next| is_log(one) && is_log(next)) {
        run.sort_unstable();
    }
    lines.concat()
}

/// etcd lists the keys of a lease in any order, Chainfire sorted.
fn sort_attached(text: &str) -> String {
    static ATTACHED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"attached keys\(\[([^\]]*)\]\)").expect("a regular expression"));
    ATTACHED
        .replace_all(text, |found: &regex::Captures<'_>| {
            let mut keys: Vec<&str> = found[1].split(' ').collect();
            keys.sort_unstable();
            format!("attached keys([{}])", keys.join(" "))
        })
        .into_owned()
}

#[test]
fn only_what_must_differ_is_taken_out() {
    let names = [("127.0.9.11:2379".to_owned(), "ENDPOINT".to_owned())];
    let same = |output: &str, masked: &str| assert_eq!(mask(output, &names), masked);
    same(
        r#"{"header":{"cluster_id":148,"member_id":10,"revision":3,"raft_term":2},"count":2}"#,
        r#"{"header":{"cluster_id":N,"member_id":N,"revision":3,"raft_term":N},"count":2}"#,
    );
    same(
        "lease 694d5765fc71500b granted with TTL(60s)\n",
        "lease ID granted with TTL(TIME)\n",
    );
    same(
        "127.0.9.11:2379 is healthy: successfully committed proposal: took = 1.25ms\n",
        "ENDPOINT is healthy: successfully committed proposal: took = TIME\n",
    );
    same(r#""Revision" : 5"#, r#""Revision" : 5"#);
    same("attached keys([b a])", "attached keys([a b])");
    same(r#"{"raft_term":0}"#, r#"{"raft_term":0}"#);
}
