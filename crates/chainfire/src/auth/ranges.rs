//! Sets of key ranges.
//!
//! Grants overlap and touch; a request is allowed when the *union* of the grants covers it. [`Ranges`] keeps the union as
//! sorted, disjoint spans that do not touch, so one binary search answers.

/// All keys from `start` to before `end`; without `end`, all keys from `start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Span {
    /// What `key` and `range_end` of a request or a grant mean: empty `range_end` is exactly `key`, `\0` is everything from
    /// `key` on. An empty `key` beside a `range_end` is the smallest key, `\0`.
    pub(super) fn new(key: &[u8], range_end: &[u8]) -> Self {
        if range_end.is_empty() {
            return Self {
                start: key.to_vec(),
                end: Some(successor(key)),
            };
        }
        let start = if key.is_empty() { vec![0] } else { key.to_vec() };
        let end = if range_end == [0] {
            None
        } else {
            Some(range_end.to_vec())
        };
        Self { start, end }
    }

    /// Whether no key is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// The smallest key above `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// Whether a span that ends at `outer` reaches as far as one that ends at `inner`.
fn reaches(outer: Option<&[u8]>, inner: Option<&[u8]>) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => outer >= inner,
    }
}

/// A set of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// Sorted by start; each begins above the end of the one before.
    spans: Vec<Span>,
}

impl Ranges {
    /// The union.
    pub(super) fn union(spans: impl IntoIterator<Item = Span>) -> Self {
        let mut sorted: Vec<Span> = spans.into_iter().filter(|span| !span.is_empty()).collect();
        sorted.sort_by(|a, b| a.start.cmp(&b.start));
        let mut merged: Vec<Span> = Vec::with_capacity(sorted.len());
        for span in sorted {
            match merged.last_mut() {
                // Touching spans merge too: [a, b) and [b, c) together cover [a, c).
                Some(last) if reaches(last.end.as_deref(), Some(&span.start)) => {
                    if !reaches(last.end.as_deref(), span.end.as_deref()) {
                        last.end = span.end;
                    }
                }
                _ => merged.push(span),
            }
        }
        Self { spans: merged }
    }

    /// Whether every key of `asked` is in the set. A span without keys is judged by its first key, as etcd does.
    pub(super) fn covers(&self, asked: &Span) -> bool {
        let after = self.spans.partition_point(|span| span.start <= asked.start);
        let Some(candidate) = after.checked_sub(1).map(|index| &self.spans[index]) else {
            return false;
        };
        let end = candidate.end.as_deref();
        if asked.is_empty() {
            reaches(end, Some(&successor(&asked.start)))
        } else {
            reaches(end, asked.end.as_deref())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys long enough to tell `a`, `a\0` and `b` apart, few enough to enumerate.
    const ALPHABET: [u8; 3] = [0, b'a', b'b'];

    fn all_keys() -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut longest: Vec<Vec<u8>> = vec![Vec::new()];
        for _ in 0..4 {
            longest = longest
                .iter()
                .flat_map(|key| {
                    ALPHABET
                        .iter()
                        .map(move |byte| [key.as_slice(), &[*byte]].concat())
                })
                .collect();
            keys.extend(longest.iter().cloned());
        }
        keys
    }

    /// The rule of the specification for one key, written down without spans.
    fn in_range(key: &[u8], start: &[u8], range_end: &[u8]) -> bool {
        match range_end {
            [] => key == start,
            [0] => key >= start,
            end => key >= start && key < end,
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(proptest::sample::select(&ALPHABET[..]), 1..=3)
    }

    fn range() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let end = prop_oneof![Just(Vec::new()), Just(vec![0]), key()];
        (key(), end)
    }

    proptest! {
        #[test]
        fn coverage_equals_a_model_that_looks_at_each_key(
            grants in proptest::collection::vec(range(), 0..6),
            asked in range(),
        ) {
            let set = Ranges::union(grants.iter().map(|(start, end)| Span::new(start, end)));
            let allowed = |key: &[u8]| grants.iter().any(|(start, end)| in_range(key, start, end));
            let mut members = all_keys();
            members.retain(|key| in_range(key, &asked.0, &asked.1));
            let span = Span::new(&asked.0, &asked.1);
            // Keys of the requests have at most three bytes and those of the model up to four, so a hole between two grants
            // always contains a key of the model, but for the one above all keys.
            let mut expected = if members.is_empty() { allowed(&asked.0) } else { members.iter().all(|key| allowed(key)) };
            if asked.1 == [0] {
                expected = expected && grants.iter().any(|(_, end)| end == &[0]);
            }
            prop_assert_eq!(set.covers(&span), expected, "grants {:?}, asked {:?}", grants, asked);
        }

        #[test]
        fn the_union_is_sorted_disjoint_and_does_not_touch(grants in proptest::collection::vec(range(), 0..8)) {
            let set = Ranges::union(grants.iter().map(|(start, end)| Span::new(start, end)));
            for pair in set.spans.windows(2) {
                prop_assert!(!reaches(pair[0].end.as_deref(), Some(&pair[1].start)));
            }
        }
    }

    #[test]
    fn touching_grants_cover_what_spans_them() {
        let set = Ranges::union([
            Span::new(b"a", b"b"),
            Span::new(b"b", b""),
            Span::new(b"b\0", b"c"),
        ]);
        assert_eq!(set.spans.len(), 1);
        assert!(set.covers(&Span::new(b"a", b"c")));
        assert!(!set.covers(&Span::new(b"a", b"c\0")));
        assert!(!set.covers(&Span::new(b"a", b"\0")));
    }

    #[test]
    fn only_an_open_grant_covers_an_open_request() {
        let open = Ranges::union([Span::new(b"m", b"\0")]);
        assert!(open.covers(&Span::new(b"m", b"\0")));
        assert!(open.covers(&Span::new(b"z", b"\0")));
        assert!(!open.covers(&Span::new(b"l", b"\0")));
        let everything = Ranges::union([Span::new(b"\0", b"\0")]);
        assert!(everything.covers(&Span::new(b"\0", b"\0")));
        assert!(everything.covers(&Span::new(b"", b"\0")));
        assert!(everything.covers(&Span::new(b"any", b"")));
    }

    #[test]
    fn a_range_without_keys_is_judged_by_its_first_key() {
        let set = Ranges::union([Span::new(b"a", b"c")]);
        assert!(set.covers(&Span::new(b"b", b"a")));
        assert!(set.covers(&Span::new(b"b", b"b")));
        assert!(!set.covers(&Span::new(b"z", b"a")));
    }

    #[test]
    fn an_empty_set_covers_nothing() {
        let set = Ranges::default();
        for (start, end) in [
            (&b"a"[..], &b""[..]),
            (b"a", b"b"),
            (b"\0", b"\0"),
            (b"b", b"a"),
            (b"", b""),
        ] {
            assert!(!set.covers(&Span::new(start, end)), "{start:?} {end:?}");
        }
    }
}
