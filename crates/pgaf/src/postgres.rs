//! [`Database`] and [`Probe`](crate::probe::Probe) with a real PostgreSQL.
//!
//! The server is a child process of the keeper ([`postmaster`]); its data directory is ours to make, replace and rewind ([`directory`],
//! [`join`]), its configuration to write ([`conf`], [`hba`]). What is asked of it goes over its Unix socket as the operating system's own user,
//! whom `pg_hba.conf` lets in by that alone. Other nodes are asked over TCP without a password.
//!
//! One thing is done at a time, but a stop gets through at once: it is noted before anything else, what is under way ends with an error
//! at its next wait, taking external programs along, and a server that it was about to start is not started any more.

mod access;
mod command;
mod conf;
mod control;
mod directory;
mod effect;
mod hba;
mod join;
mod lsn;
mod postmaster;
mod probe;
mod processes;
mod programs;
mod recovery;
mod replication;
mod session;
mod standby;
mod status;
mod stop;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{User, geteuid};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::database::{Database, Error, Options, Peer, Status, Stop};
use crate::{Names, NodeId, Position};

use control::Control;
use postmaster::Postmaster;
use session::Session;

pub use probe::Login;
pub use programs::bindir;

/// One look at a server that may be ill.
const LOOK: Duration = Duration::from_secs(2);

/// One login or statement of something that has to be done.
const STATEMENT: Duration = Duration::from_secs(10);

/// How long a server may take until it lets us in: it may have to recover from a crash first.
const START: Duration = Duration::from_mins(30);

/// How long a standby may take, which has to come to where it is consistent.
const START_STANDBY: Duration = Duration::from_mins(2);

/// How long a standby may take until it receives from its upstream.
const RECEIVE: Duration = Duration::from_secs(20);

/// How long fetching may go on without a byte.
const FETCH: Duration = Duration::from_secs(20);

/// How long a standby that is to be made anew may take to stop by itself.
const STOP_STANDBY: Duration = Duration::from_secs(30);

/// Between two looks at something that changes by itself.
const POLL: Duration = Duration::from_millis(50);

/// A file in a directory that we made: the application's role and database are still to be made.
const UNFINISHED: &str = "pg_autoctl.unfinished";

/// The PostgreSQL of one data directory. Dropping it ends the server at once.
#[derive(Debug)]
pub struct Postgres {
    options: Options,
    /// Whom the operating system says we are, and so the server's superuser.
    user: String,
    /// The server there is or was last. Replaced only while `stops` is held.
    server: watch::Sender<Option<Arc<Postmaster>>>,
    /// How many stops were asked for.
    stops: Mutex<u64>,
    stopping: watch::Sender<u64>,
    /// Held by whatever changes something.
    work: tokio::sync::Mutex<()>,
    /// Names that every process goes by, if that is certain.
    in_effect: Mutex<Option<Names>>,
    /// What was found of a directory in which nothing runs.
    stopped: Mutex<Option<(Control, Option<Position>)>>,
}

/// Something that is done until a stop is asked for.
struct Turn {
    begun: u64,
    stopping: watch::Receiver<u64>,
}

impl Postgres {
    /// Takes the directory over. A server that was left there by another keeper, which must have ended, is ended too; one that somebody else has
    /// started is refused.
    pub async fn open(options: Options) -> Result<Postgres, Error> {
        const WHAT: &str = "use the data directory";
        if geteuid().is_root() {
            let reason = "PostgreSQL refuses to be run by root: run this as the user that owns the data directory (sudo -u postgres)";
            return Err(Error::failed(WHAT, reason));
        }
        let user = User::from_uid(geteuid())
            .map_err(|error| Error::failed(WHAT, error))?
            .ok_or_else(|| Error::failed(WHAT, format!("the user {} has no name", geteuid())))?;
        let socket = options.socket_dir.join(format!(".s.PGSQL.{}", options.port));
        // `sun_path` has 108 bytes with the one that ends it.
        if socket.as_os_str().len() > 107 {
            let reason = format!("{} is too long a name for a socket", socket.display());
            return Err(Error::failed(WHAT, reason));
        }
        postmaster::take_over(&options.pgdata).await?;
        directory::sweep(&options.pgdata);
        Ok(Postgres {
            options,
            user: user.name,
            server: watch::Sender::new(None),
            stops: Mutex::new(0),
            stopping: watch::Sender::new(0),
            work: tokio::sync::Mutex::new(()),
            in_effect: Mutex::new(None),
            stopped: Mutex::new(None),
        })
    }

    /// Number of the server's first process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running().map(|server| server.pid().as_raw().cast_unsigned())
    }

    fn turn(&self) -> Turn {
        let stopping = self.stopping.subscribe();
        let begun = *stopping.borrow();
        Turn { begun, stopping }
    }

    /// Does something alone, until a stop is asked for.
    async fn alone<T>(
        &self,
        what: &'static str,
        turn: &Turn,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut stopping = turn.stopping.clone();
        let work = async {
            let _alone = self.work.lock().await;
            work.await
        };
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stops| *stops != turn.begun) => Err(Error::failed(what, "PostgreSQL is to stop")),
            done = work => done,
        }
    }

    fn login(&self) -> session::Login {
        session::Login::local(&self.options.socket_dir, self.options.port, &self.user)
    }

    async fn session(&self, what: &'static str) -> Result<Session, Error> {
        self.login().open(what, STATEMENT).await
    }

    /// The server, if it has not ended.
    fn running(&self) -> Option<Arc<Postmaster>> {
        let server = self.server.borrow().clone();
        server.filter(|server| server.exit().is_none())
    }

    /// Starts a server as the directory says.
    fn spawn(&self, turn: &Turn) -> Result<Arc<Postmaster>, Error> {
        const WHAT: &str = "start PostgreSQL";
        let names = conf::names(&self.options.pgdata)?;
        // Whoever asks for a stop from here on finds the server.
        let stops = self.stops.lock();
        if *stops != turn.begun {
            return Err(Error::failed(WHAT, "PostgreSQL is to stop"));
        }
        let server = Arc::new(Postmaster::spawn(&self.options)?);
        *self.stopped.lock() = None;
        *self.in_effect.lock() = Some(names);
        self.server.send_replace(Some(server.clone()));
        Ok(server)
    }

    /// An error if something else than our files decides.
    async fn check_configuration(&self) -> Result<(), Error> {
        const WHAT: &str = "check the configuration";
        let pgdata = &self.options.pgdata;
        let names = conf::names(pgdata)?.to_string();
        let upstream = conf::upstream(pgdata)?;
        for (setting, expected) in [
            ("synchronous_standby_names", names),
            ("primary_conninfo", upstream),
        ] {
            let mut command = command::program(&self.options.bindir, "postgres");
            command.arg("-D").arg(pgdata).args(["-C", setting]);
            let found = command::run(WHAT, command, STATEMENT, |_| ()).await?;
            if found.trim_end_matches('\n') != expected {
                let reason = format!(
                    "{setting} is `{}` by postgresql.conf or postgresql.auto.conf in {}: take it out there",
                    found.trim(),
                    pgdata.display()
                );
                return Err(Error::failed(WHAT, reason));
            }
        }
        Ok(())
    }

    /// What runs, or is started as the directory says.
    async fn up(&self, turn: &Turn, limit: Duration) -> Result<Arc<Postmaster>, Error> {
        if let Some(server) = self.running() {
            server.ready(&self.login(), limit).await?;
            return Ok(server);
        }
        self.check_configuration().await?;
        let server = self.spawn(turn)?;
        server.ready(&self.login(), limit).await?;
        Ok(server)
    }

    /// Ends the server, if there is one, not on anybody's request.
    async fn down(&self) {
        if let Some(server) = self.running() {
            server.ask_to_stop();
            if tokio::time::timeout(STOP_STANDBY, server.ended()).await.is_err() {
                server.kill().await;
            }
        }
        processes::kill_all(&self.options.pgdata).await;
    }

    /// A cluster in the empty directory.
    async fn initdb(&self) -> Result<(), Error> {
        const WHAT: &str = "initdb";
        let options = &self.options;
        directory::must_be_empty(&options.pgdata)?;
        let new = directory::new(&options.pgdata);
        let mut command = command::program(&options.bindir, "initdb");
        command.arg("-D").arg(&new);
        // An order of texts that is the same on every host whatever its libraries: indexes outlive a change of host.
        command.args(["--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"]);
        let auth = options.auth.as_deref().unwrap_or("scram-sha-256");
        command.args(["--auth-local=peer", &format!("--auth-host={auth}")]);
        command.args(["--username", &self.user]);
        let made = async {
            command::run(WHAT, command, STATEMENT * 30, |_| ()).await?;
            self.settings(&new)?;
            directory::write(&new.join(UNFINISHED), "")
        };
        if let Err(error) = made.await {
            let _ = std::fs::remove_dir_all(&new);
            return Err(error);
        }
        directory::replace(&options.pgdata, &new).map(drop)
    }

    fn settings(&self, pgdata: &std::path::Path) -> Result<(), Error> {
        conf::install(pgdata, &self.options, &conf::names(pgdata)?)?;
        if let Some(auth) = &self.options.auth {
            hba::install(pgdata, &self.user, auth, &[])?;
        }
        Ok(())
    }

    async fn start_primary(&self, turn: &Turn) -> Result<(), Error> {
        let pgdata = &self.options.pgdata;
        if conf::is_standby(pgdata) {
            return self.start_and_promote(turn).await;
        }
        if self.running().is_none() {
            conf::follow_nobody(pgdata)?;
        }
        self.up(turn, START).await?;
        recovery::writes(&self.login()).await?;
        self.finish().await
    }

    /// What every primary has.
    async fn finish(&self) -> Result<(), Error> {
        const WHAT: &str = "make roles";
        let session = self.session(WHAT).await?;
        access::roles(&session).await?;
        let unfinished = self.options.pgdata.join(UNFINISHED);
        if unfinished.exists() {
            access::application(&session, &self.options).await?;
            directory::remove(&unfinished)?;
        }
        Ok(())
    }

    async fn start_and_promote(&self, turn: &Turn) -> Result<(), Error> {
        conf::follow_nobody(&self.options.pgdata)?;
        self.up(turn, START).await?;
        recovery::promote(&self.login()).await?;
        self.checkpoint_soon();
        self.finish().await
    }

    /// Whoever wants to rewind to this timeline has to wait for it.
    fn checkpoint_soon(&self) {
        let login = self.login();
        tokio::spawn(async move {
            const WHAT: &str = "checkpoint after a promotion";
            let limit = Duration::from_mins(30);
            let done = async { login.open(WHAT, limit).await?.rows(WHAT, "checkpoint").await };
            if let Err(error) = done.await {
                tracing::warn!("{error}");
            }
        });
    }

    async fn change_names(&self, names: &Names) -> Result<(), Error> {
        let options = &self.options;
        // From here on either may be in effect.
        let old = self.in_effect.lock().take();
        conf::write_names(&options.pgdata, options, names)?;
        let Some(server) = self.running() else {
            return Ok(());
        };
        server.reload();
        effect::wait(&self.login(), old.as_ref(), names).await?;
        *self.in_effect.lock() = Some(names.clone());
        Ok(())
    }

    async fn end_of_standby(&self) -> Result<Position, Error> {
        let options = &self.options;
        let identity =
            replication::identify_local(&options.socket_dir, options.port, &self.user, STATEMENT).await?;
        Ok(identity.position)
    }

    async fn cut_off(&self, turn: &Turn) -> Result<Position, Error> {
        const WHAT: &str = "cut the upstream";
        let pgdata = &self.options.pgdata;
        conf::follow_nobody(pgdata)?;
        if let Some(server) = self.running() {
            server.ready(&self.login(), START_STANDBY).await?;
            if !recovery::recovers(&self.session(WHAT).await?).await? {
                return Err(Error::failed(WHAT, "it takes writes; it has to be stopped first"));
            }
            server.reload();
            recovery::cut(&self.login()).await?;
        } else {
            conf::be_standby(pgdata)?;
            self.up(turn, START).await?;
        }
        // Until then the timeline it is on may be an older one than that which it has received.
        recovery::replay(&self.session(WHAT).await?).await?;
        self.end_of_standby().await
    }

    async fn fetch_from(&self, turn: &Turn, me: NodeId, from: &Peer, until: Position) -> Result<(), Error> {
        const WHAT: &str = "fetch the end of the log";
        let options = &self.options;
        let begun = self.cut_off(turn).await?;
        if begun >= until {
            return Ok(());
        }
        conf::follow(&options.pgdata, options, me, from, false)?;
        if let Some(server) = self.running() {
            server.reload();
        }
        let (mut last, mut since) = (begun, Instant::now());
        let fetched = loop {
            let position = self.end_of_standby().await?;
            if position >= until {
                break Ok(());
            }
            if position != last {
                (last, since) = (position, Instant::now());
            }
            if since.elapsed() >= FETCH {
                let reason = format!("nothing from {}:{} within {FETCH:?}", from.host, from.port);
                break Err(Error::failed(WHAT, reason));
            }
            tokio::time::sleep(POLL).await;
        };
        self.cut_off(turn).await?;
        fetched
    }
}

impl Database for Postgres {
    async fn status(&self) -> Result<Status, Error> {
        self.look().await
    }

    async fn ended(&self) {
        let mut servers = self.server.subscribe();
        loop {
            let server = servers.borrow_and_update().clone();
            if let Some(server) = server {
                tokio::select! {
                    how = server.ended() => if !server.asked() && server.tell() {
                        tracing::error!("PostgreSQL ended by itself: {how}");
                        return;
                    },
                    _ = servers.changed() => continue,
                }
            }
            if servers.changed().await.is_err() {
                return;
            }
        }
    }

    async fn create(&self) -> Result<(), Error> {
        let turn = self.turn();
        self.alone("create the cluster", &turn, async {
            if directory::is_cluster(&self.options.pgdata) {
                self.settings(&self.options.pgdata)
            } else {
                self.initdb().await
            }
        })
        .await
    }

    async fn names(&self) -> Result<Names, Error> {
        conf::names(&self.options.pgdata)
    }

    async fn serve(&self) -> Result<(), Error> {
        let turn = self.turn();
        let work = Box::pin(self.start_primary(&turn));
        self.alone("start PostgreSQL", &turn, work).await
    }

    async fn let_in(&self, others: &[Peer]) -> Result<(), Error> {
        const WHAT: &str = "let other nodes in";
        let turn = self.turn();
        self.alone(WHAT, &turn, async {
            if let Some(auth) = &self.options.auth
                && hba::install(&self.options.pgdata, &self.user, auth, others)?
                && let Some(server) = self.running()
            {
                server.reload();
            }
            let session = self.session(WHAT).await?;
            let standby = recovery::recovers(&session).await?;
            if !standby {
                access::roles(&session).await?;
            }
            access::slots(&session, others, standby).await
        })
        .await
    }

    async fn set_names(&self, names: &Names) -> Result<(), Error> {
        let turn = self.turn();
        let work = Box::pin(self.change_names(names));
        self.alone("change the names", &turn, work).await
    }

    async fn inserted(&self) -> Result<u64, Error> {
        effect::flushed_here(&self.session("ask where the log ends").await?).await
    }

    async fn flushed(&self, lsn: u64) -> Result<BTreeSet<NodeId>, Error> {
        effect::flushed(&self.session("ask what standbys have").await?, lsn).await
    }

    async fn follow(&self, me: NodeId, upstream: &Peer) -> Result<(), Error> {
        let turn = self.turn();
        let work = Box::pin(self.become_standby(&turn, me, upstream));
        self.alone("follow the primary", &turn, work).await
    }

    async fn cut(&self) -> Result<Position, Error> {
        let turn = self.turn();
        let work = Box::pin(self.cut_off(&turn));
        self.alone("cut the upstream", &turn, work).await
    }

    async fn fetch(&self, me: NodeId, from: &Peer, until: Position) -> Result<(), Error> {
        let turn = self.turn();
        let work = Box::pin(self.fetch_from(&turn, me, from, until));
        self.alone("fetch the end of the log", &turn, work).await
    }

    async fn replay(&self) -> Result<(), Error> {
        const WHAT: &str = "replay what was received";
        let turn = self.turn();
        self.alone(WHAT, &turn, async {
            recovery::replay(&self.session(WHAT).await?).await
        })
        .await
    }

    async fn promote(&self) -> Result<(), Error> {
        const WHAT: &str = "promote";
        let turn = self.turn();
        let work = Box::pin(async {
            if self.running().is_some() && !recovery::recovers(&self.session(WHAT).await?).await? {
                return Ok(());
            }
            self.start_and_promote(&turn).await
        });
        self.alone(WHAT, &turn, work).await
    }

    async fn stop(&self, how: Stop) -> Result<Option<Position>, Error> {
        self.end(how).await
    }
}
