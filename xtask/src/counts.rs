//! How many tests passed, failed and were skipped, read from what the test programs print.
//!
//! Two forms are read: nextest's `Summary` line and the `test result:` lines of `cargo test`.

use std::fmt;
use std::ops::AddAssign;

/// Numbers of tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Ran and did what they should.
    pub(crate) passed: u64,
    /// Ran and did not, or did not end in time.
    pub(crate) failed: u64,
    /// Did not run.
    pub(crate) skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

impl Counts {
    /// Reads a line such as `Summary [ 1.2s] 9/10 tests run: 7 passed (1 slow, 1 flaky), 1 failed, 1 timed out, 4 skipped`.
    /// `None` for any other line. Tests that were to run but did not (`9/10`) count as failed.
    pub(crate) fn from_nextest(line: &str) -> Option<Counts> {
        let (head, list) = line
            .trim()
            .strip_prefix("Summary [")?
            .split_once(']')?
            .1
            .split_once(" run: ")?;
        let mut counts = Counts::default();
        for part in without_parentheses(list).split(',') {
            let (number, what) = part.trim().split_once(' ')?;
            let number: u64 = number.parse().ok()?;
            match what.trim() {
                "passed" => counts.passed += number,
                "skipped" => counts.skipped += number,
                // "failed", "timed out", "exec failed" and whatever a later release adds: not passed means failed.
                _ => counts.failed += number,
            }
        }
        let (run, planned) = head
            .trim()
            .split_once(' ')?
            .0
            .split_once('/')
            .unwrap_or(("0", "0"));
        counts.failed += planned.parse::<u64>().ok()?.saturating_sub(run.parse().ok()?);
        Some(counts)
    }

    /// Reads a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`.
    pub(crate) fn from_cargo_test(line: &str) -> Option<Counts> {
        let (_, list) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Counts::default();
        for part in list.split(';') {
            let Some((number, what)) = part.trim().split_once(' ') else {
                continue;
            };
            match (number.parse::<u64>(), what) {
                (Ok(number), "passed") => counts.passed += number,
                (Ok(number), "failed") => counts.failed += number,
                (Ok(number), "ignored" | "filtered out") => counts.skipped += number,
                _ => {}
            }
        }
        Some(counts)
    }

    /// Moves tests that reported themselves as not runnable here from passed to skipped.
    pub(crate) fn skip(&mut self, tests: u64) {
        let moved = tests.min(self.passed);
        self.passed -= moved;
        self.skipped += moved;
    }
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_usize;
    text.chars()
        .filter(|&c| {
            match c {
                '(' => depth += 1,
                ')' => {
                    depth = depth.saturating_sub(1);
                    return false;
                }
                _ => {}
            }
            depth == 0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[track_caller]
    fn check(line: &str, passed: u64, failed: u64, skipped: u64) {
        assert_eq!(
            Counts::from_nextest(line),
            Some(Counts {
                passed,
                failed,
                skipped
            }),
            "{line}"
        );
    }

    #[test]
    fn nextest_summaries_are_read() {
        check(
            "     Summary [   0.010s] 2 tests run: 2 passed, 0 skipped",
            2,
            0,
            0,
        );
        check(
            "Summary [ 61.2s] 1 test run: 0 passed, 1 timed out, 3 skipped",
            0,
            1,
            3,
        );
        check(
            "Summary [ 1.2s] 10 tests run: 7 passed (1 slow, 1 flaky), 2 failed, 1 exec failed, 4 skipped",
            7,
            3,
            4,
        );
    }

    #[test]
    fn planned_tests_that_never_ran_are_failures() {
        check(
            "Summary [ 1.2s] 9/12 tests run: 8 passed, 1 failed, 4 skipped",
            8,
            4,
            4,
        );
    }

    #[test]
    fn other_lines_are_no_summary() {
        assert_eq!(
            Counts::from_nextest("        PASS [ 0.009s] (1/2) xtask::bin/xtask counts"),
            None
        );
        assert_eq!(Counts::from_cargo_test("running 4 tests"), None);
    }

    #[test]
    fn cargo_test_results_are_read() {
        let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s";
        assert_eq!(
            Counts::from_cargo_test(line),
            Some(Counts {
                passed: 5,
                failed: 2,
                skipped: 4
            })
        );
    }
}
