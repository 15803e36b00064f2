//! `slo routes`.

use std::path::PathBuf;

use anyhow::Result;

use super::write;
use crate::pace::Pace;
use crate::routes::{PAGERDUTY_KEY_FILE, Places, SLACK_URL_FILE, file};

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

    /// Where PagerDuty's events go, such as https://events.eu.pagerduty.com/v2/enqueue [default: Alertmanager's own]
    #[arg(long, value_name = "URL")]
    pagerduty_url: Option<String>,

    /// For drills: make time run so many times as fast, all waits divided by it
    #[arg(long, value_name = "N", value_parser = Pace::parse, default_value = "1", hide_default_value = true)]
    time_scale: Pace,
}

impl Routes {
    pub(super) fn run(self) -> Result<()> {
        let places = Places {
            slack_url_file: &self.slack_url_file,
            pagerduty_key_file: &self.pagerduty_key_file,
            pagerduty_url: self.pagerduty_url.as_deref(),
        };
        let text = file(&places, self.time_scale);
        let Some(path) = self.out else {
            terminal::out(&text);
            return Ok(());
        };
        write(&path, &text)?;
        terminal::note(&format!("wrote {}", path.display()));
        Ok(())
    }
}
