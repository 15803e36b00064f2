//! The built `mainstay` binary, and whether it is up to date.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;

/// The binary that tests run; see the crate's header.
pub fn mainstay_binary() -> Result<PathBuf> {
    let binary = lab::applets::mainstay_binary()?;
    if let Some(source) = newer_source(&binary) {
        note(&format!(
            "note: {} is older than {}: run `cargo build -p mainstay` to test what you see",
            binary.display(),
            source.display()
        ));
    }
    Ok(binary)
}

/// A source file that was changed after the binary was built, according to the list which cargo leaves beside it.
fn newer_source(binary: &Path) -> Option<PathBuf> {
    let built = modified(binary)?;
    let list = std::fs::read_to_string(binary.with_extension("d")).ok()?;
    let (_, sources) = list.lines().next()?.split_once(": ")?;
    // A blank in a path is written as `\ `; such a path is split wrongly, does not exist, and is passed over.
    sources
        .split(' ')
        .map(PathBuf::from)
        .find(|source| modified(source).is_some_and(|changed| changed > built))
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

#[allow(clippy::print_stderr, reason = "a remark for whoever reads a failed test")]
fn note(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_source_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["old.rs", "new.rs", "program"] {
            std::fs::write(at(name), "").unwrap();
        }
        let touch = |name: &str, seconds: u64| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::options()
                .write(true)
                .open(at(name))
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        let list = format!(
            "{}: {} {}\n",
            at("program").display(),
            at("old.rs").display(),
            at("new.rs").display()
        );
        std::fs::write(at("program.d"), list).unwrap();
        touch("old.rs", 10);
        touch("program", 20);
        touch("new.rs", 15);
        assert_eq!(newer_source(&at("program")), None);
        touch("new.rs", 30);
        assert_eq!(newer_source(&at("program")), Some(at("new.rs")));
    }
}
