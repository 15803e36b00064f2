//! Password hashes.
//!
//! The node that takes a request hashes the password and puts only the hash into the log; the node that takes
//! `Authenticate` verifies. Both cost tens of milliseconds and megabytes on purpose, so callers run them on a blocking
//! thread and bound how many run at once. Nothing here runs while a log entry is applied.

use std::sync::LazyLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error as HashError, PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::auth::token::Entropy;
use crate::error::{Error, Result};
use crate::wire::etcdserverpb::{AuthUserAddRequest, AuthUserChangePasswordRequest};

/// Memory of one hash in KiB, passes over it, and lanes. The OWASP recommendation for Argon2id: 19 MiB makes guessing on
/// graphics cards expensive, while a small machine still serves several logins a second.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Bytes of the hash.
const OUTPUT_BYTES: usize = 32;

/// Bytes of salt; more than enough for no two users to share one.
const SALT_BYTES: usize = 16;

/// A hash no password is known for. Verifying against it costs what verifying against a real one does, so the time of a
/// refusal does not tell whether a user exists. Made with the parameters above, which a test pins.
pub(super) const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

static HASHER: LazyLock<Argon2<'static>> = LazyLock::new(|| {
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_BYTES)).expect("the constants are in range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
});

/// Hashes `password` with a fresh salt into a PHC string (`$argon2id$...`). Slow.
pub fn hash(password: &str, entropy: &Entropy) -> Result<String> {
    let mut salt = [0; SALT_BYTES];
    entropy(&mut salt)?;
    HASHER
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| Error::Local(format!("hash password: {error}")))
}

/// Compares `password` with a PHC string in constant time. Slow, equally for right and wrong passwords.
pub(super) fn matches(password: &str, phc: &str) -> Result<bool> {
    let stored = PasswordHash::new(phc)
        .map_err(|error| Error::Local(format!("verify password: stored hash cannot be read: {error}")))?;
    match HASHER.verify_password(password.as_bytes(), &stored) {
        Ok(()) => Ok(true),
        Err(HashError::PasswordInvalid) => Ok(false),
        Err(error) => Err(Error::Local(format!("verify password: {error}"))),
    }
}

/// Whether `text` is a hash that [`matches`] can work with.
pub(super) fn is_hash(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|phc| {
        phc.algorithm == Algorithm::Argon2id.ident()
            && phc.salt.is_some()
            && phc.hash.is_some()
            && Params::try_from(&phc)
                .is_ok_and(|params| params.m_cost() <= MEMORY_KIB && params.t_cost() <= PASSES)
    })
}

/// Replaces the password of a user to be added by its hash, before the request is proposed. A hash that the client sent
/// is thrown away: only this node decides what a hash looks like. Slow.
pub fn seal_user_add(request: &mut AuthUserAddRequest, entropy: &Entropy) -> Result<()> {
    let without = request.options.is_some_and(|options| options.no_password);
    request.hashed_password = if without {
        String::new()
    } else {
        hash(&request.password, entropy)?
    };
    request.password.clear();
    Ok(())
}

/// Replaces a new password by its hash, as [`seal_user_add`] does. Slow.
pub fn seal_change(request: &mut AuthUserChangePasswordRequest, entropy: &Entropy) -> Result<()> {
    request.hashed_password = hash(&request.password, entropy)?;
    request.password.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::system_entropy;
    use crate::wire::authpb::UserAddOptions;

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let phc = hash("correct horse", &system_entropy()).unwrap();
        assert!(is_hash(&phc));
        assert!(matches("correct horse", &phc).unwrap());
        assert!(!matches("correct horsf", &phc).unwrap());
        assert!(!matches("", &phc).unwrap());
    }

    #[test]
    fn the_same_password_hashes_differently_each_time() {
        let entropy = system_entropy();
        assert_ne!(hash("p", &entropy).unwrap(), hash("p", &entropy).unwrap());
    }

    #[test]
    fn the_decoy_costs_what_a_real_hash_costs_and_matches_nothing() {
        let real = hash("p", &system_entropy()).unwrap();
        let cost = |phc: &str| {
            let parsed = PasswordHash::new(phc).unwrap();
            let params = Params::try_from(&parsed).unwrap();
            (
                parsed.algorithm,
                parsed.version,
                params.m_cost(),
                params.t_cost(),
                params.p_cost(),
                parsed.salt.unwrap().len(),
                parsed.hash.unwrap().len(),
            )
        };
        assert_eq!(cost(DECOY), cost(&real));
        assert!(!matches("", DECOY).unwrap());
        assert!(!matches("root", DECOY).unwrap());
    }

    #[test]
    fn what_is_no_affordable_argon2id_hash_is_refused() {
        for text in [
            "",
            "plain",
            "$2a$10$abcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2i$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(!is_hash(text), "{text}");
        }
        assert!(is_hash(DECOY));
    }

    #[test]
    fn sealing_leaves_no_password_and_ignores_a_hash_sent_by_the_client() {
        let entropy = system_entropy();
        let mut add = AuthUserAddRequest {
            name: "u".into(),
            password: "p".into(),
            hashed_password: DECOY.into(),
            ..Default::default()
        };
        seal_user_add(&mut add, &entropy).unwrap();
        assert_eq!(add.password, "");
        assert!(matches("p", &add.hashed_password).unwrap());

        let mut without = AuthUserAddRequest {
            password: "p".into(),
            hashed_password: DECOY.into(),
            options: Some(UserAddOptions { no_password: true }),
            ..Default::default()
        };
        seal_user_add(&mut without, &entropy).unwrap();
        assert_eq!(
            (without.password.as_str(), without.hashed_password.as_str()),
            ("", "")
        );

        let mut change = AuthUserChangePasswordRequest {
            password: "q".into(),
            ..Default::default()
        };
        seal_change(&mut change, &entropy).unwrap();
        assert_eq!(change.password, "");
        assert!(matches("q", &change.hashed_password).unwrap());
    }

    #[test]
    fn a_dry_entropy_source_is_an_error_not_a_fixed_salt() {
        let dry: Entropy = Arc::new(|_: &mut [u8]| Err(Error::Local("read random bytes: none".into())));
        assert!(hash("p", &dry).is_err());
    }
}
