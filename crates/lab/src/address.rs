//! Loopback addresses for hosts, and who holds a port on one.
//!
//! All of 127.0.0.0/8 is loopback on Linux, so each host gets an address and with it every port for itself. A block
//! is the /24 `127.0.N.0`; host `i` of a block is `127.0.N.(11 + i)`. Block 0 belongs to `mainstay up`, so that people
//! find the lab at 127.0.0.11. Tests take any other block: [`AddressBlock::free`] holds a lock file per block for
//! as long as the value lives, so tests that run at the same time never meet. The lock is advisory among Mainstay's
//! own programs; a block in which anything listens is passed over as well.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// Last number of the first host's address.
const FIRST_HOST: u8 = 11;

/// Hosts that fit into a block: .11 to .210.
pub const HOSTS_MAX: usize = 200;

/// A /24 of loopback addresses, reserved while this value lives.
#[derive(Debug)]
pub struct AddressBlock {
    number: u8,
    _lock: Option<File>,
}

impl AddressBlock {
    /// The block with this number, chosen by a person; 0 is what `mainstay up` uses by itself. It is not locked: a taken
    /// port shows itself when it is bound.
    pub fn numbered(number: u8) -> Self {
        Self { number, _lock: None }
    }

    /// A block that nobody else uses, locked until the value is dropped.
    pub fn free() -> Result<Self> {
        let folder = lock_folder()?;
        let listeners = listeners()?;
        // Blocks are tried from a different start in each process, which keeps tests apart without contention.
        let start = std::process::id() % 254;
        for step in 0..254 {
            let number = (1 + (start + step) % 254) as u8;
            let in_use = listeners.iter().any(
                |listener| matches!(listener.address, IpAddr::V4(v4) if v4.octets()[..3] == [127, 0, number]),
            );
            if in_use {
                continue;
            }
            let path = folder.join(format!("127.0.{number}.lock"));
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o666)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        number,
                        _lock: Some(file),
                    });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
        bail!("no free block of loopback addresses: all of 127.0.1.0/24 to 127.0.254.0/24 are in use")
    }

    /// Address of the host with this index, counted from 0.
    pub fn host(&self, index: usize) -> Result<Ipv4Addr> {
        ensure!(index < HOSTS_MAX, "too many hosts: a lab has at most {HOSTS_MAX}");
        Ok(Ipv4Addr::new(127, 0, self.number, FIRST_HOST + index as u8))
    }
}

/// The folder of the lock files, shared by all users of the machine.
fn lock_folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join("mainstay-addresses");
    if !folder.is_dir() {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        // Writable by every user, deletable by owners only, like the folder it is in.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777))
            .with_context(|| format!("cannot set the mode of {}", folder.display()))?;
    }
    Ok(folder)
}

/// Fails, naming the holder, when `address:port` cannot be bound.
pub fn ensure_port_free(address: Ipv4Addr, port: u16) -> Result<()> {
    match TcpListener::bind((address, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let holder = holder_of(IpAddr::V4(address), port).unwrap_or_else(|| "an unknown process".into());
            bail!("{address}:{port} is taken by {holder}: stop it, or choose other addresses with --block")
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}:{port}")),
    }
}

/// Who listens on the port: `etcd (pid 812)`, or just the number of another user's socket.
fn holder_of(address: IpAddr, port: u16) -> Option<String> {
    let listener = listeners().ok()?.into_iter().find(|listener| {
        listener.port == port && (listener.address == address || listener.address.is_unspecified())
    })?;
    let wanted = format!("socket:[{}]", listener.inode);
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // Unreadable folders are those of other users.
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = descriptors.flatten().any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())
        });
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let mut text = name.trim().to_owned();
            write!(text, " (pid {pid})").ok()?;
            return Some(text);
        }
    }
    Some(format!("a process of another user (socket {})", listener.inode))
}

/// One listening TCP socket.
struct Listener {
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// All listening TCP sockets, from `/proc/net/tcp` and `tcp6` (proc(5): state 0A is LISTEN).
fn listeners() -> Result<Vec<Listener>> {
    let mut found = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            // A kernel without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {file}")),
        };
        found.extend(text.lines().skip(1).filter_map(parse_listener));
    }
    Ok(found)
}

fn parse_listener(line: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    Some(Listener {
        address: parse_address(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// The kernel prints each 32-bit word of an address in the machine's byte order.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..hex.len()).step_by(8) {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    match bytes.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
        16 => {
            let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            Some(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_at_once_are_different() {
        let a = AddressBlock::free().unwrap();
        let b = AddressBlock::free().unwrap();
        assert_ne!(a.host(0).unwrap(), b.host(0).unwrap());
        assert_ne!(a.number, 0, "block 0 belongs to people");
        assert!(a.host(HOSTS_MAX).is_err());
    }

    #[test]
    fn a_taken_port_names_its_holder() {
        let block = AddressBlock::free().unwrap();
        let address = block.host(0).unwrap();
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = ensure_port_free(address, port).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{address}:{port} is taken by ")),
            "{error}"
        );
        assert!(
            error.contains(&format!("(pid {})", std::process::id())),
            "{error}"
        );
        drop(listener);
        ensure_port_free(address, port).unwrap();
    }

    #[test]
    fn kernel_addresses_are_read() {
        assert_eq!(parse_address("0B00007F"), Some("127.0.0.11".parse().unwrap()));
        assert_eq!(
            parse_address("00000000000000000000000001000000"),
            Some("::1".parse().unwrap())
        );
        assert_eq!(
            parse_address("0000000000000000FFFF00000100007F"),
            Some("127.0.0.1".parse().unwrap())
        );
    }
}
