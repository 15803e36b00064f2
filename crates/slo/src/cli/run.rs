//! `slo run`.

use std::path::PathBuf;

use anyhow::Result;

use super::Files;
use crate::live::config::Config;
use crate::live::daemon;
use crate::pace::Pace;

/// Arguments of `slo run`.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// Settings
    #[arg(long, value_name = "FILE", default_value = "/etc/slo/slo.toml")]
    config: PathBuf,

    /// The address of Prometheus, in place of the one in the settings
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,

    /// For drills: make time run so many times as fast, all windows, intervals and waits divided by it
    #[arg(long, value_name = "N", value_parser = Pace::parse)]
    time_scale: Option<Pace>,
}

impl Run {
    pub(super) fn run(self) -> Result<()> {
        let config = Config::load(&self.config, self.endpoint, self.time_scale)?;
        let files = Files {
            files: config.objectives.clone(),
            lenient: false,
        };
        daemon::run(config, files.read()?.objectives)
    }
}
