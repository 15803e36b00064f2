//! What lies over the table: forms, questions, all of a row, and all keys.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

use super::super::form::Form;
use super::super::rows::Tone;
use super::super::state::State;
use super::super::text::{fitted, width, wrapped};
use super::style;

/// Columns of the labels of a form.
const LABELS: usize = 15;

/// A frame with a title; yields the space in it.
fn boxed(frame: &mut Frame<'_>, area: Rect, title: &str) -> Rect {
    let title = fitted(title, width(title).min(usize::from(area.width).saturating_sub(6)));
    let block = Block::bordered().title(format!(" {title} "));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

/// A form. The line with the cursor is always visible, its hint stands below.
pub(super) fn form(frame: &mut Frame<'_>, area: Rect, state: &State, form: &Form) {
    let inner = boxed(frame, area, &form.title());
    let room = usize::from(inner.width);
    let mut below = match &form.problem {
        // It says in the line of results what happened; here, what to do.
        Some(_) if form.conflict => wrapped(
            "Somebody else has changed it meanwhile. What you typed is kept; Ctrl-R lays it over the entry as it is now.",
            room,
        ),
        Some(problem) => wrapped(problem, room),
        None => Vec::new(),
    };
    let most = usize::from(inner.height).saturating_sub(3).max(1);
    below.truncate(most);
    let hint = format!("({})", form.fields[form.focus].hint);
    let height = usize::from(inner.height).saturating_sub(below.len() + 1).max(1);
    let first = form
        .focus
        .saturating_sub(height / 2)
        .min(form.fields.len().saturating_sub(height));
    let mut lines = Vec::new();
    for (number, field) in form.fields.iter().enumerate().skip(first).take(height) {
        let has_cursor = number == form.focus;
        let value_room = room.saturating_sub(LABELS + 4);
        let (shown, cursor) = field.shown();
        // A long text moves so that the cursor is in sight.
        let skipped = (cursor + 1).saturating_sub(value_room);
        let visible: String = shown.chars().skip(skipped).collect();
        let mark = if has_cursor { "> " } else { "  " };
        let changed = if field.is_changed() { "*" } else { " " };
        let weight = if has_cursor {
            Style::new().add_modifier(Modifier::BOLD)
        } else {
            Style::new()
        };
        lines.push(Line::from(vec![
            Span::styled(format!("{mark}{}{changed} ", fitted(field.label, LABELS)), weight),
            Span::styled(
                fitted(&visible, value_room),
                weight.add_modifier(Modifier::UNDERLINED),
            ),
        ]));
        if has_cursor && !form.waiting {
            let before: String = shown.chars().skip(skipped).take(cursor - skipped).collect();
            frame.set_cursor_position(Position {
                x: inner.x + (LABELS + 4 + width(&before)) as u16,
                y: inner.y + (number - first) as u16,
            });
        }
    }
    let more = form.fields.len() > first + height;
    let hint = match (more, form.waiting) {
        (_, true) => "sent; waiting for the daemon".to_owned(),
        (true, false) => format!("{hint}  more lines below"),
        (false, false) => hint,
    };
    lines.push(Line::styled(
        fitted(&hint, room),
        Style::new().add_modifier(Modifier::DIM),
    ));
    lines.extend(
        below
            .into_iter()
            .map(|text| Line::styled(text, style(state, Tone::Bad))),
    );
    frame.render_widget(Paragraph::new(lines), inner);
}

/// A question.
pub(super) fn question(frame: &mut Frame<'_>, area: Rect, lines: &[String]) {
    let inner = boxed(frame, area, "Sure?");
    let room = usize::from(inner.width);
    let mut shown: Vec<Line<'_>> = lines
        .iter()
        .flat_map(|line| wrapped(line, room))
        .map(Line::from)
        .collect();
    shown.push(Line::default());
    shown.push(Line::styled("[y/N]", Style::new().add_modifier(Modifier::BOLD)));
    frame.render_widget(Paragraph::new(shown), inner);
}

/// All of a row.
pub(super) fn detail(frame: &mut Frame<'_>, area: Rect, state: &State, top: usize) {
    let inner = boxed(frame, area, state.tab.name());
    let room = usize::from(inner.width).saturating_sub(LABELS + 1);
    let lines = state.detail().unwrap_or_default();
    let mut shown = Vec::new();
    for (label, text) in lines {
        for (number, part) in wrapped(&text, room).into_iter().enumerate() {
            let label = if number == 0 { label } else { "" };
            shown.push(Line::from(format!("{} {part}", fitted(label, LABELS))));
        }
    }
    scrolled(frame, inner, shown, top);
}

/// All keys.
const KEYS: &[(&str, &str)] = &[
    ("1 2 3", "nodes, checks, alerts"),
    ("Tab", "next table; Shift-Tab the one before"),
    ("arrows j k", "another row; PageUp, PageDown, Home, End"),
    ("Enter", "all that is known of the row"),
    ("/", "show only rows with a text in them; Esc shows all"),
    ("r", "look now; it does so every 2 seconds by itself"),
    ("a", "add a node, check or alert"),
    ("e", "edit it"),
    ("d", "remove it, after a question"),
    ("t", "send a test of an alert, or of all alerts of a check"),
    ("x", "disable or enable a check or an alert"),
    ("D", "make an alert a default, or not"),
    ("K", "acknowledge a check that is down"),
    ("q", "quit; Ctrl-C does so everywhere"),
    ("", ""),
    ("in forms", ""),
    ("Tab, Up, Down", "another line"),
    ("blank, arrows", "another choice, where it stands in < >"),
    ("Enter", "send it"),
    ("Ctrl-U", "empty the line; Ctrl-W: one word"),
    ("Ctrl-R", "start from the entry as it is now, keep what you typed"),
    ("Esc", "close it without sending"),
];

/// All keys, on as many lines as there are.
pub(super) fn help(frame: &mut Frame<'_>, area: Rect, top: usize) {
    let inner = boxed(frame, area, "Keys");
    let room = usize::from(inner.width).saturating_sub(LABELS + 1);
    let mut shown = Vec::new();
    for (key, what) in KEYS {
        for (number, part) in wrapped(what, room).into_iter().enumerate() {
            let key = if number == 0 { key } else { "" };
            shown.push(Line::from(format!("{} {part}", fitted(key, LABELS))));
        }
    }
    scrolled(frame, inner, shown, top);
}

fn scrolled(frame: &mut Frame<'_>, area: Rect, mut lines: Vec<Line<'_>>, top: usize) {
    let height = usize::from(area.height);
    let top = top.min(lines.len().saturating_sub(height));
    let below = lines.len().saturating_sub(top + height);
    if below > 0 {
        let last = top + height.saturating_sub(1);
        lines.truncate(last);
        lines.push(Line::styled(
            format!("-- {} more lines: j --", below + 1),
            Style::new().add_modifier(Modifier::DIM),
        ));
    }
    let shown: Vec<Line<'_>> = lines.into_iter().skip(top).collect();
    frame.render_widget(Paragraph::new(shown), area);
}
