//! Signed tokens (RFC 7519), interchangeable with those of etcd's JWT provider.
//!
//! Claims: `username`, `revision` (the auth revision when it was signed) and `exp` (seconds since 1970). Every node with
//! the key accepts a token, whoever made it. A token cannot be taken back; it stops counting when its user changes, since
//! the revision in it is then too old.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Deserializer, Serialize};

use crate::auth::Identity;
use crate::auth::settings::{JwtSettings, SettingsError, require_ttl};
use crate::error::{Error, Result};

#[cfg(test)]
mod tests;

const PUBLIC_KEY: &str = "auth.jwt.public_key";
const PRIVATE_KEY: &str = "auth.jwt.private_key";
const SIGN_METHOD: &str = "auth.jwt.sign_method";
const TTL: &str = "auth.jwt.ttl";

const METHODS: &str = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384 or HS512";

/// Longest token looked at. Ours have a few hundred bytes; the rest of a request header is not worth parsing.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Signs and verifies tokens.
pub struct JwtTokens {
    algorithm: Algorithm,
    /// Absent on a node that has the public key only.
    signing: Option<EncodingKey>,
    verifying: DecodingKey,
    validation: Validation,
    ttl: Duration,
}

impl fmt::Debug for JwtTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtTokens")
            .field("algorithm", &self.algorithm)
            .field("signs", &self.signing.is_some())
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    #[serde(deserialize_with = "whole")]
    revision: u64,
    #[serde(deserialize_with = "whole")]
    exp: u64,
    #[serde(default, deserialize_with = "whole", skip_serializing)]
    nbf: u64,
}

/// JSON numbers need not look like integers: other issuers write `3.0` or `1e9`.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    number
        .as_u64()
        .or_else(|| {
            number
                .as_f64()
                .filter(|float| *float >= 0.0)
                .map(|float| float as u64)
        })
        .ok_or_else(|| serde::de::Error::custom("expected a number that is not negative"))
}

impl JwtTokens {
    /// Reads the key files.
    ///
    /// Errors: the key of the settings, what is wrong with it and what would be right.
    pub(super) fn new(settings: &JwtSettings) -> std::result::Result<Self, SettingsError> {
        require_ttl(TTL, settings.ttl)?;
        let algorithm: Algorithm = settings.sign_method.parse().map_err(|_| {
            let problem = if settings.sign_method.is_empty() {
                "not set".to_owned()
            } else {
                format!("no method {:?}", settings.sign_method)
            };
            SettingsError::new(SIGN_METHOD, problem, METHODS)
        })?;
        let private = read(PRIVATE_KEY, &settings.private_key)?;
        let public = read(PUBLIC_KEY, &settings.public_key)?;
        let (signing, verifying) = match algorithm.family() {
            AlgorithmFamily::Hmac => shared_secret(private.as_deref())?,
            family => key_pair(algorithm, family, settings, private.as_deref(), public.as_deref())?,
        };
        // Expiry is judged here against the caller's clock. Other claims are not ours to judge, as in etcd.
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let tokens = Self {
            algorithm,
            signing,
            verifying,
            validation,
            ttl: settings.ttl.duration(),
        };
        tokens.prove_keys_match(settings)?;
        Ok(tokens)
    }

    /// A signed token.
    pub(super) fn assign(&self, user: &str, revision: u64, now_unix_ms: u64) -> Result<String> {
        let Some(key) = &self.signing else {
            return Err(Error::Unsupported(
                "this node cannot sign tokens: auth.jwt.private_key is not set, authenticate at another"
                    .into(),
            ));
        };
        // Rounded up, so that a token never lives shorter than the setting says.
        let exp = (now_unix_ms.saturating_add(self.ttl.as_millis() as u64)).div_ceil(1000);
        let claims = Claims {
            username: user.to_owned(),
            revision,
            exp,
            nbf: 0,
        };
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, key)
            .map_err(|error| Error::Local(format!("sign token: {error}")))
    }

    /// Whom a token names, if its signature is right and its time not over.
    pub(super) fn identify(&self, token: &str, now_unix_ms: u64) -> Option<Identity> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation)
            .ok()?
            .claims;
        let now = now_unix_ms / 1000;
        (now < claims.exp && claims.nbf <= now).then(|| Identity::new(claims.username, claims.revision))
    }

    /// A key pair that does not belong together would lock everybody out, so it is found out at the start.
    fn prove_keys_match(&self, settings: &JwtSettings) -> std::result::Result<(), SettingsError> {
        if self.signing.is_none() {
            return Ok(());
        }
        let expected = format!("a key for {} that fits the other one", settings.sign_method);
        let token = self.assign("probe", 1, 0).map_err(|error| {
            SettingsError::new(PRIVATE_KEY, format!("cannot sign ({error})"), expected.clone())
        })?;
        match self.identify(&token, 0) {
            Some(_) => Ok(()),
            None => Err(SettingsError::new(
                PUBLIC_KEY,
                "does not belong to auth.jwt.private_key",
                expected,
            )),
        }
    }
}

fn shared_secret(
    private: Option<&[u8]>,
) -> std::result::Result<(Option<EncodingKey>, DecodingKey), SettingsError> {
    let secret = private.filter(|secret| !secret.is_empty()).ok_or_else(|| {
        SettingsError::new(PRIVATE_KEY, "no secret", "a file with at least 32 random bytes")
    })?;
    Ok((
        Some(EncodingKey::from_secret(secret)),
        DecodingKey::from_secret(secret),
    ))
}

fn key_pair(
    algorithm: Algorithm,
    family: AlgorithmFamily,
    settings: &JwtSettings,
    private: Option<&[u8]>,
    public: Option<&[u8]>,
) -> std::result::Result<(Option<EncodingKey>, DecodingKey), SettingsError> {
    let method = &settings.sign_method;
    let signing = private
        .map(|pem| {
            let key = match family {
                AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(pem),
                AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem),
                AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem),
                AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(pem)),
            };
            key.map_err(|error| {
                SettingsError::new(
                    PRIVATE_KEY,
                    format!("{} is no private key for {method} ({error})", settings.private_key.display()),
                    "a PEM file in PKCS#8 form (\"openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW\" makes one)",
                )
            })
        })
        .transpose()?;
    let verifying = match (public, &signing) {
        (Some(pem), _) => {
            let key = match family {
                AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
                AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
                AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
                AlgorithmFamily::Hmac => Ok(DecodingKey::from_secret(pem)),
            };
            key.map_err(|error| {
                SettingsError::new(
                    PUBLIC_KEY,
                    format!(
                        "{} is no public key for {method} ({error})",
                        settings.public_key.display()
                    ),
                    "a PEM file (\"openssl pkey -in PRIVATE -pubout -out PUBLIC\" makes one)",
                )
            })?
        }
        (None, Some(signing)) => {
            let derived =
                Jwk::from_encoding_key(signing, algorithm).and_then(|jwk| DecodingKey::from_jwk(&jwk));
            derived.map_err(|error| {
                SettingsError::new(
                    PRIVATE_KEY,
                    format!(
                        "{} does not fit {method} ({error})",
                        settings.private_key.display()
                    ),
                    "a key of the kind and size that auth.jwt.sign_method names",
                )
            })?
        }
        (None, None) => {
            return Err(SettingsError::new(
                PRIVATE_KEY,
                format!("{method} needs a key"),
                "the path of a PEM file here, or in auth.jwt.public_key to only accept tokens",
            ));
        }
    };
    Ok((signing, verifying))
}

/// The file's content; `None` when no path is set.
fn read(key: &'static str, path: &Path) -> std::result::Result<Option<Vec<u8>>, SettingsError> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    std::fs::read(path)
        .map(Some)
        .map_err(|error| SettingsError::new(key, format!("{}: {error}", path.display()), "a readable file"))
}
