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
    // Its time runs while other things are tried.
    let expired = create(&first, &["--ttl", "10s"]);
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
    assert!(
        said.stderr.contains("there is no token") && said.stderr.contains("--token-file"),
        "{said:?}"
    );
    let said = host
        .qu
        .command(&["enroll", "join", "-y"])
        .env("QUPTIME_ENROLL_TOKEN", "hello")
        .output();
    assert!(String::from_utf8_lossy(&said.unwrap().stderr).contains("this is no enrollment token"));

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

    wait_until(LIMIT, "the master to remove what has expired", || {
        list(&first)
            .iter()
            .all(|known| known["id"] != expired.id.as_str())
    });
    refused(&host, &host.join(&expired), "the token has expired");
    // What was written for it is gone; a key that was there before is not.
    assert!(!host.file("enrolling.yaml").exists() && !host.file("keys").exists());
    std::fs::create_dir_all(host.file("keys")).unwrap();
    for name in ["private.pem", "public.pem", "cert.pem"] {
        let from = first.config_dir().join("keys").join(name);
        std::fs::copy(from, host.file("keys").join(name)).unwrap();
    }
    refused(&host, &host.join(&revoked), "the token was revoked");
    assert!(host.file("keys/private.pem").exists() && !host.file("enrolling.yaml").exists());
    std::fs::remove_dir_all(host.qu.config_dir()).unwrap();

    // Guesses are refused, and after some of them nobody from there is heard for a while.
    let mut guessed = token.clone();
    for _ in 0..2 {
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
    for ttl in ["1ms", "9s", "169h"] {
        let said = first.run(&["enroll", "create", "--ttl", ttl]).unwrap();
        let text = format!("error: --ttl {ttl}: a token lives at least 10s and at most 168h\n");
        assert_eq!((said.code, said.stderr), (1, text));
    }
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
    let bind = host.qu.address().to_string();
    let args = [
        "enroll",
        "join",
        "--token-file",
        &file,
        "--bind",
        &bind,
        "--advertise",
        "h:1",
    ];
    let said = host.qu.run_with(&args, "n\n").unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    let asked = format!("Join the cluster at {} as h:1? [y/N]", first.peer_address());
    assert!(
        said.stderr.contains(&asked) && said.stderr.ends_with("error: not joined\n"),
        "{said:?}"
    );
    // A script that forgot about it is told the way.
    let said = host.qu.run_with(&args, "").unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.stderr
            .contains("error: not joined: there is no terminal to answer at; say --yes"),
        "{said:?}"
    );
    assert!(!host.qu.config_dir().exists());
    // An address that a peer has already does not use the token up.
    let taken = ["--advertise", &first.peer_address()];
    let said = host.qu.run(&[&args[..6], &taken, &["-y"]].concat()).unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("is used twice"), "{said:?}");
    assert_eq!(list(&first)[0]["state"], "open");
}

#[test]
fn a_host_that_could_not_serve_or_that_nobody_could_reach_is_not_let_in() {
    let first = alone(1);
    let token = create(&first, &["--auto-approve"]);
    let host = Host::new(2);
    for advertise in ["0.0.0.0:9901", "[::]:9901", "0:9901", "224.0.0.1:9901"] {
        let said = host.join_with(&token, &["--advertise", advertise]);
        refused(
            &host,
            &said,
            &format!("--advertise: nobody reaches a node at {advertise}; write the name"),
        );
    }
    let said = host.join_with(&token, &["--advertise", "k\u{f6}ln.example.com:9901"]);
    refused(&host, &said, "has the letter '\u{f6}'; write the name in ASCII");
    // Somebody else listens there.
    let port = first.peer_address();
    let said = host.join_with(&token, &["--bind", &first.address().to_string()]);
    refused(
        &host,
        &said,
        &format!("address in use: {port} (--bind and --port)"),
    );
    // An address of nobody here.
    let said = host.join_with(&token, &["--bind", "203.0.113.1"]);
    refused(&host, &said, "no interface of this machine has it");
    assert!(!host.qu.config_dir().exists());
    assert_eq!(list(&first)[0]["state"], "open");
    assert_eq!(first.cluster_text().matches("node_id: ").count(), 1);
    // Whatever a node says of itself, the cluster looks as well.
    let said = first
        .run(&["node", "edit", &first.id(), "--address", "0.0.0.0:9901"])
        .unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.stderr
            .contains("--address: nobody reaches a node at 0.0.0.0:9901"),
        "{said:?}"
    );
}
