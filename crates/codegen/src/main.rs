//! Turns every crate's `proto/` into committed Rust under its `src/gen/`, so that building Mainstay needs no `protoc`.
//!
//! `codegen` writes the files; `codegen --check` writes nothing and fails when a committed file differs from what the
//! protocol files say. Beside the Rust, each crate gets `descriptor.bin`, the serialised `FileDescriptorSet`, from which the
//! JSON gateway and reflection learn names and types at run time.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use prost::Message;

/// Crates that own protocol files, with the files that are not imported by others.
const CRATES: &[(&str, &[&str])] = &[(
    "crates/chainfire",
    &[
        "etcdserverpb/rpc.proto",
        "v3lockpb/v3lock.proto",
        "v3electionpb/v3election.proto",
        "logpb/log.proto",
        "chainfirepb/cluster.proto",
        "health/health.proto",
    ],
)];

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
    for (folder, files) in CRATES {
        let target = root.join(folder).join("src/gen");
        for (name, content) in generate(&root.join(folder).join("proto"), files)? {
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
fn generate(proto: &Path, files: &[&str]) -> Result<BTreeMap<String, Vec<u8>>> {
    let descriptors = protox::compile(files, [proto]).context("compile protocol files")?;
    let scratch = std::env::temp_dir().join(format!("mainstay-codegen-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;

    tonic_prost_build::configure()
        .bytes(".")
        .out_dir(&scratch)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors.clone())
        .context("generate Rust")?;

    let mut generated = BTreeMap::new();
    for entry in std::fs::read_dir(&scratch)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        generated.insert(name, std::fs::read(entry.path())?);
    }
    std::fs::remove_dir_all(&scratch)?;
    generated.insert("descriptor.bin".to_owned(), descriptors.encode_to_vec());
    Ok(generated)
}
