//! Waiting for something to become true, with a bound and a message that says what was waited for.
//!
//! This is the only place of the lab and the test kit that sleeps or reads the clock: what they wait for happens
//! in other processes, so there is nothing to be woken by. Every wait is a poll of a condition, never a guess of
//! how long something takes.

#![allow(
    clippy::disallowed_methods,
    reason = "polls other processes in real time; nothing here is replayed"
)]

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks. Short enough not to be felt, long enough to leave the processor to the one waited for.
const POLL: Duration = Duration::from_millis(20);

/// Asks `probe` until it answers `Some` and returns that. An error of `probe` ends the wait at once.
///
/// # Errors
/// `timed out after 10s waiting for WHAT` when `limit` has passed; whatever `probe` fails with.
pub fn until<T>(limit: Duration, what: &str, probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_every(POLL, limit, what, probe)
}

/// [`until`] with another pause between two looks, for looks that cost something themselves.
pub fn until_every<T>(
    pause: Duration,
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if started.elapsed() >= limit {
            bail!("timed out after {limit:?} waiting for {what}");
        }
        std::thread::sleep(pause);
    }
}

/// Asks `probe` until it answers true; false when `limit` has passed first.
pub fn happens(limit: Duration, mut probe: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if probe() {
            return true;
        }
        if started.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_with_the_name_of_what_was_missing() {
        let error = until(Duration::from_millis(30), "godot", || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "timed out after 30ms waiting for godot");
    }

    #[test]
    fn stops_at_the_first_value() {
        let mut looks = 0;
        let got = until(Duration::from_secs(5), "three looks", || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(got.unwrap(), 3);
    }
}
