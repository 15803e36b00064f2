//! Cuts a template into tokens.
//!
//! Spaces inside of an action are tokens, because `.A .B` and `.A.B` differ. The rules for `{{- ` and ` -}}`: the dash must have
//! white space on its inner side, and all white space on its outer side goes.

mod token;

pub(crate) use token::{Keyword, Kind, Token};

/// Why the tokens end before the source does.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) pos: usize,
    pub(crate) message: String,
}

/// The tokens up to the end, or up to the first problem.
pub(crate) fn tokens(source: &str) -> (Vec<Token<'_>>, Option<Problem>) {
    let mut lexer = Lexer {
        source,
        pos: 0,
        start: 0,
        tokens: Vec::new(),
    };
    let problem = lexer.run().err();
    lexer.start = lexer.pos;
    if problem.is_none() {
        lexer.emit(Kind::Eof);
    }
    (lexer.tokens, problem)
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];
/// The dash and the space beside it.
const TRIM_MARKER_BYTES: usize = 2;

struct Lexer<'a> {
    source: &'a str,
    pos: usize,
    /// Where the token begins that is being read.
    start: usize,
    tokens: Vec<Token<'a>>,
}

impl<'a> Lexer<'a> {
    fn run(&mut self) -> Result<(), Problem> {
        while let Some(distance) = self.rest().find(LEFT) {
            self.pos += distance;
            let after = &self.rest()[LEFT.len()..];
            let trims = after.starts_with('-') && after[1..].starts_with(SPACES);
            let mut text = &self.source[self.start..self.pos];
            if trims {
                text = text.trim_end_matches(SPACES);
            }
            if !text.is_empty() {
                self.tokens.push(Token {
                    kind: Kind::Text,
                    pos: self.start,
                    text,
                });
            }
            self.start = self.pos;
            self.pos += LEFT.len();
            let after_marker = if trims { TRIM_MARKER_BYTES } else { 0 };
            if self.rest()[after_marker..].starts_with("/*") {
                self.pos += after_marker;
                self.comment()?;
            } else {
                self.emit(Kind::LeftDelim);
                self.pos += after_marker;
                self.start = self.pos;
                self.action()?;
            }
        }
        self.pos = self.source.len();
        if self.pos > self.start {
            self.emit(Kind::Text);
        }
        Ok(())
    }

    fn rest(&self) -> &'a str {
        &self.source[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn emit(&mut self, kind: Kind) {
        let text = &self.source[self.start..self.pos];
        self.tokens.push(Token {
            kind,
            pos: self.start,
            text,
        });
        self.start = self.pos;
    }

    /// A problem with the token that is being read.
    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            pos: self.start,
            message: message.into(),
        }
    }

    /// Whether an action ends here, and if so, whether it trims what follows.
    fn right_delim(&self) -> Option<bool> {
        if self.rest().starts_with(RIGHT) {
            return Some(false);
        }
        let trimmed = self.rest().strip_prefix(SPACES)?.strip_prefix('-')?;
        trimmed.starts_with(RIGHT).then_some(true)
    }

    /// Passes the end of an action or comment and the spaces it trims.
    fn pass_right_delim(&mut self, trims: bool, emit: bool) {
        if trims {
            self.pos += TRIM_MARKER_BYTES;
        }
        self.start = self.pos;
        self.pos += RIGHT.len();
        if emit {
            self.emit(Kind::RightDelim);
        }
        if trims {
            self.pos = self.source.len() - self.rest().trim_start_matches(SPACES).len();
        }
        self.start = self.pos;
    }

    /// A comment, whose `/*` is next.
    fn comment(&mut self) -> Result<(), Problem> {
        let Some(length) = self.rest()[2..].find("*/") else {
            return Err(self.problem("this comment has no end: \"*/}}\" is missing"));
        };
        self.pos += 2 + length + 2;
        let Some(trims) = self.right_delim() else {
            self.start = self.pos;
            return Err(self.problem("after the \"*/\" of a comment comes \"}}\" or \" -}}\""));
        };
        self.pass_right_delim(trims, false);
        Ok(())
    }

    /// The tokens of an action up to and with its end.
    fn action(&mut self) -> Result<(), Problem> {
        let opening = self.tokens.last().map_or(0, |token| token.pos);
        let mut open_parens: Vec<usize> = Vec::new();
        loop {
            if let Some(trims) = self.right_delim() {
                if let Some(pos) = open_parens.last() {
                    return Err(Problem {
                        pos: *pos,
                        message: "unclosed left paren: \")\" is missing".to_owned(),
                    });
                }
                self.pass_right_delim(trims, true);
                return Ok(());
            }
            let Some(c) = self.next() else {
                return Err(Problem {
                    pos: opening,
                    message: "unclosed action: \"}}\" is missing".to_owned(),
                });
            };
            match c {
                _ if SPACES.contains(&c) => self.spaces(),
                '=' => self.emit(Kind::Assign),
                ':' => {
                    if self.next() != Some('=') {
                        return Err(self.problem("expected :="));
                    }
                    self.emit(Kind::Declare);
                }
                '|' => self.emit(Kind::Pipe),
                ',' => self.emit(Kind::Comma),
                '"' => self.quoted('"', "unterminated quoted string", Kind::String)?,
                '\'' => self.quoted('\'', "unterminated character constant", Kind::CharConstant)?,
                '`' => {
                    let Some(length) = self.rest().find('`') else {
                        return Err(self.problem("unterminated raw quoted string"));
                    };
                    self.pos += length + 1;
                    self.emit(Kind::RawString);
                }
                '$' => self.name(Kind::Variable)?,
                '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                    if self.at_terminator() {
                        self.emit(Kind::Dot);
                    } else {
                        self.name(Kind::Field)?;
                    }
                }
                '.' | '+' | '-' | '0'..='9' => self.number()?,
                _ if is_alphanumeric(c) => self.identifier()?,
                '(' => {
                    open_parens.push(self.start);
                    self.emit(Kind::LeftParen);
                }
                ')' => {
                    if open_parens.pop().is_none() {
                        return Err(self.problem("unexpected right paren: no \"(\" is open"));
                    }
                    self.emit(Kind::RightParen);
                }
                _ if c.is_ascii_graphic() => self.emit(Kind::Char),
                _ => {
                    return Err(self.problem(format!("unrecognized character in action: {}", name_of(c))));
                }
            }
        }
    }

    /// The rest of a run of spaces; the last one belongs to ` -}}` if that is what follows.
    fn spaces(&mut self) {
        while let Some(c) = self.peek()
            && SPACES.contains(&c)
        {
            self.pos += 1;
        }
        if self
            .rest()
            .strip_prefix('-')
            .is_some_and(|rest| rest.starts_with(RIGHT))
        {
            self.pos -= 1;
        }
        if self.pos > self.start {
            self.emit(Kind::Space);
        }
    }

    /// A string or character constant whose opening quote is past.
    fn quoted(&mut self, quote: char, unterminated: &str, kind: Kind) -> Result<(), Problem> {
        loop {
            let mut c = self.next();
            let escaped = c == Some('\\');
            if escaped {
                c = self.next();
            }
            match c {
                None | Some('\n') => {
                    return Err(self.problem(format!(
                        "{unterminated}: the closing {quote} must be on the same line"
                    )));
                }
                Some(c) if c == quote && !escaped => break,
                Some(_) => {}
            }
        }
        self.emit(kind);
        Ok(())
    }

    /// The letters after a `.` or `$`.
    fn name(&mut self, kind: Kind) -> Result<(), Problem> {
        self.pass_alphanumeric();
        self.expect_terminator()?;
        self.emit(kind);
        Ok(())
    }

    fn identifier(&mut self) -> Result<(), Problem> {
        self.pass_alphanumeric();
        self.expect_terminator()?;
        let word = &self.source[self.start..self.pos];
        let kind = match Keyword::named(word) {
            Some(keyword) => Kind::Keyword(keyword),
            None if matches!(word, "true" | "false") => Kind::Bool,
            None => Kind::Identifier,
        };
        self.emit(kind);
        Ok(())
    }

    fn pass_alphanumeric(&mut self) {
        while self.peek().is_some_and(is_alphanumeric) {
            self.next();
        }
    }

    fn at_terminator(&self) -> bool {
        self.rest().starts_with(RIGHT)
            || self
                .peek()
                .is_none_or(|c| SPACES.contains(&c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '('))
    }

    fn expect_terminator(&mut self) -> Result<(), Problem> {
        if self.at_terminator() {
            return Ok(());
        }
        self.start = self.pos;
        let c = self.peek().map_or_else(String::new, name_of);
        Err(self.problem(format!("bad character {c}: a name has letters, digits and \"_\"")))
    }

    /// A number; what it is worth, and whether it is one, is for [`crate::literal`].
    fn number(&mut self) -> Result<(), Problem> {
        self.pos = self.start;
        let good = self.scan_number();
        if good && matches!(self.peek(), Some('+' | '-')) {
            return Err(self.problem("bad number: there is no arithmetic here, and no complex number"));
        }
        if !good {
            let text = crate::error::quoted(&self.source[self.start..self.pos], 20);
            return Err(self.problem(format!("bad number syntax: {text}")));
        }
        self.emit(Kind::Number);
        Ok(())
    }

    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        let mut exponent = "eE";
        if self.accept("0") {
            if self.accept("xX") {
                (digits, exponent) = ("0123456789abcdefABCDEF_", "pP");
            } else if self.accept("oO") {
                (digits, exponent) = ("01234567_", "");
            } else if self.accept("bB") {
                (digits, exponent) = ("01_", "");
            }
        }
        while self.accept(digits) {}
        if self.accept(".") {
            while self.accept(digits) {}
        }
        if self.accept(exponent) {
            self.accept("+-");
            while self.accept("0123456789_") {}
        }
        self.accept("i");
        if self.peek().is_some_and(is_alphanumeric) {
            self.next();
            return false;
        }
        true
    }

    fn accept(&mut self, valid: &str) -> bool {
        let found = self.peek().is_some_and(|c| valid.contains(c));
        if found {
            self.next();
        }
        found
    }
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// A character for a message: `U+0023 '#'`.
fn name_of(c: char) -> String {
    let shown = if c.is_control() {
        String::new()
    } else {
        format!(" '{c}'")
    };
    format!("U+{:04X}{shown}", u32::from(c))
}
