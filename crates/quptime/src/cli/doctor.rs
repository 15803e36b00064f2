//! `qu doctor`: the checklist before going to bed.

use clap::Args;
use service::SystemClock;
use terminal::Table;

use super::client;
use crate::api::{Answer, Finding, Request};

/// A backup that is older is none.
const BACKUP_DAYS: u64 = 2;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Where backups of this node land.
    #[arg(long, value_name = "DIR")]
    backup: Option<std::path::PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Answer::Doctor(mut findings) = client::ask(&Request::Doctor)? else {
            anyhow::bail!("the daemon answers something else; is it another version?");
        };
        if let Some(dir) = &self.backup {
            findings.push(backup(dir));
        }
        let failed = findings
            .iter()
            .filter(|finding| finding.verdict == "fail")
            .count();
        if self.json {
            terminal::print_json(&findings)?;
        } else {
            let mut table = Table::new(["RESULT", "WHAT", "SEEN"]);
            for finding in &findings {
                table.row([&finding.verdict, &finding.subject, &finding.text].map(String::as_str));
            }
            terminal::out(&table.render(None));
        }
        anyhow::ensure!(
            failed == 0,
            "{failed} of {} findings are failures",
            findings.len()
        );
        Ok(())
    }
}

/// The newest file below a directory decides.
fn backup(dir: &std::path::Path) -> Finding {
    let newest = newest(dir, 3);
    let (verdict, text) = match newest {
        None => ("fail", format!("there is nothing in {}", dir.display())),
        Some(at) => {
            let now = SystemClock::shared().unix_ms() / 1000;
            let days = now.saturating_sub(at) / 86_400;
            let verdict = if days <= BACKUP_DAYS { "pass" } else { "fail" };
            (
                verdict,
                format!("the newest in {} is {days} days old", dir.display()),
            )
        }
    };
    Finding {
        verdict: verdict.to_owned(),
        subject: "backup".to_owned(),
        text,
    }
}

fn newest(dir: &std::path::Path, depth: u32) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let listing = std::fs::read_dir(dir).ok()?;
    let times = listing.flatten().filter_map(|file| {
        let known = file.metadata().ok()?;
        match known.is_dir() {
            true if depth > 0 => newest(&file.path(), depth - 1),
            true => None,
            false => u64::try_from(known.ctime()).ok(),
        }
    });
    times.max()
}
