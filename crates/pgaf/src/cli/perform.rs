//! `perform`: another primary.
//!
//! From a primary that is well this is a planned change, and nothing can be lost. When the primary is lost and the record lets somebody be
//! promoted, the monitor does that by itself. When it does not, `perform failover` promotes a standby that may lack rows: see [`force`].

mod force;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Subcommand;
use service::exit::with_code;

use super::find::InFormation;
use super::settings::{changing, named};
use super::show::{place, reported};
use super::table::{Column, render};
use super::{STATE, STORE, TIMEOUT, wait_for};
use crate::NodeId;
use crate::group::GroupState;
use crate::layout::{Stored as _, Wish};
use crate::mirror::Mirror;
use crate::state::NodeState;
use crate::store::{Change, Store};

#[derive(Debug, Subcommand)]
pub(super) enum Perform {
    /// Have another node become primary; if the primary is lost, also one that lacks rows.
    Failover(Failover),
    /// The same; says that the primary has to be well.
    Switchover(Planned),
    /// Have this node become primary.
    Promotion(Promotion),
}

#[derive(Debug, clap::Args)]
pub(super) struct Planned {
    #[command(flatten)]
    formation: InFormation,

    /// Seconds to wait for the new primary
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    wait: u64,
}

#[derive(Debug, clap::Args)]
pub(super) struct Failover {
    #[command(flatten)]
    planned: Planned,

    /// Print what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Promotion {
    #[command(flatten)]
    planned: Planned,

    /// The node's name
    #[arg(long, value_name = "NODE")]
    name: String,
}

impl Perform {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Perform::Failover(command) => wait_for(command.run()),
            Perform::Switchover(planned) => wait_for(another(&planned, None)),
            Perform::Promotion(command) => wait_for(another(&command.planned, Some(&command.name))),
        }
    }
}

impl Failover {
    async fn run(self) -> Result<()> {
        let (store, state) = self.planned.formation.read().await?;
        if well(&state).is_err() && state.record.is_some() {
            return force::failover(&store, state, self.planned.wait, self.dry_run).await;
        }
        if self.dry_run {
            let old = well(&state)?;
            secondary(&state, old)?;
            let name = &state.nodes[&old].value.name;
            terminal::out(&format!(
                "{name} would stop cleanly, and a secondary that has everything would take over; nothing would be lost\n"
            ));
            return Ok(());
        }
        another(&self.planned, None).await
    }
}

async fn another(planned: &Planned, name: Option<&str>) -> Result<()> {
    let (store, state) = planned.formation.read().await?;
    let old = well(&state)?;
    let wish = match name {
        None => Wish::Failover,
        Some(name) => {
            let (node, at) = named(&state, name)?;
            if node == old {
                terminal::note(&format!("{name} is primary already"));
                return Ok(());
            }
            if at.value.goal != NodeState::Secondary {
                return Err(with_code(
                    STATE,
                    anyhow!("{name} is {}; only a secondary can be promoted", at.value.goal),
                ));
            }
            Wish::Promotion(node)
        }
    };
    secondary(&state, old)?;
    have(&store, state, old, Some(wish), planned.wait).await
}

/// Whether somebody could take over as planned.
fn secondary(state: &GroupState, old: NodeId) -> Result<()> {
    let mut others = state.nodes.iter().filter(|(node, _)| **node != old);
    if others.any(|(_, at)| at.value.goal == NodeState::Secondary) {
        return Ok(());
    }
    let reason = anyhow!("there is no secondary that could take over");
    Err(with_code(STATE, reason))
}

/// Tells the monitor what is wished for, if anything is, and shows what comes of it. A wish that is not fulfilled in time is taken back.
async fn have(store: &Store, state: GroupState, old: NodeId, wish: Option<Wish>, seconds: u64) -> Result<()> {
    let id = state.id.clone();
    let mut mirror = Mirror::start(store.clone()).await.map_err(super::of_store)?;
    let ask = |from: Option<Wish>, to: Option<Wish>| {
        changing(store, &id, move |state| {
            let mut group = state.group.clone();
            // Another one's wish is not ours to take back.
            if from.is_none() || group.request == from {
                group.request = to;
            }
            let key = state.id.group_key();
            Ok(Change::default()
                .if_at(&key, state.group_revision())
                .put(&key, group.encode()))
        })
    };
    if wish.is_some() {
        ask(None, wish).await?;
    }
    let shown = follow(&mut mirror, state, old);
    match tokio::time::timeout(Duration::from_secs(seconds), shown).await {
        Ok(done) => done,
        Err(_elapsed) => {
            if wish.is_some() {
                ask(wish, None).await?;
            }
            let reason = anyhow!("there is no new primary after {seconds} s; see `show events`");
            Err(with_code(TIMEOUT, reason))
        }
    }
}

/// The primary, if it is well.
fn well(state: &GroupState) -> Result<NodeId> {
    let refused = |reason: String| Err(with_code(STATE, anyhow!("{reason}")));
    let Some(primary) = state.record.as_ref().map(|at| at.value.node) else {
        return refused("there is no primary yet".to_owned());
    };
    let goal = state.nodes.get(&primary).map(|at| at.value.goal);
    let holds = state.lock.as_ref().is_some_and(|at| at.value.node == primary);
    if goal != Some(NodeState::Primary) || reported(state, primary) != NodeState::Primary || !holds {
        return refused(format!(
            "node {primary} is not a primary in good health. If others have all acknowledged rows the monitor promotes one by itself; \
             `perform failover` also promotes one that lacks some"
        ));
    }
    Ok(primary)
}

const COLUMNS: [Column; 6] = [
    Column::right("Time", 8),
    Column::right("Name", 5),
    Column::right("Node", 5),
    Column::right("Host:Port", 14),
    Column::right("Current State", 19),
    Column::right("Assigned State", 19),
];

/// Prints what changes until somebody else is primary.
async fn follow(mirror: &mut Mirror, mut state: GroupState, old: NodeId) -> Result<()> {
    let states = |state: &GroupState| -> BTreeMap<NodeId, (NodeState, NodeState)> {
        let nodes = state.nodes.iter();
        nodes
            .map(|(node, at)| (*node, (reported(state, *node), at.value.goal)))
            .collect()
    };
    let mut before = states(&state);
    let mut asked = false;
    let head = render(&COLUMNS, &[]);
    terminal::out(&head);
    loop {
        mirror.changed().await;
        state = GroupState::read(&mirror.now(), &state.id).map_err(|wrong| with_code(STORE, wrong))?;
        let now = states(&state);
        for (node, (is, goal)) in &now {
            if before.get(node) == Some(&(*is, *goal)) {
                continue;
            }
            let entry = &state.nodes[node].value;
            let time = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
            let row = vec![
                time,
                entry.name.clone(),
                node.to_string(),
                place(entry),
                is.to_string(),
                goal.to_string(),
            ];
            let text = render(&COLUMNS, &[row]);
            // The head stands above the first one.
            terminal::out(text.splitn(3, '\n').nth(2).unwrap_or_default());
        }
        before = now;
        asked |= state.group.request.is_some();
        let primary = state.record.as_ref().map_or(old, |at| at.value.node);
        if primary != old && reported(&state, primary).writable() {
            return Ok(());
        }
        let back = before.get(&old) == Some(&(NodeState::Primary, NodeState::Primary));
        if asked && state.group.request.is_none() && back && primary == old && !under_way(&state) {
            bail!("nobody could take over; see `show events`");
        }
    }
}

fn under_way(state: &GroupState) -> bool {
    state.nodes.values().any(|at| at.value.goal.candidate())
}
