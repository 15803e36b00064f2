//! The texts of `cluster.yaml` that were written here, kept in `raft/`.
//!
//! Two questions are asked about them. Whether a text that is found in the file was written here: that is [`Written`], which a crash must not
//! lose, since a text that nobody knows is an edit. And what the author of an edit had seen: that is [`Seen`], by the `version:` that stands in
//! the edited text, since an editor may have been open while others went on. It is not synced: what is lost of it makes an edit of
//! an old text unanswerable, which is told, and nothing worse.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::document::{Digest, parse};
use crate::home::{Home, HomeError, write};

/// Texts that are kept for [`Seen`]; who has an editor open for longer starts from the present text.
const TEXTS_MAX: usize = 32;
/// And bytes of them: ten thousand checks take four megabytes.
const BYTES_MAX: usize = 12 << 20;

/// The texts written last, the newest last. A crash may leave either in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Written {
    texts: Vec<String>,
}

impl Written {
    fn path(raft: &Path) -> PathBuf {
        raft.join("written")
    }

    /// What `raft/written` says; nothing if it is not there.
    pub fn load(raft: &Path) -> Written {
        fs::read(Written::path(raft))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Whether this text was written here.
    pub fn is(&self, text: &str) -> bool {
        self.texts.iter().any(|known| known == text)
    }

    /// What was written last.
    pub fn newest(&self) -> Option<&String> {
        self.texts.last()
    }

    /// The text of the file that is one of these although nobody would read so long a file: an older program had no limit.
    pub fn standing(&self, home: &Home) -> Option<&String> {
        let mut long = self.texts.iter().filter(|text| text.len() > parse::BYTES_MAX);
        long.find(|text| home.cluster_says(text))
    }

    /// A text counts as written here from now on.
    ///
    /// # Errors
    /// The disk.
    pub fn note(raft: &Path, text: String) -> Result<(), HomeError> {
        Written::load(raft).push(text, raft)
    }

    /// The same for texts that are known already.
    ///
    /// # Errors
    /// The disk.
    pub fn push(&mut self, text: String, raft: &Path) -> Result<(), HomeError> {
        self.texts.retain(|known| *known != text);
        self.texts.push(text);
        if self.texts.len() > 2 {
            self.texts.remove(0);
        }
        let content = serde_json::to_vec(self).expect("two texts");
        write(&Written::path(raft), &content)
    }
}

/// The version that a text says it has; nothing if it says none.
pub fn version_of(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix("version:"))?;
    value.split('#').next()?.trim().parse().ok()
}

/// What people may have in front of them: the configurations that this node wrote to the file lately.
#[derive(Debug)]
pub struct Seen {
    dir: PathBuf,
    /// In the order in which they were written.
    texts: VecDeque<(u64, String)>,
    /// The number of the file that comes next.
    next: u64,
}

impl Seen {
    fn path(raft: &Path) -> PathBuf {
        raft.join("seen")
    }

    /// What `raft/seen/` holds. Files that are not whole do not count.
    pub fn load(raft: &Path) -> Seen {
        let dir = Seen::path(raft);
        let mut numbers: Vec<u64> = fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|file| file.file_name().to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        let read = |number: &u64| {
            let content = fs::read_to_string(dir.join(number.to_string())).ok()?;
            let (digest, text) = content.split_once('\n')?;
            let whole = Digest::of_text(text).to_string() == digest;
            Some((version_of(text)?, text.to_owned())).filter(|_| whole)
        };
        Seen {
            texts: numbers.iter().filter_map(read).collect(),
            next: numbers.last().map_or(0, |last| last + 1),
            dir,
        }
    }

    /// The text that was written here for a version.
    pub fn of(&self, version: u64) -> Option<&str> {
        let known = self.texts.iter().rev().find(|(known, _)| *known == version);
        known.map(|(_, text)| text.as_str())
    }

    /// The newest text.
    pub fn newest(&self) -> Option<&str> {
        self.texts.back().map(|(_, text)| text.as_str())
    }

    /// A text is about to be written to the file.
    pub fn push(&mut self, text: &str) {
        let Some(version) = version_of(text) else { return };
        if self.newest() == Some(text) {
            return;
        }
        let content = format!("{}\n{text}", Digest::of_text(text));
        let path = self.dir.join(self.next.to_string());
        // A text that cannot be kept is one that nobody will be able to refer to after the next start; the node can go on.
        drop(self.keep(&path, content.as_bytes()));
        self.next += 1;
        self.texts.push_back((version, text.to_owned()));
        let mut bytes: usize = self.texts.iter().map(|(_, text)| text.len()).sum();
        while self.texts.len() > TEXTS_MAX || (bytes > BYTES_MAX && self.texts.len() > 2) {
            bytes -= self.texts.pop_front().map_or(0, |(_, text)| text.len());
        }
        self.remove_old();
    }

    /// For nobody else's eyes: configurations hold the secrets of alerts.
    fn keep(&self, path: &Path, content: &[u8]) -> std::io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        file.open(path)?.write_all(content)
    }

    fn remove_old(&self) {
        let first = self.next.saturating_sub(self.texts.len() as u64);
        let Ok(listing) = fs::read_dir(&self.dir) else {
            return;
        };
        for file in listing.flatten() {
            let number = file
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u64>().ok());
            if number.is_some_and(|number| number < first) {
                // What stays is removed the next time.
                drop(fs::remove_file(file.path()));
            }
        }
    }
}

/// What is known about texts goes along when a folder takes the place of another one whose file it continues.
pub fn carry_over(from: &Path, to: &Path) {
    for path in [Written::path, Seen::path] {
        // Without them an edit is compared with what the run began with.
        drop(fs::rename(path(from), path(to)));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn text(version: u64) -> String {
        format!("version: {version}\n# text {version}\n")
    }

    #[test]
    fn the_last_texts_survive_a_start_and_older_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = Seen::load(dir.path());
        assert_eq!(seen.newest(), None);
        let versions = TEXTS_MAX as u64 + 9;
        for version in 1..=versions {
            seen.push(&text(version));
            seen.push(&text(version));
        }
        let files = fs::read_dir(dir.path().join("seen")).unwrap().count();
        assert_eq!(files, TEXTS_MAX);
        for (path, mode) in [
            ("seen".to_owned(), 0o700),
            (format!("seen/{}", versions - 1), 0o600),
        ] {
            let known = fs::metadata(dir.path().join(path)).unwrap();
            assert_eq!(
                known.permissions().mode() & 0o777,
                mode,
                "secrets of alerts are in there"
            );
        }
        // One that a crash left half written is as good as none.
        let torn = dir.path().join(format!("seen/{}", versions - 2));
        fs::write(&torn, &fs::read(&torn).unwrap()[..70]).unwrap();
        let seen = Seen::load(dir.path());
        assert_eq!(seen.of(9), None);
        assert_eq!(seen.of(10), Some(text(10).as_str()));
        assert_eq!(seen.of(versions - 1), None);
        assert_eq!(seen.newest(), Some(text(versions).as_str()));
    }

    #[test]
    fn the_version_stands_in_its_own_line() {
        assert_eq!(version_of("# x\nversion: 12 # by hand\n"), Some(12));
        assert_eq!(version_of("  version: 12\n"), None);
        assert_eq!(version_of("version: many\n"), None);
    }
}
