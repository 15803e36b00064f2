//! The monitor's settings: how patient it is.
//!
//! Two clocks decide how fast a primary is replaced: how often somebody looks, and how long the lock lives. Everything else follows from
//! them, so values that do not fit each other are refused with the rule they break rather than found out in an outage.
//!
//! Names, defaults and profiles are the specification's; sizes are PostgreSQL's, where `1MB` is 1,048,576 bytes (its manual, 20.1.1).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::settings::Millis;

/// What a monitor and all keepers of its formations go by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How often the monitor looks at every PostgreSQL.
    pub pgaf_health_check_interval: Millis,
    /// How long one look may take.
    pub health_check_timeout: Millis,
    /// Further looks before a node counts as unhealthy.
    pub health_check_max_retries: u32,
    /// Between those.
    pub health_check_retry_delay: Millis,
    /// At most from "primary unhealthy" to promotion.
    pub pgaf_failover_timeout: Millis,
    /// Promote as soon as it is proven that the old primary is fenced, and not only after the time above.
    pub early_promotion: bool,
    /// How long the lock lives without renewal.
    pub primary_lease_ttl: Millis,
    /// How often a keeper reports, and the primary's renews the lock.
    pub keeper_interval: Millis,
    /// Bytes of log that an automatic promotion may jump over.
    pub promote_wal_log_threshold: u64,
    /// Bytes of log behind the primary below which a standby takes part again.
    pub enable_sync_wal_log_threshold: u64,
    /// After how long a primary recorded alone stops when it reaches neither store nor standby; none for never.
    pub network_partition_timeout: Option<Millis>,
    /// How long replaying what was received may take before promotion.
    pub prepare_promotion_catchup: Millis,
    /// How long a keeper tries to bring its PostgreSQL back.
    pub postgresql_restart_failure_timeout: Millis,
    /// How often it tries.
    pub postgresql_restart_failure_max_retries: u32,
    /// How long a monitor that was just elected watches before its first failover.
    pub startup_grace_period: Millis,
}

/// A set of values that fit each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Patient about looking, quick once there is proof.
    #[default]
    Default,
    /// Seconds; for networks that can be relied on.
    Fast,
    /// What the runbook describes, no more: promotion after a minute.
    SeedLiteral,
}

/// Why a setting was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none of that name.
    #[error("no setting `{name}`; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All there are.
        known: String,
    },
    /// Its text cannot be read.
    #[error("{name}: `{value}` is not {expected}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// It does not fit another one.
    #[error("{0}")]
    Rule(String),
}

impl Profile {
    /// Its values.
    #[must_use]
    pub fn settings(self) -> Settings {
        let default = Settings {
            pgaf_health_check_interval: Millis::seconds(10),
            health_check_timeout: Millis::seconds(5),
            health_check_max_retries: 2,
            health_check_retry_delay: Millis::seconds(2),
            pgaf_failover_timeout: Millis::seconds(60),
            early_promotion: true,
            primary_lease_ttl: Millis::seconds(10),
            keeper_interval: Millis::seconds(1),
            promote_wal_log_threshold: 1 << 20,
            enable_sync_wal_log_threshold: 16 << 20,
            network_partition_timeout: None,
            prepare_promotion_catchup: Millis::seconds(30),
            postgresql_restart_failure_timeout: Millis::seconds(20),
            postgresql_restart_failure_max_retries: 3,
            startup_grace_period: Millis::seconds(10),
        };
        match self {
            Profile::Default => default,
            Profile::Fast => Settings {
                pgaf_health_check_interval: Millis::seconds(1),
                health_check_timeout: Millis::seconds(1),
                health_check_max_retries: 1,
                health_check_retry_delay: Millis(200),
                pgaf_failover_timeout: Millis::seconds(10),
                primary_lease_ttl: Millis::seconds(2),
                keeper_interval: Millis(250),
                prepare_promotion_catchup: Millis::seconds(5),
                postgresql_restart_failure_timeout: Millis::seconds(2),
                postgresql_restart_failure_max_retries: 1,
                startup_grace_period: Millis::seconds(2),
                ..default
            },
            Profile::SeedLiteral => Settings {
                early_promotion: false,
                primary_lease_ttl: Millis::seconds(30),
                ..default
            },
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Profile::Default.settings()
    }
}

impl Settings {
    /// Name and value of each, as text that [`Settings::set`] takes.
    #[must_use]
    pub fn list(&self) -> Vec<(&'static str, String)> {
        FIELDS
            .iter()
            .map(|field| (field.name, (field.show)(self)))
            .collect()
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Result<String, Refused> {
        Ok((find(name)?.show)(self))
    }

    /// These settings with one changed, if the whole still fits.
    pub fn set(&self, name: &str, value: &str) -> Result<Settings, Refused> {
        let field = find(name)?;
        let mut changed = self.clone();
        (field.read)(&mut changed, value.trim()).ok_or_else(|| Refused::Value {
            name: field.name,
            value: value.to_owned(),
            expected: field.expected,
        })?;
        changed.check()?;
        Ok(changed)
    }

    /// Whether the values fit each other.
    pub fn check(&self) -> Result<(), Refused> {
        let positive = [
            ("pgaf_health_check_interval", self.pgaf_health_check_interval),
            ("health_check_timeout", self.health_check_timeout),
            ("pgaf_failover_timeout", self.pgaf_failover_timeout),
            ("primary_lease_ttl", self.primary_lease_ttl),
            ("keeper_interval", self.keeper_interval),
            ("prepare_promotion_catchup", self.prepare_promotion_catchup),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| value.0 == 0) {
            return Err(Refused::Rule(format!("{name} must be more than 0")));
        }
        // The store counts leases in whole seconds.
        if !self.primary_lease_ttl.0.is_multiple_of(1_000) {
            return Err(Refused::Rule(format!(
                "primary_lease_ttl must be whole seconds, not {}",
                self.primary_lease_ttl
            )));
        }
        let at_most = |name, value: Millis, other, limit: Millis, why| {
            if value <= limit {
                return Ok(());
            }
            Err(Refused::Rule(format!(
                "{name} ({value}) must be at most {other} ({limit}), {why}"
            )))
        };
        at_most(
            "keeper_interval",
            self.keeper_interval,
            "a quarter of primary_lease_ttl",
            Millis(self.primary_lease_ttl.0 / 4),
            "so that three renewals may fail before the lock is lost",
        )?;
        at_most(
            "health_check_timeout",
            self.health_check_timeout,
            "pgaf_health_check_interval",
            self.pgaf_health_check_interval,
            "so that one look ends before the next",
        )?;
        at_most(
            "primary_lease_ttl",
            self.primary_lease_ttl,
            "pgaf_failover_timeout",
            self.pgaf_failover_timeout,
            "so that a primary has stopped by itself before it is replaced for want of news",
        )
    }

    /// How long after the sending of its last successful renewal a primary may serve: two thirds of the lock's life.
    ///
    /// The rest is for the stop, which may take until [`Settings::dead_by`], and for clocks that run at different rates.
    #[must_use]
    pub fn serve_until(&self) -> Duration {
        self.primary_lease_ttl.duration() * 2 / 3
    }

    /// By when every process of it is killed: five sixths of the lock's life. So clocks may differ by a factor of 1.2.
    #[must_use]
    pub fn dead_by(&self) -> Duration {
        self.primary_lease_ttl.duration() * 5 / 6
    }
}

/// One setting, as text.
struct Field {
    name: &'static str,
    expected: &'static str,
    show: fn(&Settings) -> String,
    read: fn(&mut Settings, &str) -> Option<()>,
}

const DURATION: &str = "a duration such as `10s` or `250ms`";
const NUMBER: &str = "a whole number";
const SIZE: &str = "a size such as `1MB` or a number of bytes";

macro_rules! field {
    ($name:ident, $expected:expr, $show:expr, $read:expr) => {
        Field {
            name: stringify!($name),
            expected: $expected,
            show: |settings| $show(&settings.$name),
            read: |settings, text| {
                settings.$name = $read(text)?;
                Some(())
            },
        }
    };
}

const FIELDS: &[Field] = &[
    field!(pgaf_health_check_interval, DURATION, Millis::to_string, duration),
    field!(health_check_timeout, DURATION, Millis::to_string, duration),
    field!(health_check_max_retries, NUMBER, u32::to_string, number),
    field!(health_check_retry_delay, DURATION, Millis::to_string, duration),
    field!(pgaf_failover_timeout, DURATION, Millis::to_string, duration),
    field!(early_promotion, "`on` or `off`", on_off, switch),
    field!(primary_lease_ttl, DURATION, Millis::to_string, duration),
    field!(keeper_interval, DURATION, Millis::to_string, duration),
    field!(promote_wal_log_threshold, SIZE, shown_size, size),
    field!(enable_sync_wal_log_threshold, SIZE, shown_size, size),
    field!(
        network_partition_timeout,
        "`off` or a duration such as `60s`",
        |value: &Option<Millis>| value.map_or("off".to_owned(), |value| value.to_string()),
        |text: &str| if text == "off" {
            Some(None)
        } else {
            duration(text).map(Some)
        }
    ),
    field!(prepare_promotion_catchup, DURATION, Millis::to_string, duration),
    field!(
        postgresql_restart_failure_timeout,
        DURATION,
        Millis::to_string,
        duration
    ),
    field!(
        postgresql_restart_failure_max_retries,
        NUMBER,
        u32::to_string,
        number
    ),
    field!(startup_grace_period, DURATION, Millis::to_string, duration),
];

fn find(name: &str) -> Result<&'static Field, Refused> {
    FIELDS
        .iter()
        .find(|field| field.name == name)
        .ok_or_else(|| Refused::Unknown {
            name: name.to_owned(),
            known: FIELDS
                .iter()
                .map(|field| field.name)
                .collect::<Vec<_>>()
                .join(", "),
        })
}

fn duration(text: &str) -> Option<Millis> {
    // A bare number would be milliseconds, which nobody means.
    let bare = text != "0" && text.bytes().all(|byte| byte.is_ascii_digit());
    (!bare).then(|| text.parse().ok()).flatten()
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "on" | "true" => Some(true),
        "off" | "false" => Some(false),
        _ => None,
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the table has one shape for all"
)]
fn on_off(value: &bool) -> String {
    (if *value { "on" } else { "off" }).to_owned()
}

/// PostgreSQL's units, largest first.
const UNITS: [(&str, u32); 4] = [("TB", 40), ("GB", 30), ("MB", 20), ("kB", 10)];

fn size(text: &str) -> Option<u64> {
    for (unit, shift) in UNITS {
        if let Some(digits) = text.strip_suffix(unit) {
            return digits.trim_end().parse::<u64>().ok()?.checked_mul(1 << shift);
        }
    }
    text.parse().ok()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the table has one shape for all"
)]
fn shown_size(bytes: &u64) -> String {
    UNITS
        .iter()
        .find(|(_, shift)| *bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(
            || bytes.to_string(),
            |(unit, shift)| format!("{}{unit}", bytes >> shift),
        )
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Default => "default",
            Profile::Fast => "fast",
            Profile::SeedLiteral => "seed-literal",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILES: [Profile; 3] = [Profile::Default, Profile::Fast, Profile::SeedLiteral];

    #[test]
    fn every_profile_fits_itself() {
        for profile in PROFILES {
            assert_eq!(profile.settings().check(), Ok(()), "{profile}");
        }
    }

    #[test]
    fn what_is_listed_can_be_set_again() {
        for profile in PROFILES {
            let settings = profile.settings();
            for (name, value) in settings.list() {
                assert_eq!(
                    settings.set(name, &value).as_ref(),
                    Ok(&settings),
                    "{name} {value}"
                );
            }
        }
    }

    #[test]
    fn the_runbook_s_numbers_are_the_defaults() {
        let settings = Settings::default();
        assert_eq!(settings.get("pgaf_health_check_interval").as_deref(), Ok("10s"));
        assert_eq!(settings.get("pgaf_failover_timeout").as_deref(), Ok("1m"));
        assert_eq!(settings.promote_wal_log_threshold, 1_048_576);
        assert_eq!(settings.get("promote_wal_log_threshold").as_deref(), Ok("1MB"));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_rule() {
        let settings = Settings::default();
        let refused = |name, value| settings.set(name, value).expect_err("refused").to_string();
        assert_eq!(
            refused("keeper_interval", "3s"),
            "keeper_interval (3s) must be at most a quarter of primary_lease_ttl (2500ms), so that three renewals may fail before the lock \
             is lost"
        );
        assert!(refused("primary_lease_ttl", "2m").contains("pgaf_failover_timeout (1m)"));
        assert!(refused("primary_lease_ttl", "4500ms").contains("whole seconds"));
        assert!(refused("health_check_timeout", "11s").contains("pgaf_health_check_interval"));
        assert_eq!(
            refused("keeper_interval", "0s"),
            "keeper_interval must be more than 0"
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_would_be_right() {
        let settings = Settings::default();
        for (name, value) in [
            ("keeper_interval", "10"),
            ("keeper_interval", "soon"),
            ("early_promotion", "yes please"),
            ("promote_wal_log_threshold", "1mb"),
            ("health_check_max_retries", "-1"),
        ] {
            assert!(
                matches!(settings.set(name, value), Err(Refused::Value { .. })),
                "{name} {value}"
            );
        }
        assert!(matches!(
            settings.set("no_such", "1"),
            Err(Refused::Unknown { .. })
        ));
    }

    #[test]
    fn a_primary_is_dead_before_its_lock_is_although_its_clock_is_slow() {
        for profile in PROFILES {
            let settings = profile.settings();
            let ttl = settings.primary_lease_ttl.duration();
            assert!(settings.dead_by().mul_f64(1.2) <= ttl + Duration::from_nanos(1));
            assert!(settings.serve_until() < settings.dead_by());
        }
    }
}
