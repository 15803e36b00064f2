//! A test for every row of the start-up table and every case of the unanimous file rule.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const FILE: Digest = Digest([1; 32]);
const OTHER: Digest = Digest([2; 32]);
const GROUP: Group = Group {
    generation: 3,
    id: 33,
};

fn ids(nodes: &[u128]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

fn file(version: u64, digest: Digest, peers: &[u128], as_written: bool) -> FileFacts {
    let peers = ids(peers);
    FileFacts {
        version,
        digest,
        peers,
        as_written,
        is_edit: false,
    }
}

/// The same as an edit of a text that this node wrote.
fn edit(version: u64, peers: &[u128]) -> FileFacts {
    FileFacts {
        is_edit: true,
        ..file(version, OTHER, peers, false)
    }
}

/// Of `node`, one of three voters, at version 5.
fn state(node: u128, index: u64) -> RaftFacts {
    RaftFacts {
        group: GROUP,
        incarnation: Incarnation(node as u64),
        voters: (1..=3)
            .map(|voter| (NodeId(voter), Incarnation(voter as u64)))
            .collect(),
        last: Position { term: 4, index },
        beyond_founding: true,
        recovering: false,
        version: 5,
        digest: FILE,
    }
}

fn boot(node: u128, raft: Option<RaftFacts>, file: FileFacts) -> Boot {
    Boot {
        node: NodeId(node),
        note: Note::default(),
        raft: raft.map_or(Directory::Absent, Directory::Present),
        trial: None,
        file: Ok(file),
    }
}

fn running(members: &[u128]) -> Running {
    Running {
        group: GROUP,
        leader: NodeId(3),
        members: ids(members),
        version: 5,
        digest: FILE,
    }
}

/// What another node would say after it has looked once.
fn undecided(node: u128, raft: Option<RaftFacts>, file: FileFacts) -> Statement {
    let (mut entrance, _) = Entrance::new(boot(node, raft, file));
    entrance.handle(Input::Tick {
        fresh: 1000 + node as u64,
    });
    entrance.statement()
}

fn in_group(node: u128, running: Running) -> Statement {
    let mut statement = undecided(node, Some(state(node, 9)), file(5, FILE, &[1, 2, 3], true));
    (statement.running, statement.ticket) = (Some(running), None);
    statement
}

struct Node {
    entrance: Entrance,
    fresh: u64,
    began: Vec<Action>,
}

impl Node {
    fn start(boot: Boot) -> Node {
        let (entrance, began) = Entrance::new(boot);
        Node {
            entrance,
            fresh: 0,
            began,
        }
    }

    fn hears(&mut self, statement: Statement) -> &mut Node {
        self.entrance.handle(Input::Answer(statement));
        self
    }

    /// So many seconds, with disks that write at once.
    fn after(&mut self, seconds: u32) -> Vec<Action> {
        let mut all = Vec::new();
        for _ in 0..seconds {
            self.fresh += 1;
            let actions = self.entrance.handle(Input::Tick { fresh: self.fresh });
            let persists = actions.iter().any(|action| matches!(action, Action::Persist(_)));
            all.extend(
                actions
                    .into_iter()
                    .filter(|action| !matches!(action, Action::Ask(_))),
            );
            if persists {
                all.extend(self.entrance.handle(Input::Persisted));
            }
        }
        all
    }
}

fn rows(actions: &[Action]) -> Vec<Row> {
    let row = |action: &Action| match action {
        Action::Log(Line::Took(row)) => Some(*row),
        _ => None,
    };
    actions.iter().filter_map(row).collect()
}

fn founding(actions: &[Action]) -> Option<&Founding> {
    actions.iter().find_map(|action| match action {
        Action::Found(founding) => Some(founding),
        _ => None,
    })
}

const ALL: &[u128] = &[1, 2, 3];

#[test]
fn state_and_the_file_as_written_start_normally() {
    let node = Node::start(boot(1, Some(state(1, 9)), file(5, FILE, ALL, true)));
    assert_eq!(rows(&node.began), [Row::NormalStart]);
    assert!(node.began.contains(&Action::StartReplica));
}

#[test]
fn state_and_a_placeholder_rewrite_the_file_and_start() {
    let node = Node::start(boot(1, Some(state(1, 9)), file(0, OTHER, ALL, false)));
    assert_eq!(rows(&node.began), [Row::PlaceholderReplaced, Row::NormalStart]);
    assert!(node.began.contains(&Action::RewriteFile));
    assert!(!node.began.contains(&Action::PendingEdit));
}

#[test]
fn an_edited_file_waits_and_becomes_a_hand_edit_when_the_group_runs() {
    for (version, row) in [(5, Row::SameVersionEdit), (6, Row::HigherVersionEdit)] {
        let mut node = Node::start(boot(1, Some(state(1, 9)), file(version, OTHER, ALL, false)));
        assert_eq!(node.began, []);
        let actions = node.hears(in_group(3, running(ALL))).after(1);
        assert_eq!(rows(&actions), [row]);
        assert!(actions.contains(&Action::PendingEdit) && actions.contains(&Action::StartReplica));
    }
}

#[test]
fn an_edit_of_what_was_written_here_does_not_keep_its_node_from_starting() {
    // Version 4 was written here as well: the state went on before the file did.
    for version in [4, 5] {
        let mut node = Node::start(boot(1, Some(state(1, 9)), edit(version, ALL)));
        assert_eq!(rows(&node.began), [Row::StartsWithEdit]);
        assert_eq!(node.began[1..], [Action::PendingEdit, Action::StartReplica]);
        // It is a member like others, and agrees to its state: others may count on it for an election.
        node.after(1);
        let told = node.entrance.statement();
        assert!(told.data.unwrap().votes && told.digest == FILE && told.version == 5);
        let mut alone = Node::start(boot(3, None, file(5, FILE, ALL, false)));
        alone.hears(node.entrance.statement());
        alone.hears(undecided(2, Some(state(2, 9)), file(5, FILE, ALL, true)));
        alone.after(2);
        assert_eq!(alone.entrance.waiting(), Some(&Waiting::Electable(GROUP)));
    }
}

#[test]
fn other_edits_wait_for_a_group_that_runs() {
    let surgery = edit(5, &[1, 2]);
    let raised = edit(6, ALL);
    let restored = file(5, OTHER, ALL, false);
    for file in [surgery, raised, restored] {
        assert_eq!(Node::start(boot(1, Some(state(1, 9)), file)).began, []);
    }
    // The voters are those of the log, also where the group was about to change them.
    let mut grows = state(1, 9);
    grows.voters.insert(NodeId(4), Incarnation(4));
    assert_eq!(Node::start(boot(1, Some(grows), edit(5, ALL))).began, []);
}

#[test]
fn an_edit_of_an_older_text_that_was_written_here_is_no_stale_backup() {
    let surgery = edit(4, &[1, 2]);
    let mut node = Node::start(boot(1, Some(state(1, 9)), surgery));
    let actions = node.hears(in_group(3, running(ALL))).after(1);
    assert_eq!(rows(&actions), [Row::SameVersionEdit]);
    assert!(!actions.contains(&Action::KeepStale));
}

#[test]
fn a_life_whose_log_is_damaged_is_over() {
    let entering = Note {
        standing: Standing::Entering(GROUP, Incarnation(8)),
        generation: 3,
    };
    let left = Note {
        standing: Standing::Left,
        generation: 3,
    };
    assert_eq!(entering.clone().without_log(false), left);
    // It was not begun, so it is still good.
    assert_eq!(entering.clone().without_trial(), entering);
    assert_eq!(Note::default().without_log(false), Note::default());

    // What is told to move the folder aside comes back with another life.
    let mut node = Node::start(Boot {
        note: left,
        ..boot(1, None, file(5, FILE, ALL, false))
    });
    node.fresh = 70;
    assert!(node.began.is_empty() && node.entrance.statement().data.is_none());
    let actions = node.hears(in_group(3, running(ALL))).after(1);
    assert_eq!(rows(&actions), [Row::EntersRunning]);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::Enter(GROUP, Incarnation(life)) if *life != 8))
    );
}

#[test]
fn a_lower_version_is_a_stale_backup_when_the_group_runs() {
    let mut node = Node::start(boot(1, Some(state(1, 9)), file(4, OTHER, ALL, false)));
    let actions = node.hears(in_group(3, running(ALL))).after(1);
    assert_eq!(rows(&actions), [Row::StaleBackup]);
    let expected = [Action::KeepStale, Action::RewriteFile, Action::StartReplica];
    assert!(actions.windows(3).any(|three| three == expected), "{actions:?}");
}

#[test]
fn without_state_a_running_group_is_entered_with_a_new_life() {
    for version in [0, 4, 5] {
        let mut node = Node::start(boot(1, None, file(version, OTHER, ALL, false)));
        let actions = node.hears(in_group(3, running(ALL))).after(1);
        assert_eq!(rows(&actions), [Row::EntersRunning]);
        assert!(
            actions
                .iter()
                .any(|action| matches!(action, Action::Enter(GROUP, _)))
        );
        assert_eq!(actions.contains(&Action::KeepStale), version > 0);
    }
}

#[test]
fn a_placeholder_without_state_waits_for_the_peers_that_have_some() {
    let mut node = Node::start(boot(1, None, file(0, FILE, &[1, 2], false)));
    let actions = node
        .hears(undecided(2, Some(state(2, 9)), file(5, FILE, &[1, 2], true)))
        .after(65);
    assert_eq!(rows(&actions), []);
    let line = Action::Log(Line::Waiting(Waiting::Placeholder(NodeId(2))));
    assert_eq!(
        actions.iter().filter(|action| **action == line).count(),
        3,
        "at once and every 30 s"
    );
}

#[test]
fn equal_placeholders_without_any_state_found_a_group_of_version_one() {
    let zero = || file(0, FILE, &[1, 2], false);
    let mut node = Node::start(boot(1, None, zero()));
    let actions = node.hears(undecided(2, None, zero())).after(2);
    assert_eq!(rows(&actions), [Row::FoundsUnanimously]);
    assert_eq!(founding(&actions).unwrap().version, 1);
}

#[test]
fn a_file_that_lists_only_its_node_founds_alone() {
    let mut node = Node::start(boot(1, None, file(1, FILE, &[1], false)));
    let actions = node.after(2);
    assert_eq!(rows(&actions), [Row::FoundsAlone]);
    let founding = founding(&actions).unwrap();
    assert_eq!((founding.version, founding.group.generation), (1, 1));
}

#[test]
fn state_of_a_newer_schema_is_moved_aside() {
    let boot = Boot {
        raft: Directory::Newer,
        ..boot(1, None, file(4, FILE, ALL, false))
    };
    let node = Node::start(boot);
    assert_eq!(rows(&node.began), [Row::NewerSchema]);
    assert!(node.began.contains(&Action::MoveAside) && node.entrance.statement().data.is_none());
}

#[test]
fn a_file_that_cannot_be_taken_ends_the_program() {
    let boot = Boot {
        file: Err("line 3: unknown field".into()),
        ..boot(1, None, file(1, FILE, ALL, false))
    };
    let mut node = Node::start(boot);
    assert!(node.began.contains(&Action::Exit("line 3: unknown field".into())));
    assert_eq!(node.after(40), []);
}

/// Everybody edited the file in the same way: the new group has that content, and continues the log that goes farthest.
#[test]
fn equal_edits_on_all_replace_the_group_and_keep_their_version() {
    let edited = || file(8, OTHER, ALL, false);
    let mut node = Node::start(boot(2, Some(state(2, 9)), edited()));
    node.hears(undecided(1, Some(state(1, 7)), edited()));
    let actions = node.hears(undecided(3, Some(state(3, 9)), edited())).after(2);
    assert_eq!(rows(&actions), [Row::FoundsUnanimously]);
    let founding = founding(&actions).unwrap();
    assert_eq!(
        (founding.version, founding.content, founding.group.generation),
        (8, Content::File, 4)
    );
    assert_eq!(founding.base.unwrap().last, Position { term: 4, index: 9 });
    let lives = [(1, 1001), (2, 1), (3, 1003)].map(|(node, life)| (NodeId(node), Incarnation(life)));
    assert_eq!(founding.members, BTreeMap::from(lives));
    // It has left on disk before it founds.
    let persisted = actions
        .iter()
        .position(|action| matches!(action, Action::Persist(_)))
        .unwrap();
    let founded = actions
        .iter()
        .position(|action| matches!(action, Action::Found(_)))
        .unwrap();
    assert!(persisted < founded && actions[..persisted].contains(&Action::StopReplica));
}

#[test]
fn equal_edits_of_the_same_version_raise_it() {
    let edited = || file(5, OTHER, &[1, 2], false);
    let mut node = Node::start(boot(1, Some(state(1, 9)), edited()));
    node.entrance.handle(Input::Unreachable(NodeId(3)));
    node.hears(undecided(2, Some(state(2, 9)), edited()));
    assert_eq!(rows(&node.after(29)), [], "somebody of the old group is silent");
    let actions = node.after(2);
    assert_eq!(rows(&actions), [Row::FoundsUnanimously]);
    assert_eq!(founding(&actions).unwrap().version, 6);
}

#[test]
fn surgery_is_refused_while_a_listed_peer_is_in_a_running_group() {
    let mut node = Node::start(boot(1, Some(state(1, 9)), file(8, OTHER, &[1, 2], false)));
    let actions = node.hears(in_group(2, running(&[2, 3]))).after(40);
    assert_eq!(rows(&actions), []);
    assert_eq!(
        node.entrance.waiting(),
        Some(&Waiting::PeerInGroup(NodeId(2), GROUP))
    );
}

#[test]
fn different_files_are_refused_and_named() {
    let mut node = Node::start(boot(1, Some(state(1, 9)), file(8, OTHER, &[1, 2], false)));
    let actions = node
        .hears(undecided(2, Some(state(2, 9)), file(8, FILE, &[1, 2], false)))
        .after(65);
    assert_eq!(rows(&actions), []);
    let waiting = Waiting::Differs(ids(&[2]));
    assert!(
        waiting
            .to_string()
            .ends_with("differs from that of 00000000-0000-0000-0000-000000000002")
    );
    let line = Action::Log(Line::Waiting(waiting));
    assert_eq!(actions.iter().filter(|action| **action == line).count(), 3);
}

#[test]
fn a_majority_without_any_state_waits_half_a_minute() {
    let restored = || file(5, FILE, ALL, false);
    let mut node = Node::start(boot(1, None, restored()));
    node.entrance.handle(Input::Unreachable(NodeId(3)));
    node.hears(undecided(2, None, restored()));
    assert_eq!(rows(&node.after(29)), []);
    let actions = node.after(2);
    assert_eq!(rows(&actions), [Row::FoundsByMajority]);
    assert_eq!(founding(&actions).unwrap().members.len(), 2);
}

#[test]
fn a_majority_waits_for_the_silent_one_if_anybody_has_state_or_had_entered_a_group() {
    let mut entered = state(2, 0);
    entered.voters.clear();
    for raft in [state(2, 9), entered] {
        let mut node = Node::start(boot(1, None, file(5, FILE, ALL, false)));
        node.entrance.handle(Input::Unreachable(NodeId(3)));
        let actions = node
            .hears(undecided(2, Some(raft), file(5, FILE, ALL, true)))
            .after(65);
        assert_eq!(rows(&actions), []);
        assert_eq!(node.entrance.waiting(), Some(&Waiting::Unreachable(ids(&[3]))));
    }
}

#[test]
fn members_that_can_elect_are_left_alone() {
    let mut node = Node::start(boot(1, None, file(5, FILE, ALL, false)));
    for peer in [2, 3] {
        node.hears(undecided(peer, Some(state(peer, 9)), file(5, FILE, ALL, true)));
    }
    assert_eq!(rows(&node.after(65)), []);
    assert_eq!(node.entrance.waiting(), Some(&Waiting::Electable(GROUP)));
}

/// One member with state is left of three; nobody edited anything: the group continues its log, not the file.
#[test]
fn the_only_one_with_state_founds_from_its_log() {
    let mut node = Node::start(boot(3, Some(state(3, 9)), file(5, FILE, ALL, true)));
    for peer in [1, 2] {
        node.hears(undecided(peer, None, file(5, FILE, ALL, false)));
    }
    let actions = node.after(2);
    assert_eq!(rows(&actions), [Row::FoundsUnanimously]);
    assert_eq!(founding(&actions).unwrap().content, Content::Log);
}

#[test]
fn a_founding_with_the_very_ticket_is_followed_adopted_and_a_stranger_is_not() {
    let restored = || file(5, FILE, &[1, 2], false);
    let mut founder = Node::start(boot(1, None, restored()));
    let mut follower = Node::start(boot(2, None, restored()));
    follower.fresh = 50;
    follower.after(1);
    founder.hears(follower.entrance.statement()).after(2);
    let mut stranger = Node::start(boot(2, None, restored()));
    stranger.fresh = 70;
    stranger.after(1);
    assert_eq!(rows(&stranger.hears(founder.entrance.statement()).after(2)), []);

    let actions = follower.hears(founder.entrance.statement()).after(1);
    assert_eq!(rows(&actions), [Row::Follows]);
    let Standing::Trial(founding) = &follower.entrance.note.standing else {
        panic!("not on trial")
    };
    let begun = RaftFacts {
        group: founding.group,
        incarnation: Incarnation(51),
        voters: founding.members.clone(),
        ..state(2, 2)
    };
    let actions = follower.entrance.handle(Input::Advanced(begun));
    assert_eq!(rows(&actions), [Row::Adopts]);
}

#[test]
fn a_founding_whose_members_changed_their_minds_is_given_up() {
    let restored = || file(5, FILE, &[1, 2], false);
    let mut founder = Node::start(boot(1, None, restored()));
    founder.hears(undecided(2, None, restored())).after(2);
    assert!(matches!(founder.entrance.note.standing, Standing::Trial(_)));
    let mut restarted = undecided(2, None, restored());
    restarted.ticket.as_mut().unwrap().incarnation = Incarnation(4444);
    let actions = founder.hears(restarted).after(1);
    assert_eq!(rows(&actions), [Row::GivesUpTrial]);
    assert_eq!(founder.entrance.note.standing, Standing::Left);
}

#[test]
fn a_member_of_another_group_enters_the_running_one_unless_its_own_runs() {
    let other = |generation| RaftFacts {
        group: Group { generation, id: 44 },
        ..state(1, 9)
    };
    let written = || file(5, FILE, ALL, true);
    // Also one of a later generation: nodes without state that found by majority have not heard of any.
    for generation in [2, 4] {
        let mut orphan = Node::start(boot(1, Some(other(generation)), written()));
        let actions = orphan.hears(in_group(3, running(ALL))).after(1);
        assert_eq!(rows(&actions), [Row::EntersRunning]);
    }

    let mut led = Node::start(boot(1, Some(other(2)), written()));
    let own = Running {
        group: Group {
            generation: 2,
            id: 44,
        },
        ..running(ALL)
    };
    led.entrance.handle(Input::LeaderFound(own));
    let conflict = led.entrance.handle(Input::Answer(in_group(3, running(ALL))));
    assert!(matches!(conflict[..], [Action::Log(Line::GroupConflict { .. })]));
    assert_eq!(led.after(40), [], "it never yields");
}

#[test]
fn a_crash_at_any_time_is_made_up_for() {
    let restored = || file(5, FILE, &[1, 2], false);
    let mut node = Node::start(boot(1, None, restored()));
    let actions = node.hears(undecided(2, None, restored())).after(2);
    let founding = founding(&actions).unwrap().clone();
    let note = node.entrance.note.clone();
    let again = Node::start(Boot {
        note: note.clone(),
        ..boot(1, None, restored())
    });
    assert_eq!(again.began, [Action::Found(founding.clone())]);
    // The file was edited in between: nothing was founded from it, and nothing will be.
    let edited = Node::start(Boot {
        note: note.clone(),
        ..boot(1, None, file(6, OTHER, &[1, 2], false))
    });
    assert_eq!(edited.began, []);
    let begun = RaftFacts {
        group: founding.group,
        ..state(1, 3)
    };
    let adopted = Node::start(Boot {
        note,
        trial: Some(begun),
        ..boot(1, None, restored())
    });
    assert!(adopted.began.contains(&Action::Adopt) && adopted.began.contains(&Action::StartReplica));

    let note = Note {
        standing: Standing::Entering(GROUP, Incarnation(8)),
        ..Note::default()
    };
    let entering = Node::start(Boot {
        note,
        ..boot(1, Some(state(1, 9)), restored())
    });
    assert_eq!(entering.began, [Action::Enter(GROUP, Incarnation(8))]);
}
