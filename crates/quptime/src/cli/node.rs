//! `qu node`: nodes of the cluster.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Subcommand;

use super::{client, status};
use crate::api::{Answer, Request};
use crate::document::{Change, Document, Entry, Peer};
use crate::identity::NodeId;
use crate::node::propose::LOST;

/// The exit code of a change that was refused for lack of quorum.
const NO_QUORUM: u8 = 4;

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Invite a node that was made with the same secret.
    Add {
        /// Where it is: host:port.
        address: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// Take it even if it has checks, alerts or peers of its own; they are lost.
        #[arg(long)]
        discard_remote_config: bool,
    },
    /// List the nodes.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove a node, also one that is dead.
    Remove {
        /// Which: its id or the beginning of that, or its address, as qu status shows them.
        node_id: String,
        /// Do not ask whether the node is meant that part of an id, or an address, stands for.
        #[arg(short, long)]
        yes: bool,
        /// Also if the rest has no quorum then.
        #[arg(long)]
        force: bool,
    },
    /// Change what is known of a node.
    Edit {
        /// Which: its id or the beginning of that, or its address, as qu status shows them.
        node_id: String,
        /// Where the others reach it.
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,
        /// Where it stands.
        #[arg(long)]
        location: Option<String>,
    },
}

impl NodeCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            NodeCommand::Add {
                address,
                yes,
                discard_remote_config,
            } => add(&address, yes, discard_remote_config),
            NodeCommand::List { json } => {
                let status = status::status(false)?;
                if json {
                    super::json::print(&status.peers)?;
                } else {
                    terminal::out(&status::head(&status));
                }
                Ok(())
            }
            NodeCommand::Remove { node_id, yes, force } => remove(&node_id, yes, force),
            NodeCommand::Edit {
                node_id,
                address,
                location,
            } => edit(&node_id, address, location),
        }
    }
}

fn add(address: &str, yes: bool, discard: bool) -> anyhow::Result<()> {
    crate::document::review::address(address).map_err(anyhow::Error::msg)?;
    let met = client::ask(&Request::Meet {
        address: address.to_owned(),
    })?;
    let Answer::Met { node, fingerprint } = met else {
        anyhow::bail!("the daemon answers something else; is it another version?");
    };
    terminal::out(&format!("node id      {node}\nfingerprint  {fingerprint}\n"));
    if !yes {
        confirm("Add this node to the cluster? [y/N] ", "not added")?;
    }
    let invited = client::ask(&Request::Invite {
        address: address.to_owned(),
        fingerprint,
        discard,
    })?;
    let Answer::Invited {
        node,
        version,
        joined,
    } = invited
    else {
        anyhow::bail!("the daemon answers something else; is it another version?");
    };
    terminal::out("secret proof succeeded\n");
    terminal::out(&format!("node {node} added (cluster version now {version})\n"));
    if !joined {
        terminal::note("the node does not answer as a member yet; qu node list shows when it is live");
    }
    Ok(())
}

/// Asks at the terminal, or reads the answer of a script; the end of the input is a no.
///
/// # Errors
/// The answer is no: `otherwise`, and how not to be asked if nobody was there to answer.
pub(super) fn confirm(question: &str, otherwise: &'static str) -> anyhow::Result<()> {
    let mut stderr = std::io::stderr();
    stderr.write_all(question.as_bytes())?;
    stderr.flush()?;
    let mut answer = String::new();
    let stdin = std::io::stdin();
    let read = stdin.lock().read_line(&mut answer)?;
    if !stdin.is_terminal() || read == 0 {
        stderr.write_all(b"\n")?;
    }
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    anyhow::ensure!(
        read > 0 || stdin.is_terminal(),
        "{otherwise}: there is no terminal to answer at; say --yes to go on without being asked"
    );
    anyhow::bail!(otherwise)
}

fn remove(node: &str, yes: bool, force: bool) -> anyhow::Result<()> {
    let document = client::document()?;
    let (node_id, peer) = known(&document, node)?;
    // Whoever writes the whole id, as runbooks do, means that node.
    if !yes && !node.eq_ignore_ascii_case(&node_id.to_string()) {
        anyhow::ensure!(
            std::io::stdin().is_terminal(),
            "not removed: there is no terminal to answer at; write the whole id, {node_id}, or say --yes"
        );
        let question = format!("Remove node {node_id} ({})? [y/N] ", peer.advertise);
        confirm(&question, "not removed")?;
    }
    let need = (document.peers.len() - 1) / 2 + 1;
    let change = Change::remove(Entry::Peer(peer.clone()));
    let done = format!("node {node_id} removed, quorum is now {need}");
    client::configure_with(vec![change], "node remove", &done, force).map_err(|error| {
        match service::exit::code_of(&error) {
            code @ NO_QUORUM => service::exit::with_code(code, anyhow::anyhow!("{error:#}; {LOST}")),
            _ => error,
        }
    })
}

fn known<'a>(document: &'a Document, node: &str) -> anyhow::Result<(NodeId, &'a Peer)> {
    let id = meant(document, node)?;
    let peer = document
        .peer(id)
        .ok_or_else(|| anyhow::anyhow!("there is no node {id}; see qu node list"))?;
    Ok((id, peer))
}

fn edit(node: &str, address: Option<String>, location: Option<String>) -> anyhow::Result<()> {
    let document = client::document()?;
    let (node_id, before) = known(&document, node)?;
    let mut after = before.clone();
    if let Some(address) = address {
        crate::document::review::advertise(&address)
            .map_err(|error| anyhow::anyhow!("--address: {error}"))?;
        after.advertise = address;
    }
    if let Some(location) = location {
        after.location = Some(location).filter(|text| !text.is_empty());
    }
    anyhow::ensure!(after != *before, "nothing to change; see qu node edit --help");
    let change = Change::edit(Entry::Peer(before.clone()), Entry::Peer(after));
    client::configure(vec![change], "node edit", &format!("node {node_id} changed"))
}

/// Letters of an id that say which node is meant: with fewer a slip of the finger names one.
const ID_MIN: usize = 4;

/// The node that is meant: by its id or the beginning of it that no other has, by its address, or by the host in that.
///
/// # Errors
/// There is none, or there are several.
pub(super) fn meant(document: &Document, text: &str) -> anyhow::Result<NodeId> {
    let is_called = |peer: &&Peer| {
        let host = peer.advertise.rsplit_once(':').map(|(host, _)| host);
        peer.advertise == text || host == Some(text)
    };
    let begins =
        |peer: &&Peer| !text.is_empty() && peer.node_id.to_string().starts_with(&text.to_ascii_lowercase());
    let mut found: Vec<&Peer> = document.peers.iter().filter(is_called).collect();
    let by_id = found.is_empty();
    if by_id {
        found = document.peers.iter().filter(begins).collect();
    }
    match found[..] {
        [_] if by_id && text.len() < ID_MIN => anyhow::bail!(
            "\"{}\" is too little of an id: write at least {ID_MIN} letters of it, or the address, see qu node list",
            terminal::brief(text)
        ),
        [peer] => Ok(peer.node_id),
        [] => anyhow::bail!(
            "there is no node \"{}\"; write its id, the beginning of it, or its address, see qu node list",
            terminal::brief(text)
        ),
        _ => {
            let each = found
                .iter()
                .map(|peer| format!("{} ({})", peer.node_id, peer.advertise));
            let each = each.collect::<Vec<_>>().join(", ");
            anyhow::bail!(
                "several nodes are called \"{}\": {each}; write more of the id",
                terminal::brief(text)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_meant_by_id_address_host_or_the_beginning_of_its_id() {
        let ids = [
            "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091",
            "1c99aa41-0c1d-4e2f-8a3b-4c5d6e7f8091",
            "7f3a5b9e-0c1d-4e2f-8a3b-4c5d6e7f8091",
        ];
        let mut text = "version: 1\npeers:\n".to_owned();
        for (id, host) in ids.iter().zip(["alpha", "bravo", "[::1]"]) {
            text.extend(["  - node_id: ", id, "\n    advertise: \"", host, ":9901\"\n"]);
        }
        let document = crate::document::parse(&text).unwrap();
        for (text, position) in [
            (ids[1], 1),
            ("1C20", 0),
            ("7f3a5", 2),
            ("bravo", 1),
            ("bravo:9901", 1),
            ("[::1]", 2),
        ] {
            assert_eq!(
                meant(&document, text).unwrap().to_string(),
                ids[position],
                "{text}"
            );
        }
        for (text, told) in [
            ("1c", "several nodes are called \"1c\""),
            ("7", "\"7\" is too little of an id: write at least 4"),
            ("1c2", "\"1c2\" is too little of an id"),
            ("", "there is no node"),
            ("charlie", "there is no node"),
            ("alph", "there is no node"),
        ] {
            let error = meant(&document, text).unwrap_err().to_string();
            assert!(error.starts_with(told), "{text}: {error}");
        }
    }
}
