//! Random tokens, known to the node that gave them.
//!
//! A token reads `LETTERS.REVISION`, the form of etcd's. It is good until it was unused for the time to live, its user was
//! deleted or got another password, or authentication was turned off. The table keeps only the SHA-256 of each token:
//! looking one up reveals nothing through its duration, and a memory dump no usable token.
//!
//! The table is bounded. When it is full, the user that holds most tokens loses the one that would expire first; its
//! client authenticates again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use service::clock::Moment;
use sha2::{Digest, Sha256};

use super::Entropy;
use crate::error::Result;

/// Letters of a token: 24 of 52 are 136 bits.
const LETTERS: usize = 24;
const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Random bytes below this map evenly onto the alphabet (4 × 52); others are drawn again.
const EVEN: u8 = 208;

/// Tokens kept at a time. At some 200 bytes each this is 20 MB, and more logins than a node serves in a time to live.
const TOKENS_MAX: usize = 100_000;

type Fingerprint = [u8; 32];

/// Random tokens and whose they are.
pub struct SimpleTokens {
    ttl: Duration,
    tokens_max: usize,
    entropy: Entropy,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    tokens: BTreeMap<Fingerprint, Holder>,
    /// The same tokens by user, the first to expire first. No empty sets.
    by_user: BTreeMap<Arc<str>, BTreeSet<(Moment, Fingerprint)>>,
}

struct Holder {
    user: Arc<str>,
    expires: Moment,
}

impl fmt::Debug for SimpleTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleTokens")
            .field("ttl", &self.ttl)
            .field("tokens", &self.table.lock().tokens.len())
            .finish_non_exhaustive()
    }
}

impl SimpleTokens {
    /// An empty table.
    pub(super) fn new(ttl: Duration, entropy: Entropy) -> Self {
        Self {
            ttl,
            tokens_max: TOKENS_MAX,
            entropy,
            table: Mutex::default(),
        }
    }

    /// A new token.
    pub(super) fn assign(&self, user: &str, revision: u64, now: Moment) -> Result<String> {
        let mut token = self.letters()?;
        token.push('.');
        token.push_str(&revision.to_string());
        let mut table = self.table.lock();
        table.drop_expired(now);
        while table.tokens.len() >= self.tokens_max {
            table.drop_one();
        }
        table.insert(fingerprint(&token), user.into(), now + self.ttl);
        Ok(token)
    }

    /// A token that another member gave, of which only the fingerprint is known.
    pub(super) fn learn(&self, user: &str, fingerprint: &[u8], now: Moment) {
        let Ok(fingerprint) = Fingerprint::try_from(fingerprint) else {
            return;
        };
        let mut table = self.table.lock();
        if table.tokens.contains_key(&fingerprint) {
            return;
        }
        table.drop_expired(now);
        while table.tokens.len() >= self.tokens_max {
            table.drop_one();
        }
        table.insert(fingerprint, user.into(), now + self.ttl);
    }

    /// Whose token it is. Using it renews it.
    pub(super) fn identify(&self, token: &str, now: Moment) -> Option<Arc<str>> {
        let fingerprint = fingerprint(token);
        let mut table = self.table.lock();
        let holder = table.remove(&fingerprint)?;
        if holder.expires <= now {
            return None;
        }
        table.insert(fingerprint, holder.user.clone(), now + self.ttl);
        Some(holder.user)
    }

    /// Drops all tokens of a user.
    pub(super) fn drop_user(&self, user: &str) {
        let mut table = self.table.lock();
        for (_, fingerprint) in table.by_user.remove(user).unwrap_or_default() {
            table.tokens.remove(&fingerprint);
        }
    }

    /// Drops all tokens.
    pub(super) fn drop_all(&self) {
        *self.table.lock() = Table::default();
    }

    fn letters(&self) -> Result<String> {
        let mut letters = String::with_capacity(LETTERS);
        let mut random = [0; LETTERS];
        while letters.len() < LETTERS {
            (self.entropy)(&mut random)?;
            let even = random.iter().filter(|byte| **byte < EVEN);
            letters.extend(
                even.take(LETTERS - letters.len())
                    .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])),
            );
        }
        Ok(letters)
    }
}

impl Table {
    fn insert(&mut self, fingerprint: Fingerprint, user: Arc<str>, expires: Moment) {
        self.by_user
            .entry(user.clone())
            .or_default()
            .insert((expires, fingerprint));
        self.tokens.insert(fingerprint, Holder { user, expires });
    }

    fn remove(&mut self, fingerprint: &Fingerprint) -> Option<Holder> {
        let holder = self.tokens.remove(fingerprint)?;
        if let Some(set) = self.by_user.get_mut(&holder.user) {
            set.remove(&(holder.expires, *fingerprint));
            if set.is_empty() {
                self.by_user.remove(&holder.user);
            }
        }
        Some(holder)
    }

    fn drop_expired(&mut self, now: Moment) {
        let expired: Vec<Fingerprint> = self
            .by_user
            .values()
            .flat_map(|set| set.iter().take_while(|(expires, _)| *expires <= now))
            .map(|(_, fingerprint)| *fingerprint)
            .collect();
        for fingerprint in &expired {
            self.remove(fingerprint);
        }
    }

    /// Drops the first to expire of the user that holds most.
    fn drop_one(&mut self) {
        let fullest = self.by_user.values().max_by_key(|set| set.len());
        if let Some((_, fingerprint)) = fullest.and_then(BTreeSet::first).copied() {
            self.remove(&fingerprint);
        }
    }
}

pub(super) fn fingerprint(token: &str) -> Fingerprint {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;
    use crate::auth::system_entropy;

    const TTL: Duration = Duration::from_mins(5);

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    fn tokens() -> SimpleTokens {
        SimpleTokens::new(TTL, system_entropy())
    }

    #[test]
    fn a_token_has_the_form_of_etcd_and_names_its_user() {
        let tokens = tokens();
        let token = tokens.assign("ann", 17, at(0)).unwrap();
        let (letters, revision) = token.split_once('.').unwrap();
        assert_eq!(letters.len(), LETTERS);
        assert!(letters.bytes().all(|byte| byte.is_ascii_alphabetic()));
        assert_eq!(revision, "17");
        assert_eq!(tokens.identify(&token, at(1)).as_deref(), Some("ann"));
    }

    #[test]
    fn tokens_differ_and_others_are_unknown() {
        let tokens = tokens();
        let all: BTreeSet<String> = (0..200)
            .map(|_| tokens.assign("ann", 1, at(0)).unwrap())
            .collect();
        assert_eq!(all.len(), 200);
        for wrong in [
            "",
            ".",
            "x.1",
            "abc",
            all.first().unwrap().split_once('.').unwrap().0,
        ] {
            assert_eq!(tokens.identify(wrong, at(0)), None, "{wrong}");
        }
    }

    #[test]
    fn use_renews_a_token_and_disuse_ends_it() {
        let tokens = tokens();
        let token = tokens.assign("ann", 1, at(0)).unwrap();
        assert!(tokens.identify(&token, at(299)).is_some());
        assert!(tokens.identify(&token, at(598)).is_some());
        assert!(tokens.identify(&token, at(898)).is_none());
        assert!(
            tokens.identify(&token, at(0)).is_none(),
            "an expired token stays gone"
        );
        assert!(tokens.table.lock().by_user.is_empty());
    }

    #[test]
    fn dropping_a_user_leaves_the_others() {
        let tokens = tokens();
        let (a, b, c) = (
            tokens.assign("ann", 1, at(0)).unwrap(),
            tokens.assign("bob", 1, at(0)).unwrap(),
            tokens.assign("ann", 1, at(0)).unwrap(),
        );
        tokens.drop_user("ann");
        tokens.drop_user("nobody");
        assert_eq!(tokens.identify(&a, at(1)), None);
        assert_eq!(tokens.identify(&c, at(1)), None);
        assert_eq!(tokens.identify(&b, at(1)).as_deref(), Some("bob"));
        tokens.drop_all();
        assert_eq!(tokens.identify(&b, at(1)), None);
    }

    #[test]
    fn a_full_table_drops_the_oldest_of_the_user_with_most() {
        let mut tokens = tokens();
        tokens.tokens_max = 4;
        let quiet = tokens.assign("quiet", 1, at(0)).unwrap();
        let busy: Vec<String> = (1..=4)
            .map(|n| tokens.assign("busy", 1, at(n)).unwrap())
            .collect();
        assert_eq!(tokens.table.lock().tokens.len(), 4);
        assert_eq!(tokens.identify(&busy[0], at(5)), None);
        assert!(tokens.identify(&busy[1], at(5)).is_some());
        assert!(tokens.identify(&quiet, at(5)).is_some());
    }

    #[test]
    fn expired_tokens_leave_the_table_when_new_ones_come() {
        let tokens = tokens();
        for n in 0..10 {
            tokens.assign(&format!("user{n}"), 1, at(0)).unwrap();
        }
        tokens.assign("late", 1, at(300)).unwrap();
        assert_eq!(tokens.table.lock().tokens.len(), 1);
    }

    #[test]
    fn letters_are_drawn_evenly() {
        // Every byte value in turn: each letter must come out equally often, so the uneven rest was drawn again.
        let next = Arc::new(AtomicU8::new(0));
        let counting: Entropy = Arc::new(move |buffer: &mut [u8]| {
            for byte in buffer {
                *byte = next.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        let tokens = SimpleTokens::new(TTL, counting);
        let mut seen = BTreeMap::new();
        for _ in 0..52 {
            for letter in tokens.letters().unwrap().chars() {
                *seen.entry(letter).or_insert(0) += 1;
            }
        }
        assert_eq!(seen.len(), 52);
        let (least, most) = (seen.values().min().unwrap(), seen.values().max().unwrap());
        assert!(most - least <= 8, "{seen:?}");
    }

    #[test]
    fn debug_shows_no_token() {
        let tokens = tokens();
        let token = tokens.assign("ann", 1, at(0)).unwrap();
        let shown = format!("{tokens:?}");
        assert!(!shown.contains(token.split_once('.').unwrap().0), "{shown}");
        assert!(shown.contains("tokens: 1"), "{shown}");
    }
}
