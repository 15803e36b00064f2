//! Clients that others wrote, in scripted sessions: the crate `etcd-client`, and from PyPI `etcd3` (gRPC) and `etcd3gw` (JSON).
//!
//! Every session runs against Chainfire and against Debian's etcd. The second run is the check of the session itself: what
//! does not hold for etcd is no expectation that a client of etcd has.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod auth;
mod keys;
mod leases;
mod maintenance;
mod python;
mod watches;

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error};
use testkit::{Chainfire, Etcd};
use tonic::Code;

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs a session against each server, fresh for it.
async fn against_both<S: Future<Output = ()>>(session: impl Fn(Client) -> S) {
    let chainfire = Chainfire::start_new().unwrap();
    session(connect(&chainfire.endpoint(), None).await).await;
    let etcd = Etcd::start().unwrap();
    session(connect(&etcd.endpoint(), None).await).await;
}

async fn connect(endpoint: &str, user: Option<(&str, &str)>) -> Client {
    let mut options = ConnectOptions::new().with_timeout(LIMIT);
    if let Some((name, password)) = user {
        options = options.with_user(name, password);
    }
    Client::connect([endpoint], Some(options)).await.unwrap()
}

/// Waits for what has to happen soon.
#[track_caller]
fn soon<T>(event: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        tokio::time::timeout(LIMIT, event)
            .await
            .unwrap_or_else(|_| panic!("{place}: did not happen in {LIMIT:?}"))
    }
}

/// The status with which a call was refused. That it is a status of the workspace's own tonic shows that there is one.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (Code, String) {
    match result.unwrap_err() {
        Error::GRpcStatus(status) => (status.code(), status.message().to_owned()),
        other => panic!("not refused by the server: {other}"),
    }
}
