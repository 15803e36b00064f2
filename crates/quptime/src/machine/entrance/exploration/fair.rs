//! From here on nothing fails and the operator rests: does everybody get into one group, or hear why not?

use super::world::{Seen, State, World, id};
use super::{Budget, Rules, names};
use crate::machine::entrance::Waiting;

/// More than any fair run needs.
const ROUNDS: usize = 40;

pub(super) fn run(state: &State, rules: &Rules, seen: &Seen) -> Result<(), String> {
    let mut fair = *rules;
    fair.slow_disk = false;
    let mut state = state.clone();
    state.cuts = 0;
    state.left = Budget {
        foundings: u8::MAX,
        ..Budget::default()
    };
    let mut world = World::new(state, &fair, seen);
    let mut before = None;
    for _ in 0..ROUNDS {
        round(&mut world).map_err(|violation| format!("in a fair run: {violation}"))?;
        if is_settled(&world) {
            return Ok(());
        }
        let now = names::number(&names::canonical(&world.state));
        if before.replace(now) == Some(now) {
            break;
        }
    }
    explained(&world)
}

fn round(world: &mut World<'_>) -> Result<(), String> {
    let nodes = world.rules.nodes;
    for at in 0..nodes {
        world.perform(super::Move::Written(at))?;
        world.perform(super::Move::Start(at))?;
        world.follow_up()?;
    }
    for at in 0..nodes {
        for peer in (0..nodes).filter(|peer| *peer != at) {
            world.ask(at, peer)?;
        }
        world.half_a_minute(at);
        world.look(at)?;
        world.follow_up()?;
        world.truth()?;
    }
    for at in 0..nodes {
        world.elect(at)?;
        world.follow_up()?;
        for _ in 0..2 {
            for to in (0..nodes).filter(|to| *to != at) {
                world.send(at, to)?;
                world.follow_up()?;
            }
        }
        for node in (0..nodes).filter(|node| *node != at) {
            if world.admit(at, node)? {
                for to in (0..nodes)
                    .filter(|to| *to != at)
                    .chain((0..nodes).filter(|to| *to != at))
                {
                    world.send(at, to)?;
                }
            }
        }
        world.follow_up()?;
        world.truth()?;
    }
    Ok(())
}

/// One group runs, and everybody whom it lists is a voter in it and knows.
fn is_settled(world: &World<'_>) -> bool {
    let nodes = 0..world.rules.nodes;
    let Some(leader) = nodes.clone().find(|at| world.node(*at).leads) else {
        return false;
    };
    let Some(log) = world.active(leader) else {
        return false;
    };
    let mut listed = nodes.filter(|at| log.content.lists(*at));
    world.running().len() == 1
        && listed.all(|at| {
            let here = world.active(at).filter(|own| own.group == log.group);
            let entrance = world.node(at).entrance.as_ref();
            here.is_some_and(|own| log.voters.get(&id(at)) == Some(&own.life) && own.last == log.last)
                && entrance.is_some_and(|entrance| entrance.leader.is_some())
        })
}

fn explained(world: &World<'_>) -> Result<(), String> {
    let entrances: Vec<_> = world
        .state
        .nodes
        .iter()
        .filter_map(|node| node.entrance.as_ref())
        .collect();
    let same = entrances
        .windows(2)
        .all(|pair| pair[0].digest() == pair[1].digest());
    let named = entrances.iter().any(|entrance| {
        let waiting = entrance.waiting();
        matches!(waiting, Some(Waiting::Differs(_) | Waiting::Placeholder(_)))
    });
    if world.running().len() > 1 && world.state.ghost.is_surgery() {
        return Ok(());
    }
    if named && !same {
        return Ok(());
    }
    let waiting: Vec<_> = entrances.iter().map(|entrance| entrance.waiting()).collect();
    let standing: Vec<_> = entrances.iter().map(|entrance| &entrance.note.standing).collect();
    Err(format!(
        "stuck: {waiting:?}, {standing:?}, running {:?}",
        world.running()
    ))
}
