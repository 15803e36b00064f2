//! Colour, where a person sees it: when the stream is a terminal, `NO_COLOR` is unset or empty (no-color.org) and `TERM` is
//! not `dumb`. Otherwise texts come back as they are.

use std::io::IsTerminal;

/// Where the text will be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// All is well. Green.
    Good,
    /// Worth a look. Yellow.
    Warning,
    /// A person must act. Red.
    Bad,
    /// A heading.
    Bold,
    /// Of little interest.
    Dim,
}

/// Whether colours may be used on a stream.
pub fn enabled(stream: Stream) -> bool {
    let terminal = match stream {
        Stream::Stdout => std::io::stdout().is_terminal(),
        Stream::Stderr => std::io::stderr().is_terminal(),
    };
    let variable = |name: &str| std::env::var_os(name);
    let no_color = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    terminal && !no_color && variable("TERM").is_none_or(|term| term != "dumb")
}

/// `text` in a style, if `stream` may have colours.
pub fn paint(stream: Stream, style: Style, text: &str) -> String {
    if enabled(stream) {
        coloured(style, text)
    } else {
        text.to_owned()
    }
}

fn coloured(style: Style, text: &str) -> String {
    let code = match style {
        Style::Good => 32,
        Style::Warning => 33,
        Style::Bad => 31,
        Style::Bold => 1,
        Style::Dim => 2,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_ansi_and_end() {
        assert_eq!(coloured(Style::Bad, "down"), "\u{1b}[31mdown\u{1b}[0m");
    }

    #[test]
    fn pipes_stay_plain() {
        for stream in [Stream::Stdout, Stream::Stderr] {
            // A person may run the tests at a terminal; then there is colour.
            let painted = paint(stream, Style::Good, "up");
            assert_eq!(painted == "up", !enabled(stream));
        }
    }
}
