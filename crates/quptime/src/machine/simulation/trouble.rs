//! What goes wrong, and what operators do meanwhile.

use super::world::{Channel, Event, World, check};
use crate::document::change::{Change, Entry};
use crate::document::schema::Window;
use crate::machine::Millis;
use crate::machine::command::{Acknowledge, Command, Configure};

impl World {
    pub(super) fn trouble(&mut self) {
        if self.fair {
            return;
        }
        let next = self.rng.between(1000, 25_000);
        self.queue.after(next, Event::Trouble);
        let any = usize::try_from(self.rng.below(self.nodes.len() as u64)).expect("a node");
        let leader = self.leader.unwrap_or(any);
        match self.rng.below(18) {
            0..4 => {
                let check = (*self.rng.pick(&["gateway", "gateway", "web", "db"])).to_owned();
                self.flip(&check);
            }
            4 => self.stop_for_a_while(leader),
            5 => self.stop_for_a_while(any),
            6 | 7 => {
                let until = self.now() + self.rng.between(500, 30_000);
                self.trace(|| format!("node {leader} stands still until {until}"));
                self.nodes[leader].stands_still_until = until;
            }
            8 => {
                for node in 0..self.nodes.len() {
                    self.nodes[node].side = self.rng.below(2);
                }
                self.trace(|| "the network is split".to_owned());
            }
            9 => self.heal(),
            10 | 11 => {
                let alert = (*self.rng.pick(&["chat", "boss", "once"])).to_owned();
                let taken = self.rng.chance(500);
                let kinds = [
                    Channel::Takes,
                    Channel::Takes,
                    Channel::Refuses,
                    Channel::Silent(taken),
                ];
                let kind = *self.rng.pick(&kinds);
                self.channels.insert(alert, kind);
            }
            12 => {
                self.nodes[any].blind = !self.nodes[any].blind;
                self.note_blind();
            }
            13 => {
                let check = (*self.rng.pick(&["gateway", "web", "db"])).to_owned();
                for time in 1..=16 {
                    self.queue.after(time * 32_000, Event::Flip(check.clone()));
                }
            }
            14 => self.edit(leader),
            15 => self.acknowledge(),
            _ => self.switch_damping(),
        }
    }

    fn note_blind(&mut self) {
        let now = self.now();
        // What a node found while it was blind may count for a while.
        self.ledger.blind = Some(if self.nodes.iter().any(|node| node.blind) {
            u64::MAX
        } else {
            now
        });
    }

    pub(super) fn flip(&mut self, check: &str) {
        if self.fair {
            return;
        }
        let silent = self.rng.chance(300);
        let target = self.targets.get_mut(check).expect("there is one");
        (target.down, target.silent) = (!target.down, silent);
        let down = target.down;
        self.set_fault(check, down);
    }

    fn set_fault(&mut self, check: &str, down: bool) {
        let until = if down { u64::MAX } else { self.now() };
        self.ledger.faults.insert(check.to_owned(), until);
        self.trace(|| format!("{check} is {}", if down { "down" } else { "up" }));
    }

    fn stop_for_a_while(&mut self, at: usize) {
        if self.nodes[at].up {
            if self.rng.chance(300) {
                // It is asked to stop, and does when it had time to hand over.
                self.nodes[at].mastery.stop();
                let life = self.nodes[at].life;
                self.queue.after(12_000, Event::Die(at, life));
                self.queue.after(15_000, Event::Start(at));
                return;
            }
            self.crash(at);
            let wait = self.rng.between(1000, 60_000);
            self.queue.after(wait, Event::Start(at));
        }
    }

    pub(super) fn heal(&mut self) {
        for node in &mut self.nodes {
            node.side = 0;
        }
        self.trace(|| "the network is whole".to_owned());
    }

    fn configure(&mut self, changes: Vec<Change>) {
        let by = self.nodes[0].id;
        let closes = self.leader.map(|leader| self.wall(leader));
        self.typed(Command::Configure(Configure {
            changes,
            by,
            uid: None,
            what: "test".to_owned(),
            at: String::new(),
            schema: 2,
            closes,
            leaves: None,
            bytes_max: None,
            insists: false,
        }));
    }

    fn edit(&mut self, leader: usize) {
        let document = self.truth.document.clone();
        let id = *self.rng.pick(&["web", "db"]);
        let known = document.check(id).cloned();
        let change = match (known, self.rng.below(3)) {
            (None, _) => Change::add(Entry::Check(Box::new(check(
                id,
                if id == "web" { &["gateway"] } else { &[] },
            )))),
            (Some(known), 0) => Change::remove(Entry::Check(Box::new(known))),
            (Some(known), 1) => {
                let mut wanted = known.clone();
                wanted.disabled = !known.disabled;
                Change::edit(Entry::Check(Box::new(known)), Entry::Check(Box::new(wanted)))
            }
            (Some(_), _) => {
                let checks = vec![(*self.rng.pick(&["gateway", "db"])).to_owned()];
                let (start, length) = (self.wall(leader), self.rng.between(20_000, 200_000));
                let text = |at: Millis| {
                    let at = i64::try_from(at).expect("a time");
                    jiff::Timestamp::from_millisecond(at).expect("a time").to_string()
                };
                if checks.iter().any(|id| document.check(id).is_none()) || !document.maintenance.is_empty() {
                    return;
                }
                Change::add(Entry::Window(Window {
                    id: "work".to_owned(),
                    name: "work".to_owned(),
                    checks,
                    group: None,
                    start: text(start),
                    end: text(start + length),
                    pause: false,
                }))
            }
        };
        self.trace(|| format!("somebody changes {}", change.title()));
        self.configure(vec![change]);
    }

    /// In some worlds a check comes and goes all the time, so that it flaps whatever else goes wrong.
    pub(super) fn comes_and_goes(&mut self) -> bool {
        if !self.rng.chance(400) {
            return false;
        }
        let check = (*self.rng.pick(&["gateway", "db", "db"])).to_owned();
        for time in 1..25 {
            self.queue.after(time * 38_000, Event::Flip(check.clone()));
        }
        if self.rng.chance(500) {
            let time = self.rng.between(8 * 60_000, 15 * 60_000);
            self.queue.after(time, Event::Detach(check));
        }
        true
    }

    /// An alert is not told of this check any more. For good: who comes back during an outage would not know of it.
    pub(super) fn detach(&mut self, check: &str) {
        let Some(known) = self.truth.document.check(check).cloned() else {
            return;
        };
        let mut wanted = known.clone();
        wanted.suppress_alert_ids = vec![(*self.rng.pick(&["chat", "boss", "once"])).to_owned()];
        self.trace(|| format!("somebody detaches {:?} from {check}", wanted.suppress_alert_ids));
        let known = Entry::Check(Box::new(known));
        self.configure(vec![Change::edit(known, Entry::Check(Box::new(wanted)))]);
    }

    fn switch_damping(&mut self) {
        let before = self.truth.document.settings.clone();
        let mut after = before.clone();
        after.flap_damping = match before.flap_damping {
            Some(false) => None,
            _ => Some(false),
        };
        self.trace(|| format!("somebody writes flap_damping: {:?}", after.flap_damping));
        self.configure(vec![Change::edit(
            Entry::Settings(before),
            Entry::Settings(after),
        )]);
    }

    fn acknowledge(&mut self) {
        let check = (*self.rng.pick(&["gateway", "web", "db"])).to_owned();
        self.typed(Command::Acknowledge(Acknowledge {
            check,
            note: String::new(),
            until: None,
            at: 0,
            uid: None,
            by: None,
        }));
    }

    /// Nothing goes wrong from now on but what the targets do: some are down, until they are told to be well.
    pub(super) fn calm(&mut self) {
        self.fair = true;
        self.heal();
        self.finish_stops();
        for at in self.busy_nodes() {
            self.nodes[at].stands_still_until = 0;
            if !self.nodes[at].up {
                self.queue
                    .retain(|event| !matches!(event, Event::Start(starts) if *starts == at));
                self.start(at);
            }
        }
        for node in &mut self.nodes {
            node.blind = false;
        }
        self.note_blind();
        if self.truth.document.settings.flap_damping != Some(false) && self.rng.chance(500) {
            self.switch_damping();
        }
        for channel in self.channels.values_mut() {
            *channel = Channel::Takes;
        }
        let ids: Vec<String> = self.targets.keys().cloned().collect();
        for id in ids {
            let down = self.rng.chance(500);
            self.set_target(&id, down);
        }
    }

    /// Who was to stop does so now: who stood still meanwhile would stop when nobody starts it any more.
    fn finish_stops(&mut self) {
        let mut stops = Vec::new();
        self.queue.retain(|event| match event {
            Event::Die(at, life) => {
                stops.push((*at, *life));
                false
            }
            _ => true,
        });
        for (at, life) in stops {
            if self.nodes[at].up && self.nodes[at].life == life {
                self.crash(at);
            }
        }
    }

    pub(super) fn set_target(&mut self, id: &str, down: bool) {
        self.targets.get_mut(id).expect("there is one").down = down;
        self.set_fault(id, down);
    }

    /// All checks are there and enabled, and nobody works on anything.
    pub(super) fn tidy(&mut self) {
        let document = self.truth.document.clone();
        let mut changes = Vec::new();
        for (id, parents) in [("gateway", &[][..]), ("web", &["gateway"][..]), ("db", &[][..])] {
            match document.check(id) {
                None => changes.push(Change::add(Entry::Check(Box::new(check(id, parents))))),
                Some(known) if known.disabled => {
                    let mut wanted = known.clone();
                    wanted.disabled = false;
                    let known = Entry::Check(Box::new(known.clone()));
                    changes.push(Change::edit(known, Entry::Check(Box::new(wanted))));
                }
                Some(_) => {}
            }
        }
        changes.extend(
            document
                .maintenance
                .iter()
                .map(|window| Change::remove(Entry::Window(window.clone()))),
        );
        if !changes.is_empty() {
            self.configure(changes);
        }
    }
}
