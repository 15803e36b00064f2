//! Our Chainfire as the kit starts it, judged by the real `etcdctl`.

use std::time::Duration;

use testkit::{Chainfire, wait_until};

#[test]
fn acknowledged_write_survives_sigkill_and_clean_stop() {
    let mut chainfire = Chainfire::start_new().unwrap();
    assert_eq!(chainfire.etcdctl(&["put", "a", "1"]).unwrap().ok(), "OK\n");
    chainfire.kill9().unwrap();
    chainfire.restart().unwrap();
    assert_eq!(chainfire.etcdctl(&["get", "a"]).unwrap().ok(), "a\n1\n");
    assert!(chainfire.client(&["get", "a"]).unwrap().ok().contains('1'));
    assert!(chainfire.sigterm().unwrap().success());
    chainfire.start().unwrap();
    assert_eq!(chainfire.etcdctl(&["get", "a"]).unwrap().ok(), "a\n1\n");
    assert_eq!(chainfire.get("/readyz").unwrap().status, 200);
}

#[test]
fn overrides_reach_the_server() {
    let chainfire = Chainfire::builder()
        .config("[limits]\nmax_request_bytes = 2000")
        .start()
        .unwrap();
    let refused = chainfire.etcdctl(&["put", "a", &"x".repeat(4000)]).unwrap();
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("request is too large"), "{refused:?}");
}

#[test]
fn wrong_setting_ends_the_server_early_and_is_shown() {
    let mut chainfire = Chainfire::builder()
        .config("[limits]\nmax_request_byte = 2000")
        .build()
        .unwrap();
    let error = chainfire.start().unwrap_err().to_string();
    assert!(
        error.starts_with("chainfire ended early (exit status: 2)"),
        "{error}"
    );
    assert!(error.contains("max_request_byte"), "{error}");
    wait_until(Duration::from_secs(5), "the server to be gone", || {
        !chainfire.is_running()
    });
}
