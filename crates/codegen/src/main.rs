//! Turns every crate's `proto/` into committed Rust under its `src/gen/`, so that building Mainstay needs no `protoc`.
//!
//! `codegen` writes the files; `codegen --check` writes nothing and fails when a committed file differs from what the
//! protocol files say. Beside the Rust, a crate that serves them gets `descriptor.bin`, the serialised `FileDescriptorSet`, from which the
//! JSON gateway and reflection learn names and types at run time.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use prost::Message;

/// A crate that owns protocol files.
struct Owner {
    folder: &'static str,
    /// Those of its files, and of others', that are not imported by others.
    files: &'static [&'static str],
    /// Whether it needs to know them at run time.
    descriptors: bool,
    /// Whose files it imports: packages that are generated there, and the path they have for it.
    imports: Option<Import>,
}

struct Import {
    folder: &'static str,
    path: &'static str,
    packages: &'static [&'static str],
}

const CRATES: &[Owner] = &[
    Owner {
        folder: "crates/etcd",
        files: &[
            "etcdserverpb/rpc.proto",
            "v3lockpb/v3lock.proto",
            "v3electionpb/v3election.proto",
        ],
        descriptors: false,
        imports: None,
    },
    Owner {
        folder: "crates/chainfire",
        files: &[
            "etcdserverpb/rpc.proto",
            "v3lockpb/v3lock.proto",
            "v3electionpb/v3election.proto",
            "logpb/log.proto",
            "chainfirepb/cluster.proto",
            "health/health.proto",
        ],
        descriptors: true,
        imports: Some(Import {
            folder: "crates/etcd",
            path: "::etcd::wire",
            packages: &["authpb", "etcdserverpb", "mvccpb", "v3electionpb", "v3lockpb"],
        }),
    },
];

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    match run(check) {
        Ok(stale) if stale.is_empty() => ExitCode::SUCCESS,
        Ok(stale) => {
            for path in stale {
                eprintln!(
                    "{}: differs from its protocol files, run `cargo xtask codegen`",
                    path.display()
                );
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("codegen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the files that differ (always empty without `check`, since they are then rewritten).
fn run(check: bool) -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut stale = Vec::new();
    for owner in CRATES {
        let folder = owner.folder;
        let target = root.join(folder).join("src/gen");
        for (name, content) in generate(&root, owner)? {
            let path = target.join(&name);
            if std::fs::read(&path).is_ok_and(|old| old == content) {
                continue;
            }
            if check {
                stale.push(Path::new(folder).join("src/gen").join(name));
            } else {
                std::fs::create_dir_all(&target)?;
                std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
                println!("wrote {folder}/src/gen/{name}");
            }
        }
    }
    Ok(stale)
}

/// File name to content.
fn generate(root: &Path, owner: &Owner) -> Result<BTreeMap<String, Vec<u8>>> {
    let folders = std::iter::once(owner.folder).chain(owner.imports.iter().map(|import| import.folder));
    let protos: Vec<PathBuf> = folders.map(|folder| root.join(folder).join("proto")).collect();
    let descriptors = protox::compile(owner.files, &protos).context("compile protocol files")?;
    let scratch = std::env::temp_dir().join(format!("mainstay-codegen-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;

    let borrowed: Vec<(String, String)> = owner
        .imports
        .iter()
        .flat_map(|import| import.packages.iter().map(|package| (import.path, *package)))
        .map(|(path, package)| (format!(".{package}"), format!("{path}::{package}")))
        .collect();
    let mut generator = tonic_prost_build::configure().bytes(".");
    for (package, path) in &borrowed {
        generator = generator.extern_path(package, path);
    }
    generator
        .out_dir(&scratch)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors.clone())
        .context("generate Rust")?;

    let mut generated = BTreeMap::new();
    for entry in std::fs::read_dir(&scratch)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if borrowed
            .iter()
            .any(|(package, _)| name == format!("{}.rs", &package[1..]))
        {
            continue;
        }
        generated.insert(name, std::fs::read(entry.path())?);
    }
    std::fs::remove_dir_all(&scratch)?;
    if owner.descriptors {
        generated.insert("descriptor.bin".to_owned(), descriptors.encode_to_vec());
    }
    Ok(generated)
}
