//! The data that templates are rendered with. Copies are cheap: whatever has parts shares them.

use std::fmt;
use std::sync::Arc;

/// One piece of data.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: a nil in a list, a map of anything, or a record.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Go's `int`.
    Int(i64),
    /// Go's `float64`.
    Float(f64),
    /// One byte of a text, as `index` gives it (Go's `uint8`).
    Byte(u8),
    /// Go's `string`.
    Str(Text),
    /// Go's `[]interface {}`.
    List(List),
    /// A Go map with string keys.
    Map(Map),
    /// A Go struct.
    Record(Record),
}

impl Value {
    /// A list.
    pub fn list(items: impl IntoIterator<Item = Value>) -> Self {
        Self::List(List::new(items))
    }

    /// A map whose missing keys give `zero`: `Value::from("")` for a map of strings, [`Value::Null`] for one of anything.
    pub fn map<K: Into<Text>>(zero: Value, entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Map(Map::new(zero, entries))
    }

    /// A record: `type_name` is what `%T` prints, the fields keep their order.
    pub fn record<N: Into<String>>(
        type_name: impl Into<String>,
        fields: impl IntoIterator<Item = (N, Value)>,
    ) -> Self {
        Self::Record(Record::new(type_name, fields))
    }

    /// The Go name of the type.
    pub(crate) fn type_name(&self) -> String {
        match self {
            Self::Null => "interface {}".to_owned(),
            Self::Bool(_) => "bool".to_owned(),
            Self::Int(_) => "int".to_owned(),
            Self::Float(_) => "float64".to_owned(),
            Self::Byte(_) => "uint8".to_owned(),
            Self::Str(_) => "string".to_owned(),
            Self::List(_) => "[]interface {}".to_owned(),
            Self::Map(map) => format!("map[string]{}", map.zero.type_name()),
            Self::Record(record) => record.inner.type_name.clone(),
        }
    }

    /// What `if` makes of it: everything but zero, empty and nothing is true.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Byte(value) => *value != 0,
            Self::Str(text) => !text.as_bytes().is_empty(),
            Self::List(list) => !list.items().is_empty(),
            Self::Map(map) => !map.entries.is_empty(),
            Self::Record(_) => true,
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u16> for Value {
    fn from(value: u16) -> Self {
        Self::Int(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::list(items)
    }
}

/// A text as Go has it: bytes that are mostly, but not always, UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(Arc<[u8]>);

impl Text {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into_bytes().into())
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

/// A list, or a part of one: like a Go slice it remembers how much of its list follows it.
#[derive(Clone)]
pub struct List {
    all: Arc<[Value]>,
    start: usize,
    end: usize,
    capacity_end: usize,
}

impl List {
    /// A whole list.
    pub fn new(items: impl IntoIterator<Item = Value>) -> Self {
        let all: Arc<[Value]> = items.into_iter().collect();
        let end = all.len();
        Self {
            all,
            start: 0,
            end,
            capacity_end: end,
        }
    }

    /// The items.
    pub fn items(&self) -> &[Value] {
        &self.all[self.start..self.end]
    }

    /// How far the list can be sliced, counted from its start.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity_end - self.start
    }

    /// The items from `from` to `to`, growable up to `capacity`: `from <= to <= capacity <= self.capacity()`.
    pub(crate) fn slice(&self, from: usize, to: usize, capacity: usize) -> Self {
        debug_assert!(from <= to && to <= capacity && capacity <= self.capacity());
        Self {
            all: Arc::clone(&self.all),
            start: self.start + from,
            end: self.start + to,
            capacity_end: self.start + capacity,
        }
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.items()).finish()
    }
}

impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        self.items() == other.items()
    }
}

/// A map from texts to values, in the order of the keys' bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    entries: Arc<[(Text, Value)]>,
    zero: Arc<Value>,
}

impl Map {
    /// A map whose missing keys give `zero`. Of equal keys the last counts.
    pub fn new<K: Into<Text>>(zero: Value, entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        let sorted: std::collections::BTreeMap<Text, Value> = entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect();
        Self {
            entries: sorted.into_iter().collect(),
            zero: Arc::new(zero),
        }
    }

    /// Keys and values in order.
    pub fn entries(&self) -> &[(Text, Value)] {
        &self.entries
    }

    /// The value of a key, or the zero value.
    pub(crate) fn get(&self, key: &[u8]) -> &Value {
        match self
            .entries
            .binary_search_by(|(candidate, _)| candidate.as_bytes().cmp(key))
        {
            Ok(at) => &self.entries[at].1,
            Err(_) => &self.zero,
        }
    }
}

/// Named fields in a fixed order.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    inner: Arc<RecordInner>,
}

#[derive(Debug, PartialEq)]
struct RecordInner {
    type_name: String,
    fields: Vec<(String, Value)>,
}

impl Record {
    /// A record; see [`Value::record`].
    pub fn new<N: Into<String>>(
        type_name: impl Into<String>,
        fields: impl IntoIterator<Item = (N, Value)>,
    ) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect();
        Self {
            inner: Arc::new(RecordInner {
                type_name: type_name.into(),
                fields,
            }),
        }
    }

    /// The name of its type.
    pub fn type_name(&self) -> &str {
        &self.inner.type_name
    }

    /// Names and values in order.
    pub fn fields(&self) -> &[(String, Value)] {
        &self.inner.fields
    }

    /// The value of a field, if there is such a field.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.inner
            .fields
            .iter()
            .find(|(candidate, _)| candidate == name)
            .map(|(_, value)| value)
    }
}
