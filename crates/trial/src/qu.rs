//! qu under faults: is every change of every check told once, on every channel, whatever happens to the nodes?
//!
//! Three nodes live in namespaces of their own. They watch targets that come and go, and tell a webhook that takes everything, one that
//! has moods, and a real mail server; all of these stand at the bridge, targets and sinks at addresses of their own, so that each can be
//! cut off alone. A nemesis kills, stops, asks to stop and cuts off nodes, often the master, often just when a sink has its message and has
//! not answered. In the end everything is healed, sinks are fair, targets are well, and what came is compared with what had to come.
//!
//! Read on in `qu/judge.rs` (what is a finding), `nemesis.rs` (faults), `sinks.rs` and `relay.rs` (who is told), `targets.rs` (the truth),
//! `ledger.rs` (what is remembered of it). The seed fixes what is chosen, not how it meets: keep the folder of a run that failed.

mod http;
mod judge;
mod ledger;
mod nemesis;
mod node;
mod options;
mod relay;
mod sinks;
mod targets;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use quptime::document::Change;
use quptime::document::change::Entry;
use quptime::document::schema::Settings;
use quptime::duration::Span;
use quptime::machine::state::{State, Status};
use terminal::note;

use self::judge::{Evidence, Judgement};
use self::ledger::{Ledger, now};
use self::nemesis::{Nemesis, agreement};
use self::node::Node;
pub(crate) use self::options::Options;
use self::relay::Relay;
use self::sinks::Sinks;
use self::targets::Targets;
use crate::findings::{Findings, Kind};
use crate::ground;
use crate::network::{End, Network};

/// Nodes of the cluster.
const NODES: usize = 3;
/// How long nodes may take to come up and to join.
const START_MAX: Duration = Duration::from_mins(2);
/// How long everything may take to be told in the end: a message that has failed often waits for ten minutes, others for seconds.
const SETTLE_MAX: Duration = Duration::from_mins(12);
/// Calm at the end of faults, with targets that still come and go: long enough to judge all verdicts once more.
const LAST_CALM: Duration = Duration::from_secs(18);
/// Between two looks.
const POLL: Duration = Duration::from_millis(200);
/// A preferred node gets the role of master back soon, so that the role is handed over now and then.
const COOLDOWN_S: u64 = 10;

/// The whole run; false if something was found.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let seed = ground::seed(options.seed);
    let program = ground::program(options.mainstay.as_deref())?;
    let dir = ground::folder(options.dir.as_deref(), "qu", seed)?;
    let faults = options
        .faults
        .map_or_else(|| "faults".to_owned(), |faults| format!("{faults} faults"));
    let time = options
        .minutes()
        .map_or_else(String::new, |minutes| format!(" for {minutes} minutes"));
    note(&format!(
        "qu with {NODES} nodes and {} targets, {faults}{time}, seed {seed}, in {}",
        options.targets,
        dir.display()
    ));
    let findings = Findings::new(dir.clone());
    let played = Box::pin(play(options, seed, &program, &dir, &findings));
    ground::conduct("qu", seed, &dir, options.keep, &findings, played)
}

async fn play(
    options: &Options,
    seed: u64,
    program: &Path,
    dir: &Path,
    findings: &Findings,
) -> Result<String> {
    let network = Network::namespaces(NODES)?;
    let ledger = Arc::new(Ledger::default());
    let to_watch = network.address(End::Clients)?;
    let to_tell = network.address(End::Sinks)?;
    let targets = Targets::start(to_watch, usize::from(options.targets), &ledger).await?;
    let sinks = Sinks::start(to_tell, seed, options.fair_sinks, &ledger).await?;
    let relay = Relay::start(to_tell, dir, seed, options.fair_sinks, &ledger).await?;
    let mut nodes = (0..NODES)
        .map(|number| Node::init(program, dir, number, &network))
        .collect::<Result<Vec<_>>>()?;
    form(&mut nodes).await.context("form the cluster")?;
    // Before, each node was master of a cluster of its own, with terms of its own.
    let alone: Vec<usize> = nodes.iter().map(|node| node.log_text().len()).collect();
    configure(&nodes, &targets, &sinks, &relay).await?;
    note("the cluster stands and finds all targets well");

    let begun = now();
    targets.let_loose(seed);
    let end = options
        .minutes()
        .map(|minutes| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
    let mut nemesis = Nemesis::new(seed, &mut nodes, &network, &ledger, findings, options.kinds());
    if nemesis.rage(options.faults, end).await? {
        nemesis.rest(LAST_CALM).await;
    }
    let Nemesis {
        made,
        faults,
        calm,
        slowest,
        ..
    } = nemesis;

    targets.calm_down().await;
    sinks.be_fair();
    relay.be_fair()?;
    note("everything is healed; waiting until everything is told");
    let state = settle(&nodes, findings).await?;
    let checks = state
        .checks
        .iter()
        .map(|(id, check)| (id.clone(), check.transitions));
    let evidence = Evidence {
        nodes: nodes.iter().map(|node| node.id.clone()).collect(),
        alerts: vec![sinks::OPEN, sinks::MOODY, relay::MAIL],
        checks: checks.collect(),
        arrivals: ledger.arrivals(),
        faults,
        outages: ledger.outages(),
        calm,
        masters: nodes
            .iter()
            .zip(&alone)
            .flat_map(|(node, length)| {
                masters_in(node.log_text().get(*length..).unwrap_or_default(), node.number)
            })
            .collect(),
        begun,
        ended: now(),
    };
    let judgement = judge::judge(&evidence);
    for (kind, text) in &judgement.found {
        findings.add(*kind, text);
    }
    if !judgement.found.is_empty() {
        findings.write(
            "ledger.txt",
            &format!("{evidence:#?}\n\n{:#?}\n", judgement.found),
        );
    }
    let made: Vec<String> = made
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    Ok(report(&evidence, &judgement, &made.join(", "), slowest))
}

fn report(evidence: &Evidence, judgement: &Judgement, made: &str, slowest: Duration) -> String {
    let Judgement {
        transitions,
        deliveries,
        messages,
        repeats,
        after_faults,
        truths,
        terms,
        silence,
        ..
    } = judgement;
    let silence = silence.map_or_else(
        || "no master was killed".to_owned(),
        |(median, longest)| format!("{median} ms in the middle, {longest} ms at most"),
    );
    format!(
        "faults: {} ({made}); {:.1} s at most until all nodes agreed again\n\
         outages: {} made; {truths} times a verdict was looked for\n\
         transitions: {transitions} in {terms} terms\n\
         messages: {deliveries} due, {messages} taken by sinks; {repeats} repeats, {after_faults} of them around faults\n\
         from the death of a master to the next message: {silence}",
        evidence.faults.len(),
        slowest.as_secs_f64(),
        evidence.outages.len(),
    )
}

/// Starts the nodes and lets them join, all as voters.
async fn form(nodes: &mut [Node]) -> Result<()> {
    for node in nodes.iter_mut() {
        node.start()?;
    }
    let started = Instant::now();
    let late = |what: &str| -> Result<()> {
        if started.elapsed() > START_MAX {
            bail!("{what} after {} s", START_MAX.as_secs());
        }
        Ok(())
    };
    for node in nodes.iter_mut() {
        // A new node is master of a cluster of one.
        while !node.log_text().contains(&format!("new={}", node.id))
            || node.status().await.is_none_or(|status| !status.quorum)
        {
            if let Some(how) = node.ended()? {
                bail!("{how}");
            }
            late("a node does not lead itself")?;
            tokio::time::sleep(POLL).await;
        }
    }
    for number in 1..nodes.len() {
        nodes[0].run(&["node", "add", "-y", &nodes[number].peer_address()])?;
    }
    loop {
        let voters = 1 + nodes[0].log_text().matches("change=Promote").count();
        let agreed = agreement(nodes).await;
        if agreed.is_ok() && voters == nodes.len() {
            return Ok(());
        }
        late(&format!("{voters} voters ({agreed:?})"))?;
        tokio::time::sleep(POLL).await;
    }
}

/// Watches the targets, tells the sinks, and waits until all is well.
async fn configure(nodes: &[Node], targets: &Targets, sinks: &Sinks, relay: &Relay) -> Result<()> {
    let settings = Settings {
        master_cooldown: Some(Span::from_secs(COOLDOWN_S)),
        flap_damping: Some(false),
        ..Settings::default()
    };
    let base = Entry::Settings(Settings::default());
    let alerts = sinks.alerts().into_iter().chain([relay.alert()]);
    let mut changes = vec![Change::edit(base, Entry::Settings(settings))];
    changes.extend(alerts.map(|alert| Change::add(Entry::Alert(Box::new(alert)))));
    let checks = targets.checks().into_iter();
    changes.extend(checks.map(|check| Change::add(Entry::Check(Box::new(check)))));
    nodes[0]
        .configure(changes)
        .await
        .context("configure the cluster")?;
    let started = Instant::now();
    loop {
        let state = nodes[0].state().await?;
        let well = state
            .checks
            .values()
            .filter(|check| check.status == Status::Up)
            .count();
        if well == targets.checks().len() {
            return Ok(());
        }
        if started.elapsed() > START_MAX {
            bail!(
                "{well} of {} targets are found well after {START_MAX:?}",
                state.checks.len()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until all nodes know the same: every check is well and nothing waits to be told. What one of them knows then.
async fn settle(nodes: &[Node], findings: &Findings) -> Result<State> {
    let started = Instant::now();
    loop {
        let told = futures::future::join_all(nodes.iter().map(Node::state)).await;
        let states = told.into_iter().collect::<Result<Vec<_>>>();
        if let Ok(states) = &states {
            let first = &states[0];
            let well = first
                .checks
                .values()
                .filter(|check| check.status == Status::Up)
                .count();
            let same = states.iter().all(|state| state == first);
            if well == first.checks.len() && first.deliveries.is_empty() && same {
                tell_dropped(first, findings);
                return Ok(first.clone());
            }
        }
        if started.elapsed() > SETTLE_MAX {
            let states = states?;
            let each = (1..).zip(&states).map(|(number, state)| {
                let well = state
                    .checks
                    .values()
                    .filter(|check| check.status == Status::Up)
                    .count();
                let (checks, waiting) = (state.checks.len(), state.deliveries.len());
                format!("node {number}: {well} of {checks} checks up, {waiting} messages wait")
            });
            let each = each.collect::<Vec<_>>().join("; ");
            let same = states.iter().all(|state| *state == states[0]);
            let kind = if same {
                Kind::NoProgress
            } else {
                Kind::MembersDiffer
            };
            findings.add(
                kind,
                &format!("{SETTLE_MAX:?} after everything was healed: {each}"),
            );
            tell_dropped(&states[0], findings);
            return Ok(states[0].clone());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn tell_dropped(state: &State, findings: &Findings) {
    for finished in state.finished.iter() {
        if let Some(reason) = &finished.dropped {
            findings.add(
                Kind::MessageLost,
                &format!("{} was given up: {reason}", finished.id),
            );
        }
    }
}

/// The masters that a node has logged: term, master, and its own number.
fn masters_in(log: &str, number: usize) -> Vec<(u64, String, usize)> {
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}="))?;
        Some(rest.split([' ', ',']).next()?.trim_matches('"').to_owned())
    };
    let changes = log.lines().filter(|line| line.contains("master changed"));
    let known = changes.filter_map(|line| {
        let master = field(line, "new").filter(|master| master != "none")?;
        Some((field(line, "term")?.parse().ok()?, master, number))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_read_from_the_log() {
        let log = "quptime: 2026 INFO master changed old=none new=n1 term=3 reason=elected\n\
                   quptime: 2026 INFO master changed old=n1 new=none term=3 reason=no leader is heard\n";
        assert_eq!(masters_in(log, 1), [(3, "n1".to_owned(), 1)]);
    }
}
