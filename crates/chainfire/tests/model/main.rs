//! Random sequences of operations against a plain model of what etcd v3 means.
//!
//! [`reference`] is the model, [`generate`] makes requests. Three properties compare the model with the real thing: the state
//! machine and its reads ([`machine`]), a whole node that crashes between any two steps ([`crash`]), and watches ([`watch`]).
//! What they have found is kept as short sequences in [`regressions`]. `PROPTEST_CASES` raises the number of cases.

mod agreement;
mod crash;
mod generate;
mod machine;
mod reference;
mod regressions;
mod watch;

/// Cases to run: what `PROPTEST_CASES` says, or `usual`. Failures are reported, not written to files: a found sequence belongs
/// in [`regressions`].
fn cases(usual: u32) -> proptest::test_runner::Config {
    let asked = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    proptest::test_runner::Config {
        cases: asked.unwrap_or(usual),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Default::default()
    }
}

/// Runs `property` on `usual` cases of `strategy`. The reason of a failure carries the shortest sequence found.
fn check<S: proptest::strategy::Strategy>(
    usual: u32,
    strategy: &S,
    property: impl Fn(S::Value) -> agreement::Checked,
) -> Result<(), String> {
    proptest::test_runner::TestRunner::new(cases(usual))
        .run(strategy, property)
        .map_err(|failure| failure.to_string())
}
