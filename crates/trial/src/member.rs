//! One member: its process, its data, its clock.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::clock::Clock;
use crate::network::{End, Network};
use crate::process::Process;
use crate::system::{Launch, Programs, System};

/// What Chainfire logs when a member that lost its disk counts again.
const ADMITTED: &str = "Node admitted";

/// A member; killed when dropped.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) number: usize,
    pub(crate) address: SocketAddr,
    process: Process,
    clock: Option<Clock>,
    dir: PathBuf,
    /// The length of the log when its data was wiped, until the others have taken it in again.
    wiped: Option<usize>,
}

impl Member {
    /// A member that has a place and was not started yet.
    pub(crate) fn new(
        system: System,
        programs: &Programs,
        parent: &Path,
        number: usize,
        members: usize,
        network: &Network,
    ) -> Result<Self> {
        let dir = parent.join(format!("member-{}", number + 1));
        std::fs::create_dir_all(&dir).with_context(|| format!("make the directory {}", dir.display()))?;
        let Launch { words, env, clock } = system.launch(programs, &dir, number, members, network)?;
        let name = format!("member {}", number + 1);
        Ok(Self {
            number,
            address: (network.address(End::Member(number))?, 2379).into(),
            process: Process::new(name, network.prefix(number), &words, env, dir.clone()),
            clock,
            dir,
            wiped: None,
        })
    }

    /// `kill -9`, and all that it had on disk is gone.
    pub(crate) fn wipe(&mut self) -> Result<()> {
        self.kill()?;
        let data = self.dir.join("data");
        std::fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
        self.wiped = Some(self.log_text().len());
        Ok(())
    }

    /// Whether its data was wiped and the others have not taken it in again, as far as its log says.
    pub(crate) fn is_wiped(&mut self) -> bool {
        if let Some(length) = self.wiped
            && self
                .log_text()
                .get(length..)
                .is_some_and(|new| new.contains(ADMITTED))
        {
            self.wiped = None;
        }
        self.wiped.is_some()
    }

    /// Whether the wall clock can be stepped.
    pub(crate) fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// From now on the member's wall clock is so many seconds ahead.
    pub(crate) fn set_clock(&self, ahead_s: i64) -> Result<()> {
        match &self.clock {
            Some(clock) => clock.set(ahead_s),
            None => bail!("member {} has no clock that can be stepped", self.number + 1),
        }
    }
}

impl Deref for Member {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
