//! Enrollment tokens as people carry them from a node to a new host: one word, base64url of a JSON object with the id of the enrollment,
//! its secret, its end, and where the cluster is, each place with the fingerprint of its key.
//!
//! A token is a secret. The cluster keeps only the [`hash`] of what it is about, so `cluster.yaml` lets nobody in.

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Longest text that is looked at: a cluster has at most some sixty nodes.
const TEXT_MAX: usize = 64 << 10;

/// What a new host needs to know to enroll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Of the enrollment.
    pub id: String,
    /// Shown once, to the cluster.
    pub secret: Secret,
    /// From then on it is void, RFC 3339.
    pub expires_at: String,
    /// Where the cluster is. Never empty.
    pub endpoints: Vec<Endpoint>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// Of the only key that it may have.
    pub fingerprint: String,
}

/// Not a token. Says nothing of what was given, which may be most of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no enrollment token, or it is cut off; it is the one long word that qu enroll create printed"
)]
pub struct BadToken;

impl Token {
    /// Reads one, with or without blanks around it.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Token, BadToken> {
        let text = text.trim();
        if text.len() > TEXT_MAX {
            return Err(BadToken);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadToken)?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| BadToken)?;
        let is_whole = !token.id.is_empty()
            && !token.secret.is_empty()
            && token.expires_at.parse::<jiff::Timestamp>().is_ok()
            && !token.endpoints.is_empty()
            && token.endpoints.iter().all(|endpoint| {
                crate::document::review::address(&endpoint.address).is_ok()
                    && endpoint.fingerprint.parse::<pki::pinned::Fingerprint>().is_ok()
            });
        if is_whole { Ok(token) } else { Err(BadToken) }
    }

    /// The word itself.
    pub fn reveal(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("a token consists of texts"))
    }
}

/// What the cluster keeps of a secret: `sha256:` and the hash in lower-case hexadecimal digits.
pub fn hash(secret: &Secret) -> String {
    use fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in digest::digest(&digest::SHA256, secret.reveal().as_bytes()).as_ref() {
        write!(text, "{byte:02x}").expect("a text takes everything");
    }
    text
}

/// Whether a secret is the one with this [`hash`]. Takes the same time wherever they differ.
pub fn is_secret_of(secret: &Secret, kept: &str) -> bool {
    constant_time::verify_slices_are_equal(hash(secret).as_bytes(), kept.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            id: "0123456789abcdef".to_owned(),
            secret: Secret::draw(),
            expires_at: "2026-05-15T14:00:00Z".to_owned(),
            endpoints: vec![Endpoint {
                address: "alpha.example.com:9901".to_owned(),
                fingerprint: format!("sha256:{}", "ab".repeat(32)),
            }],
        }
    }

    #[test]
    fn is_read_as_it_was_written_and_never_printed_by_accident() {
        let token = token();
        let text = token.reveal();
        assert!(
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
            "{text}"
        );
        assert_eq!(Token::parse(&format!(" {text}\n")), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(token.secret.reveal()));
    }

    #[test]
    fn whatever_is_cut_off_or_garbled_is_none() {
        let text = token().reveal();
        for end in 0..text.len() {
            assert_eq!(Token::parse(&text[..end]), Err(BadToken), "{end}");
        }
        let wrong = |change: fn(&mut Token)| {
            let mut token = token();
            change(&mut token);
            assert_eq!(Token::parse(&token.reveal()), Err(BadToken));
        };
        wrong(|token| token.endpoints.clear());
        wrong(|token| token.id.clear());
        wrong(|token| token.secret = Secret::default());
        wrong(|token| token.expires_at = "tomorrow".to_owned());
        wrong(|token| token.endpoints[0].fingerprint.truncate(20));
        wrong(|token| token.endpoints[0].address = "alpha".to_owned());
        assert_eq!(Token::parse(&"A".repeat(TEXT_MAX + 1)), Err(BadToken));
    }

    #[test]
    fn the_hash_is_that_of_sha256sum_and_fits_one_secret() {
        let secret = Secret::new("abc");
        let kept = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&secret), kept);
        assert!(is_secret_of(&secret, kept));
        for other in ["", "sha256:", &kept[..70], &kept.to_uppercase()] {
            assert!(!is_secret_of(&secret, other), "{other}");
        }
        assert!(!is_secret_of(&Secret::new("abd"), kept));
    }
}
