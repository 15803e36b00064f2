//! The scenarios of a cluster: how fast it writes, and what a client notices when members end, return and lag behind.

mod catch_up;
mod leader_kill;
mod puts;
mod rolling_restart;

use super::Scenario;
use crate::options::ClientsOn;

/// Sizes that options decide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) nodes: usize,
    pub(crate) clients_on: ClientsOn,
    pub(crate) kills: u32,
    pub(crate) passes: u32,
    pub(crate) keys: u64,
}

/// All of them in the order in which they run.
pub(crate) fn all(extent: &Extent) -> Vec<Box<dyn Scenario>> {
    let Extent {
        nodes,
        clients_on,
        kills,
        passes,
        keys,
    } = *extent;
    let puts = |clients| puts::Puts {
        nodes,
        clients,
        clients_on,
    };
    vec![
        Box::new(puts(64)),
        Box::new(puts(512)),
        Box::new(leader_kill::LeaderKill { nodes, kills }),
        Box::new(rolling_restart::RollingRestart { nodes, passes }),
        Box::new(catch_up::CatchUp { nodes, keys }),
    ]
}
