//! The network between members and clients, and cutting it one direction at a time.
//!
//! Every member has a namespace with one interface, joined to the others by a bridge; clients stand at the bridge. A packet filter in
//! the receiver's namespace drops what goes from a sender to an address in a set of such pairs: so each direction can be cut alone, and
//! the sender notices nothing, as with a broken switch. Connections that live through a cut go on when TCP tries again.

use std::fmt;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use lab::AddressBlock;

/// The packet filter of each namespace.
const FILTER: &str = "
table ip trial {
    set cut {
        type ipv4_addr . ipv4_addr
    }
    chain input {
        type filter hook input priority 0
        ip saddr . ip daddr @cut drop
    }
}
";

/// An end of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Member(usize),
    Clients,
    /// A second address of where clients are, so that it can be cut off alone: who is told of alerts.
    Sinks,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(member) => write!(f, "member {}", member + 1),
            Self::Clients => f.write_str("the clients"),
            Self::Sinks => f.write_str("the sinks"),
        }
    }
}

/// The network of one run.
#[derive(Debug)]
pub(crate) enum Network {
    /// Namespaces below ours, for so many members.
    Namespaces(usize),
    /// Addresses of the loopback interface.
    Loopback(AddressBlock),
}

impl Network {
    /// Makes namespaces, links and filters. To be called inside the namespaces of [`crate::namespaces`].
    pub(crate) fn namespaces(members: usize) -> Result<Self> {
        let network = Self::Namespaces(members);
        run("mount", "-t tmpfs none /run")?;
        run("ip", "link set lo up")?;
        run("ip", "link add bridge0 type bridge")?;
        for end in [End::Clients, End::Sinks] {
            let address = network.address(end)?;
            run("ip", &format!("address add {address}/24 dev bridge0"))?;
        }
        run("ip", "link set bridge0 up")?;
        for member in 0..members {
            let name = namespace(member);
            let address = network.address(End::Member(member))?;
            run("ip", &format!("netns add {name}"))?;
            run(
                "ip",
                &format!("link add to-{name} type veth peer name eth0 netns {name}"),
            )?;
            run("ip", &format!("link set to-{name} master bridge0 up"))?;
            run("ip", &format!("-n {name} address add {address}/24 dev eth0"))?;
            run("ip", &format!("-n {name} link set eth0 up"))?;
            run("ip", &format!("-n {name} link set lo up"))?;
            filter(Some(&name), FILTER)?;
        }
        filter(None, FILTER)?;
        Ok(network)
    }

    /// Loopback addresses that nobody else uses.
    pub(crate) fn loopback() -> Result<Self> {
        Ok(Self::Loopback(AddressBlock::free()?))
    }

    /// Whether [`Network::cut`] works.
    pub(crate) fn can_cut(&self) -> bool {
        matches!(self, Self::Namespaces(_))
    }

    /// The address of an end.
    pub(crate) fn address(&self, end: End) -> Result<Ipv4Addr> {
        match (self, end) {
            (Self::Namespaces(_), End::Member(member)) => Ok(Ipv4Addr::new(10, 77, 0, 1 + member as u8)),
            (Self::Namespaces(_), End::Clients) => Ok(Ipv4Addr::new(10, 77, 0, 254)),
            (Self::Namespaces(_), End::Sinks) => Ok(Ipv4Addr::new(10, 77, 0, 253)),
            (Self::Loopback(block), End::Member(member)) => block.host(member),
            (Self::Loopback(_), End::Clients | End::Sinks) => Ok(Ipv4Addr::LOCALHOST),
        }
    }

    /// The words before a command that is to run at a member's place.
    pub(crate) fn prefix(&self, member: usize) -> Vec<String> {
        match self {
            Self::Namespaces(_) => vec![
                "nsenter".to_owned(),
                format!("--net=/run/netns/{}", namespace(member)),
                "--".to_owned(),
            ],
            Self::Loopback(_) => Vec::new(),
        }
    }

    /// From now on nothing that `from` sends reaches `to`.
    pub(crate) fn cut(&self, from: End, to: End) -> Result<()> {
        let (sender, receiver) = (self.address(from)?, self.address(to)?);
        let rule = format!("add element ip trial cut {{ {sender} . {receiver} }}\n");
        self.filter_at(to, &rule)
            .with_context(|| format!("cut the way from {from} to {to}"))
    }

    /// Everything reaches everybody again.
    pub(crate) fn heal(&self) -> Result<()> {
        let Self::Namespaces(members) = self else {
            return Ok(());
        };
        for end in (0..*members).map(End::Member).chain([End::Clients]) {
            self.filter_at(end, "flush set ip trial cut\n")
                .with_context(|| format!("heal the network of {end}"))?;
        }
        Ok(())
    }

    fn filter_at(&self, end: End, rules: &str) -> Result<()> {
        if !self.can_cut() {
            bail!("there is no packet filter on loopback addresses");
        }
        match end {
            End::Member(member) => filter(Some(&namespace(member)), rules),
            End::Clients | End::Sinks => filter(None, rules),
        }
    }
}

fn namespace(member: usize) -> String {
    format!("m{}", member + 1)
}

fn run(program: &str, arguments: &str) -> Result<()> {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {arguments}: {}", text.trim());
    }
    Ok(())
}

/// Feeds rules to the packet filter of a namespace, or of our own.
fn filter(namespace: Option<&str>, rules: &str) -> Result<()> {
    let mut command = match namespace {
        Some(name) => {
            let mut command = Command::new("nsenter");
            command.args([&format!("--net=/run/netns/{name}"), "--", "nft"]);
            command
        }
        None => Command::new("nft"),
    };
    let mut child = command
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run nft")?;
    let mut stdin = child.stdin.take().context("write to nft")?;
    stdin.write_all(rules.as_bytes()).context("write to nft")?;
    drop(stdin);
    let output = child.wait_with_output().context("wait for nft")?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
