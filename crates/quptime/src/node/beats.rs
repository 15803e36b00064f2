//! Being heard: each node sends every peer a beat once in a heartbeat and hears the answer. Who comes and goes is told, and so is a peer
//! that has a newer configuration which does not arrive here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use super::wire::{Beat, Peers, decode, encode, kind};
use crate::identity::NodeId;
use crate::machine::Millis;

/// A peer that does not answer within this is tried again with the next beat.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A newer configuration that has not arrived for so long may come from a node that this one does not know yet: whoever has it is asked who
/// its peers are.
const INTRODUCE_AFTER_MS: Millis = 1000;
/// A newer configuration that has not arrived for so long is a failure that is told.
const BEHIND_MS: Millis = 5000;
/// How often a failure to catch up is told.
const BEHIND_AGAIN_MS: Millis = 30_000;

/// Sends beats until the run ends.
pub async fn run(shared: Arc<Shared>) {
    let mut behind = Behind::default();
    loop {
        let document = shared.document();
        let beat = encode(&shared.beat());
        for peer in document.peers.iter().filter(|peer| peer.node_id != shared.me) {
            tokio::spawn(one(shared.clone(), peer.node_id, beat.clone()));
        }
        let peers: Vec<NodeId> = document.peers.iter().map(|peer| peer.node_id).collect();
        let changes = shared
            .ears
            .lock()
            .changes(&peers, shared.now(), shared.dead_after());
        for (node, live) in changes {
            if live {
                tracing::info!(target: "quptime", node = %node, "peer live");
            } else {
                tracing::warn!(target: "quptime", node = %node, "peer dead");
            }
        }
        behind.look(&shared);
        let wait = Duration::from(document.settings.beat());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

async fn one(shared: Arc<Shared>, to: NodeId, beat: bytes::Bytes) {
    let Some(transport) = shared.transport.get() else {
        return;
    };
    let asked = shared.now();
    // Whoever is not there is not heard; that is all there is to say.
    let Ok(answer) = transport
        .request(to.number(), kind::BEAT, beat, ANSWER_TIMEOUT)
        .await
    else {
        return;
    };
    if let Ok(beat) = decode::<Beat>(&answer)
        && beat.node == to
    {
        shared.hear_answer(asked, beat);
    }
}

/// Has a peer say who the others are. A node that joined, or was away, knows the peers of then; the master of today may be none of them, and
/// neither could begin with the other.
async fn be_introduced(shared: Arc<Shared>, by: NodeId) {
    let Some(transport) = shared.transport.get() else {
        return;
    };
    let asked = transport
        .request(by.number(), kind::PEERS, encode(&()), ANSWER_TIMEOUT)
        .await;
    if let Ok(answer) = asked
        && let Ok(peers) = decode::<Peers>(&answer)
    {
        shared.introduce(peers);
    }
}

/// Tells when this node does not catch up although somebody could help.
#[derive(Default)]
struct Behind {
    since: BTreeMap<NodeId, Millis>,
    told: BTreeMap<NodeId, Millis>,
}

impl Behind {
    fn look(&mut self, shared: &Arc<Shared>) {
        let now = shared.now();
        let Some(view) = shared.view() else { return };
        let own = view.state.document.version;
        let group = shared.group.get().copied().unwrap_or(0);
        let document = shared.document();
        for peer in &document.peers {
            let newer = shared.ears.lock().of(peer.node_id).is_some_and(|heard| {
                let fresh = now.saturating_sub(heard.last) < 2 * shared.dead_after();
                fresh && heard.beat.group == group && heard.beat.version > own
            });
            if !newer {
                self.since.remove(&peer.node_id);
                continue;
            }
            let since = *self.since.entry(peer.node_id).or_insert(now);
            if now - since >= INTRODUCE_AFTER_MS {
                tokio::spawn(be_introduced(shared.clone(), peer.node_id));
            }
            let quiet = self
                .told
                .get(&peer.node_id)
                .is_none_or(|told| now - told >= BEHIND_AGAIN_MS);
            if now - since >= BEHIND_MS && quiet {
                self.told.insert(peer.node_id, now);
                tracing::error!(
                    target: "quptime",
                    "replicate: pull from: {} ({}): its newer configuration does not arrive here; own version {own}",
                    peer.node_id, peer.advertise
                );
            }
        }
    }
}
