//! `get` and `set`: settings of the monitor, of a formation, of a node.

use anyhow::{Result, anyhow};
use clap::Subcommand;

use super::find::{InFormation, Where, read};
use super::{STATE, of_store, wait_for};
use crate::NodeId;
use crate::group::{At, GroupState};
use crate::layout::{self, GroupId, NodeEntry, Stored as _};
use crate::store::{Change, Outcome, Store};

/// Tries when others change the same.
const TRIES: u32 = 20;

#[derive(Debug, Subcommand)]
pub(super) enum Get {
    /// Print one of the monitor's settings, or all.
    Monitor(GetMonitor),
    /// Print a formation's settings.
    #[command(subcommand)]
    Formation(OfFormation),
    /// Print a node's settings.
    #[command(subcommand)]
    Node(GetNode),
}

#[derive(Debug, Subcommand)]
pub(super) enum Set {
    /// Change one of the monitor's settings, for all keepers too.
    Monitor(SetMonitor),
    /// Change a formation's settings.
    #[command(subcommand)]
    Formation(SetFormation),
    /// Change a node's settings.
    #[command(subcommand)]
    Node(SetNode),
}

#[derive(Debug, clap::Args)]
pub(super) struct GetMonitor {
    #[command(flatten)]
    place: Where,

    /// Its name, as in `show settings`
    setting: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct SetMonitor {
    #[command(flatten)]
    place: Where,

    /// Its name, as in `show settings`
    setting: String,

    /// Its value
    value: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum OfFormation {
    /// Confirmations that a commit waits for at least.
    NumberSyncStandbys(InFormation),
}

#[derive(Debug, Subcommand)]
pub(super) enum SetFormation {
    /// Confirmations that a commit waits for at least.
    NumberSyncStandbys(SetNumber),
}

#[derive(Debug, clap::Args)]
pub(super) struct SetNumber {
    #[command(flatten)]
    formation: InFormation,

    /// How many; 0 to go on without any when no standby is left
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
    number: u32,
}

#[derive(Debug, Subcommand)]
pub(super) enum GetNode {
    /// Whom to promote first; 0 is never promoted.
    CandidatePriority(OneNode),
    /// Whether commits may wait for it.
    ReplicationQuorum(OneNode),
}

#[derive(Debug, Subcommand)]
pub(super) enum SetNode {
    /// Whom to promote first; 0 is never promoted.
    CandidatePriority(SetPriority),
    /// Whether commits may wait for it.
    ReplicationQuorum(SetQuorum),
}

#[derive(Debug, clap::Args)]
pub(super) struct OneNode {
    #[command(flatten)]
    formation: InFormation,

    /// The node's name
    #[arg(long, value_name = "NODE")]
    name: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct SetPriority {
    #[command(flatten)]
    node: OneNode,

    /// 0 to 100
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    priority: u8,
}

#[derive(Debug, clap::Args)]
pub(super) struct SetQuorum {
    #[command(flatten)]
    node: OneNode,

    /// true or false
    #[arg(action = clap::ArgAction::Set)]
    quorum: bool,
}

/// The node of that name.
pub(super) fn named<'a>(state: &'a GroupState, name: &str) -> Result<(NodeId, &'a At<NodeEntry>)> {
    let mut nodes = state.nodes.iter();
    nodes
        .find(|(_, at)| at.value.name == name)
        .map(|(node, at)| (*node, at))
        .ok_or_else(|| {
            let names: Vec<&str> = state.nodes.values().map(|at| at.value.name.as_str()).collect();
            anyhow!("no node is called `{name}`; there are {}", names.join(", "))
        })
}

/// Reads, makes a change of what was read, and does so again if it was changed meanwhile.
pub(super) async fn changing(
    store: &Store,
    id: &GroupId,
    make: impl Fn(&GroupState) -> Result<Change>,
) -> Result<()> {
    for _ in 0..TRIES {
        let state = read(store, id).await?;
        if let Outcome::Done(_) = store.commit(make(&state)?).await.map_err(of_store)? {
            return Ok(());
        }
    }
    Err(service::exit::with_code(
        STATE,
        anyhow!("not changed: others changed it {TRIES} times meanwhile"),
    ))
}

impl Get {
    pub(super) fn run(self) -> Result<()> {
        let text = wait_for(async {
            Ok(match self {
                Get::Monitor(command) => {
                    let state = read(&command.place.store()?, &GroupId::of("default")?).await?;
                    if let Some(name) = &command.setting {
                        state.settings.get(name)?
                    } else {
                        let all = state.settings.list();
                        let lines: Vec<String> = all
                            .iter()
                            .map(|(name, value)| format!("{name} = {value}"))
                            .collect();
                        lines.join("\n")
                    }
                }
                Get::Formation(OfFormation::NumberSyncStandbys(formation)) => {
                    let (_, state) = formation.read().await?;
                    let number = state.formation.map_or(0, |at| at.value.number_sync_standbys);
                    number.to_string()
                }
                Get::Node(GetNode::CandidatePriority(node)) => {
                    let (_, state) = node.formation.read().await?;
                    named(&state, &node.name)?.1.value.candidate_priority.to_string()
                }
                Get::Node(GetNode::ReplicationQuorum(node)) => {
                    let (_, state) = node.formation.read().await?;
                    named(&state, &node.name)?.1.value.replication_quorum.to_string()
                }
            })
        })?;
        terminal::out(&(text + "\n"));
        Ok(())
    }
}

/// Changes a node's entry.
async fn change_node(node: &OneNode, set: impl Fn(&mut NodeEntry)) -> Result<()> {
    let (store, state) = node.formation.read().await?;
    changing(&store, &state.id, |state| {
        let (number, at) = named(state, &node.name)?;
        let mut entry = at.value.clone();
        set(&mut entry);
        let key = state.id.node_key(number);
        Ok(Change::default()
            .if_at(&key, at.revision)
            .put(&key, entry.encode()))
    })
    .await
}

impl Set {
    pub(super) fn run(self) -> Result<()> {
        wait_for(async {
            match self {
                Set::Monitor(command) => {
                    let (store, id) = (command.place.store()?, GroupId::of("default")?);
                    changing(&store, &id, |state| {
                        let settings = state.settings.set(&command.setting, &command.value)?;
                        let change = Change::default().if_at(layout::SETTINGS, state.settings_revision());
                        Ok(change.put(layout::SETTINGS, settings.encode()))
                    })
                    .await
                }
                Set::Formation(SetFormation::NumberSyncStandbys(command)) => {
                    let (store, state) = command.formation.read().await?;
                    changing(&store, &state.id, |state| {
                        let at = state
                            .formation
                            .as_ref()
                            .ok_or_else(|| anyhow!("the formation is gone"))?;
                        let mut formation = at.value.clone();
                        formation.number_sync_standbys = command.number;
                        let key = state.id.formation_key();
                        Ok(Change::default()
                            .if_at(&key, at.revision)
                            .put(&key, formation.encode()))
                    })
                    .await
                }
                Set::Node(SetNode::CandidatePriority(command)) => {
                    change_node(&command.node, |entry| entry.candidate_priority = command.priority).await
                }
                Set::Node(SetNode::ReplicationQuorum(command)) => {
                    change_node(&command.node, |entry| entry.replication_quorum = command.quorum).await
                }
            }
        })
    }
}
