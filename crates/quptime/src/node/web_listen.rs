//! `web_listen`: the address that pages are served on, taken when it is free.
//!
//! Watching and telling must not fail for want of a page, so an address that another program has, a second node on the same machine most
//! likely, or that this machine does not have yet, is no reason not to start. It is told, in the log and to `doctor`, and tried again.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use service::net::{BindError, bind};

use super::shared::Shared;
use super::web;
use crate::api::WebAddress;

/// Where pages are served if nothing is said.
const DEFAULT: &str = "127.0.0.1:9902";
/// First pause before the address is tried again; twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause: whoever frees the address does not want to wait for long.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// The address and what became of it, over all runs.
#[derive(Debug)]
pub struct WebListen {
    address: String,
    setting: &'static str,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Open(TcpListener),
    /// Why not.
    Closed(String),
}

impl WebListen {
    /// Takes the address that `node.yaml` says, or the default; nothing if pages are not wanted. An address that is not free is told.
    ///
    /// # Errors
    /// What `node.yaml` says is no address.
    pub fn open(configured: Option<&str>) -> Result<Option<WebListen>, BindError> {
        let (address, setting) = match configured {
            Some("") => return Ok(None),
            Some(address) => (address, "web_listen in node.yaml"),
            None => (DEFAULT, "web_listen"),
        };
        let state = match bind(setting, address) {
            Ok(listener) => State::Open(listener),
            Err(error @ BindError::Invalid { .. }) => return Err(error),
            Err(error) => {
                let error = terminal::chain(&error.into());
                tell(address, &error);
                State::Closed(error)
            }
        };
        Ok(Some(WebListen {
            address: address.to_owned(),
            setting,
            state: Mutex::new(state),
        }))
    }

    /// How it stands, for `doctor`.
    pub fn seen(&self) -> WebAddress {
        WebAddress {
            address: self.address.clone(),
            error: match &*self.state.lock() {
                State::Open(_) => None,
                State::Closed(error) => Some(error.clone()),
            },
        }
    }

    /// Tries once more; whether the address is there now.
    fn try_again(&self) -> bool {
        let mut state = self.state.lock();
        let State::Closed(before) = &*state else {
            return true;
        };
        match bind(self.setting, &self.address) {
            Ok(listener) => {
                tracing::info!(target: "quptime", address = self.address, "pages are served now");
                *state = State::Open(listener);
                true
            }
            Err(error) => {
                let error = terminal::chain(&error.into());
                if error != *before {
                    tell(&self.address, &error);
                    *state = State::Closed(error);
                }
                false
            }
        }
    }

    fn listener(&self) -> std::io::Result<tokio::net::TcpListener> {
        match &*self.state.lock() {
            State::Open(listener) => tokio::net::TcpListener::from_std(listener.try_clone()?),
            State::Closed(error) => Err(std::io::Error::other(error.clone())),
        }
    }
}

/// The same error is told once, however often the address is tried.
fn tell(address: &str, error: &str) {
    tracing::warn!(
        target: "quptime",
        address, error,
        "pages and metrics are not served; the address is tried again"
    );
}

/// Serves pages until the run ends, from the moment at which the address is free.
pub async fn run(shared: Arc<Shared>) {
    let Some(web) = shared.web.clone() else { return };
    let mut pause = RETRY_FIRST;
    while !web.try_again() {
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = RETRY_MAX.min(pause * 2),
            () = shared.stop.cancelled() => return,
        }
    }
    match web.listener() {
        Ok(listener) => web::serve(shared, listener).await,
        Err(error) => tracing::error!(target: "quptime", %error, "pages are not served"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_no_reason_to_fail_and_is_taken_when_it_is_free() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap().to_string();
        let web = WebListen::open(Some(&address)).unwrap().unwrap();
        let error =
            format!("address in use: {address} (web_listen in node.yaml): another process listens there");
        let taken = WebAddress {
            address: address.clone(),
            error: Some(error),
        };
        assert_eq!(web.seen(), taken);
        assert!(!web.try_again());
        assert_eq!(web.seen(), taken);
        drop(held);
        assert!(web.try_again() && web.try_again());
        assert_eq!(web.seen(), WebAddress { address, error: None });
    }

    #[test]
    fn what_is_no_address_is_refused_and_an_empty_one_serves_nothing() {
        assert!(WebListen::open(Some("9902")).is_err());
        assert!(WebListen::open(Some("")).unwrap().is_none());
    }
}
