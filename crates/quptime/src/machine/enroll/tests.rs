//! Hosts and tokens, without a cluster.

use super::*;
use crate::document::change;
use crate::identity::NodeId;
use crate::machine::command::{Command, Configure};
use crate::machine::state::{Outcome, State};
use crate::token::hash;

/// 2026-05-15T14:00:00Z.
const END: Millis = 1_778_853_600_000;

fn secret() -> Secret {
    Secret::new("the secret of the token")
}

fn peer(number: u8) -> Peer {
    Peer {
        node_id: format!("{number:08x}-0000-4000-8000-000000000000")
            .parse()
            .unwrap(),
        advertise: format!("host{number}:9901"),
        fingerprint: format!("sha256:{}", format!("{number:02x}").repeat(32)),
        cert_pem: String::new(),
        location: None,
    }
}

/// One peer, and one enrollment `e`.
fn document(auto_approve: bool) -> Document {
    Document {
        version: 3,
        peers: vec![peer(1)],
        pending_enrollments: vec![Enrollment {
            id: "e".to_owned(),
            name: "rack 7".to_owned(),
            secret_hash: hash(&secret()),
            expires_at: "2026-05-15T14:00:00Z".to_owned(),
            auto_approve,
            applicant: None,
        }],
        ..Document::default()
    }
}

struct Cluster {
    state: State,
}

impl Cluster {
    fn new(auto_approve: bool) -> Cluster {
        Cluster {
            state: State::begun(document(auto_approve), "c".to_owned(), None),
        }
    }

    fn submit(&self, now: Millis, peer: &Peer) -> Result<Decision, Refusal> {
        self.submit_with(now, peer, &secret())
    }

    fn submit_with(&self, now: Millis, peer: &Peer, secret: &Secret) -> Result<Decision, Refusal> {
        let submission = Submission {
            id: "e",
            secret,
            peer,
        };
        submit(&self.state.document, &self.state.audit, now, submission)
    }

    fn make(&mut self, changes: Vec<Change>, what: &str) -> Outcome {
        self.state.apply(&Command::Configure(Configure {
            changes,
            by: peer(1).node_id,
            uid: None,
            what: what.to_owned(),
            closes: None,
            leaves: None,
            bytes_max: None,
            insists: false,
            at: "2026-05-15T13:00:00Z".to_owned(),
            schema: 1,
        }))
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.state
            .document
            .peers
            .iter()
            .map(|peer| peer.node_id)
            .collect()
    }
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(_))
}

#[test]
fn with_auto_approval_the_first_host_is_a_peer_and_the_token_is_gone() {
    let mut cluster = Cluster::new(true);
    let decision = cluster.submit(END - 1, &peer(2)).unwrap();
    assert_eq!(decision.becomes, Becomes::Peer);
    assert!(is_done(&cluster.make(decision.changes, purpose::JOIN)));
    assert_eq!(cluster.nodes(), [peer(1).node_id, peer(2).node_id]);
    assert!(cluster.state.document.pending_enrollments.is_empty());
    // The same host may ask again, also when the token is long void; another one may not.
    let again = cluster.submit(END + 1, &peer(2)).unwrap();
    assert_eq!((again.changes, again.becomes), (Vec::new(), Becomes::Peer));
    let refused = cluster.submit(END - 1, &peer(3)).unwrap_err();
    assert_eq!(refused, Refusal::Gone(Some(purpose::JOIN)));
    assert!(refused.to_string().contains("used already"), "{refused}");
}

#[test]
fn without_it_the_first_host_waits_and_others_are_refused() {
    let mut cluster = Cluster::new(false);
    assert!(
        approve(&cluster.state.document, END - 1, "e")
            .unwrap_err()
            .contains("no host")
    );
    let decision = cluster.submit(END - 1, &peer(2)).unwrap();
    assert_eq!(decision.becomes, Becomes::Waiting);
    assert!(is_done(&cluster.make(decision.changes, purpose::SUBMIT)));
    assert_eq!(cluster.nodes(), [peer(1).node_id]);
    // Asking again changes nothing.
    let again = cluster.submit(END - 1, &peer(2)).unwrap();
    assert_eq!((again.changes, again.becomes), (Vec::new(), Becomes::Waiting));
    // The node id of the first with another key is another host.
    let stolen = Peer {
        fingerprint: peer(3).fingerprint,
        ..peer(2)
    };
    for other in [peer(3), stolen] {
        let refused = cluster.submit(END - 1, &other).unwrap_err();
        assert!(matches!(refused, Refusal::Used { .. }), "{refused}");
        assert!(refused.to_string().contains(&peer(2).node_id.to_string()));
    }
    // The first may say where it is anew.
    let moved = Peer {
        advertise: "elsewhere:9901".to_owned(),
        ..peer(2)
    };
    let decision = cluster.submit(END - 1, &moved).unwrap();
    assert!(is_done(&cluster.make(decision.changes, purpose::SUBMIT)));
    let (who, changes) = approve(&cluster.state.document, END - 1, "rack 7").unwrap();
    assert_eq!(who, moved);
    assert!(is_done(&cluster.make(changes, purpose::APPROVE)));
    assert_eq!(cluster.nodes(), [peer(1).node_id, peer(2).node_id]);
    assert_eq!(cluster.submit(END - 1, &moved).unwrap().becomes, Becomes::Peer);
    let refused = cluster.submit(END - 1, &peer(3)).unwrap_err();
    assert_eq!(refused, Refusal::Gone(Some(purpose::APPROVE)));
}

#[test]
fn of_two_hosts_at_the_same_moment_one_has_the_token() {
    for auto_approve in [true, false] {
        let mut cluster = Cluster::new(auto_approve);
        let one = cluster.submit(END - 1, &peer(2)).unwrap();
        let other = cluster.submit(END - 1, &peer(3)).unwrap();
        assert!(is_done(&cluster.make(one.changes, purpose::JOIN)));
        let outcome = cluster.make(other.changes, purpose::JOIN);
        assert!(matches!(outcome, Outcome::Conflict(_)), "{outcome:?}");
        assert!(cluster.submit(END - 1, &peer(3)).is_err());
    }
}

#[test]
fn from_its_end_on_a_token_is_void_and_removed() {
    let mut cluster = Cluster::new(false);
    let decision = cluster.submit(END - 1, &peer(2)).unwrap();
    assert!(is_done(&cluster.make(decision.changes, purpose::SUBMIT)));
    assert!(expired(&cluster.state.document, END - 1).is_empty());
    let refused = cluster.submit(END, &peer(2)).unwrap_err();
    assert_eq!(refused, Refusal::Expired("2026-05-15T14:00:00Z".to_owned()));
    assert!(
        approve(&cluster.state.document, END, "e")
            .unwrap_err()
            .contains("expired")
    );
    let over = expired(&cluster.state.document, END);
    assert_eq!(over.len(), 1);
    assert!(is_done(&cluster.make(over, purpose::EXPIRE)));
    assert!(cluster.state.document.pending_enrollments.is_empty());
    let refused = cluster.submit(END, &peer(2)).unwrap_err();
    assert_eq!(refused, Refusal::Gone(Some(purpose::EXPIRE)));
    // An end that nobody can read is over.
    let mut document = document(true);
    document.pending_enrollments[0].expires_at = "some day".to_owned();
    assert_eq!(expired(&document, 0).len(), 1);
}

#[test]
fn a_wrong_secret_learns_nothing_of_the_enrollment() {
    let mut cluster = Cluster::new(true);
    for wrong in [Secret::new(hash(&secret())), Secret::default(), Secret::draw()] {
        let refused = cluster.submit_with(END + 1, &peer(2), &wrong).unwrap_err();
        assert_eq!(refused, Refusal::WrongSecret);
    }
    let gone = Change::remove(Entry::Enrollment(Box::new(
        cluster.state.document.pending_enrollments[0].clone(),
    )));
    assert!(is_done(&cluster.make(vec![gone], purpose::REVOKE)));
    let refused = cluster.submit(END - 1, &peer(2)).unwrap_err();
    assert_eq!(refused.to_string(), "the token was revoked");
}

#[test]
fn a_host_that_cannot_be_a_peer_does_not_use_the_token_up() {
    let cluster = Cluster::new(false);
    let unfit = [
        Peer {
            advertise: "host1:9901".to_owned(),
            ..peer(2)
        },
        Peer {
            advertise: "no port".to_owned(),
            ..peer(2)
        },
        Peer {
            advertise: "0.0.0.0:9901".to_owned(),
            ..peer(2)
        },
        Peer {
            advertise: "\u{1b}[2Jhost:9901".to_owned(),
            ..peer(2)
        },
        // The id of a peer, with another key.
        Peer {
            fingerprint: peer(2).fingerprint,
            ..peer(1)
        },
    ];
    for peer in unfit {
        let refused = cluster.submit(END - 1, &peer).unwrap_err();
        assert!(matches!(refused, Refusal::Unfit(_)), "{refused}");
    }
    assert!(cluster.submit(END - 1, &peer(2)).is_ok());
}

#[test]
fn new_enrollments_are_named_once_and_bounded() {
    let mut document = document(true);
    let new = |id: usize, name: &str| Enrollment {
        id: format!("new {id}"),
        name: name.to_owned(),
        ..self::document(true).pending_enrollments[0].clone()
    };
    assert!(
        create(&document, new(0, "rack 7"), TTL_MIN)
            .unwrap_err()
            .contains("already")
    );
    assert!(create(&document, new(0, "e"), TTL_MIN).is_err());
    for (name, text) in [
        ("a\nb", "--name: a name cannot contain '\\n'"),
        ("a\u{9b}b", "--name: a name cannot contain '\\u{9b}'"),
        (&"x".repeat(101), "--name: 101 bytes are too many; at most 100"),
    ] {
        assert_eq!(create(&document, new(0, name), TTL_MIN).unwrap_err(), text);
    }
    for (ttl, text) in [
        (0, "0s"),
        (1, "1ms"),
        (TTL_MIN - 1, "9.999s"),
        (TTL_MAX + 3_600_000, "169h"),
    ] {
        assert_eq!(
            create(&document, new(0, ""), ttl).unwrap_err(),
            format!("--ttl {text}: a token lives at least 10s and at most 168h")
        );
    }
    for id in 1..ENROLLMENTS_MAX {
        let change = create(&document, new(id, ""), TTL_MAX).unwrap();
        document = change::apply(&document, &[change]).unwrap();
    }
    assert!(create(&document, new(0, ""), TTL_MIN).unwrap_err().contains("64"));
    assert_eq!(find(&document, "rack 7").unwrap().id, "e");
    // Without a name, none is called so.
    assert!(find(&document, "").is_err());
}

#[test]
fn what_is_void_is_told_from_what_can_be_mended() {
    let gone = [
        None,
        Some(purpose::JOIN),
        Some(purpose::REVOKE),
        Some(purpose::EXPIRE),
    ]
    .map(Refusal::Gone);
    let used = Refusal::Used {
        node: "n".to_owned(),
        advertise: "a:1".to_owned(),
    };
    let void = [Refusal::WrongSecret, Refusal::Expired(String::new()), used];
    for refusal in gone.iter().chain(&void) {
        assert!(is_void(&refusal.to_string()), "{refusal}");
    }
    let cluster = Cluster::new(false);
    let unfit = Peer {
        advertise: "host1:9901".to_owned(),
        ..peer(2)
    };
    let unfit = cluster.submit(END - 1, &unfit).unwrap_err();
    assert!(!is_void(&unfit.to_string()), "{unfit}");
}
