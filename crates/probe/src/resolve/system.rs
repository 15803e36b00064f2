//! What `resolv.conf` and `hosts` say (see resolv.conf(5) and hosts(5)).
//!
//! The files are read again when their size or time of change differs, so a new DHCP lease or an edited line counts
//! for the next probe.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::nameserver::DNS_PORT;
use crate::{shortage, wording};

/// Largest part of a file that is read; block lists in `hosts` have some megabytes.
const FILE_MAX: u64 = 16 << 20;

/// Name servers that count, as in the C library.
const SERVERS_MAX: usize = 3;

/// Search domains that count; more would make every misspelt name a storm of queries.
const SEARCH_MAX: usize = 6;

/// Highest number of dots that a name may be asked to have before it is tried as it is, as in the C library.
const NDOTS_MAX: usize = 15;

/// The system's settings at one time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct System {
    /// At least one.
    pub(crate) servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    /// By name in lower case.
    pub(crate) hosts: BTreeMap<String, Vec<IpAddr>>,
}

impl System {
    fn parse(resolv_conf: &str, hosts: &str) -> Self {
        let mut system = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            hosts: BTreeMap::new(),
        };
        for line in resolv_conf.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(server_address);
                    system
                        .servers
                        .extend(server.filter(|_| system.servers.len() < SERVERS_MAX));
                }
                // The last of these lines counts.
                Some("search" | "domain") => {
                    system.search = words
                        .take(SEARCH_MAX)
                        .map(|domain| domain.trim_matches('.').to_owned())
                        .filter(|domain| !domain.is_empty())
                        .collect();
                }
                Some("options") => {
                    for option in words {
                        let dots = option.strip_prefix("ndots:").and_then(|n| n.parse().ok());
                        system.ndots = dots.unwrap_or(system.ndots).min(NDOTS_MAX);
                    }
                }
                _ => {}
            }
        }
        if system.servers.is_empty() {
            system.servers.push((Ipv4Addr::LOCALHOST, DNS_PORT).into());
        }
        for line in hosts.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse) else {
                continue;
            };
            for name in words {
                let addresses = system.hosts.entry(name.to_ascii_lowercase()).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        system
    }

    /// The names to try for `name`, in order.
    pub(crate) fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let with_domains = self.search.iter().map(|domain| format!("{name}.{domain}"));
        let as_it_is = std::iter::once(name.to_owned());
        if name.matches('.').count() >= self.ndots {
            as_it_is.chain(with_domains).collect()
        } else {
            with_domains.chain(as_it_is).collect()
        }
    }
}

/// An address, with the interface of a link-local one (`fe80::1%eth0`) only if it is a number.
fn server_address(text: &str) -> Option<SocketAddr> {
    let Some((address, scope)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, DNS_PORT).into());
    };
    format!("[{address}%{scope}]:{DNS_PORT}").parse().ok()
}

/// When a file was last changed, and its size; none if it cannot be told.
type Mark = Option<(SystemTime, u64)>;

/// The two files, and what they said when they were last read.
#[derive(Debug)]
pub(crate) struct SystemFiles {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    read: Mutex<Option<([Mark; 2], Arc<System>)>>,
}

impl SystemFiles {
    pub(crate) fn new(resolv_conf: PathBuf, hosts: PathBuf) -> Self {
        Self {
            resolv_conf,
            hosts,
            read: Mutex::new(None),
        }
    }

    /// The settings as they are now. A missing file is an empty one; one that cannot be opened for want of descriptors is not.
    pub(crate) fn load(&self) -> Result<Arc<System>, String> {
        let marks = [mark(&self.resolv_conf), mark(&self.hosts)];
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((seen, system)) if *seen == marks => Ok(Arc::clone(system)),
            _ => {
                let system = Arc::new(System::parse(&text(&self.resolv_conf)?, &text(&self.hosts)?));
                *read = Some((marks, Arc::clone(&system)));
                Ok(system)
            }
        }
    }
}

fn mark(path: &Path) -> Mark {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
    if let Err(error) = read {
        if shortage::is_ours(&error) {
            return Err(format!("read {}: {}", path.display(), wording::io(&error)));
        }
        tracing::debug!(path = %path.display(), %error, "resolver file not read");
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_the_manuals_say() {
        let system = System::parse(
            "# made by hand\nnameserver 192.0.2.1\nnameserver fe80::1%2 ; link\nnameserver x\n\
             domain old.example\nsearch a.example. b.example\noptions rotate ndots:2\n\
             nameserver 192.0.2.3\nnameserver 192.0.2.4\n",
            "127.0.0.1 localhost # this\n192.0.2.9\tDB db.example\n2001:db8::9 db\nbad line\n",
        );
        let servers: Vec<String> = system.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fe80::1%2]:53", "192.0.2.3:53"]);
        assert_eq!(system.hosts["db"].len(), 2);
        assert_eq!(system.hosts["db.example"].len(), 1);
        assert_eq!(
            system.candidates("www.x"),
            ["www.x.a.example", "www.x.b.example", "www.x"]
        );
        assert_eq!(
            system.candidates("www.x.y"),
            ["www.x.y", "www.x.y.a.example", "www.x.y.b.example"]
        );
        assert_eq!(system.candidates("www."), ["www."]);
        let empty = System::parse("", "");
        assert_eq!(empty.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(empty.candidates("www"), ["www"]);
    }

    #[test]
    fn a_changed_file_counts_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let [conf, hosts] = ["resolv.conf", "hosts"].map(|name| dir.path().join(name));
        let files = SystemFiles::new(conf, hosts.clone());
        assert!(files.load().unwrap().hosts.is_empty());
        std::fs::write(&hosts, "192.0.2.1 a\n").unwrap();
        let first = files.load().unwrap();
        assert_eq!(first.hosts["a"], ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert!(Arc::ptr_eq(&first, &files.load().unwrap()));
        std::fs::write(&hosts, "192.0.2.1 a\n192.0.2.22 b\n").unwrap();
        assert!(files.load().unwrap().hosts.contains_key("b"));
    }
}
