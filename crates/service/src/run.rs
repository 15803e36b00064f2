//! The life of a daemon: ready, reloading, draining, gone.
//!
//! [`Runner::start`] owns the runtime, the signals and the talk with the service manager (`sd_notify(3)`); the service is
//! one future that is handed a [`Lifecycle`]. It binds its ports, says [`Lifecycle::ready`], works until
//! [`Lifecycle::shutdown`] is triggered, drains and returns.
//!
//! - SIGTERM or SIGINT: the shutdown is triggered and the grace period begins. When it is over the service is dropped and
//!   the run fails. A second signal drops it at once.
//! - SIGHUP: the reload callback runs; what it returns as an error is logged, and the old settings stay.
//! - The service may return before any signal: that is the end of the run, with its result.
//!
//! After `start` returns the process is expected to exit; tasks still running then are abandoned.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::{Shutdown, exit};

/// What a service may need for draining when its program says nothing else. Below systemd's 90 s before SIGKILL.
const GRACE_DEFAULT: Duration = Duration::from_secs(30);

type Reload = Box<dyn FnMut() -> anyhow::Result<()> + Send>;

/// Runs a service until it ends or is told to.
pub struct Runner {
    grace: Duration,
    reload: Option<Reload>,
}

/// What a running service sees of its life.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    /// Triggered when draining begins.
    pub shutdown: Shutdown,
}

/// A signal that concerns the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Terminate,
    Interrupt,
    Hangup,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Hangup => "SIGHUP",
        }
    }

    /// Exit code of a process that this signal ended, as shells count.
    const fn exit_code(self) -> u8 {
        match self {
            Self::Terminate => 128 + 15,
            Self::Interrupt => 128 + 2,
            Self::Hangup => 128 + 1,
        }
    }
}

/// Whoever started this process may have blocked signals for itself, and a blocked mask is inherited: without this the process
/// could not be told to stop. Must come before the first thread, which takes the mask over.
fn unblock_signals() -> nix::Result<()> {
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
    let mut ours = SigSet::empty();
    for signal in [
        nix::sys::signal::SIGTERM,
        nix::sys::signal::SIGINT,
        nix::sys::signal::SIGHUP,
    ] {
        ours.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&ours), None)
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl Runner {
    /// A runner with 30 s of grace that ignores SIGHUP.
    pub fn new() -> Self {
        Self {
            grace: GRACE_DEFAULT,
            reload: None,
        }
    }

    /// How long draining may take.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// What SIGHUP does. Runs on the runner's task: it must be short, and may hand longer work to a channel.
    #[must_use]
    pub fn on_reload(mut self, reload: impl FnMut() -> anyhow::Result<()> + Send + 'static) -> Self {
        self.reload = Some(Box::new(reload));
        self
    }

    /// Builds a multi-threaded runtime and runs `serve` in it. The exit code of an error is [`exit::code_of`].
    pub fn start<F, S>(self, serve: S) -> anyhow::Result<()>
    where
        S: FnOnce(Lifecycle) -> F,
        F: Future<Output = anyhow::Result<()>>,
    {
        unblock_signals().context("unblock signals")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("start the async runtime")?;
        let result = runtime.block_on(self.run(serve));
        // Dropping it would wait for blocking tasks, however long they take.
        runtime.shutdown_background();
        result
    }

    /// The same inside a runtime that is already there.
    pub async fn run<F, S>(self, serve: S) -> anyhow::Result<()>
    where
        S: FnOnce(Lifecycle) -> F,
        F: Future<Output = anyhow::Result<()>>,
    {
        let signals = listen().context("listen for signals")?;
        let watchdog = tokio::spawn(feed_watchdog());
        let result = self.run_with(signals, serve).await;
        watchdog.abort();
        result
    }

    async fn run_with<F, S>(mut self, mut signals: mpsc::Receiver<Signal>, serve: S) -> anyhow::Result<()>
    where
        S: FnOnce(Lifecycle) -> F,
        F: Future<Output = anyhow::Result<()>>,
    {
        let lifecycle = Lifecycle {
            shutdown: Shutdown::new(),
        };
        let shutdown = lifecycle.shutdown.clone();
        let mut service = Box::pin(serve(lifecycle));

        let first = loop {
            tokio::select! {
                result = &mut service => return result,
                // The service may also ask for the end itself.
                () = shutdown.wait() => break None,
                Some(received) = signals.recv() => match received {
                    Signal::Hangup => self.reload_now(),
                    signal => break Some(signal),
                },
            }
        };

        notify(&[NotifyState::Stopping]);
        let grace_s = self.grace.as_secs();
        let cause = first.map_or("service", Signal::name);
        tracing::info!(target: "service", grace_s, cause, "Stopping");
        shutdown.trigger();

        let mut over = std::pin::pin!(tokio::time::sleep(self.grace));
        loop {
            tokio::select! {
                result = &mut service => return result,
                () = &mut over => {
                    return Err(anyhow::anyhow!("stop: work still in hand after {grace_s} s of grace"));
                }
                Some(received) = signals.recv() => {
                    if received != Signal::Hangup {
                        let error = anyhow::anyhow!("stop: second signal {} before the end of the drain", received.name());
                        return Err(exit::with_code(received.exit_code(), error));
                    }
                }
            }
        }
    }

    fn reload_now(&mut self) {
        let Some(reload) = &mut self.reload else {
            tracing::info!(target: "service", "Nothing to reload");
            return;
        };
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_unknown) => notify(&[NotifyState::Reloading]),
        }
        match reload() {
            Ok(()) => tracing::info!(target: "service", "Reloaded"),
            Err(error) => tracing::error!(target: "service", error = format!("{error:#}"), "Reload failed"),
        }
        notify(&[NotifyState::Ready]);
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

impl Lifecycle {
    /// Tells the service manager that the service does its work now. `status` is one line for `systemctl status`.
    pub fn ready(&self, status: &str) {
        notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Changes the line that `systemctl status` shows.
    pub fn status(&self, status: &str) {
        notify(&[NotifyState::Status(status)]);
    }
}

/// Sends to the service manager; without one (`NOTIFY_SOCKET` unset) nothing happens.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(target: "service", error = %error, "Service manager not reached");
    }
}

/// Answers systemd's watchdog at half its interval, if it wants that.
async fn feed_watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

/// From here on the three signals no longer end the process by themselves.
fn listen() -> std::io::Result<mpsc::Receiver<Signal>> {
    // A person cannot press keys faster than we read them; what does not fit would be the third of the same signal.
    let (sender, receiver) = mpsc::channel(8);
    for (kind, name) in [
        (SignalKind::terminate(), Signal::Terminate),
        (SignalKind::interrupt(), Signal::Interrupt),
        (SignalKind::hangup(), Signal::Hangup),
    ] {
        let mut stream = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if sender.send(name).await.is_err() {
                    break;
                }
            }
        });
    }
    Ok(receiver)
}

#[cfg(test)]
mod tests;
