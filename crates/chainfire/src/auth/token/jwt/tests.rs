//! Tokens of every signing method, and those that must be refused.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use service::clock::ManualClock;
use service::settings::Millis;
use tempfile::TempDir;

use super::*;
use crate::auth::{AuthSettings, TokenKind, TokenProvider, Tokens, system_entropy};

const NOW_MS: u64 = 1_700_000_000_000;

/// Key files made by `openssl`, as an operator makes them.
struct Keys {
    directory: TempDir,
}

impl Keys {
    fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes `NAME.key` and `NAME.pub` with the arguments of `openssl genpkey`.
    fn make(&self, name: &str, arguments: &[&str]) -> JwtSettings {
        let (private, public) = (
            self.path(&format!("{name}.key")),
            self.path(&format!("{name}.pub")),
        );
        run(Command::new("openssl")
            .arg("genpkey")
            .args(arguments)
            .arg("-out")
            .arg(&private));
        run(Command::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(&private)
            .arg("-out")
            .arg(&public));
        JwtSettings {
            public_key: public,
            private_key: private,
            ..JwtSettings::default()
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("openssl is installed");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn with_method(settings: &JwtSettings, method: &str) -> JwtSettings {
    JwtSettings {
        sign_method: method.into(),
        ..settings.clone()
    }
}

const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
const ED25519: &[&str] = &["-algorithm", "ED25519"];

/// Signs, verifies with the pair, with the public key alone, and with the private key alone.
fn check_round_trip(settings: &JwtSettings) {
    let method = &settings.sign_method;
    let both = JwtTokens::new(settings).unwrap();
    let token = both.assign("ann", 7, NOW_MS).unwrap();
    let expected = Some(Identity::new("ann", 7));
    assert_eq!(both.identify(&token, NOW_MS), expected, "{method}");

    let accepting = JwtTokens::new(&JwtSettings {
        private_key: PathBuf::new(),
        ..settings.clone()
    })
    .unwrap();
    assert_eq!(accepting.identify(&token, NOW_MS), expected, "{method}");
    assert!(
        matches!(accepting.assign("ann", 7, NOW_MS), Err(Error::Unsupported(_))),
        "{method}"
    );

    let derived = JwtTokens::new(&JwtSettings {
        public_key: PathBuf::new(),
        ..settings.clone()
    })
    .unwrap();
    assert_eq!(derived.identify(&token, NOW_MS), expected, "{method}");

    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    assert_eq!(both.identify(&forged, NOW_MS), None, "{method}");
}

#[test]
fn every_method_signs_and_verifies_with_keys_made_by_openssl() {
    let keys = Keys::new();
    let rsa = keys.make("rsa", RSA);
    for method in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        check_round_trip(&with_method(&rsa, method));
    }
    check_round_trip(&with_method(&keys.make("p256", P256), "ES256"));
    check_round_trip(&with_method(&keys.make("p384", P384), "ES384"));
    check_round_trip(&with_method(&keys.make("ed", ED25519), "EdDSA"));
}

fn shared_secret(keys: &Keys) -> JwtSettings {
    let path = keys.path("secret");
    std::fs::write(&path, b"0123456789abcdef0123456789abcdef").unwrap();
    JwtSettings {
        private_key: path,
        sign_method: "HS256".into(),
        ..JwtSettings::default()
    }
}

#[test]
fn shared_secrets_work_and_bind_the_method() {
    let keys = Keys::new();
    let settings = shared_secret(&keys);
    let tokens = JwtTokens::new(&settings).unwrap();
    let token = tokens.assign("ann", 1, NOW_MS).unwrap();
    assert_eq!(tokens.identify(&token, NOW_MS), Some(Identity::new("ann", 1)));
    for method in ["HS384", "HS512"] {
        let other = JwtTokens::new(&with_method(&settings, method)).unwrap();
        assert_eq!(
            other.identify(&token, NOW_MS),
            None,
            "a token of another method is refused"
        );
        let own = other.assign("ann", 1, NOW_MS).unwrap();
        assert_eq!(other.identify(&own, NOW_MS), Some(Identity::new("ann", 1)));
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    // The classic confusion: a token signed with the public key as if it were an HMAC secret.
    let keys = Keys::new();
    let rsa = with_method(&keys.make("rsa", RSA), "RS256");
    let tokens = JwtTokens::new(&rsa).unwrap();
    let secret = EncodingKey::from_secret(&std::fs::read(&rsa.public_key).unwrap());
    let claims = json!({ "username": "root", "revision": 9, "exp": NOW_MS / 1000 + 60 });
    let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap();
    assert_eq!(tokens.identify(&forged, NOW_MS), None);
}

#[test]
fn a_token_lives_as_long_as_the_setting_says() {
    let keys = Keys::new();
    let settings = JwtSettings {
        ttl: Millis::seconds(60),
        ..shared_secret(&keys)
    };
    let tokens = JwtTokens::new(&settings).unwrap();
    let token = tokens.assign("ann", 1, NOW_MS + 1).unwrap();
    assert!(tokens.identify(&token, NOW_MS + 60_000).is_some());
    assert!(tokens.identify(&token, NOW_MS + 61_000).is_none());
}

#[test]
fn claims_are_those_of_etcd() {
    let keys = Keys::new();
    let settings = shared_secret(&keys);
    let tokens = JwtTokens::new(&settings).unwrap();
    let key = EncodingKey::from_secret(&std::fs::read(&settings.private_key).unwrap());
    let soon = NOW_MS / 1000 + 10;
    let cases = [
        (json!({ "username": "ann", "revision": 3, "exp": soon }), true),
        (
            json!({ "username": "ann", "revision": 3.0, "exp": soon as f64 }),
            true,
        ),
        // Other claims are not ours to judge.
        (
            json!({ "username": "ann", "revision": 3, "exp": soon, "aud": "x", "iss": "y", "extra": [1] }),
            true,
        ),
        (
            json!({ "username": "ann", "revision": 3, "exp": soon, "nbf": soon - 20 }),
            true,
        ),
        (
            json!({ "username": "ann", "revision": 3, "exp": soon, "nbf": soon }),
            false,
        ),
        (
            json!({ "username": "ann", "revision": 3, "exp": soon - 10 }),
            false,
        ),
        (json!({ "username": "ann", "revision": 3 }), false),
        (json!({ "username": "ann", "exp": soon }), false),
        (json!({ "revision": 3, "exp": soon }), false),
        (json!({ "username": 5, "revision": 3, "exp": soon }), false),
        (json!({ "username": "ann", "revision": "3", "exp": soon }), false),
        (json!({ "username": "ann", "revision": -3, "exp": soon }), false),
    ];
    for (claims, accepted) in cases {
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        let expected = accepted.then(|| Identity::new("ann", 3));
        assert_eq!(tokens.identify(&token, NOW_MS), expected, "{claims}");
    }
    let made = tokens.assign("ann", 3, NOW_MS).unwrap();
    let read: serde_json::Value = jsonwebtoken::dangerous::insecure_decode(&made).unwrap().claims;
    assert_eq!(
        read,
        json!({ "username": "ann", "revision": 3, "exp": NOW_MS / 1000 + 300 })
    );
    for garbage in ["", ".", "..", "a.b.c", &"x".repeat(100_000)] {
        assert_eq!(tokens.identify(garbage, NOW_MS), None);
    }
}

#[test]
fn unusable_settings_name_the_key_and_what_would_be_right() {
    let keys = Keys::new();
    let rsa = with_method(&keys.make("rsa", RSA), "RS256");
    let other = keys.make("other", RSA);
    let p256 = keys.make("p256", P256);
    let empty = keys.path("empty");
    std::fs::write(&empty, b"").unwrap();
    let cases = [
        (with_method(&rsa, ""), "auth.jwt.sign_method: not set", "EdDSA"),
        (
            with_method(&rsa, "ES512"),
            "auth.jwt.sign_method: no method \"ES512\"",
            "ES384",
        ),
        (with_method(&rsa, "none"), "auth.jwt.sign_method", "RS256"),
        (
            JwtSettings {
                ttl: Millis(10),
                ..rsa.clone()
            },
            "auth.jwt.ttl: 10ms is too short",
            "at least 1s",
        ),
        (
            JwtSettings {
                sign_method: "RS256".into(),
                ..JwtSettings::default()
            },
            "auth.jwt.private_key",
            "PEM file",
        ),
        (
            JwtSettings {
                sign_method: "HS256".into(),
                ..JwtSettings::default()
            },
            "auth.jwt.private_key",
            "32 random",
        ),
        (
            JwtSettings {
                sign_method: "HS256".into(),
                private_key: empty,
                ..JwtSettings::default()
            },
            "auth.jwt.private_key: no secret",
            "32 random",
        ),
        (
            JwtSettings {
                private_key: keys.path("absent"),
                ..rsa.clone()
            },
            "absent",
            "readable",
        ),
        (
            JwtSettings {
                public_key: other.public_key,
                ..rsa.clone()
            },
            "auth.jwt.public_key: does not belong",
            "fits",
        ),
        (with_method(&p256, "RS256"), "auth.jwt.private_key", "PKCS#8"),
        (with_method(&p256, "ES384"), "auth.jwt.private_key", "ES384"),
        (with_method(&rsa, "ES256"), "auth.jwt.private_key", "PKCS#8"),
        (
            JwtSettings {
                private_key: PathBuf::new(),
                public_key: keys.path("rsa.key"),
                ..with_method(&p256, "ES256")
            },
            "auth.jwt.public_key",
            "openssl pkey",
        ),
    ];
    for (settings, problem, fix) in cases {
        let error = JwtTokens::new(&settings).unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains(fix), "{error}");
        assert!(!error.contains("PRIVATE KEY-----"), "{error}");
    }
}

#[test]
fn debug_shows_no_key() {
    let keys = Keys::new();
    let shown = format!("{:?}", JwtTokens::new(&shared_secret(&keys)).unwrap());
    assert_eq!(
        shown,
        "JwtTokens { algorithm: HS256, signs: true, ttl: 300s, .. }"
    );
}

#[test]
fn both_providers_identify_what_they_assigned() {
    let keys = Keys::new();
    let clock = ManualClock::at(NOW_MS);
    let simple = TokenProvider::new(&AuthSettings::default(), system_entropy()).unwrap();
    let settings = AuthSettings {
        token: TokenKind::Jwt,
        jwt: shared_secret(&keys),
        ..AuthSettings::default()
    };
    let jwt = TokenProvider::new(&settings, system_entropy()).unwrap();

    // A simple token speaks for its user now, a JWT for its user when it was signed.
    let (random, signed) = (
        simple.assign("ann", 4, &clock).unwrap(),
        jwt.assign("ann", 4, &clock).unwrap(),
    );
    assert_eq!(simple.identify(&random, 9, &clock), Some(Identity::new("ann", 9)));
    assert_eq!(jwt.identify(&signed, 9, &clock), Some(Identity::new("ann", 4)));
    assert_eq!(simple.identify(&signed, 9, &clock), None);
    assert_eq!(jwt.identify(&random, 9, &clock), None);

    for provider in [&simple, &jwt] {
        provider.follow(&Tokens::Keep, &clock);
        provider.follow(&Tokens::DropUser("ann".into()), &clock);
    }
    assert_eq!(simple.identify(&random, 9, &clock), None);
    clock.advance(Duration::from_secs(301));
    assert_eq!(jwt.identify(&signed, 9, &clock), None);

    let short = AuthSettings {
        simple_token_ttl: Millis(999),
        ..AuthSettings::default()
    };
    let error = TokenProvider::new(&short, system_entropy()).unwrap_err();
    assert_eq!(error.key, "auth.simple_token_ttl");
}
