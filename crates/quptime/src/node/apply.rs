//! What a node becomes that a cluster has taken: it gives up the group of one that it may have made for itself, and waits as a node
//! without memory until the group lists it. The same for a node that was invited and for a host that came with a token.

use crate::document::{Document, Peer, integrity, render};
use crate::home::{Home, write};

/// Promises to wait for the group of these peers; [`super::enter::keep_promise`] does the rest when the next run begins. It is on disk
/// before this returns. Yields how many nodes the cluster has then.
///
/// # Errors
/// The peers do not go together, or the disk.
pub fn promise(home: &Home, me: Peer, mut peers: Vec<Peer>) -> Result<usize, String> {
    peers.retain(|peer| peer.node_id != me.node_id);
    peers.push(me);
    // Version 0: a placeholder that says whose group to look for, and is never proposed.
    let joined = Document {
        peers,
        ..Document::default()
    };
    integrity::check(&joined).map_err(|fault| fault.to_string())?;
    write(&home.joining(), render(&joined).as_bytes()).map_err(|error| error.to_string())?;
    Ok(joined.peers.len())
}
