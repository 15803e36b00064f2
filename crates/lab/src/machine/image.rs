//! Debian images as overlay layers, built once and cached outside the checkout.
//!
//! `base-HASH` is what debootstrap makes; `packages-HASH` holds only what installing a list of packages has added on
//! top of it. Names are hashes of everything that decides the contents, so a changed recipe makes a new image. A
//! layer is built beside its place under a lock and renamed when complete; a half-built one is deleted and built
//! again.
//!
//! The mirror is the one apt of this machine is configured with, asked for at run time, along with apt's settings
//! for fetching (proxies and the like). Machines have no network, so packages are installed here.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{create, remove_tree, tool, write};
use crate::state;

/// Change it when the steps of building change what an image contains.
const RECIPE: &str = "1";

/// What makes a minimal Debian boot and be looked at.
const BASE: &str = "systemd,systemd-sysv,dbus,iproute2,procps,ca-certificates";

/// Layers of an image, the topmost first, as overlayfs wants them.
pub(super) type Layers = Vec<PathBuf>;

/// Builds what is missing of the image with these packages.
pub(super) fn ensure(packages: &[String], progress: &dyn Fn(&str)) -> Result<Layers> {
    let folder = state::cache_home()?.join("images");
    create(&folder)?;
    let source = Source::discover()?;
    let base_hash = hash(&[RECIPE, BASE, &source.release, std::env::consts::ARCH]);
    let base = folder.join(format!("base-{base_hash}"));
    build(&base, |partial| {
        progress(&format!(
            "building the Debian {} image with debootstrap, once; about a minute",
            source.release
        ));
        debootstrap(&source, partial)
    })?;
    let mut packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(vec![base]);
    }
    let layer = folder.join(format!("packages-{}", hash(&[&base_hash, &packages.join(" ")])));
    build(&layer, |partial| {
        progress(&format!("adding to the image, once: {}", packages.join(" ")));
        install(&base, &packages, partial)
    })?;
    Ok(vec![layer, base])
}

fn hash(parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\n").as_bytes());
    let bytes: [u8; 8] = digest[..8].try_into().expect("a SHA-256 digest has 32 bytes");
    format!("{:016x}", u64::from_be_bytes(bytes))
}

/// Makes `place` with `fill`, unless it is there already; one builder at a time.
fn build(place: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if place.is_dir() {
        return Ok(());
    }
    let _lock = lock(&place.with_extension("lock"))?;
    if place.is_dir() {
        return Ok(());
    }
    let partial = place.with_extension("partial");
    remove_tree(&partial)?;
    create(&partial)?;
    fill(&partial)?;
    std::fs::rename(&partial, place).with_context(|| format!("cannot rename {}", partial.display()))
}

fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Where Debian packages come from on this machine.
struct Source {
    release: String,
    mirror: String,
}

impl Source {
    /// This machine's own release, from its own mirror, so that programs built here run in the image.
    fn discover() -> Result<Self> {
        let text = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
        let release = text
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .map(|value| value.trim_matches('"').to_owned())
            .context("cannot tell the Debian release: no VERSION_CODENAME in /etc/os-release")?;
        let format = "$(CREATED_BY) $(RELEASE) $(COMPONENT) $(SITE)";
        let targets = tool("apt-get", &["indextargets", "--format", format])?;
        let mirror = targets
            .lines()
            .find_map(|line| line.strip_prefix(&format!("Packages {release} main ")))
            .with_context(|| format!("cannot find a mirror: apt has no source for {release} main"))?
            .to_owned();
        Ok(Self { release, mirror })
    }
}

fn debootstrap(source: &Source, root: &Path) -> Result<()> {
    let include = format!("--include={BASE}");
    let root_text = root.display().to_string();
    // In a mount namespace of its own: debootstrap leaves /proc mounted in the image when it is killed.
    let own_mounts = ["--mount", "--propagation", "private"];
    let words = [
        "debootstrap",
        "--variant=minbase",
        &include,
        &source.release,
        &root_text,
        &source.mirror,
    ];
    tool("unshare", &[&own_mounts[..], &words].concat())?;
    // debootstrap copies this machine's name and resolver, which mean nothing in a lab.
    write(&root.join("etc/hostname"), "debian\n")?;
    write(&root.join("etc/resolv.conf"), "")?;
    remove_tree(&root.join("var/cache/apt/archives"))
}

/// Installs packages with the base below, and keeps what has changed as the layer.
fn install(base: &Path, packages: &[&str], partial: &Path) -> Result<()> {
    /// In a mount namespace of its own, so that every mount is gone when it ends, however it ends.
    const SCRIPT: &str = r#"set -eu
base=$1 work=$2; shift 2
mkdir -p "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/work" "$work/root"
root=$work/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
apt-config dump Acquire > "$root/etc/apt/apt.conf.d/99lab-build"
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
run() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
mkdir -p "$root/var/cache/apt/archives/partial"
run apt-get -q update
run apt-get -q -y --no-install-recommends install "$@"
run apt-get -q clean
rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/apt/apt.conf.d/99lab-build"
: > "$root/etc/resolv.conf"
"#;
    let work = partial.with_extension("work");
    remove_tree(&work)?;
    create(&work)?;
    let (base, place) = (base.display().to_string(), work.display().to_string());
    let mut args = vec![
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        SCRIPT,
        "sh",
        &base,
        &place,
    ];
    args.extend(packages);
    tool("unshare", &args).with_context(|| format!("cannot install {}", packages.join(" ")))?;
    remove_tree(partial)?;
    let upper = work.join("upper");
    std::fs::rename(&upper, partial).with_context(|| format!("cannot rename {}", upper.display()))?;
    remove_tree(&work)
}
