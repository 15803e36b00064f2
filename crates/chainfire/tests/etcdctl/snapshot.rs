//! `etcdctl snapshot save` against ours. The content is ours: our own client reads it, `etcdctl snapshot status` cannot (the
//! script `maintenance` pins how it says so).

use crate::chainfire;

#[test]
fn snapshot_saved_by_etcdctl_is_read_and_restored_by_our_client() {
    let server = chainfire();
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        server.etcdctl(&["put", key, value]).unwrap().ok();
    }
    server.etcdctl(&["del", "b"]).unwrap().ok();
    let file = server.dir().join("saved").display().to_string();
    let restored = server.dir().join("restored").display().to_string();

    let saved = server.etcdctl(&["snapshot", "save", &file]).unwrap().ok();
    assert_eq!(saved, format!("Snapshot saved at {file}\n"));
    assert!(!server.dir().join("saved.part").exists());

    let status = server.client(&["snapshot", "status", &file]).unwrap().ok();
    assert!(status.contains("\nrevision: 5\ntotal_keys: 1\n"), "{status}");

    server
        .client(&["snapshot", "restore", &file, "--data-dir", &restored])
        .unwrap()
        .ok();
    let copy = testkit::Chainfire::builder()
        .config(&format!("[storage]\ndata_dir = {restored:?}"))
        .start()
        .unwrap();
    let json = |args: &[&str]| copy.etcdctl(args).unwrap().ok();
    assert_eq!(json(&["get", "", "--prefix"]), "a\n3\n");
    assert_eq!(json(&["get", "a", "--rev=3"]), "a\n1\n");
    assert!(json(&["get", "a", "-w", "json"]).contains(r#""revision":5"#));

    // A file that was cut is told apart from a whole one.
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 100]).unwrap();
    let cut = server.client(&["snapshot", "status", &file]).unwrap();
    assert_ne!(cut.code, 0, "{cut:?}");
}
