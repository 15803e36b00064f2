//! Small servers that do exactly what a test wants.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_proto::op::Message;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

/// What a server does after its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It closes the connection.
    Close,
    /// It keeps it and says nothing more.
    Hang,
    /// It sends one more byte now and then, for ever.
    Drip,
}

/// Bytes, and what comes after them.
pub(crate) type Answer = (Vec<u8>, Then);

/// A whole answer with a length.
pub(crate) fn whole(status: &str, headers: &str, body: &str) -> Answer {
    let text = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    (text.into_bytes(), Then::Close)
}

/// Reads the head of a request, answers it, and does what comes then.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, handler: &impl Fn(&str) -> Answer) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let (bytes, then) = handler(&String::from_utf8_lossy(&head));
    // The other side may not want all of it.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.flush().await;
    match then {
        Then::Close => {
            let _ = stream.shutdown().await;
        }
        Then::Hang => {
            let _ = stream.read_u8().await;
        }
        Then::Drip => {
            while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An HTTP server; the handler sees the head of each request.
pub(crate) async fn http(handler: impl Fn(&str) -> Answer + Send + Sync + 'static) -> SocketAddr {
    let (listener, address) = listener().await;
    let handler = Arc::new(handler);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let handler = Arc::clone(&handler);
            tokio::spawn(async move { serve(stream, &*handler).await });
        }
    });
    address
}

/// The same over TLS.
pub(crate) async fn https(
    identity: &Identity,
    handler: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> SocketAddr {
    let (listener, address) = listener().await;
    let handler = Arc::new(handler);
    let acceptor = identity.acceptor();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (handler, acceptor) = (Arc::clone(&handler), acceptor.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, &*handler).await;
                }
            });
        }
    });
    address
}

/// A server that takes connections and never says a word.
pub(crate) async fn silent() -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let mut kept: Vec<TcpStream> = Vec::new();
        loop {
            kept.push(listener.accept().await.unwrap().0);
        }
    });
    address
}

/// A port that nobody listens on.
pub(crate) async fn closed() -> SocketAddr {
    listener().await.1
}

/// A listener whose queue is full: the kernel ignores further connections, as a firewall does.
pub(crate) struct BlackHole {
    _listener: socket2::Socket,
    _queued: std::net::TcpStream,
    pub(crate) address: SocketAddr,
}

impl BlackHole {
    pub(crate) fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        listener.bind(&any.into()).unwrap();
        // With a backlog of zero Linux lets one connection wait.
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        Self {
            _queued: std::net::TcpStream::connect(address).unwrap(),
            _listener: listener,
            address,
        }
    }
}

/// The authority that [`crate::prober`] trusts.
pub(crate) fn authority() -> &'static CertifiedIssuer<'static, KeyPair> {
    static AUTHORITY: OnceLock<CertifiedIssuer<'static, KeyPair>> = OnceLock::new();
    AUTHORITY.get_or_init(|| new_authority("Test Authority"))
}

pub(crate) fn new_authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server's certificate and key.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

type Day = (i32, u8, u8);

fn params(names: &[&str], from: Day, to: Day) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(to.0, to.1, to.2);
    params
}

impl Identity {
    /// Issued by an authority.
    pub(crate) fn issued(by: &CertifiedIssuer<'static, KeyPair>, names: &[&str], from: Day, to: Day) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params(names, from, to).signed_by(&key, by).unwrap();
        Self::of(certificate.der(), &key)
    }

    /// Issued by the trusted authority, valid all of 2026, for 127.0.0.1 and localhost.
    pub(crate) fn valid() -> Self {
        Self::issued(
            authority(),
            &["127.0.0.1", "localhost"],
            (2026, 1, 1),
            (2027, 1, 1),
        )
    }

    pub(crate) fn self_signed(from: Day, to: Day) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params(&["127.0.0.1"], from, to);
        params.distinguished_name.push(DnType::CommonName, "lonely");
        let certificate = params.self_signed(&key).unwrap();
        Self::of(certificate.der(), &key)
    }

    pub(crate) fn of(certificate: &CertificateDer<'static>, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.clone(),
            key: key.serialize_der().into(),
        }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key().into())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// How a name server was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Udp,
    Tcp,
}

/// A name server over UDP and TCP on one port. The handler turns a query into an answer; none is silence.
pub(crate) async fn dns(
    handler: impl Fn(&Message, Via) -> Option<Message> + Send + Sync + 'static,
) -> String {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        // Somebody may have this port over TCP.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let handler = Arc::new(handler);
    let over_tcp = Arc::clone(&handler);
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            if let Some(answer) = handler(&query, Via::Udp) {
                udp.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut query = vec![0; length.into()];
            stream.read_exact(&mut query).await.unwrap();
            if let Some(answer) = over_tcp(&Message::from_vec(&query).unwrap(), Via::Tcp) {
                let bytes = answer.to_vec().unwrap();
                stream
                    .write_u16(u16::try_from(bytes.len()).unwrap())
                    .await
                    .unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    address.to_string()
}
