//! The keys a request speaks of.

use bytes::Bytes;

/// A half-open range of keys, as etcd's `key` and `range_end` describe it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyRange {
    /// First key.
    pub start: Bytes,
    /// First key after the range; `None` means there is no end.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// From a request: no `range_end` is the one key, a single zero byte is everything from `key` on.
    pub fn new(key: Bytes, range_end: &Bytes) -> KeyRange {
        match range_end.as_ref() {
            [] => KeyRange::single(key),
            [0] => KeyRange {
                start: key,
                end: None,
            },
            _ => KeyRange {
                start: key,
                end: Some(range_end.clone()),
            },
        }
    }

    /// Exactly `key`.
    pub fn single(key: Bytes) -> KeyRange {
        let mut end = Vec::with_capacity(key.len() + 1);
        end.extend_from_slice(&key);
        end.push(0);
        KeyRange {
            start: key,
            end: Some(Bytes::from(end)),
        }
    }

    /// All keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        KeyRange {
            start: Bytes::copy_from_slice(prefix),
            end: prefix_end(prefix),
        }
    }

    /// True if no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// True if `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref() <= key && self.end.as_ref().is_none_or(|end| key < end.as_ref())
    }

    /// The only key in it, if that is what it says.
    pub fn as_single(&self) -> Option<&Bytes> {
        let end = self.end.as_ref()?;
        (end.len() == self.start.len() + 1 && end.starts_with(&self.start) && end.last() == Some(&0))
            .then_some(&self.start)
    }

    /// True if some key can be in both.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        let before_end = |key: &Bytes, end: &Option<Bytes>| end.as_ref().is_none_or(|end| key < end);
        !self.is_empty()
            && !other.is_empty()
            && before_end(&self.start, &other.end)
            && before_end(&other.start, &self.end)
    }
}

/// The first key after all keys that start with `prefix`, or `None` if there is none (empty, or all bytes 0xFF).
pub(super) fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(Bytes::from(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &str, end: &str) -> KeyRange {
        KeyRange::new(
            Bytes::copy_from_slice(key.as_bytes()),
            &Bytes::copy_from_slice(end.as_bytes()),
        )
    }

    #[test]
    fn requests_name_one_key_an_interval_or_the_rest() {
        assert_eq!(
            range("a", "").as_single().map(AsRef::as_ref),
            Some("a".as_bytes())
        );
        assert!(range("a", "").contains(b"a") && !range("a", "").contains(b"a\0"));
        assert!(range("a", "c").contains(b"bzz") && !range("a", "c").contains(b"c"));
        assert!(range("b", "\0").contains(b"\xff\xff") && !range("b", "\0").contains(b"a"));
        assert!(range("\0", "\0").contains(b"\0"));
        assert!(range("c", "a").is_empty() && range("a", "a").is_empty());
    }

    #[test]
    fn prefixes_end_where_the_next_one_starts() {
        assert_eq!(prefix_end(b"a").as_deref(), Some(b"b".as_ref()));
        assert_eq!(prefix_end(b"a\xff").as_deref(), Some(b"b".as_ref()));
        assert_eq!(prefix_end(b"\xff\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn overlap_needs_a_common_key() {
        assert!(range("a", "c").overlaps(&range("b", "")));
        assert!(!range("a", "b").overlaps(&range("b", "c")));
        assert!(range("a", "\0").overlaps(&range("z", "")));
        assert!(!range("c", "a").overlaps(&range("a", "\0")));
    }
}
