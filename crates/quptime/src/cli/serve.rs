//! `qu serve`: the daemon.

use anyhow::Context as _;
use pki::pinned::KeyKind;
use service::{Runner, logs};

use crate::document::parse;
use crate::home::Home;
use crate::node::control::places;
use crate::node::copied;
use crate::node::file::Written;
use crate::node::run::{Node, Sockets, serve};
use crate::secret::Secret;

/// How long stopping may take: a master waits for messages under way and lets another one lead.
const GRACE: std::time::Duration = std::time::Duration::from_secs(20);

pub(super) fn run() -> anyhow::Result<()> {
    use_small_pages();
    let home = Home::of_environment(super::variable);
    if home.read_node()?.is_none() {
        home.refuse_enrolling()?;
        advertise_of_environment(&home)?;
        home.create()?;
    }
    // For the life of the process, over all runs in it.
    let _held = home.lock()?;
    if home.read_node()?.is_none() {
        initialise(&home)?;
    }
    let node = Node::load(home, super::variable)?;
    // Before anything is opened: a file that is wrong must not be in the way of the daemon that is right.
    let document = match node.home.read_cluster() {
        Ok(document) => document,
        Err(error) => {
            // What this node wrote itself keeps it from nothing.
            let written = Written::load(&node.home.raft());
            let text = written.standing(&node.home).ok_or(error)?;
            parse::parse_written(text).ok()
        }
    };
    start_logs(&node)?;
    copied::refuse_second(&node, document.as_ref())?;
    let sockets = Sockets::open(&node.settings, &places(super::variable))?;
    raise_file_limit();
    drop_capabilities();
    Runner::new()
        .grace(GRACE)
        .start(|lifecycle| serve(node, lifecycle, sockets))
}

/// The allocator asks for huge pages, and the kernel gives 2 MiB where a few bytes were wanted: with ten thousand checks that is a third of the
/// memory, and probes gain nothing by it.
fn use_small_pages() {
    // A kernel that knows no huge pages has none to forbid.
    let _ = nix::sys::prctl::set_thp_disable(true);
}

fn set(name: &str) -> Option<String> {
    super::variable(name).filter(|value| !value.is_empty())
}

/// Where a node that has no file yet is reached.
///
/// # Errors
/// Nothing says so, so the file is missing.
fn advertise_of_environment(home: &Home) -> anyhow::Result<String> {
    set("QUPTIME_ADVERTISE").with_context(|| {
        format!(
            "{} is missing; run qu init, or set QUPTIME_ADVERTISE and QUPTIME_CLUSTER_SECRET",
            home.node_file().display()
        )
    })
}

/// A container that knows its node from the environment alone. The directory is locked.
fn initialise(home: &Home) -> anyhow::Result<()> {
    let advertise = advertise_of_environment(home)?;
    let port = super::init::port_of_environment()?;
    let secret = set("QUPTIME_CLUSTER_SECRET").map_or_else(Secret::draw, Secret::new);
    let bind = set("QUPTIME_BIND_ADDR").unwrap_or_else(|| "0.0.0.0".to_owned());
    super::init::create(home, &advertise, &bind, port, secret, KeyKind::P256).map(drop)
}

fn start_logs(node: &Node) -> anyhow::Result<()> {
    let format = match super::variable("QUPTIME_LOG_FORMAT").filter(|text| !text.is_empty()) {
        Some(text) => text
            .parse()
            .map_err(|error| anyhow::anyhow!("QUPTIME_LOG_FORMAT: {error}"))?,
        None => node.settings.log_format.unwrap_or_default(),
    };
    let settings = logs::LogSettings {
        format,
        ..logs::LogSettings::default()
    };
    let troubles = node.troubles.clone();
    logs::init_telling_errors(&settings, "quptime", move |line| troubles.note(line))?;
    logs::install_panic_hook(true);
    Ok(())
}

/// A probe takes up to three descriptors, and many are under way at once. Shells and service managers start programs with 1024.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // With fewer the daemon works as well, only with fewer probes at once.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Nothing but raw sockets is needed from here on.
fn drop_capabilities() {
    use caps::{CapSet, Capability};
    let Ok(permitted) = caps::read(None, CapSet::Permitted) else {
        return;
    };
    let kept: caps::CapsHashSet = permitted
        .into_iter()
        .filter(|capability| *capability == Capability::CAP_NET_RAW)
        .collect();
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        // A kernel that refuses leaves things as the service manager set them up.
        if caps::set(None, set, &kept).is_err() {
            break;
        }
    }
}
