//! Which crate may depend on which, read from `cargo metadata`.
//!
//! Dependencies point one way: the binary, then the programs of the whole (lab, runbook, web console), then the systems, then shared
//! crates with IO, then pure ones. Systems never depend on each other. Heavy dependencies have one door each. Test support and tools
//! are no normal dependency of anything shipped.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Finding;
use crate::process;
use crate::workspace::Workspace;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// No IO at all.
    Pure,
    /// Shared, with IO.
    Shared,
    System,
    /// Programs about all systems together.
    Whole,
    Binary,
    /// Test support and tools: may use anything, shipped crates may use them in tests only.
    Support,
}

/// Every crate of the workspace. A new crate is entered here, which is the moment to think about where it belongs.
const CRATES: &[(&str, Layer)] = &[
    ("chainfire", Layer::System),
    ("codegen", Layer::Support),
    ("consensus", Layer::Pure),
    ("etcd", Layer::Shared),
    ("flaredb", Layer::System),
    ("gossip", Layer::Shared),
    ("lab", Layer::Whole),
    ("load", Layer::Support),
    ("mainstay", Layer::Binary),
    ("mezite", Layer::System),
    ("notify", Layer::Shared),
    ("peer", Layer::Shared),
    ("pgaf", Layer::System),
    ("pki", Layer::Shared),
    ("probe", Layer::Shared),
    ("quptime", Layer::System),
    ("runbook", Layer::Whole),
    ("service", Layer::Shared),
    ("sim", Layer::Support),
    ("slo", Layer::System),
    ("store", Layer::Shared),
    ("terminal", Layer::Shared),
    ("template", Layer::Pure),
    ("testkit", Layer::Support),
    ("trial", Layer::Support),
    ("web-console", Layer::Whole),
    ("xtask", Layer::Support),
    ("zester", Layer::System),
];

/// Third-party crates with one door: only the named crates may depend on them, apart from tests.
const DOORS: &[(&str, &[&str])] = &[
    ("rocksdb", &["store"]),
    ("librocksdb-sys", &["store"]),
    ("tracing-subscriber", &["service"]),
    ("sqlx", &["mezite", "pgaf"]),
    ("russh", &["mezite"]),
    ("foca", &["gossip"]),
];

/// Whether the crate is one whose `machine/` holds decisions without IO.
pub(super) fn decides(name: &str) -> bool {
    CRATES
        .iter()
        .any(|(known, layer)| *known == name && matches!(layer, Layer::Pure | Layer::System))
}

/// Findings about the dependencies between the crates.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let json = process::read(process::cargo(workspace).args([
        "metadata",
        "--format-version=1",
        "--no-deps",
        "--quiet",
    ]))?;
    let metadata: Value = serde_json::from_str(&json).context("read the output of cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"]
            .as_str()
            .context("cargo metadata: a package without name")?;
        let manifest = package["manifest_path"]
            .as_str()
            .context("cargo metadata: a package without manifest")?;
        let relative: PathBuf = PathBuf::from(manifest)
            .strip_prefix(workspace.root())
            .map_or_else(|_| PathBuf::from(manifest), PathBuf::from);
        let normal: Vec<&str> = package["dependencies"]
            .as_array()
            .context("cargo metadata: a package without dependencies")?
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str())
            .collect();
        let manifest_text = std::fs::read_to_string(manifest).with_context(|| format!("read {manifest}"))?;
        for (dependency, text) in judge(name, &normal) {
            let line = manifest_text
                .lines()
                .position(|line| line.starts_with(dependency))
                .map_or(0, |at| at + 1);
            findings.push(Finding {
                path: relative.clone(),
                line,
                text,
            });
        }
    }
    Ok(findings)
}

/// What is wrong with the normal dependencies of one crate: the dependency and what to say of it.
fn judge<'a>(name: &str, dependencies: &[&'a str]) -> Vec<(&'a str, String)> {
    let layer_of = |name: &str| {
        CRATES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, layer)| *layer)
    };
    let Some(own) = layer_of(name) else {
        return vec![(
            "name",
            format!("crate {name} has no layer; enter it in xtask/src/tidy/layers.rs"),
        )];
    };
    let mut findings = Vec::new();
    for &dependency in dependencies {
        if let Some((_, doors)) = DOORS.iter().find(|(heavy, _)| *heavy == dependency)
            && !doors.contains(&name)
        {
            findings.push((
                dependency,
                format!(
                    "{name} depends on {dependency}; go through {}",
                    doors.join(" or ")
                ),
            ));
        }
        let Some(other) = layer_of(dependency) else {
            continue;
        };
        let allowed = match (own, other) {
            (Layer::Support, _) => true,
            (_, Layer::Support) | (Layer::System, Layer::System) => false,
            _ => other <= own,
        };
        if !allowed {
            let right = match (own, other) {
                (_, Layer::Support) => "make it a dev-dependency",
                (Layer::System, Layer::System) => {
                    "move what both need into a shared crate, or go through the API"
                }
                _ => "dependencies point downwards: binary, whole, system, shared, pure",
            };
            findings.push((
                dependency,
                format!("{name} ({own:?}) depends on {dependency} ({other:?}); {right}"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn downward_dependencies_are_fine() {
        assert_eq!(judge("mainstay", &["chainfire", "lab", "service", "clap"]), []);
        assert_eq!(judge("store", &["rocksdb", "tracing"]), []);
        assert_eq!(judge("load", &["chainfire", "testkit"]), []);
    }

    #[test]
    fn systems_do_not_know_each_other() {
        let found = judge("pgaf", &["chainfire"]);
        assert!(found[0].1.contains("shared crate"), "{found:?}");
    }

    #[test]
    fn shared_crates_do_not_reach_up_and_test_support_is_not_shipped() {
        assert_eq!(judge("service", &["chainfire"]).len(), 1);
        assert_eq!(judge("chainfire", &["testkit"]).len(), 1);
    }

    #[test]
    fn heavy_dependencies_have_one_door() {
        let found = judge("chainfire", &["rocksdb", "tracing-subscriber"]);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_crate_nobody_placed_is_reported() {
        assert_eq!(judge("brand-new", &[]).len(), 1);
    }
}
