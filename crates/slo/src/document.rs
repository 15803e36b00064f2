//! OpenSLO documents, read strictly: what is not known is a mistake with its file, document, line and path.
//!
//! - [`files`]: which files there are, and their text.
//! - [`tree`]: YAML with lines.
//! - [`reader`]: from the tree to values, with the path to each; collects mistakes instead of ending at the first.
//! - [`schema`]: what documents consist of.
//! - [`kinds`]: `openslo/v1`, of which [`policy`] has what is about alerts. [`alpha`]: the same from `openslo/v1alpha`.
//!
//! References between documents are not followed here but in [`crate::objective`].

pub mod alpha;
pub mod files;
pub mod kinds;
pub mod policy;
pub mod reader;
pub mod schema;
pub mod tree;

pub use files::{Input, read_all};
pub use reader::{At, Findings, Mistake};
pub use schema::Document;

use reader::Reader;

/// Newest version, and the one in which everything is described.
pub const V1: &str = "openslo/v1";

/// The one before.
pub const V1ALPHA: &str = "openslo/v1alpha";

/// Reads the documents of one file. Mistakes and notices are added to `findings`; a document with mistakes is left out.
pub fn parse(file: &str, text: &str, lenient: bool, findings: &mut Findings) -> Vec<Document> {
    let nodes = match tree::parse(text) {
        Ok(nodes) => nodes,
        Err((line, text)) => {
            findings.mistake(At::line(file, line), text);
            return Vec::new();
        }
    };
    let mut documents = Vec::new();
    for (number, node) in (1..).zip(&nodes) {
        let mut reader = Reader::new(file, number, lenient, findings);
        documents.extend(read(&mut reader, node));
    }
    if nodes.is_empty() {
        findings.mistake(
            At::line(file, 0),
            "no document; write `apiVersion: openslo/v1`".to_owned(),
        );
    }
    documents
}

fn read(reader: &mut Reader<'_>, node: &tree::Node) -> Option<Document> {
    let mut fields = reader.fields(&reader::Place::root(node))?;
    let version = fields.required(reader, "apiVersion")?;
    match reader.text(&version)?.as_str() {
        V1 => kinds::read(reader, fields),
        V1ALPHA => {
            reader.notice(&version, format!("{V1ALPHA} is read; {V1} is what it became"));
            alpha::read(reader, fields)
        }
        other => {
            reader.mistake(
                &version,
                format!("version {other:?} is not known; {V1} is (and {V1ALPHA})"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests;
