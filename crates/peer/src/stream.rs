//! A TCP connection, with TLS or without, in two halves.

use std::time::Duration;

use bytes::Bytes;
use pki::pinned::Fingerprint;
use rustls::ConnectionCommon;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) type BoxReader = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type BoxWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// Bytes that the kernel takes ahead of what it has sent. More would only make what is urgent wait longer.
const UNSENT_BYTES: u32 = 128 << 10;

/// Read and thrown away before closing: unread bytes would turn the close into a reset, which takes the answer with it.
const DISCARD_BYTES: u64 = 8 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// The first byte of a TLS handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What both ends of a TLS connection can compute and nobody else.
pub type Exporter = [u8; 32];

/// Not registered anywhere, so it begins as RFC 5705 (section 4) wants.
const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL mainstay-peer stranger";

/// What TLS with pinned keys says of the other end; nothing without.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proof {
    /// The key that it has.
    pub(crate) key: Option<Fingerprint>,
    /// DER.
    pub(crate) certificate: Bytes,
    pub(crate) exporter: Exporter,
}

impl Proof {
    /// Of a connection whose handshake is over.
    pub(crate) fn of<D>(connection: &ConnectionCommon<D>) -> Result<Proof, String> {
        let mut proof = Proof {
            exporter: connection
                .export_keying_material([0; 32], EXPORTER_LABEL, None)
                .map_err(|error| error.to_string())?,
            ..Proof::default()
        };
        if let Some(leaf) = connection.peer_certificates().and_then(<[_]>::first) {
            proof.key = Some(Fingerprint::of_certificate(leaf)?);
            proof.certificate = Bytes::copy_from_slice(leaf);
        }
        Ok(proof)
    }
}

/// Sets what every connection wants. A socket that refuses is good enough without.
pub(crate) fn tune(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES);
}

pub(crate) fn is_tls(first: u8) -> bool {
    first == TLS_HANDSHAKE
}

pub(crate) fn plain_halves(socket: TcpStream) -> (BoxReader, BoxWriter) {
    let (reader, writer) = socket.into_split();
    (Box::new(reader), Box::new(writer))
}

pub(crate) fn halves<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S) -> (BoxReader, BoxWriter) {
    let (reader, writer) = tokio::io::split(stream);
    (Box::new(reader), Box::new(writer))
}

/// Closes after a last word, so that it arrives.
pub(crate) async fn close(writer: &mut (impl AsyncWrite + Unpin), reader: impl AsyncRead + Unpin) {
    if writer.shutdown().await.is_err() {
        return;
    }
    let (mut rest, mut nowhere) = (reader.take(DISCARD_BYTES), tokio::io::sink());
    let discard = tokio::io::copy(&mut rest, &mut nowhere);
    // Whether the other end reads it is its own matter from here on.
    let _ = tokio::time::timeout(DISCARD_TIME, discard).await;
}
