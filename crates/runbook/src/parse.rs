//! Markdown text to [`Page`], with every mistake and its place.
//!
//! pulldown-cmark says where code blocks, headings and tables are; this module gives them meaning. A fence is a step when
//! its language is `sh` and a `step=` follows; other fences are prose, except that attributes of ours on them are
//! mistakes rather than silence: a step that is never run would be worse than an error. Parsing does no IO and always
//! ends with a page; whether the page may run is [`Parsed::has_errors`].

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use crate::attribute::{self, Word, is_variable, words};
use crate::model::{Fallback, Page, Parameter, Place, Section, Step};
use crate::output::Pattern;
use crate::problem::{Problem, Severity, excerpt};

/// Largest page: far above any page a person would read.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// Most steps in a page.
pub const STEPS_MAX: usize = 500;

/// Most sections in a page.
pub const SECTIONS_MAX: usize = 200;

/// Most parameters of a page.
pub const PARAMETERS_MAX: usize = 100;

/// Problems reported per page; a binary file would otherwise yield one per line.
pub const PROBLEMS_MAX: usize = 100;

/// Names that the runner sets itself, or that change how the shell and the loader work.
const RESERVED: [&str; 14] = [
    "PATH",
    "HOME",
    "SHELL",
    "USER",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "LC_ALL",
    "COLUMNS",
    "PWD",
    "LANG",
];

/// Starts of names that are reserved as a whole.
const RESERVED_STARTS: [&str; 3] = ["HOST_", "LD_", "BASH_"];

/// A page and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// What could be read.
    pub page: Page,
    /// In the order of the page, at most [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
}

impl Parsed {
    /// Whether the page must not be run.
    pub fn has_errors(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }
}

/// Parses a page. `name` is the runbook's name, `label` how messages name the file.
pub fn parse(name: &str, label: &str, bytes: &[u8]) -> Parsed {
    let page = Page {
        name: name.to_owned(),
        label: label.to_owned(),
        ..Page::default()
    };
    if bytes.len() > PAGE_BYTES_MAX {
        let message = format!(
            "page has {} bytes; at most {PAGE_BYTES_MAX} are read, split it",
            bytes.len()
        );
        return refused(page, 1, 1, message);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let (line, column) = Places::new(&valid).find(valid.len());
            return refused(
                page,
                line,
                column,
                "page is not UTF-8 text here; save it as UTF-8".to_owned(),
            );
        }
    };
    if let Some(offset) = text.find('\0') {
        let (line, column) = Places::new(text).find(offset);
        return refused(
            page,
            line,
            column,
            "page holds a NUL character here; remove it".to_owned(),
        );
    }
    let mut reader = Reader {
        text,
        places: Places::new(text),
        page: Page {
            text: text.to_owned(),
            ..page
        },
        problems: Vec::new(),
        waiting: None,
    };
    reader.read();
    reader.settle();
    reader
        .problems
        .sort_by_key(|problem| (problem.line, problem.column));
    reader.problems.truncate(PROBLEMS_MAX);
    Parsed {
        page: reader.page,
        problems: reader.problems,
    }
}

fn refused(page: Page, line: usize, column: usize, message: String) -> Parsed {
    let problem = Problem {
        file: page.label.clone(),
        line,
        column,
        severity: Severity::Error,
        message,
    };
    Parsed {
        page,
        problems: vec![problem],
    }
}

/// Byte offsets to lines and columns.
struct Places<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    /// Line and column, both from 1; the column counts characters.
    fn find(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

struct Reader<'a> {
    text: &'a str,
    places: Places<'a>,
    page: Page,
    problems: Vec<Problem>,
    /// Index of the step that an output fence may now follow, with nothing but prose since.
    waiting: Option<usize>,
}

/// A block being read.
enum Open {
    Nothing,
    Heading(HeadingLevel, String),
    Code {
        at: Range<usize>,
        info: Option<usize>,
        body: String,
        body_at: Option<usize>,
    },
    Row {
        at: usize,
        cells: Vec<String>,
    },
}

impl Reader<'_> {
    fn read(&mut self) {
        let mut open = Open::Nothing;
        let parser = Parser::new_ext(self.text, Options::ENABLE_TABLES);
        for (event, range) in parser.into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { level, .. }) => open = Open::Heading(level, String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    if let Open::Heading(level, title) = std::mem::replace(&mut open, Open::Nothing) {
                        self.heading(level, title, range.start);
                    }
                }
                Event::Start(Tag::CodeBlock(kind)) => {
                    let info = matches!(kind, CodeBlockKind::Fenced(_)).then_some(range.start);
                    open = Open::Code {
                        at: range,
                        info,
                        body: String::new(),
                        body_at: None,
                    };
                }
                Event::End(TagEnd::CodeBlock) => {
                    if let Open::Code {
                        at,
                        info: Some(_),
                        body,
                        body_at,
                    } = std::mem::replace(&mut open, Open::Nothing)
                    {
                        self.fence(at, body, body_at);
                    }
                }
                Event::Start(Tag::TableRow) => {
                    open = Open::Row {
                        at: range.start,
                        cells: Vec::new(),
                    }
                }
                Event::End(TagEnd::TableRow) => {
                    if let Open::Row { at, cells } = std::mem::replace(&mut open, Open::Nothing) {
                        self.row(at, &cells);
                    }
                }
                Event::Start(Tag::TableCell) => {
                    if let Open::Row { cells, .. } = &mut open {
                        cells.push(String::new());
                    }
                }
                Event::Start(Tag::Paragraph) if self.page.sections.is_empty() => {
                    self.alerts(range);
                }
                Event::Text(text) | Event::Code(text) => match &mut open {
                    Open::Heading(_, title) => title.push_str(&text),
                    Open::Code { body, body_at, .. } => {
                        body_at.get_or_insert(range.start);
                        body.push_str(&text);
                    }
                    Open::Row { cells, .. } => {
                        if let Some(cell) = cells.last_mut() {
                            cell.push_str(&text);
                        }
                    }
                    Open::Nothing => {}
                },
                _ => {}
            }
        }
    }

    fn heading(&mut self, level: HeadingLevel, title: String, at: usize) {
        self.waiting = None;
        let title = title.trim().to_owned();
        let (line, _) = self.places.find(at);
        match level {
            HeadingLevel::H1 if self.page.title.is_empty() => self.page.title = title,
            HeadingLevel::H1 => self.error(
                at,
                "second `# Title`; a page has one, use `##` for a section".to_owned(),
            ),
            HeadingLevel::H2 if self.page.sections.len() == SECTIONS_MAX => {
                self.error(
                    at,
                    format!("page has more than {SECTIONS_MAX} sections; split it"),
                );
            }
            HeadingLevel::H2 => {
                if self
                    .page
                    .sections
                    .iter()
                    .any(|section| section.title.eq_ignore_ascii_case(&title))
                {
                    self.error(
                        at,
                        format!("second section `{}`; give it another title", excerpt(&title)),
                    );
                }
                self.page.sections.push(Section { title, line });
            }
            _ => {}
        }
    }

    /// Looks for `alert:` lines in a paragraph before the first section.
    fn alerts(&mut self, range: Range<usize>) {
        let mut at = range.start;
        let paragraph = &self.text[range];
        for line in paragraph.split_inclusive('\n') {
            if let Some(names) = line.strip_prefix("alert:") {
                self.alert_line(at, names);
            }
            at += line.len();
        }
    }

    fn alert_line(&mut self, at: usize, names: &str) {
        for name in names.split(',').map(str::trim) {
            let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if name == "none" {
                self.page.has_alert_line = true;
            } else if good {
                self.page.has_alert_line = true;
                self.page.alerts.push(name.to_owned());
            } else {
                let message = format!(
                    "bad alert name `{}`; write names as Prometheus has them, separated by commas, or `none`",
                    excerpt(name)
                );
                self.error(at, message);
            }
        }
    }

    fn fence(&mut self, at: Range<usize>, body: String, body_at: Option<usize>) {
        let block = &self.text[at.clone()];
        let (opening, _) = block.split_once('\n').unwrap_or((block, ""));
        let indent = opening.len() - opening.trim_start().len();
        let mark = opening[indent..].chars().next().unwrap_or('`');
        let length = opening[indent..].chars().take_while(|c| *c == mark).count();
        if !is_closed(block, mark, length) {
            let fence: String = std::iter::repeat_n(mark, length.min(20)).collect();
            self.error(
                at.start,
                format!("fence is never closed; end it with a line of {fence}"),
            );
            return;
        }
        let info_at = at.start + indent + length * mark.len_utf8();
        let info = words(&self.text[info_at..at.start + opening.len()]);
        let Some((language, attributes)) = info.split_first() else {
            self.waiting = None;
            return;
        };
        if language.text == "output" {
            self.output(at.start, info_at, attributes, &body, body_at);
            return;
        }
        self.waiting = None;
        let ours = attributes
            .iter()
            .find(|word| attribute::KNOWN.contains(&attribute::key(word)));
        match language.text {
            "sh" if !attributes.is_empty() => self.step(at.start, info_at, attributes, body),
            other => {
                // Only `step=` decides: foreign fences may carry words of other tools, such as `title=`.
                if let Some(word) = ours.filter(|word| word.text.starts_with("step=")) {
                    let message = format!("steps are written in `sh`, not `{}`", excerpt(other));
                    self.error(info_at + word.offset, message);
                }
            }
        }
    }

    fn step(&mut self, at: usize, info_at: usize, words: &[Word<'_>], command: String) {
        let (attributes, mistakes) = attribute::read(words);
        let whole = mistakes.is_empty();
        for (offset, message) in mistakes {
            self.error(info_at + offset, message);
        }
        let Some(name) = attributes.step else {
            if whole {
                let first = info_at + words[0].offset;
                self.error(
                    first,
                    "attributes without `step=NAME`; name the step, or drop them".to_owned(),
                );
            }
            return;
        };
        if let Some(other) = self.page.step(&name) {
            let message = format!(
                "step `{name}` exists already at line {}; choose another name",
                other.line
            );
            self.error(at, message);
            return;
        }
        if self.page.steps.len() == STEPS_MAX {
            self.error(at, format!("page has more than {STEPS_MAX} steps; split it"));
            return;
        }
        if command.trim().is_empty() {
            self.error(
                at,
                format!("step `{name}` has no command; write one, or remove the fence"),
            );
        }
        self.waiting = Some(self.page.steps.len());
        self.page.steps.push(Step {
            name,
            line: self.places.find(at).0,
            section: self.page.sections.last().map(|section| section.title.clone()),
            on: attributes.on,
            expect: attributes.expect,
            timeout: attributes.timeout,
            retry: attributes.retry,
            destructive: attributes.destructive,
            when: attributes.when,
            command: command.trim_end().to_owned(),
            output: None,
        });
    }

    fn output(&mut self, at: usize, info_at: usize, words: &[Word<'_>], body: &str, body_at: Option<usize>) {
        if let Some(word) = words.first() {
            let message = format!(
                "`output` takes no attributes, found `{}`; put them on the step",
                excerpt(word.text)
            );
            self.error(info_at + word.offset, message);
        }
        let Some(index) = self.waiting else {
            self.error(
                at,
                "output without a step; put it after the `sh step=...` fence whose output it is".to_owned(),
            );
            return;
        };
        if self.page.steps[index].output.is_some() {
            let message = format!(
                "second output for step `{}`; keep one",
                self.page.steps[index].name
            );
            self.error(at, message);
            return;
        }
        let first_line = self.places.find(body_at.unwrap_or(at)).0;
        self.page.steps[index].output = Some(Pattern::new(body, first_line));
    }

    /// A body row of a table; only the one under `## Parameters` means something.
    fn row(&mut self, at: usize, cells: &[String]) {
        if !self
            .page
            .sections
            .last()
            .is_some_and(|section| section.title.eq_ignore_ascii_case("parameters"))
        {
            return;
        }
        let [name, default, meaning] = cells else {
            self.error(
                at,
                format!(
                    "parameter row has {} cells; write `| NAME | default | meaning |`",
                    cells.len()
                ),
            );
            return;
        };
        let name = name.trim();
        if !is_variable(name) {
            self.error(
                at,
                format!(
                    "bad parameter name `{}`; use capitals, digits and `_`, as in NODE_IP",
                    excerpt(name)
                ),
            );
            return;
        }
        if RESERVED.contains(&name) || RESERVED_STARTS.iter().any(|start| name.starts_with(start)) {
            self.error(
                at,
                format!("parameter `{name}` is reserved for the runner and the shell; choose another name"),
            );
            return;
        }
        if self.page.parameter(name).is_some() {
            self.error(at, format!("parameter `{name}` is declared twice; keep one row"));
            return;
        }
        if self.page.parameters.len() == PARAMETERS_MAX {
            self.error(
                at,
                format!("page has more than {PARAMETERS_MAX} parameters; split it"),
            );
            return;
        }
        let fallback = match default.trim() {
            "" => Fallback::Required,
            "\"\"" => Fallback::Text(String::new()),
            text => match text.strip_prefix('@').map(|host| attribute::name("host", host)) {
                None => Fallback::Text(text.to_owned()),
                Some(Ok(host)) => Fallback::AddressOf(host),
                Some(Err(message)) => {
                    self.error(at, message);
                    return;
                }
            },
        };
        self.page.parameters.push(Parameter {
            name: name.to_owned(),
            fallback,
            meaning: meaning.trim().to_owned(),
            line: self.places.find(at).0,
        });
    }

    /// What can only be said once the whole page is known.
    fn settle(&mut self) {
        if self.page.title.is_empty() {
            self.error(0, "page has no title; start it with `# Title`".to_owned());
        }
        let undeclared: Vec<(usize, String)> = self
            .page
            .steps
            .iter()
            .filter_map(|step| match &step.on {
                Place::Parameter(name) if self.page.parameter(name).is_none() => {
                    Some((step.line, name.clone()))
                }
                _ => None,
            })
            .collect();
        for (line, name) in undeclared {
            let at = self.places.starts[line - 1];
            self.error(
                at,
                format!("`on=${name}` names no parameter; declare {name} in a table under `## Parameters`"),
            );
        }
    }

    fn error(&mut self, at: usize, message: String) {
        let (line, column) = self.places.find(at);
        let file = self.page.label.clone();
        self.problems.push(Problem {
            file,
            line,
            column,
            severity: Severity::Error,
            message,
        });
    }
}

/// Whether the block's last line is a closing fence. CommonMark closes an open fence at the end of the page without a
/// word, which would make the rest of a runbook part of a command.
fn is_closed(block: &str, mark: char, length: usize) -> bool {
    let Some((_, rest)) = block.split_once('\n') else {
        return false;
    };
    let last = rest
        .trim_end_matches(['\n', '\r'])
        .rsplit('\n')
        .next()
        .unwrap_or_default();
    // Inside quotes and lists the raw line still carries their marks.
    let last = last.trim_start_matches([' ', '\t', '>']).trim_end();
    last.chars().count() >= length && last.chars().all(|c| c == mark)
}

#[cfg(test)]
mod tests;
