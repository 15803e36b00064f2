//! What goes wrong, chosen by the seed: members are killed, paused, cut off and told the wrong time, one fault or two at once, with a
//! while of peace after each, in which the cluster has to write again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use sim::Rng;
use terminal::note;

use crate::client::Client;
use crate::findings::{Findings, Kind};
use crate::member::Member;
use crate::network::{End, Network};
use crate::workload::Workload;

/// How long a fault lasts, in milliseconds: from the first number to one of the others, below and above an election.
const FAULT_MS: (u64, &[u64]) = (100, &[800, 2_500, 8_000]);

/// How long peace lasts.
const PEACE_MS: (u64, &[u64]) = (100, &[500, 4_000]);

/// From a fault to one that comes on top of it.
const SECOND_MS: (u64, &[u64]) = (20, &[200, 2_000]);

/// How long the cluster may take to write again in peace. An election takes two seconds, a slow machine longer.
const RECOVERY_MAX: Duration = Duration::from_mins(1);

/// Between two looks at something.
const POLL: Duration = Duration::from_millis(10);

/// How long a member may take to say who leads.
const STATUS_MAX: Duration = Duration::from_millis(300);

/// How far clocks are stepped, in seconds: a little, hours, and back.
const STEPS_S: &[i64] = &[-86_400, -3_600, -30, -2, 2, 30, 3_600, 86_400];

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum FaultKind {
    /// `kill -9`, and a start later; sometimes of several members at once.
    Kill,
    /// SIGSTOP, and SIGCONT later.
    Pause,
    /// Packets between members are dropped, in one direction or both.
    Partition,
    /// Requests or answers between clients and a member are dropped.
    Clients,
    /// The wall clock of a member is stepped.
    Clock,
    /// `kill -9`, the data directory removed, and a start later: the others have to admit it again. Never two at a time, which no
    /// majority of three survives.
    Wipe,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Kill(Vec<usize>),
    Pause(Vec<usize>),
    Wipe(usize),
    Cut {
        name: &'static str,
        /// From and to.
        ways: Vec<(End, End)>,
    },
    Clock {
        member: usize,
        ahead_s: i64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = |members: &[usize]| {
            let each: Vec<String> = members.iter().map(|member| (member + 1).to_string()).collect();
            each.join(" and ")
        };
        match self {
            Self::Kill(members) => write!(f, "kill {}", numbers(members)),
            Self::Pause(members) => write!(f, "pause {}", numbers(members)),
            Self::Wipe(member) => write!(f, "wipe {}", member + 1),
            Self::Cut { name, ways } => {
                write!(f, "cut ({name}):")?;
                for (from, to) in ways {
                    write!(f, " {from} > {to};")?;
                }
                Ok(())
            }
            Self::Clock { member, ahead_s } => write!(f, "clock of {} {ahead_s:+} s", member + 1),
        }
    }
}

impl Fault {
    /// The word under which it is counted.
    fn counted_as(&self) -> &'static str {
        match self {
            Self::Kill(members) if members.len() > 1 => "kill several",
            Self::Kill(_) => "kill",
            Self::Pause(members) if members.len() > 1 => "pause several",
            Self::Pause(_) => "pause",
            Self::Wipe(_) => "wipe",
            Self::Cut { name, .. } => name,
            Self::Clock { .. } => "clock",
        }
    }
}

/// Who makes faults.
#[derive(Debug)]
pub(crate) struct Nemesis<'a> {
    pub(crate) rng: Rng,
    pub(crate) members: &'a mut [Member],
    pub(crate) network: &'a Network,
    pub(crate) clients: &'a [Client],
    pub(crate) workload: &'a Workload,
    pub(crate) findings: &'a Findings,
    pub(crate) kinds: Vec<FaultKind>,
    /// Faults made, by the word they are counted as.
    pub(crate) made: BTreeMap<&'static str, u32>,
    /// Terms in which a leader was seen.
    pub(crate) leaders: BTreeMap<u64, usize>,
}

impl Nemesis<'_> {
    /// Makes faults until `end`, and heals the last one. False if it makes no sense to go on.
    pub(crate) async fn rage(&mut self, end: Instant) -> Result<bool> {
        self.peace().await;
        while Instant::now() < end {
            let leader = self.leader().await;
            let fault = self.choose(leader);
            self.make(&fault)?;
            if self.rng.chance(250) {
                self.wait(SECOND_MS).await;
                let leader = self.leader().await;
                let second = self.choose(leader);
                self.make(&second)?;
            }
            self.wait(FAULT_MS).await;
            if self.rng.chance(300) {
                // Members that were killed also return into what is broken.
                self.start_all()?;
                self.wait(FAULT_MS).await;
            }
            self.heal()?;
            if !self.recovered().await? {
                return Ok(false);
            }
            self.peace().await;
        }
        Ok(true)
    }

    async fn peace(&mut self) {
        self.wait(PEACE_MS).await;
    }

    async fn wait(&mut self, (from, to): (u64, &[u64])) {
        let to = *self.rng.pick(to);
        let time = Duration::from_millis(self.rng.between(from, to));
        tokio::time::sleep(time).await;
    }

    /// The member that leads, as far as anybody says.
    async fn leader(&mut self) -> Option<usize> {
        let asked = self.clients.iter().map(|client| client.status(STATUS_MAX));
        let mut newest: Option<(u64, usize)> = None;
        for (member, status) in futures::future::join_all(asked).await.into_iter().enumerate() {
            let Ok(status) = status else { continue };
            if status.leader == status.header.unwrap_or_default().member_id {
                newest = newest.max(Some((status.raft_term, member)));
            }
        }
        let (term, member) = newest?;
        self.leaders.insert(term, member);
        Some(member)
    }

    /// The leader more often than not: that is where it hurts.
    fn victim(&mut self, leader: Option<usize>) -> usize {
        match leader {
            Some(leader) if self.rng.chance(550) => leader,
            _ => self.rng.below(self.members.len() as u64) as usize,
        }
    }

    fn choose(&mut self, leader: Option<usize>) -> Fault {
        let kind = *self.rng.pick(&self.kinds.clone());
        let victim = self.victim(leader);
        match kind {
            FaultKind::Kill => Fault::Kill(self.several(victim)),
            FaultKind::Pause => Fault::Pause(self.several(victim)),
            FaultKind::Wipe if self.members.iter_mut().any(Member::is_wiped) => Fault::Kill(vec![victim]),
            FaultKind::Wipe => Fault::Wipe(victim),
            FaultKind::Clock => Fault::Clock {
                member: victim,
                ahead_s: *self.rng.pick(STEPS_S),
            },
            FaultKind::Clients => {
                let (member, clients) = (End::Member(victim), End::Clients);
                if self.rng.chance(500) {
                    cut("requests lost", vec![(clients, member)])
                } else {
                    cut("answers lost", vec![(member, clients)])
                }
            }
            FaultKind::Partition => self.partition(victim),
        }
    }

    /// Mostly one, sometimes all but one, sometimes all.
    fn several(&mut self, victim: usize) -> Vec<usize> {
        let all = 0..self.members.len();
        match self.rng.below(10) {
            0 => all.collect(),
            1 => all.filter(|member| *member != victim).collect(),
            _ => vec![victim],
        }
    }

    fn partition(&mut self, victim: usize) -> Fault {
        let others: Vec<usize> = (0..self.members.len())
            .filter(|member| *member != victim)
            .collect();
        let end = End::Member;
        let out = |to: &[usize]| to.iter().map(|to| (end(victim), end(*to))).collect::<Vec<_>>();
        let back = |from: &[usize]| {
            from.iter()
                .map(|from| (end(*from), end(victim)))
                .collect::<Vec<_>>()
        };
        let both = |with: &[usize]| [out(with), back(with)].concat();
        let one = [*self.rng.pick(&others)];
        match self.rng.below(7) {
            0 | 1 => cut("isolated", both(&others)),
            2 => cut("mute", out(&others)),
            3 => cut("deaf", back(&others)),
            4 => cut("link", both(&one)),
            5 => cut("one way", out(&one)),
            _ => {
                let all = others.iter().flat_map(|from| {
                    let to = others.iter().filter(move |to| *to != from);
                    to.map(move |to| (end(*from), end(*to)))
                });
                cut("all apart", all.chain(both(&others)).collect())
            }
        }
    }

    fn make(&mut self, fault: &Fault) -> Result<()> {
        note(&format!(
            "{:8.3} s  {fault}",
            self.workload.zero.elapsed().as_secs_f64()
        ));
        *self.made.entry(fault.counted_as()).or_default() += 1;
        match fault {
            Fault::Kill(members) => {
                for member in members {
                    self.members[*member].kill()?;
                }
            }
            Fault::Pause(members) => {
                for member in members {
                    self.members[*member].pause()?;
                }
            }
            Fault::Wipe(member) => self.members[*member].wipe()?,
            Fault::Cut { ways, .. } => {
                for (from, to) in ways {
                    self.network.cut(*from, *to)?;
                }
            }
            Fault::Clock { member, ahead_s } => self.members[*member].set_clock(*ahead_s)?,
        }
        Ok(())
    }

    /// Ends all faults. Clocks stay where they are: nobody sets a clock back because it was wrong once.
    fn heal(&mut self) -> Result<()> {
        self.network.heal()?;
        for member in self.members.iter_mut() {
            member.resume()?;
        }
        self.start_all()
    }

    /// Starts members that do not run; whoever has ended by itself is told of.
    fn start_all(&mut self) -> Result<()> {
        for member in self.members.iter_mut() {
            if let Some(how) = member.ended()? {
                self.findings.add(Kind::MemberEnded, &how);
            }
            member.start()?;
        }
        Ok(())
    }

    /// Waits until something was written that was begun after the faults, and nobody is without what it had.
    async fn recovered(&mut self) -> Result<bool> {
        let healed = Instant::now();
        let before = self.workload.counts.written();
        // Answers to requests of before do not count: wait for more than all clients can have had in flight.
        let enough = before + u64::from(self.workload.clients);
        while self.workload.counts.written() <= enough || self.members.iter_mut().any(Member::is_wiped) {
            for member in self.members.iter_mut() {
                if let Some(how) = member.ended()? {
                    self.findings.add(Kind::MemberEnded, &how);
                    return Ok(false);
                }
            }
            if healed.elapsed() > RECOVERY_MAX {
                let wiped: Vec<usize> = (1..)
                    .zip(self.members.iter_mut())
                    .filter_map(|(number, member)| member.is_wiped().then_some(number))
                    .collect();
                let text = format!(
                    "{} writes in {} s after all faults were healed; wiped and not admitted: {wiped:?}",
                    self.workload.counts.written() - before,
                    RECOVERY_MAX.as_secs()
                );
                self.findings.add(Kind::NoProgress, &text);
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(true)
    }
}

fn cut(name: &'static str, ways: Vec<(End, End)>) -> Fault {
    Fault::Cut { name, ways }
}
