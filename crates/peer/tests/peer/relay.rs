//! A network between two members that can be frozen, cut after a number of bytes, and made to damage one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to the bytes of the end that dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The connection is closed before the byte with this number.
    CutAt(u64),
    /// One bit of this byte is flipped.
    FlipAt(u64),
}

#[derive(Debug)]
struct State {
    target: String,
    fault: Mutex<Fault>,
    frozen: watch::Sender<bool>,
    /// Bytes that went from the dialling end, over all connections.
    carried: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Relay {
    address: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    pub(crate) async fn start(host: &str, target: &str) -> Relay {
        let listener = TcpListener::bind((host, 2380)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            target: target.to_owned(),
            fault: Mutex::new(Fault::None),
            frozen: watch::Sender::new(false),
            carried: AtomicU64::new(0),
        });
        let task = tokio::spawn(run(listener, state.clone()));
        Relay { address, state, task }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        *self.state.fault.lock() = fault;
    }

    pub(crate) fn freeze(&self) {
        self.state.frozen.send_replace(true);
    }

    pub(crate) fn thaw(&self) {
        self.state.frozen.send_replace(false);
    }

    /// Bytes that went from the dialling end since this was asked last.
    pub(crate) fn take_carried(&self) -> u64 {
        self.state.carried.swap(0, Ordering::Relaxed)
    }
}

async fn run(listener: TcpListener, state: Arc<State>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let state = state.clone();
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(&state.target).await else {
                return;
            };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            // Each direction ends by itself, as in a network: what is on the way back still arrives.
            tokio::join!(
                carry(near_in, far_out, &state, true),
                carry(far_in, near_out, &state, false)
            );
        });
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State, is_outward: bool) {
    let mut carried = 0u64;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let mut frozen = state.frozen.subscribe();
        if frozen.wait_for(|frozen| !*frozen).await.is_err() {
            return;
        }
        let mut chunk = &mut buffer[..length];
        let fault = if is_outward {
            *state.fault.lock()
        } else {
            Fault::None
        };
        let mut is_cut = false;
        match fault {
            Fault::CutAt(at) if carried + length as u64 > at => {
                chunk = &mut chunk[..(at - carried) as usize];
                is_cut = true;
            }
            Fault::FlipAt(at) if (carried..carried + length as u64).contains(&at) => {
                chunk[(at - carried) as usize] ^= 4;
            }
            _ => {}
        }
        if to.write_all(chunk).await.is_err() {
            return;
        }
        carried += chunk.len() as u64;
        if is_outward {
            state.carried.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        if is_cut {
            return;
        }
    }
}
