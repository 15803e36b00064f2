//! One node, and everything that is done to checks and alerts on the screen.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::{QU_SECRET, Qu, wait_until};

use super::LIMIT;
use super::terminal::Terminal;

fn single() -> Qu {
    let mut node = Qu::init(1, QU_SECRET).unwrap();
    node.start().unwrap();
    node
}

/// Waits until the node's file has this in it.
#[track_caller]
fn says(node: &Qu, text: &str) {
    wait_until(LIMIT, &format!("{text:?} in the file"), || {
        node.cluster_text().contains(text)
    });
}

/// Takes messages and counts them; its thread ends with the test's process.
fn sink() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/very-secret", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut begin = [0; 4096];
            // A client that goes away was not told.
            if stream.read(&mut begin).is_ok_and(|read| read > 0) {
                counted.fetch_add(1, Ordering::SeqCst);
                drop(stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"));
            }
        }
    });
    (url, count)
}

#[test]
fn checks_and_alerts_are_added_edited_tested_and_removed() {
    let node = single();
    let screen = Terminal::open(&node);
    screen.start("");
    screen.shows("[2 Checks 0]");
    screen.shows("nothing here yet; a adds something");

    // A form for a new check.
    screen.write("a");
    screen.shows("Add a check");
    screen.write("t");
    screen.shows("< tcp >");
    screen.press(&["Tab"]);
    screen.write("web");
    screen.press(&["Tab"]);
    screen.write(&node.peer_address());
    screen.press(&["Enter"]);
    screen.shows("check web added, id ");
    screen.shows(&format!("(cluster version now {})", node.version()));
    assert!(node.check("web").is_some());
    screen.shows("[2 Checks 1]");

    // What was there is in the form for an edit.
    screen.write("e");
    screen.shows("Edit check web (tcp)");
    screen.press(&["Tab", "Tab", "C-u"]);
    screen.write("1s");
    screen.press(&["Tab", "C-u"]);
    screen.write("1s");
    screen.press(&["Enter"]);
    screen.shows("check web changed (cluster version now ");
    says(&node, "interval: 1s\n");
    screen.shows("web up 1/1");

    // Somebody else edits it meanwhile: told, and what was typed is kept.
    screen.write("e");
    screen.shows("Edit check web");
    screen.press(&["C-u"]);
    screen.write("site");
    node.run(&["check", "edit", "web", "--interval", "2s"])
        .unwrap()
        .ok();
    screen.press(&["Enter"]);
    screen.shows("error: changed by somebody else in the meantime: check site; look again and repeat");
    screen.shows("> name * site");
    screen.shows(&format!("config version {}", node.version()));
    screen.press(&["C-r"]);
    screen.shows("the entry as it is now, with what you typed");
    screen.press(&["Enter"]);
    screen.shows("check site changed (cluster version now ");
    says(&node, "interval: 2s\n");
    says(&node, "name: site\n");

    // Off and on.
    screen.write("x");
    screen.shows("check site disabled (cluster version now ");
    screen.shows("(disabled)");
    screen.write("x");
    screen.shows("check site enabled (cluster version now ");
    screen.lacks("(disabled)");

    // An alert, whose address is a secret.
    let (url, told) = sink();
    screen.write("3a");
    screen.shows("Add an alert");
    screen.write("w");
    screen.shows("< webhook >");
    screen.press(&["Tab"]);
    screen.write("hook");
    screen.press(&["Tab"]);
    screen.write(&url);
    screen.press(&["Enter"]);
    screen.shows("alert hook added, id ");
    screen.write("e");
    screen.shows("Edit alert hook (webhook)");
    screen.shows("••••••••");
    screen.write("2");
    screen.press(&["Enter"]);
    screen.shows("alert hook2 changed (cluster version now ");
    screen.write("t");
    screen.shows("alert hook2: test sent");
    assert_eq!(told.load(Ordering::SeqCst), 1);
    screen.write("D");
    screen.shows("alert hook2 is a default now (cluster version now ");
    screen.write("2");
    screen.shows("hook2*");
    screen.write("tr");
    screen.shows("< recovered >");
    screen.press(&["Enter"]);
    screen.shows("check site: RECOVERED sent as a test to hook2");
    assert_eq!(told.load(Ordering::SeqCst), 2);
    screen.write("3D");
    screen.shows("alert hook2 is no default any more (cluster version now ");

    // A question before something is removed.
    screen.write("2d");
    screen.shows("Remove check site?");
    screen.write("n");
    screen.shows("not done");
    assert!(node.check("site").is_some());
    screen.write("dy");
    screen.shows("check site removed (cluster version now ");
    assert_eq!(node.check("site"), None);
}

#[test]
fn a_daemon_that_hangs_or_is_gone_never_stops_the_keys() {
    let mut node = single();
    let screen = Terminal::open(&node);
    screen.start("");
    screen.shows("[2 Checks 0]");
    node.signal(Signal::SIGSTOP).unwrap();
    screen.shows("NO ANSWER FROM THE DAEMON: the daemon does not answer");
    screen.write("3");
    screen.shows("[3 Alerts 0]");
    node.signal(Signal::SIGCONT).unwrap();
    screen.lacks("NO ANSWER");
    node.sigterm().unwrap();
    screen.shows("NO ANSWER FROM THE DAEMON: ");
    screen.shows("Trying again; shown is how it stood");
    screen.write("?");
    screen.shows("acknowledge a check that is down");
    screen.write("q");
    screen.lacks("acknowledge a check that is down");
    node.start().unwrap();
    screen.lacks("NO ANSWER");
}

/// Whether anything is; colours come with other properties, in any order.
fn is_green(painted: &str) -> bool {
    let sequences = painted.split('\u{1b}').skip(1);
    let mut ends = sequences.filter_map(|text| text.strip_prefix('[')?.split_once('m'));
    // The second colour of sixteen, or of all.
    ends.any(|(codes, _)| codes == "32" || codes.contains("38;5;2"))
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let node = single();
    let screen = Terminal::open(&node);
    let is_sane = |round: &str| {
        screen.write(&format!("clear; stty -a; echo round-$((6*7))-{round}"));
        screen.press(&["Enter"]);
        screen.shows(&format!("round-42-{round}"));
        let shown = screen.picture();
        for mode in ["icanon", "echo", "isig", "opost"] {
            let is_on = shown.split_whitespace().any(|word| word == mode);
            assert!(is_on, "{mode} in\n{shown}");
        }
    };
    screen.write("echo before");
    screen.press(&["Enter"]);
    screen.start("");
    screen.shows("[2 Checks 0]");
    screen.lacks("before");
    screen.write("q");
    screen.shows("before");
    screen.shows("over-42");
    is_sane("q");
    screen.start("NO_COLOR=1 ");
    screen.shows("[2 Checks 0]");
    screen.write("1");
    screen.shows("true master");
    let painted = screen.painted();
    assert!(!is_green(&painted), "{painted:?}");
    screen.press(&["C-c"]);
    screen.shows("over-42");
    is_sane("c");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let file = node.dir().join("pid");
        drop(std::fs::remove_file(&file));
        let path = file.display();
        screen.write(&format!(
            "sh -c 'echo $$ >{path}.new; mv {path}.new {path}; exec \"$PROGRAM\" qu tui'"
        ));
        screen.press(&["Enter"]);
        screen.shows("[2 Checks 0]");
        // With colours, `true` of a live node is green.
        screen.write("1");
        screen.shows("true master");
        assert!(is_green(&screen.painted()), "{:?}", screen.painted());
        let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
        wait_until(LIMIT, "the program to end", || {
            kill(Pid::from_raw(pid), None).is_err()
        });
        is_sane(signal.as_str());
    }
}

#[test]
fn without_a_terminal_it_says_what_else_to_do() {
    let node = Qu::init(1, QU_SECRET).unwrap();
    let output = node.run(&["tui"]).unwrap();
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (
            1,
            "",
            "error: qu tui needs a terminal; qu status prints the same once\n"
        )
    );
}
