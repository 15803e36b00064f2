//! `gossip`: the nodes that the one asked knows of, members or not.

use std::time::Duration;

use service::clock::SystemClock;
use terminal::{Table, human_duration};

use super::cli::Context;
use super::failure::Result;
use crate::wire::chainfire::v1::{GossipNode, GossipRequest};

pub(super) async fn gossip(context: &mut Context) -> Result<()> {
    let session = context.open().await?;
    let reply = session
        .ask(session.own_cluster().gossip(GossipRequest {}))
        .await?;
    if context.printer.is_json() {
        return context.printer.reply(&reply, |_| {});
    }
    context
        .printer
        .table(&table(&reply.nodes, SystemClock::shared().unix_ms()))
}

fn table(nodes: &[GossipNode], now_unix_ms: u64) -> Table {
    let mut table = Table::new([
        "ID",
        "NAME",
        "STATE",
        "FOR",
        "MEMBER",
        "ROLE",
        "VERSION",
        "GOSSIP",
        "CLIENT_URL",
    ]);
    for node in nodes {
        let seconds = now_unix_ms.saturating_sub(node.since_unix_ms) / 1000;
        table.row([
            node.id.to_string(),
            node.name.clone(),
            node.state.clone(),
            human_duration(Duration::from_secs(seconds)),
            if node.member { "yes" } else { "no" }.to_owned(),
            node.role.clone(),
            node.version.clone(),
            node.gossip_address.clone(),
            node.client_url.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_shown_with_how_long_they_have_been_so() {
        let node = GossipNode {
            id: 2,
            name: "chainfire-node-2".to_owned(),
            role: "worker".to_owned(),
            state: "down".to_owned(),
            since_unix_ms: 1_000_000,
            version: "0.1.0".to_owned(),
            gossip_address: "node2:2381".to_owned(),
            client_url: "http://node2:2379".to_owned(),
            peer_address: "node2:2380".to_owned(),
            member: true,
        };
        let text = table(&[node], 1_192_000).render(None);
        let words: Vec<&str> = text
            .lines()
            .last()
            .unwrap()
            .split("  ")
            .filter(|word| !word.is_empty())
            .collect();
        assert_eq!(
            words.iter().map(|word| word.trim()).collect::<Vec<_>>(),
            [
                "2",
                "chainfire-node-2",
                "down",
                "3m12s",
                "yes",
                "worker",
                "0.1.0",
                "node2:2381",
                "http://node2:2379"
            ]
        );
    }
}
