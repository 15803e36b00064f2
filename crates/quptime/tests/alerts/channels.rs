//! What channels get while everybody lives.

use testkit::wait_until;

use super::relay::Relay;
use super::sink::Sink;
use super::{LIMIT, Watched, watch};

#[test]
fn an_outage_is_told_once_on_every_channel_and_so_is_its_end() {
    let relay = Relay::start();
    let watched = Watched::start();
    let first = &watched.cluster.nodes[0];
    let mail: Vec<String> = ["alert", "add", "smtp", "mail"]
        .map(str::to_owned)
        .into_iter()
        .chain(relay.options())
        .collect();
    let mail: Vec<&str> = mail.iter().map(String::as_str).collect();
    first.run(&mail).unwrap().ok();
    let webhook = watched.sink.url("/discord");
    first
        .run(&[
            "alert",
            "add",
            "discord",
            "chat",
            "--webhook",
            &webhook,
            "--default",
        ])
        .unwrap()
        .ok();
    first
        .run(&["check", "edit", "page", "--alerts", "mail"])
        .unwrap()
        .ok();

    watched.target.fail();
    watched.sees("page", "down 0/3");
    watched.sink.wait("page", &["DOWN"]);
    watched.target.recover();
    watched.sees("page", "up 3/3");
    watched.sink.wait("page", &["DOWN", "RECOVERED"]);
    wait_until(LIMIT, "the mails", || relay.subjects().len() >= 2);
    wait_until(LIMIT, "the chat", || watched.sink.at("/discord").len() >= 2);

    // A second outage comes after anything that might have been repeated for the first.
    watched.target.fail();
    wait_until(LIMIT, "the third mail", || relay.subjects().len() >= 3);
    wait_until(LIMIT, "the chat", || watched.sink.at("/discord").len() >= 3);
    watched.sink.wait("page", &["DOWN", "RECOVERED", "DOWN"]);
    let subjects = relay.subjects();
    assert_eq!(subjects.len(), 3, "{subjects:?}");
    for (subject, verb) in subjects.iter().zip(["DOWN", "RECOVERED", "DOWN"]) {
        assert!(subject.starts_with("[quptime]"), "{subject}");
        assert!(subject.contains(verb) && subject.contains("page"), "{subject}");
    }
    let chat = watched.sink.at("/discord");
    for (told, verb) in chat.iter().zip(["DOWN", "RECOVERED", "DOWN"]) {
        let content = told.body["content"].as_str().unwrap();
        assert!(content.contains(verb) && content.contains("page"), "{content}");
    }
    let events = watched.sink.at("/hook");
    let ids: Vec<&str> = events
        .iter()
        .map(|told| told.body["delivery_id"].as_str().unwrap())
        .collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    assert_eq!(events[0].body["dedup_key"], events[1].body["dedup_key"]);
    assert_ne!(events[1].body["dedup_key"], events[2].body["dedup_key"]);
}

#[test]
fn a_verdict_needs_a_majority() {
    let watched = Watched::start();
    let processes: Vec<u32> = watched
        .cluster
        .nodes
        .iter()
        .map(|node| node.pid().unwrap())
        .collect();
    // The master itself is the only one that finds the page down.
    watched.target.fail_for(&processes[..1]);
    watched.sees("page", "up 2/3");
    // Another check goes down and up meanwhile: enough rounds have passed, and nothing was told about the page.
    let other = super::Target::start();
    watch(&watched.cluster.nodes[0], "other", &other);
    watched.sees("other", "up 3/3");
    other.fail();
    watched.sink.wait("other", &["DOWN"]);
    other.recover();
    watched.sink.wait("other", &["DOWN", "RECOVERED"]);
    watched.sees("page", "up 2/3");
    assert_eq!(watched.sink.verbs("page"), [""; 0]);
    // Two of three are a majority.
    watched.target.fail_for(&processes[1..]);
    watched.sees("page", "down 1/3");
    watched.sink.wait("page", &["DOWN"]);
    watched.target.fail_for(&processes[..1]);
    watched.sees("page", "up 2/3");
    watched.sink.wait("page", &["DOWN", "RECOVERED"]);
}

#[test]
fn a_channel_that_never_answers_delays_no_other() {
    let watched = Watched::start();
    let silent = watched.sink.url("/silent");
    let first = &watched.cluster.nodes[0];
    let added = first.run(&["alert", "add", "webhook", "asleep", "--url", &silent, "--default"]);
    let added = added.unwrap().ok();
    let id = added.split_once(", id ").unwrap().1.split(' ').next().unwrap();
    watched.target.fail();
    watched.sink.wait("page", &["DOWN"]);
    watched.target.recover();
    watched.sink.wait("page", &["DOWN", "RECOVERED"]);
    watched.target.fail();
    watched.sink.wait("page", &["DOWN", "RECOVERED", "DOWN"]);
    // The first message still has not been taken, and nobody has forgotten it.
    wait_until(LIMIT, "the silent channel to be tried", || {
        !watched.sink.at("/silent").is_empty()
    });
    let all = first.run(&["deliveries"]).unwrap().ok();
    let own: Vec<&str> = all
        .lines()
        .filter(|line| line.contains(&format!("/{id} ")))
        .collect();
    assert!(
        !own.is_empty() && own.iter().all(|line| !line.contains(" sent")),
        "{all}"
    );
}

#[test]
fn a_test_of_an_alert_says_what_went_wrong() {
    let watched = Watched::start();
    let node = &watched.cluster.nodes[1];
    let said = node.run(&["alert", "test", "hook"]).unwrap().ok();
    assert_eq!(said, format!("alert hook: test sent from {}\n", node.id()));
    let told = watched.sink.at("/hook");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].body["test"], true);

    let sink = Sink::start();
    let url = sink.url("/refused-with-token");
    node.run(&["alert", "add", "webhook", "gone", "--url", &url])
        .unwrap()
        .ok();
    let output = node.run(&["alert", "test", "gone"]).unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output:?}");
    let start = format!("error: alert gone: test from {}: ", node.id());
    assert!(output.stderr.starts_with(&start), "{output:?}");
    assert!(output.stderr.contains("404"), "{output:?}");
    assert!(!output.stderr.contains("with-token"), "{output:?}");

    // A test that was taken is enough for doctor, asked on whichever node; one that was refused is not.
    let findings = watched.cluster.nodes[0].run(&["doctor"]).unwrap().stdout;
    assert!(findings.contains(" hook took a test at "), "{findings}");
    assert!(
        findings.contains(" gone has delivered nothing yet; run qu alert test gone\n"),
        "{findings}"
    );

    // From everywhere: each node's own connection is tried.
    let output = node.run(&["alert", "test", "hook", "--all-nodes"]).unwrap().ok();
    for node in &watched.cluster.nodes {
        assert!(
            output.contains(&format!("test sent from {}\n", node.id())),
            "{output}"
        );
    }
    assert_eq!(watched.sink.at("/hook").len(), 4);
}

#[test]
fn who_was_told_of_an_outage_hears_that_its_check_was_disabled_or_removed() {
    let watched = Watched::start();
    let first = &watched.cluster.nodes[0];
    watched.target.fail();
    watched.sink.wait("page", &["DOWN"]);
    first.run(&["check", "disable", "page"]).unwrap().ok();
    watched.sink.wait("page", &["DOWN", "DISABLED"]);
    // It is still down when it is looked at again: that is another outage.
    first.run(&["check", "enable", "page"]).unwrap().ok();
    watched.sink.wait("page", &["DOWN", "DISABLED", "DOWN"]);
    first.run(&["check", "remove", "page"]).unwrap().ok();
    watched
        .sink
        .wait("page", &["DOWN", "DISABLED", "DOWN", "REMOVED"]);
    let told = watched.sink.at("/hook");
    let keys: Vec<&str> = told
        .iter()
        .map(|told| told.body["dedup_key"].as_str().unwrap())
        .collect();
    assert!(
        keys[0] == keys[1] && keys[2] == keys[3] && keys[1] != keys[2],
        "{keys:?}"
    );
    let open: Vec<bool> = told.iter().map(|told| told.body["open"] == true).collect();
    assert_eq!(open, [true, false, true, false]);
    let text = told[3].body["body"].as_str().unwrap();
    assert!(
        text.contains("removed by uid ") && text.contains("(check remove)"),
        "{text}"
    );
}
