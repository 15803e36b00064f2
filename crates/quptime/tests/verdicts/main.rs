//! Verdicts agree with those of Debian's prometheus-blackbox-exporter, over several hundred targets that are well, ill, slow or rude.
//!
//! A *row* is one check of qu together with the question to the exporter that means the same, and what both must say. Where the two mean
//! something different on purpose, the row gives the reason and pins both sides. Rows are made in families: every status with every
//! expectation, every certificate with every option. qu's side is the real daemon, a cluster of one, whose file holds all checks.
//!
//! An ordinary run takes every sixth row; `MAINSTAY_VERDICTS=all` takes all of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says with a panic what failed, and how much it looked at"
)]

mod blackbox;
mod certificates;
mod dns;
mod echo;
mod http;
mod https;
mod nginx;
mod row;
mod sockets;
mod speakers;
mod tls;
mod unbound;
mod watched;

use std::collections::BTreeSet;
use std::time::Duration;

use blackbox::Blackbox;
use row::{Row, Said};
use watched::Watched;

/// Longest wait for both sides to say what they should. A machine that is busy may make some probes time out at first.
const LIMIT: Duration = Duration::from_secs(90);

/// An ordinary run takes one row of so many.
const SHARE: usize = 6;

/// All servers.
struct World {
    authorities: certificates::Authorities,
    nginx: nginx::Nginx,
    unbound: unbound::Unbound,
    sockets: sockets::Sockets,
}

impl World {
    fn start() -> Self {
        let authorities = certificates::Authorities::new();
        Self {
            nginx: nginx::Nginx::start(&authorities),
            unbound: unbound::Unbound::start(),
            sockets: sockets::Sockets::start(),
            authorities,
        }
    }

    fn rows(&self) -> Vec<Row> {
        let trusted = self.authorities.file();
        let mut rows = http::rows(&self.nginx, &self.sockets);
        rows.extend(speakers::rows());
        rows.extend(https::rows(&self.nginx, &trusted, &self.sockets));
        rows.extend(tls::rows(&self.nginx, &trusted, &self.sockets));
        rows.extend(sockets::rows(&self.sockets, &self.nginx, &self.unbound));
        rows.extend(dns::rows(&self.unbound));
        rows.extend(echo::rows());
        rows
    }
}

/// One row, and what both sides said.
struct Judged<'a> {
    row: &'a Row,
    ours: Option<Said>,
    theirs: Option<Said>,
}

impl Judged<'_> {
    fn is_right(&self) -> bool {
        let is = |said: &Option<Said>, up: bool| said.as_ref().is_some_and(|said| said.up == up);
        is(&self.ours, self.row.qu) && is(&self.theirs, self.row.blackbox)
    }

    fn text(&self) -> String {
        let show = |said: &Option<Said>, wanted: bool| {
            let wanted = if wanted { "up" } else { "down" };
            match said {
                Some(said) if said.up => format!("up, want {wanted} ({})", said.detail),
                Some(said) => format!("down, want {wanted} ({})", said.detail),
                None => format!("no verdict, want {wanted}"),
            }
        };
        format!(
            "{}\n  target    {} {}\n  qu        {}\n  blackbox  {}",
            self.row.about,
            self.row.check.kind.name(),
            self.row.check.target,
            show(&self.ours, self.row.qu),
            show(&self.theirs, self.row.blackbox),
        )
    }
}

#[test]
fn verdicts_agree_with_the_blackbox_exporter() {
    let world = World::start();
    let all = world.rows();
    let names: BTreeSet<&str> = all.iter().map(|row| row.about.as_str()).collect();
    assert_eq!(names.len(), all.len(), "two rows have one name");
    assert!(all.len() >= 500, "only {} rows", all.len());
    let everything = std::env::var("MAINSTAY_VERDICTS").is_ok_and(|value| value == "all");
    let share = if everything { 1 } else { SHARE };
    let rows: Vec<&Row> = all.iter().step_by(share).collect();

    let blackbox = Blackbox::start(&rows);
    let watched = Watched::start(&rows, &world.authorities.file());
    let mut theirs = blackbox.ask(&rows);
    let mut judged = Vec::new();
    let settled = lab::wait::happens(LIMIT, || {
        let ours = watched.verdicts(rows.len());
        judged = (rows.iter().zip(ours).zip(&theirs))
            .map(|((row, ours), theirs)| Judged {
                row,
                ours,
                theirs: theirs.clone(),
            })
            .collect();
        if judged.iter().all(Judged::is_right) {
            return true;
        }
        // Whoever was asked while the machine was busy is asked again.
        for (position, row) in rows.iter().enumerate() {
            if theirs[position]
                .as_ref()
                .is_none_or(|said| said.up != row.blackbox)
            {
                theirs[position] = blackbox.ask(&[row]).pop().flatten();
            }
        }
        false
    });
    let wrong: Vec<String> = judged
        .iter()
        .filter(|judged| !judged.is_right())
        .map(Judged::text)
        .collect();
    let different = rows.iter().filter(|row| row.why.is_some()).count();
    println!(
        "{} of {} targets, {} of them mean something different on purpose, {} disagreements",
        rows.len(),
        all.len(),
        different,
        wrong.len()
    );
    assert!(
        settled && wrong.is_empty(),
        "{} disagreements:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
