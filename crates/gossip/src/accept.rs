//! Connections that other nodes begin. They only say something, and nothing is said to them: an answer is a message of its own.
//!
//! No more than a number of them are there at a time; one more ends the oldest, whose node begins another one when it has something to
//! say. So whoever opens connections and says nothing keeps nobody out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::envelope::{ENVELOPE_MAX, Envelope};
use crate::settings::Tls;
use crate::tell::Tell;

/// Connections at a time: some for each node of a large cluster.
const CONNECTIONS_MAX: usize = 1024;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The other end closes earlier.
const IDLE: Duration = Duration::from_mins(1);

/// When the listener fails, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The first byte of a TLS handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// An envelope that arrived over TCP.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) from: SocketAddr,
    pub(crate) envelope: Envelope,
}

/// What connections need.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    pub(crate) cluster: u64,
    pub(crate) tls: Option<Tls>,
    pub(crate) tell: Arc<Tell>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) arrived: mpsc::Sender<Arrived>,
}

/// By number, so the first is the oldest.
type Open = Arc<Mutex<BTreeMap<u64, CancellationToken>>>;

/// Takes connections until the end.
pub(crate) async fn run(intake: Intake, listener: TcpListener) {
    let open = Open::default();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = intake.stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, from)) => {
                number += 1;
                let over = begin(&open, number);
                let (intake, open) = (intake.clone(), open.clone());
                let tasks = intake.tasks.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = serve(&intake, socket, from) => {}
                        () = over.cancelled() => {}
                        () = intake.stop.cancelled() => {}
                    }
                    open.lock().remove(&number);
                });
            }
            Err(error) => {
                intake.tell.not_accepting(&error);
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = intake.stop.cancelled() => return,
                }
            }
        }
    }
}

fn begin(open: &Open, number: u64) -> CancellationToken {
    let mut open = open.lock();
    if open.len() >= CONNECTIONS_MAX
        && let Some((_, oldest)) = open.pop_first()
    {
        oldest.cancel();
    }
    let over = CancellationToken::new();
    open.insert(number, over.clone());
    over
}

async fn serve(intake: &Intake, socket: TcpStream, from: SocketAddr) {
    let mut first = [0];
    // Probes come and go without a word.
    match tokio::time::timeout(IDLE, socket.peek(&mut first)).await {
        Ok(Ok(1..)) => {}
        _ => return,
    }
    let is_tls = first[0] == TLS_HANDSHAKE;
    match &intake.tls {
        None if is_tls => intake.tell.misdirected(from, false),
        None => read(intake, socket, from).await,
        Some(_) if !is_tls => intake.tell.misdirected(from, true),
        Some(tls) => {
            let accept = TlsAcceptor::from(tls.files().server()).accept(socket);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, accept).await {
                Ok(Ok(session)) => read(intake, session, from).await,
                Ok(Err(error)) => intake.tell.tls_refused(from, &error),
                Err(_) => {}
            }
        }
    }
}

async fn read(intake: &Intake, mut stream: impl AsyncRead + Unpin, from: SocketAddr) {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(length) = buffer.get(..4).map(|mut length| length.get_u32() as usize) {
            if length > ENVELOPE_MAX {
                intake.tell.garbage(&from);
                return;
            }
            if buffer.len() < 4 + length {
                break;
            }
            buffer.advance(4);
            let envelope = match Envelope::open(buffer.split_to(length).freeze(), intake.cluster) {
                Ok(envelope) => envelope,
                Err(unfit) => {
                    intake.tell.unfit(&from, unfit);
                    return;
                }
            };
            // Waits while there is too much to do, and with it the other end.
            if intake.arrived.send(Arrived { from, envelope }).await.is_err() {
                return;
            }
        }
        match tokio::time::timeout(IDLE, stream.read_buf(&mut buffer)).await {
            Ok(Ok(1..)) => {}
            _ => return,
        }
    }
}
