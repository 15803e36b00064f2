//! What the screen is about: a value that takes keys and news and says what it wants ([`Wish`]). No terminal, no clock, no daemon; the
//! time is told.

mod act;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::form::{Form, Step, Subject};
use super::order::{Failure, Look, News, Order, Outcome};
use super::rows::{self, Row};
use crate::machine::Millis;
use act::{Act, gone};

/// Rows that are not of the table on a screen of usual size; a page is the rest.
const FRAME_ROWS: u16 = 9;
/// What the daemon says when the entry is another one now.
const CONFLICT: u8 = 5;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    /// Nodes.
    Peers,
    /// What is watched.
    Checks,
    /// Who is told.
    Alerts,
}

impl Tab {
    /// In the order of the screen.
    pub(super) const ALL: [Tab; 3] = [Tab::Peers, Tab::Checks, Tab::Alerts];

    /// Its title.
    pub(super) fn name(self) -> &'static str {
        match self {
            Tab::Peers => "Peers",
            Tab::Checks => "Checks",
            Tab::Alerts => "Alerts",
        }
    }
}

/// What lies over the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing.
    Table,
    /// The filter is being typed.
    Filter,
    /// A form.
    Form(Form),
    /// A question that `y` answers with yes and everything else with no.
    Confirm {
        /// What is asked.
        lines: Vec<String>,
        /// What is done then.
        order: Order,
    },
    /// All of a row; which line is at the top.
    Detail(usize),
    /// All keys; which line is at the top.
    Help(usize),
}

/// What became of the last thing that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Whether it is an error.
    pub(super) is_error: bool,
    /// One line.
    pub(super) text: String,
}

/// What the screen wants from the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// A look at once.
    Look,
    /// This, by the daemon.
    Order(Order),
    /// The end.
    Quit,
}

/// See the head of this file.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Whether colours may be used.
    pub(super) colours: bool,
    /// Lines of the terminal.
    pub(super) height: u16,
    /// The wall clock, UNIX milliseconds.
    pub(super) now: Millis,
    /// The table that is shown.
    pub(super) tab: Tab,
    /// What rows must have in them.
    pub(super) filter: String,
    /// What lies over the table.
    pub(super) mode: Mode,
    /// How it stood when the daemon last answered, and when that was.
    pub(super) look: Option<(Look, Millis)>,
    /// Why it does not answer now.
    pub(super) unreachable: Option<String>,
    /// What became of the last thing that was wanted.
    pub(super) message: Option<Message>,
    /// What is under way.
    pub(super) busy: Option<String>,
    /// For each tab the row with the cursor: its id, and where it was.
    selected: [(String, usize); 3],
}

impl State {
    /// Nothing is known yet.
    pub(super) fn new(colours: bool, height: u16, now: Millis) -> State {
        State {
            colours,
            height,
            now,
            tab: Tab::Checks,
            filter: String::new(),
            mode: Mode::Table,
            look: None,
            unreachable: None,
            message: None,
            busy: None,
            selected: Default::default(),
        }
    }

    /// The rows of the present table.
    pub(super) fn rows(&self) -> Vec<Row> {
        let look = self.look.as_ref();
        look.map_or_else(Vec::new, |(look, _)| {
            rows::rows(look, self.tab, &self.filter, self.now)
        })
    }

    /// Which of `rows` has the cursor. A row that is gone leaves it where it was.
    pub(super) fn cursor(&self, rows: &[Row]) -> usize {
        let (id, place) = &self.selected[self.tab as usize];
        let found = rows.iter().position(|row| row.id == *id);
        found.unwrap_or_else(|| (*place).min(rows.len().saturating_sub(1)))
    }

    /// Takes the news.
    pub(super) fn news(&mut self, news: News) -> Option<Wish> {
        match news {
            News::Looked(Ok(look)) => {
                self.unreachable = None;
                self.look = Some((look, self.now));
                None
            }
            News::Looked(Err(error)) => {
                self.unreachable = Some(rows::clean(&error));
                None
            }
            News::Finished(result) => {
                self.busy = None;
                match result {
                    Ok(outcome) => self.done(outcome),
                    Err(failure) => self.failed(failure),
                }
                Some(Wish::Look)
            }
        }
    }

    fn done(&mut self, outcome: Outcome) {
        let waits = matches!(&self.mode, Mode::Form(form) if form.waiting);
        match outcome {
            Outcome::Done { text, added } => {
                self.say(text);
                if let Some(id) = added {
                    let place = self.selected[self.tab as usize].1;
                    self.selected[self.tab as usize] = (id, place);
                }
                if waits {
                    self.mode = Mode::Table;
                }
            }
            Outcome::Met {
                address,
                node,
                fingerprint,
                discard,
            } => {
                // Who closed the form does not want to be asked.
                if !waits {
                    self.say(format!("node {node} is at {address}; not added"));
                    return;
                }
                self.mode = Mode::Confirm {
                    lines: vec![
                        format!("address      {address}"),
                        format!("node id      {node}"),
                        format!("fingerprint  {fingerprint}"),
                        String::new(),
                        "Add this node to the cluster?".to_owned(),
                    ],
                    order: Order::Invite {
                        address,
                        fingerprint,
                        discard,
                    },
                };
                self.message = None;
            }
        }
    }

    fn failed(&mut self, failure: Failure) {
        let text = rows::clean(&failure.text);
        self.complain(text.clone());
        if let Mode::Form(form) = &mut self.mode
            && form.waiting
        {
            form.waiting = false;
            form.conflict = failure.code == CONFLICT;
            form.problem = Some(text);
        }
    }

    fn say(&mut self, text: impl Into<String>) {
        self.message = Some(Message {
            is_error: false,
            text: text.into(),
        });
    }

    fn complain(&mut self, text: impl Into<String>) {
        self.message = Some(Message {
            is_error: true,
            text: text.into(),
        });
    }

    /// Takes a pasted text.
    pub(super) fn paste(&mut self, text: &str) {
        match &mut self.mode {
            Mode::Form(form) => form.paste(text),
            Mode::Filter => self
                .filter
                .extend(text.chars().filter(|letter| !letter.is_control())),
            _ => {}
        }
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Some(Wish::Quit);
        }
        match &mut self.mode {
            Mode::Table => self.table_key(key),
            Mode::Filter => {
                self.filter_key(key, control);
                None
            }
            Mode::Form(_) => self.form_key(key),
            Mode::Confirm { .. } => self.confirm_key(key),
            Mode::Detail(top) | Mode::Help(top) => {
                match key.code {
                    KeyCode::Down | KeyCode::Char('j') | KeyCode::PageDown => *top += 1,
                    KeyCode::Up | KeyCode::Char('k') | KeyCode::PageUp => *top = top.saturating_sub(1),
                    KeyCode::Home => *top = 0,
                    _ => self.mode = Mode::Table,
                }
                None
            }
        }
    }

    fn filter_key(&mut self, key: KeyEvent, control: bool) {
        match key.code {
            KeyCode::Enter | KeyCode::Down | KeyCode::Up => self.mode = Mode::Table,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Table;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char('u') if control => self.filter.clear(),
            KeyCode::Char(letter) if !control => self.filter.push(letter),
            _ => {}
        }
    }

    fn form_key(&mut self, key: KeyEvent) -> Option<Wish> {
        let Mode::Form(form) = &mut self.mode else {
            return None;
        };
        match form.key(key) {
            Step::Stay => None,
            Step::Close => {
                self.mode = Mode::Table;
                None
            }
            Step::Rebase => {
                let Some((look, _)) = &self.look else {
                    return None;
                };
                match form.rebase(&look.document) {
                    Ok(()) => {
                        self.say("the entry as it is now, with what you typed; Enter sends it");
                        Some(Wish::Look)
                    }
                    Err(problem) => {
                        form.problem = Some(problem);
                        None
                    }
                }
            }
            Step::Submit => match form.order(self.now) {
                Ok(order) => {
                    if self.busy.is_none() {
                        form.problem = None;
                        form.waiting = true;
                    }
                    self.order(order)
                }
                Err(problem) => {
                    form.problem = Some(problem);
                    None
                }
            },
        }
    }

    fn confirm_key(&mut self, key: KeyEvent) -> Option<Wish> {
        let Mode::Confirm { order, .. } = std::mem::replace(&mut self.mode, Mode::Table) else {
            return None;
        };
        if matches!(key.code, KeyCode::Char('y' | 'Y')) {
            return self.order(order);
        }
        self.say("not done");
        None
    }

    /// One order at a time: the next may rest on what the last one leads to.
    fn order(&mut self, order: Order) -> Option<Wish> {
        if let Some(busy) = &self.busy {
            let text = format!("wait: still {busy}");
            self.complain(text);
            return None;
        }
        self.busy = Some(order.title());
        self.message = None;
        Some(Wish::Order(order))
    }

    fn place(&self) -> usize {
        self.cursor(&self.rows())
    }

    fn move_to(&mut self, place: usize) {
        let rows = self.rows();
        let place = place.min(rows.len().saturating_sub(1));
        if let Some(row) = rows.get(place) {
            self.selected[self.tab as usize] = (row.id.clone(), place);
        }
    }

    fn table_key(&mut self, key: KeyEvent) -> Option<Wish> {
        let page = usize::from(self.height.saturating_sub(FRAME_ROWS)).max(1);
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('r') => return Some(Wish::Look),
            KeyCode::Tab | KeyCode::Right => self.tab = Tab::ALL[(self.tab as usize + 1) % 3],
            KeyCode::BackTab | KeyCode::Left => self.tab = Tab::ALL[(self.tab as usize + 2) % 3],
            KeyCode::Char('1') => self.tab = Tab::Peers,
            KeyCode::Char('2') => self.tab = Tab::Checks,
            KeyCode::Char('3') => self.tab = Tab::Alerts,
            KeyCode::Down | KeyCode::Char('j') => self.move_to(self.place() + 1),
            KeyCode::Up | KeyCode::Char('k') => self.move_to(self.place().saturating_sub(1)),
            KeyCode::PageDown => self.move_to(self.place() + page),
            KeyCode::PageUp => self.move_to(self.place().saturating_sub(page)),
            KeyCode::Home => self.move_to(0),
            KeyCode::End => self.move_to(usize::MAX),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('?') => self.mode = Mode::Help(0),
            KeyCode::Esc => {
                self.filter.clear();
                self.message = None;
            }
            KeyCode::Char('a') => {
                let subject = match self.tab {
                    Tab::Peers => Subject::NewPeer,
                    Tab::Checks => Subject::NewCheck,
                    Tab::Alerts => Subject::NewAlert,
                };
                self.message = None;
                self.mode = Mode::Form(Form::new(subject));
            }
            KeyCode::Enter | KeyCode::Char('e' | 'd' | 't' | 'x' | 'D' | 'K') => {
                return self.row_key(key.code);
            }
            _ => {}
        }
        None
    }

    /// Keys that are about the row with the cursor.
    fn row_key(&mut self, code: KeyCode) -> Option<Wish> {
        let rows = self.rows();
        let Some(row) = rows.get(self.cursor(&rows)) else {
            self.complain("there is nothing in this table; a adds something");
            return None;
        };
        if code == KeyCode::Enter {
            self.mode = Mode::Detail(0);
            return None;
        }
        let acted = match self.tab {
            Tab::Peers => self.peer_key(row, code),
            Tab::Checks => self.check_key(row, code),
            Tab::Alerts => self.alert_key(row, code),
        };
        match acted {
            Ok(Act::Open(mode)) => {
                self.message = None;
                self.mode = mode;
                None
            }
            Ok(Act::Give(order)) => self.order(order),
            Err(problem) => {
                self.complain(problem);
                None
            }
        }
    }

    fn known(&self) -> Result<&Look, String> {
        self.look.as_ref().map(|(look, _)| look).ok_or_else(gone)
    }

    /// All of the row with the cursor.
    pub(super) fn detail(&self) -> Option<Vec<(&'static str, String)>> {
        let rows = self.rows();
        let row = rows.get(self.cursor(&rows))?;
        rows::detail(self.known().ok()?, self.tab, &row.id, self.now)
    }
}

#[cfg(test)]
mod tests;
