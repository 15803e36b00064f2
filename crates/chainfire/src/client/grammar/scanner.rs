//! Walks over one line: blanks, words, and quoted strings with Go's escapes.

/// A mistake at a column of the line.
pub(super) type Mistake = (usize, String);

/// A position in a line.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0 }
    }

    pub(super) fn at_end(&self) -> bool {
        self.at == self.line.len()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    /// Column of the position, from 1, in characters.
    pub(super) fn column(&self) -> usize {
        let continuation = |byte: &&u8| (**byte & 0xc0) == 0x80;
        1 + self.at - self.line[..self.at].iter().filter(continuation).count()
    }

    pub(super) fn mistake(&self, message: impl Into<String>) -> Mistake {
        (self.column(), message.into())
    }

    pub(super) fn skip_blanks(&mut self) {
        self.take_while(|byte| byte.is_ascii_whitespace());
    }

    /// Takes the bytes that satisfy `wanted`, perhaps none.
    pub(super) fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.line[self.at..];
        let length = rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Takes this byte if it is next.
    pub(super) fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Takes a string between `"` with escapes, or between `` ` `` without. The position is at the opening quote.
    pub(super) fn quoted(&mut self) -> Result<Vec<u8>, Mistake> {
        let opening = self.clone();
        match self.next() {
            Some(b'"') => {}
            Some(b'`') => return self.raw(b'`', &opening),
            _ => return Err(opening.mistake(r#"want a string in double quotes, such as "name""#)),
        }
        let mut bytes = Vec::new();
        loop {
            let before = self.clone();
            match self.next() {
                None => return Err(unterminated(&opening, '"')),
                Some(b'"') => return Ok(bytes),
                Some(b'\\') => self.escape(&before, &mut bytes)?,
                Some(byte) => bytes.push(byte),
            }
        }
    }

    /// Takes everything up to `closing`. The position is after the opening quote.
    pub(super) fn raw(&mut self, closing: u8, opening: &Scanner<'a>) -> Result<Vec<u8>, Mistake> {
        let bytes = self.take_while(|byte| byte != closing).to_vec();
        if self.take(closing) {
            Ok(bytes)
        } else {
            Err(unterminated(opening, closing as char))
        }
    }

    /// An escape sequence of Go's string literals; the backslash is taken.
    fn escape(&mut self, before: &Scanner<'a>, bytes: &mut Vec<u8>) -> Result<(), Mistake> {
        let Some(kind) = self.next() else {
            return Err(before.mistake("the line ends after a backslash"));
        };
        let plain = match kind {
            b'a' => 0x07,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'\\' | b'"' => kind,
            b'x' => self.number(2, 16, before)? as u8,
            b'u' => return self.character(4, before, bytes),
            b'U' => return self.character(8, before, bytes),
            b'0'..=b'7' => {
                self.at -= 1;
                let value = self.number(3, 8, before)?;
                u8::try_from(value).map_err(|_| before.mistake("an octal escape is at most \\377"))?
            }
            _ => {
                return Err(before.mistake(
                    r#"unknown escape: want \\, \", \n, \t, \r, \a, \b, \f, \v, \xHH, \OOO, \uHHHH or \UHHHHHHHH"#,
                ));
            }
        };
        bytes.push(plain);
        Ok(())
    }

    fn character(&mut self, digits: usize, before: &Scanner<'a>, bytes: &mut Vec<u8>) -> Result<(), Mistake> {
        let value = self.number(digits, 16, before)?;
        let character =
            char::from_u32(value).ok_or_else(|| before.mistake("this escape names no Unicode character"))?;
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    /// Takes exactly so many digits.
    fn number(&mut self, digits: usize, base: u32, before: &Scanner<'a>) -> Result<u32, Mistake> {
        let mut value = 0_u32;
        for _ in 0..digits {
            let digit = self.next().and_then(|byte| char::from(byte).to_digit(base));
            let Some(digit) = digit else {
                let kind = if base == 8 { "octal" } else { "hexadecimal" };
                return Err(before.mistake(format!("want {digits} {kind} digits in this escape")));
            };
            // Eight hexadecimal digits fit 32 bits.
            value = value.wrapping_mul(base).wrapping_add(digit);
        }
        Ok(value)
    }
}

fn unterminated(opening: &Scanner<'_>, quote: char) -> Mistake {
    opening.mistake(format!("the string has no closing {quote} on this line"))
}
