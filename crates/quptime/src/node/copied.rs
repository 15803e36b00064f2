//! Whether another process runs as this node already, asked before this one listens or writes anything.
//!
//! Who copies a data directory copies the node's id, its key and its address. A node that is alone has no peer that could find two processes
//! behind one id ([`crate::machine::twins`]), and in a cluster damage is done until one does. So a process that starts calls the addresses at
//! which others reach this node: nobody may answer there yet, least of all with this node's own key. That somebody else answers, or
//! that a call is lost, says nothing (addresses are translated and shared), and keeps nobody from starting.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use consensus::Message;
use peer::handler::{BoxFuture, Handler, Introduction};
use peer::settings::Address;
use peer::{Settings, Tls, Transport};
use tokio::task::JoinSet;

use super::network::CLUSTER;
use super::run::Node;
use crate::document::Document;

/// How long a start may be held up by addresses that swallow calls.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Calls this node wherever it may be.
///
/// # Errors
/// It answers.
pub fn refuse_second(node: &Node, document: Option<&Document>) -> anyhow::Result<()> {
    let me = node.settings.node_id;
    let listed = document.and_then(|document| document.peer(me));
    // The settings may have been changed in the copy, or by the environment.
    let mut addresses = BTreeSet::from([node.settings.advertise.clone()]);
    addresses.extend(listed.map(|peer| peer.advertise.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start")?;
    let found = runtime.block_on(Box::pin(call(node, addresses)));
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
    match found {
        None => Ok(()),
        Some(address) => anyhow::bail!(
            "another process runs as node {me} already and answers at {address} with its key; this data directory, or that one, is a copy: \
             every node needs its own (qu init or qu enroll join), or stop the other one first"
        ),
    }
}

/// The address at which this node answers.
async fn call(node: &Node, addresses: BTreeSet<String>) -> Option<String> {
    let mut settings = Settings::new(CLUSTER, node.settings.node_id.number(), None);
    settings.tls = Some(Tls::pinned(node.identity.clone()));
    let transport = Transport::start(settings, Arc::new(Caller));
    let mut calls = JoinSet::new();
    for address in addresses {
        let (transport, pin) = (transport.clone(), node.identity.fingerprint());
        calls.spawn(async move {
            let at = Address {
                address: address.clone(),
                pin: Some(pin),
            };
            let answer = transport.ask(at, CALL_TIMEOUT).await;
            answer.is_ok_and(|who| who.key == Some(pin)).then_some(address)
        });
    }
    calls.join_all().await.into_iter().flatten().next()
}

/// Answers nobody: this process only calls.
#[derive(Debug)]
struct Caller;

impl Handler for Caller {
    fn introduction(&self) -> Bytes {
        Bytes::new()
    }

    fn admit(&self, _: &Introduction) -> Result<(), String> {
        Err("this node is starting".to_owned())
    }

    fn messages(&self, _: consensus::NodeId, _: Vec<Message>) {}

    fn request(&self, _: consensus::NodeId, _: u8, _: Bytes) -> BoxFuture<Result<Bytes, String>> {
        Box::pin(std::future::ready(Err("this node is starting".to_owned())))
    }
}
