//! `mainstay certs`: certificates made and looked at from the command line.
//!
//! Exit codes: 0 done, 1 failed, 64 wrong usage.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser};
use service::clock::{Clock as _, SystemClock};
use service::exit;

use super::files::{PRIVATE, PUBLIC};
use super::{Authority, Certificate, Name, Profile, Usage, dev, files};

/// Make certificates and look at them
#[derive(Debug, Parser)]
#[command(
    name = "certs",
    bin_name = "mainstay certs",
    version,
    arg_required_else_help = true,
    after_help = "Example: mainstay certs show /etc/centra-cloud/certs/chainfire-node-1.crt"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Write a set for trying things out: ca.crt, and certificates of numbered nodes; the authority's key is thrown away
    Dev {
        /// Where to write
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Nodes of each system
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
        nodes: u32,
        /// One more name or address for all of them, such as kv.example.org or 192.0.2.7; repeatable, or a comma list
        #[arg(long = "san", value_name = "NAME", value_delimiter = ',')]
        names: Vec<Name>,
    },
    /// Make an authority that can issue certificates later: ca.crt and ca.key
    Authority {
        /// Where to write; the key belongs on no machine that only uses certificates
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Its common name
        #[arg(long, default_value = "Mainstay CA")]
        name: String,
        /// How long it is good
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
    },
    /// Issue a certificate with a new key: NAME.crt and NAME.key
    Issue {
        /// Folder with ca.crt and ca.key, as `certs authority` writes it
        #[arg(long, value_name = "DIR")]
        authority: PathBuf,
        /// Common name, and the name of the files; for clients of Chainfire the user
        #[arg(long, value_parser = file_name)]
        name: String,
        /// A name or address under which the machine is reached; repeatable, or a comma list
        #[arg(long = "san", value_name = "NAME", value_delimiter = ',')]
        names: Vec<Name>,
        /// What it may be used for
        #[arg(long, default_value = "peer")]
        usage: Usage,
        /// How long it is good
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
        /// Where to write
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Show whose certificates are in files, by whom, for which names, and until when
    Show {
        /// PEM files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

fn file_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('.') || text.contains(['/', '\0']) {
        return Err("want a name that can be a file's, for example chainfire-node-1".to_owned());
    }
    Ok(text.to_owned())
}

/// The argument tree, for help, completions and man pages.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs it; `args` includes the program's name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done about a terminal that is gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    match run(arguments.verb) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            terminal::error(&error);
            ExitCode::from(exit::code_of(&error))
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    let now_unix_s = SystemClock::new().unix_ms() / 1000;
    match verb {
        Verb::Dev { dir, nodes, names } => {
            dev::write(&dir, nodes, &names, now_unix_s)?;
            terminal::note(&format!(
                "wrote ca.crt and certificates of {nodes} nodes to {}",
                dir.display()
            ));
        }
        Verb::Authority { dir, name, days } => {
            let key = dir.join("ca.key");
            anyhow::ensure!(
                !key.exists(),
                "{} is there already: what it issued would be worth nothing with another one; name another folder",
                key.display()
            );
            let authority = Authority::create(&name, "", days, now_unix_s)?;
            files::write_all(
                &dir,
                &[
                    ("ca.key".to_owned(), authority.key(), PRIVATE),
                    ("ca.crt".to_owned(), authority.certificate().to_owned(), PUBLIC),
                ],
            )?;
            terminal::note(&format!("wrote ca.crt and ca.key to {}", dir.display()));
        }
        Verb::Issue {
            authority,
            name,
            names,
            usage,
            days,
            dir,
        } => {
            let authority = Authority::read(&authority.join("ca.crt"), &authority.join("ca.key"))?;
            let profile = Profile {
                common_name: name.clone(),
                organisation: String::new(),
                names,
                usage,
                days,
            };
            let issued = authority.issue(&profile, now_unix_s)?;
            // The key first: who sees the new certificate also sees its key.
            files::write_all(
                &dir,
                &[
                    (format!("{name}.key"), issued.key, PRIVATE),
                    (format!("{name}.crt"), issued.certificate, PUBLIC),
                ],
            )?;
            terminal::note(&format!("wrote {name}.crt and {name}.key to {}", dir.display()));
        }
        Verb::Show { files } => {
            let mut text = String::new();
            for path in &files {
                for certificate in Certificate::read_all(path)? {
                    let left = (certificate.not_after - i64::try_from(now_unix_s)?).div_euclid(86_400);
                    write!(
                        text,
                        "{}file: {}\n{certificate}days_left: {left}\n",
                        if text.is_empty() { "" } else { "\n" },
                        path.display()
                    )
                    .context("show")?;
                }
            }
            terminal::out(&text);
        }
    }
    Ok(())
}
