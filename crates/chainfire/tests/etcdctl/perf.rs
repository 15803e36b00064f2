//! `etcdctl check perf` takes a minute, so it is a test of its own.

use crate::chainfire;

/// The load must get through and be cleaned up after. How evenly it went is the machine's business as much as the server's:
/// the verdicts on the slowest request and on the deviation are printed, not judged.
#[test]
fn check_perf_passes_its_small_load() {
    let server = chainfire();
    let checked = server
        .etcdctl(&["check", "perf", "--load=s", "--auto-compact", "--auto-defrag"])
        .unwrap();
    println!("{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains("PASS: Throughput is 1"), "{checked:?}");
    assert!(checked.stdout.contains("Compacted with revision"), "{checked:?}");
    assert!(checked.stdout.contains("Defragmented "), "{checked:?}");
    assert!(!checked.stdout.contains("errors"), "{checked:?}");
    // What it wrote is gone.
    let left = server
        .etcdctl(&["get", "", "--prefix", "--keys-only"])
        .unwrap()
        .ok();
    assert_eq!(left, "");
}
