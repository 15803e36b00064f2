//! Identities in files and in handshakes in memory, compared with what `openssl` says of the same keys.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step of a test is a panic"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use pki::Trouble;
use pki::pinned::{Error, Fingerprint, Identity, KeyKind, client_config, server_config};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use service::clock::{Clock as _, SystemClock};

const KINDS: [KeyKind; 3] = [KeyKind::P256, KeyKind::Ed25519, KeyKind::Rsa3072];

fn now() -> u64 {
    SystemClock::new().unix_ms() / 1000
}

fn identity(kind: KeyKind) -> Identity {
    Identity::generate("5a0f9a52-1f61-4a4e-9d5c-0f2a0f3b7c11", kind, now()).unwrap()
}

/// What a program writes, which must go well.
fn openssl(dir: &Path, arguments: &str) -> Vec<u8> {
    let output = Command::new("openssl")
        .current_dir(dir)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "openssl {arguments}: {output:?}");
    output.stdout
}

/// The fingerprint of the key in `private.pem`, by openssl alone.
fn by_openssl(dir: &Path) -> String {
    openssl(dir, "pkey -in private.pem -pubout -outform DER -out public.der");
    let text = String::from_utf8(openssl(dir, "dgst -sha256 -r public.der")).unwrap();
    format!("sha256:{}", text.split_whitespace().next().unwrap())
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_was_made_and_saved_is_loaded_again_and_openssl_agrees() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let made = identity(kind);
        made.save(&keys).unwrap();
        let loaded = Identity::load(&keys).unwrap();
        assert_eq!(loaded.fingerprint(), made.fingerprint());
        assert_eq!(loaded.certificate(), made.certificate());
        assert_eq!(made.fingerprint().to_string(), by_openssl(&keys), "{kind:?}");
        let mode = |name| fs::metadata(keys.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            ["private.pem", "public.pem", "cert.pem"].map(mode),
            [0o600, 0o644, 0o644]
        );
        let pem = fs::read_to_string(keys.join("cert.pem")).unwrap();
        assert_eq!(Fingerprint::of_pem(&pem), Ok(made.fingerprint()));
        assert_eq!(
            Fingerprint::of_certificate(made.certificate()),
            Ok(made.fingerprint())
        );
        let public = openssl(&keys, "pkey -in private.pem -pubout");
        assert_eq!(fs::read(keys.join("public.pem")).unwrap(), public);
        let text = openssl(&keys, "x509 -in cert.pem -noout -subject -ext extendedKeyUsage");
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("5a0f9a52-1f61-4a4e-9d5c-0f2a0f3b7c11"), "{text}");
        assert!(
            text.contains("Server Authentication") && text.contains("Client Authentication"),
            "{text}"
        );
        // Self-signed, valid in nine years and 364 days, and not in eleven.
        openssl(&keys, "verify -CAfile cert.pem cert.pem");
        openssl(&keys, "x509 -in cert.pem -noout -checkend 315273600");
        let later = Command::new("openssl")
            .current_dir(&keys)
            .args(["x509", "-in", "cert.pem", "-noout", "-checkend", "347155200"])
            .output()
            .unwrap();
        assert_eq!(later.status.code(), Some(1));
    }
}

#[test]
fn keys_that_other_programs_have_made_are_taken_in_all_their_forms() {
    let makers = [
        (
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out private.pem",
            "BEGIN PRIVATE KEY",
        ),
        (
            "genrsa -traditional -out private.pem 3072",
            "BEGIN RSA PRIVATE KEY",
        ),
        (
            "ecparam -genkey -name prime256v1 -noout -out private.pem",
            "BEGIN EC PRIVATE KEY",
        ),
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem",
            "BEGIN PRIVATE KEY",
        ),
        ("genpkey -algorithm ED25519 -out private.pem", "BEGIN PRIVATE KEY"),
    ];
    for (maker, form) in makers {
        let dir = tempfile::tempdir().unwrap();
        openssl(dir.path(), maker);
        openssl(
            dir.path(),
            "req -new -x509 -key private.pem -subj /CN=upstream -days 3650 -out cert.pem",
        );
        let key = dir.path().join("private.pem");
        set_mode(&key, 0o600);
        assert!(fs::read_to_string(&key).unwrap().contains(form), "{maker}");
        let loaded = Identity::load(dir.path()).unwrap_or_else(|error| panic!("{maker}: {error}"));
        assert_eq!(
            loaded.fingerprint().to_string(),
            by_openssl(dir.path()),
            "{maker}"
        );
        let ours = identity(KeyKind::P256);
        let shake = |server, client| handshake(server_config(server, &[]), client_config(client, None, &[]));
        assert_eq!(
            shake(&ours, &loaded).unwrap().1,
            Some(loaded.fingerprint()),
            "{maker}"
        );
        assert_eq!(
            shake(&loaded, &ours).unwrap().0,
            Some(loaded.fingerprint()),
            "{maker}"
        );
    }
}

#[test]
fn a_key_that_others_can_use_or_that_is_not_the_certificates_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("private.pem");
    identity(KeyKind::P256).save(dir.path()).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o620, 0o601] {
        set_mode(&key, mode);
        let error = Identity::load(dir.path()).unwrap_err();
        assert!(
            matches!(error, Error::Exposed { mode: told, .. } if told == mode),
            "{error}"
        );
        let remedy = format!("chmod 600 {}", key.display());
        let text = error.to_string();
        assert!(
            text.contains(&remedy) && text.contains(&format!("{mode:04o}")),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
    }
    set_mode(&key, 0o400);
    Identity::load(dir.path()).unwrap();
    set_mode(&key, 0o600);
    let other = identity(KeyKind::P256);
    fs::write(dir.path().join("cert.pem"), other.certificate_pem()).unwrap();
    let error = Identity::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("does not belong to the certificate"), "{error}");
    fs::write(dir.path().join("cert.pem"), "nothing").unwrap();
    let error = Identity::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("holds no certificate"), "{error}");
    fs::remove_file(&key).unwrap();
    let error = Identity::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("private.pem"), "{error}");
}

#[test]
fn nothing_prints_the_key() {
    let own = identity(KeyKind::P256);
    let text = format!("{own:?}");
    assert!(
        text.contains(&own.fingerprint().to_string()) && !text.contains("PRIVATE"),
        "{text}"
    );
    assert!(text.len() < 150, "{text}");
}

/// The key of the other end, if it has shown one.
type Seen = Option<Fingerprint>;

/// Which end failed, and by what.
type Failed = (&'static str, rustls::Error);

/// What client and server have seen.
fn handshake(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> Result<(Seen, Seen), Failed> {
    let name = ServerName::try_from("anything").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let seen = |certificates: Option<&[CertificateDer<'static>]>| {
        certificates.map(|all| Fingerprint::of_certificate(&all[0]).unwrap())
    };
    for _ in 0..8 {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets().map_err(|error| ("server", error))?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets().map_err(|error| ("client", error))?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    Ok((seen(client.peer_certificates()), seen(server.peer_certificates())))
}

#[test]
fn both_ends_see_each_others_key_whatever_kind_it_is() {
    let own = KINDS.map(identity);
    for server in &own {
        for client in &own {
            for pin in [Some(server.fingerprint()), None] {
                let seen = handshake(server_config(server, &[]), client_config(client, pin, &[]));
                assert_eq!(
                    seen.unwrap(),
                    (Some(server.fingerprint()), Some(client.fingerprint()))
                );
            }
        }
    }
}

#[test]
fn another_key_than_the_pinned_one_is_refused_and_both_are_named() {
    let [server, client, expected] = [(); 3].map(|()| identity(KeyKind::P256));
    let pin = Some(expected.fingerprint());
    let (end, error) = handshake(server_config(&server, &[]), client_config(&client, pin, &[])).unwrap_err();
    assert_eq!(end, "client");
    let text = Trouble::of(&error).unwrap().to_string();
    let wanted = format!(
        "certificate verify failed: wrong key: want {}, the peer shows {}",
        expected.fingerprint(),
        server.fingerprint()
    );
    assert_eq!(text, wanted);
}

/// Somebody who shows the certificate of another and signs with a key of his own.
#[test]
fn a_certificate_without_its_key_proves_nothing() {
    let [victim, thief] = [(); 2].map(|()| identity(KeyKind::P256));
    let dir = tempfile::tempdir().unwrap();
    thief.save(dir.path()).unwrap();
    let key = {
        use rustls::pki_types::PrivateKeyDer;
        use rustls::pki_types::pem::PemObject as _;
        let pem = fs::read(dir.path().join("private.pem")).unwrap();
        PrivateKeyDer::from_pem_slice(&pem).unwrap()
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let chain = vec![CertificateDer::from(victim.certificate().to_vec())];
    let stolen = rustls::sign::CertifiedKey::new(chain, key);
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
    let mut as_client = Arc::unwrap_or_clone(client_config(&thief, None, &[]));
    as_client.client_auth_cert_resolver = resolver.clone();
    let (end, _) = handshake(server_config(&thief, &[]), Arc::new(as_client)).unwrap_err();
    assert_eq!(end, "server");
    let mut as_server = Arc::unwrap_or_clone(server_config(&thief, &[]));
    as_server.cert_resolver = resolver;
    let pin = Some(victim.fingerprint());
    let (end, _) = handshake(Arc::new(as_server), client_config(&thief, pin, &[])).unwrap_err();
    assert_eq!(end, "client");
}

#[test]
fn a_client_without_a_certificate_finishes_the_handshake_and_tls_1_2_does_not() {
    let (server, client) = (identity(KeyKind::P256), identity(KeyKind::Ed25519));
    let mut anonymous = Arc::unwrap_or_clone(client_config(&client, None, &[]));
    anonymous.client_auth_cert_resolver = Arc::new(Anonymous);
    let seen = handshake(server_config(&server, &[]), Arc::new(anonymous)).unwrap();
    assert_eq!(seen, (Some(server.fingerprint()), None));
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from(server.certificate().to_vec()))
        .unwrap();
    let old = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (end, _) = handshake(server_config(&server, &[]), Arc::new(old)).unwrap_err();
    assert_eq!(end, "server");
}

#[derive(Debug)]
struct Anonymous;

impl rustls::client::ResolvesClientCert for Anonymous {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
