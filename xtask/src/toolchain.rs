//! `cargo xtask setup`: makes this machine able to build.
//!
//! Installs the build packages, has `scripts/rocksdb-prebuild` make RocksDB's archive (once per machine, some eight minutes), and
//! writes `.cargo/local.toml`, which `.cargo/config.toml` includes when it exists. That file holds everything that is true of one
//! machine only: where the archive lies, and that clang and mold are there. Without it everything still builds, only slower. A
//! second run takes well under a second and touches nothing.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::packages;
use crate::process;
use crate::workspace::Workspace;

/// The command.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    if let Some(extra) = arguments.first() {
        return Ok(crate::wrong_usage(
            "setup",
            &format!("unexpected argument \"{extra}\", it takes none"),
        ));
    }
    ensure(workspace)?;
    eprintln!("ready to build; next: cargo xtask up");
    Ok(ExitCode::SUCCESS)
}

/// Does the set-up; costs next to nothing when it was done before.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    packages::ensure(packages::BUILD)?;
    let archive_dir =
        process::read(Command::new(workspace.path("scripts/rocksdb-prebuild")).current_dir(workspace.root()))
            .context("prepare RocksDB")?;
    let path = workspace.path(".cargo/local.toml");
    if Workspace::write_if_different(&path, &local_settings(&archive_dir)?)? {
        eprintln!("wrote .cargo/local.toml");
    }
    Ok(())
}

/// The text of `.cargo/local.toml`.
///
/// The RocksDB variables are forced, because this program itself runs under cargo and passes its environment on: after an
/// upgrade of RocksDB the old folder must not win. The crate then links libstdc++ itself, so nothing else is needed.
fn local_settings(archive_dir: &str) -> Result<String> {
    if archive_dir.contains(['"', '\\', '\n']) {
        bail!(
            "write .cargo/local.toml: the folder {archive_dir:?} cannot be written as plain TOML; choose another XDG_CACHE_HOME"
        );
    }
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    Ok(format!(
        "# Written by `cargo xtask setup`; true of this machine only, not committed.\n\
         [env]\n\
         ROCKSDB_LIB_DIR = {{ value = \"{archive_dir}\", force = true }}\n\
         ROCKSDB_STATIC = {{ value = \"1\", force = true }}\n\
         CC = \"clang\"\n\
         CXX = \"clang++\"\n\
         \n\
         [target.{triple}]\n\
         linker = \"clang\"\n\
         rustflags = [\"-C\", \"link-arg=-fuse-ld=mold\"]\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::local_settings;

    #[test]
    fn a_folder_that_would_break_the_settings_file_is_refused() {
        assert!(local_settings("/tmp/a\"b").is_err());
        let text = local_settings("/tmp/some folder").unwrap();
        assert!(
            text.contains("ROCKSDB_LIB_DIR = { value = \"/tmp/some folder\", force = true }"),
            "{text}"
        );
    }
}
