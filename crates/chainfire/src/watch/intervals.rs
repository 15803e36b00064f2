//! Ranges of keys, and which of them hold a given key.
//!
//! A treap ordered by range, each node knowing the furthest end below it, so that ranges which end before the key are skipped
//! whole. Insertion, removal and look-up take logarithmic time, plus one step for each range found.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::mvcc::KeyRange;

/// A map from ranges to values.
#[derive(Debug)]
pub(super) struct IntervalMap<V> {
    root: Option<Box<Node<V>>>,
    /// State of the generator of priorities. They need only be unrelated to the keys.
    seed: u64,
}

#[derive(Debug)]
struct Node<V> {
    range: KeyRange,
    value: V,
    priority: u64,
    /// The furthest end in this subtree; `None` is beyond every key.
    furthest: Option<Bytes>,
    left: Option<Box<Node<V>>>,
    right: Option<Box<Node<V>>>,
}

impl<V> Default for IntervalMap<V> {
    fn default() -> Self {
        IntervalMap {
            root: None,
            seed: 0x9e37_79b9_7f4a_7c15,
        }
    }
}

/// Ends compare with "no end" as the greatest.
fn further(a: Option<&Bytes>, b: Option<&Bytes>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

impl<V> Node<V> {
    fn update(&mut self) {
        let mut furthest = &self.range.end;
        for child in [&self.left, &self.right].into_iter().flatten() {
            if further(child.furthest.as_ref(), furthest.as_ref()).is_gt() {
                furthest = &child.furthest;
            }
        }
        self.furthest = furthest.clone();
    }
}

type Tree<V> = Option<Box<Node<V>>>;

/// Parts `tree` into what lies before `range` and what does not.
fn split<V>(tree: Tree<V>, range: &KeyRange) -> (Tree<V>, Tree<V>) {
    let Some(mut node) = tree else { return (None, None) };
    if node.range < *range {
        let (left, right) = split(node.right.take(), range);
        node.right = left;
        node.update();
        (Some(node), right)
    } else {
        let (left, right) = split(node.left.take(), range);
        node.left = right;
        node.update();
        (left, Some(node))
    }
}

/// Joins two trees, all of `left` lying before all of `right`.
fn join<V>(left: Tree<V>, right: Tree<V>) -> Tree<V> {
    match (left, right) {
        (None, tree) | (tree, None) => tree,
        (Some(mut left), Some(mut right)) => {
            if left.priority > right.priority {
                left.right = join(left.right.take(), Some(right));
                left.update();
                Some(left)
            } else {
                right.left = join(Some(left), right.left.take());
                right.update();
                Some(right)
            }
        }
    }
}

fn find_mut<'t, V>(mut tree: &'t mut Tree<V>, range: &KeyRange) -> Option<&'t mut V> {
    while let Some(node) = tree {
        match range.cmp(&node.range) {
            Ordering::Equal => return Some(&mut node.value),
            Ordering::Less => tree = &mut node.left,
            Ordering::Greater => tree = &mut node.right,
        }
    }
    None
}

fn remove<V>(tree: Tree<V>, range: &KeyRange) -> (Tree<V>, Option<V>) {
    let Some(mut node) = tree else { return (None, None) };
    let removed;
    match range.cmp(&node.range) {
        Ordering::Equal => return (join(node.left.take(), node.right.take()), Some(node.value)),
        Ordering::Less => (node.left, removed) = remove(node.left.take(), range),
        Ordering::Greater => (node.right, removed) = remove(node.right.take(), range),
    }
    node.update();
    (Some(node), removed)
}

fn visit<V>(tree: Option<&Node<V>>, key: &[u8], each: &mut dyn FnMut(&V)) {
    let Some(node) = tree else { return };
    if node.furthest.as_ref().is_some_and(|end| end.as_ref() <= key) {
        return;
    }
    visit(node.left.as_deref(), key, each);
    if node.range.contains(key) {
        each(&node.value);
    }
    if node.range.start.as_ref() <= key {
        visit(node.right.as_deref(), key, each);
    }
}

impl<V> IntervalMap<V> {
    /// The value of exactly `range`.
    pub(super) fn get_mut(&mut self, range: &KeyRange) -> Option<&mut V> {
        find_mut(&mut self.root, range)
    }

    /// Adds `range`, which must not be there.
    pub(super) fn insert(&mut self, range: KeyRange, value: V) {
        // xorshift64
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let (left, right) = split(self.root.take(), &range);
        let furthest = range.end.clone();
        let node = Node {
            range,
            value,
            priority: self.seed,
            furthest,
            left: None,
            right: None,
        };
        self.root = join(join(left, Some(Box::new(node))), right);
    }

    /// Takes out exactly `range`.
    /// All values, in no order worth mentioning.
    pub(super) fn into_values(self) -> Vec<V> {
        let mut values = Vec::new();
        let mut left: Vec<Node<V>> = self.root.map(|root| *root).into_iter().collect();
        while let Some(node) = left.pop() {
            values.push(node.value);
            left.extend([node.left, node.right].into_iter().flatten().map(|child| *child));
        }
        values
    }

    pub(super) fn remove(&mut self, range: &KeyRange) -> Option<V> {
        let (root, removed) = remove(self.root.take(), range);
        self.root = root;
        removed
    }

    /// Calls `each` with the value of every range that holds `key`.
    pub(super) fn containing(&self, key: &[u8], each: &mut dyn FnMut(&V)) {
        visit(self.root.as_deref(), key, each);
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.root.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn bound() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(0u8..4, 0..3).prop_map(Bytes::from)
    }

    fn any_range() -> impl Strategy<Value = KeyRange> {
        (bound(), prop::option::of(bound())).prop_map(|(start, end)| KeyRange { start, end })
    }

    proptest! {
        #[test]
        fn finds_exactly_the_ranges_that_hold_the_key(
            steps in prop::collection::vec((any::<bool>(), any_range()), 0..60),
            probes in prop::collection::vec(bound(), 1..20),
        ) {
            let mut map = IntervalMap::default();
            let mut model = BTreeMap::new();
            for (number, (add, range)) in steps.into_iter().enumerate() {
                if add && !model.contains_key(&range) {
                    map.insert(range.clone(), number);
                    model.insert(range, number);
                } else {
                    prop_assert_eq!(map.remove(&range), model.remove(&range));
                }
            }
            for key in probes {
                let mut found = Vec::new();
                map.containing(&key, &mut |value| found.push(*value));
                found.sort_unstable();
                let mut expected: Vec<usize> =
                    model.iter().filter(|(range, _)| range.contains(&key)).map(|(_, value)| *value).collect();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
            }
            for range in model.keys() {
                prop_assert!(map.get_mut(range).is_some());
                map.remove(range);
            }
            prop_assert!(map.is_empty());
        }
    }
}
