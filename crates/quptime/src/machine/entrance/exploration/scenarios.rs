//! Counterexamples to weaker rules, by name.

use super::searches::{NOTHING, TWO};
use super::world::Kind;
use super::{Budget, Exploration, Move, Rules, fair};

#[test]
fn a_founder_whose_file_was_replaced_lets_its_followers_go() {
    use Move::{Ask, Elect, File, Look, Put, Send, Start};
    let budget = Budget {
        elections: 2,
        puts: 1,
        backups: 2,
        foundings: 1,
        ..NOTHING
    };
    let model = Exploration::new(Rules {
        budget,
        fair_every: 0,
        ..TWO
    });
    let state = model
        .play(&[
            Elect(1),
            Send { from: 1, to: 0 },
            Put(1),
            Send { from: 1, to: 0 },
            File(1, Kind::Backup),
            Start(1),
            Ask { node: 0, peer: 1 },
            Look(0),
            Ask { node: 1, peer: 0 },
            Look(1),
            Elect(0),
            File(0, Kind::Backup),
        ])
        .unwrap();
    fair::run(&state, &model.rules, &model.seen).unwrap();
}
