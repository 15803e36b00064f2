//! Too little room: over the quota, on a disk that is nearly full, on one that is full to the last byte, in files that may not
//! grow, and on a disk that fails to sync.
//!
//! What was acknowledged is there afterwards; what was refused is not; what was never answered may be either.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chainfire::wire::etcdserverpb::alarm_request::AlarmAction;
use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::lease_client::LeaseClient;
use chainfire::wire::etcdserverpb::maintenance_client::MaintenanceClient;
use chainfire::wire::etcdserverpb::request_op::Request;
use chainfire::wire::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest,
};
use lab::pid::{Guard, ProcessRef};
use testkit::{Chainfire, Server, TestDir, wait_until};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

const LIMIT: Duration = Duration::from_secs(30);
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

async fn connect(server: &Server) -> Channel {
    Channel::from_shared(server.endpoint())
        .unwrap()
        .connect()
        .await
        .unwrap()
}

fn put(key: &str, value: Vec<u8>) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..Default::default()
    }
}

fn delete(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        prev_kv: false,
    }
}

fn txn(operation: Request) -> TxnRequest {
    TxnRequest {
        success: vec![RequestOp {
            request: Some(operation),
        }],
        ..Default::default()
    }
}

#[track_caller]
fn is_no_space<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, NO_SPACE)
    );
}

/// Waits in an async test, where the condition asks the server.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let polls = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(LIMIT, polls).await.is_ok(),
        "timed out waiting for {what}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_stops_what_takes_space_until_there_is_some_again() {
    let server = Chainfire::builder()
        .config("[storage]\nquota_backend_bytes = \"1MiB\"")
        .start()
        .unwrap();
    let channel = connect(&server).await;
    let mut kv = KvClient::new(channel.clone());
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let list = AlarmRequest {
        action: AlarmAction::Get as i32,
        ..Default::default()
    };
    let value = || vec![b'v'; 10_000];
    let warning = "WARN chainfire_storage: Space is running out, in_use=";

    // 88 %: a warning, and no more than that.
    for n in 0..92 {
        kv.put(put(&format!("k{n:03}"), value())).await.unwrap();
    }
    wait_until(LIMIT, "the warning", || server.log().contains(warning));
    assert!(
        maintenance
            .alarm(list)
            .await
            .unwrap()
            .into_inner()
            .alarms
            .is_empty()
    );
    assert_eq!(server.get("/health").unwrap().status, 200);

    // 100 %: the alarm.
    let mut count = 92;
    let refusal = loop {
        match kv.put(put(&format!("k{count:03}"), value())).await {
            Ok(_) => count += 1,
            Err(status) => break status,
        }
        assert!(count < 200, "the quota never stops anything");
    };
    is_no_space::<()>(Err(refusal));
    let alarms = maintenance.alarm(list).await.unwrap().into_inner().alarms;
    assert_eq!(alarms.len(), 1);
    assert_eq!((alarms[0].member_id, alarms[0].alarm()), (1, AlarmType::Nospace));
    let health = server.get("/health").unwrap();
    assert_eq!(health.status, 503);
    assert!(health.body.contains("ALARM NOSPACE"), "{}", health.body);
    let status = server.client(&["status"]).unwrap().ok();
    assert!(status.contains("NOSPACE"), "{status}");

    // What takes space is refused, small or not, in a transaction or not.
    is_no_space(kv.put(put("small", vec![b'x'])).await);
    is_no_space(kv.txn(txn(Request::RequestPut(put("small", vec![b'x'])))).await);
    let grant = LeaseGrantRequest { id: 1, ttl: 60 };
    is_no_space(LeaseClient::new(channel).lease_grant(grant).await);

    // Reading, deleting and compacting go on.
    let read = RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        count_only: true,
        ..Default::default()
    };
    assert_eq!(kv.range(read.clone()).await.unwrap().into_inner().count, count);
    assert_eq!(
        kv.delete_range(delete("k000", "k050"))
            .await
            .unwrap()
            .into_inner()
            .deleted,
        50
    );
    let deleted = kv
        .txn(txn(Request::RequestDeleteRange(delete("k050", ""))))
        .await
        .unwrap();
    let revision = deleted.into_inner().header.unwrap().revision;
    assert_eq!(kv.range(read).await.unwrap().into_inner().count, count - 51);
    let compaction = CompactionRequest {
        revision,
        physical: true,
    };
    kv.compact(compaction).await.unwrap();

    until("the alarm to clear by itself", async || {
        maintenance
            .alarm(list)
            .await
            .unwrap()
            .into_inner()
            .alarms
            .is_empty()
    })
    .await;
    kv.put(put("small", vec![b'x'])).await.unwrap();
    assert_eq!(server.get("/health").unwrap().status, 200);
    assert!(
        server
            .log()
            .contains("INFO chainfire_storage: Space is there again, alarm cleared")
    );
}

/// Clients that put keys of their own until the server goes away, and what they were told of each.
struct Writers {
    ledger: Arc<Ledger>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Ledger {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    answers: Mutex<BTreeMap<String, Told>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    Done,
    Refused,
    Nothing,
}

const VALUE_BYTES: usize = 3000;

impl Writers {
    async fn start(server: &Server, name: &str) -> Writers {
        let ledger = Arc::new(Ledger::default());
        let mut tasks = Vec::new();
        for number in 0..8 {
            let mut kv = KvClient::new(connect(server).await);
            let (ledger, name) = (ledger.clone(), format!("{name}/{number}"));
            tasks.push(tokio::spawn(async move {
                for n in 0.. {
                    let key = format!("{name}/{n}");
                    let told = match kv.put(put(&key, vec![b'v'; VALUE_BYTES])).await {
                        Ok(_) => Told::Done,
                        Err(status) if status.message() == NO_SPACE => Told::Refused,
                        Err(status) => {
                            // A connection that ends under a request may say so in other words than the server's.
                            let cut = std::error::Error::source(&status)
                                .is_some_and(<dyn std::error::Error>::is::<tonic::transport::Error>);
                            assert!(
                                cut || matches!(status.code(), Code::Unavailable | Code::Cancelled),
                                "{status:?}"
                            );
                            Told::Nothing
                        }
                    };
                    ledger.answers.lock().unwrap().insert(key, told);
                    match told {
                        Told::Done => drop(ledger.acknowledged.fetch_add(1, Ordering::SeqCst)),
                        // Refused at once each time: no need to fill the memory with that.
                        Told::Refused => tokio::time::sleep(Duration::from_millis(5)).await,
                        Told::Nothing => return,
                    }
                    if ledger.stop.load(Ordering::SeqCst) {
                        return;
                    }
                }
            }));
        }
        Writers { ledger, tasks }
    }

    async fn wait_for(&self, acknowledged: u64) {
        let from = self.ledger.acknowledged.load(Ordering::SeqCst);
        until("writes to be acknowledged", async || {
            self.ledger.acknowledged.load(Ordering::SeqCst) >= from + acknowledged
        })
        .await;
    }

    async fn end(self) -> BTreeMap<String, Told> {
        self.ledger.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.ledger.answers.lock().unwrap())
    }
}

/// Everything done is there, nothing that was refused is.
async fn check(server: &Server, told: &BTreeMap<String, Told>) {
    let mut kv = KvClient::new(connect(server).await).max_decoding_message_size(usize::MAX);
    let all = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..Default::default()
    };
    let found: BTreeMap<String, usize> = kv
        .range(all)
        .await
        .unwrap()
        .into_inner()
        .kvs
        .into_iter()
        .map(|kv| (String::from_utf8(kv.key.to_vec()).unwrap(), kv.value.len()))
        .collect();
    for (key, told) in told {
        match (told, found.get(key)) {
            (Told::Done, None) => panic!("{key} was acknowledged and is gone"),
            (Told::Refused, Some(_)) => panic!("{key} was refused and is there"),
            (_, Some(bytes)) => assert_eq!(*bytes, VALUE_BYTES, "{key}"),
            (_, None) => {}
        }
    }
}

/// A file system of a few megabytes in a mount namespace of its own, with a server whose data is on it.
struct SmallDisk {
    server: Chainfire,
    /// The file system as seen from outside of the namespace.
    outside: PathBuf,
    holder: Child,
    _guard: Guard,
    _dir: TestDir,
    _image: TestDir,
}

const DISK_MIB: u64 = 160;

/// What is mounted. In memory a page that is written is there; a file system on a device puts off looking for room.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Medium {
    Memory,
    Ext4,
}

impl SmallDisk {
    fn new(config: &str) -> Option<SmallDisk> {
        SmallDisk::on(Medium::Memory, config)
    }

    /// None, with the reason printed, where a test may not mount.
    fn on(medium: Medium, config: &str) -> Option<SmallDisk> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: mounting a small file system needs root");
            return None;
        }
        let dir = TestDir::new("small-disk").unwrap();
        let place = dir.path().to_owned();
        let image = TestDir::new("small-disk-image").unwrap();
        let image_file = image.join("image").display().to_string();
        let mount = match medium {
            Medium::Memory => format!("mount -t tmpfs -o size={DISK_MIB}m none"),
            // Nothing is kept for root, who would be told of the end later than others.
            Medium::Ext4 => {
                format!("mke2fs -q -t ext4 -m 0 '{image_file}' {DISK_MIB}m && mount -o loop '{image_file}'")
            }
        };
        let script = format!(
            "{mount} '{0}' && touch '{0}/mounted' && exec sleep infinity",
            place.display()
        );
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = holder.id();
        let guard = Guard::new(ProcessRef::of(pid).unwrap()).unwrap();
        let outside = PathBuf::from(format!("/proc/{pid}/root{}", place.display()));
        let mut refused = false;
        wait_until(LIMIT, "the small file system", || {
            refused = holder.try_wait().unwrap().is_some();
            refused || outside.join("mounted").exists()
        });
        if refused {
            println!("skipped: this machine does not let a test mount a file system");
            return None;
        }
        let data = place.join("data");
        let mut server = Chainfire::builder()
            .config(&format!("[storage]\ndata_dir = \"{}\"\n", data.display()))
            .config(config)
            .build()
            .unwrap();
        let config = server.config_file().display().to_string();
        let program = testkit::mainstay_binary().unwrap().display().to_string();
        server.set_command(
            "nsenter".into(),
            [
                "--mount",
                "--target",
                &pid.to_string(),
                "--",
                &program,
                "chainfire",
                "--config",
                &config,
            ],
        );
        server.start().unwrap();
        Some(SmallDisk {
            server,
            outside,
            holder,
            _guard: guard,
            _dir: dir,
            _image: image,
        })
    }

    fn filler(&self) -> PathBuf {
        self.outside.join("filler")
    }

    /// Fills the disk but for so many bytes.
    fn fill_but(&self, bytes: u64) {
        let stat = nix::sys::statvfs::statvfs(&self.outside).unwrap();
        let free = stat.blocks_available() * stat.fragment_size();
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        filler.write_all(&vec![0; (free - bytes) as usize]).unwrap();
    }

    /// Fills the disk to the last byte.
    fn fill(&self) {
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        let block = vec![0; 1 << 20];
        while filler.write(&block).is_ok() {}
        while filler.write(&[0; 512]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Deref for SmallDisk {
    type Target = Chainfire;

    fn deref(&self) -> &Chainfire {
        &self.server
    }
}

impl DerefMut for SmallDisk {
    fn deref_mut(&mut self) -> &mut Chainfire {
        &mut self.server
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Small buffers, so that the log is not allocated far ahead.
const SMALL_BUFFERS: &str =
    "[storage]\nwrite_buffer_size = \"1MiB\"\n[raft]\nsnapshot_entries = 100\nsnapshot_catchup_entries = 50";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nearly_full_disk_stops_writes_only_and_only_while_it_is() {
    let Some(mut disk) = SmallDisk::new(SMALL_BUFFERS) else {
        return;
    };
    let mut kv = KvClient::new(connect(&disk).await);
    kv.put(put("before", vec![b'v'; VALUE_BYTES])).await.unwrap();
    kv.put(put("doomed", vec![b'v'; VALUE_BYTES])).await.unwrap();

    disk.fill_but(30 << 20);
    until("writes to be refused", async || {
        kv.put(put("probe", vec![])).await.is_err()
    })
    .await;
    is_no_space(kv.put(put("refused", vec![b'x'])).await);
    assert_eq!(
        kv.delete_range(delete("doomed", ""))
            .await
            .unwrap()
            .into_inner()
            .deleted,
        1
    );
    let read = RangeRequest {
        key: "before".into(),
        ..Default::default()
    };
    assert_eq!(kv.range(read.clone()).await.unwrap().into_inner().count, 1);
    let health = disk.get("/health").unwrap();
    assert_eq!(
        (health.status, health.body.as_str()),
        (
            503,
            r#"{"health":"false","reason":"DISK FULL: writes are refused"}"#
        )
    );
    assert_eq!(disk.get("/health?exclude=NOSPACE").unwrap().status, 200);

    // It starts on such a disk as well.
    disk.kill9().unwrap();
    disk.start().unwrap();
    let mut kv = KvClient::new(connect(&disk).await);
    assert_eq!(kv.range(read).await.unwrap().into_inner().count, 1);
    is_no_space(kv.put(put("refused", vec![b'x'])).await);

    disk.empty();
    until("writes to be taken again", async || {
        kv.put(put("after", vec![b'x'])).await.is_ok()
    })
    .await;
    assert_eq!(disk.get("/health").unwrap().status, 200);
    let log = disk.log();
    assert!(
        log.contains("ERROR chainfire_storage: Writes are refused") && log.contains("error=disk_full"),
        "{log}"
    );
    assert!(
        log.contains("INFO chainfire_storage: Disk has room again, writes are taken"),
        "{log}"
    );
    assert!(disk.sigterm().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_filled_to_the_last_byte_loses_nothing_that_was_acknowledged() {
    if let Some(disk) = SmallDisk::new(SMALL_BUFFERS) {
        fill_to_the_last_byte(disk, 3).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_on_a_device_filled_to_the_last_byte_loses_nothing_either() {
    if let Some(disk) = SmallDisk::on(Medium::Ext4, SMALL_BUFFERS) {
        fill_to_the_last_byte(disk, 1).await;
    }
}

/// Files that may not grow beyond this many bytes stop the server in the middle of a write. It has nothing to tell then, and
/// nothing to lose.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_may_not_grow_loses_nothing_that_was_acknowledged() {
    let mut server = Chainfire::builder().config(SMALL_BUFFERS).build().unwrap();
    let config = server.config_file().display().to_string();
    let program = testkit::mainstay_binary().unwrap();
    let limited = [
        "--fsize=300000",
        "--",
        program.to_str().unwrap(),
        "chainfire",
        "--config",
        &config,
    ];
    server.set_command("prlimit".into(), limited);
    let mut told = BTreeMap::new();
    for round in 0..2 {
        server.start().unwrap();
        check(&server, &told).await;
        let writers = Writers::start(&server, &round.to_string()).await;
        let status = server.wait_exit().unwrap();
        assert!(!status.success(), "{status:?}");
        told.extend(writers.end().await);
        // Its log of writes has to become tables, which may be larger.
        server.set_command(program.clone(), ["chainfire", "--config", &config]);
        server.start().unwrap();
        check(&server, &told).await;
        assert!(told.values().any(|told| *told == Told::Done));
        assert!(server.sigterm().unwrap().success());
        server.set_command("prlimit".into(), limited);
    }
}

async fn fill_to_the_last_byte(mut disk: SmallDisk, rounds: usize) {
    let halted = "The store stopped writing, reads go on";
    let mut told = BTreeMap::new();
    for round in 0..rounds {
        // The reserve is looked at once a second; somebody else who is faster leaves the store without a byte. When the
        // look comes first nothing runs into the full disk, so this may take more than one attempt.
        for attempt in 0.. {
            assert!(attempt < 20, "the store never met the full disk");
            let before = disk.log().len();
            let writers = Writers::start(&disk, &format!("{round}.{attempt}")).await;
            writers.wait_for(100).await;
            disk.fill();
            until("writes to fail", async || {
                let answers = writers.ledger.answers.lock().unwrap();
                answers.values().any(|told| *told != Told::Done)
            })
            .await;
            told.extend(writers.end().await);
            if disk.log()[before..].contains(halted) {
                break;
            }
            disk.empty();
            let mut kv = KvClient::new(connect(&disk).await);
            until("writes to be taken again", async || {
                !disk.is_running() || kv.put(put("probe", vec![])).await.is_ok()
            })
            .await;
            if !disk.is_running() {
                // A flush in the background had met the full disk, and the first write after that was told.
                assert_eq!(disk.wait_exit().unwrap().code(), Some(4));
                disk.start().unwrap();
                check(&disk, &told).await;
            }
        }

        // As long as there is no room it stays, refuses writes, and answers reads.
        let mut kv = KvClient::new(connect(&disk).await);
        is_no_space(kv.put(put("refused", vec![b'x'])).await);
        check(&disk, &told).await;
        assert!(disk.is_running());

        disk.empty();
        assert_eq!(disk.wait_exit().unwrap().code(), Some(4));
        let log = disk.log();
        let error = "Error: the disk was full and has room again: start anew to take writes";
        assert_eq!(log.lines().last(), Some(error));
        disk.start().unwrap();
        check(&disk, &told).await;
        let mut kv = KvClient::new(connect(&disk).await);
        kv.put(put("probe", vec![b'x'])).await.unwrap();
        kv.delete_range(delete("0", "9")).await.unwrap();
        told.clear();
    }
}

/// Fails one sync of the store's write-ahead log, with the error number in the file `FAIL_SYNC`.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    const char *trigger = getenv("FAIL_SYNC");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (trigger == NULL || length < 4 || memcmp(path + length - 4, ".log", 4) != 0) return 0;
    FILE *file = fopen(trigger, "r");
    if (file == NULL) return 0;
    int number = 0;
    int read = fscanf(file, "%d", &number);
    fclose(file);
    if (read != 1 || unlink(trigger) != 0) return 0;
    errno = number;
    return 1;
}

int fsync(int fd) {
    return fails(fd) ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    return fails(fd) ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"#;

fn build_shim(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .expect("cc, which linking this test needed too");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    library
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_the_server_and_is_never_repeated() {
    let dir = TestDir::new("shim").unwrap();
    let trigger = dir.join("fail-sync");
    let mut server = Chainfire::builder()
        .env("LD_PRELOAD", build_shim(dir.path()).to_str().unwrap())
        .env("FAIL_SYNC", trigger.to_str().unwrap())
        .start()
        .unwrap();
    let mut told = BTreeMap::new();
    // EIO, and ENOSPC: here it does not mean that nothing was written.
    for (number, reason) in [(5, "Input/output error"), (28, "No space left on device")] {
        let writers = Writers::start(&server, reason).await;
        writers.wait_for(100).await;
        let ready = dir.join("ready");
        std::fs::write(&ready, number.to_string()).unwrap();
        std::fs::rename(&ready, &trigger).unwrap();
        assert_eq!(server.wait_exit().unwrap().code(), Some(4), "{reason}");
        assert!(!trigger.exists(), "the sync failed once");
        let log = server.log();
        // Entries that were being applied fail with the same words, and may be first to say so.
        let error = log.lines().last().unwrap();
        let told_by = |operation| error.starts_with(&format!("Error: {operation}: "));
        assert!(told_by("write the log") || told_by("apply"), "{error}");
        assert!(
            error.contains("While fdatasync") && error.contains(reason),
            "{error}"
        );
        let answers = writers.end().await;
        assert!(
            answers.values().all(|told| *told != Told::Refused),
            "nobody can know that it was not written"
        );
        told.extend(answers);
        server.start().unwrap();
        check(&server, &told).await;
    }
    assert!(server.sigterm().unwrap().success());
}
