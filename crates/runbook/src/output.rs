//! What a step may print: the text of an ```` ```output ```` fence as a pattern, and the comparison with what came.
//!
//! `...` alone on a line stands for any number of lines, also none; `[..]` for any text within its line, also none.
//! Blanks at line ends, a carriage return before them and empty lines at the end of either side do not count. Everything
//! else must be equal. Comparison takes time proportional to pattern lines times output lines at worst; both are bounded
//! (page size, captured output), so no pattern can hang the runner.

use std::fmt::Write as _;

/// The lines of an output fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    lines: Vec<Line>,
    /// Line of the page that the first pattern line stands on, from 1.
    first_line: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// `...`
    Any,
    /// Literal pieces between `[..]`; one piece means the whole line is literal.
    Pieces(Vec<String>),
}

/// The first place where the output differs from the pattern.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Line of the page whose pattern found no partner; 0 when the pattern was complete and output was left over.
    pub page_line: usize,
    /// That pattern line, or nothing when the output should have ended.
    pub expected: Option<String>,
    /// Line of the output, from 1.
    pub output_line: usize,
    /// That output line, or nothing when the output ended too early.
    pub got: Option<String>,
    /// Both sides around the place, for people: ` ` same, `-` expected, `+` printed.
    pub diff: String,
}

impl Pattern {
    /// Reads the text inside an output fence that starts on `first_line` of the page.
    pub fn new(text: &str, first_line: usize) -> Self {
        let lines = significant_lines(text)
            .into_iter()
            .map(|line| match line {
                "..." => Line::Any,
                _ => Line::Pieces(line.split("[..]").map(str::to_owned).collect()),
            })
            .collect();
        Self { lines, first_line }
    }

    /// Compares a step's stdout with the pattern.
    pub fn compare(&self, output: &str) -> Result<(), Difference> {
        let output = significant_lines(output);
        // The usual two-pointer glob match, over lines: on a mismatch return to the last `...` and let it take one more.
        let (mut at, mut line) = (0, 0);
        let mut back: Option<(usize, usize)> = None;
        let mut furthest = (0, 0);
        while line < output.len() {
            if (at, line) > furthest {
                furthest = (at, line);
            }
            match self.lines.get(at) {
                Some(Line::Any) => {
                    back = Some((at + 1, line));
                    at += 1;
                }
                Some(Line::Pieces(pieces)) if pieces_match(pieces, output[line]) => {
                    at += 1;
                    line += 1;
                }
                _ => match back {
                    Some((after, from)) => {
                        back = Some((after, from + 1));
                        at = after;
                        line = from + 1;
                    }
                    None => return Err(self.difference(furthest, &output)),
                },
            }
        }
        while matches!(self.lines.get(at), Some(Line::Any)) {
            at += 1;
        }
        if at == self.lines.len() {
            return Ok(());
        }
        if (at, line) > furthest {
            furthest = (at, line);
        }
        Err(self.difference(furthest, &output))
    }

    fn difference(&self, (at, line): (usize, usize), output: &[&str]) -> Difference {
        const CONTEXT: usize = 3;
        let mut diff = String::new();
        for same in &output[line.saturating_sub(CONTEXT)..line] {
            let _ = writeln!(diff, "  {same}"); // writing to a String cannot fail
        }
        for expected in self.lines.iter().skip(at).take(CONTEXT) {
            let _ = writeln!(diff, "- {}", expected.text());
        }
        for got in output.iter().skip(line).take(CONTEXT) {
            let _ = writeln!(diff, "+ {got}");
        }
        let left = output.len().saturating_sub(line + CONTEXT);
        if left > 0 {
            let _ = writeln!(diff, "+ ({left} more lines)");
        }
        Difference {
            page_line: if at < self.lines.len() {
                self.first_line + at
            } else {
                0
            },
            expected: self.lines.get(at).map(Line::text),
            output_line: line + 1,
            got: output.get(line).map(|got| (*got).to_owned()),
            diff,
        }
    }
}

impl Line {
    fn text(&self) -> String {
        match self {
            Self::Any => "...".to_owned(),
            Self::Pieces(pieces) => pieces.join("[..]"),
        }
    }
}

/// Lines without blanks at their ends, and without the empty lines at the end of the text.
fn significant_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines
}

/// First piece is the start, last the end, those between follow each other: leftmost is always as good as any other.
fn pieces_match(pieces: &[String], line: &str) -> bool {
    let [first, middle @ .., last] = pieces else {
        return pieces.first().is_some_and(|only| only == line);
    };
    let Some(mut rest) = line.strip_prefix(first.as_str()) else {
        return false;
    };
    for piece in middle {
        let Some(found) = rest.find(piece.as_str()) else {
            return false;
        };
        rest = &rest[found + piece.len()..];
    }
    rest.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, output: &str) -> bool {
        Pattern::new(pattern, 1).compare(output).is_ok()
    }

    #[test]
    fn literal_lines_must_be_equal() {
        assert!(matches("a\nb", "a\nb\n"));
        assert!(matches("a  \nb\n\n", "a\r\nb\n"));
        assert!(!matches("a\nb", "a"));
        assert!(!matches("a", "a\nb"));
        assert!(!matches("a", " a"));
        assert!(matches("", ""));
        assert!(!matches("", "a"));
    }

    #[test]
    fn dots_stand_for_any_lines() {
        assert!(matches("...", ""));
        assert!(matches("...", "a\nb"));
        assert!(matches("...\nb\n...", "a\na\nb"));
        assert!(matches("a\n...\nc", "a\nc"));
        assert!(matches("...\na\nb\n...\nc", "a\na\nb\nc\nd\nc"));
        assert!(!matches("...\nb", "b\na"));
        assert!(!matches("... \n x", "y"));
    }

    #[test]
    fn brackets_stand_for_any_text_in_a_line() {
        assert!(matches("[..]", "anything"));
        assert!(matches("leader: [..]", "leader: 1"));
        assert!(matches("[..] = [..]!", "a = b!"));
        assert!(matches("a[..]b[..]b", "abb"));
        assert!(!matches("a[..]b[..]b", "ab"));
        assert!(!matches("ab[..]ba", "aba"));
        assert!(!matches("[..]x", "a\nx"));
    }

    #[test]
    fn difference_shows_the_first_line_that_differs() {
        let difference = Pattern::new("role: leader\nleader: 1\n...", 42)
            .compare("role: leader\nleader: none\nx\n")
            .unwrap_err();
        assert_eq!(difference.page_line, 43);
        assert_eq!(difference.expected.as_deref(), Some("leader: 1"));
        assert_eq!(difference.output_line, 2);
        assert_eq!(difference.got.as_deref(), Some("leader: none"));
        assert_eq!(
            difference.diff,
            "  role: leader\n- leader: 1\n- ...\n+ leader: none\n+ x\n"
        );
    }

    #[test]
    fn difference_says_when_the_output_ends_early_or_late() {
        let early = Pattern::new("a\nb", 1).compare("a").unwrap_err();
        assert_eq!((early.expected.as_deref(), early.got), (Some("b"), None));
        let late = Pattern::new("a", 1).compare("a\nb").unwrap_err();
        assert_eq!(
            (late.expected, late.got.as_deref(), late.page_line),
            (None, Some("b"), 0)
        );
    }

    #[test]
    fn many_dots_over_much_output_end() {
        let pattern = "...\nx\n".repeat(200) + "never";
        assert!(!matches(&pattern, &"x\n".repeat(5000)));
    }
}
