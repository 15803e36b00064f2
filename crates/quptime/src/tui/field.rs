//! One line of a form: a text, a secret or a choice, and the keys that change it. Knows nothing of checks or alerts.
//!
//! A secret is never shown, not even its length while it is the old one; it stays as it is until somebody types over it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What stands for a secret that is there and untouched.
const KEPT: &str = "••••••••";

/// What can be typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// A text that is not shown.
    Secret,
    /// One of these.
    Choice(&'static [&'static str]),
}

/// A line of a form.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// What it is.
    pub(super) label: &'static str,
    /// What may be written.
    pub(super) hint: &'static str,
    /// How it is changed.
    pub(super) kind: Kind,
    /// As the entry has it.
    initial: String,
    /// As typed.
    typed: Vec<char>,
    /// Position in `typed`.
    cursor: usize,
    /// Whether somebody has changed it.
    touched: bool,
}

/// Without what it says, which may be a secret.
impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Field").field(&self.label).finish()
    }
}

impl Field {
    /// A line that shows a value.
    pub(super) fn new(
        label: &'static str,
        hint: &'static str,
        kind: Kind,
        value: impl Into<String>,
    ) -> Field {
        let initial = value.into();
        let typed: Vec<char> = match kind {
            Kind::Secret => Vec::new(),
            Kind::Text | Kind::Choice(_) => initial.chars().collect(),
        };
        Field {
            label,
            hint,
            kind,
            cursor: typed.len(),
            initial,
            typed,
            touched: false,
        }
    }

    /// What it says now.
    pub(super) fn value(&self) -> String {
        if self.touched {
            self.typed.iter().collect()
        } else {
            self.initial.clone()
        }
    }

    /// Whether it says something else than the entry.
    pub(super) fn is_changed(&self) -> bool {
        self.touched && self.value() != self.initial
    }

    /// Takes over what was typed into another form's line.
    pub(super) fn take_over(&mut self, other: &Field) {
        self.typed.clone_from(&other.typed);
        self.cursor = other.cursor;
        self.touched = true;
    }

    /// What is shown, with the position of the cursor in letters.
    pub(super) fn shown(&self) -> (String, usize) {
        match self.kind {
            // A template may have several lines; they stay lines.
            Kind::Text => (
                self.typed
                    .iter()
                    .map(|letter| if *letter == '\n' { '↵' } else { *letter })
                    .collect(),
                self.cursor,
            ),
            Kind::Secret if !self.touched && !self.initial.is_empty() => (KEPT.to_owned(), 0),
            Kind::Secret => ("•".repeat(self.typed.len()), self.cursor),
            Kind::Choice(_) => (format!("< {} >", self.typed.iter().collect::<String>()), 2),
        }
    }

    /// As it is shown where nothing can be typed.
    pub(super) fn shown_plain(&self) -> String {
        match self.kind {
            Kind::Choice(_) => self.value(),
            Kind::Text | Kind::Secret => self.shown().0,
        }
    }

    /// Puts a pasted text in; line ends become blanks.
    pub(super) fn paste(&mut self, text: &str) {
        if let Kind::Choice(_) = self.kind {
            return;
        }
        for letter in text.trim().chars() {
            self.put(if letter.is_control() { ' ' } else { letter });
        }
    }

    fn put(&mut self, letter: char) {
        self.touched = true;
        self.typed.insert(self.cursor, letter);
        self.cursor += 1;
    }

    /// Takes a key; false if it means nothing here.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        if let Kind::Choice(options) = self.kind {
            return self.choose(options, key.code);
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('u') if control => {
                self.touched = true;
                self.typed.clear();
                self.cursor = 0;
            }
            KeyCode::Char('w') if control => {
                self.touched = true;
                while self.cursor > 0 {
                    self.cursor -= 1;
                    let gone = self.typed.remove(self.cursor);
                    if gone == ' ' {
                        break;
                    }
                }
            }
            KeyCode::Char('a') if control => self.cursor = 0,
            KeyCode::Char('e') if control => self.cursor = self.typed.len(),
            KeyCode::Char(letter) if !control && !key.modifiers.contains(KeyModifiers::ALT) => {
                self.put(letter);
            }
            KeyCode::Backspace => {
                // Also what deletes a secret that is there.
                self.touched = true;
                if self.cursor > 0 {
                    self.cursor -= 1;
                    self.typed.remove(self.cursor);
                }
            }
            KeyCode::Delete => {
                self.touched = true;
                if self.cursor < self.typed.len() {
                    self.typed.remove(self.cursor);
                }
            }
            KeyCode::Left => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Right => self.cursor = (self.cursor + 1).min(self.typed.len()),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.typed.len(),
            _ => return false,
        }
        true
    }

    /// Blank and arrows go round; a letter goes to the next option that begins with it.
    fn choose(&mut self, options: &'static [&'static str], code: KeyCode) -> bool {
        let now = self.value();
        let at = options.iter().position(|option| *option == now).unwrap_or(0);
        let count = options.len();
        let next = match code {
            KeyCode::Right | KeyCode::Char(' ') => (at + 1) % count,
            KeyCode::Left => (at + count - 1) % count,
            KeyCode::Char(letter) => {
                let mut others = (1..=count).map(|step| (at + step) % count);
                match others.find(|other| options[*other].starts_with(letter.to_ascii_lowercase())) {
                    Some(found) => found,
                    None => return false,
                }
            }
            _ => return false,
        };
        self.touched = true;
        self.typed = options[next].chars().collect();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(field: &mut Field, codes: &[KeyCode]) {
        for code in codes {
            field.key(KeyEvent::new(*code, KeyModifiers::NONE));
        }
    }

    fn control(field: &mut Field, letter: char) {
        field.key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL));
    }

    #[test]
    fn a_text_is_edited_where_the_cursor_is() {
        let mut field = Field::new("name", "", Kind::Text, "wéb");
        assert!(!field.is_changed());
        press(
            &mut field,
            &[KeyCode::Left, KeyCode::Backspace, KeyCode::Char('e')],
        );
        assert_eq!(field.value(), "web");
        press(
            &mut field,
            &[KeyCode::Home, KeyCode::Delete, KeyCode::End, KeyCode::Char('s')],
        );
        assert_eq!((field.value().as_str(), field.is_changed()), ("ebs", true));
        control(&mut field, 'u');
        field.paste(" one\ntwo ");
        assert_eq!(field.value(), "one two");
        control(&mut field, 'w');
        assert_eq!(field.value(), "one");
    }

    #[test]
    fn a_secret_is_never_shown_and_kept_until_it_is_typed_over() {
        let mut field = Field::new("password", "", Kind::Secret, "old one");
        assert_eq!(field.shown().0, KEPT);
        assert_eq!((field.value().as_str(), field.is_changed()), ("old one", false));
        press(&mut field, &[KeyCode::Char('n'), KeyCode::Char('w')]);
        assert_eq!((field.value().as_str(), field.shown().0.as_str()), ("nw", "••"));
        // One key that deletes takes an old secret away.
        let mut field = Field::new("password", "", Kind::Secret, "old one");
        press(&mut field, &[KeyCode::Backspace]);
        assert_eq!((field.value().as_str(), field.is_changed()), ("", true));
    }

    #[test]
    fn a_choice_goes_round_and_to_letters() {
        let mut field = Field::new("type", "", Kind::Choice(&["http", "tcp", "tls"]), "http");
        press(&mut field, &[KeyCode::Left]);
        assert_eq!(field.value(), "tls");
        press(&mut field, &[KeyCode::Char(' ')]);
        assert_eq!((field.value().as_str(), field.is_changed()), ("http", false));
        press(&mut field, &[KeyCode::Char('t'), KeyCode::Char('t')]);
        assert_eq!((field.value().as_str(), field.is_changed()), ("tls", true));
        assert!(!field.key(KeyEvent::new(KeyCode::Char('z'), KeyModifiers::NONE)));
    }
}
