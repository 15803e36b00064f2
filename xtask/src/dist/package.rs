//! The Debian package: the tree, and the control files of `config/deb/`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Profile, VERSION};
use crate::process;
use crate::workspace::Workspace;

/// Packs the tree in `stage`, adding `DEBIAN/` to it, and gives the package's path in `out`. `time` is the packing time in seconds
/// since 1970.
pub(super) fn build(
    workspace: &Workspace,
    stage: &Path,
    out: &Path,
    profile: Profile,
    time: &str,
) -> Result<PathBuf> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("name the Debian architecture: {other} is not known; x86_64 and aarch64 are"),
    };
    let control = stage.join("DEBIAN");
    fs::create_dir(&control).with_context(|| format!("create {}", control.display()))?;
    set_mode(&control, 0o755)?;

    let size = process::read(
        Command::new("du")
            .args(["-sk", "--apparent-size", "--exclude=DEBIAN"])
            .arg(stage),
    )?;
    let size = size
        .split_whitespace()
        .next()
        .context("measure the tree: du printed nothing")?;
    let template = workspace.path("config/deb/control");
    let text = fs::read_to_string(&template).with_context(|| format!("read {}", template.display()))?;
    let text = text
        .replace("@VERSION@", VERSION)
        .replace("@ARCH@", arch)
        .replace("@SIZE@", size);
    fs::write(control.join("control"), text).context("write the control file")?;
    set_mode(&control.join("control"), 0o644)?;

    for (name, mode) in [
        ("conffiles", 0o644),
        ("postinst", 0o755),
        ("prerm", 0o755),
        ("postrm", 0o755),
    ] {
        let from = workspace.path("config/deb").join(name);
        fs::copy(&from, control.join(name)).with_context(|| format!("copy {}", from.display()))?;
        set_mode(&control.join(name), mode)?;
    }

    let package = out.join(format!("mainstay_{VERSION}_{arch}.deb"));
    let mut pack = Command::new("dpkg-deb");
    pack.env("SOURCE_DATE_EPOCH", time).arg("--root-owner-group");
    match profile {
        Profile::Release => pack.arg("-Zxz"),
        Profile::Dev => pack.args(["-Zgzip", "-z1"]),
    };
    // Its line about what it builds is no result of ours.
    process::read(pack.arg("--build").arg(stage).arg(&package)).context("pack the Debian package")?;
    Ok(package)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}
