//! One run, from an empty folder to the verdict.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use sim::Rng;
use terminal::note;

use crate::client::Client;
use crate::clock;
use crate::findings::Findings;
use crate::finish::Finish;
use crate::ground;
use crate::keys::{self, Keys};
use crate::ledger::Ledger;
use crate::member::Member;
use crate::nemesis::{FaultKind, Nemesis};
use crate::network::Network;
use crate::options::{Options, Place};
use crate::system::{Programs, System};
use crate::watcher::Watcher;
use crate::workload::{Counts, Workload};

/// How long the members may take to come up together.
const START_MAX: Duration = Duration::from_mins(1);

/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// How long one question may take while they come up.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// The whole run; false if something was found.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let seed = ground::seed(options.seed);
    let mainstay = match options.system {
        System::Etcd => PathBuf::new(),
        System::Chainfire => ground::program(options.mainstay.as_deref())?,
    };
    let name = options.system.name();
    let dir = ground::folder(options.dir.as_deref(), name, seed)?;
    note(&format!(
        "{name} with {} members for {} minutes, seed {seed}, in {}",
        options.nodes,
        options.minutes,
        dir.display()
    ));
    let clock_library = match options.system {
        System::Etcd => None,
        System::Chainfire => clock::library(&dir)
            .map_err(|error| note(&format!("clocks are not stepped: {error:#}")))
            .ok(),
    };
    let programs = Programs {
        mainstay,
        clock_library,
    };
    let findings = Arc::new(Findings::new(dir.clone()));
    let played = play(options, seed, &programs, &dir, &findings);
    ground::conduct(name, seed, &dir, options.keep, &findings, played)
}

async fn play(
    options: &Options,
    seed: u64,
    programs: &Programs,
    dir: &Path,
    findings: &Arc<Findings>,
) -> Result<String> {
    let count = usize::from(options.nodes);
    let network = match options.network {
        Place::Namespaces => Network::namespaces(count)?,
        Place::Loopback => Network::loopback()?,
    };
    let mut members = (0..count)
        .map(|number| Member::new(options.system, programs, dir, number, count, &network))
        .collect::<Result<Vec<_>>>()?;
    let kinds = kinds(options, &network, &members)?;
    for member in &mut members {
        member.start()?;
    }
    let connect_to = |member: &Member| Client::new(member.address, usize::from(options.value_bytes));
    let connect = || members.iter().map(connect_to).collect::<Result<Vec<_>>>();
    let clients = connect()?;
    let everyones = (0..options.clients)
        .map(|_| connect())
        .collect::<Result<Vec<_>>>()?;
    wait_until_up(&mut members, &clients).await?;

    let ledger = Arc::new(Ledger::new(Arc::clone(findings)));
    let watchers: Vec<Arc<Watcher>> = members
        .iter()
        .map(|member| {
            Ok(Watcher::new(
                connect_to(member)?,
                format!("the watch on member {}", member.number + 1),
                Arc::clone(&ledger),
                Arc::clone(findings),
            ))
        })
        .collect::<Result<_>>()?;
    let following: Vec<_> = watchers
        .iter()
        .map(|watcher| tokio::spawn(Arc::clone(watcher).follow()))
        .collect();
    let (full, to_judge) = mpsc::channel();
    let for_judge = Arc::clone(findings);
    let judge = std::thread::Builder::new()
        .name("judge".to_owned())
        .spawn(move || keys::judge(&to_judge, &for_judge))
        .context("start the judge's thread")?;
    let workload = Arc::new(Workload {
        keys: Keys::new(options.keys, options.per_key, full),
        ledger: Arc::clone(&ledger),
        counts: Counts::default(),
        serializable_reads: options.serializable_reads,
        clients: options.clients,
        ends: AtomicBool::new(false),
        zero: Instant::now(),
    });
    let at_work: Vec<_> = everyones
        .into_iter()
        .zip(1..)
        .map(|(clients, number)| {
            let rng = Rng::new(seed ^ (number << 48));
            tokio::spawn(Arc::clone(&workload).client(clients, rng))
        })
        .collect();

    let mut nemesis = Nemesis {
        rng: Rng::new(seed),
        members: &mut members,
        network: &network,
        clients: &clients,
        workload: &workload,
        findings,
        kinds,
        made: std::collections::BTreeMap::new(),
        leaders: std::collections::BTreeMap::new(),
    };
    let end = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let sound = nemesis.rage(end).await?;
    let (made, leaders) = (nemesis.made, nemesis.leaders);

    workload.ends.store(true, Ordering::Relaxed);
    for client in at_work {
        client.await.context("a client panicked")?;
    }
    let workload = Arc::into_inner(workload).ok_or_else(|| anyhow!("a client is still at work"))?;
    workload.keys.retire();
    let judged = judge.join().map_err(|_| anyhow!("the judge panicked"))?;
    let finish = Finish {
        clients: &clients,
        watchers: &watchers,
        ledger: &ledger,
        findings,
    };
    let mut state = "not judged".to_owned();
    if sound && let Some(last) = finish.settle().await {
        finish.watches(last).await;
        let keys = finish.states(last, &judged.finals).await?;
        state =
            format!("{keys} keys at revision {last}, the same on every member unless told otherwise above");
    }
    for task in following {
        task.abort();
    }

    let counts = &workload.counts;
    let number = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let faults: Vec<String> = made
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let reopened: u64 = watchers.iter().map(|watcher| watcher.reopened()).sum();
    Ok(format!(
        "operations: {} judged; puts {}, gets {}, swaps {} (refused {}); unknown writes {}, unanswered reads {}, not sent {}\n\
         keys: {} judged, {} operations each at most\n\
         faults: {}\n\
         leaders: {} terms seen\n\
         watches: opened again {reopened} times\n\
         end: {state}",
        judged.operations,
        number(&counts.puts),
        number(&counts.gets),
        number(&counts.swaps),
        number(&counts.swaps_refused),
        number(&counts.unknown),
        number(&counts.unread),
        number(&counts.not_sent),
        judged.finals.len(),
        options.per_key,
        if faults.is_empty() {
            "none".to_owned()
        } else {
            faults.join(", ")
        },
        leaders.len(),
    ))
}

/// The faults that are asked for and possible.
fn kinds(options: &Options, network: &Network, members: &[Member]) -> Result<Vec<FaultKind>> {
    let possible = |kind: &FaultKind| match kind {
        FaultKind::Kill | FaultKind::Pause => true,
        FaultKind::Partition => network.can_cut() && members.len() > 1,
        FaultKind::Clients => network.can_cut(),
        // etcd wants a member that lost its disk removed and added by hand.
        FaultKind::Wipe => options.system == System::Chainfire && members.len() > 2,
        FaultKind::Clock => members.iter().all(Member::has_clock),
    };
    let all = [
        FaultKind::Kill,
        FaultKind::Pause,
        FaultKind::Partition,
        FaultKind::Clients,
        FaultKind::Clock,
        FaultKind::Wipe,
    ];
    if options.faults.is_empty() {
        return Ok(all.into_iter().filter(possible).collect());
    }
    if let Some(kind) = options.faults.iter().find(|kind| !possible(kind)) {
        bail!(
            "--faults {kind:?}: not possible here: partitions need namespaces, clocks Chainfire and a C compiler, wipes Chainfire and three members"
        );
    }
    Ok(options.faults.clone())
}

/// Waits until all members know one leader.
async fn wait_until_up(members: &mut [Member], clients: &[Client]) -> Result<()> {
    let started = Instant::now();
    loop {
        let mut leaders = Vec::new();
        for client in clients {
            leaders.push(client.status(ANSWER_MAX).await.map_or(0, |status| status.leader));
        }
        if leaders[0] != 0 && leaders.iter().all(|leader| *leader == leaders[0]) {
            return Ok(());
        }
        for member in members.iter_mut() {
            if let Some(how) = member.ended()? {
                bail!("start the cluster: {how}");
            }
        }
        if started.elapsed() > START_MAX {
            bail!(
                "start the cluster: after {} s its members take for leader: {leaders:?}",
                START_MAX.as_secs()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}
