//! What each command does, and what it leaves alone.

use super::*;
use crate::document::{Alert, AlertKind, Check, CheckKind, Entry, Peer};

const NODE: &str = "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091";

fn node() -> NodeId {
    NODE.parse().unwrap()
}

fn begun() -> State {
    let check = Check {
        id: "c".to_owned(),
        ..Check::new("web", CheckKind::Tcp, "h:1")
    };
    let alert = Alert {
        id: "a".to_owned(),
        default: true,
        ..Alert::new("oncall", AlertKind::Discord)
    };
    let document = Document {
        version: 7,
        peers: vec![Peer {
            node_id: node(),
            advertise: "alpha:9901".to_owned(),
            fingerprint: String::new(),
            cert_pem: String::new(),
            location: None,
        }],
        checks: vec![check],
        alerts: vec![alert],
        ..Document::default()
    };
    let state = State::begun(document, "other".to_owned(), Some(before));
    assert_eq!(state.document.version, 20);
    assert_eq!(state.checks["c"].status, Status::Down);
    assert_eq!(state.deliveries.len(), 1);
    assert_eq!(state.cluster, "k", "channels know the outage by it");
}

#[test]
fn commands_survive_the_log() {
    let command = transition(3, Status::Down, 77);
    assert_eq!(Command::decode(&command.encode()).unwrap(), command);
    assert!(Command::decode(b"{\"unheard_of\":1}").is_err());
}
