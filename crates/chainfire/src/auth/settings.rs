//! Section `[auth]` of the settings: which tokens clients get.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use service::error::ErrorKind;
use service::settings::Millis;

/// Shortest life of a token. Below it a client spends its time authenticating.
const TTL_MIN: Millis = Millis::seconds(1);

/// Which tokens clients get, and how long they are good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// `simple`: random tokens that only the node that gave them knows. `jwt`: signed tokens that every node accepts.
    pub token: TokenKind,
    /// How long a simple token stays valid after it was last used.
    pub simple_token_ttl: Millis,
    /// Used with `token = "jwt"`.
    pub jwt: JwtSettings,
}

/// The kind of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Random tokens.
    #[default]
    Simple,
    /// Signed tokens (RFC 7519), as etcd's JWT provider makes them.
    Jwt,
}

/// Keys and signing method of JWTs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtSettings {
    /// PEM file of the public key. May be left out beside a private key. Alone, this node accepts tokens but makes none.
    pub public_key: PathBuf,
    /// PEM file of the private key; for HS256, HS384 and HS512 a file whose bytes are the shared secret.
    pub private_key: PathBuf,
    /// RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384 or HS512.
    pub sign_method: String,
    /// How long a token is valid.
    pub ttl: Millis,
}

impl Default for AuthSettings {
    fn default() -> Self {
        // Both lifetimes are etcd's.
        Self {
            token: TokenKind::Simple,
            simple_token_ttl: Millis::seconds(300),
            jwt: JwtSettings::default(),
        }
    }
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            public_key: PathBuf::new(),
            private_key: PathBuf::new(),
            sign_method: String::new(),
            ttl: Millis::seconds(300),
        }
    }
}

/// A value of section `[auth]` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read settings: {key}: {problem}, expected {expected}")]
pub struct SettingsError {
    /// The dotted key.
    pub key: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub expected: String,
}

impl SettingsError {
    pub(super) fn new(key: &'static str, problem: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            key,
            problem: problem.into(),
            expected: expected.into(),
        }
    }

    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Refuses a lifetime below [`TTL_MIN`].
pub(super) fn require_ttl(key: &'static str, ttl: Millis) -> Result<(), SettingsError> {
    if ttl < TTL_MIN {
        return Err(SettingsError::new(
            key,
            format!("{ttl} is too short"),
            "at least 1s, such as \"5m\"",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_etcd() {
        let settings: AuthSettings = toml::from_str("").unwrap();
        assert_eq!(settings, AuthSettings::default());
        assert_eq!(settings.token, TokenKind::Simple);
        assert_eq!(settings.simple_token_ttl, Millis::seconds(300));
    }

    #[test]
    fn all_keys_are_read() {
        let settings: AuthSettings = toml::from_str(
            "token = \"jwt\"\nsimple_token_ttl = \"1m\"\n[jwt]\npublic_key = \"pub.pem\"\nprivate_key = \"key.pem\"\n\
             sign_method = \"ES256\"\nttl = \"10m\"\n",
        )
        .unwrap();
        assert_eq!(settings.token, TokenKind::Jwt);
        assert_eq!(settings.simple_token_ttl, Millis::seconds(60));
        assert_eq!(settings.jwt.ttl, Millis::seconds(600));
        assert_eq!(settings.jwt.sign_method, "ES256");
        assert_eq!(settings.jwt.private_key, PathBuf::from("key.pem"));
    }

    #[test]
    fn unknown_keys_and_kinds_are_refused_by_name() {
        for (text, named) in [
            ("tokens = \"simple\"", "tokens"),
            ("token = \"basic\"", "basic"),
            ("[jwt]\npub_key = \"x\"", "pub_key"),
        ] {
            let error = toml::from_str::<AuthSettings>(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
