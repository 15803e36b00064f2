//! Settings of `slo run`: `slo.toml`, over it the environment (`SLO__PAGE__SLACK_URL`), over that the command line.
//!
//! Secrets come from files, which are read for every attempt, so that they can be exchanged while it runs; or from the environment.

use std::path::{Path, PathBuf};

use notify::{Alertmanager, Channel, PagerDuty, Slack};
use serde::{Deserialize, Serialize};
use service::logs::LogSettings;
use service::settings::{Error, Loaded, Loader, Millis, Secret};

use crate::pace::Pace;
use crate::routes::{PAGE_REPEAT, TICKET_REPEAT};

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files of objectives, and folders with them. Paths begin at the folder of `slo.toml`.
    pub objectives: Vec<PathBuf>,
    /// The address of Prometheus, or of whatever speaks its API.
    pub endpoint: String,
    /// A file with a token for it.
    pub token_file: Option<PathBuf>,
    /// How often objectives are looked at; divided by `time_scale`.
    pub interval: Millis,
    /// How long a query may take.
    pub timeout: Millis,
    /// How many times as fast time runs: above 1 for tests and drills only.
    pub time_scale: u64,
    /// The file that is kept over restarts.
    pub state: PathBuf,
    /// Where /metrics, /healthz and /readyz are served; nowhere if it is empty.
    pub listen: String,
    /// In front of runbooks that are paths: `https://git.example.com/ops/blob/main`.
    pub runbook_base: String,
    /// Log lines.
    pub log: LogSettings,
    /// Who is woken.
    pub page: Receiver,
    /// Who gets tickets.
    pub ticket: Receiver,
}

/// Who is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Receiver {
    /// A file with the address of Slack's webhook.
    pub slack_url_file: Option<PathBuf>,
    /// The same itself, from the environment.
    pub slack_url: Secret,
    /// A file with PagerDuty's integration key.
    pub pagerduty_key_file: Option<PathBuf>,
    /// The same itself, from the environment.
    pub pagerduty_key: Secret,
    /// Where PagerDuty's events go; in the European region `https://events.eu.pagerduty.com/v2/enqueue`.
    pub pagerduty_url: String,
    /// A file with the address of Alertmanager, which may hold a name and a password.
    pub alertmanager_url_file: Option<PathBuf>,
    /// The same itself.
    pub alertmanager_url: Secret,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            objectives: Vec::new(),
            endpoint: "http://127.0.0.1:9090".to_owned(),
            token_file: None,
            interval: Millis(30_000),
            timeout: Millis(10_000),
            time_scale: 1,
            state: "/var/lib/slo/state.json".into(),
            listen: "127.0.0.1:9098".to_owned(),
            runbook_base: String::new(),
            log: LogSettings::default(),
            page: Receiver::default(),
            ticket: Receiver::default(),
        }
    }
}

impl Config {
    /// Every key with a value, so that those without a default are known.
    fn example() -> Config {
        let file = || Some(PathBuf::from("/etc/slo/secret"));
        let receiver = Receiver {
            slack_url_file: file(),
            pagerduty_key_file: file(),
            alertmanager_url_file: file(),
            ..Receiver::default()
        };
        Config {
            token_file: file(),
            page: receiver.clone(),
            ticket: receiver,
            ..Config::default()
        }
    }

    /// Reads a file with the environment under it and the command line over it, and checks all of it.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong.
    pub fn load(path: &Path, endpoint: Option<String>, time_scale: Option<Pace>) -> anyhow::Result<Config> {
        let times = time_scale.map(|pace| i64::try_from(pace.times()).unwrap_or(1));
        let loaded = Loader::<Config>::new()
            .example(&Config::example())
            .env("SLO")?
            .file(path)?
            .set_some("endpoint", endpoint, "--endpoint")
            .set_some("time_scale", times, "--time-scale")
            .load()?;
        check(&loaded)?;
        let mut config = loaded.value;
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in &mut config.objectives {
            *file = folder.join(&*file);
        }
        Ok(config)
    }

    /// How fast time runs.
    pub fn pace(&self) -> Pace {
        Pace::of(self.time_scale).unwrap_or(Pace::REAL)
    }

    /// The channels of pages or of tickets by their names: `page/slack`.
    pub fn channels(&self, is_page: bool) -> Vec<String> {
        let (name, receiver) = self.receiver(is_page);
        receiver
            .kinds()
            .into_iter()
            .map(|kind| format!("{name}/{kind}"))
            .collect()
    }

    /// A channel by its name, with its secrets as they are now.
    ///
    /// # Errors
    /// A line without secrets.
    pub fn channel(&self, name: &str) -> Result<Channel, String> {
        let wrong = || format!("{name}: there is no such channel any more");
        let (receiver, kind) = name.split_once('/').ok_or_else(wrong)?;
        let is_page = receiver == "page";
        let (_, receiver) = self.receiver(is_page);
        if !receiver.kinds().contains(&kind) {
            return Err(wrong());
        }
        let channel = match kind {
            "slack" => Channel::Slack(Slack {
                webhook: secret(&receiver.slack_url, receiver.slack_url_file.as_deref())?,
            }),
            "pagerduty" => {
                let key = secret(&receiver.pagerduty_key, receiver.pagerduty_key_file.as_deref())?;
                let mut pagerduty = PagerDuty::new(key);
                if !receiver.pagerduty_url.is_empty() {
                    pagerduty.url.clone_from(&receiver.pagerduty_url);
                }
                Channel::PagerDuty(pagerduty)
            }
            _ => {
                let repeat = if is_page { PAGE_REPEAT } else { TICKET_REPEAT };
                Channel::Alertmanager(Alertmanager {
                    url: secret(
                        &receiver.alertmanager_url,
                        receiver.alertmanager_url_file.as_deref(),
                    )?,
                    // It is told again after `repeat`; when nobody does so any more it ends by itself.
                    hold: Some(Millis(2 * self.pace().ms(repeat).max(500))),
                })
            }
        };
        let problems = channel.check();
        if problems.is_empty() {
            Ok(channel)
        } else {
            Err(format!("{name}: {}", problems.join("; ")))
        }
    }

    fn receiver(&self, is_page: bool) -> (&'static str, &Receiver) {
        if is_page {
            ("page", &self.page)
        } else {
            ("ticket", &self.ticket)
        }
    }
}

impl Receiver {
    fn kinds(&self) -> Vec<&'static str> {
        [
            (
                "slack",
                !self.slack_url.is_empty() || self.slack_url_file.is_some(),
            ),
            (
                "pagerduty",
                !self.pagerduty_key.is_empty() || self.pagerduty_key_file.is_some(),
            ),
            (
                "alertmanager",
                !self.alertmanager_url.is_empty() || self.alertmanager_url_file.is_some(),
            ),
        ]
        .into_iter()
        .filter_map(|(kind, is_set)| is_set.then_some(kind))
        .collect()
    }
}

/// What stands in a file, or the text itself. One line break at the end of a file is not part of it.
fn secret(text: &Secret, file: Option<&Path>) -> Result<Secret, String> {
    let Some(path) = file.filter(|_| text.is_empty()) else {
        return Ok(text.clone());
    };
    let content =
        std::fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    Ok(Secret::new(content.trim_end_matches(['\n', '\r'])))
}

fn check(loaded: &Loaded<Config>) -> Result<(), Error> {
    let config = &loaded.value;
    if config.objectives.is_empty() {
        return Err(loaded.refuse("objectives", "at least one file or folder of objectives"));
    }
    if Pace::of(config.time_scale).is_none() {
        return Err(loaded.refuse("time_scale", "a number from 1 (time as it is) to 300"));
    }
    if !(1000..=300_000).contains(&config.interval.0) {
        return Err(loaded.refuse("interval", "from 1s to 5m, which is the shortest window"));
    }
    if !(100..=120_000).contains(&config.timeout.0) {
        return Err(loaded.refuse("timeout", "from 100ms to 2m"));
    }
    for (is_page, name) in [(true, "page"), (false, "ticket")] {
        if config.channels(is_page).is_empty() {
            return Err(loaded.refuse(
                name,
                "somebody to tell: slack_url_file, pagerduty_key_file or alertmanager_url_file",
            ));
        }
        let (_, receiver) = config.receiver(is_page);
        for (key, text, file) in [
            ("slack_url", &receiver.slack_url, &receiver.slack_url_file),
            (
                "pagerduty_key",
                &receiver.pagerduty_key,
                &receiver.pagerduty_key_file,
            ),
            (
                "alertmanager_url",
                &receiver.alertmanager_url,
                &receiver.alertmanager_url_file,
            ),
        ] {
            if !text.is_empty() && file.is_some() {
                return Err(loaded.refuse(&format!("{name}.{key}"), format!("this or {key}_file, not both")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slo.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path, None, None).map_err(|error| format!("{error:#}"))
    }

    const GOOD: &str = "objectives = [\"x\"]\n[page]\nslack_url_file = \"/s\"\npagerduty_key_file = \"/p\"\n[ticket]\nslack_url_file = \"/s\"\n";

    #[test]
    fn a_short_file_is_enough() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.channels(true), ["page/slack", "page/pagerduty"]);
        assert_eq!(config.channels(false), ["ticket/slack"]);
        assert!(
            config.objectives[0].is_absolute(),
            "it begins at the file's folder"
        );
        let missing = config.channel("page/slack").unwrap_err();
        assert!(missing.starts_with("read /s: No such file"), "{missing}");
        assert!(config.channel("ticket/pagerduty").is_err());
    }

    #[test]
    fn mistakes_say_what_is_wanted() {
        for (text, expected) in [
            (GOOD.replace("objectives", "objective"), "unknown"),
            (GOOD.replace("[\"x\"]", "[]"), "at least one file"),
            (format!("time_scale = 0\n{GOOD}"), "from 1"),
            (format!("interval = \"10ms\"\n{GOOD}"), "from 1s to 5m"),
            (
                GOOD.replace("[ticket]\nslack_url_file = \"/s\"\n", ""),
                "somebody to tell",
            ),
            (format!("{GOOD}slack_url = \"https://h/hunter22\"\n"), "not both"),
        ] {
            let told = load(&text).unwrap_err();
            assert!(told.contains(expected), "{told}");
            assert!(!told.contains("hunter22"), "{told}");
        }
    }

    #[test]
    fn secrets_are_read_without_their_line_break_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "hunter22\n").unwrap();
        let config = load(&GOOD.replace("/p", &path.display().to_string())).unwrap();
        let Channel::PagerDuty(pagerduty) = config.channel("page/pagerduty").unwrap() else {
            panic!("another channel");
        };
        assert_eq!(pagerduty.routing_key.expose(), "hunter22");
        assert!(!format!("{pagerduty:?}").contains("hunter22"));
        std::fs::write(&path, "").unwrap();
        let told = config.channel("page/pagerduty").unwrap_err();
        assert!(told.contains("routing_key is missing"), "{told}");
    }
}
