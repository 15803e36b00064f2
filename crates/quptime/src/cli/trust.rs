//! `qu trust`: whose keys this node knows.

use clap::Subcommand;
use terminal::Table;

use crate::document::{Change, Entry};
use crate::home::Home;
use crate::identity::NodeId;

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// List them.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Trust a node no more: the same as qu node remove, since trust follows the peers.
    Remove {
        /// Which.
        node_id: NodeId,
    },
}

impl TrustCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            TrustCommand::List { json } => {
                let trust = Home::of_environment(super::variable).read_trust()?;
                if json {
                    terminal::print_json(&trust.entries)?;
                    return Ok(());
                }
                let mut table = Table::new(["NODE_ID", "ADDRESS", "FINGERPRINT", "ADDED"]);
                for entry in &trust.entries {
                    let cells = [
                        &entry.node_id.to_string(),
                        &entry.address,
                        &entry.fingerprint,
                        &entry.added_at,
                    ];
                    table.row(cells.map(String::as_str));
                }
                terminal::out(&table.render(None));
                Ok(())
            }
            TrustCommand::Remove { node_id } => {
                let document = super::client::document()?;
                let peer = document
                    .peer(node_id)
                    .ok_or_else(|| anyhow::anyhow!("there is no node {node_id}; see qu trust list"))?;
                let change = Change::remove(Entry::Peer(peer.clone()));
                super::client::configure(vec![change], "trust remove", &format!("node {node_id} removed"))
            }
        }
    }
}
