//! Which alerts took a test that this node sent, and when: `doctor` asks whether an alert has ever reached anybody, and a test is as good
//! as an outage for that.
//!
//! It is kept beside the other files, since whoever has tested everything does not want to do it again after every restart. Losing it costs
//! one more test.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parking_lot::Mutex;

use crate::document::Document;
use crate::home::{Home, write};
use crate::machine::Millis;

/// The last test that each alert took, by id.
#[derive(Debug)]
pub struct Tests {
    path: PathBuf,
    taken: Mutex<BTreeMap<String, Millis>>,
}

impl Tests {
    /// As this directory has it. A note that cannot be read is left out of account.
    pub fn load(home: &Home) -> Tests {
        let path = home.tests_note();
        let known = std::fs::read_to_string(&path)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok());
        Tests {
            path,
            taken: Mutex::new(known.unwrap_or_default()),
        }
    }

    /// An alert took a test at this moment, UNIX milliseconds. Alerts that are not in the configuration any more are forgotten.
    pub fn taken(&self, document: &Document, alert: &str, at: Millis) {
        let mut taken = self.taken.lock();
        taken.insert(alert.to_owned(), at);
        taken.retain(|id, _| document.alerts.iter().any(|alert| alert.id == *id));
        let text = serde_json::to_string(&*taken).expect("texts and numbers");
        if let Err(error) = write(&self.path, text.as_bytes()) {
            tracing::warn!(
                target: "quptime",
                %error,
                "it is not kept that a test was taken; doctor forgets it with the next restart"
            );
        }
    }

    /// When each alert last took one, UNIX milliseconds, by id.
    pub fn all(&self) -> BTreeMap<String, Millis> {
        self.taken.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Alert, AlertKind};

    #[test]
    fn a_test_is_remembered_over_restarts_as_long_as_its_alert_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let alert = |id: &str| Alert {
            id: id.to_owned(),
            ..Alert::new(format!("name-{id}"), AlertKind::Webhook)
        };
        let mut document = Document {
            alerts: vec![alert("a"), alert("b")],
            ..Document::default()
        };
        let tests = Tests::load(&home);
        tests.taken(&document, "a", 1);
        tests.taken(&document, "b", 2);
        tests.taken(&document, "b", 3);
        let expected = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 3)]);
        assert_eq!(Tests::load(&home).all(), expected);
        document.alerts.remove(0);
        tests.taken(&document, "b", 4);
        assert_eq!(Tests::load(&home).all(), BTreeMap::from([("b".to_owned(), 4)]));
        std::fs::write(home.tests_note(), "nonsense").unwrap();
        assert_eq!(Tests::load(&home).all(), BTreeMap::new());
    }
}
