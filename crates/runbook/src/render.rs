//! A page for a terminal: wrapped paragraphs, headings that stand out, steps with their host and marks in words.
//!
//! It shows what a reader of the rendered page sees, plus what the fences hide from them. Width and colour are arguments;
//! nothing here asks the terminal. Control characters of the page are not passed on.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use crate::attribute;
use crate::model::{Expect, Page, Place, Step};

/// Narrowest width paragraphs are wrapped to.
const WIDTH_MIN: usize = 30;

/// The page as text for a terminal of this many columns.
pub fn page(page: &Page, width: usize, colour: bool) -> String {
    let mut view = View {
        page,
        width: width.max(WIDTH_MIN),
        colour,
        out: String::new(),
        text: String::new(),
        lists: Vec::new(),
    };
    view.draw();
    view.out
}

struct View<'a> {
    page: &'a Page,
    width: usize,
    colour: bool,
    out: String,
    /// Inline text collected for the current block.
    text: String,
    /// Open lists: the next number, or none for bullets.
    lists: Vec<Option<u64>>,
}

impl View<'_> {
    fn draw(&mut self) {
        let source = &self.page.text;
        let mut code: Option<(bool, String, String, usize)> = None;
        let mut table: Vec<Vec<String>> = Vec::new();
        for (event, range) in Parser::new_ext(source, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    self.paragraph();
                    let (fenced, info) = match kind {
                        CodeBlockKind::Fenced(info) => (true, info.into_string()),
                        CodeBlockKind::Indented => (false, String::new()),
                    };
                    code = Some((fenced, info, String::new(), range.start));
                }
                Event::Text(text) => match &mut code {
                    Some((_, _, body, _)) => body.push_str(&text),
                    None => self.text.push_str(&text),
                },
                Event::Code(text) => {
                    self.text.push('`');
                    self.text.push_str(&text);
                    self.text.push('`');
                }
                Event::End(TagEnd::CodeBlock) => {
                    if let Some((_, info, body, _)) = code.take() {
                        self.code(&info, &body);
                    }
                }
                Event::End(TagEnd::Heading(level)) => self.heading(level),
                Event::SoftBreak | Event::HardBreak => {
                    self.text.push(if keeps_line(&self.text) { '\n' } else { ' ' });
                }
                Event::Start(Tag::List(first)) => {
                    self.paragraph();
                    self.lists.push(first);
                }
                Event::End(TagEnd::List(_)) => {
                    self.lists.pop();
                    if self.lists.is_empty() {
                        self.out.push('\n');
                    }
                }
                Event::End(TagEnd::Paragraph | TagEnd::Item | TagEnd::BlockQuote(_)) => self.paragraph(),
                Event::Start(Tag::TableRow | Tag::TableHead) => table.push(Vec::new()),
                Event::End(TagEnd::TableCell) => {
                    let cell = clean(self.text.trim());
                    self.text.clear();
                    if let Some(row) = table.last_mut() {
                        row.push(cell);
                    }
                }
                Event::End(TagEnd::Table) => self.table(&std::mem::take(&mut table)),
                Event::Rule => {
                    let rule = "-".repeat(self.width);
                    self.put(&rule);
                }
                _ => {}
            }
        }
        self.paragraph();
    }

    fn put(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn heading(&mut self, level: HeadingLevel) {
        let title = clean(self.text.trim());
        self.text.clear();
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
        let shown = self.styled("1", &title);
        self.put(&shown);
        let mark = match level {
            HeadingLevel::H1 => Some("="),
            HeadingLevel::H2 => Some("-"),
            _ => None,
        };
        // Colour already sets a heading apart.
        if let Some(mark) = mark.filter(|_| !self.colour) {
            let line = mark.repeat(title.chars().count());
            self.put(&line);
        }
        self.out.push('\n');
    }

    /// Ends the block whose inline text was collected.
    fn paragraph(&mut self) {
        let text = std::mem::take(&mut self.text);
        if text.trim().is_empty() {
            return;
        }
        let depth = self.lists.len().min(8);
        let bullet = match self.lists.last_mut() {
            None => String::new(),
            Some(None) => "- ".to_owned(),
            Some(Some(number)) => {
                let bullet = format!("{number}. ");
                *number = number.saturating_add(1);
                bullet
            }
        };
        let first = "  ".repeat(depth.saturating_sub(1)) + &bullet;
        let rest = " ".repeat(first.len());
        for paragraph in text.lines() {
            for (index, line) in wrap(&clean(paragraph), self.width.saturating_sub(first.len()))
                .iter()
                .enumerate()
            {
                let line = format!("{}{line}", if index == 0 { &first } else { &rest });
                self.put(&line);
            }
        }
        if self.lists.is_empty() {
            self.out.push('\n');
        }
    }

    fn code(&mut self, info: &str, body: &str) {
        let step = attribute::words(info)
            .iter()
            .find_map(|word| word.text.strip_prefix("step="))
            .and_then(|name| self.page.step(name));
        if let Some(step) = step {
            let label = self.styled(if step.destructive { "1;31" } else { "36" }, &label(step));
            self.put(&format!("  {label}"));
        } else if info.trim() == "output" {
            self.put("  prints:");
        }
        let margin = if info.trim() == "output" { "    | " } else { "    " };
        for line in body.lines() {
            self.put(&format!("{margin}{}", clean(line)));
        }
        self.out.push('\n');
    }

    fn table(&mut self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        for row in rows {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            let line = format!("  {}", cells.collect::<Vec<_>>().join("  "));
            self.put(&line);
        }
        self.out.push('\n');
    }
}

/// `alert:` lines are lines of their own for the parser, so the view keeps them apart too.
fn keeps_line(text: &str) -> bool {
    text.rsplit('\n')
        .next()
        .is_some_and(|line| line.starts_with("alert:"))
}

/// What a step's fence says besides its command: `[status on node1, exit 0, at most 30s]`.
fn label(step: &Step) -> String {
    let mut parts = vec![match &step.on {
        Place::Local => format!("step {}", step.name),
        place => format!("step {} on {place}", step.name),
    }];
    if step.destructive {
        parts.push("DESTRUCTIVE".to_owned());
    }
    if step.expect != Expect::Code(0) {
        parts.push(format!("expects {}", step.expect));
    }
    if let Some(retry) = step.retry {
        parts.push(format!("repeated for {retry:?}"));
    }
    if let Some(form) = step.when {
        parts.push(format!("form {form} only"));
    }
    format!("[{}]", parts.join(", "))
}

/// Text without characters that would steer the terminal.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Breaks at blanks so that lines fit; a longer word gets a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let word_length = word.chars().count();
        if length > 0 && length + 1 + word_length > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += word_length;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use crate::parse;

    #[test]
    fn page_reads_well_on_a_terminal() {
        let text = "# Title\n\nalert: A\nSome *words* that are long enough to be wrapped once here.\n\n## Checks\n\n\
                    1. first\n2. second with `code`\n\n| a | long |\n|---|---|\n| bb | c |\n\n\
                    ```sh step=wipe on=node1 destructive expect=any\nrm -rf \"$X\"\n```\n\n```output\n...\n```\n";
        let parsed = parse("x", "x.md", text.as_bytes());
        let view = super::page(&parsed.page, 40, false);
        assert_eq!(
            view,
            "Title\n=====\n\nalert: A\nSome words that are long enough to be\nwrapped once here.\n\n\
             Checks\n------\n\n1. first\n2. second with `code`\n\n  a   long\n  bb  c\n\n  \
             [step wipe on node1, DESTRUCTIVE, expects any exit code]\n    rm -rf \"$X\"\n\n  prints:\n    | ...\n\n"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let parsed = parse(
            "x",
            "x.md",
            b"# T\n\n\x1b[2J\n\n```sh step=a\necho \x1b]0;x\x07\n```\n",
        );
        assert!(!super::page(&parsed.page, 80, false).contains('\x1b'));
    }
}
