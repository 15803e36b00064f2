//! What gossip is told at its start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pki::{ClientAuth, Paths, Reloadable};
use service::clock::{SharedClock, SystemClock};
use tokio::net::{TcpListener, UdpSocket};

/// Keeps a client of another protocol from being taken for a node by mistake, or by a third party.
const ALPN: &[&[u8]] = &[b"mainstay-gossip"];

/// Everything that [`crate::Gossip::start`] needs.
#[derive(Debug)]
pub struct Settings {
    /// Messages of other clusters are ignored.
    pub cluster: u64,
    /// Where nodes come in.
    pub listener: TcpListener,
    /// On the same port. Without it everything goes over TCP; with TLS it is not used.
    pub udp: Option<UdpSocket>,
    /// Without it everything is plain text.
    pub tls: Option<Tls>,
    /// Addresses to greet, `host:port`; also [`crate::Gossip::set_seeds`].
    pub seeds: Vec<String>,
    /// How fast.
    pub timing: Timing,
    /// Nodes that may be known; more are ignored.
    pub nodes_max: usize,
    /// For times that are shown, generations and intervals.
    pub clock: SharedClock,
}

impl Settings {
    /// TCP alone, plain text, nobody to greet.
    pub fn new(cluster: u64, listener: TcpListener) -> Settings {
        Settings {
            cluster,
            listener,
            udp: None,
            tls: None,
            seeds: Vec::new(),
            timing: Timing::default(),
            nodes_max: 1024,
            clock: SystemClock::shared(),
        }
    }
}

/// How often what happens. The same on all nodes. With the defaults a killed node is down for everybody after some ten seconds: up to
/// twice as many probes as there are nodes, and then the suspicion.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Each node probes one other in this time.
    pub probe_every: Duration,
    /// After this others are asked to probe it too; less than half of the above.
    pub probe_timeout: Duration,
    /// How long a node that did not answer may speak up before it counts as down.
    pub suspect_for: Duration,
    /// How often news is passed on beside what probes carry.
    pub gossip_every: Duration,
    /// How often seeds and nodes that are down are greeted.
    pub greet_every: Duration,
    /// The same while nobody is known.
    pub greet_alone_every: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            probe_every: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(400),
            suspect_for: Duration::from_secs(5),
            gossip_every: Duration::from_millis(200),
            greet_every: Duration::from_secs(10),
            greet_alone_every: Duration::from_secs(1),
        }
    }
}

/// Certificate, key and authorities of this node, exchanged while in use. TLS between nodes is always mutual.
#[derive(Debug, Clone)]
pub struct Tls {
    files: Arc<Reloadable>,
}

impl Tls {
    /// Reads the files. Afterwards gossip looks at them every second and takes new ones.
    pub fn load(
        certificate: &Path,
        key: &Path,
        authorities: &Path,
        now_unix_s: u64,
    ) -> Result<Tls, pki::Error> {
        let paths = Paths {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            authorities: Some(authorities.to_owned()),
        };
        let files = Reloadable::load(paths, ClientAuth::Machines, ALPN, now_unix_s)?;
        Ok(Tls {
            files: Arc::new(files),
        })
    }

    /// The files and what is made of them.
    pub fn files(&self) -> &Arc<Reloadable> {
        &self.files
    }
}
