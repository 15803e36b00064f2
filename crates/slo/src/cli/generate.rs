//! `slo generate`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::{Files, write};
use crate::pace::Pace;
use crate::rules;

/// For whom rules are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A file that Prometheus loads
    Prometheus,
    /// A PrometheusRule for the operator of Kubernetes
    Operator,
}

/// Arguments of `slo generate`.
#[derive(Debug, clap::Args)]
pub(super) struct Generate {
    #[command(flatten)]
    files: Files,

    /// Write slo.yml into this folder instead of printing it
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// For whom
    #[arg(long, value_enum, default_value = "prometheus")]
    format: Format,

    /// Write slo-extra.yml too: objective, budget left, burn rate of the moment, and tickets about no traffic and creeping errors
    #[arg(long, requires = "out")]
    extra_rules: bool,

    /// For drills: make time run so many times as fast, all windows and intervals divided by it
    #[arg(long, value_name = "N", value_parser = Pace::parse, default_value = "1", hide_default_value = true, conflicts_with = "extra_rules")]
    time_scale: Pace,

    /// Set the value of a label, or the name of a metric, in all plain selectors
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl Generate {
    pub(super) fn run(self) -> Result<()> {
        let mut read = self.files.read()?;
        let mut settings = Vec::new();
        for setting in &self.set {
            let (name, value) = setting
                .split_once('=')
                .filter(|(name, value)| !name.is_empty() && !value.is_empty())
                .with_context(|| format!("--set {setting:?}: write NAME=VALUE, such as job=api"))?;
            let mut found = false;
            for objective in &mut read.objectives {
                found |= objective.set(name, value);
            }
            if !found {
                bail!("--set {setting}: no plain selector has a label or a metric {name:?}");
            }
            settings.push((name.to_owned(), value.to_owned()));
        }
        let digest = rules::digest(&read.inputs, &settings);
        let mut files = vec![("slo", rules::groups(&read.objectives, self.time_scale))];
        if self.extra_rules {
            files.push(("slo-extra", rules::extra(&read.objectives)));
        }
        for (name, groups) in files {
            let text = match self.format {
                Format::Prometheus => rules::file(&groups, &digest, self.time_scale),
                Format::Operator => rules::operator_file(&groups, &digest, name, self.time_scale),
            };
            let Some(folder) = &self.out else {
                terminal::out(&text);
                continue;
            };
            let path = folder.join(format!("{name}.yml"));
            write(&path, &text)?;
            let all = groups.iter().flat_map(|group| &group.rules);
            let alerts = all.clone().filter(|rule| rule.is_alert).count();
            let recorded = all.count() - alerts;
            terminal::note(&format!(
                "wrote {}: {recorded} recording rules, {alerts} alerts",
                path.display()
            ));
        }
        Ok(())
    }
}
