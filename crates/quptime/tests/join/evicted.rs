//! What a node can still do in the moment in which it is removed, if it does what it likes with its key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Message, NodeId};
use peer::{Address, BoxFuture, Handler, Introduction, RequestError, Settings, Tls, Transport};
use pki::pinned::{Fingerprint, Identity};
use quptime::node::network::CLUSTER;
use quptime::node::wire::{encode, kind};
use testkit::{Qu, QuCluster, wait_until};

use super::LIMIT;

/// Says who it is and answers nothing.
struct Silent(String);

impl Handler for Silent {
    fn introduction(&self) -> Bytes {
        Bytes::from(self.0.clone())
    }

    fn admit(&self, _: &Introduction) -> Result<(), String> {
        Ok(())
    }

    fn known(&self, _: &Introduction) -> Result<(), String> {
        Ok(())
    }

    fn messages(&self, _: NodeId, _: Vec<Message>) {}

    fn request(&self, _: NodeId, _: u8, _: Bytes) -> BoxFuture<Result<Bytes, String>> {
        Box::pin(std::future::ready(Err("not now".to_owned())))
    }
}

fn number(node: &Qu) -> NodeId {
    node.id().parse::<quptime::identity::NodeId>().unwrap().number()
}

/// A connection to one node as another one, with that one's key.
fn connect(as_node: &Qu, to: &Qu) -> Transport {
    let identity = Identity::load(&as_node.config_dir().join("keys")).unwrap();
    let mut settings = Settings::new(CLUSTER, number(as_node), None);
    settings.tls = Some(Tls::pinned(identity));
    let transport = Transport::start(settings, Arc::new(Silent(as_node.id())));
    let key = Identity::load(&to.config_dir().join("keys"))
        .unwrap()
        .fingerprint();
    let pin: Option<Fingerprint> = Some(key);
    let address = to.peer_address();
    transport.set_addresses(BTreeMap::from([(number(to), Address { address, pin })]));
    transport
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_removed_node_is_told_and_asked_nothing_from_then_on() {
    let mut cluster = QuCluster::start(3).unwrap();
    cluster.nodes[2].kill9().unwrap();
    let (first, gone) = (&cluster.nodes[0], &cluster.nodes[2]);
    let transport = connect(gone, first);
    let request = |kind: u8| {
        let asked = transport.request(number(first), kind, encode(&()), Duration::from_secs(5));
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(asked))
    };
    let kinds = [kind::PEERS, kind::INVENTORY, kind::STATEMENT, kind::DOCTOR];
    wait_until(LIMIT, "answers as a member", || request(kind::PEERS).is_ok());
    for kind in kinds {
        assert!(request(kind).is_ok(), "{kind}");
    }

    first.run(&["node", "remove", &gone.id()]).unwrap().ok();
    let mut refusals = 0;
    for kind in kinds
        .into_iter()
        .chain([kind::PROPOSE, kind::ENROLL, kind::CHECKS])
    {
        match request(kind) {
            Err(RequestError::Refused(text)) => {
                assert_eq!(text, "not a peer of this cluster; it was removed");
                refusals += 1;
            }
            // The connection is closed some time.
            Err(_) => {}
            Ok(answer) => panic!("{kind} was answered: {answer:?}"),
        }
    }
    assert!(refusals > 0);
}
