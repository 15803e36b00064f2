//! Whose confirmation a commit waits for: `synchronous_standby_names`.
//!
//! PostgreSQL's manual, 20.6.1: `ANY n (a, b, ...)` makes a commit wait until any n of the listed standbys have flushed it; an empty value
//! makes it wait for nobody. A standby is known by its `application_name`, which is `pgautofailover_standby_<id>` here.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// What every `application_name` of ours begins with.
const PREFIX: &str = "pgautofailover_standby_";

/// A value of `synchronous_standby_names`. Without members it waits for nobody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Names {
    members: BTreeSet<NodeId>,
    any: u32,
}

/// A value that PostgreSQL would take and that would not mean what it says, or one that is not ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Commits would wait for ever, or for nobody although there are members.
    #[error("ANY {any} of {members} standbys: the number must be from 1 to the number of standbys")]
    Number {
        /// Confirmations asked for.
        any: u32,
        /// Members there are.
        members: usize,
    },
    /// Not a value that [`Names`] writes.
    #[error("`{0}` is not of the form ANY n ({PREFIX}<id>, ...)")]
    Form(String),
}

impl Names {
    /// Waits for nobody.
    #[must_use]
    pub fn nobody() -> Names {
        Names::default()
    }

    /// Waits for `any` of `members`; with no members and `any` 0, for nobody.
    pub fn of(members: BTreeSet<NodeId>, any: u32) -> Result<Names, Invalid> {
        let fits = if members.is_empty() {
            any == 0
        } else {
            any >= 1 && any as usize <= members.len()
        };
        if !fits {
            return Err(Invalid::Number {
                any,
                members: members.len(),
            });
        }
        Ok(Names { members, any })
    }

    /// Who is listed.
    #[must_use]
    pub fn members(&self) -> &BTreeSet<NodeId> {
        &self.members
    }

    /// Confirmations a commit waits for; 0 for nobody's.
    #[must_use]
    pub fn any(&self) -> u32 {
        self.any
    }

    /// Whether a commit is acknowledged once all of `flushed` have it.
    #[must_use]
    pub fn acknowledge(&self, flushed: &BTreeSet<NodeId>) -> bool {
        self.members.intersection(flushed).count() >= self.any as usize
    }
}

/// The name under which a standby is known to its primary.
#[must_use]
pub fn application_name(node: NodeId) -> String {
    format!("{PREFIX}{node}")
}

impl fmt::Display for Names {
    /// As in `postgresql.conf`, without quotes; empty if it waits for nobody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.members.is_empty() {
            return Ok(());
        }
        let listed: Vec<String> = self.members.iter().copied().map(application_name).collect();
        write!(f, "ANY {} ({})", self.any, listed.join(", "))
    }
}

impl FromStr for Names {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Names, Invalid> {
        let form = || Invalid::Form(text.to_owned());
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Ok(Names::nobody());
        }
        let (any, listed) = trimmed
            .strip_prefix("ANY ")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|rest| rest.split_once('('))
            .ok_or_else(form)?;
        let any = any.trim().parse().map_err(|_| form())?;
        let mut members = BTreeSet::new();
        for name in listed.split(',') {
            let id = name.trim().strip_prefix(PREFIX).ok_or_else(form)?;
            if !members.insert(id.parse().map_err(|_| form())?) {
                return Err(form());
            }
        }
        Names::of(members, any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(members: &[NodeId], any: u32) -> Names {
        Names::of(members.iter().copied().collect(), any).expect("fits")
    }

    #[test]
    fn text_is_what_postgres_reads() {
        assert_eq!(
            names(&[2, 3], 1).to_string(),
            "ANY 1 (pgautofailover_standby_2, pgautofailover_standby_3)"
        );
        assert_eq!(Names::nobody().to_string(), "");
    }

    #[test]
    fn text_comes_back_as_it_was() {
        for value in [Names::nobody(), names(&[7], 1), names(&[2, 3, 11], 2)] {
            assert_eq!(value.to_string().parse(), Ok(value));
        }
    }

    #[test]
    fn what_would_wait_for_ever_or_for_nobody_is_refused() {
        for (members, any) in [(vec![], 1), (vec![2], 0), (vec![2], 2)] {
            assert!(Names::of(members.into_iter().collect(), any).is_err());
        }
        for text in [
            "*",
            "FIRST 1 (pgautofailover_standby_2)",
            "ANY 1 (walreceiver)",
            "ANY 3 (pgautofailover_standby_2)",
            "ANY 1 (pgautofailover_standby_2, pgautofailover_standby_2)",
            "ANY 1 ()",
        ] {
            assert!(text.parse::<Names>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_listed_standbys_confirm() {
        let two_of_three = names(&[2, 3, 4], 2);
        assert!(!two_of_three.acknowledge(&BTreeSet::from([2, 9])));
        assert!(two_of_three.acknowledge(&BTreeSet::from([2, 4, 9])));
        assert!(Names::nobody().acknowledge(&BTreeSet::new()));
    }
}
