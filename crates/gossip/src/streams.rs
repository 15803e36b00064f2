//! Connections that this node begins: one per address, made when there is something to send and closed when there was not for a while.
//!
//! What cannot be sent is lost, which the protocol expects: it finds out by itself who is not there.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::settings::Tls;
use crate::tell::Tell;

/// Messages that wait for one connection.
const WAITING: usize = 64;

/// From the first packet to the end of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A write that takes this long reaches nobody.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// Without anything to send a connection is closed.
const IDLE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct Streams {
    tls: Option<Tls>,
    tell: Arc<Tell>,
    stop: CancellationToken,
    tasks: TaskTracker,
    open: HashMap<String, mpsc::Sender<Bytes>>,
    /// Where names led to last, for datagrams.
    resolved: Arc<Mutex<HashMap<String, SocketAddr>>>,
}

impl Streams {
    pub(crate) fn new(
        tls: Option<Tls>,
        tell: Arc<Tell>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Streams {
        Streams {
            tls,
            tell,
            stop,
            tasks,
            open: HashMap::new(),
            resolved: Arc::default(),
        }
    }

    /// Sends, or not.
    pub(crate) fn send(&mut self, address: &str, envelope: Bytes) {
        let Some(open) = self.open.get(address) else {
            return self.begin(address, envelope);
        };
        match open.try_send(envelope) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
            Err(mpsc::error::TrySendError::Closed(envelope)) => self.begin(address, envelope),
        }
    }

    fn begin(&mut self, address: &str, first: Bytes) {
        self.open.retain(|_, open| !open.is_closed());
        let (sender, receiver) = mpsc::channel(WAITING);
        // There is room in a new one.
        let _ = sender.try_send(first);
        self.open.insert(address.to_owned(), sender);
        let (tls, tell, stop) = (self.tls.clone(), self.tell.clone(), self.stop.clone());
        let (address, resolved) = (address.to_owned(), self.resolved.clone());
        self.tasks.spawn(async move {
            let carried = carry(&address, tls.as_ref(), receiver, &resolved);
            tokio::select! {
                result = carried => {
                    if let Err(error) = result {
                        tell.not_connected(&address, &error);
                    }
                }
                () = stop.cancelled() => {}
            }
        });
    }

    /// Where a datagram for this address goes, if that is known without looking anything up.
    pub(crate) fn socket_address(&self, address: &str) -> Option<SocketAddr> {
        address
            .parse()
            .ok()
            .or_else(|| self.resolved.lock().get(address).copied())
    }

    /// Lets go of everything: connections end when all that waits is sent.
    pub(crate) fn close(&mut self) {
        self.open.clear();
    }

    /// Forgets names that are not among these.
    pub(crate) fn keep(&mut self, is_known: impl Fn(&str) -> bool) {
        self.resolved.lock().retain(|address, _| is_known(address));
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn carry(
    address: &str,
    tls: Option<&Tls>,
    mut receiver: mpsc::Receiver<Bytes>,
    resolved: &Mutex<HashMap<String, SocketAddr>>,
) -> io::Result<()> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(address, tls, resolved)).await;
    let mut stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let mut nothing = [0; 1];
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(IDLE, receiver.recv()) => next,
            // The other end never says anything; if something comes, it is the end, or an alert.
            read = tokio::io::AsyncReadExt::read(&mut stream, &mut nothing) => return read.map(drop),
        };
        let Ok(Some(envelope)) = next else {
            // Idle, or nobody sends any more.
            return stream.shutdown().await;
        };
        let mut out = Vec::with_capacity(envelope.len() + 4);
        out.put_u32(envelope.len() as u32);
        out.put_slice(&envelope);
        let written = async {
            stream.write_all(&out).await?;
            stream.flush().await
        };
        tokio::time::timeout(WRITE_TIMEOUT, written)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
}

async fn connect(
    address: &str,
    tls: Option<&Tls>,
    resolved: &Mutex<HashMap<String, SocketAddr>>,
) -> io::Result<Box<dyn Stream>> {
    let socket = TcpStream::connect(address).await?;
    let _ = socket.set_nodelay(true);
    resolved.lock().insert(address.to_owned(), socket.peer_addr()?);
    let Some(tls) = tls else {
        return Ok(Box::new(socket));
    };
    let config = tls
        .files()
        .client()
        .ok_or_else(|| io::Error::other("no authorities to verify nodes by"))?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(config).connect(name, socket).await?))
}
