//! One directory, two daemons: the second one ends at once, and nothing happens to the first.

use std::os::unix::fs::MetadataExt as _;

use testkit::Qu;

/// `O_CLOEXEC` as `/proc/PID/fdinfo` shows it.
const CLOSE_ON_EXEC: u32 = 0o2_000_000;

/// The descriptor that the lock hangs on is not inherited.
#[track_caller]
fn lock_is_closed_on_exec(node: &Qu, pid: u32) {
    let dir = std::fs::metadata(node.config_dir()).unwrap();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let held = open.filter(|fd| {
        std::fs::metadata(fd.path()).is_ok_and(|known| (known.dev(), known.ino()) == (dir.dev(), dir.ino()))
    });
    let held: Vec<String> = held
        .map(|fd| fd.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!held.is_empty(), "nothing holds the directory");
    for fd in held {
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        assert_ne!(flags & CLOSE_ON_EXEC, 0, "{info}");
    }
}

#[test]
fn a_second_daemon_ends_at_once() {
    let mut node = Qu::init(1, "s").unwrap();
    node.start().unwrap();
    let pid = node.pid().unwrap();
    lock_is_closed_on_exec(&node, pid);
    let in_use = format!(
        "error: {} is in use by another qu process (pid {pid}); stop that first (the service: systemctl stop quptime), \
         or set QUPTIME_DIR to a directory of its own\n",
        node.config_dir().display()
    );

    // Another address and another socket, the same directory.
    let mut other = Qu::bare().unwrap();
    let address = other.address().to_string();
    other.set_env("QUPTIME_DIR", &node.config_dir().display().to_string());
    other.set_env("QUPTIME_BIND_ADDR", &address);
    other.spawn().unwrap();
    assert_eq!(other.wait_exit().unwrap().code(), Some(1));
    assert_eq!(other.log(), in_use);
    let added = node.run(&["check", "add", "tcp", "web", "127.0.0.1:1"]).unwrap();
    assert_eq!(added.code, 0, "{added:?}");

    // Who comes to make a node is told that there is one.
    let runs = format!(
        "error: {} is in use: this host is a node already, and it runs (pid {pid}); ask it with qu status, or set QUPTIME_DIR to a \
         directory of its own for another node\n",
        node.config_dir().display()
    );
    let init = node.run(&["init", "--advertise", "a.example.com:9901"]).unwrap();
    assert_eq!((init.code, init.stderr.as_str()), (1, runs.as_str()));

    // Nor does anybody make another node of the directory while the daemon runs.
    let (file, aside) = (node.config_dir().join("node.yaml"), node.dir().join("aside"));
    std::fs::rename(&file, &aside).unwrap();
    let init = node.run(&["init", "--advertise", "a.example.com:9901"]).unwrap();
    assert_eq!((init.code, init.stderr.as_str()), (1, in_use.as_str()));
    assert!(!file.exists());
    std::fs::rename(&aside, &file).unwrap();

    // However a daemon ends, the directory is free at once.
    node.kill9().unwrap();
    node.start().unwrap();
    assert!(node.check("web").is_some());
}
