//! Debian's etcd: the server that ours is compared with.

use std::ops::{Deref, DerefMut};

use anyhow::Result;
use lab::Readiness;

use crate::server::Server;

/// A real etcd with one member.
#[derive(Debug)]
pub struct Etcd {
    server: Server,
}

impl Etcd {
    /// Starts it in a directory and on an address of its own.
    pub fn start() -> Result<Self> {
        let ready = Readiness::Http {
            port: 2379,
            path: "/health".into(),
        };
        let mut server = Server::new("etcd", crate::require("etcd")?, ready)?;
        let (client, peer) = (server.endpoint(), format!("http://{}:2380", server.address()));
        server.set_args([
            "--name=default".to_owned(),
            format!("--data-dir={}", server.dir().join("data").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ]);
        server.start()?;
        Ok(Self { server })
    }
}

impl Deref for Etcd {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Etcd {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}
