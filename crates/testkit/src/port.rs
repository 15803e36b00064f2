//! Free ports on 127.0.0.1, for programs that cannot be given an address of their own.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// A port on 127.0.0.1 on which nothing listens now. It never returns a port twice in one process; another process
/// may still take it before it is bound, which an [`crate::AddressBlock`] rules out: prefer that where possible.
pub fn free_port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind any port of 127.0.0.1")?;
        let port = listener
            .local_addr()
            .context("cannot tell the port of a listener")?
            .port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_not_given_twice() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
        TcpListener::bind((Ipv4Addr::LOCALHOST, *ports.first().unwrap())).unwrap();
    }
}
