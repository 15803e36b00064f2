//! `slo routes`.

use std::path::PathBuf;

use anyhow::Result;

use super::write;
use crate::routes::{PAGERDUTY_KEY_FILE, SLACK_URL_FILE, file};

/// Arguments of `slo routes`.
#[derive(Debug, clap::Args)]
pub(super) struct Routes {
    /// Write this file instead of printing it, such as config/alertmanager/routes.yml
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// The file from which Alertmanager reads the address of Slack's webhook
    #[arg(long, value_name = "FILE", default_value = SLACK_URL_FILE)]
    slack_url_file: PathBuf,

    /// The file from which Alertmanager reads PagerDuty's integration key
    #[arg(long, value_name = "FILE", default_value = PAGERDUTY_KEY_FILE)]
    pagerduty_key_file: PathBuf,
}

impl Routes {
    pub(super) fn run(self) -> Result<()> {
        let text = file(&self.slack_url_file, &self.pagerduty_key_file);
        let Some(path) = self.out else {
            terminal::out(&text);
            return Ok(());
        };
        write(&path, &text)?;
        terminal::note(&format!("wrote {}", path.display()));
        Ok(())
    }
}
