//! `show state|events|uri|settings|standby-names`.

use anyhow::{Result, bail};
use clap::Subcommand;
use serde::Serialize;

use super::find::{InFormation, Where};
use super::table::{Column, render};
use super::{STORE, of_store, wait_for};
use crate::group::GroupState;
use crate::layout::{self, Event, NodeEntry, Stored as _};
use crate::state::NodeState;
use crate::{NodeId, Position};

#[derive(Debug, Subcommand)]
pub(super) enum Show {
    /// Print every node, what it is and what it is to be.
    State(State),
    /// Print what the monitor did lately, and why.
    Events(Events),
    /// Print connection strings.
    Uri(Uri),
    /// Print the settings of monitor, formation and nodes.
    Settings(Settings),
    /// Print synchronous_standby_names as the primary is to have it.
    StandbyNames(StandbyNames),
}

#[derive(Debug, clap::Args)]
pub(super) struct State {
    #[command(flatten)]
    formation: InFormation,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Events {
    #[command(flatten)]
    formation: InFormation,

    /// How many, the newest
    #[arg(long, default_value_t = 10, value_name = "N")]
    count: usize,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Uri {
    #[command(flatten)]
    place: Where,

    /// Print only the string of this formation, or of `monitor`
    #[arg(long, value_name = "NAME")]
    formation: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    #[command(flatten)]
    formation: InFormation,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct StandbyNames {
    #[command(flatten)]
    formation: InFormation,
}

impl Show {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Show::State(command) => command.run(),
            Show::Events(command) => command.run(),
            Show::Uri(command) => command.run(),
            Show::Settings(command) => command.run(),
            Show::StandbyNames(command) => command.run(),
        }
    }
}

/// `1/23ABCDEF`, as PostgreSQL writes it.
fn lsn(position: Option<Position>) -> String {
    let lsn = position.map_or(0, |position| position.lsn);
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

fn timeline(position: Option<Position>) -> u32 {
    position.map_or(0, |position| position.timeline)
}

/// What a node last said it is.
pub(super) fn reported(state: &GroupState, node: NodeId) -> NodeState {
    state
        .reports
        .get(&node)
        .map_or(NodeState::Init, |at| at.value.state)
}

pub(super) fn place(entry: &NodeEntry) -> String {
    format!("{}:{}", entry.host, entry.port)
}

const STATE: [Column; 7] = [
    Column::right("Name", 5),
    Column::right("Node", 5),
    Column::right("Host:Port", 14),
    Column::right("TLI: LSN", 14),
    Column::right("Connection", 12),
    Column::right("Reported State", 19),
    Column::right("Assigned State", 19),
];

/// The table of `show state`.
fn state_table(state: &GroupState) -> String {
    let rows: Vec<Vec<String>> = state
        .nodes
        .iter()
        .map(|(node, at)| {
            let entry = &at.value;
            let position = state.reports.get(node).and_then(|at| at.value.position);
            let is = reported(state, *node);
            let connection = match is {
                _ if is.writable() => "read-write",
                NodeState::Init | NodeState::WaitStandby => "none",
                _ if is.stopped() => "none",
                _ => "read-only",
            };
            let mark = match state.health.get(node) {
                None => " ?",
                Some(looked) if looked.good => "",
                Some(_) => " !",
            };
            vec![
                entry.name.clone(),
                node.to_string(),
                place(entry),
                format!("{:>3}: {}", timeline(position), lsn(position)),
                format!("{connection}{mark}"),
                is.to_string(),
                entry.goal.to_string(),
            ]
        })
        .collect();
    render(&STATE, &rows)
}

/// Why nobody can be promoted, if nobody can.
fn hindrances(state: &GroupState) -> Vec<String> {
    let Some(record) = state.record.as_ref().map(|at| &at.value) else {
        return Vec::new();
    };
    let mut hindered = Vec::new();
    for (node, at) in state.nodes.iter().filter(|(node, _)| **node != record.node) {
        let entry = &at.value;
        let why = if !record.members.contains(node) {
            let is = reported(state, *node);
            format!("it is {is} and may lack acknowledged rows")
        } else if entry.candidate_priority == 0 {
            "its candidate priority is 0".to_owned()
        } else {
            return Vec::new();
        };
        hindered.push(format!("{} cannot be promoted: {why}", entry.name));
    }
    hindered
}

#[derive(Debug, Serialize)]
struct StateJson {
    health: i8,
    node_id: NodeId,
    group_id: u32,
    nodehost: String,
    nodename: String,
    nodeport: u16,
    nodecluster: &'static str,
    reported_lsn: String,
    reported_tli: u32,
    formation_kind: &'static str,
    candidate_priority: u8,
    replication_quorum: bool,
    current_group_state: NodeState,
    assigned_group_state: NodeState,
}

fn state_json(state: &GroupState) -> Vec<StateJson> {
    let nodes = state.nodes.iter().map(|(node, at)| {
        let entry = &at.value;
        let position = state.reports.get(node).and_then(|at| at.value.position);
        StateJson {
            health: state.health.get(node).map_or(-1, |looked| i8::from(looked.good)),
            node_id: *node,
            group_id: state.id.group,
            nodehost: entry.host.clone(),
            nodename: entry.name.clone(),
            nodeport: entry.port,
            nodecluster: "default",
            reported_lsn: lsn(position),
            reported_tli: timeline(position),
            formation_kind: "pgsql",
            candidate_priority: entry.candidate_priority,
            replication_quorum: entry.replication_quorum,
            current_group_state: reported(state, *node),
            assigned_group_state: entry.goal,
        }
    });
    nodes.collect()
}

impl State {
    fn run(&self) -> Result<()> {
        let (_, state) = wait_for(self.formation.read())?;
        if self.json {
            return terminal::print_json(&state_json(&state));
        }
        terminal::out(&state_table(&state));
        for hindrance in hindrances(&state) {
            terminal::note(&hindrance);
        }
        for (node, at) in &state.reports {
            if let (Some(trouble), Some(entry)) = (&at.value.trouble, state.nodes.get(node)) {
                terminal::note(&format!("{} does not get on: {trouble}", entry.value.name));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct EventJson {
    eventid: u64,
    eventtime: String,
    formationid: String,
    nodeid: NodeId,
    groupid: u32,
    nodename: String,
    nodehost: String,
    nodeport: u16,
    reportedstate: NodeState,
    goalstate: NodeState,
    reportedrepstate: &'static str,
    reportedtli: u32,
    reportedlsn: String,
    candidatepriority: u8,
    replicationquorum: bool,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_loss_bytes: Option<u64>,
}

fn time(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M:%S%.3f+00").to_string()
}

impl Events {
    fn run(&self) -> Result<()> {
        let (events, formation) = wait_for(async {
            let (store, state) = self.formation.read().await?;
            let prefix = format!("{}{}/", layout::EVENTS, state.id.formation);
            let snapshot = store.read(&prefix).await.map_err(of_store)?;
            let mut events = Vec::new();
            let skipped = snapshot.entries.len().saturating_sub(self.count);
            for (key, entry) in snapshot.entries.iter().skip(skipped) {
                let event =
                    Event::read(key, entry).map_err(|wrong| service::exit::with_code(STORE, wrong))?;
                let number = key.trim_start_matches(&prefix).parse().unwrap_or(0);
                events.push((number, event));
            }
            Ok((events, state.id.formation))
        })?;
        if self.json {
            let events: Vec<EventJson> = events
                .into_iter()
                .map(|(number, event)| event_json(number, &formation, event))
                .collect();
            return terminal::print_json(&events);
        }
        let rows: Vec<Vec<String>> = events
            .iter()
            .map(|(_, event)| {
                vec![
                    time(event.time_ms),
                    format!("{}/{}", event.group, event.node),
                    event.reported.to_string(),
                    event.goal.to_string(),
                    event.description.clone(),
                ]
            })
            .collect();
        let columns = [
            Column::right("Event Time", 26),
            Column::right("Node", 6),
            Column::right("Current State", 19),
            Column::right("Assigned State", 19),
            Column::left("Comment", 10),
        ];
        terminal::out(&render(&columns, &rows));
        Ok(())
    }
}

fn event_json(number: u64, formation: &str, event: Event) -> EventJson {
    EventJson {
        eventid: number,
        eventtime: time(event.time_ms),
        formationid: formation.to_owned(),
        nodeid: event.node,
        groupid: event.group,
        nodename: event.name,
        nodehost: event.host,
        nodeport: event.port,
        reportedstate: event.reported,
        goalstate: event.goal,
        reportedrepstate: "unknown",
        reportedtli: timeline(event.position),
        reportedlsn: lsn(event.position),
        candidatepriority: event.candidate_priority,
        replicationquorum: event.replication_quorum,
        description: event.description,
        accepted_loss_bytes: event.accepted_loss_bytes,
    }
}

#[derive(Debug, Serialize)]
struct UriJson {
    uri: String,
    name: String,
    r#type: &'static str,
}

impl Uri {
    fn run(&self) -> Result<()> {
        let monitor = self.place.uri()?;
        let mut uris = vec![UriJson {
            uri: monitor,
            name: "monitor".to_owned(),
            r#type: "monitor",
        }];
        if self.formation.as_deref() != Some("monitor") {
            let formation = InFormation {
                place: self.place.clone(),
                formation: self.formation.clone().unwrap_or_else(|| "default".to_owned()),
                group: 0,
            };
            let (_, state) = wait_for(formation.read())?;
            uris.push(formation_uri(&state));
        }
        if self.formation.is_some() {
            let asked = uris.pop().expect("the monitor's at least");
            if self.json {
                return terminal::print_json(&[asked]);
            }
            terminal::out(&format!("{}\n", asked.uri));
            return Ok(());
        }
        if self.json {
            return terminal::print_json(&uris);
        }
        let rows: Vec<Vec<String>> = uris
            .into_iter()
            .map(|uri| vec![uri.r#type.to_owned(), uri.name, uri.uri])
            .collect();
        let columns = [
            Column::right("Type", 12),
            Column::right("Name", 7),
            Column::left("Connection String", 30),
        ];
        terminal::out(&render(&columns, &rows));
        Ok(())
    }
}

fn formation_uri(state: &GroupState) -> UriJson {
    let hosts: Vec<String> = state.nodes.values().map(|at| place(&at.value)).collect();
    let dbname = state
        .formation
        .as_ref()
        .map_or_else(String::new, |at| at.value.dbname.clone());
    UriJson {
        uri: format!(
            "postgres://{}/{dbname}?target_session_attrs=read-write&sslmode=prefer",
            hosts.join(",")
        ),
        name: state.id.formation.clone(),
        r#type: "formation",
    }
}

#[derive(Debug, Serialize)]
struct SettingJson {
    context: &'static str,
    name: String,
    setting: String,
    value: String,
}

fn settings(state: &GroupState) -> Vec<SettingJson> {
    let row = |context, name: &str, setting: &str, value: String| SettingJson {
        context,
        name: name.to_owned(),
        setting: setting.to_owned(),
        value,
    };
    let number = state
        .formation
        .as_ref()
        .map_or(0, |at| at.value.number_sync_standbys);
    let mut rows = vec![row(
        "formation",
        &state.id.formation,
        "number_sync_standbys",
        number.to_string(),
    )];
    let primary = state.record.as_ref().map(|at| at.value.node);
    if let Some(entry) = primary.and_then(|primary| state.nodes.get(&primary)) {
        let names = format!("'{}'", state.group.wanted);
        rows.push(row(
            "primary",
            &entry.value.name,
            "synchronous_standby_names",
            names,
        ));
    }
    for at in state.nodes.values() {
        let entry = &at.value;
        let priority = entry.candidate_priority.to_string();
        rows.push(row("node", &entry.name, "candidate priority", priority));
        let quorum = entry.replication_quorum.to_string();
        rows.push(row("node", &entry.name, "replication quorum", quorum));
    }
    let monitor = state.settings.list().into_iter();
    rows.extend(monitor.map(|(setting, value)| row("monitor", "monitor", setting, value)));
    rows
}

impl Settings {
    fn run(&self) -> Result<()> {
        let (_, state) = wait_for(self.formation.read())?;
        let settings = settings(&state);
        if self.json {
            return terminal::print_json(&settings);
        }
        let rows: Vec<Vec<String>> = settings
            .into_iter()
            .map(|row| vec![row.context.to_owned(), row.name, row.setting, row.value])
            .collect();
        let columns = [
            Column::right("Context", 9),
            Column::right("Name", 7),
            Column::right("Setting", 27),
            Column::left("Value", 30),
        ];
        terminal::out(&render(&columns, &rows));
        Ok(())
    }
}

impl StandbyNames {
    fn run(&self) -> Result<()> {
        let (_, state) = wait_for(self.formation.read())?;
        if state.record.is_none() {
            bail!("there is no primary yet");
        }
        terminal::out(&format!("'{}'\n", state.group.wanted));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{GroupId, Looked, Report};
    use crate::store::{Entry, Snapshot};
    use crate::{Names, Record};

    fn group() -> GroupState {
        let id = GroupId::of("default").expect("a name");
        let mut snapshot = Snapshot::default();
        let mut put = |key: String, value: String| {
            let entry = Entry {
                value: value.into(),
                revision: 1,
                lease: 0,
            };
            snapshot.entries.insert(key, entry);
        };
        for (node, state) in [(1, NodeState::Primary), (2, NodeState::Secondary)] {
            let entry = NodeEntry {
                name: format!("node{node}"),
                host: "localhost".to_owned(),
                port: 7400 + node as u16,
                candidate_priority: 50,
                replication_quorum: true,
                goal: state,
                goal_before: state,
            };
            put(id.node_key(node), entry.encode());
            let report = Report {
                number: 1,
                time_ms: 0,
                state,
                running: true,
                dead: false,
                position: Some(Position {
                    timeline: 1,
                    lsn: 0x300_0148,
                }),
                vote: None,
                names: Names::nobody(),
                system_identifier: None,
                trouble: None,
            };
            put(id.report_key(node), report.encode());
            put(id.health_key(node), Looked { good: true }.encode());
        }
        put(id.record_key(), Record::first(1).encode());
        GroupState::read(&snapshot, &id).expect("ours")
    }

    /// Letter for letter what users of the tool know.
    #[test]
    fn the_table_is_as_it_is_known() {
        let expected = " Name |  Node |      Host:Port |       TLI: LSN |   Connection |      Reported State |      Assigned State
------+-------+----------------+----------------+--------------+---------------------+--------------------
node1 |     1 | localhost:7401 |   1: 0/3000148 |   read-write |             primary |             primary
node2 |     2 | localhost:7402 |   1: 0/3000148 |    read-only |           secondary |           secondary
";
        assert_eq!(state_table(&group()), expected);
    }

    #[test]
    fn looks_that_failed_or_never_were_are_marked() {
        let mut state = group();
        state.health.insert(1, Looked { good: false });
        state.health.remove(&2);
        let text = state_table(&state);
        assert!(
            text.contains("| read-write ! |") && text.contains("|  read-only ? |"),
            "{text}"
        );
    }

    #[test]
    fn connection_strings_name_all_nodes() {
        let mut state = group();
        assert_eq!(
            formation_uri(&state).uri,
            "postgres://localhost:7401,localhost:7402/?target_session_attrs=read-write&sslmode=prefer"
        );
        assert_eq!(
            hindrances(&state),
            ["node2 cannot be promoted: it is secondary and may lack acknowledged rows"]
        );
        let names: Names = "ANY 1 (pgautofailover_standby_2)".parse().expect("ours");
        if let Some(at) = &mut state.record {
            at.value = at.value.settled(&names);
        }
        assert_eq!(hindrances(&state), Vec::<String>::new());
    }
}
