//! The pictures in `docs/qu-tui.md` are what the program shows: taken by the test of three nodes, compared without what differs from run
//! to run, or written anew with `QU_TUI_BLESS=1`.

use std::path::PathBuf;

use regex::Regex;

use super::terminal::words;

/// The page while it is compared.
pub(crate) struct Page {
    path: PathBuf,
    text: String,
    blesses: bool,
    stale: Vec<String>,
}

impl Page {
    pub(crate) fn open() -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/qu-tui.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let blesses = std::env::var_os("QU_TUI_BLESS").is_some_and(|value| value == "1");
        Self {
            path,
            text,
            blesses,
            stale: Vec::new(),
        }
    }

    /// Looks whether the block behind `<!-- picture: NAME -->` shows this.
    #[track_caller]
    pub(crate) fn compare(&mut self, name: &str, picture: &str) {
        let begin = format!("<!-- picture: {name} -->\n```text\n");
        let (before, rest) = self
            .text
            .split_once(&begin)
            .unwrap_or_else(|| panic!("{} has no picture {name}", self.path.display()));
        let (known, after) = rest.split_once("```\n").unwrap();
        if self.blesses {
            let mut lines: Vec<&str> = picture.trim_end().lines().map(str::trim_end).collect();
            // Nobody needs to see how high the terminal is.
            lines.dedup_by(|one, before| one.is_empty() && before.is_empty());
            self.text = format!("{before}{begin}{}\n```\n{after}", lines.join("\n"));
        } else if masked(known) != masked(picture) {
            self.stale.push(format!(
                "picture {name}\non the page: {}\non the screen: {}",
                masked(known),
                masked(picture)
            ));
        }
    }

    /// Writes the page, or says what is not true any more.
    #[track_caller]
    pub(crate) fn close(self) {
        if self.blesses {
            std::fs::write(&self.path, &self.text).unwrap();
        }
        assert!(
            self.stale.is_empty(),
            "docs/qu-tui.md is out of date; run this test with QU_TUI_BLESS=1:\n{}",
            self.stale.join("\n")
        );
    }
}

/// Addresses, times and numbers that every run has others of are hidden; so is the space that they take.
fn masked(picture: &str) -> String {
    let mut text = words(picture);
    for (pattern, mask) in [
        (r"\b127\.\d+\.\d+\.\d+:\d+\b", "ADDRESS"),
        (r"\b\d+[smhd]\b", "TIME"),
        (r"\bterm \d+", "term N"),
        (r"\bversion \d+", "version N"),
        (r"\b[0-9a-f]{16}\b", "ID"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, mask).into_owned();
    }
    text
}

#[test]
fn pictures_differ_by_what_they_say() {
    let one = "web  up  127.0.0.1:80  3s\nterm 4";
    assert_eq!(masked(one), masked("web up   127.10.20.30:9901 14m\nterm 12"));
    assert_ne!(masked(one), masked("web down 127.0.0.1:80  3s\nterm 4"));
}
