//! `slo run`: one loop that owns the state. Looking and sending happen beside it and report back, so that neither a slow endpoint keeps
//! messages back nor a slow channel keeps objectives unseen.
//!
//! Order within a turn: what was seen is decided on, the state is on disk, then messages leave.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use notify::{DEFAULT_DEADLINE, Failure, Kind, Options, Receipt, Sender};
use parking_lot::Mutex;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use service::clock::SharedClock;
use service::{Lifecycle, Runner, SystemClock, net};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::config::Config;
use super::look::{Eye, Round};
use super::machine::{Data, Event, Look, Reading, decide, decide_endpoint, forget};
use super::metrics::{Alert, Attempt, Handles, Slo, Window};
use super::outbox::{Delivery, Next};
use super::prometheus::Prometheus;
use super::store::{Kept, Store};
use super::telling::{About, message};
use super::web::{self, Pages};
use crate::objective::Objective;
use crate::pace::Pace;
use crate::span::Span;

/// How often the whole period is asked about, which costs more than the windows of alerts.
const PERIOD_EVERY: Span = Span::minutes(5);

/// How long stopping waits for messages under way.
const DRAIN: Duration = Duration::from_secs(12);

/// Reports that wait for the loop; it takes them at once.
const REPORTS_MAX: usize = 64;

/// Longest sleep without anything to do. A wall clock that was set back must not make a message wait for it.
const NAP_MAX: Duration = Duration::from_secs(10);

/// What happened beside the loop.
enum Report {
    Seen(Box<Round>),
    Sent(Box<Delivery>, Result<Receipt, Failure>),
}

struct Evaluator {
    config: Arc<Config>,
    pace: Pace,
    objectives: Arc<Vec<Objective>>,
    eye: Eye,
    store: Store,
    kept: Kept,
    looks: Vec<Look>,
    sender: Sender,
    clock: SharedClock,
    handles: Handles,
    unready: Arc<Mutex<Option<String>>>,
    dice: StdRng,
    under_way: usize,
    is_down: bool,
}

/// Runs until it is told to end.
///
/// # Errors
/// Something cannot be opened: the state file, the port, a secret.
pub fn run(config: Config, objectives: Vec<Objective>) -> Result<()> {
    service::logs::init(&config.log)?;
    service::logs::install_panic_hook(false);
    let pace = config.pace();
    let clock = SystemClock::shared();
    for name in [true, false].iter().flat_map(|is_page| config.channels(*is_page)) {
        // Found now rather than with the first page. The text has no secret.
        config.channel(&name).map_err(anyhow::Error::msg)?;
    }
    let timeout = Duration::from_millis(config.timeout.0);
    let prometheus = Prometheus::new(&config.endpoint, config.token_file.clone(), timeout)?;
    let interval_ms = (config.interval.0 / pace.times()).max(1);
    let eye = Eye::new(prometheus, pace, interval_ms);
    let (store, kept) = Store::open(&config.state, pace.times())?;
    let listener = if config.listen.is_empty() {
        None
    } else {
        Some(net::bind("listen", &config.listen)?)
    };
    let sender = Sender::new(&Options::default(), clock.clone())?;
    let seed = clock.unix_ms() ^ u64::from(std::process::id());
    let evaluator = Evaluator {
        pace,
        objectives: Arc::new(objectives),
        eye,
        store,
        kept,
        looks: Vec::new(),
        sender,
        clock,
        handles: Handles::new(),
        unready: Arc::new(Mutex::new(Some("nothing was seen yet".to_owned()))),
        dice: StdRng::seed_from_u64(seed),
        under_way: 0,
        is_down: false,
        config: Arc::new(config),
    };
    let interval = Duration::from_millis(interval_ms);
    Runner::new()
        .grace(DRAIN + Duration::from_secs(5))
        .start(|lifecycle| evaluator.serve(lifecycle, listener, interval))
}

impl Evaluator {
    async fn serve(
        mut self,
        lifecycle: Lifecycle,
        listener: Option<TcpListener>,
        interval: Duration,
    ) -> Result<()> {
        if let Some(listener) = listener {
            let listener = tokio::net::TcpListener::from_std(listener).context("listen")?;
            let pages = Pages {
                metrics: self.handles.metrics.clone(),
                unready: self.unready.clone(),
            };
            tokio::spawn(web::serve(listener, pages, lifecycle.shutdown.clone()));
        }
        let now_ms = self.clock.unix_ms();
        let gone = forget(&self.objectives, &mut self.kept.alerts, now_ms);
        self.take(None, &gone, now_ms);
        let (reports, mut inbox) = mpsc::channel(REPORTS_MAX);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut is_looking = false;
        let mut period_ms = 0;
        tracing::info!(
            target: "slo",
            endpoint = self.eye.prometheus.address(),
            objectives = self.objectives.len(),
            interval = ?interval,
            time_scale = self.pace.times(),
            "evaluating"
        );
        lifecycle.ready("evaluating");
        loop {
            self.send_due(&reports);
            let nap = self.nap();
            tokio::select! {
                () = lifecycle.shutdown.wait() => break,
                _ = ticks.tick(), if !is_looking => {
                    is_looking = true;
                    let at_ms = self.clock.unix_ms();
                    let with_periods = at_ms >= period_ms;
                    if with_periods {
                        period_ms = at_ms + self.pace.ms(PERIOD_EVERY);
                    }
                    let (eye, objectives, reports) = (self.eye.clone(), self.objectives.clone(), reports.clone());
                    tokio::spawn(async move {
                        let round = eye.round(&objectives, at_ms, with_periods).await;
                        // The loop is gone only when the program ends.
                        let _ = reports.send(Report::Seen(Box::new(round))).await;
                    });
                }
                Some(report) = inbox.recv() => match report {
                    Report::Seen(round) => {
                        is_looking = false;
                        self.seen(*round);
                    }
                    Report::Sent(delivery, outcome) => self.sent(&delivery, outcome),
                },
                () = tokio::time::sleep(nap) => {}
            }
        }
        let drained = tokio::time::timeout(DRAIN, async {
            while self.under_way > 0 {
                if let Some(Report::Sent(delivery, outcome)) = inbox.recv().await {
                    self.sent(&delivery, outcome);
                }
            }
        });
        if drained.await.is_err() {
            tracing::warn!(target: "slo", messages = self.under_way, "ended while messages were under way");
        }
        Ok(())
    }

    /// How long nothing has to be sent.
    fn nap(&self) -> Duration {
        self.kept.outbox.next_ms().map_or(NAP_MAX, |next| {
            Duration::from_millis(next.saturating_sub(self.clock.unix_ms()).max(1)).min(NAP_MAX)
        })
    }

    /// Decides on what was seen.
    fn seen(&mut self, round: Round) {
        let at_ms = round.at_ms;
        self.handles.seconds.observe(round.seconds);
        self.handles.failures.inc_by(round.failures);
        if round.down.is_some() != self.is_down {
            self.is_down = round.down.is_some();
            if let Some(why) = &round.down {
                tracing::warn!(target: "slo", why, "the endpoint does not answer");
            } else {
                tracing::info!(target: "slo", "the endpoint answers");
            }
        }
        (*self.unready.lock()).clone_from(&round.down);
        let pace = self.pace;
        let before = std::mem::replace(&mut self.looks, round.looks);
        let objectives = self.objectives.clone();
        let memory = self.kept.alerts.clone();
        for (number, objective) in objectives.iter().enumerate() {
            let look = &self.looks[number];
            tell_change(objective, before.get(number).map(|look| &look.data), &look.data);
            let events = decide(objective, look, &mut self.kept.alerts, pace);
            self.measure(number, objective, round.periods.get(number));
            self.queue(Some(number), &events, round.down.as_deref(), at_ms);
        }
        let events = decide_endpoint(round.down.is_some(), at_ms, &mut self.kept.alerts, pace);
        self.queue(None, &events, round.down.as_deref(), at_ms);
        if is_different(&memory, &self.kept.alerts) {
            self.save();
        }
    }

    /// Queues messages and saves.
    fn take(&mut self, objective: Option<usize>, events: &[Event], now_ms: u64) {
        if !events.is_empty() {
            self.queue(objective, events, None, now_ms);
            self.save();
        }
    }

    fn queue(&mut self, number: Option<usize>, events: &[Event], down: Option<&str>, now_ms: u64) {
        for event in events {
            tracing::info!(
                target: "slo",
                alert = event.alert,
                what = ?event.what,
                page = event.active.page,
                since_ms = event.active.since_ms,
                at_ms = event.at_ms,
                "alert told"
            );
            let about = About {
                objective: number.map(|number| &self.objectives[number]),
                look: number.and_then(|number| self.looks.get(number)),
                endpoint: down.unwrap_or_default(),
                runbook_base: &self.config.runbook_base,
                pace: self.pace,
            };
            let message = message(event, about);
            for channel in self.config.channels(event.active.page) {
                if let Some(lost) = self.kept.outbox.push(&channel, message.clone(), now_ms) {
                    tracing::error!(
                        target: "slo",
                        channel = lost.channel,
                        subject = lost.message.subject,
                        "too many messages wait; the oldest is given up"
                    );
                }
            }
        }
    }

    fn measure(&self, number: usize, objective: &Objective, period: Option<&Reading>) {
        let slo = objective.series();
        let look = &self.looks[number];
        let budget = objective.budget().value();
        let of = Slo { slo: slo.clone() };
        let handles = &self.handles;
        handles.objective.get_or_create(&of).set(objective.target.value());
        let is_measured = matches!(look.data, Data::Fresh | Data::NoTraffic);
        handles.data.get_or_create(&of).set(i64::from(is_measured));
        if let Some(Reading::Number(ratio)) = period {
            handles.budget.get_or_create(&of).set(1.0 - ratio / budget);
        }
        for (window, ratio) in &look.ratios {
            let of = Window {
                slo: slo.clone(),
                window: window.to_string(),
            };
            match ratio {
                Reading::Number(ratio) => {
                    handles.burn.get_or_create(&of).set(ratio / budget);
                }
                // No figure is better than an old one.
                Reading::Nothing | Reading::Unknown => {
                    handles.burn.remove(&of);
                }
            }
        }
        for alert in &objective.alerts {
            let state = self.kept.alerts.alerts.get(&alert.name);
            let of = Alert {
                slo: slo.clone(),
                alert: alert.name.clone(),
            };
            let state = state.map_or(0, |active| if active.firing { 2 } else { 1 });
            handles.alert.get_or_create(&of).set(state);
        }
    }

    /// A file that cannot be written keeps nobody from being told; after a crash they may be told again.
    fn save(&self) {
        if let Err(error) = self.store.save(&self.kept) {
            tracing::error!(target: "slo", error = terminal::chain(&error), "the state is not kept");
        }
        self.handles.waiting.set(self.kept.outbox.len() as i64);
    }

    /// Sends whatever can be sent now.
    fn send_due(&mut self, reports: &mpsc::Sender<Report>) {
        let due = self.kept.outbox.take_due(self.clock.unix_ms());
        if due.is_empty() {
            return;
        }
        // That it is under way is known before it leaves.
        self.save();
        for delivery in due {
            self.under_way += 1;
            let (sender, config, reports) = (self.sender.clone(), self.config.clone(), reports.clone());
            tokio::spawn(async move {
                let outcome = match config.channel(&delivery.channel) {
                    Ok(channel) => sender.send(&channel, &delivery.message, DEFAULT_DEADLINE).await,
                    Err(text) => Err(Failure {
                        kind: Kind::Temporary,
                        retry_after: None,
                        uncertain: false,
                        held: false,
                        text,
                    }),
                };
                // The loop is gone only when the program ends.
                let _ = reports.send(Report::Sent(Box::new(delivery), outcome)).await;
            });
        }
    }

    fn sent(&mut self, delivery: &Delivery, outcome: Result<Receipt, Failure>) {
        self.under_way -= 1;
        let (channel, subject) = (&delivery.channel, &delivery.message.subject);
        let result = match outcome {
            Ok(receipt) => {
                tracing::info!(target: "slo", channel, subject, answer = %receipt, "message sent");
                self.kept.outbox.arrived(delivery.number);
                "sent"
            }
            Err(failure) => {
                let dice = self.dice.random::<f64>();
                let now_ms = self.clock.unix_ms();
                match self.kept.outbox.failed(delivery.number, &failure, now_ms, dice) {
                    Next::Again(pause_ms) => {
                        tracing::warn!(target: "slo", channel, subject, pause_ms, error = failure.text, "message not sent");
                        "failed"
                    }
                    Next::GivenUp => {
                        tracing::error!(target: "slo", channel, subject, error = failure.text, "message given up");
                        "given-up"
                    }
                }
            }
        };
        self.handles
            .attempts
            .get_or_create(&Attempt {
                channel: channel.clone(),
                result: result.to_owned(),
            })
            .inc();
        self.save();
    }
}

/// Whether anything but the newest values differs: those are not worth a write every interval.
fn is_different(before: &super::machine::Memory, after: &super::machine::Memory) -> bool {
    let differs = |(name, now): (&String, &super::machine::Active)| {
        before.alerts.get(name).is_none_or(|then| {
            (then.since_ms, then.firing, then.told_ms) != (now.since_ms, now.firing, now.told_ms)
        })
    };
    before.alerts.len() != after.alerts.len() || after.alerts.iter().any(differs)
}

/// One line when the state of the measurements changes.
fn tell_change(objective: &Objective, before: Option<&Data>, after: &Data) {
    let (was, is) = (before.map_or("ok", Data::name), after.name());
    if was == is {
        return;
    }
    let slo = objective.series();
    if matches!(after, Data::Fresh) {
        tracing::info!(target: "slo", slo, was, "measurements are there");
    } else {
        tracing::warn!(target: "slo", slo, data = is, why = after.told(), "measurements are missing");
    }
}
