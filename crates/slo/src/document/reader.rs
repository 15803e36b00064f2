//! From the tree to values. Every value is asked for by name, so what nobody asked for is an unknown field.

use std::fmt;
use std::sync::Arc;

use super::tree::{Node, Value};

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The file as it was named.
    pub file: Arc<str>,
    /// From 1; 0 is in no line.
    pub line: u64,
    /// Which document of the file, from 1; 0 if it is not known.
    pub document: usize,
    /// The way through the document: `spec.objectives[0].target`; empty for the whole.
    pub path: String,
}

impl At {
    /// A line of a file that belongs to no document.
    pub fn line(file: &str, line: u64) -> At {
        At {
            file: file.into(),
            line,
            document: 0,
            path: String::new(),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&terminal::harmless(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.document > 0 {
            write!(f, ": document {}", self.document)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", terminal::harmless(&self.path))?;
        }
        Ok(())
    }
}

/// What is wrong, or worth knowing, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where.
    pub at: At,
    /// What is wrong and what would be right.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.text)
    }
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What must be put right.
    pub mistakes: Vec<Mistake>,
    /// What is worth knowing.
    pub notices: Vec<Mistake>,
}

impl Findings {
    /// Adds a mistake.
    pub fn mistake(&mut self, at: At, text: impl Into<String>) {
        let text = text.into();
        self.mistakes.push(Mistake { at, text });
    }

    /// Adds a notice.
    pub fn notice(&mut self, at: At, text: impl Into<String>) {
        let text = text.into();
        self.notices.push(Mistake { at, text });
    }
}

/// A value with the place where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub at: At,
}

/// A value of the tree and the path to it.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    node: &'a Node,
    path: String,
}

impl<'a> Place<'a> {
    /// The whole document.
    pub fn root(node: &'a Node) -> Place<'a> {
        Place {
            node,
            path: String::new(),
        }
    }

    /// Whether it is text.
    pub fn is_text(&self) -> bool {
        matches!(self.node.value, Value::Text(_))
    }

    /// Whether it is a mapping in which something is written at this key.
    pub fn has(&self, name: &str) -> bool {
        match &self.node.value {
            Value::Map(entries) => entries
                .iter()
                .any(|(key, _, node)| key == name && node.value != Value::Null),
            _ => false,
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self.node.value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }
}

/// The fields of a mapping, of which each is taken by its name.
#[derive(Debug)]
pub struct Fields<'a> {
    path: String,
    line: u64,
    entries: &'a [(String, u64, Node)],
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// A field, if something is written there.
    pub fn optional(&mut self, name: &'static str) -> Option<Place<'a>> {
        self.known.push(name);
        let (_, _, node) = self.entries.iter().find(|(key, _, _)| key == name)?;
        (node.value != Value::Null).then(|| Place {
            node,
            path: self.path_to(name),
        })
    }

    /// A field; it is a mistake if nothing is written there.
    pub fn required(&mut self, reader: &mut Reader<'_>, name: &'static str) -> Option<Place<'a>> {
        let found = self.optional(name);
        if found.is_none() {
            let at = reader.at(self.line, &self.path);
            reader.findings.mistake(at, format!("`{name}` is missing"));
        }
        found
    }

    /// Where the mapping begins.
    pub fn at(&self, reader: &Reader<'_>) -> At {
        reader.at(self.line, &self.path)
    }

    /// All entries, whatever their names: keys with lines and places. Nothing is unknown here.
    pub fn all(mut self) -> Vec<(&'a str, Place<'a>)> {
        let entries = std::mem::take(&mut self.entries);
        let places = entries.iter().map(|(key, _, node)| {
            let path = self.path_to(key);
            (key.as_str(), Place { node, path })
        });
        places.collect()
    }

    /// Ends the reading: what was not asked for is unknown.
    pub fn finish(self, reader: &mut Reader<'_>) {
        for (key, line, _) in self.entries {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let near = self
                .known
                .iter()
                .min_by_key(|known| strsim::damerau_levenshtein(key, known))
                .filter(|known| strsim::damerau_levenshtein(key, known) <= 2 + key.len() / 4);
            let advice = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let text = format!("unknown field `{}`; {advice}", terminal::harmless(key));
            let at = reader.at(*line, &self.path_to(key));
            if reader.lenient {
                reader.findings.notice(at, text);
            } else {
                reader.findings.mistake(at, text);
            }
        }
    }

    fn path_to(&self, name: &str) -> String {
        // A key with points in it is quoted, so that the path can be followed.
        let name = if name.contains(['.', '/', ' ']) {
            format!("[{name:?}]")
        } else if self.path.is_empty() {
            return name.to_owned();
        } else {
            format!(".{name}")
        };
        format!("{}{name}", self.path)
    }
}

/// Reads one document.
#[derive(Debug)]
pub struct Reader<'f> {
    file: Arc<str>,
    document: usize,
    lenient: bool,
    findings: &'f mut Findings,
}

impl<'f> Reader<'f> {
    /// A reader of the document of this number. If lenient, an unknown field is a notice.
    pub fn new(file: &str, document: usize, lenient: bool, findings: &'f mut Findings) -> Reader<'f> {
        Reader {
            file: file.into(),
            document,
            lenient,
            findings,
        }
    }

    fn at(&self, line: u64, path: &str) -> At {
        At {
            file: Arc::clone(&self.file),
            line,
            document: self.document,
            path: path.to_owned(),
        }
    }

    /// Where a value is written.
    pub fn place(&self, place: &Place<'_>) -> At {
        self.at(place.node.line, &place.path)
    }

    /// Something is wrong with a value.
    pub fn mistake(&mut self, place: &Place<'_>, text: impl Into<String>) {
        let at = self.place(place);
        self.findings.mistake(at, text);
    }

    /// Something is wrong at a place that has been left.
    pub fn mistake_at(&mut self, at: At, text: impl Into<String>) {
        self.findings.mistake(at, text);
    }

    /// How many mistakes there are so far.
    pub fn mistakes(&self) -> usize {
        self.findings.mistakes.len()
    }

    /// Something about a value is worth knowing.
    pub fn notice(&mut self, place: &Place<'_>, text: impl Into<String>) {
        let at = self.place(place);
        self.findings.notice(at, text);
    }

    fn expected(&mut self, place: &Place<'_>, wanted: &str) {
        let found = place.node.value.describe();
        self.mistake(place, format!("{wanted} is wanted here, not {found}"));
    }

    /// The fields of a mapping.
    pub fn fields<'a>(&mut self, place: &Place<'a>) -> Option<Fields<'a>> {
        let Value::Map(entries) = &place.node.value else {
            self.expected(place, "a mapping");
            return None;
        };
        Some(Fields {
            path: place.path.clone(),
            line: place.node.line,
            entries,
            known: Vec::new(),
        })
    }

    /// The elements of a list.
    pub fn list<'a>(&mut self, place: &Place<'a>) -> Option<Vec<Place<'a>>> {
        let Value::List(nodes) = &place.node.value else {
            self.expected(place, "a list");
            return None;
        };
        let places = nodes.iter().enumerate().map(|(index, node)| Place {
            node,
            path: format!("{}[{index}]", place.path),
        });
        Some(places.collect())
    }

    /// Text that is not empty.
    pub fn text(&mut self, place: &Place<'_>) -> Option<String> {
        match &place.node.value {
            Value::Text(text) if text.trim().is_empty() => {
                self.mistake(place, "is empty; write something or leave the field out");
                None
            }
            Value::Text(text) => Some(text.clone()),
            Value::Number(_) | Value::Flag(_) => {
                let found = place.node.value.describe();
                self.mistake(
                    place,
                    format!("text is wanted here, not {found}; put it in quotes"),
                );
                None
            }
            _ => {
                self.expected(place, "text");
                None
            }
        }
    }

    /// Text with its place.
    pub fn located(&mut self, place: &Place<'_>) -> Option<Located<String>> {
        let value = self.text(place)?;
        let at = self.place(place);
        Some(Located { value, at })
    }

    /// A number.
    pub fn number(&mut self, place: &Place<'_>) -> Option<f64> {
        let number = place.as_number();
        if number.is_none() {
            self.expected(place, "a number");
        }
        number
    }

    /// `true` or `false`.
    pub fn flag(&mut self, place: &Place<'_>) -> Option<bool> {
        if let Value::Flag(flag) = place.node.value {
            return Some(flag);
        }
        self.expected(place, "true or false");
        None
    }
}
