//! The installed tree, built below a staging folder whose names are those of the root of a machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// Shells and where each looks for completions: folder, and the file's name around the program's.
const SHELLS: &[(&str, &str, &str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions", "", ""),
    ("fish", "usr/share/fish/vendor_completions.d", "", ".fish"),
    ("zsh", "usr/share/zsh/vendor-completions", "_", ""),
];

/// Builds the tree for `program` in `stage`.
pub(super) fn build(workspace: &Workspace, program: &Path, stage: &Path) -> Result<()> {
    let installed = stage.join("usr/bin/mainstay");
    install(program, &installed, 0o755)?;
    // Line tables stay with the build; backtraces of the shipped program still have function names.
    process::run(Command::new("strip").arg("--strip-debug").arg(&installed))?;

    let names = applets(program)?;
    for name in &names {
        let link = stage.join("usr/bin").join(name);
        symlink("mainstay", &link).with_context(|| format!("link {}", link.display()))?;
    }

    let man = stage.join("usr/share/man/man1");
    create_dir(&man)?;
    process::run(Command::new(program).args(["man", "--dir"]).arg(&man))?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(&man).with_context(|| format!("list {}", man.display()))? {
        pages.push(entry.context("list man pages")?.path());
    }
    if pages.is_empty() {
        bail!("make man pages: `mainstay man --dir` wrote none");
    }
    process::run(Command::new("gzip").args(["-9n"]).args(&pages))?;

    for (shell, folder, before, after) in SHELLS {
        for name in std::iter::once("mainstay").chain(names.iter().map(String::as_str)) {
            let text = process::read(Command::new(program).args(["completions", shell, name]))?;
            if text.is_empty() {
                bail!("make completions: `mainstay completions {shell} {name}` printed nothing");
            }
            write(
                &stage.join(folder).join(format!("{before}{name}{after}")),
                &(text + "\n"),
            )?;
        }
    }

    install_folder(
        &workspace.path("config/systemd"),
        &stage.join("lib/systemd/system"),
    )?;
    install(
        &workspace.path("config/chainfire.toml"),
        &stage.join("etc/centra-cloud/chainfire.toml"),
        0o644,
    )?;
    install_folder(
        &workspace.path("config/prometheus"),
        &stage.join("usr/share/mainstay/prometheus"),
    )?;
    install_folder(
        &workspace.path("config/alertmanager"),
        &stage.join("usr/share/mainstay/alertmanager"),
    )?;
    install_folder(
        &workspace.path("docs/runbooks"),
        &stage.join("usr/share/mainstay/runbooks"),
    )?;
    let certificates = "scripts/generate-dev-certs.sh";
    install(
        &workspace.path(certificates),
        &stage.join("usr/share/mainstay").join(certificates),
        0o755,
    )?;
    let documents = stage.join("usr/share/doc/mainstay");
    install_folder(&workspace.path("examples/slo"), &documents.join("examples/slo"))?;
    install(&workspace.path("README.md"), &documents.join("README.md"), 0o644)?;
    install(
        &workspace.path("CHANGELOG.md"),
        &documents.join("changelog"),
        0o644,
    )?;
    process::run(Command::new("gzip").arg("-9n").arg(documents.join("changelog")))?;
    install(&workspace.path("LICENSE"), &documents.join("copyright"), 0o644)
}

/// The names the program answers to, without its own.
fn applets(program: &Path) -> Result<Vec<String>> {
    let list = process::read(Command::new(program).arg("--list"))?;
    let names: Vec<String> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "mainstay")
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        bail!("ask for the applets: `mainstay --list` printed none");
    }
    Ok(names)
}

/// Copies every plain file of `from` into `to`.
fn install_folder(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let path = entry.with_context(|| format!("list {}", from.display()))?.path();
        if path.is_file() {
            let name = path.file_name().context("a listed file has a name")?;
            install(&path, &to.join(name), 0o644)?;
        }
    }
    Ok(())
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    create_dir(to.parent().context("an installed file is in a folder")?)?;
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    set_mode(to, mode)
}

fn write(path: &Path, text: &str) -> Result<()> {
    create_dir(path.parent().context("an installed file is in a folder")?)?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    set_mode(path, 0o644)
}

/// Makes a folder and those above it, all readable by everybody whatever the umask.
fn create_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    fs::create_dir(path).with_context(|| format!("create {}", path.display()))?;
    set_mode(path, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}
