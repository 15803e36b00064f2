//! Files of certificates and keys: read with bounds, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Error;

/// Mode of a certificate, which everybody may see.
pub const PUBLIC: u32 = 0o644;

/// Mode of a private key.
pub const PRIVATE: u32 = 0o600;

/// A file of certificates is a few kilobytes, a bundle of all public authorities a quarter of a megabyte.
const BYTES_MAX: u64 = 4 << 20;

/// Reads a file that cannot be as large as a mistake.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(failed(io::Error::other(
            "larger than 4 MiB, which no file of certificates is",
        )));
    }
    Ok(bytes)
}

/// Whether others than the owner and the group can read it.
pub(crate) fn is_readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o007 != 0)
}

/// Writes files into `dir` as `(name, content, mode)`: all of them are complete on disk before the first takes its place, and a
/// reader of any of them sees the old or the new content. A set that was interrupted leaves the old one as it was.
pub fn write_all(dir: &Path, files: &[(String, String, u32)]) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let mut staged = Staged(Vec::new());
    for (name, content, mode) in files {
        let path = dir.join(name);
        let beside = dir.join(format!(".{name}.new.{}", std::process::id()));
        staged.0.push((beside.clone(), path.clone()));
        stage(&beside, content, *mode).map_err(failed(&path))?;
    }
    while let Some((beside, path)) = staged.0.first() {
        fs::rename(beside, path).map_err(failed(path))?;
        staged.0.remove(0);
    }
    // The new names outlive a power cut.
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed(dir))
}

fn stage(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    // Left by an earlier process of this number that was killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(path)?;
    file.write_all(content.as_bytes())?;
    // The umask does not decide who may read a certificate.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.sync_all()
}

/// Removes what did not take its place.
struct Staged(Vec<(PathBuf, PathBuf)>);

impl Drop for Staged {
    fn drop(&mut self) {
        for (beside, _) in &self.0 {
            // Not there if staging it is what failed.
            let _ = fs::remove_file(beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str, mode| (name.to_owned(), content.to_owned(), mode);
        let set = |content| [file("a.crt", content, PUBLIC), file("a.key", content, PRIVATE)];
        write_all(dir.path(), &set("one")).unwrap();
        // A directory cannot be replaced by a file, so the second set fails half-way, before anything is renamed.
        let broken = [file("a.crt", "two", PUBLIC), file("no/such.key", "two", PRIVATE)];
        let error = write_all(dir.path(), &broken).unwrap_err().to_string();
        assert!(
            error.starts_with("write ") && error.contains("no/such.key"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(dir.path().join("a.crt")).unwrap(), "one");
        write_all(dir.path(), &set("three")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a.key")).unwrap(), "three");
        let mode = |name| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("a.crt"), mode("a.key")), (PUBLIC, PRIVATE));
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            2,
            "nothing else is left"
        );
    }
}
