//! `status`, `member-list` and `leader-transfer`: what the cluster says of itself, and who leads it.
//!
//! Each member is asked for itself; one that does not answer is shown as the others see it and never makes the command fail.

use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use serde_json::{Value, json};
use terminal::Table;

use super::cli::Context;
use super::connection::{Session, Settings};
use super::failure::{Failure, Result};
use super::{argument, json};
use crate::wire::chainfire::v1::{self, MemberStatus};
use crate::wire::etcdserverpb::{
    Member, MemberListRequest, MemberListResponse, MoveLeaderRequest, StatusRequest, StatusResponse,
};

/// Longest wait for each member when all are asked.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Status arguments.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Ask every member, one row for each
    #[arg(long)]
    all: bool,
}

/// List arguments.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Print what this node knows, without asking the leader
    #[arg(long)]
    serializable: bool,
}

/// Transfer arguments.
#[derive(Debug, Args)]
pub(super) struct Transfer {
    /// Number of the node that shall lead
    #[arg(long, alias = "node-id", value_name = "N", value_parser = argument::member_id)]
    to: u64,
}

/// What a node said of itself.
struct Report {
    endpoint: String,
    name: String,
    status: StatusResponse,
}

impl Report {
    fn cluster_id(&self) -> u64 {
        self.status.header.as_ref().map_or(0, |header| header.cluster_id)
    }

    fn node_id(&self) -> u64 {
        self.status.header.as_ref().map_or(0, |header| header.member_id)
    }

    fn revision(&self) -> i64 {
        self.status.header.as_ref().map_or(0, |header| header.revision)
    }

    fn role(&self) -> &'static str {
        match &self.status {
            status if status.is_learner => "learner",
            status if status.leader == self.node_id() && status.leader != 0 => "leader",
            _ => "follower",
        }
    }

    fn leader(&self) -> String {
        if self.status.leader == 0 {
            "none".to_owned()
        } else {
            self.status.leader.to_string()
        }
    }

    /// Alarms stand among the errors of the reply, as `memberID:1 alarm:NOSPACE`.
    fn alarms(&self) -> String {
        let alarms = self
            .status
            .errors
            .iter()
            .filter_map(|text| Some(text.split_once(" alarm:")?.1.trim()));
        some_or_none(alarms, ",")
    }

    fn errors(&self) -> String {
        let errors = self.status.errors.iter().filter(|text| !text.contains(" alarm:"));
        some_or_none(errors.map(|text| text.trim()), "; ")
    }

    /// The lines of `status`, in their fixed order.
    fn facts(&self) -> Vec<(&'static str, Value)> {
        let status = &self.status;
        vec![
            ("endpoint", json!(self.endpoint)),
            ("cluster_id", json!(self.cluster_id())),
            ("node_id", json!(self.node_id())),
            ("name", json!(self.name)),
            ("version", json!(status.version)),
            ("role", json!(self.role())),
            ("leader", json!(self.leader())),
            ("raft_term", json!(status.raft_term)),
            ("raft_index", json!(status.raft_index)),
            ("raft_applied_index", json!(status.raft_applied_index)),
            ("revision", json!(self.revision())),
            ("db_size", json!(status.db_size)),
            ("db_size_in_use", json!(status.db_size_in_use)),
            ("quota", json!(status.db_size_quota)),
            ("learner", json!(status.is_learner)),
            ("alarms", json!(self.alarms())),
            ("errors", json!(self.errors())),
        ]
    }
}

fn some_or_none<'a>(texts: impl Iterator<Item = &'a str>, between: &str) -> String {
    let texts: Vec<_> = texts.collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(between)
    }
}

pub(super) async fn ask_status(session: &Session) -> Result<StatusResponse> {
    session.ask(session.maintenance().status(StatusRequest {})).await
}

/// The members as this node knows them, or as the leader does.
pub(super) async fn members(session: &Session, linearizable: bool) -> Result<MemberListResponse> {
    session
        .ask(session.cluster().member_list(MemberListRequest { linearizable }))
        .await
}

pub(super) async fn status(Status { all }: Status, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let status = ask_status(&session).await?;
    let id = status.header.as_ref().map_or(0, |header| header.member_id);
    if all {
        return status_of_all(&session, id, context).await;
    }
    if context.printer.is_json() {
        return context.printer.reply(&status, |_| {});
    }
    // The node has answered; that it may not tell its name to this user does not take that back.
    let name = members(&session, false)
        .await
        .ok()
        .and_then(|reply| reply.members.into_iter().find(|member| member.id == id));
    let name = name.map_or_else(|| "unknown".to_owned(), |member| member.name);
    let report = Report {
        endpoint: session.endpoint.clone(),
        name,
        status,
    };
    context.printer.facts(&report.facts())
}

/// A member, and what it said when asked; the reason if it did not answer; nothing if it never started.
struct Probed {
    member: Member,
    answer: Option<Result<Report>>,
    /// As the node asked first sees it; an etcd does not say.
    seen: Option<MemberStatus>,
}

impl Probed {
    fn report(&self) -> Option<&Report> {
        self.answer.as_ref().and_then(|answer| answer.as_ref().ok())
    }

    fn status(&self) -> &'static str {
        let seen = self.seen.as_ref().map(|seen| seen.state.as_str());
        match &self.answer {
            // It answers, and says of itself that it may not be relied on yet.
            _ if seen == Some("recovering") => "recovering",
            None => "unstarted",
            // A refusal is an answer, too; and some members are reached by other members only.
            Some(Err(Failure::Unreachable(_) | Failure::NotConnected(_))) if seen != Some("started") => {
                "unreachable"
            }
            Some(_) => "started",
        }
    }

    fn role(&self, leader: u64) -> &'static str {
        match &self.member {
            member if member.is_learner => "learner",
            member if member.id == leader => "leader",
            _ => "voter",
        }
    }
}

/// Asks every member at once. The one already connected to is asked where we found it: its own URL may not be meant for us.
async fn probe(session: &Session, own_id: u64, members: Vec<Member>, settings: &Settings) -> Vec<Probed> {
    let settings = Settings {
        timeout: settings.timeout.min(PROBE_TIMEOUT),
        ..settings.clone()
    };
    let mut own = session.own_cluster();
    let seen = session.ask(own.status(v1::StatusRequest {}));
    let asked = members.into_iter().map(|member| async {
        let answer = if member.id == own_id {
            Some(report(session.clone(), &member).await)
        } else {
            match member.client_ur_ls.first() {
                Some(url) => match Session::open_at(url, &settings).await {
                    Ok(session) => Some(report(session, &member).await),
                    Err(failure) => Some(Err(failure)),
                },
                None => None,
            }
        };
        Probed {
            member,
            answer,
            seen: None,
        }
    });
    let (seen, mut probed) = futures::join!(seen, join_all(asked));
    let mut seen = seen.map(|reply| reply.members).unwrap_or_default();
    for member in &mut probed {
        let position = seen.iter().position(|seen| seen.id == member.member.id);
        member.seen = position.map(|position| seen.swap_remove(position));
    }
    probed
}

async fn report(session: Session, member: &Member) -> Result<Report> {
    let status = ask_status(&session).await?;
    Ok(Report {
        endpoint: session.endpoint,
        name: member.name.clone(),
        status,
    })
}

/// Who leads, and how far its log has come, as the members say.
fn leader_of(probed: &[Probed]) -> (u64, Option<u64>) {
    let reports = || probed.iter().filter_map(Probed::report);
    // Of two who claim to know, the one of the later term does.
    let newest = reports()
        .filter(|report| report.status.leader != 0)
        .max_by_key(|report| report.status.raft_term);
    let leader = newest.map_or(0, |report| report.status.leader);
    let index = reports()
        .find(|report| report.node_id() == leader)
        .map(|report| report.status.raft_index);
    (leader, index)
}

fn lag(probed: &Probed, leader_index: Option<u64>) -> String {
    match (probed.report(), leader_index) {
        (Some(report), Some(index)) => index.saturating_sub(report.status.raft_index).to_string(),
        _ => match &probed.seen {
            Some(seen) if seen.state == "started" && seen.lag >= 0 => seen.lag.to_string(),
            _ => "-".to_owned(),
        },
    }
}

async fn status_of_all(session: &Session, own_id: u64, context: &mut Context) -> Result<()> {
    let members = members(session, false).await?.members;
    let probed = probe(session, own_id, members, &context.settings).await;
    if context.printer.is_json() {
        let all: Vec<String> = probed.iter().map(status_json).collect();
        return context
            .printer
            .text(|text| text.line(format_args!("[{}]", all.join(","))));
    }
    let (_, leader_index) = leader_of(&probed);
    let titles = [
        "ID",
        "NAME",
        "ENDPOINT",
        "ROLE",
        "LEADER",
        "RAFT_TERM",
        "RAFT_INDEX",
        "LAG",
        "REVISION",
        "DB_SIZE",
    ];
    let mut table = Table::new(titles).numeric(&titles[5..]);
    for member in &probed {
        let id = member.member.id.to_string();
        let lag = lag(member, leader_index);
        if let Some(report) = member.report() {
            table.row([
                id,
                report.name.clone(),
                report.endpoint.clone(),
                report.role().to_owned(),
                report.leader(),
                report.status.raft_term.to_string(),
                report.status.raft_index.to_string(),
                lag,
                report.revision().to_string(),
                report.status.db_size.to_string(),
            ])
        } else {
            let endpoint = member.member.client_ur_ls.first().cloned().unwrap_or_default();
            table.row([
                id,
                member.member.name.clone(),
                endpoint,
                member.status().to_owned(),
            ])
        };
    }
    context.printer.table(&table)
}

fn status_json(probed: &Probed) -> String {
    let id = probed.member.id.to_string();
    match &probed.answer {
        Some(Ok(report)) => {
            // The reply is JSON text already; its order of fields is kept.
            format!(
                r#"{{"id":{},"endpoint":{},"status":{}}}"#,
                json!(id),
                json!(report.endpoint),
                json::text(&report.status)
            )
        }
        Some(Err(failure)) => json!({ "id": id, "error": failure.text() }).to_string(),
        None => json!({ "id": id, "error": "unstarted" }).to_string(),
    }
}

pub(super) async fn list(List { serializable }: List, context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = members(&session, !serializable).await?;
    if context.printer.is_json() {
        return context.printer.reply(&reply, |_| {});
    }
    let own_id = reply.header.as_ref().map_or(0, |header| header.member_id);
    let probed = probe(&session, own_id, reply.members, &context.settings).await;
    let (leader, leader_index) = leader_of(&probed);
    let mut table =
        Table::new(["ID", "NAME", "STATUS", "ROLE", "PEER_URL", "CLIENT_URL", "LAG"]).numeric(&["LAG"]);
    for member in &probed {
        let peers: Vec<&str> = member.member.peer_ur_ls.iter().map(|url| bare(url)).collect();
        table.row([
            member.member.id.to_string(),
            member.member.name.clone(),
            member.status().to_owned(),
            member.role(leader).to_owned(),
            peers.join(","),
            member.member.client_ur_ls.join(","),
            lag(member, leader_index),
        ]);
    }
    context.printer.table(&table)
}

/// `host:port` of a URL.
pub(super) fn bare(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

pub(super) async fn transfer(Transfer { to }: Transfer, context: &mut Context) -> Result<()> {
    let session = leader_session(context.open().await?, &context.settings).await?;
    let from = ask_status(&session)
        .await?
        .header
        .map_or(0, |header| header.member_id);
    let reply = session
        .ask(
            session
                .maintenance()
                .move_leader(MoveLeaderRequest { target_id: to }),
        )
        .await?;
    context.printer.reply(&reply, |text| {
        text.line(format_args!(
            "Leadership transferred from node {from} to node {to}"
        ));
    })
}

/// A session with the leader: only it can hand leadership over.
async fn leader_session(session: Session, settings: &Settings) -> Result<Session> {
    let status = ask_status(&session).await?;
    let own_id = status.header.as_ref().map_or(0, |header| header.member_id);
    if status.leader == 0 {
        return Err(Failure::refused("no leader elected"));
    }
    if status.leader == own_id {
        return Ok(session);
    }
    let members = members(&session, false).await?.members;
    let leader = members.iter().find(|member| member.id == status.leader);
    match leader.and_then(|member| member.client_ur_ls.first()) {
        Some(url) => Session::open_at(url, settings).await,
        None => Err(Failure::refused(format!(
            "leader {} has no client url",
            status.leader
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::etcdserverpb::ResponseHeader;

    fn report(leader: u64) -> Report {
        let header = ResponseHeader {
            cluster_id: 1,
            member_id: 1,
            revision: 981,
            raft_term: 3,
        };
        let status = StatusResponse {
            header: Some(header),
            version: "0.1.0".to_owned(),
            db_size: 25_165_824,
            leader,
            raft_index: 12345,
            raft_term: 3,
            raft_applied_index: 12345,
            db_size_in_use: 20_971_520,
            db_size_quota: 8_589_934_592,
            ..Default::default()
        };
        Report {
            endpoint: "http://node1:2379".to_owned(),
            name: "chainfire-node-1".to_owned(),
            status,
        }
    }

    fn lines(report: &Report) -> String {
        let plain = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), ToOwned::to_owned)
        };
        report
            .facts()
            .iter()
            .flat_map(|(name, value)| [(*name).to_owned(), ": ".to_owned(), plain(value), "\n".to_owned()])
            .collect()
    }

    #[test]
    fn status_has_its_lines_in_their_order() {
        assert_eq!(
            lines(&report(1)),
            "endpoint: http://node1:2379\ncluster_id: 1\nnode_id: 1\nname: chainfire-node-1\nversion: 0.1.0\nrole: leader\n\
             leader: 1\nraft_term: 3\nraft_index: 12345\nraft_applied_index: 12345\nrevision: 981\ndb_size: 25165824\n\
             db_size_in_use: 20971520\nquota: 8589934592\nlearner: false\nalarms: none\nerrors: none\n"
        );
    }

    #[test]
    fn a_node_without_a_leader_says_so() {
        let mut report = report(0);
        report.status.errors = vec![
            "etcdserver: no leader".to_owned(),
            "memberID:1 alarm:NOSPACE ".to_owned(),
        ];
        let text = lines(&report);
        assert!(text.contains("role: follower\nleader: none\n"), "{text}");
        assert!(
            text.ends_with("alarms: NOSPACE\nerrors: etcdserver: no leader\n"),
            "{text}"
        );
    }

    #[test]
    fn lag_is_counted_from_the_leader() {
        let probed = |id, index, leader| {
            let mut answer = report(leader);
            answer.status.header = Some(ResponseHeader {
                member_id: id,
                ..Default::default()
            });
            answer.status.raft_index = index;
            Probed {
                member: Member {
                    id,
                    ..Default::default()
                },
                answer: Some(Ok(answer)),
                seen: None,
            }
        };
        let silent = Probed {
            member: Member {
                id: 3,
                ..Default::default()
            },
            answer: Some(Err(Failure::unreachable("connection refused"))),
            seen: None,
        };
        let all = [probed(1, 100, 2), probed(2, 130, 2), silent];
        let (leader, index) = leader_of(&all);
        assert_eq!((leader, index), (2, Some(130)));
        assert_eq!(all.each_ref().map(|member| lag(member, index)), ["30", "0", "-"]);
        assert_eq!(
            all.each_ref().map(|member| member.role(leader)),
            ["voter", "leader", "voter"]
        );
        assert_eq!(
            all.each_ref().map(Probed::status),
            ["started", "started", "unreachable"]
        );
    }

    #[test]
    fn a_member_out_of_reach_is_shown_as_the_others_see_it() {
        let probed = |answer: Option<Result<Report>>, state: &str| Probed {
            member: Member::default(),
            answer,
            seen: Some(MemberStatus {
                state: state.to_owned(),
                lag: 7,
                ..MemberStatus::default()
            }),
        };
        let silent = || Some(Err(Failure::unreachable("connection refused")));
        assert_eq!(probed(silent(), "started").status(), "started");
        assert_eq!(probed(silent(), "unreachable").status(), "unreachable");
        assert_eq!(probed(Some(Ok(report(1))), "unreachable").status(), "started");
        assert_eq!(probed(Some(Ok(report(1))), "recovering").status(), "recovering");
        assert_eq!(probed(None, "unstarted").status(), "unstarted");
        assert_eq!(lag(&probed(silent(), "started"), None), "7");
        assert_eq!(lag(&probed(silent(), "unreachable"), None), "-");
    }
}
