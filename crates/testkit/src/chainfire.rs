//! Our Chainfire, started from the built binary.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use lab::services::chainfire;
use lab::topology::Places;

use crate::server::{Output, Server};

/// A Chainfire server with one node.
#[derive(Debug)]
pub struct Chainfire {
    server: Server,
    binary: PathBuf,
}

/// What a [`Chainfire`] is to be started with.
#[derive(Debug, Default)]
pub struct ChainfireBuilder {
    node: Option<u64>,
    overrides: Vec<String>,
    env: Vec<(String, String)>,
}

impl ChainfireBuilder {
    /// Adds TOML which is laid over the lab's configuration: `"[limits]\nmax_txn_ops = 3"`. Later ones win.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.overrides.push(toml.to_owned());
        self
    }

    /// Numbers the node; it is 1 otherwise.
    #[must_use]
    pub fn node(mut self, id: u64) -> Self {
        self.node = Some(id);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Result<Chainfire> {
        let mut chainfire = self.build()?;
        chainfire.start()?;
        Ok(chainfire)
    }

    /// Writes the configuration and does not start it.
    pub fn build(self) -> Result<Chainfire> {
        let binary = crate::mainstay_binary()?;
        let spec = chainfire::service(self.node.unwrap_or(1));
        let mut server = Server::new("chainfire", binary.clone(), spec.ready)?;
        let places = Places {
            host: "node1".into(),
            address: server.address().to_string(),
            config_dir: server.dir().display().to_string(),
            data_dir: server.dir().join("data").display().to_string(),
        };
        let text = places.fill(
            &spec
                .config
                .context("the lab's chainfire has a configuration file")?
                .contents,
        );
        let mut config: toml::Table = text.parse().context("cannot read the lab's configuration")?;
        // Tests compare whole lines, as the journal has them.
        merge(&mut config, toml::toml! { [log] timestamps = false });
        for text in &self.overrides {
            let over = text
                .parse()
                .with_context(|| format!("cannot read the test's configuration: {text}"))?;
            merge(&mut config, over);
        }
        let path = server.dir().join("chainfire.toml");
        std::fs::write(&path, config.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        server.set_args([
            "chainfire".to_owned(),
            "--config".into(),
            path.display().to_string(),
        ]);
        for (name, value) in &self.env {
            server.set_env(name, value);
        }
        Ok(Chainfire { server, binary })
    }
}

/// Lays `over` over `base`: tables are merged, everything else is replaced.
fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

impl Chainfire {
    /// Starts it as the lab does.
    pub fn start_new() -> Result<Self> {
        Self::builder().start()
    }

    /// Chooses how to start it.
    pub fn builder() -> ChainfireBuilder {
        ChainfireBuilder::default()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir().join("data")
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.dir().join("chainfire.toml")
    }

    /// Lays TOML over its configuration, for the next start.
    ///
    /// # Errors
    /// If either is none.
    pub fn configure(&self, toml: &str) -> Result<()> {
        let path = self.config_file();
        let text = std::fs::read_to_string(&path)?;
        let mut config: toml::Table = text.parse().context("cannot read the server's configuration")?;
        merge(
            &mut config,
            toml.parse().context("cannot read the test's configuration")?,
        );
        std::fs::write(&path, config.to_string())?;
        Ok(())
    }

    /// Where other members reach it, `ADDRESS:PORT`.
    pub fn peer_address(&self) -> String {
        format!("{}:{}", self.address(), chainfire::RAFT_PORT)
    }

    /// `chainfire-client` with this endpoint.
    pub fn client(&self, args: &[&str]) -> Result<Output> {
        Output::of(
            Command::new(&self.binary)
                .args(["chainfire-client", "--endpoint", &self.endpoint()])
                .args(args),
        )
    }
}

impl Deref for Chainfire {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Chainfire {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_change_only_what_they_name() {
        let mut base: toml::Table = "[a]\nx = 1\ny = 2\n[b]\nz = 3".parse().unwrap();
        merge(&mut base, "[a]\ny = 9\n[c]\nw = 4".parse().unwrap());
        let expected: toml::Table = "[a]\nx = 1\ny = 9\n[b]\nz = 3\n[c]\nw = 4".parse().unwrap();
        assert_eq!(base, expected);
    }
}
