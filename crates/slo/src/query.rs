//! Queries of Prometheus, as far as objectives need them: a plain selector, to which the rate is added, or a whole expression in which the
//! window is left open.

use std::fmt::Display;
use std::ops::Range;

/// How an expression says where its window goes.
const WINDOWS: [&str; 3] = ["$window", "{{.window}}", "{{ .window }}"];

/// A query whose window is still open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Series: `http_requests_total{job="api"}`.
    Selector(Selector),
    /// Anything that has the window in it.
    Expression(String),
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub fn parse(text: &str) -> Result<Query, String> {
        let text = text.trim();
        if WINDOWS.iter().any(|mark| text.contains(mark)) {
            return balanced(text).map(|()| Query::Expression(text.to_owned()));
        }
        Selector::parse(text).map(Query::Selector)
    }

    /// Events in a second, over a window.
    pub fn rate(&self, window: &impl Display) -> String {
        match self {
            Query::Selector(selector) => format!("sum(rate({}[{window}]))", selector.text),
            Query::Expression(_) => self.over(window),
        }
    }

    /// The mean over a window, of something that is a ratio already.
    pub fn mean(&self, window: &impl Display) -> String {
        match self {
            Query::Selector(selector) => format!("avg(avg_over_time({}[{window}]))", selector.text),
            Query::Expression(_) => self.over(window),
        }
    }

    /// The expression for a window.
    fn over(&self, window: &impl Display) -> String {
        let text = match self {
            Query::Selector(selector) => &selector.text,
            Query::Expression(text) => text,
        };
        let window = window.to_string();
        let text = WINDOWS
            .iter()
            .fold(text.clone(), |text, mark| text.replace(mark, &window));
        format!("({text})")
    }
}

/// A plain selector. Its text is kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    text: String,
    /// Where the name of the metric is, if it has one outside of the braces.
    metric: Option<Range<usize>>,
    /// Labels, and where the quoted text is that each is compared with.
    matchers: Vec<(String, Range<usize>)>,
}

impl Selector {
    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads `metric{label="value",...}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Selector, String> {
        let mut scanner = Scanner { text, at: 0 };
        let metric = scanner.word(|byte| byte == b':');
        let mut matchers = Vec::new();
        scanner.blanks();
        let mut has_braces = false;
        if scanner.take(b'{') {
            has_braces = true;
            loop {
                scanner.blanks();
                if scanner.take(b'}') {
                    break;
                }
                matchers.push(scanner.matcher()?);
                scanner.blanks();
                if !scanner.take(b',') && !scanner.rest().starts_with('}') {
                    return Err(scanner.wrong("`,` or `}` is wanted"));
                }
            }
        }
        scanner.blanks();
        if metric.is_none() && !has_braces {
            return Err(format!(
                "{text:?} is no selector; write metric{{label=\"value\"}}, or an expression with $window in it"
            ));
        }
        if scanner.rest().starts_with('[') {
            return Err("has a window of its own; leave it out, or write [$window]".to_owned());
        }
        if !scanner.rest().is_empty() {
            return Err(scanner.wrong(
                "a plain selector ends here, and an expression has the window in it: $window or {{.window}}; neither is so",
            ));
        }
        if metric.is_none() && matchers.is_empty() {
            return Err("selects everything; name a metric".to_owned());
        }
        Ok(Selector {
            text: text.to_owned(),
            metric,
            matchers,
        })
    }

    /// Replaces the value of a label, or the metric if that is its name. Whether there was one.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        if let Some(range) = self
            .metric
            .clone()
            .filter(|range| &self.text[range.clone()] == name)
        {
            edits.push((range, value.to_owned()));
        }
        let quoted = format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        let labels = self.matchers.iter().filter(|(label, _)| label == name);
        edits.extend(labels.map(|(_, range)| (range.clone(), quoted.clone())));
        // From the end, so that the places before stay what they are.
        edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        let is_changed = !edits.is_empty();
        for (range, new) in edits {
            self.text.replace_range(range, &new);
        }
        if is_changed && let Ok(changed) = Selector::parse(&self.text) {
            *self = changed;
        }
        is_changed
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn wrong(&self, what: &str) -> String {
        let rest: String = self.rest().chars().take(20).collect();
        match rest.as_str() {
            "" => format!("{what} at its end"),
            rest => format!("{what} before {rest:?}"),
        }
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.rest().as_bytes().first() == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// A name: letters, digits, `_` and what else is allowed.
    fn word(&mut self, also: impl Fn(u8) -> bool) -> Option<Range<usize>> {
        let rest = self.rest().as_bytes();
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || also(*byte);
        let length = rest.iter().take_while(|byte| good(byte)).count();
        if length == 0 || rest[0].is_ascii_digit() {
            return None;
        }
        let range = self.at..self.at + length;
        self.at += length;
        Some(range)
    }

    fn matcher(&mut self) -> Result<(String, Range<usize>), String> {
        let Some(label) = self.word(|_| false) else {
            return Err(self.wrong("the name of a label is wanted"));
        };
        self.blanks();
        let Some(operator) = ["=~", "!~", "!=", "="]
            .iter()
            .find(|known| self.rest().starts_with(**known))
        else {
            return Err(self.wrong("=, !=, =~ or !~ is wanted"));
        };
        self.at += operator.len();
        self.blanks();
        let start = self.at;
        let Some(quote) = self
            .rest()
            .bytes()
            .next()
            .filter(|byte| matches!(byte, b'"' | b'\'' | b'`'))
        else {
            return Err(self.wrong("a text in quotes is wanted"));
        };
        self.at += 1;
        let mut escaped = false;
        for (offset, byte) in self.rest().bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quote != b'`' => escaped = true,
                byte if byte == quote => {
                    self.at += offset + 1;
                    return Ok((self.text[label].to_owned(), start..self.at));
                }
                _ => {}
            }
        }
        self.at = start;
        Err(self.wrong("quotes are not closed"))
    }
}

/// Whether brackets and quotes of an expression are closed; the rest is for Prometheus to judge.
fn balanced(text: &str) -> Result<(), String> {
    let mut open = Vec::new();
    let mut quote = None;
    let mut escaped = false;
    for letter in text.chars() {
        if let Some(wanted) = quote {
            match letter {
                _ if escaped => escaped = false,
                '\\' if wanted != '`' => escaped = true,
                letter if letter == wanted => quote = None,
                _ => {}
            }
            continue;
        }
        match letter {
            '"' | '\'' | '`' => quote = Some(letter),
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(letter) => {
                return Err(format!("`{letter}` closes nothing"));
            }
            _ => {}
        }
    }
    match (quote, open.pop()) {
        (Some(quote), _) => Err(format!("`{quote}` is not closed")),
        (None, Some(wanted)) => Err(format!("`{wanted}` is missing at its end")),
        (None, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::Span;

    const FIVE: Span = Span::minutes(5);

    #[test]
    fn a_selector_gets_its_rate() {
        for text in [
            "up",
            "job:x:rate5m",
            "http_requests_total{job=\"api\",status=~\"5..\"}",
            "x { a = 'b' , c != `d}` , }",
            "{__name__=\"up\"}",
            "x{a=\"q\\\"}\"}",
        ] {
            let query = Query::parse(text).unwrap();
            assert_eq!(query.rate(&FIVE), format!("sum(rate({text}[5m]))"));
        }
    }

    #[test]
    fn an_expression_gets_its_window() {
        for mark in WINDOWS {
            let query = Query::parse(&format!("sum(rate(x[{mark}])) - 1")).unwrap();
            assert_eq!(query.rate(&FIVE), "(sum(rate(x[5m])) - 1)");
        }
    }

    #[test]
    fn what_is_neither_is_refused_with_the_place() {
        for (text, expected) in [
            ("", "is no selector"),
            ("{}", "selects everything"),
            ("x[5m]", "window of its own"),
            ("sum(rate(x[5m]))", "an expression has the window in it"),
            ("x{a=b}", "a text in quotes is wanted before \"b}\""),
            ("x{a\"b\"}", "=, !=, =~ or !~ is wanted"),
            ("x{a=\"b}", "quotes are not closed"),
            ("x{a=\"b\" c=\"d\"}", "`,` or `}` is wanted"),
            ("x{\"a\"=\"b\"}", "the name of a label is wanted"),
            ("x{a=\"b\"", "`,` or `}` is wanted at its end"),
            ("sum(rate(x[$window])", "`)` is missing"),
            ("sum(rate(x[$window]}", "`}` closes nothing"),
            ("x{a=\"$window}", "`\"` is not closed"),
        ] {
            let told = Query::parse(text).unwrap_err();
            assert!(told.contains(expected), "{text}: {told}");
        }
    }

    #[test]
    fn labels_and_metrics_can_be_set() {
        let mut selector = Selector::parse("x{job=\"a\",b=~'c', job!=\"d\"}").unwrap();
        assert!(selector.set("job", "new \"one\""));
        assert_eq!(
            selector.text(),
            "x{job=\"new \\\"one\\\"\",b=~'c', job!=\"new \\\"one\\\"\"}"
        );
        assert!(selector.set("b", "z") && selector.set("x", "y") && !selector.set("x", "w"));
        assert_eq!(
            selector.text(),
            "y{job=\"new \\\"one\\\"\",b=~\"z\", job!=\"new \\\"one\\\"\"}"
        );
    }
}
