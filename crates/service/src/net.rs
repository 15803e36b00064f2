//! Listening sockets with errors that tell the operator what to do.
//!
//! All ports of a program are bound before any work starts, so that a taken port fails at once. `SO_REUSEADDR` is set (the
//! standard library does so on Unix), so a restart does not wait for old connections to time out; `SO_REUSEPORT` is not,
//! so two nodes never share a port by accident.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use crate::ErrorKind;

/// Why a listener could not be made. `setting` is the configuration key that gave the address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another socket holds the address.
    #[error("address in use: {addr} ({setting}): another process listens there")]
    InUse {
        /// Address as configured.
        addr: String,
        /// Configuration key.
        setting: String,
    },
    /// The address belongs to no interface.
    #[error("address not available: {addr} ({setting}): no interface of this machine has it")]
    NotLocal {
        /// Address as configured.
        addr: String,
        /// Configuration key.
        setting: String,
    },
    /// Not allowed.
    #[error("not allowed to listen on {addr} ({setting}): ports below 1024 need CAP_NET_BIND_SERVICE")]
    Denied {
        /// Address as configured.
        addr: String,
        /// Configuration key.
        setting: String,
    },
    /// Not an address.
    #[error("bad address {addr:?} ({setting}): want host:port")]
    Invalid {
        /// Address as configured.
        addr: String,
        /// Configuration key.
        setting: String,
    },
    /// Any other failure of the operating system.
    #[error("listen on {addr} ({setting})")]
    Other {
        /// Address as configured.
        addr: String,
        /// Configuration key.
        setting: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } => ErrorKind::Conflict,
            Self::NotLocal { .. } | Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Other { .. } => ErrorKind::Internal,
        }
    }
}

/// Binds `addr` (`host:port`; a name is resolved and the first address that works is taken) for the configuration key
/// `setting`. The listener is non-blocking, ready for `tokio::net::TcpListener::from_std`.
pub fn bind(setting: &str, addr: &str) -> Result<TcpListener, BindError> {
    let resolved: Vec<SocketAddr> = match addr.to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(source) if source.kind() == io::ErrorKind::InvalidInput => {
            return Err(BindError::Invalid {
                addr: addr.into(),
                setting: setting.into(),
            });
        }
        Err(source) => {
            return Err(BindError::Other {
                addr: addr.into(),
                setting: setting.into(),
                source,
            });
        }
    };
    let listener = TcpListener::bind(&resolved[..]).map_err(|source| explain(setting, addr, source))?;
    listener
        .set_nonblocking(true)
        .map_err(|source| explain(setting, addr, source))?;
    Ok(listener)
}

fn explain(setting: &str, addr: &str, source: io::Error) -> BindError {
    let (addr, setting) = (addr.to_owned(), setting.to_owned());
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { addr, setting },
        io::ErrorKind::AddrNotAvailable => BindError::NotLocal { addr, setting },
        io::ErrorKind::PermissionDenied => BindError::Denied { addr, setting },
        _ => BindError::Other {
            addr,
            setting,
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_the_setting() {
        let held = bind("api_addr", "127.0.0.1:0").unwrap();
        let addr = held.local_addr().unwrap().to_string();
        let error = bind("raft_addr", &addr).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("address in use: {addr} (raft_addr): another process listens there")
        );
        assert_eq!(error.kind(), ErrorKind::Conflict);
        drop(held);
        bind("raft_addr", &addr).unwrap();
    }

    #[test]
    fn wrong_addresses_say_what_is_wanted() {
        let error = bind("api_addr", "2379").unwrap_err();
        assert_eq!(
            error.to_string(),
            "bad address \"2379\" (api_addr): want host:port"
        );
        // TEST-NET-1 is on no interface.
        let error = bind("api_addr", "192.0.2.1:0").unwrap_err();
        assert_eq!(
            error.to_string(),
            "address not available: 192.0.2.1:0 (api_addr): no interface of this machine has it"
        );
    }

    #[tokio::test]
    async fn the_listener_works_with_tokio() {
        let listener = tokio::net::TcpListener::from_std(bind("api_addr", "127.0.0.1:0").unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let (accepted, connected) = tokio::join!(listener.accept(), tokio::net::TcpStream::connect(addr));
        assert_eq!(accepted.unwrap().1, connected.unwrap().local_addr().unwrap());
    }
}
