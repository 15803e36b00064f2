//! The look-ups in the configuration, kept beside it.
//!
//! They follow from the configuration alone and are made when somebody first asks. So they are no part of the state: not stored, not sent, not
//! compared. Copies of a state share them, since there is a copy for readers after each entry of the log.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::State;
use crate::document::index::Index;
use crate::document::{Check, Document};

/// The look-ups that were last made, with what they were made of. That is held on to, so nobody can change it in its place.
#[derive(Clone, Default)]
pub struct Indexed(Arc<Mutex<Option<Made>>>);

/// Look-ups, and of what.
type Made = (Arc<Document>, Arc<Index>);

impl PartialEq for Indexed {
    fn eq(&self, _: &Indexed) -> bool {
        true
    }
}

impl fmt::Debug for Indexed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Indexed")
    }
}

impl State {
    /// Look-ups in the configuration.
    pub fn index(&self) -> Arc<Index> {
        let mut known = self.indexed.0.lock();
        if let Some((of, index)) = &*known
            && Arc::ptr_eq(of, &self.document)
        {
            return index.clone();
        }
        let index = Arc::new(Index::of(&self.document));
        *known = Some((self.document.clone(), index.clone()));
        index
    }

    /// The check with this id or name.
    pub fn check_called(&self, text: &str) -> Option<&Check> {
        let position = self.index().check(text)?;
        self.document.checks.get(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::CheckKind;

    #[test]
    fn look_ups_are_made_once_for_a_configuration() {
        let mut state = State::default();
        let copy = state.clone();
        let first = state.index();
        assert!(Arc::ptr_eq(&first, &state.index()) && Arc::ptr_eq(&first, &copy.index()));
        // A change where it stands is one too.
        let check = Check::new("new", CheckKind::Tcp, "h:1");
        Arc::make_mut(&mut state.document).checks.push(check);
        assert_eq!(
            state.check_called("new").map(|check| check.name.as_str()),
            Some("new")
        );
        assert_eq!(copy.check_called("new"), None);
    }

    #[test]
    fn look_ups_are_no_part_of_the_state() {
        let (bare, asked) = (State::default(), State::default());
        let stored = serde_json::to_string(&bare).unwrap();
        drop(asked.index());
        assert_eq!(serde_json::to_string(&asked).unwrap(), stored);
        assert_eq!(bare, asked);
    }
}
