//! `qu cluster`: the configuration as a whole.

use anyhow::Context as _;
use clap::Subcommand;
use terminal::Table;

use super::client;
use crate::document::{Change, Document, Entry, change, changes_between, parse, render};

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// DNS servers for all checks.
    #[command(subcommand)]
    Resolvers(ResolversCommand),
    /// Print the configuration as cluster.yaml has it.
    Export,
    /// Show what a file would change.
    Diff {
        /// A cluster.yaml.
        file: std::path::PathBuf,
    },
    /// Make the configuration what a file says; nodes stay as they are.
    Restore {
        /// A cluster.yaml.
        file: std::path::PathBuf,
    },
    /// The last changes, and who asked for them.
    Log {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ResolversCommand {
    /// Show them.
    Show,
    /// Set them, in the order in which they are asked.
    Set {
        /// Addresses, with a port if it is not 53.
        #[arg(required = true, value_delimiter = ',')]
        resolvers: Vec<String>,
    },
    /// Use those of each node's system.
    Clear,
}

impl ClusterCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            ClusterCommand::Resolvers(command) => resolvers(command),
            ClusterCommand::Export => {
                terminal::out(&render(&client::document()?));
                Ok(())
            }
            ClusterCommand::Diff { file } => {
                let (_, changes) = difference(&file)?;
                for change in &changes {
                    let verb = match (&change.base, &change.wanted) {
                        (None, _) => "add",
                        (_, None) => "remove",
                        _ => "change",
                    };
                    terminal::out(&format!("{verb:<7} {}\n", terminal::harmless(&change.title())));
                }
                Ok(())
            }
            ClusterCommand::Restore { file } => {
                let (_, changes) = difference(&file)?;
                let done = format!("{} entries restored from {}", changes.len(), file.display());
                client::configure(changes, "cluster restore", &done)
            }
            ClusterCommand::Log { json } => log(json),
        }
    }
}

/// What a file would change. Nodes are not restored: they come with `node add`, and each has its own key.
fn difference(file: &std::path::Path) -> anyhow::Result<(Document, Vec<Change>)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let mut wanted = parse(&text).map_err(|mistake| anyhow::anyhow!("{}: {mistake}", file.display()))?;
    let current = client::document()?;
    wanted.peers.clone_from(&current.peers);
    wanted
        .pending_enrollments
        .clone_from(&current.pending_enrollments);
    change::complete(&mut wanted, &current, |_, _| super::new_id());
    let changes = changes_between(&current, &wanted);
    Ok((wanted, changes))
}

fn resolvers(command: ResolversCommand) -> anyhow::Result<()> {
    let current = client::document()?.resolvers;
    let wanted = match command {
        ResolversCommand::Show => {
            if current.is_empty() {
                terminal::note("none are set: each node asks those of its system");
            }
            for resolver in current {
                terminal::out(&format!("{resolver}\n"));
            }
            return Ok(());
        }
        ResolversCommand::Set { resolvers } => resolvers,
        ResolversCommand::Clear => Vec::new(),
    };
    let done = if wanted.is_empty() {
        "resolvers cleared".to_owned()
    } else {
        format!("resolvers set to {}", wanted.join(", "))
    };
    let changes = if wanted == current {
        Vec::new()
    } else {
        vec![Change::edit(Entry::Resolvers(current), Entry::Resolvers(wanted))]
    };
    client::configure(changes, "cluster resolvers", &done)
}

fn log(json: bool) -> anyhow::Result<()> {
    let state = client::state()?;
    if json {
        super::json::print(&*state.audit)?;
        return Ok(());
    }
    let mut table = Table::new(["VERSION", "TIME", "NODE", "UID", "WHAT", "ENTRIES"]);
    for audit in state.audit.iter() {
        table.row([
            audit.version.to_string(),
            audit.at.clone(),
            audit.by.to_string(),
            audit.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string()),
            audit.what.clone(),
            audit.summary(),
        ]);
    }
    terminal::out(&table.render(None));
    Ok(())
}
