//! What goes wrong, chosen by the seed, one fault or two at once, and after each a while of peace in which all nodes have to agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use sim::Rng;
use terminal::note;

use super::ledger::{Fault, Ledger, Millis, now};
use super::node::Node;
use super::options::FaultKind;
use crate::findings::{Findings, Kind};
use crate::network::{End, Network};

/// How long a fault lasts, in milliseconds: from the first number to one of the others, below and above an election and the deadline of
/// an attempt.
const FAULT_MS: (u64, &[u64]) = (100, &[800, 2_500, 2_500, 7_000, 13_000]);
/// How long peace lasts; the longest is long enough for the judge to look at verdicts.
const PEACE_MS: (u64, &[u64]) = (100, &[1_000, 1_000, 3_000, 3_000, 3_000]);
const LONG_PEACE_MS: u64 = 22_000;
/// One in so many times of peace is a long one.
const LONG_PEACE_EVERY: u64 = 12;
/// From a fault to one that comes on top of it.
const SECOND_MS: (u64, &[u64]) = (20, &[200, 2_000]);
/// A link that comes and goes stays as it is for so long.
const FLAP_MS: (u64, u64) = (60, 900);
/// How long an ambush waits for a message.
const AMBUSH_MAX: Duration = Duration::from_secs(8);
/// How long a node may take to stop when asked to.
const TERM_MAX: Duration = Duration::from_secs(30);
/// How long nodes may take to agree in peace. An election takes two seconds, a slow machine longer.
const RECOVERY_MAX: Duration = Duration::from_mins(1);
/// Between two looks at something.
const POLL: Duration = Duration::from_millis(50);

/// What is done at once.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    Kill(usize),
    Term(usize),
    Stop(usize),
    /// The sender of the next message; killed, or stopped.
    Ambush {
        kill: bool,
    },
    Cut {
        name: &'static str,
        ways: Vec<(End, End)>,
    },
    Flap(usize, usize),
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(node) => write!(f, "kill {}", node + 1),
            Self::Term(node) => write!(f, "term {}", node + 1),
            Self::Stop(node) => write!(f, "stop {}", node + 1),
            Self::Ambush { kill: true } => f.write_str("kill who sends next"),
            Self::Ambush { kill: false } => f.write_str("stop who sends next"),
            Self::Cut { name, ways } => {
                write!(f, "{name}:")?;
                for (from, to) in ways {
                    write!(f, " {from} > {to};")?;
                }
                Ok(())
            }
            Self::Flap(one, other) => write!(f, "flapping link {}-{}", one + 1, other + 1),
        }
    }
}

/// Who makes faults.
#[derive(Debug)]
pub(crate) struct Nemesis<'a> {
    rng: Rng,
    nodes: &'a mut [Node],
    network: &'a Network,
    ledger: &'a Ledger,
    findings: &'a Findings,
    kinds: Vec<FaultKind>,
    /// Faults made, by the word they are counted as.
    pub(crate) made: BTreeMap<&'static str, u32>,
    /// Each with its times.
    pub(crate) faults: Vec<Fault>,
    /// Times in which nothing was in the way.
    pub(crate) calm: Vec<(Millis, Millis)>,
    calm_since: Millis,
    /// The longest that nodes took to agree after a fault.
    pub(crate) slowest: Duration,
}

impl<'a> Nemesis<'a> {
    /// Nothing is done yet.
    pub(crate) fn new(
        seed: u64,
        nodes: &'a mut [Node],
        network: &'a Network,
        ledger: &'a Ledger,
        findings: &'a Findings,
        kinds: Vec<FaultKind>,
    ) -> Self {
        Self {
            rng: Rng::new(seed),
            nodes,
            network,
            ledger,
            findings,
            kinds,
            made: BTreeMap::new(),
            faults: Vec::new(),
            calm: Vec::new(),
            calm_since: now(),
            slowest: Duration::ZERO,
        }
    }

    /// Makes faults until there were so many, or until `end`, and heals the last one. False if it makes no sense to go on.
    pub(crate) async fn rage(&mut self, count: Option<u32>, end: Option<Instant>) -> Result<bool> {
        let mut made = 0;
        loop {
            self.peace().await;
            if count.is_some_and(|count| made >= count) || end.is_some_and(|end| Instant::now() >= end) {
                return Ok(true);
            }
            made += 1;
            self.calm.push((self.calm_since, now()));
            if !self.fault(made).await? {
                return Ok(false);
            }
            self.calm_since = now();
        }
    }

    /// Nothing is done for so long; it counts as calm.
    pub(crate) async fn rest(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
        self.calm.push((self.calm_since, now()));
        self.calm_since = now();
    }

    async fn peace(&mut self) {
        if self.rng.below(LONG_PEACE_EVERY) == 0 {
            tokio::time::sleep(Duration::from_millis(LONG_PEACE_MS)).await;
        } else {
            self.wait(PEACE_MS).await;
        }
    }

    async fn wait(&mut self, (from, to): (u64, &[u64])) {
        let to = *self.rng.pick(to);
        let time = Duration::from_millis(self.rng.between(from, to));
        tokio::time::sleep(time).await;
    }

    /// One fault from its begin until all nodes agree again. False if they do not.
    async fn fault(&mut self, number: u32) -> Result<bool> {
        let master = self.master().await;
        let kind = *self.rng.pick(&self.kinds.clone());
        *self.made.entry(kind.name()).or_default() += 1;
        let mut fault = Fault {
            text: String::new(),
            clean: true,
            alone: Vec::new(),
            master_killed: None,
            from: now(),
            healed: 0,
            over: 0,
        };
        for deed in self.choose(kind, master) {
            self.make(&deed, master, number, &mut fault).await?;
        }
        // What comes on top of a fault is no restart that must cost nothing any more.
        let others: Vec<FaultKind> = self
            .kinds
            .iter()
            .copied()
            .filter(|kind| *kind != FaultKind::Term)
            .collect();
        if kind != FaultKind::Flap && !others.is_empty() && self.rng.chance(150) {
            self.wait(SECOND_MS).await;
            let second = *self.rng.pick(&others);
            let master = self.master().await;
            for deed in self.choose(second, master) {
                self.make(&deed, master, number, &mut fault).await?;
            }
        }
        self.wait(FAULT_MS).await;
        fault.healed = now();
        self.heal()?;
        let agreed = self.agreed().await?;
        fault.over = now();
        self.faults.push(fault);
        Ok(agreed)
    }

    /// The master, as far as anybody says.
    async fn master(&self) -> Option<usize> {
        let asked = self.nodes.iter().map(Node::status);
        let told = futures::future::join_all(asked).await;
        let newest = told
            .into_iter()
            .flatten()
            .filter(|status| status.master.is_some());
        let master = newest.max_by_key(|status| status.term)?.master?.to_string();
        self.nodes.iter().position(|node| node.id == master)
    }

    fn choose(&mut self, kind: FaultKind, master: Option<usize>) -> Vec<Deed> {
        // The master more often than not: that is where it hurts.
        let victim = match master {
            Some(master) if self.rng.chance(650) => master,
            _ => self.rng.below(self.nodes.len() as u64) as usize,
        };
        let others: Vec<usize> = (0..self.nodes.len()).filter(|node| *node != victim).collect();
        let other = *self.rng.pick(&others);
        let (one, end) = (End::Member(victim), End::Member);
        let both = |with: End| vec![(one, with), (with, one)];
        let cut = |name, ways| vec![Deed::Cut { name, ways }];
        match kind {
            FaultKind::Kill => vec![Deed::Kill(victim)],
            FaultKind::Term => vec![Deed::Term(victim)],
            FaultKind::Stop => vec![Deed::Stop(victim)],
            FaultKind::Pair => [victim, other]
                .map(|node| {
                    if self.rng.chance(600) {
                        Deed::Kill(node)
                    } else {
                        Deed::Stop(node)
                    }
                })
                .to_vec(),
            FaultKind::Ambush => vec![Deed::Ambush {
                kill: self.rng.chance(700),
            }],
            FaultKind::Isolate => cut(
                "isolate",
                others.iter().flat_map(|other| both(end(*other))).collect(),
            ),
            FaultKind::Link => cut("link", both(end(other))),
            FaultKind::OneWay if self.rng.chance(500) => cut("one way", vec![(one, end(other))]),
            FaultKind::OneWay => cut("one way", vec![(end(other), one)]),
            FaultKind::Flap => vec![Deed::Flap(victim, other)],
            FaultKind::Uplink => match self.rng.below(4) {
                0 => cut("uplink, messages", vec![(one, End::Sinks)]),
                1 => cut("uplink, answers", vec![(End::Sinks, one)]),
                2 => {
                    let all = 0..self.nodes.len();
                    cut("uplink of all", all.map(|node| (end(node), End::Sinks)).collect())
                }
                _ => cut("uplink", both(End::Sinks)),
            },
            FaultKind::Blind => cut("blind", both(End::Clients)),
        }
    }

    async fn make(
        &mut self,
        deed: &Deed,
        master: Option<usize>,
        number: u32,
        fault: &mut Fault,
    ) -> Result<()> {
        note(&format!("fault {number}: {deed}"));
        if !fault.text.is_empty() {
            fault.text.push_str(", then ");
        }
        fault.text.push_str(&deed.to_string());
        fault.clean &= matches!(deed, Deed::Term(_));
        match deed {
            Deed::Kill(node) => self.end(*node, true, master, fault)?,
            Deed::Stop(node) => self.end(*node, false, master, fault)?,
            Deed::Term(node) => self.terminate(*node).await?,
            Deed::Ambush { kill } => {
                let trap = self.ledger.lay_ambush();
                if let Ok(Ok(sender)) = tokio::time::timeout(AMBUSH_MAX, trap.came).await {
                    fault.text = format!("{} ({})", fault.text, sender + 1);
                    self.end(sender, *kill, Some(sender), fault)?;
                }
                // The sink may have given up waiting.
                let _ = trap.go_on.send(());
            }
            Deed::Cut { name, ways } => {
                for (from, to) in ways {
                    self.network.cut(*from, *to)?;
                }
                if *name == "isolate"
                    && let Some((End::Member(node), _)) = ways.first()
                {
                    fault.alone.push((*node, now()));
                }
            }
            Deed::Flap(one, other) => {
                // Between two cuts all links are whole, also those that the same fault had cut before.
                fault.alone.clear();
                self.flap(*one, *other).await?;
            }
        }
        Ok(())
    }

    /// Kills or stops a node.
    fn end(&mut self, node: usize, kill: bool, master: Option<usize>, fault: &mut Fault) -> Result<()> {
        if kill {
            self.nodes[node].kill()?;
            if master == Some(node) {
                fault.master_killed = Some(now());
            }
        } else {
            self.nodes[node].pause()?;
        }
        let gone: BTreeSet<usize> = self
            .nodes
            .iter()
            .filter(|node| !node.is_started() || node.is_paused())
            .map(|node| node.number)
            .collect();
        if gone.len() == self.nodes.len() - 1 {
            let left = self
                .nodes
                .iter()
                .map(|node| node.number)
                .find(|node| !gone.contains(node));
            fault.alone.extend(left.map(|node| (node, now())));
        }
        Ok(())
    }

    /// Asks a node to stop, and waits until it has.
    async fn terminate(&mut self, node: usize) -> Result<()> {
        self.nodes[node].signal(Signal::SIGTERM)?;
        let asked = Instant::now();
        while self.nodes[node].is_started() {
            if let Some(status) = self.nodes[node].exit_status()?
                && !status.success()
            {
                let text = format!("node {} was asked to stop and ended with {status}", node + 1);
                self.findings.add(Kind::MemberEnded, &text);
            }
            if asked.elapsed() > TERM_MAX {
                let text = format!(
                    "node {} does not stop within {TERM_MAX:?} when asked to",
                    node + 1
                );
                self.findings.add(Kind::NoProgress, &text);
                return self.nodes[node].kill();
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn flap(&mut self, one: usize, other: usize) -> Result<()> {
        let until = Instant::now() + Duration::from_millis(self.rng.between(1_500, 9_000));
        let (one, other) = (End::Member(one), End::Member(other));
        while Instant::now() < until {
            self.network.cut(one, other)?;
            self.network.cut(other, one)?;
            tokio::time::sleep(Duration::from_millis(self.rng.between(FLAP_MS.0, FLAP_MS.1))).await;
            self.network.heal()?;
            tokio::time::sleep(Duration::from_millis(self.rng.between(FLAP_MS.0, FLAP_MS.1))).await;
        }
        Ok(())
    }

    /// Ends all faults; who has ended by itself is told of.
    fn heal(&mut self) -> Result<()> {
        self.network.heal()?;
        for node in self.nodes.iter_mut() {
            node.resume()?;
            if let Some(how) = node.ended()? {
                self.findings.add(Kind::MemberEnded, &how);
            }
            node.start()?;
        }
        Ok(())
    }

    /// Waits until all nodes hear each other and know the same master, term and version. False if they do not.
    async fn agreed(&mut self) -> Result<bool> {
        let healed = Instant::now();
        loop {
            let told = agreement(self.nodes).await;
            let Err(why) = told else {
                self.slowest = self.slowest.max(healed.elapsed());
                return Ok(true);
            };
            for node in self.nodes.iter_mut() {
                if let Some(how) = node.ended()? {
                    self.findings.add(Kind::MemberEnded, &how);
                    return Ok(false);
                }
            }
            if healed.elapsed() > RECOVERY_MAX {
                let text = format!("{RECOVERY_MAX:?} after everything was healed {why}");
                self.findings.add(Kind::NoProgress, &text);
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Whether all nodes hear each other and know the same master, term and version; if not, how they stand.
pub(crate) async fn agreement(nodes: &[Node]) -> Result<()> {
    let told = futures::future::join_all(nodes.iter().map(Node::status)).await;
    let shown = |status: &Option<quptime::api::Status>| match status {
        None => "no answer".to_owned(),
        Some(status) => {
            let live = status.peers.iter().filter(|peer| peer.live).count();
            let master = status
                .master
                .map_or_else(|| "none".to_owned(), |master| master.to_string());
            let (term, version) = (status.term, status.config_version);
            format!("master {master}, term {term}, version {version}, {live} live")
        }
    };
    let texts: Vec<String> = told.iter().map(shown).collect();
    let all = format!(", {} live", nodes.len());
    let agreed = texts.iter().all(|text| *text == texts[0] && text.ends_with(&all));
    if agreed && !texts[0].starts_with("master none") {
        return Ok(());
    }
    let each: Vec<String> = (1..)
        .zip(texts)
        .map(|(number, text)| format!("node {number}: {text}"))
        .collect();
    bail!("{}", each.join("; "))
}
