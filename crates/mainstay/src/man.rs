//! `mainstay man [NAME...] [--dir DIR]`: manual pages, one per program and subcommand.
//!
//! Synopsis, options and subcommands are made from the argument trees, and so are the variables that arguments come from.
//! What no tree knows (exit codes, files) is in [`FACTS`], by the start of the page's name.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory as _, Parser};
use clap_mangen::Man;

use crate::{EXIT_USAGE, applets, help};

/// Print a manual page, or write all of them to a folder
///
/// A page is printed in the form that man(1) reads: mainstay man runbook run | man -l -
#[derive(Debug, Parser)]
#[command(name = "man", bin_name = "mainstay man")]
struct Arguments {
    /// The program or subcommand whose page to print, such as `chainfire` or `runbook run`; mainstay itself if absent
    #[arg(conflicts_with = "dir")]
    name: Vec<String>,

    /// Write the pages of everything to this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The argument tree.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// Prints or writes the pages.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let Arguments { name, dir } = match crate::parse(args) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let done = match dir {
        Some(dir) => write_all(&dir),
        None => match find(&name) {
            Ok(page) => page.text().map(|text| terminal::out_bytes(&text)),
            Err(code) => return code,
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// The page of these words: `runbook run`, also as one word, with `-` between, or with `mainstay` before.
fn find(words: &[String]) -> Result<Page, ExitCode> {
    let parts: Vec<&str> = words.iter().flat_map(|word| word.split_whitespace()).collect();
    let Some(first) = parts.first() else {
        return Ok(pages().swap_remove(0));
    };
    let wanted = parts.join("-");
    let own = format!("mainstay-{wanted}");
    let mut pages = pages();
    // The more general page comes first, for the suggestion below.
    let known: Vec<String> = pages.iter().map(Page::typed).collect();
    match pages
        .iter()
        .position(|page| page.name == wanted || page.name == own)
    {
        Some(at) => Ok(pages.swap_remove(at)),
        None if parts.len() == 1 && !first.contains('-') => Err(help::unknown(first)),
        None => {
            let typed = parts.join(" ");
            let near = known
                .iter()
                .min_by_key(|name| strsim::damerau_levenshtein(&typed, name))
                .expect("mainstay has a page");
            terminal::error(&format_args!("no manual page `{typed}`; did you mean `{near}`?"));
            Err(ExitCode::from(EXIT_USAGE))
        }
    }
}

/// Everything there is a page for, `mainstay` first.
fn pages() -> Vec<Page> {
    let mut found = Vec::new();
    let trees = std::iter::once(help::root(false))
        .chain(applets::programs().map(|applet| (applet.command)().name(applet.name)));
    for tree in trees {
        let mut tree = tree.disable_help_subcommand(true);
        tree.build();
        collect(&tree, None, &mut found);
    }
    found
}

fn collect(command: &Command, parent: Option<&str>, found: &mut Vec<Page>) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let subcommands = || {
        command
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
    };
    let below = subcommands().map(|sub| {
        sub.get_display_name()
            .unwrap_or_else(|| sub.get_name())
            .to_owned()
    });
    let mut related: Vec<String> = parent.map(str::to_owned).into_iter().chain(below).collect();
    if parent.is_none() {
        let system = applets::find(name).map(|applet| applet.system);
        let beside = applets::programs().filter(|applet| system.is_none_or(|system| applet.system == system));
        related.extend(beside.map(|applet| applet.name.to_owned()));
        related.push("mainstay".to_owned());
        related.retain(|other| other != name);
    }
    found.push(Page {
        command: command.clone(),
        name: name.to_owned(),
        related,
    });
    for sub in subcommands() {
        collect(sub, Some(name), found);
    }
}

/// A manual page.
struct Page {
    /// As part of its tree, so that it knows the commands above it.
    command: Command,
    /// Its title: `mainstay-runbook-run`.
    name: String,
    /// Titles of the pages that it points to.
    related: Vec<String>,
}

impl Page {
    /// What to type after `mainstay man`.
    fn typed(&self) -> String {
        let bin = self.command.get_bin_name().unwrap_or(&self.name);
        bin.strip_prefix("mainstay ").unwrap_or(bin).to_owned()
    }

    /// The page in roff.
    fn text(&self) -> Result<Vec<u8>, String> {
        self.render()
            .map_err(|error| format!("make manual page {}: {error}", self.name))
    }

    fn render(&self) -> std::io::Result<Vec<u8>> {
        let page = Man::new(self.command.clone());
        let mut text = Vec::new();
        page.render_title(&mut text)?;
        page.render_name_section(&mut text)?;
        page.render_synopsis_section(&mut text)?;
        page.render_description_section(&mut text)?;
        if self
            .command
            .get_arguments()
            .any(|argument| !argument.is_hide_set())
        {
            page.render_options_section(&mut text)?;
        }
        if self.command.get_subcommands().any(|sub| !sub.is_hide_set()) {
            page.render_subcommands_section(&mut text)?;
        }
        if self.command.get_after_help().is_some() || self.command.get_after_long_help().is_some() {
            self.notes(&page, &mut text)?;
        }
        let facts = Facts::of(&self.name);
        list(&mut text, "EXIT STATUS", facts.exits.iter().map(owned));
        list(
            &mut text,
            "ENVIRONMENT",
            self.variables().chain(facts.variables.iter().map(owned)),
        );
        list(&mut text, "FILES", facts.files.iter().map(owned));
        if !self.related.is_empty() {
            let pages: Vec<String> = self
                .related
                .iter()
                .map(|name| format!("\\fB{}\\fR(1)", escaped(name)))
                .collect();
            text.extend(format!(".SH \"SEE ALSO\"\n{}\n", pages.join(", ")).into_bytes());
        }
        Ok(text)
    }

    /// What the help says after the options, as a section with a name that readers of manual pages know.
    fn notes(&self, page: &Man, text: &mut Vec<u8>) -> std::io::Result<()> {
        const MADE: &[u8] = b".SH EXTRA\n";
        let mut section = Vec::new();
        page.render_extra_section(&mut section)?;
        let after = self
            .command
            .get_after_long_help()
            .or(self.command.get_after_help());
        let examples = after.is_some_and(|after| after.to_string().starts_with("Example"));
        let title: &[u8] = if examples {
            b".SH EXAMPLES\n"
        } else {
            b".SH NOTES\n"
        };
        match section.windows(MADE.len()).position(|bytes| bytes == MADE) {
            Some(at) => drop(section.splice(at..at + MADE.len(), title.iter().copied())),
            None => return Err(std::io::Error::other("the notes have another title than EXTRA")),
        }
        text.append(&mut section);
        Ok(())
    }

    /// Variables that arguments of this command come from.
    fn variables(&self) -> impl Iterator<Item = (String, String)> {
        self.command.get_arguments().filter_map(|argument| {
            let variable = argument.get_env()?.to_string_lossy().into_owned();
            let flag = argument.get_long()?;
            Some((
                variable,
                format!("The value of --{flag} where that is not given."),
            ))
        })
    }
}

/// What pages whose names start alike say beyond their argument trees.
struct Facts {
    /// Start of the names.
    start: &'static str,
    exits: &'static [(&'static str, &'static str)],
    variables: &'static [(&'static str, &'static str)],
    files: &'static [(&'static str, &'static str)],
}

const DONE: (&str, &str) = ("0", "Done.");
const FAILED: (&str, &str) = ("1", "Failed; standard error says why in one line.");
const USAGE: (&str, &str) = ("64", "Wrong usage: nothing was done.");
const PIPE: (&str, &str) = ("141", "The reader of standard output went away.");

const CLIENT_USAGE: (&str, &str) = ("2", "Wrong usage: nothing was done.");
const CLIENT_SILENCE: (&str, &str) = ("3", "The server could not be reached, or did not answer in time.");
const CLIENT_PASSWORD: (&str, &str) = (
    "CHAINFIRE_PASSWORD",
    "The password of the user in --user or CHAINFIRE_USER where it does not stand there.",
);

const NO_COLOR: (&str, &str) = ("NO_COLOR", "If it is set, output has no colour.");
const STATE_HOME: (&str, &str) = (
    "XDG_STATE_HOME",
    "Where the directories of labs are noted, and the lab is unless it is named; ~/.local/state if it is not set.",
);

const LAB: (&str, &str) = (
    "${XDG_STATE_HOME:-~/.local/state}/mainstay/lab",
    "The lab, unless another directory is named: configuration, data and logs of its hosts.",
);
const PAGES: (&str, &str) = (
    "docs/runbooks, /usr/share/mainstay/runbooks",
    "The runbooks: those of a checkout if it is the working directory, else those of the package.",
);
const RULES: (&str, &str) = (
    "/usr/share/mainstay/prometheus",
    "Alert rules for Prometheus, each naming its runbook.",
);

const FACTS: &[Facts] = &[
    Facts {
        start: "mainstay-lab-run",
        exits: &[
            ("CODE", "The exit code of the command that was run."),
            FAILED,
            USAGE,
        ],
        variables: &[STATE_HOME],
        files: &[LAB],
    },
    Facts {
        start: "mainstay-status",
        exits: &[
            ("0", "Every service is ready."),
            ("1", "A service is not ready, or no lab is up."),
            USAGE,
            PIPE,
        ],
        variables: &[NO_COLOR, STATE_HOME],
        files: &[LAB],
    },
    Facts {
        start: "mainstay-runbook-run",
        exits: &[
            ("0", "Every step passed."),
            ("1", "A step failed, was declined, or was stopped."),
            ("64", "Wrong usage: no step was run."),
        ],
        variables: &[NO_COLOR, STATE_HOME],
        files: &[PAGES, RULES, LAB],
    },
    Facts {
        start: "mainstay-runbook",
        exits: &[DONE, FAILED, USAGE, PIPE],
        variables: &[NO_COLOR],
        files: &[PAGES, RULES],
    },
    Facts {
        start: "mainstay",
        exits: &[DONE, FAILED, USAGE, PIPE],
        variables: &[NO_COLOR, STATE_HOME],
        files: &[LAB, PAGES, RULES],
    },
    Facts {
        start: "chainfire-client-lock",
        exits: &[
            DONE,
            (
                "CODE",
                "The exit code of the command that was run under the lock.",
            ),
            (
                "1",
                "The server refused, or the lock was lost; standard error says so.",
            ),
            CLIENT_USAGE,
            CLIENT_SILENCE,
            ("126", "The command could not be run."),
            ("127", "There is no such command."),
        ],
        variables: &[CLIENT_PASSWORD, NO_COLOR],
        files: &[],
    },
    Facts {
        start: "chainfire-client",
        exits: &[
            DONE,
            (
                "1",
                "The server refused, or something else failed; standard error says why in one line.",
            ),
            CLIENT_USAGE,
            CLIENT_SILENCE,
            PIPE,
        ],
        variables: &[CLIENT_PASSWORD, NO_COLOR],
        files: &[],
    },
    Facts {
        start: "rocksdb_ldb",
        exits: &[
            ("0", "Nothing is wrong, or it was repaired."),
            (
                "1",
                "Something is wrong, or repair is not possible; standard error says why in one line.",
            ),
            USAGE,
            PIPE,
        ],
        variables: &[NO_COLOR],
        files: &[("/var/lib/chainfire", "The data directory of the package.")],
    },
    Facts {
        start: "chainfire",
        exits: &[
            ("0", "Stopped as asked."),
            FAILED,
            (
                "2",
                "The settings or the data directory were refused at the start.",
            ),
            ("3", "The data is corrupted."),
            ("4", "The disk fails: what was written could not be made durable."),
            USAGE,
        ],
        variables: &[(
            "CHAINFIRE__SECTION__KEY",
            "Sets that key of that section where the configuration file does not, as CHAINFIRE__LOG__LEVEL=debug does.",
        )],
        files: &[
            (
                "/etc/centra-cloud/chainfire.toml",
                "The configuration file of the package.",
            ),
            ("/var/lib/chainfire", "The data directory of the package."),
        ],
    },
    Facts {
        start: "qu",
        exits: &[
            DONE,
            (
                "1",
                "Failed, or the daemon could not be reached; standard error says why in one line.",
            ),
            ("2", "Wrong usage: nothing was done."),
            ("3", "qu status: there is no quorum."),
            ("4", "The change was refused because there is no quorum."),
            (
                "5",
                "The change was refused because somebody else has changed the same thing meanwhile.",
            ),
            PIPE,
        ],
        variables: &[
            ("QUPTIME_DIR", "The data directory."),
            (
                "QUPTIME_SOCKET",
                "The control socket, where it is not /run/quptime/quptime.sock.",
            ),
            (
                "QUPTIME_NODE_ID, QUPTIME_ADVERTISE, QUPTIME_BIND_ADDR, QUPTIME_BIND_PORT, QUPTIME_CLUSTER_SECRET",
                "Win over what node.yaml says; empty ones do not.",
            ),
            NO_COLOR,
        ],
        files: &[
            (
                "/etc/quptime",
                "The data directory for root and for the user quptime; for others it is quptime below ${XDG_CONFIG_HOME:-~/.config}.",
            ),
            (
                "/etc/quptime/node.yaml",
                "What this node is, and the cluster's secret.",
            ),
            (
                "/etc/quptime/cluster.yaml",
                "Peers, checks and alerts, the same on every node; may be edited.",
            ),
            ("/run/quptime/quptime.sock", "The control socket."),
        ],
    },
    Facts {
        start: "slo",
        exits: &[
            DONE,
            (
                "1",
                "Failed, or what was read has mistakes; standard error names each with its file, line and path.",
            ),
            USAGE,
            PIPE,
        ],
        variables: &[NO_COLOR],
        files: &[
            (
                "config/prometheus/slo.yml, config/alertmanager/routes.yml",
                "Rules and routes of a checkout, made of its objectives.",
            ),
            RULES,
        ],
    },
    Facts {
        start: "pg_autoctl",
        exits: &[
            DONE,
            ("1", "Wrong usage, or failed."),
            (
                "2",
                "The configuration of the directory is wrong; standard error names file and line.",
            ),
            (
                "3",
                "Something is not in the state for this: a primary that is not well, a process that runs already.",
            ),
            ("4", "PostgreSQL does not do what it should."),
            ("5", "The store does not answer, or holds what is not understood."),
            ("6", "Not in time."),
            PIPE,
        ],
        variables: &[
            (
                "PG_AUTOCTL_LOG",
                "Level of the log: error, warn, info, debug or trace.",
            ),
            (
                "XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_RUNTIME_DIR",
                "Folders of the files below.",
            ),
            NO_COLOR,
        ],
        files: &[
            (
                "~/.config/pg_autoctl/PGDATA/pg_autoctl.cfg",
                "Configuration of a monitor or node.",
            ),
            (
                "~/.local/share/pg_autoctl/PGDATA/pg_autoctl.state",
                "What a node must not forget, its promises in elections for one. Never put an older one in its place.",
            ),
        ],
    },
];

impl Facts {
    /// The first entry that the name starts with: the table goes from the special to the general.
    fn of(name: &str) -> &'static Facts {
        FACTS
            .iter()
            .find(|facts| name.starts_with(facts.start))
            .expect("every program has its entry, as a test checks")
    }
}

fn owned((term, meaning): &(&str, &str)) -> (String, String) {
    ((*term).to_owned(), (*meaning).to_owned())
}

/// A section of terms and what they mean; nothing if there are none.
fn list(text: &mut Vec<u8>, title: &str, entries: impl Iterator<Item = (String, String)>) {
    let mut section = String::new();
    for (term, meaning) in entries {
        write!(
            section,
            ".TP\n\\fB{}\\fR\n{}\n",
            escaped(&term),
            escaped(&meaning)
        )
        .expect("writing to a String cannot fail");
    }
    if !section.is_empty() {
        text.extend(format!(".SH \"{title}\"\n{section}").into_bytes());
    }
}

/// A text in which roff sees no control characters.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}

/// `NAME.1` for each page.
fn write_all(dir: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("write manual pages to {}: {error}", dir.display());
    std::fs::create_dir_all(dir).map_err(failed)?;
    for page in pages() {
        std::fs::write(dir.join(format!("{}.1", page.name)), page.text()?).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_its_facts_and_points_to_pages_that_exist() {
        let pages = pages();
        for page in &pages {
            assert!(!Facts::of(&page.name).exits.is_empty(), "{}", page.name);
            for other in &page.related {
                assert!(
                    pages.iter().any(|page| page.name == *other),
                    "{} names {other}",
                    page.name
                );
            }
        }
    }

    #[test]
    fn texts_cannot_become_roff_requests() {
        assert_eq!(escaped(".so /etc/a-b\\c"), "\\&.so /etc/a\\-b\\ec");
    }
}
