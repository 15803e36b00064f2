//! Certificates made here, in real handshakes in memory; files that are wrong; files that change.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use pki::{
    Authority, Certificate, ClientAuth, Issued, Look, Material, Name, Paths, Profile, Reloadable, Trouble,
    Usage,
};
use pki::{Unverified, Warning};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};

const DAY: u64 = 86_400;

/// Handshakes are made with the machine's own clock.
fn now() -> u64 {
    use service::clock::{Clock as _, SystemClock};
    SystemClock::new().unix_ms() / 1000
}

fn issue(authority: &Authority, name: &str, usage: Usage, days: u32, at: u64) -> Issued {
    let profile = Profile {
        common_name: name.to_owned(),
        organisation: String::new(),
        names: vec![name.parse().unwrap(), "127.0.0.1".parse().unwrap()],
        usage,
        days,
    };
    authority.issue(&profile, at).unwrap()
}

fn authority() -> Authority {
    authority_named("Test CA")
}

fn authority_named(name: &str) -> Authority {
    Authority::create(name, "", 100, now()).unwrap()
}

/// Writes `NAME.crt`, `NAME.key` and `NAME.ca`.
fn put(dir: &Path, name: &str, issued: &Issued, trusted: &Authority) -> Paths {
    let write = |end: &str, content: &str, mode| {
        let path = dir.join(format!("{name}.{end}"));
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    Paths {
        certificate: write("crt", &issued.certificate, 0o644),
        key: write("key", &issued.key, 0o600),
        authorities: Some(write("ca", trusted.certificate(), 0o644)),
    }
}

/// Shakes hands; what each side has to say, the client first.
fn shake(
    server: &Material,
    clients: ClientAuth,
    client: &Material,
    name: &str,
) -> (Option<Trouble>, Option<Trouble>) {
    let server = pki::server_config(server, clients, &[b"h2"]).unwrap();
    let client = pki::client_config(client.authorities().unwrap(), Some(client), &[b"h2"]).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let (mut at_client, mut at_server) = (None, None);
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && at_server.is_none() {
            server.read_tls(&mut rest).unwrap();
            at_server = server
                .process_new_packets()
                .err()
                .and_then(|error| Trouble::of(&error));
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && at_client.is_none() {
            client.read_tls(&mut rest).unwrap();
            at_client = client
                .process_new_packets()
                .err()
                .and_then(|error| Trouble::of(&error));
        }
    }
    assert_eq!(
        at_client.is_none(),
        at_server.is_none(),
        "{at_client:?} {at_server:?}"
    );
    (at_client, at_server)
}

#[test]
fn both_sides_say_what_is_wrong_with_a_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others, namesake) = (authority(), authority_named("Other CA"), authority());
    let load = |name: &str, issued: &Issued, trusted: &Authority| {
        // Loaded as of a time when it was good, so that the other side is who finds out.
        let paths = put(dir.path(), name, issued, trusted);
        let leaf = &Certificate::read_all(&paths.certificate).unwrap()[0];
        Material::load(&paths, u64::try_from(leaf.not_after).unwrap()).unwrap()
    };
    let good = load("good", &issue(&ours, "node1", Usage::Peer, 90, now()), &ours);
    let stranger = load(
        "stranger",
        &issue(&others, "node2", Usage::Peer, 90, now()),
        &ours,
    );
    let suspicious = load(
        "suspicious",
        &issue(&ours, "node3", Usage::Peer, 90, now()),
        &others,
    );
    let old = load(
        "old",
        &issue(&ours, "node4", Usage::Peer, 1, now() - 9 * DAY),
        &ours,
    );
    let server_only = load("server", &issue(&ours, "node5", Usage::Server, 90, now()), &ours);
    let required = ClientAuth::Required;
    let of = |trouble: Option<Trouble>| trouble.map_or(String::new(), |trouble| trouble.to_string());
    let said = |server: &Material, client: &Material, name: &str| {
        let (client, server) = shake(server, required, client, name);
        (of(client), of(server))
    };

    assert_eq!(said(&good, &good, "node1"), (String::new(), String::new()));
    assert_eq!(said(&good, &good, "127.0.0.1"), (String::new(), String::new()));

    let (client, server) = said(&good, &stranger, "node1");
    assert_eq!(server, "certificate verify failed: unknown CA");
    assert_eq!(client, "tls: bad certificate: unknown CA");

    let (client, server) = said(&good, &suspicious, "node1");
    assert_eq!(client, "certificate verify failed: unknown CA");
    assert_eq!(server, "tls: bad certificate: unknown CA");

    // An authority that was made anew under the same name.
    let remade = load(
        "remade",
        &issue(&namesake, "node6", Usage::Peer, 90, now()),
        &ours,
    );
    let (client, server) = said(&good, &remade, "node1");
    assert_eq!(server, "certificate verify failed: unknown CA");
    assert_eq!(client, "tls: bad certificate: bad signature");

    let (client, server) = said(&good, &old, "node1");
    assert!(
        server.starts_with("certificate verify failed: expired 20"),
        "{server}"
    );
    assert_eq!(client, "tls: bad certificate: expired");
    let (client, server) = said(&old, &good, "node4");
    assert!(
        client.starts_with("certificate verify failed: expired 20"),
        "{client}"
    );
    assert_eq!(server, "tls: bad certificate: expired");

    let (client, server) = said(&good, &good, "node9");
    assert_eq!(
        client,
        "certificate verify failed: name mismatch: node9 is not among node1 127.0.0.1"
    );
    assert!(server.starts_with("tls: bad certificate: "), "{server}");

    let (_, server) = said(&good, &server_only, "node1");
    assert_eq!(server, "certificate verify failed: not for this use");
    assert_eq!(of(shake(&good, ClientAuth::None, &server_only, "node1").1), "");
}

#[test]
fn plain_text_is_no_tls() {
    let mut server = {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority();
        let paths = put(
            dir.path(),
            "a",
            &issue(&authority, "a", Usage::Peer, 9, now()),
            &authority,
        );
        let material = Material::load(&paths, now()).unwrap();
        ServerConnection::new(Arc::new(
            pki::server_config(&material, ClientAuth::None, &[]).unwrap(),
        ))
        .unwrap()
    };
    server.read_tls(&mut &b"GET / HTTP/1.1\r\n\r\n"[..]).unwrap();
    let error = std::io::Error::other(server.process_new_packets().unwrap_err());
    assert_eq!(Trouble::of(&error), Some(Trouble::NotTls));
    assert_eq!(Trouble::of(&std::io::Error::other("else")), None);
    let missing = rustls::Error::NoCertificatesPresented;
    assert_eq!(
        Trouble::of(&missing),
        Some(Trouble::Unverified(Unverified::Missing))
    );
}

#[test]
fn wrong_files_are_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let ours = authority();
    let good = put(dir.path(), "a", &issue(&ours, "a", Usage::Peer, 90, now()), &ours);
    let other = put(dir.path(), "b", &issue(&ours, "b", Usage::Peer, 90, now()), &ours);
    fs::write(path("empty"), "").unwrap();
    fs::write(
        path("damaged"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    fs::write(
        path("locked"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let error = |certificate: &Path, key: &Path, authorities: &Path| {
        let paths = Paths {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            authorities: Some(authorities.to_owned()),
        };
        Material::load(&paths, now())
            .unwrap_err()
            .to_string()
            .replace(&dir.path().display().to_string(), "")
    };
    let (crt, key) = (&good.certificate, &good.key);
    let ca = good.authorities.as_deref().unwrap();
    assert_eq!(
        error(&path("none"), key, ca),
        "read /none: no such file or directory"
    );
    assert_eq!(
        error(&path("empty"), key, ca),
        "/empty holds no certificate: want PEM text with -----BEGIN CERTIFICATE-----"
    );
    assert!(error(&path("damaged"), key, ca).starts_with("/damaged holds a damaged certificate: "));
    assert!(error(crt, key, &path("damaged")).starts_with("/damaged holds a damaged certificate: "));
    assert_eq!(
        error(crt, crt, ca),
        "/a.crt holds no private key: want PEM text with -----BEGIN PRIVATE KEY-----"
    );
    assert!(error(crt, &path("locked"), ca).starts_with("/locked holds an encrypted key: "));
    assert_eq!(
        error(crt, &other.key, ca),
        "the key in /b.key does not belong to the certificate in /a.crt"
    );
    let later = Material::load(&good, now() + 91 * DAY).unwrap_err().to_string();
    assert!(
        later.contains("/a.crt expired on 20") && later.ends_with("Z: replace it"),
        "{later}"
    );
    let earlier = Material::load(&good, now() - DAY).unwrap_err().to_string();
    assert!(earlier.contains("/a.crt is not valid before 20"), "{earlier}");
}

#[test]
fn what_is_no_mistake_yet_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (authority(), authority());
    let paths = put(
        dir.path(),
        "a",
        &issue(&ours, "a", Usage::Server, 40, now()),
        &ours,
    );
    assert_eq!(Material::load(&paths, now()).unwrap().warnings, []);
    let soon = Material::load(&paths, now() + 11 * DAY).unwrap();
    let not_after = soon.leaf.not_after;
    assert_eq!(soon.warnings, [Warning::ExpiresSoon { not_after }]);
    let paths = put(
        dir.path(),
        "b",
        &issue(&ours, "b", Usage::Peer, 40, now()),
        &others,
    );
    fs::set_permissions(&paths.key, fs::Permissions::from_mode(0o644)).unwrap();
    let issuer = "Test CA".to_owned();
    assert_eq!(
        Material::load(&paths, now()).unwrap().warnings,
        [Warning::KeyReadableByOthers, Warning::ForeignAuthority { issuer }]
    );
}

#[test]
fn new_files_are_taken_when_they_are_complete_and_good() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let first = issue(&ours, "first", Usage::Peer, 90, now());
    let second = issue(&ours, "second", Usage::Peer, 90, now());
    let paths = put(dir.path(), "a", &first, &ours);
    let running = Reloadable::load(paths.clone(), ClientAuth::None, &[b"h2"], now()).unwrap();
    let is_quiet = || matches!(running.look(now()), Look::Quiet);
    let before = running.server();
    assert!(is_quiet() && is_quiet());

    // Half of the new pair, for long: refused once.
    fs::write(&paths.certificate, &second.certificate).unwrap();
    assert!(is_quiet(), "it may still be changing");
    match running.look(now()) {
        Look::Refused(error) => assert!(error.to_string().contains("does not belong"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(is_quiet() && is_quiet());
    assert_eq!(running.leaf().subject, "first");

    fs::write(&paths.key, &second.key).unwrap();
    assert!(is_quiet());
    assert!(matches!(running.look(now()), Look::Reloaded));
    assert_eq!(running.leaf().subject, "second");
    assert!(!Arc::ptr_eq(&before, &running.server()));

    // Gone, and there again.
    fs::remove_file(&paths.key).unwrap();
    assert!(is_quiet());
    assert!(matches!(running.look(now()), Look::Refused(_)));
    fs::write(&paths.key, &second.key).unwrap();
    assert!(is_quiet());
    assert!(matches!(running.look(now()), Look::Reloaded));

    // At once when asked, both ways.
    put(dir.path(), "a", &first, &ours);
    running.reload(now()).unwrap();
    assert_eq!(running.leaf().subject, "first");
    fs::write(&paths.certificate, "").unwrap();
    assert!(running.reload(now()).is_err());
    assert!(is_quiet() && is_quiet(), "told already");
    assert_eq!(running.leaf().subject, "first");
}

#[test]
fn an_authority_read_from_its_files_issues_what_its_certificate_vouches_for() {
    let dir = tempfile::tempdir().unwrap();
    let (made, other) = (authority(), authority());
    let path = |name: &str| dir.path().join(name);
    fs::write(path("ca.crt"), made.certificate()).unwrap();
    fs::write(path("ca.key"), made.key()).unwrap();
    fs::write(path("other.key"), other.key()).unwrap();
    let read = Authority::read(&path("ca.crt"), &path("ca.key")).unwrap();
    let paths = put(
        dir.path(),
        "late",
        &issue(&read, "late", Usage::Peer, 90, now()),
        &made,
    );
    let material = Material::load(&paths, now()).unwrap();
    assert_eq!(
        (material.leaf.issuer.as_str(), material.warnings),
        ("Test CA", vec![])
    );
    let error = Authority::read(&path("ca.crt"), &path("other.key"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("does not belong"), "{error}");
    let error = Authority::read(&paths.certificate, &paths.key)
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("it is no authority, so nothing can be issued with it"),
        "{error}"
    );
}

#[test]
fn names_are_host_names_or_addresses() {
    let ip = |text: &str| Ok(Name::Ip(text.parse().unwrap()));
    let dns = |text: &str| Ok(Name::Dns(text.to_owned()));
    assert_eq!("192.0.2.7".parse(), ip("192.0.2.7"));
    assert_eq!("IP:2001:db8::7".parse(), ip("2001:db8::7"));
    assert_eq!("2001:db8::7".parse(), ip("2001:db8::7"));
    assert_eq!("DNS:node1".parse(), dns("node1"));
    assert_eq!(" *.example.org".parse(), dns("*.example.org"));
    for wrong in ["", "a b", "IP:node1", "a..b", "http://x", "node1:2379"] {
        let error = wrong.parse::<Name>().unwrap_err();
        assert!(error.contains("want a host name or an address"), "{error}");
    }
}

#[test]
fn the_development_set_is_complete_and_keeps_no_key_of_the_authority() {
    let dir = tempfile::tempdir().unwrap();
    pki::dev::write(dir.path(), 2, &["kv.example.org".parse().unwrap()], now()).unwrap();
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let nodes = [
        "chainfire-node-1",
        "chainfire-node-2",
        "flaredb-node-1",
        "flaredb-node-2",
    ];
    let expected: Vec<String> = std::iter::once("ca.crt".to_owned())
        .chain(
            nodes
                .iter()
                .flat_map(|name| [format!("{name}.crt"), format!("{name}.key")]),
        )
        .collect();
    assert_eq!(names, expected);
    for name in nodes {
        let paths = Paths {
            certificate: dir.path().join(format!("{name}.crt")),
            key: dir.path().join(format!("{name}.key")),
            authorities: Some(dir.path().join("ca.crt")),
        };
        let material = Material::load(&paths, now()).unwrap();
        assert_eq!(material.warnings, []);
        let node = format!("node{}", name.chars().last().unwrap());
        assert_eq!(
            material.leaf.names,
            [name, &node, "localhost", "127.0.0.1", "kv.example.org"]
        );
    }
}
