//! Making a readable database of what is left of a damaged one, beside it. The damaged one stays as it is.
//!
//! RocksDB's own repair takes every table that it can read to the end and turns the write-ahead logs into tables. It has two
//! habits that lose data. It knows only the families that have a table, and drops what the logs hold of others: so each is
//! given one first. And its reader of logs believes damaged lengths: so logs are copied record by record, those left out that
//! are not whole. While the manifest is sound RocksDB's repair is not needed at all.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rocksdb::Cache;

use crate::batch::Durability;
use crate::error::{Error, Result};
use crate::families::{Database, Store};
use crate::framing;
use crate::inspect::{HEAD, file_error, inspect, is_numbered, names};
use crate::options::{Options, size};

/// A database that was made of a damaged one.
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct Salvage {
    /// It, open.
    pub store: Store,
    /// What was left out, a line each.
    pub notes: Vec<String>,
}

/// Makes the database of `from` anew in `into`, which must not exist, of all that can be read. An error means that this is
/// not possible; `into` is then of no use. Nobody else may use `from` meanwhile.
pub fn salvage(from: &Path, into: &Path, options: &Options, families: &[&'static str]) -> Result<Salvage> {
    let mut notes = Vec::new();
    let inspection = inspect(from)?;
    let manifest = inspection.manifest.filter(|manifest| {
        let damaged = |error: &Error| matches!(error, Error::Damaged { file, .. } if file == manifest);
        !inspection.damage.iter().any(damaged)
    });
    if let Some(manifest) = manifest {
        copy(from, into, &mut notes)?;
        for name in [HEAD, &manifest, "IDENTITY"] {
            if from.join(name).exists() {
                copy_file(&from.join(name), &into.join(name))?;
            }
        }
        // A damaged block shows only when it is read.
        match Store::open(into, options, families) {
            Ok(store) if store.verify().is_empty() => return Ok(Salvage { store, notes }),
            Ok(store) => drop(store),
            Err(error) if error.is_corruption() => {}
            Err(error) => return Err(error),
        }
        std::fs::remove_dir_all(into).map_err(|source| file_error("remove", into, source))?;
        notes.clear();
    }
    notes.push("the manifest is made anew, from the tables and logs that can be read".to_owned());
    copy(from, into, &mut notes)?;
    give_each_family_a_table(into, options, families)?;
    let before = names(into)?;
    repair(into, options)?;
    let lost = into.join("lost");
    if lost.exists() {
        for name in names(&lost)? {
            if is_numbered(&name, "sst") && before.contains(&name) {
                notes.push(format!("{name} cannot be read: left out, with all that is in it"));
            }
        }
        std::fs::remove_dir_all(&lost).map_err(|source| file_error("remove", &lost, source))?;
    }
    let store = Store::open(into, options, families)?;
    let mut batch = store.batch();
    for family in &store.families {
        batch.delete(family, SEED);
    }
    store.write(batch, Durability::Synced)?;
    store.flush()?;
    Ok(Salvage { store, notes })
}

fn repair(dir: &Path, options: &Options) -> Result<()> {
    let cache = Cache::new_lru_cache(size(options.block_cache_size));
    let mut rocksdb = options.database(&cache);
    options.shape(&cache, &mut rocksdb);
    Database::repair(&rocksdb, dir).map_err(Error::operation("repair"))
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to)
        .map(drop)
        .map_err(|source| file_error("copy", from, source))
}

/// Tables, which are never written to, are shared; logs are copied as far as they are whole.
fn copy(from: &Path, into: &Path, notes: &mut Vec<String>) -> Result<()> {
    std::fs::create_dir(into).map_err(|source| file_error("create directory", into, source))?;
    for name in names(from)? {
        let (old, new) = (from.join(&name), into.join(&name));
        if is_numbered(&name, "sst") {
            if std::fs::hard_link(&old, &new).is_err() {
                copy_file(&old, &new)?;
            }
        } else if is_numbered(&name, "log") {
            let mut writer = framing::Writer::default();
            let findings = framing::read(&old, &mut |record| writer.append(record))
                .map_err(|source| file_error("read", &old, source))?;
            if let Some(damage) = findings.damage.first() {
                let places = findings.damage.len();
                notes.push(format!(
                    "{name} is damaged in {places} {}, first at byte {} ({}): records that are not whole are left out",
                    if places == 1 { "place" } else { "places" },
                    damage.at,
                    damage.reason
                ));
                std::fs::write(&new, writer.into_bytes())
                    .map_err(|source| file_error("write", &new, source))?;
            } else {
                copy_file(&old, &new)?;
            }
        }
    }
    Ok(())
}

/// A key that no family has.
const SEED: &[u8] = b"\0repair\0";

/// Puts a small table for each family into `dir`, with the numbers that families get when a database is made.
fn give_each_family_a_table(dir: &Path, options: &Options, families: &[&'static str]) -> Result<()> {
    let place = dir.join("families");
    let seeds = Store::open(&place, options, families)?;
    let mut batch = seeds.batch();
    for family in &seeds.families {
        batch.put(family, SEED, &[]);
    }
    seeds.write(batch, Durability::Synced)?;
    seeds.flush()?;
    seeds.stop_background_work();
    drop(seeds);
    let number = |name: &String| name.split('.').next()?.parse::<u64>().ok();
    let mut next = names(dir)?.iter().filter_map(number).max().unwrap_or(0) + 1;
    for name in names(&place)? {
        if is_numbered(&name, "sst") {
            let to = dir.join(format!("{next:06}.sst"));
            std::fs::rename(place.join(&name), &to).map_err(|source| file_error("rename", &to, source))?;
            next += 1;
        }
    }
    std::fs::remove_dir_all(&place).map_err(|source| file_error("remove", &place, source))
}

/// Gives the file to the owner of the directory `like`: a repair may run as root, the server does not.
pub(crate) fn give_to_owner_of(path: &Path, like: &Path) -> Result<()> {
    let owner = std::fs::metadata(like).map_err(|source| file_error("look at", like, source))?;
    let failed = |source| file_error("give to its owner", path, source);
    let now = std::fs::metadata(path).map_err(failed)?;
    if (now.uid(), now.gid()) == (owner.uid(), owner.gid()) {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).map_err(failed)
}
