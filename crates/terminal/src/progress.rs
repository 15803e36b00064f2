//! A progress bar for work that takes longer than a person likes to wait in the dark.
//!
//! It is drawn on standard error, only when that is a terminal, and only once the work has taken two seconds, so that quick
//! commands stay quiet.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work shorter than this shows nothing.
const QUIET: Duration = Duration::from_secs(2);

/// A running piece of work. Its bar disappears when it is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    quiet: Duration,
}

/// Starts measuring a piece of work of `total` bytes or steps; 0 when that is not known.
pub fn progress(label: &str, total: u64) -> Progress {
    let known = (total > 0).then_some(total);
    let bar = ProgressBar::with_draw_target(known, ProgressDrawTarget::hidden());
    let template = if known.is_some() {
        "{msg} [{bar:30}] {pos}/{len} {eta}"
    } else {
        "{msg} {spinner} {pos} {elapsed}"
    };
    bar.set_style(
        ProgressStyle::with_template(template)
            .expect("the template is well-formed")
            .progress_chars("=> "),
    );
    bar.set_message(label.to_owned());
    Progress { bar, quiet: QUIET }
}

impl Progress {
    /// `n` more are done.
    pub fn advance(&self, n: u64) {
        self.bar.inc(n);
        self.show();
    }

    /// `n` in all are done.
    pub fn set(&self, n: u64) {
        self.bar.set_position(n);
        self.show();
    }

    /// Prints a line above the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| crate::note(text));
    }

    /// How many are done.
    pub fn done(&self) -> u64 {
        self.bar.position()
    }

    fn show(&self) {
        if self.bar.is_hidden() && self.bar.elapsed() >= self.quiet {
            // On anything but a terminal this target draws nothing.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.tick();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_work_stays_hidden_and_counts() {
        let progress = progress("Saving snapshot", 10);
        progress.advance(3);
        progress.advance(2);
        assert_eq!(progress.done(), 5);
        progress.set(9);
        assert_eq!(progress.done(), 9);
        assert!(progress.bar.is_hidden());
    }

    #[test]
    fn long_work_asks_to_be_drawn() {
        let mut progress = progress("Waiting", 0);
        progress.quiet = Duration::ZERO;
        progress.advance(1);
        assert_eq!(progress.done(), 1);
        // Tests may run with or without a terminal on standard error; only with one is the bar seen.
        assert_eq!(
            progress.bar.is_hidden(),
            !std::io::IsTerminal::is_terminal(&std::io::stderr())
        );
    }
}
