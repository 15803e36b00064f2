//! The picture of a [`State`]: header, tabs, table, what lies over it, the last result, and keys. Pure: drawn into a frame, which may be
//! one of a test.
//!
//! Whatever a colour says, a word says as well.

mod overlay;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::order::Look;
use super::rows::{Row, Tone, columns};
use super::state::{Mode, State, Tab};
use super::text::{fitted, gap, shared, wrapped};
use crate::machine::state::Status;

/// Smallest terminal that it can be used on.
const SMALLEST: (u16, u16) = (60, 16);
/// Lines of notes that are shown; `qu status` has them all.
const NOTES_MAX: usize = 2;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!(
            "qu tui needs {} columns and {} lines; this terminal has {}x{}. q quits.",
            SMALLEST.0, SMALLEST.1, area.width, area.height
        );
        lines(
            frame,
            area,
            wrapped(&text, area.width.into()).into_iter().map(Line::from),
        );
        return;
    }
    let room = usize::from(area.width);
    let (mut above, mut below) = (header(state, room), Vec::new());
    above.push(tabs(state));
    below.extend(message(state, room, usize::from(area.height) / 3));
    below.extend(keys(state, room));

    let top = above.len() as u16;
    let bottom = below.len() as u16;
    let middle = Rect {
        y: area.y + top,
        height: area.height.saturating_sub(top + bottom),
        ..area
    };
    let part = |y, height| Rect { y, height, ..area };
    lines(frame, part(area.y, top), above);
    lines(frame, part(middle.bottom(), bottom), below);
    match &state.mode {
        Mode::Table | Mode::Filter => table(frame, middle, state),
        Mode::Form(form) => overlay::form(frame, middle, state, form),
        Mode::Confirm { lines, .. } => overlay::question(frame, middle, lines),
        Mode::Detail(top) => overlay::detail(frame, middle, state, *top),
        Mode::Help(top) => overlay::help(frame, middle, *top),
    }
}

fn lines<'a>(frame: &mut Frame<'_>, area: Rect, lines: impl IntoIterator<Item = Line<'a>>) {
    let lines: Vec<Line<'a>> = lines.into_iter().collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// How a cell looks. Without colours bold and dim are left.
fn style(state: &State, tone: Tone) -> Style {
    let colour = |colour: Color| {
        if state.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    };
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => colour(Color::Green),
        Tone::Warning => colour(Color::Yellow),
        Tone::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Dim => Style::new().add_modifier(Modifier::DIM),
    }
}

/// Who this is, who leads, and everything that is wrong with the cluster as such.
fn header(state: &State, room: usize) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    let mut banner = |text: String, tone| {
        let shown = wrapped(&text, room);
        out.extend(
            shown
                .into_iter()
                .map(|text| Line::styled(text, style(state, tone))),
        );
    };
    let Some((look, at)) = &state.look else {
        match &state.unreachable {
            Some(reason) => banner(
                format!("NO ANSWER FROM THE DAEMON: {} Trying again.", sentence(reason)),
                Tone::Bad,
            ),
            None => banner("asking the daemon ...".to_owned(), Tone::Plain),
        }
        return out;
    };
    for text in facts(look) {
        banner(text, Tone::Plain);
    }
    if let Some(reason) = &state.unreachable {
        let age = super::rows::ago(*at, state.now);
        let reason = sentence(reason);
        let text =
            format!("NO ANSWER FROM THE DAEMON: {reason} Trying again; shown is how it stood {age} ago.");
        banner(text, Tone::Bad);
    } else if !look.status.quorum {
        let text = match look.status.no_master.as_deref() {
            Some("election in progress") => {
                "NO MASTER: an election is in progress; changes and alerts wait for it."
            }
            Some("removed from cluster") => "REMOVED: this node is not part of the cluster any more.",
            _ => "NO QUORUM: no change is taken and no alert is sent; probing goes on.",
        };
        banner(text.to_owned(), Tone::Bad);
    }
    let notes = &look.status.notes;
    for note in notes.iter().take(NOTES_MAX) {
        banner(fitted(&super::rows::clean(note), room), Tone::Warning);
    }
    if notes.len() > NOTES_MAX {
        let more = notes.len() - NOTES_MAX;
        banner(format!("{more} more notes: qu status"), Tone::Warning);
    }
    out
}

fn facts(look: &Look) -> [String; 3] {
    let status = &look.status;
    let address = |node| {
        let peer = status.peers.iter().find(|peer| peer.node == node);
        peer.map_or("", |peer| peer.advertise.as_str())
    };
    let master = match status.master {
        Some(master) => format!("{master}  {}", address(master)),
        None => format!("(none — {})", status.no_master.as_deref().unwrap_or("no quorum")),
    };
    [
        format!("node    {}  {}", status.node, address(status.node)),
        format!("master  {master}"),
        format!(
            "term {}   quorum {} (need {})   config version {}",
            status.term, status.quorum, status.need, status.config_version
        ),
    ]
}

/// The present one stands in brackets.
fn tabs(state: &State) -> Line<'static> {
    let mut spans = Vec::new();
    for (number, tab) in Tab::ALL.into_iter().enumerate() {
        let count = state.look.as_ref().map_or_else(String::new, |(look, _)| {
            let status = &look.status;
            match tab {
                Tab::Peers => {
                    let live = status.peers.iter().filter(|peer| peer.live).count();
                    format!(" {live}/{} live", status.peers.len())
                }
                Tab::Checks => {
                    let down = status.checks.iter().filter(|line| line.status == Status::Down);
                    match down.count() {
                        0 => format!(" {}", status.checks.len()),
                        down => format!(" {}, {down} down", status.checks.len()),
                    }
                }
                Tab::Alerts => format!(" {}", look.document.alerts.len()),
            }
        });
        let title = format!("{} {}{count}", number + 1, tab.name());
        if tab == state.tab {
            let style = Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED);
            spans.push(Span::styled(format!("[{title}]"), style));
        } else {
            spans.push(Span::raw(format!(" {title} ")));
        }
        spans.push(Span::raw(" "));
    }
    match (&state.mode, state.filter.is_empty()) {
        (Mode::Filter, _) => spans.push(Span::raw(format!("/{}_", state.filter))),
        (_, false) => spans.push(Span::raw(format!("filter: {}", state.filter))),
        (_, true) => {}
    }
    Line::from(spans)
}

fn table(frame: &mut Frame<'_>, area: Rect, state: &State) {
    if state.look.is_none() {
        return;
    }
    let (columns, rows) = (columns(state.tab), state.rows());
    let cursor = state.cursor(&rows);
    let height = usize::from(area.height).saturating_sub(1).max(1);
    // The row with the cursor is in the middle where it can be.
    let first = cursor
        .saturating_sub(height / 2)
        .min(rows.len().saturating_sub(height));
    let visible = &rows[first..rows.len().min(first + height)];
    // A mark and a blank stand before each row.
    let widths = shared(columns, visible, usize::from(area.width).saturating_sub(2));
    let titles: Vec<String> = widths
        .iter()
        .map(|(at, wide)| fitted(columns[*at].title, *wide))
        .collect();
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut out = vec![Line::styled(format!("  {}", titles.join(&gap())), bold)];
    for (place, row) in visible.iter().enumerate() {
        out.push(row_line(state, row, &widths, first + place == cursor));
    }
    if rows.is_empty() {
        out.push(Line::raw(if state.filter.is_empty() {
            "  nothing here yet; a adds something".to_owned()
        } else {
            format!("  nothing with \"{}\" in it; Esc shows all", state.filter)
        }));
    }
    lines(frame, area, out);
}

fn row_line(state: &State, row: &Row, widths: &[(usize, usize)], has_cursor: bool) -> Line<'static> {
    let mut spans = vec![Span::raw(if has_cursor { "> " } else { "  " })];
    for (number, (at, wide)) in widths.iter().enumerate() {
        let (text, tone) = &row.cells[*at];
        if number > 0 {
            spans.push(Span::raw(gap()));
        }
        spans.push(Span::styled(fitted(text, *wide), style(state, *tone)));
    }
    let line = Line::from(spans);
    if has_cursor {
        line.style(Style::new().add_modifier(Modifier::REVERSED))
    } else {
        line
    }
}

/// What is under way or became of the last thing that was wanted, in full.
fn message(state: &State, room: usize, most: usize) -> Vec<Line<'static>> {
    let (text, tone) = match (&state.busy, &state.message) {
        (_, Some(message)) if message.is_error => (format!("error: {}", message.text), Tone::Bad),
        (Some(busy), _) => (format!("{busy} ..."), Tone::Warning),
        (None, Some(message)) => (message.text.clone(), Tone::Good),
        (None, None) => (String::new(), Tone::Plain),
    };
    let mut shown = wrapped(&text, room);
    if shown.len() > most {
        shown.truncate(most);
        if let Some(last) = shown.last_mut() {
            last.push('…');
        }
    }
    shown
        .into_iter()
        .map(|text| Line::styled(text, style(state, tone)))
        .collect()
}

/// The keys that mean something now.
fn keys(state: &State, room: usize) -> Vec<Line<'static>> {
    let text = match &state.mode {
        Mode::Table => match state.tab {
            Tab::Peers => "a add  e edit  d remove  Enter all of it  / filter  Tab next  ? help  q quit",
            Tab::Checks => {
                "a add  e edit  d remove  t test  x on/off  K acknowledge  / filter  Tab next  ? help  q quit"
            }
            Tab::Alerts => {
                "a add  e edit  d remove  t test  x on/off  D default  / filter  Tab next  ? help  q quit"
            }
        },
        Mode::Filter => "type a text  Enter keep  Esc show all",
        Mode::Form(form) if form.conflict => {
            "Ctrl-R start from the entry as it is now, with what you typed  Esc close"
        }
        Mode::Form(_) => "Tab next line  Enter send  Ctrl-U empty the line  Esc close",
        Mode::Confirm { .. } => "y yes  any other key no",
        Mode::Detail(_) | Mode::Help(_) => "j k move  any other key close",
    };
    // Keys stay with what they do.
    let unbroken = text
        .replace("  ", "\n")
        .replace(' ', "\u{a0}")
        .replace('\n', "  ");
    wrapped(&unbroken, room)
        .into_iter()
        .map(|text| {
            let text = text.replace('\u{a0}', " ");
            Line::styled(text.trim().to_owned(), Style::new().add_modifier(Modifier::DIM))
        })
        .collect()
}

/// With a full stop, unless it ends as a question: errors of commands have neither.
fn sentence(text: &str) -> String {
    let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{text}{end}")
}

#[cfg(test)]
mod tests;
