//! `chainfire recover`: the last resort, when a majority of the members is gone for good.
//!
//! What is left on one disk becomes a cluster of its own: this node is its only member, everything in its log counts, and members of the
//! old one are not let in again. Whatever only the others had is lost.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use service::exit;

use crate::node::restore::{self, Changes};

/// Make a new cluster of what one node still has; a last resort when a majority of the members is gone for good
#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// Make this node the only member of a new cluster
    #[arg(long, required = true)]
    force_new_cluster: bool,
    /// Data directory of this node, which must be stopped
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Confirm that what only the other members had is lost
    #[arg(long)]
    yes_i_lose_writes: bool,
}

pub(crate) fn run(arguments: &Recover) -> anyhow::Result<()> {
    let dir = &arguments.data_dir;
    if !arguments.yes_i_lose_writes {
        let error = anyhow::anyhow!(
            "writes that only the other members have will be lost; if a majority of them is gone for good, give --yes-i-lose-writes"
        );
        return Err(exit::with_code(exit::USAGE, error));
    }
    if !dir.join("CURRENT").exists() {
        bail!("{}: no database in it", dir.display());
    }
    let changes = Changes {
        keep_all: true,
        ..Changes::default()
    };
    let made = restore::rework(dir, &changes).with_context(|| format!("recover {}", dir.display()))?;
    terminal::out(&format!(
        "Node {} is the only member of a new cluster {} at revision {}\n\
         Start it, wipe the data directories of the others, start them with cluster.bootstrap = false, and add them with member-add\n",
        made.node_id, made.cluster_id, made.revision
    ));
    Ok(())
}
