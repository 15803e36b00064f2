//! Tables without lines, like `kubectl`'s: a header, then rows, columns two blanks apart.
//!
//! At a terminal a wide table is folded to its width; anywhere else every row is one line, so `grep` and `awk` work.

use std::io::IsTerminal;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement};

/// Blanks between two columns.
const GAP: u16 = 2;

/// A table being built.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    numeric: Vec<usize>,
}

impl Table {
    /// A table with these column titles.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self {
            header: header.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            numeric: Vec::new(),
        }
    }

    /// Aligns the columns with these titles to the right.
    #[must_use]
    pub fn numeric(mut self, titles: &[&str]) -> Self {
        self.numeric = (0..self.header.len())
            .filter(|n| titles.contains(&self.header[*n].as_str()))
            .collect();
        debug_assert_eq!(self.numeric.len(), titles.len(), "every title names a column");
        self
    }

    /// Adds a row. Missing cells are empty.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        let cells: Vec<String> = cells.into_iter().map(|cell| one_line(cell.into())).collect();
        debug_assert!(
            cells.len() <= self.header.len(),
            "a row has no more cells than the header"
        );
        self.rows.push(cells);
        self
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, each line with its newline and without blanks at its end. `width` folds wide columns.
    pub fn render(&self, width: Option<u16>) -> String {
        let mut table = comfy_table::Table::new();
        table
            .load_style(NOTHING)
            .force_no_tty()
            .set_header(self.header.clone());
        for row in &self.rows {
            table.add_row(row.clone());
        }
        if let Some(width) = width {
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width);
        }
        let last = self.header.len().saturating_sub(1);
        for (n, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if n == last { 0 } else { GAP }));
            if self.numeric.contains(&n) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        text
    }

    /// Prints the table to standard output, folded to the terminal if there is one.
    pub fn print(&self) {
        crate::out(&self.render(terminal_width()));
    }
}

/// Columns of the terminal on standard output; `None` when it is none.
fn terminal_width() -> Option<u16> {
    // comfy-table looks the size up by itself when it is allowed to.
    let columns = comfy_table::Table::new().width();
    columns.filter(|_| std::io::stdout().is_terminal())
}

/// A cell may not break its row.
fn one_line(cell: String) -> String {
    if cell.chars().any(crate::is_harmful) {
        cell.escape_debug().to_string()
    } else {
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Table {
        let mut table = Table::new(["ID", "NAME", "STATUS", "LAG"]).numeric(&["LAG"]);
        table
            .row(["1", "chainfire-node-1", "started", "0"])
            .row(["2", "", "unreachable", "1200"]);
        table
    }

    #[test]
    fn rows_are_plain_lines() {
        assert_eq!(
            members().render(None),
            "\
ID  NAME              STATUS        LAG
1   chainfire-node-1  started         0
2                     unreachable  1200
"
        );
    }

    #[test]
    fn wide_tables_fold_at_a_terminal_only() {
        let folded = members().render(Some(30));
        assert!(
            folded.lines().count() > 3 && folded.lines().all(|line| line.chars().count() <= 30),
            "{folded}"
        );
        assert_eq!(members().render(None).lines().count(), 3);
    }

    #[test]
    fn cells_cannot_break_the_row() {
        let mut table = Table::new(["KEY", "VALUE"]);
        assert!(table.is_empty());
        table.row(["a\nb", "\u{1b}[31mx"]).row(["only one"]);
        assert_eq!(
            table.render(None),
            "KEY       VALUE\na\\nb      \\u{1b}[31mx\nonly one\n"
        );
    }
}
