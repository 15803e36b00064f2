//! Texts in a space of so many columns: their width, cutting, wrapping, and how columns of a table share a line.

use ratatui::text::Span;

use super::rows::{Column, Row};

/// Blanks between columns.
const GAP: usize = 2;

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// A text that takes exactly `room` columns; what is cut off is shown by an ellipsis.
pub(super) fn fitted(text: &str, room: usize) -> String {
    let wide = width(text);
    if wide <= room {
        return format!("{text}{}", " ".repeat(room - wide));
    }
    let mut cut = String::new();
    for letter in text.chars() {
        cut.push(letter);
        if width(&cut) + 1 > room {
            cut.pop();
            break;
        }
    }
    if room > 0 {
        cut.push('…');
    }
    let rest = room.saturating_sub(width(&cut));
    format!("{cut}{}", " ".repeat(rest))
}

/// Lines of at most `room` columns, broken at blanks where there are any.
pub(super) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let room = room.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let mut word = word.to_owned();
        let wide = width(&line) + usize::from(!line.is_empty()) + width(&word);
        if wide > room && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        while width(&word) > room {
            let mut part = String::new();
            while let Some(letter) = word.chars().next() {
                if width(&part) + width(letter.encode_utf8(&mut [0; 4])) > room && !part.is_empty() {
                    break;
                }
                part.push(letter);
                word.remove(0);
            }
            lines.push(part);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    lines.push(line);
    lines
}

/// Which columns there is room for, and how wide each is.
pub(super) fn shared(columns: &[Column], rows: &[Row], room: usize) -> Vec<(usize, usize)> {
    let natural = |at: usize| {
        let cells = rows.iter().map(|row| width(&row.cells[at].0));
        cells.max().unwrap_or(0).max(width(columns[at].title))
    };
    let mut shown: Vec<(usize, usize)> = (0..columns.len()).map(|at| (at, natural(at))).collect();
    let sum = |shown: &[(usize, usize)]| {
        shown.iter().map(|(_, wide)| wide).sum::<usize>() + GAP * shown.len().saturating_sub(1)
    };
    let least = |shown: &[(usize, usize)]| {
        let smallest = |(at, wide): &(usize, usize)| columns[*at].least.min(*wide);
        shown.iter().map(smallest).sum::<usize>() + GAP * shown.len().saturating_sub(1)
    };
    while least(&shown) > room {
        let leaving = shown
            .iter()
            .enumerate()
            .max_by_key(|(_, (at, _))| columns[*at].leaves);
        match leaving {
            Some((place, (at, _))) if columns[*at].leaves > 0 => {
                shown.remove(place);
            }
            _ => break,
        }
    }
    // The widest gives first.
    while sum(&shown) > room {
        let can = shown
            .iter_mut()
            .filter(|(at, wide)| *wide > columns[*at].least)
            .max_by_key(|(_, wide)| *wide);
        match can {
            Some((_, wide)) => *wide -= 1,
            None => break,
        }
    }
    shown
}

/// A line of a table.
pub(super) fn gap() -> String {
    " ".repeat(GAP)
}

#[cfg(test)]
mod tests {
    use super::super::rows::Tone;
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        assert_eq!(fitted("abc", 5), "abc  ");
        assert_eq!(fitted("abcdef", 4), "abc…");
        // Letters that take two columns.
        assert_eq!(width(&fitted("東京東京", 5)), 5);
        assert_eq!(fitted("x", 0), "");
    }

    #[test]
    fn lines_break_at_blanks_and_lose_nothing() {
        let text = "error: no quorum, change refused (live 1, need 2)";
        for room in 1..60 {
            let lines = wrapped(text, room);
            assert!(lines.iter().all(|line| width(line) <= room), "{lines:?}");
            let letters = |text: &str| text.replace(' ', "");
            assert_eq!(letters(&lines.concat()), letters(text));
        }
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
    }

    #[test]
    fn columns_share_a_line_and_leave_where_there_is_no_room() {
        let column = |title, least, leaves| Column { title, least, leaves };
        let columns = [column("A", 3, 0), column("B", 8, 1), column("C", 3, 0)];
        let row = Row {
            id: String::new(),
            name: String::new(),
            cells: vec![
                ("a".repeat(10), Tone::Plain),
                ("b".repeat(10), Tone::Plain),
                ("c".repeat(3), Tone::Plain),
            ],
        };
        let rows = [row];
        assert_eq!(shared(&columns, &rows, 40), [(0, 10), (1, 10), (2, 3)]);
        assert_eq!(shared(&columns, &rows, 20), [(0, 5), (1, 8), (2, 3)]);
        assert_eq!(shared(&columns, &rows, 12), [(0, 7), (2, 3)]);
    }
}
