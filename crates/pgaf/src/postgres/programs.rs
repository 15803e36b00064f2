//! Where PostgreSQL's programs are.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::database::Error;

/// Debian's folder, with one for each version in it.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Every program that is used, so that a folder that lacks one is known at once.
const PROGRAMS: [&str; 6] = [
    "initdb",
    "pg_basebackup",
    "pg_controldata",
    "pg_rewind",
    "pg_waldump",
    "postgres",
];

/// The folder of the programs: that of `pg_ctl` if it is named, what `pg_config` says, the first of the path, or Debian's of the newest version.
pub async fn bindir(pgctl: Option<&Path>) -> Result<PathBuf, Error> {
    const WHAT: &str = "find PostgreSQL";
    if let Some(pgctl) = pgctl {
        let folder = pgctl.parent().unwrap_or(Path::new(""));
        return match missing(folder) {
            None => Ok(folder.to_owned()),
            Some(program) => Err(Error::failed(
                WHAT,
                format!("there is no {program} beside {}", pgctl.display()),
            )),
        };
    }
    let mut folders = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output().await {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    folders.extend(debian(Path::new(DEBIAN)));
    let found = folders.into_iter().find(|folder| missing(folder).is_none());
    found.ok_or_else(|| {
        Error::failed(
            WHAT,
            format!(
                "no folder of the path and none below {DEBIAN} has all of its programs; name one by --pgctl"
            ),
        )
    })
}

fn missing(folder: &Path) -> Option<&'static str> {
    PROGRAMS
        .into_iter()
        .find(|program| !folder.join(program).is_file())
}

/// Newest version first.
fn debian(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_lacks_a_program_is_named() {
        let error = bindir(Some(Path::new("/bin/pg_ctl"))).await;
        let text = error.expect_err("not there").to_string();
        assert_eq!(text, "find PostgreSQL: there is no initdb beside /bin/pg_ctl");
    }

    #[test]
    fn versions_are_numbers() {
        let dir = testkit::TestDir::new("versions").expect("a directory");
        for version in ["9", "15", "100", "current"] {
            std::fs::create_dir(dir.join(version)).expect("a folder");
        }
        let found = debian(dir.path());
        assert_eq!(found, ["100/bin", "15/bin", "9/bin"].map(|name| dir.join(name)));
    }
}
