//! `qu check`: what is watched.

mod list;

use clap::{Args, Subcommand, ValueEnum};

use super::{client, status};
use crate::api::{Answer, Request};
use crate::document::schema::{INTERVAL, TIMEOUT, TLS_WARN_DAYS};
use crate::document::{Change, Check, CheckKind, Document, Entry, change};
use crate::duration::Span;
use crate::machine::state::Verb;

#[derive(Debug, Subcommand)]
pub(super) enum CheckCommand {
    /// Watch something new.
    #[command(subcommand)]
    Add(AddCommand),
    /// List the checks.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stop watching.
    Remove {
        /// By id or name.
        check: String,
    },
    /// Watch again.
    Enable {
        /// By id or name.
        check: String,
    },
    /// Pause a check; it keeps its state.
    Disable {
        /// By id or name.
        check: String,
    },
    /// Change what is given; everything else stays.
    Edit(Edit),
    /// Send what a change of state would send, marked as a test.
    Test {
        /// By id or name.
        check: String,
        /// Which change.
        #[arg(long, value_enum, default_value_t = TestState::Down)]
        state: TestState,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum TestState {
    /// An outage.
    Down,
    /// Well, for the first time.
    Up,
    /// The end of an outage.
    Recovered,
}

/// What every check has.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// From one probe to the next (30s).
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    interval: Option<Span>,
    /// How long a probe may take (10s).
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    timeout: Option<Span>,
    /// Alerts by id or name.
    #[arg(long, value_name = "ALERT,...", value_delimiter = ',')]
    alerts: Option<Vec<String>>,
    /// Default alerts that this check does not want.
    #[arg(long, value_name = "ALERT,...", value_delimiter = ',')]
    suppress_alerts: Option<Vec<String>>,
    /// DNS servers for this check.
    #[arg(long, value_name = "ADDRESS,...", value_delimiter = ',')]
    resolvers: Option<Vec<String>>,
    /// Rounds in a row before it is down (2).
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..))]
    confirm: Option<u32>,
    /// Rounds in a row before it is up again (2).
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..))]
    recover: Option<u32>,
    /// Reports that a verdict needs (0: the quorum).
    #[arg(long, value_name = "NODES")]
    min_reports: Option<u32>,
    /// Checks that this one cannot do without, by id or name.
    #[arg(long, value_name = "CHECK,...", value_delimiter = ',')]
    depends_on: Option<Vec<String>>,
    /// For maintenance of several checks at once.
    #[arg(long)]
    group: Option<String>,
    /// Whether the first failure is looked at again at once (true).
    #[arg(long)]
    second_opinion: Option<bool>,
    /// How often an outage that lasts is announced again (0: never).
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    remind_every: Option<Span>,
}

#[derive(Debug, Default, Args)]
pub(super) struct HttpArgs {
    /// Status to expect; any 2xx if left out.
    #[arg(long, value_name = "STATUS")]
    expect: Option<String>,
    /// Text that the body must contain.
    #[arg(long, value_name = "TEXT")]
    body_match: Option<String>,
}

#[derive(Debug, Default, Args)]
pub(super) struct IcmpArgs {
    /// Echoes per probe (1).
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20))]
    count: Option<u32>,
    /// Share of lost echoes up to which it is up, such as 50%; 0% allows no loss. When all are lost it is down (99%).
    #[arg(long, value_name = "PERCENT")]
    max_loss: Option<String>,
}

#[derive(Debug, Default, Args)]
pub(super) struct TlsArgs {
    /// Days before the end of the certificate from which it fails (14).
    #[arg(long)]
    warn_days: Option<u32>,
    /// Name to ask for, if not the host.
    #[arg(long)]
    sni: Option<String>,
    /// Verify chain and name as well.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    verify: Option<bool>,
}

#[derive(Debug, Default, Args)]
pub(super) struct DnsArgs {
    /// a, aaaa, cname, mx, txt or ns (a).
    #[arg(long)]
    record: Option<String>,
    /// Server to ask: host:port.
    #[arg(long)]
    resolver: Option<String>,
    /// What one answer must be: the whole address or name; of a txt record, a part of it.
    #[arg(long, value_name = "TEXT")]
    expect: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum AddCommand {
    /// A GET of a URL.
    Http {
        /// Unique.
        name: String,
        /// Where.
        url: String,
        #[command(flatten)]
        own: HttpArgs,
        #[command(flatten)]
        common: Common,
    },
    /// A connection to host:port.
    Tcp {
        /// Unique.
        name: String,
        /// host:port.
        target: String,
        #[command(flatten)]
        common: Common,
    },
    /// An echo of a host.
    Icmp {
        /// Unique.
        name: String,
        /// Name or address.
        host: String,
        #[command(flatten)]
        own: IcmpArgs,
        #[command(flatten)]
        common: Common,
    },
    /// The end date of a certificate.
    Tls {
        /// Unique.
        name: String,
        /// host, host:port or URL.
        target: String,
        #[command(flatten)]
        own: TlsArgs,
        #[command(flatten)]
        common: Common,
    },
    /// A name.
    Dns {
        /// Unique.
        name: String,
        /// What to look up.
        hostname: String,
        #[command(flatten)]
        own: DnsArgs,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
pub(super) struct Edit {
    /// By id or name.
    check: String,
    /// Another name.
    #[arg(long)]
    name: Option<String>,
    /// Another target.
    #[arg(long)]
    target: Option<String>,
    /// http: status; dns: text.
    #[arg(long)]
    expect: Option<String>,
    /// http: text that the body must contain.
    #[arg(long)]
    body_match: Option<String>,
    #[command(flatten)]
    icmp: IcmpArgs,
    #[command(flatten)]
    tls: TlsArgs,
    /// dns: a, aaaa, cname, mx, txt or ns.
    #[arg(long)]
    record: Option<String>,
    /// dns: server to ask.
    #[arg(long)]
    resolver: Option<String>,
    #[command(flatten)]
    common: Common,
}

fn status_of(text: &str) -> anyhow::Result<u16> {
    text.parse()
        .map_err(|_| anyhow::anyhow!("--expect {text}: write an HTTP status such as 200, or 0 for any 2xx"))
}

fn percent(text: &str) -> anyhow::Result<u32> {
    let number = text
        .strip_suffix('%')
        .unwrap_or(text)
        .parse()
        .ok()
        .filter(|number| *number <= 100);
    number
        .ok_or_else(|| anyhow::anyhow!("--max-loss {text}: write a percentage from 0% to 100%, such as 50%"))
}

impl HttpArgs {
    fn lay_over(self, check: &mut Check) -> anyhow::Result<()> {
        if let Some(expect) = self.expect {
            check.expect_status = status_of(&expect)?;
        }
        if let Some(text) = self.body_match {
            check.body_match = text;
        }
        Ok(())
    }
}

impl IcmpArgs {
    fn lay_over(self, check: &mut Check) -> anyhow::Result<()> {
        if let Some(count) = self.count {
            check.icmp_count = count;
        }
        if let Some(loss) = self.max_loss {
            check.icmp_max_loss = Some(percent(&loss)?);
        }
        Ok(())
    }
}

impl TlsArgs {
    fn lay_over(self, check: &mut Check) {
        if let Some(days) = self.warn_days {
            check.tls_warn_days = days;
        }
        if let Some(name) = self.sni {
            check.tls_server_name = name;
        }
        if let Some(verify) = self.verify {
            check.tls_verify = verify;
        }
    }
}

impl DnsArgs {
    fn lay_over(self, check: &mut Check) {
        if let Some(record) = self.record {
            check.dns_record = record;
        }
        if let Some(resolver) = self.resolver {
            check.dns_resolver = resolver;
        }
        if let Some(text) = self.expect {
            check.dns_expect = text;
        }
    }
}

impl Common {
    fn lay_over(self, check: &mut Check) {
        fn put<T>(value: Option<T>, place: &mut T) {
            if let Some(value) = value {
                *place = value;
            }
        }
        let without_empty = |list: Option<Vec<String>>| {
            list.map(|list| list.into_iter().filter(|text| !text.is_empty()).collect())
        };
        put(self.interval, &mut check.interval);
        put(self.timeout, &mut check.timeout);
        put(without_empty(self.alerts), &mut check.alert_ids);
        put(without_empty(self.suppress_alerts), &mut check.suppress_alert_ids);
        put(without_empty(self.resolvers), &mut check.resolvers);
        put(without_empty(self.depends_on), &mut check.depends_on);
        put(self.confirm, &mut check.confirm);
        put(self.recover, &mut check.recover);
        put(self.min_reports, &mut check.min_reports);
        put(
            self.group
                .map(|group| Some(group).filter(|text| !text.is_empty())),
            &mut check.group,
        );
        put(self.second_opinion.map(Some), &mut check.second_opinion);
        put(
            self.remind_every
                .map(|every| Some(every).filter(|every| !every.is_zero())),
            &mut check.remind_every,
        );
    }
}

impl AddCommand {
    fn check(self) -> anyhow::Result<Check> {
        let new = |name: String, kind, target: String| Check {
            id: super::new_id(),
            interval: INTERVAL,
            timeout: TIMEOUT,
            ..Check::new(name, kind, target)
        };
        let (mut check, common) = match self {
            AddCommand::Http {
                name,
                url,
                own,
                common,
            } => {
                let mut check = new(name, CheckKind::Http, url);
                own.lay_over(&mut check)?;
                (check, common)
            }
            AddCommand::Tcp { name, target, common } => (new(name, CheckKind::Tcp, target), common),
            AddCommand::Icmp {
                name,
                host,
                own,
                common,
            } => {
                let mut check = new(name, CheckKind::Icmp, host);
                own.lay_over(&mut check)?;
                (check, common)
            }
            AddCommand::Tls {
                name,
                target,
                own,
                common,
            } => {
                let mut check = new(name, CheckKind::Tls, target);
                check.tls_warn_days = TLS_WARN_DAYS;
                own.lay_over(&mut check);
                (check, common)
            }
            AddCommand::Dns {
                name,
                hostname,
                own,
                common,
            } => {
                let mut check = new(name, CheckKind::Dns, hostname);
                own.lay_over(&mut check);
                (check, common)
            }
        };
        // A short interval alone should not want a second flag.
        if let (Some(interval), None) = (common.interval, common.timeout) {
            check.timeout = check.timeout.min(interval);
        }
        common.lay_over(&mut check);
        Ok(check)
    }
}

fn found<'a>(document: &'a Document, text: &str) -> anyhow::Result<&'a Check> {
    document.check(text).ok_or_else(|| {
        anyhow::anyhow!(
            "there is no check \"{}\"; see qu check list",
            terminal::brief(text)
        )
    })
}

fn entry(check: &Check) -> Entry {
    Entry::Check(Box::new(check.clone()))
}

impl CheckCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            CheckCommand::Add(add) => {
                let check = add.check()?;
                let done = format!("check {} added, id {}", check.name, check.id);
                client::configure(vec![Change::add(entry(&check))], "check add", &done)
            }
            CheckCommand::List { json } => {
                let status = status::status(false)?;
                list::print(&status.checks, &client::document()?, json)
            }
            CheckCommand::Remove { check } => {
                let document = client::document()?;
                let known = found(&document, &check)?;
                if let Some(reason) = change::in_the_way_of(&document, known) {
                    anyhow::bail!("check {} cannot be removed: {reason}", known.name);
                }
                let done = format!("check {} removed", known.name);
                client::configure(vec![Change::remove(entry(known))], "check remove", &done)
            }
            CheckCommand::Enable { check } => pause(&check, false),
            CheckCommand::Disable { check } => pause(&check, true),
            CheckCommand::Edit(edit) => edit.run(),
            CheckCommand::Test { check, state } => test(&check, state),
        }
    }
}

fn pause(check: &str, disabled: bool) -> anyhow::Result<()> {
    let document = client::document()?;
    let known = found(&document, check)?;
    let (what, done) = if disabled {
        ("disable", "disabled")
    } else {
        ("enable", "enabled")
    };
    let after = Check {
        disabled,
        ..known.clone()
    };
    let change = Change::edit(entry(known), entry(&after));
    let changes = if after == *known { Vec::new() } else { vec![change] };
    client::configure(
        changes,
        &format!("check {what}"),
        &format!("check {} {done}", known.name),
    )
}

impl Edit {
    fn run(self) -> anyhow::Result<()> {
        let document = client::document()?;
        let known = found(&document, &self.check)?.clone();
        let mut after = known.clone();
        let kind = known.kind;
        if let Some(name) = self.name {
            after.name = name;
        }
        if let Some(target) = self.target {
            after.target = target;
        }
        match (self.expect, kind) {
            (Some(text), CheckKind::Dns) => after.dns_expect = text,
            (Some(text), CheckKind::Http) => after.expect_status = status_of(&text)?,
            (Some(_), _) => anyhow::bail!(
                "--expect belongs to checks of type http and dns, not {}",
                kind.name()
            ),
            (None, _) => {}
        }
        let http = HttpArgs {
            expect: None,
            body_match: self.body_match,
        };
        http.lay_over(&mut after)?;
        self.icmp.lay_over(&mut after)?;
        self.tls.lay_over(&mut after);
        let dns = DnsArgs {
            record: self.record,
            resolver: self.resolver,
            expect: None,
        };
        dns.lay_over(&mut after);
        self.common.lay_over(&mut after);
        anyhow::ensure!(after != known, "nothing to change; see qu check edit --help");
        let change = Change::edit(entry(&known), entry(&after));
        client::configure(
            vec![change],
            "check edit",
            &format!("check {} changed", after.name),
        )
    }
}

fn test(check: &str, state: TestState) -> anyhow::Result<()> {
    let document = client::document()?;
    let known = found(&document, check)?;
    let alerts: Vec<_> = document
        .alerts_of(known)
        .map(|(alert, _)| alert.clone())
        .collect();
    anyhow::ensure!(
        !alerts.is_empty(),
        "check {} has no alerts that are enabled",
        known.name
    );
    let verb = match state {
        TestState::Down => Verb::Down,
        TestState::Up => Verb::Up,
        TestState::Recovered => Verb::Recovered,
    };
    let mut failures = 0;
    for alert in alerts {
        let answer = client::ask(&Request::TestAlert {
            alert: alert.id.clone(),
            check: Some(known.id.clone()),
            verb,
            nodes: Vec::new(),
        })?;
        let Answer::Tested(results) = answer else {
            anyhow::bail!("the daemon answers something else; is it another version?");
        };
        for (_, error) in results {
            match error {
                None => terminal::out(&format!(
                    "alert {}: {} sent as a test\n",
                    terminal::harmless(&alert.name),
                    verb.name()
                )),
                Some(error) => {
                    failures += 1;
                    super::say(&anyhow::anyhow!("alert {}: {error}", alert.name));
                }
            }
        }
    }
    anyhow::ensure!(failures == 0, "{failures} alerts did not take the test");
    Ok(())
}
