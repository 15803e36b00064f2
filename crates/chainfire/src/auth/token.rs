//! Tokens: what a client shows instead of its password.
//!
//! A [`TokenProvider`] turns a verified user into a token and a token back into an [`Identity`]. It keeps no users and
//! knows no permissions: whether the identity still counts is for [`super::AuthStore::check`] to say.
//!
//! Time and randomness come in from outside, so tests drive both.

mod jwt;
mod simple;

use std::fmt;
use std::sync::Arc;

use rand::TryRng;
use rand::rngs::SysRng;
use service::clock::Clock;

pub use self::jwt::JwtTokens;
pub use self::simple::SimpleTokens;
use super::settings::{AuthSettings, SettingsError, TokenKind, require_ttl};
use super::{Identity, Tokens};
use crate::error::{Error, Result};

/// Fills a buffer with random bytes that nobody can guess.
pub type Entropy = Arc<dyn Fn(&mut [u8]) -> Result<()> + Send + Sync>;

/// The operating system's generator.
pub fn system_entropy() -> Entropy {
    Arc::new(|buffer| {
        SysRng
            .try_fill_bytes(buffer)
            .map_err(|error| Error::Local(format!("read random bytes: {error}")))
    })
}

/// Makes and recognises tokens. Shared by all server tasks.
pub enum TokenProvider {
    /// Random tokens, known to this node only.
    Simple(SimpleTokens),
    /// Signed tokens.
    Jwt(Box<JwtTokens>),
}

impl fmt::Debug for TokenProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(tokens) => tokens.fmt(f),
            Self::Jwt(tokens) => tokens.fmt(f),
        }
    }
}

impl TokenProvider {
    /// The provider that the settings ask for. Reads the key files.
    ///
    /// Errors: the key of the settings, what is wrong with it and what would be right.
    pub fn new(settings: &AuthSettings, entropy: Entropy) -> std::result::Result<Self, SettingsError> {
        match settings.token {
            TokenKind::Simple => {
                require_ttl("auth.simple_token_ttl", settings.simple_token_ttl)?;
                Ok(Self::Simple(SimpleTokens::new(
                    settings.simple_token_ttl.duration(),
                    entropy,
                )))
            }
            TokenKind::Jwt => Ok(Self::Jwt(Box::new(JwtTokens::new(&settings.jwt)?))),
        }
    }

    /// A token for `user`, whose password was verified at auth revision `revision`.
    pub fn assign(&self, user: &str, revision: u64, clock: &dyn Clock) -> Result<String> {
        match self {
            Self::Simple(tokens) => tokens.assign(user, revision, clock.now()),
            Self::Jwt(tokens) => tokens.assign(user, revision, clock.unix_ms()),
        }
    }

    /// Who shows `token`; `None` if it is unknown, forged or expired. `revision` is the auth revision of the moment: a
    /// simple token is looked up and so speaks for its user *now*, a JWT for its user when it was signed.
    pub fn identify(&self, token: &str, revision: u64, clock: &dyn Clock) -> Option<Identity> {
        match self {
            Self::Simple(tokens) => tokens
                .identify(token, clock.now())
                .map(|user| Identity::new(user.as_ref(), revision)),
            Self::Jwt(tokens) => tokens.identify(token, clock.unix_ms()),
        }
    }

    /// What other members have to be told of a token that was given here, so that they know it; nothing if they know it by itself.
    pub fn to_be_told(&self, token: &str) -> Option<bytes::Bytes> {
        match self {
            Self::Simple(_) => Some(bytes::Bytes::copy_from_slice(&simple::fingerprint(token))),
            Self::Jwt(_) => None,
        }
    }

    /// Drops what an applied command voided, and learns what it gave. JWTs need nothing: the revision they carry is too old from then
    /// on.
    pub fn follow(&self, tokens: &Tokens, clock: &dyn Clock) {
        match (self, tokens) {
            (Self::Simple(table), Tokens::Given { user, fingerprint }) => {
                table.learn(user, fingerprint, clock.now());
            }
            (Self::Simple(table), Tokens::DropUser(user)) => table.drop_user(user),
            (Self::Simple(table), Tokens::DropAll) => table.drop_all(),
            (Self::Simple(_), Tokens::Keep) | (Self::Jwt(_), _) => {}
        }
    }
}
