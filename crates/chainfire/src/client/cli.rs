//! The top of the argument tree, the context a command works in, and which function serves which command.
//!
//! The arguments of each command stand in the file of its noun. Doc comments are the help text.

use std::io::{Read, Write};
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use terminal::OutputFormat;

use super::connection::{DEFAULT_ENDPOINT, Login, Session, Settings, Tls};
use super::failure::{Failure, Result};
use super::output::Printer;
use super::{
    argument, auth, cluster, election, gossip, kv, lease, lock, maintenance, membership, password, snapshot,
    txn, watch,
};

/// Limit of a request unless `--timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Client of Chainfire and of any other server that speaks the etcd v3 interface
///
/// Exit codes: 0 done, 1 the server refused or a file could not be used, 2 wrong usage, 3 not reachable or no answer in time.
#[derive(Debug, Parser)]
#[command(
    name = "chainfire-client",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "Examples:\n  chainfire-client put greeting hello\n  chainfire-client get --prefix gree\n  \
                  chainfire-client --endpoint http://node1:2379,http://node2:2379 status"
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Flags of every command.
///
/// A global flag whose id a command uses too would be filled from that command's argument, so the ids are their own. The form
/// of the output is a flag of every command too, but not of this kind: see [`tree`].
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Whom to ask; several, separated by commas or by repeating the flag, are tried in order
    #[arg(
        id = "global-endpoint",
        long = "endpoint",
        visible_alias = "endpoints",
        global = true,
        value_name = "URL",
        value_delimiter = ',',
        env = "CHAINFIRE_ENDPOINT",
        default_value = DEFAULT_ENDPOINT
    )]
    endpoints: Vec<String>,
    /// CA that signed the server's certificate, PEM; makes https the default
    #[arg(
        id = "global-cacert",
        long = "cacert",
        global = true,
        value_name = "FILE",
        env = "CHAINFIRE_CACERT"
    )]
    cacert: Option<std::path::PathBuf>,
    /// Own certificate, PEM
    #[arg(
        id = "global-cert",
        long = "cert",
        global = true,
        value_name = "FILE",
        env = "CHAINFIRE_CERT",
        requires = "global-key"
    )]
    cert: Option<std::path::PathBuf>,
    /// Key of the own certificate, PEM
    #[arg(
        id = "global-key",
        long = "key",
        global = true,
        value_name = "FILE",
        env = "CHAINFIRE_KEY",
        requires = "global-cert"
    )]
    key: Option<std::path::PathBuf>,
    /// Log in as this user; without PASSWORD it is taken from CHAINFIRE_PASSWORD, or asked for at the terminal
    #[arg(
        id = "global-user",
        long = "user",
        global = true,
        value_name = "NAME[:PASSWORD]",
        env = "CHAINFIRE_USER",
        hide_env_values = true
    )]
    user: Option<String>,
    /// Limit of each request: 500ms, 5s, 1m [default: 5s; member-add 60s]
    #[arg(id = "global-timeout", long = "timeout", global = true, value_name = "DURATION", value_parser = argument::duration)]
    timeout: Option<Duration>,
    /// Print keys and values as \x61\x62
    #[arg(id = "global-hex", long = "hex", global = true)]
    hex: bool,
}

/// Place of the first global flag in help: behind all flags of a command, in one order everywhere.
const FLAGS_LAST: usize = 1000;

/// Id of the flag that chooses the form of the output.
const FORMAT: &str = "global-format";

/// The whole argument tree: [`Cli`], and on every command the flag that chooses the form of the output.
///
/// It is `--output FORMAT` or `-o FORMAT`. On `backup`, where `--output` has named the archive since the runbooks were written,
/// it is `-o FORMAT` or `--format FORMAT`. A flag that clap spreads by itself could not differ like that.
pub(super) fn tree() -> clap::Command {
    let mut place = FLAGS_LAST;
    let command = Cli::command().mut_args(|argument| {
        if !argument.is_global_set() {
            return argument;
        }
        place += 1;
        argument.display_order(place)
    });
    with_format(command)
}

fn with_format(command: clap::Command) -> clap::Command {
    let values = [
        // What etcdctl calls it.
        PossibleValue::new("text").alias("simple"),
        PossibleValue::new("json"),
        PossibleValue::new("table"),
    ];
    let parser = PossibleValuesParser::new(values).map(|text| match text.as_str() {
        "json" => OutputFormat::Json,
        "table" => OutputFormat::Table,
        _ => OutputFormat::Text,
    });
    let flag = Arg::new(FORMAT)
        .short('o')
        .value_name("FORMAT")
        .value_parser(parser)
        .default_value("text")
        .display_order(FLAGS_LAST + 100)
        .help("How to print the reply; `table` is text where there is no table")
        .help_heading("Global options");
    let flag = if command.get_name() == "backup" {
        flag.long("format")
    } else {
        // The second and third are what etcdctl calls it.
        flag.long("output")
            .visible_alias("format")
            .alias("write-out")
            .short_alias('w')
    };
    command.arg(flag).mut_subcommands(with_format)
}

/// What was written on the command line.
pub(super) struct Parsed {
    pub(super) global: Global,
    pub(super) format: OutputFormat,
    pub(super) command: Command,
}

impl Parsed {
    pub(super) fn from_args(
        args: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
    ) -> std::result::Result<Self, clap::Error> {
        let matches = tree().try_get_matches_from(args).map_err(with_our_word)?;
        let format = format(&matches);
        let Cli { global, command } = Cli::from_arg_matches(&matches)?;
        Ok(Self {
            global,
            format,
            command,
        })
    }
}

/// What others call a command of ours, etcdctl first.
const OTHER_WORDS: [(&str, &str); 8] = [
    (
        "endpoint",
        "`endpoint status` is 'status' here, `endpoint hashkv` is 'hashkv'",
    ),
    ("move-leader", "'leader-transfer' hands leadership over"),
    (
        "version",
        "'--version' prints the version, 'status' that of the server",
    ),
    ("set", "'put' writes a key"),
    ("rm", "'del' deletes keys"),
    ("delete", "'del' deletes keys"),
    ("ls", "'get --prefix --keys-only KEY' lists keys"),
    ("restore", "'snapshot restore' makes a data directory"),
];

/// Adds what a word that is none of ours is called here.
fn with_our_word(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    if let Some((_, tip)) = OTHER_WORDS.iter().find(|(other, _)| other == word) {
        let tips = ContextValue::StyledStrs(vec![(*tip).into()]);
        // What clap itself finds by the letters is further off.
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// The innermost form that was asked for.
fn format(matches: &ArgMatches) -> OutputFormat {
    let mut format = OutputFormat::Text;
    let mut level = Some(matches);
    while let Some(matches) = level {
        if matches.value_source(FORMAT) == Some(ValueSource::CommandLine)
            && let Some(asked) = matches.get_one(FORMAT)
        {
            format = *asked;
        }
        level = matches.subcommand().map(|(_, inner)| inner);
    }
    format
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print what the node says of itself: leader, term, indices, sizes, alarms
    #[command(
        after_help = "Examples:\n  chainfire-client status\n  chainfire-client status --all --output json"
    )]
    Status(cluster::Status),
    /// List the members of the cluster
    #[command(after_help = "Example:\n  chainfire-client member-list")]
    MemberList(cluster::List),
    /// Add a node: as learner first, then as voter once it has caught up
    #[command(
        after_help = "Example:\n  chainfire-client member-add --node-id 2 --peer-url node2:2380\n\n\
                      Waits until the node has caught up and votes; if it never comes (--timeout, 60s), it is removed again."
    )]
    MemberAdd(membership::Add),
    /// Remove a node
    #[command(after_help = "Example:\n  chainfire-client member-remove --node-id 2")]
    MemberRemove(membership::Target),
    /// Make a learner a voter
    #[command(after_help = "Example:\n  chainfire-client member-promote --node-id 2")]
    MemberPromote(membership::Target),
    /// Hand leadership to another node
    #[command(
        after_help = "Example:\n  chainfire-client leader-transfer --to 2\n\nIt must be a voter that has caught up."
    )]
    LeaderTransfer(cluster::Transfer),
    /// Write a key
    #[command(
        after_help = "Examples:\n  chainfire-client put greeting hello\n  chainfire-client put --lease 694d5765fc71500b session on\n  \
                      chainfire-client put config - < config.json"
    )]
    Put(kv::Put),
    /// Read a key or a range of keys: key and value on alternate lines
    #[command(
        after_help = "Examples:\n  chainfire-client get greeting\n  chainfire-client get --prefix config/ --keys-only\n  \
                      chainfire-client get a c --limit 10 --order descend"
    )]
    Get(kv::Get),
    /// Delete a key or a range of keys: prints how many there were
    #[command(
        after_help = "Examples:\n  chainfire-client del greeting\n  chainfire-client del --prefix config/ --prev-kv"
    )]
    Del(kv::Del),
    /// Compare and write in one step, read from standard input
    #[command(after_help = txn::HELP)]
    Txn(txn::Txn),
    /// Print every change of a key or a range of keys as it happens
    #[command(
        after_help = "Examples:\n  chainfire-client watch greeting\n  chainfire-client watch --prefix config/ --rev 100\n\n\
                      Ctrl-C ends it. When the connection is lost it goes on where it was, at any of the endpoints."
    )]
    Watch(watch::Watch),
    /// Grant, keep and revoke leases
    #[command(subcommand)]
    Lease(lease::Lease),
    /// Drop the history before a revision
    #[command(
        visible_alias = "compaction",
        after_help = "Example:\n  chainfire-client compact 1200"
    )]
    Compact(kv::Compact),
    /// Save, check and restore snapshots
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// Save the store as an archive that a new node can be unpacked from
    #[command(
        after_help = "Examples:\n  chainfire-client backup --output chainfire-2026-01-31.tar.gz\n  \
                      chainfire-client backup --dir /var/backups/chainfire --keep 7\n\n\
                      Unpack with: tar -xzf FILE -C /var/lib/chainfire --strip-components=1"
    )]
    Backup(snapshot::Backup),
    /// List and clear alarms
    #[command(subcommand)]
    Alarm(maintenance::Alarm),
    /// Give space back to the file system; reads and writes go on meanwhile
    #[command(after_help = "Example:\n  chainfire-client defrag")]
    Defrag,
    /// Print the hash of the whole store of the node
    #[command(after_help = "Example:\n  chainfire-client hash")]
    Hash,
    /// Print the hash of all keys up to a revision, equal on all members
    #[command(
        name = "hashkv",
        after_help = "Example:\n  chainfire-client hashkv --rev 1200"
    )]
    HashKv(maintenance::HashKv),
    /// Hold a lock, for as long as a command runs or until Ctrl-C
    #[command(
        after_help = "Examples:\n  chainfire-client lock deploy\n  chainfire-client lock deploy -- ./deploy.sh --all\n\n\
                      Without a command the key that is the lock is printed once it is held. A command finds it in the \
                      environment as CHAINFIRE_LOCK_KEY and ETCD_LOCK_KEY, and its exit code is ours. If the lock is lost, \
                      the command is told to end (SIGTERM) and the exit code is 1."
    )]
    Lock(lock::Lock),
    /// Take part in an election, or watch one
    #[command(
        after_help = "Examples:\n  chainfire-client elect primary node1\n  chainfire-client elect primary --listen\n\n\
                      Prints the leader's key and value. Ctrl-C resigns."
    )]
    Elect(election::Elect),
    /// Switch authentication on and off
    #[command(subcommand)]
    Auth(auth::Auth),
    /// Manage users
    #[command(subcommand)]
    User(auth::User),
    /// Manage roles and what they permit
    #[command(subcommand)]
    Role(auth::Role),
    /// List the nodes that gossip knows, members or not, and whether they answer
    #[command(after_help = "Example:\n  chainfire-client gossip")]
    Gossip,
}

/// What a command works with.
pub(super) struct Context {
    pub(super) settings: Settings,
    pub(super) printer: Printer,
    pub(super) input: Box<dyn Read + Send>,
    pub(super) errors: Box<dyn Write + Send>,
    /// `--timeout`, if it was given.
    timeout: Option<Duration>,
}

impl Context {
    /// Checks the global flags. On failure gives standard error back.
    pub(super) fn new(
        global: Global,
        format: OutputFormat,
        input: Box<dyn Read + Send>,
        output: Box<dyn Write + Send>,
        errors: Box<dyn Write + Send>,
    ) -> std::result::Result<Self, (Failure, Box<dyn Write + Send>)> {
        let (hex, timeout) = (global.hex, global.timeout);
        match settings(global) {
            Ok(settings) => {
                let printer = Printer::new(format, hex, output);
                Ok(Self {
                    settings,
                    printer,
                    input,
                    errors,
                    timeout,
                })
            }
            Err(failure) => Err((failure, errors)),
        }
    }

    /// Connects.
    pub(super) async fn open(&self) -> Result<Session> {
        Session::open(&self.settings).await
    }

    /// How long a command waits that waits for more than an answer: `--timeout`, or its own default.
    pub(super) fn patience(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
    }

    /// Tells the person, beside the result.
    pub(super) fn note(&mut self, text: &str) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(self.errors, "{text}");
    }
}

fn settings(global: Global) -> Result<Settings> {
    let tls = global.cacert.is_some() || global.cert.is_some();
    let endpoints = global
        .endpoints
        .iter()
        .filter(|endpoint| !endpoint.trim().is_empty())
        .map(|endpoint| argument::endpoint(endpoint, tls).map_err(Failure::Usage))
        .collect::<Result<Vec<_>>>()?;
    if endpoints.is_empty() {
        return Err(Failure::usage(
            "no endpoint given: want --endpoint http://HOST:PORT",
        ));
    }
    Ok(Settings {
        endpoints,
        tls: Tls {
            authority: global.cacert,
            certificate: global.cert,
            key: global.key,
        },
        login: global.user.as_deref().map(login).transpose()?,
        timeout: global.timeout.unwrap_or(TIMEOUT),
    })
}

fn login(user: &str) -> Result<Login> {
    let (name, password) = if let Some((name, password)) = user.split_once(':') {
        (name, password.to_owned())
    } else {
        let password = std::env::var("CHAINFIRE_PASSWORD").or_else(|_| {
            let otherwise = "give it as NAME:PASSWORD or in CHAINFIRE_PASSWORD";
            password::ask(&format!("Password of {user}: "), otherwise)
        })?;
        (user, password)
    };
    if name.is_empty() {
        return Err(Failure::usage(
            "--user: the name is empty, want NAME or NAME:PASSWORD",
        ));
    }
    Ok(Login {
        name: name.to_owned(),
        password,
    })
}

/// Runs a command.
pub(super) async fn dispatch(command: Command, context: &mut Context) -> Result<()> {
    match command {
        Command::Status(arguments) => cluster::status(arguments, context).await,
        Command::MemberList(arguments) => cluster::list(arguments, context).await,
        Command::MemberAdd(arguments) => membership::add(arguments, context).await,
        Command::MemberRemove(arguments) => membership::remove(arguments, context).await,
        Command::MemberPromote(arguments) => membership::promote(arguments, context).await,
        Command::LeaderTransfer(arguments) => cluster::transfer(arguments, context).await,
        Command::Put(arguments) => kv::put(arguments, context).await,
        Command::Get(arguments) => kv::get(arguments, context).await,
        Command::Del(arguments) => kv::del(arguments, context).await,
        Command::Txn(arguments) => txn::txn(arguments, context).await,
        Command::Watch(arguments) => watch::watch(arguments, context).await,
        Command::Lease(command) => lease::run(command, context).await,
        Command::Compact(arguments) => kv::compact(arguments, context).await,
        Command::Snapshot(command) => snapshot::run(command, context).await,
        Command::Backup(arguments) => snapshot::backup(arguments, context).await,
        Command::Alarm(command) => maintenance::alarm(command, context).await,
        Command::Defrag => maintenance::defrag(context).await,
        Command::Hash => maintenance::hash(context).await,
        Command::HashKv(arguments) => maintenance::hash_kv(arguments, context).await,
        Command::Lock(arguments) => lock::lock(arguments, context).await,
        Command::Elect(arguments) => election::elect(arguments, context).await,
        Command::Auth(command) => auth::auth(command, context).await,
        Command::User(command) => auth::user(command, context).await,
        Command::Role(command) => auth::role(command, context).await,
        Command::Gossip => gossip::gossip(context).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &str) -> (u8, String, String) {
        crate::client::tests::run(line.split_whitespace(), b"")
    }

    #[test]
    fn the_tree_is_consistent() {
        tree().debug_assert();
    }

    #[test]
    fn the_form_of_the_output_may_stand_anywhere() {
        let format = |line: &str| Parsed::from_args(line.split_whitespace()).unwrap().format;
        for line in [
            "x get k -o json",
            "x -o json get k",
            "x get k --output=json",
            "x -o table get k --output json",
            "x get k --format json",
            "x get k -w json",
            "x snapshot status f -o json",
            "x snapshot -o json status f",
            "x backup --output f.tar.gz -o json",
            "x -o json backup --output f.tar.gz",
            "x backup --format json --output f.tar.gz",
        ] {
            assert_eq!(format(line), OutputFormat::Json, "{line}");
        }
        for line in ["x get k", "x get k -w simple", "x backup --output json"] {
            assert_eq!(format(line), OutputFormat::Text, "{line}");
        }
    }

    /// Nothing wider fits on a terminal of 80 columns and into a manual page.
    const EXAMPLE_WIDTH_MAX: usize = 79;

    #[test]
    fn every_command_has_help_with_an_example() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no help");
            let leaf = command.get_subcommands().next().is_none();
            if leaf {
                let after = command
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(
                    after.contains("Example") && after.contains(path),
                    "{path} has no example: {after}"
                );
                // Prose is wrapped to the terminal's width by clap, and to the page's by man; an example is not to be.
                let lines: Vec<&str> = after.lines().collect();
                for pair in lines.windows(2) {
                    assert!(
                        pair[0].is_empty() || pair[1].is_empty() || pair[1].starts_with("  "),
                        "{path}: wrapped by hand: {pair:?}"
                    );
                }
                for line in lines.iter().filter(|line| line.starts_with("  ")) {
                    assert!(line.len() <= EXAMPLE_WIDTH_MAX, "{path}: too wide: {line}");
                }
            }
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{path} {} has no help",
                    argument.get_id()
                );
            }
            for inner in command.get_subcommands() {
                check(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        check(&tree(), "chainfire-client");
    }

    #[test]
    fn wrong_usage_is_code_2_and_goes_to_standard_error() {
        for line in [
            "frob",
            "get",
            "get k --limit -1",
            "get k e --prefix",
            "put k v --lease xyz",
            "put k v --timeout 5d",
            "get k --endpoint ftp://x",
            "get k --endpoint ,",
            "get k --cert x",
            "member-add --node-id 0 --peer-url a:1",
            "member-add --node-id 2 --peer-url x",
            "elect name",
            "elect name value --listen",
            "compact 0",
            "get k --endpoint https://127.0.0.1:1",
            "get k --output yaml",
        ] {
            let (code, output, errors) = code(line);
            assert_eq!((code, output.as_str()), (2, ""), "{line}: {errors}");
            assert!(errors.to_lowercase().starts_with("error: "), "{line}: {errors}");
        }
    }

    #[test]
    fn global_flags_stand_in_one_order_behind_the_flags_of_the_command() {
        let flags = |line: &str| -> Vec<String> {
            let (_, help, _) = code(line);
            let global = help.split("Global options:").nth(1).expect(line);
            let global = global.split("\n\nExample").next().unwrap_or(global);
            let starts = global.lines().map(str::trim_start);
            let flags = starts.filter(|line| line.starts_with('-'));
            flags
                .map(|line| {
                    line.split(['<', ' '])
                        .find(|word| word.starts_with("--"))
                        .unwrap_or(line)
                        .to_owned()
                })
                .collect()
        };
        let first = flags("get -h");
        assert_eq!((first.len(), first[0].as_str()), (8, "--endpoint"), "{first:?}");
        for line in [
            "txn -h",
            "put -h",
            "lease ttl -h",
            "snapshot restore -h",
            "user -h",
        ] {
            assert_eq!(flags(line), first, "{line}");
        }
        let usage = code("put -h").1;
        assert!(usage.find("--lease") < usage.find("--endpoint"), "{usage}");
    }

    #[test]
    fn words_of_etcdctl_lead_to_ours() {
        for (line, ours) in [
            ("endpoint status", "'status'"),
            ("move-leader 2", "'leader-transfer'"),
            ("delete k", "'del'"),
            ("member list", "'member-list'"),
        ] {
            let (code, _, errors) = code(line);
            assert_eq!(code, 2, "{line}");
            assert!(
                errors.contains("tip:") && errors.contains(ours),
                "{line}: {errors}"
            );
        }
    }

    #[test]
    fn a_backup_says_where_it_can_go() {
        for line in ["backup", "backup file.tar.gz"] {
            let (code, _, errors) = code(line);
            assert_eq!(code, 2, "{line}");
            assert!(
                errors.contains("<--output <FILE.tar.gz>|--dir <DIR>>"),
                "{line}: {errors}"
            );
        }
        let (_, _, errors) = code("backup --dir d --keep 0");
        assert!(errors.contains("want how many to keep, from 1 up"), "{errors}");
    }

    #[test]
    fn a_command_under_a_lock_needs_no_dashes_before_it() {
        let parse = |line: &str| match Parsed::from_args(line.split_whitespace()).unwrap().command {
            Command::Lock(lock) => format!("{lock:?}"),
            other => panic!("{other:?}"),
        };
        let with = parse("x lock --ttl 5 name -- ls -l --all");
        assert!(with.contains(r#"["ls", "-l", "--all"]"#), "{with}");
        assert_eq!(parse("x lock name --ttl 5 ls -l --all"), with);
    }

    #[test]
    fn help_is_a_result() {
        let (code, output, errors) = code("get --help");
        assert_eq!((code, errors.as_str()), (0, ""));
        assert!(
            output.contains("Usage: chainfire-client get [OPTIONS] <KEY> [END]"),
            "{output}"
        );
    }

    #[test]
    fn nobody_there_is_code_3() {
        let (code, output, errors) = code("get k --endpoint http://127.83.0.3:1");
        assert_eq!((code, output.as_str()), (3, ""));
        assert_eq!(
            errors,
            "Error: http://127.83.0.3:1: connection refused; does it run there? endpoints come from --endpoint URL or from \
             CHAINFIRE_ENDPOINT\n"
        );
    }

    #[test]
    fn arguments_are_not_mistaken_for_global_flags() {
        let parse = |line: &str| Parsed::from_args(line.split_whitespace()).unwrap();
        let user = parse("x user get alice");
        assert!(user.global.user.is_none() && matches!(user.command, Command::User(_)));
        assert!(parse("x get k").global.key.is_none());
        let global = parse("x get k --user bob:pw --key f --cert g --hex --timeout 1s -o json").global;
        assert_eq!((global.user.as_deref(), global.hex), (Some("bob:pw"), true));
    }
}
