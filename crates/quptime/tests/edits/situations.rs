//! What people do to the file, and to the nodes meanwhile.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant};

use sim::Rng;
use testkit::{Qu, QuCluster, wait_until};

use super::model::{Checks, Edit, checks_of};
use super::{LIMIT, equal, kept, replace, says, status};

/// A name, and what is done.
type Situation = (&'static str, fn(&mut Round));

/// Every kind by name.
pub(crate) const ALL: [Situation; 15] = [
    ("one edit", one_edit),
    ("two nodes, different entries", two_entries),
    ("two nodes, one entry", one_entry),
    ("edited while stopped", while_stopped),
    ("edited while stopped, as others do", while_stopped_and_elsewhere),
    ("without quorum", without_quorum),
    ("an editor left open", left_open),
    ("an editor left open, one entry", left_open_one_entry),
    ("saved in two halves", halves),
    ("a placeholder", placeholder),
    ("comments", comments),
    ("no sense", no_sense),
    ("an edit and a command", with_a_command),
    ("the master dies", master_dies),
    ("all stopped, two come back", all_stopped),
];

/// How an editor saves.
#[derive(Debug, Clone, Copy)]
enum Saving {
    Renames,
    InPlace,
    Halves,
}

/// A cluster and what must be in it.
pub(crate) struct Round {
    cluster: QuCluster,
    checks: Checks,
    rng: Rng,
    /// Numbers and names that come next.
    next: u64,
    /// What was done last, for whoever reads a failure.
    done: Vec<String>,
}

impl Round {
    pub(crate) fn new(cluster: QuCluster, checks: Checks, rng: Rng) -> Round {
        Round {
            cluster,
            checks,
            rng,
            next: 1000,
            done: Vec::new(),
        }
    }

    fn node(&mut self) -> usize {
        self.rng.below(3) as usize
    }

    fn other(&mut self, than: usize) -> usize {
        (than + 1 + self.rng.below(2) as usize) % 3
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Some edit of an entry that none of these is about.
    fn edit(&mut self, but: &[&str]) -> Edit {
        let number = self.number();
        let names: Vec<String> = self
            .checks
            .keys()
            .filter(|name| !but.contains(&name.as_str()))
            .cloned()
            .collect();
        let name = self.rng.pick(&names).clone();
        match self.rng.below(4) {
            0 => Edit::Add(format!("n{number}"), number),
            1 if self.checks.len() > 5 => Edit::Remove(name),
            _ => Edit::Set(name, number),
        }
    }

    fn save(&mut self, at: usize, text: &str) {
        let saving = *self
            .rng
            .pick(&[Saving::Renames, Saving::Renames, Saving::InPlace, Saving::Halves]);
        let cut = self.rng.below(text.len() as u64) as usize;
        self.done.push(format!("node {at} {saving:?} (half: {cut})"));
        save(&self.cluster.nodes[at], text, saving, cut);
    }

    /// What all nodes have, once they have it.
    fn begin(&mut self) -> String {
        self.done.clear();
        equal(&self.cluster)
    }

    fn apply(&mut self, edit: &Edit) {
        self.done.push(format!("{edit:?}"));
        edit.carry_out(&mut self.checks);
    }

    /// Waits until all nodes have what must be.
    #[track_caller]
    pub(crate) fn holds(&self, name: &str) {
        let mut text = String::new();
        let deadline = Instant::now() + LIMIT;
        loop {
            text.clone_from(&self.cluster.nodes[0].cluster_text());
            let same = self.cluster.nodes.iter().all(|node| node.cluster_text() == text);
            if same && checks_of(&text).as_ref() == Some(&self.checks) {
                return;
            }
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let states: Vec<String> = self.cluster.nodes.iter().map(status).collect();
        panic!(
            "{name}: {:?}\nexpected {:?}\nfound {:?}\n{text}\n{}",
            self.done,
            self.checks,
            checks_of(&text),
            states.join("\n")
        );
    }

    /// Which of two edits of one entry won; the other one is kept on its node, and told.
    #[track_caller]
    fn one_of(&mut self, sides: [(usize, Edit, String); 2]) {
        let mut won = None;
        wait_until(LIMIT, "one edit to win and the other one to be kept", || {
            let kept_on = |(at, _, text): &(usize, Edit, String)| was_kept(&self.cluster.nodes[*at], text);
            let lost: Vec<bool> = sides.iter().map(kept_on).collect();
            won = lost
                .iter()
                .position(|lost| !lost)
                .filter(|_| lost.contains(&true));
            won.is_some()
        });
        let won = won.unwrap();
        let loser = &self.cluster.nodes[sides[1 - won].0];
        assert!(
            loser.log().contains("changed meanwhile; the edit is kept in "),
            "{}",
            loser.log()
        );
        let edit = sides[won].1.clone();
        self.apply(&edit);
    }

    /// At the end a peer is removed by hand.
    pub(crate) fn finish(mut self) {
        let text = self.begin();
        let master = self.cluster.master().unwrap();
        let gone = (master + 1) % 3;
        let at = (master + 2) % 3;
        let id = self.cluster.nodes[gone].id();
        let start = text.find(&format!("  - node_id: {id}\n")).unwrap();
        let rest = &text[start + 1..];
        let next = rest
            .find("\n  - node_id: ")
            .into_iter()
            .chain(rest.find("\nchecks:"));
        let end = start + 1 + next.min().unwrap() + 1;
        replace(
            &self.cluster.nodes[at],
            &format!("{}{}", &text[..start], &text[end..]),
        );
        wait_until(LIMIT, "the node to be removed", || {
            let left = [master, at].map(|node| &self.cluster.nodes[node]);
            let two = |node: &&Qu| {
                status(node).contains("quorum     true (need 2)") && !node.cluster_text().contains(&id)
            };
            left.iter().all(two)
        });
        says(&self.cluster.nodes[gone], "removed from cluster");
        self.cluster.nodes[gone].sigterm().unwrap();
        let text = equal(&self.cluster);
        assert_eq!(checks_of(&text), Some(self.checks.clone()));
    }
}

/// Whether an edit was kept beside the file.
fn was_kept(node: &Qu, text: &str) -> bool {
    let files = kept(node, "cluster.yaml.rejected-");
    files
        .iter()
        .any(|file| std::fs::read_to_string(file).unwrap() == text)
}

fn save(node: &Qu, text: &str, saving: Saving, cut: usize) {
    let cut = (0..=cut).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0);
    match saving {
        Saving::Renames => replace(node, text),
        Saving::InPlace => std::fs::write(node.cluster_file(), text).unwrap(),
        Saving::Halves => {
            let mut file = std::fs::File::create(node.cluster_file()).unwrap();
            file.write_all(&text.as_bytes()[..cut]).unwrap();
            // An editor that takes its time: longer than the daemon waits for a file to be left alone.
            std::thread::sleep(Duration::from_millis(900));
            file.seek(SeekFrom::Start(cut as u64)).unwrap();
            file.write_all(&text.as_bytes()[cut..]).unwrap();
        }
    }
}

fn one_edit(round: &mut Round) {
    let (at, text) = (round.node(), round.begin());
    let edit = round.edit(&[]);
    round.save(at, &edit.write(&text));
    round.apply(&edit);
}

fn two_entries(round: &mut Round) {
    let (at, text) = (round.node(), round.begin());
    let other = round.other(at);
    let one = round.edit(&[]);
    let two = round.edit(&[one.name()]);
    round.save(at, &one.write(&text));
    round.save(other, &two.write(&text));
    round.apply(&one);
    round.apply(&two);
}

/// Two contents of one entry.
fn rivals(round: &mut Round) -> [Edit; 2] {
    let names: Vec<String> = round.checks.keys().cloned().collect();
    let name = round.rng.pick(&names).clone();
    [(); 2].map(|()| Edit::Set(name.clone(), round.number()))
}

fn one_entry(round: &mut Round) {
    let (at, text) = (round.node(), round.begin());
    let other = round.other(at);
    let [one, two] = rivals(round);
    let (first, second) = (one.write(&text), two.write(&text));
    round.save(at, &first);
    round.save(other, &second);
    round.one_of([(at, one, first), (other, two, second)]);
}

fn while_stopped(round: &mut Round) {
    let at = round.node();
    round.begin();
    round.cluster.nodes[at].sigterm().unwrap();
    let one = round.edit(&[]);
    let text = one.write(&round.cluster.nodes[at].cluster_text());
    replace(&round.cluster.nodes[at], &text);
    // Others go on, in other entries.
    let two = round.edit(&[one.name()]);
    let other = round.other(at);
    let theirs = two.write(&equal(&round.cluster));
    round.save(other, &theirs);
    round.apply(&two);
    wait_until(LIMIT, "the others to go on", || {
        checks_of(&round.cluster.nodes[other].cluster_text()) == Some(round.checks.clone())
            && round.cluster.nodes[other].cluster_text() != theirs
    });
    round.cluster.nodes[at].start().unwrap();
    round.apply(&one);
}

fn while_stopped_and_elsewhere(round: &mut Round) {
    let at = round.node();
    round.begin();
    let [one, two] = rivals(round);
    round.cluster.nodes[at].sigterm().unwrap();
    let text = one.write(&round.cluster.nodes[at].cluster_text());
    replace(&round.cluster.nodes[at], &text);
    round.cluster.settled().unwrap();
    let other = round.other(at);
    let timeout = round.cluster.nodes[other].run(&["check", "edit", two.name(), "--target", &target(&two)]);
    timeout.unwrap().ok();
    round.cluster.nodes[at].start().unwrap();
    round.one_of([
        (at, one, text),
        (other, two, String::from("nobody keeps a command")),
    ]);
}

fn target(edit: &Edit) -> String {
    match edit {
        Edit::Set(_, number) | Edit::Add(_, number) => format!("127.0.0.1:{number}"),
        Edit::Remove(_) => panic!("nothing to aim at"),
    }
}

fn without_quorum(round: &mut Round) {
    let (at, text) = (round.node(), round.begin());
    let others: Vec<usize> = (0..3).filter(|other| *other != at).collect();
    for other in &others {
        round.cluster.nodes[*other].kill9().unwrap();
    }
    let edit = round.edit(&[]);
    round.save(at, &edit.write(&text));
    says(&round.cluster.nodes[at], "hand edit: waits: ");
    if round.rng.chance(500) {
        round.cluster.nodes[at].restart().unwrap();
    }
    for other in others {
        round.cluster.nodes[other].start().unwrap();
    }
    round.apply(&edit);
}

fn left_open(round: &mut Round) {
    let (at, text) = (round.node(), round.begin());
    let mine = round.edit(&[]);
    let mut names = vec![mine.name().to_owned()];
    for _ in 0..2 {
        let but: Vec<&str> = names.iter().map(String::as_str).collect();
        let theirs = round.edit(&but);
        names.push(theirs.name().to_owned());
        let other = round.node();
        let now = equal(&round.cluster);
        round.save(other, &theirs.write(&now));
        round.apply(&theirs);
        round.holds("somebody else's edit");
    }
    round.save(at, &mine.write(&text));
    round.apply(&mine);
}

fn left_open_one_entry(round: &mut Round) {
    let (at, text) = (round.node(), round.begin());
    let [mine, theirs] = rivals(round);
    let other = round.node();
    let edited =
        round.cluster.nodes[other].run(&["check", "edit", theirs.name(), "--target", &target(&theirs)]);
    edited.unwrap().ok();
    round.apply(&theirs);
    round.holds("somebody else's edit");
    let text = mine.write(&text);
    round.save(at, &text);
    wait_until(LIMIT, "the old edit to be kept", || {
        was_kept(&round.cluster.nodes[at], &text)
    });
}

fn halves(round: &mut Round) {
    let (at, text) = (round.node(), round.begin());
    let edit = round.edit(&[]);
    let text = edit.write(&text);
    // Most of them between two lines, where half a file makes the most sense.
    let lines: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let cut = *round.rng.pick(&lines);
    save(&round.cluster.nodes[at], &text, Saving::Halves, cut);
    round.done.push(format!("node {at} halves at {cut}"));
    round.apply(&edit);
}

fn placeholder(round: &mut Round) {
    let (at, text) = (round.node(), round.begin());
    let version = round.cluster.nodes[at].version();
    let edit = round.edit(&[]);
    let zero = edit
        .write(&text)
        .replacen(&format!("version: {version}\n"), "version: 0\n", 1);
    round.save(at, &zero);
    wait_until(LIMIT, "the placeholder to be written over", || {
        round.cluster.nodes[at].cluster_text() == text
    });
    assert_eq!(round.cluster.nodes[at].version(), version);
}

fn comments(round: &mut Round) {
    let (at, text) = (round.node(), round.begin());
    round.save(at, &format!("{text}# a remark\n"));
    // The next change writes the file as everybody has it, unless it comes before the remark is looked at, which is the same.
    let edit = round.edit(&[]);
    let other = round.other(at);
    round.save(other, &edit.write(&text));
    round.apply(&edit);
}

fn no_sense(round: &mut Round) {
    let (at, text) = (round.node(), round.begin());
    let version = round.cluster.nodes[at].version();
    let name = round.checks.keys().next().unwrap().clone();
    let named = format!("    name: {name}\n");
    let at_name = text[..text.find(&named).unwrap()].lines().count() as u64 + 1;
    let last = text.lines().count() as u64;
    let (bad, line) = match round.rng.below(7) {
        0 => (format!("{text}colour: blue\n"), last + 1),
        1 => (
            text.replacen(&named, &format!("{named}    interval: soon\n"), 1),
            0,
        ),
        2 => (
            text.replacen(&named, &format!("{named}    colour: blue\n"), 1),
            at_name + 1,
        ),
        3 => (
            text.replacen(&named, &format!("{named}    disabled: 7\n"), 1),
            at_name + 1,
        ),
        4 => (text.replacen(&named, &format!("{named}   - [\n"), 1), 0),
        5 => (text.replacen(&named, "    name: \"a\\u202eb\"\n", 1), at_name - 1),
        _ => (
            text.replacen(&named, &format!("{named}    alert_ids: [nobody]\n"), 1),
            at_name - 1,
        ),
    };
    replace(&round.cluster.nodes[at], &bad);
    let told = if line == 0 {
        "hand edit: not applied: line ".to_owned()
    } else {
        format!("hand edit: not applied: line {line}: ")
    };
    round.done.push(format!("node {at}, {told}"));
    says(&round.cluster.nodes[at], &told);
    assert_eq!(
        round.cluster.nodes[at].cluster_text(),
        bad,
        "the operator's text stays"
    );
    assert_eq!(round.cluster.nodes[at].version(), version);
    round.save(at, &text);
    wait_until(LIMIT, "the mistake to be forgotten", || {
        !status(&round.cluster.nodes[at]).contains("hand edit")
    });
}

fn with_a_command(round: &mut Round) {
    let (at, text) = (round.node(), round.begin());
    let [mine, theirs] = rivals(round);
    let text = mine.write(&text);
    replace(&round.cluster.nodes[at], &text);
    // About as long as the daemon takes to look.
    std::thread::sleep(Duration::from_millis(round.rng.below(900)));
    let other = round.node();
    let said =
        round.cluster.nodes[other].run(&["check", "edit", theirs.name(), "--target", &target(&theirs)]);
    let said = said.unwrap();
    assert!(said.code == 0 || said.code == 5, "{said:?}");
    let mut edit_lost = false;
    wait_until(LIMIT, "the edit to be judged", || {
        edit_lost = was_kept(&round.cluster.nodes[at], &text);
        edit_lost
            || round.cluster.nodes[at].log().contains("manual-edit: applied")
                && round.cluster.nodes[at].cluster_text() != text
    });
    // One after the other, in either order; both at once only if the command saw the edit.
    assert!(said.code == 0 || !edit_lost, "both were refused");
    if edit_lost || said.code == 0 {
        round.apply(&theirs);
    } else {
        round.apply(&mine);
    }
}

fn master_dies(round: &mut Round) {
    let text = round.begin();
    let master = round.cluster.master().unwrap();
    let at = round.other(master);
    let edit = round.edit(&[]);
    let before = kept(&round.cluster.nodes[at], "cluster.yaml.rejected-").len();
    replace(&round.cluster.nodes[at], &edit.write(&text));
    // Around the moment in which it is proposed.
    std::thread::sleep(Duration::from_millis(300 + round.rng.below(500)));
    round.cluster.nodes[master].kill9().unwrap();
    round.apply(&edit);
    wait_until(LIMIT, "the edit to be applied", || {
        checks_of(&round.cluster.nodes[at].cluster_text()) == Some(round.checks.clone())
            && !status(&round.cluster.nodes[at]).contains("hand edit")
    });
    round.cluster.nodes[master].start().unwrap();
    assert_eq!(
        kept(&round.cluster.nodes[at], "cluster.yaml.rejected-").len(),
        before
    );
}

fn all_stopped(round: &mut Round) {
    let at = round.node();
    round.begin();
    for node in &mut round.cluster.nodes {
        node.sigterm().unwrap();
    }
    let edit = round.edit(&[]);
    let text = edit.write(&round.cluster.nodes[at].cluster_text());
    replace(&round.cluster.nodes[at], &text);
    let other = round.other(at);
    round.cluster.nodes[at].start().unwrap();
    round.cluster.nodes[other].start().unwrap();
    round.apply(&edit);
    wait_until(LIMIT, "just a majority to apply the edit", || {
        let has =
            |node: usize| checks_of(&round.cluster.nodes[node].cluster_text()) == Some(round.checks.clone());
        has(at) && has(other)
    });
    round.cluster.nodes[3 - at - other].start().unwrap();
}
