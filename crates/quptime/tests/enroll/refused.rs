//! Tokens that are worth nothing, and places where nobody may enroll.

use testkit::{QU_SECRET, Qu, wait_until};

use super::{Host, LIMIT, alone, create, list};
use quptime::secret::Secret;

/// One line, and no node.
#[track_caller]
fn refused(host: &Host, said: &testkit::Output, text: &str) {
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
    assert!(
        said.stderr.starts_with("error: ") && said.stderr.contains(text),
        "{said:?}"
    );
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    assert!(!host.file("node.yaml").exists());
}

#[test]
fn tokens_that_are_garbled_void_or_of_another_cluster_are_refused_in_one_line() {
    let first = alone(1);
    let host = Host::new(2);
    // Nothing is written for what is no token.
    let token = create(&first, &["--auto-approve"]);
    let word = token.reveal();
    for text in ["", "hello", &word[..word.len() / 2], &format!("{word}{word}")] {
        let said = host.qu.run_with(&["enroll", "join", "--yes", "-"], text).unwrap();
        refused(&host, &said, "this is no enrollment token");
        assert!(!said.stderr.contains(token.secret.reveal()), "{said:?}");
    }
    assert!(!host.qu.config_dir().exists());
    let said = host.qu.run(&["enroll", "join"]).unwrap();
    assert_eq!(said.code, 2, "{said:?}");

    // The key of another cluster is where the token's should be: it is told nothing.
    let other = alone(9);
    let mut elsewhere = token.clone();
    elsewhere.endpoints[0].address = other.peer_address();
    let said = host.join(&elsewhere);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
    let key = format!("{}: it has the key sha256:", other.peer_address());
    assert!(
        said.stderr.contains(&key) && said.stderr.contains("it is told nothing"),
        "{said:?}"
    );
    assert!(!other.log().contains("token"), "{}", other.log());
    assert_eq!(list(&first)[0]["state"], "open");

    let revoked = create(&first, &["--name", "mistake"]);
    let said = first.run(&["enroll", "revoke", "mistake"]).unwrap().ok();
    assert!(
        said.starts_with(&format!("enrollment {} revoked (", revoked.id)),
        "{said}"
    );
    refused(&host, &host.join(&revoked), "the token was revoked");

    let expired = create(&first, &["--ttl", "1s"]);
    wait_until(LIMIT, "the master to remove what has expired", || {
        list(&first)
            .iter()
            .all(|known| known["id"] != expired.id.as_str())
    });
    refused(&host, &host.join(&expired), "the token has expired");

    // Guesses are refused, and after some of them nobody from there is heard for a while.
    let mut guessed = token.clone();
    for _ in 0..3 {
        guessed.secret = Secret::draw();
        refused(&host, &host.join(&guessed), "the token is not genuine");
    }
    let joining = host.begin(&token);
    joining.wait_said("too many failed calls from 127.0.0.1");
    joining.kill9();
    assert_eq!(list(&first)[0]["state"], "open");
    let log = first.log();
    for secret in [&guessed.secret, &token.secret] {
        assert!(!log.contains(secret.reveal()), "{log}");
    }
}

#[test]
fn nobody_enrolls_where_another_node_is_or_was() {
    let first = alone(1);
    let token = create(&first, &["--auto-approve", "--ttl", "168h"]);
    let said = first.run(&["enroll", "create", "--ttl", "169h"]).unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("at most 168h"), "{said:?}");
    let node = Qu::init(2, QU_SECRET).unwrap();
    let said = node
        .run_with(&["enroll", "join", "-y", "-"], &token.reveal())
        .unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("this host is a node already"), "{said:?}");
    std::fs::remove_file(node.config_dir().join("node.yaml")).unwrap();
    let said = node
        .run_with(&["enroll", "join", "-y", "-"], &token.reveal())
        .unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("what is left of another node"), "{said:?}");
    // Without --yes somebody is asked.
    let host = Host::new(3);
    std::fs::write(host.qu.dir().join("token"), token.reveal()).unwrap();
    let file = host.qu.dir().join("token").display().to_string();
    let args = ["enroll", "join", "--token-file", &file, "--advertise", "h:1"];
    let said = host.qu.run_with(&args, "n\n").unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    let asked = format!("Join the cluster at {} as h:1? [y/N]", first.peer_address());
    assert!(
        said.stderr.contains(&asked) && said.stderr.ends_with("error: not joined\n"),
        "{said:?}"
    );
    assert!(!host.qu.config_dir().exists());
    // An address that a peer has already does not use the token up.
    let taken = ["--advertise", &first.peer_address()];
    let said = host.qu.run(&[&args[..4], &taken, &["-y"]].concat()).unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("is used twice"), "{said:?}");
    assert_eq!(list(&first)[0]["state"], "open");
}
