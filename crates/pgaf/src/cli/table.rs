//! Tables as `pg_auto_failover` prints them: cells to the right, columns as wide as their widest cell, a rule below the head.

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// What there may be room for even if nothing needs it now, so that tables that are printed again keep their shape.
    pub(super) least: usize,
    /// To the left instead; the last column only, which then has no blanks at its end.
    pub(super) left: bool,
}

impl Column {
    pub(super) const fn right(title: &'static str, least: usize) -> Column {
        Column {
            title,
            least,
            left: false,
        }
    }

    pub(super) const fn left(title: &'static str, least: usize) -> Column {
        Column {
            title,
            least,
            left: true,
        }
    }
}

/// The table as text.
pub(super) fn render(columns: &[Column], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let cells = rows.iter().map(|row| row[at].chars().count());
            let fixed = [column.title.len(), column.least];
            let widest = if column.left {
                fixed.into_iter().max()
            } else {
                cells.chain(fixed).max()
            };
            widest.unwrap_or(0)
        })
        .collect();
    let line = |cells: &[&str]| {
        let cells: Vec<String> = cells
            .iter()
            .zip(columns)
            .zip(&widths)
            .map(|((cell, column), width)| {
                let cell = terminal::harmless(cell);
                if column.left {
                    cell.into_owned()
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        cells.join(" | ") + "\n"
    };
    let head: Vec<&str> = columns.iter().map(|column| column.title).collect();
    let mut text = line(&head);
    let last = columns.len().saturating_sub(1);
    let rule: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(at, width)| "-".repeat(width + usize::from(at > 0) + usize::from(at < last)))
        .collect();
    text += &(rule.join("+") + "\n");
    for row in rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        text += &line(&cells);
    }
    text
}
