//! What a probe costs: `cargo run --release -p probe --example cost [PROBES] [CONCURRENCY]`
//!
//! Looks at servers of its own on loopback, each kind in turn, as fast as it can, and prints the processor time per
//! probe and the resident memory of the process. The servers run in a second process, so that only the probes count.
#![allow(clippy::print_stdout, reason = "its result is what it prints")]

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use probe::{Host, Http, Icmp, Kind, Probe, Prober, Roots, Settings, Tcp, Tls};
use service::SystemClock;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    if first.as_deref() == Some("serve") {
        return runtime()?.block_on(serve());
    }
    let probes = first.map_or(Ok(10_000), |text| text.parse())?;
    let concurrency = args.next().map_or(Ok(500), |text| text.parse())?;
    let mut servers = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(servers.stdout.take().ok_or("no output")?).lines();
    let mut next = || -> Result<String> { Ok(lines.next().ok_or("the servers have ended")??) };
    let (ca, plain, secure) = (next()?, next()?, next()?);
    let result = runtime()?.block_on(measure(ca, plain.parse()?, secure.parse()?, probes, concurrency));
    servers.kill()?;
    servers.wait()?;
    result
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

async fn measure(
    ca: String,
    plain: SocketAddr,
    secure: SocketAddr,
    probes: usize,
    concurrency: usize,
) -> Result<()> {
    let settings = Settings {
        roots: Roots::File(ca.into()),
        ..Settings::new("cost")
    };
    let prober = Arc::new(Prober::new(settings, SystemClock::shared())?);
    let host = Host::Ip(plain.ip());
    let kinds = [
        ("http", Kind::Http(Http::get(format!("http://{plain}/").parse()?))),
        (
            "https",
            Kind::Http(Http::get(format!("https://{secure}/").parse()?)),
        ),
        (
            "tcp",
            Kind::Tcp(Tcp {
                host: host.clone(),
                port: plain.port(),
            }),
        ),
        (
            "tls",
            Kind::Tls(Tls {
                host: host.clone(),
                port: secure.port(),
                server_name: None,
                warn_days: 14,
                verify: false,
            }),
        ),
        (
            "icmp",
            Kind::Icmp(Icmp {
                host,
                count: 1,
                max_loss: 0,
            }),
        ),
    ];
    println!(
        "{probes} probes of each kind, {concurrency} at once; icmp: {}",
        prober.icmp_mode()
    );
    for (name, kind) in kinds {
        let probe = Arc::new(Probe {
            kind,
            timeout: Duration::from_secs(30),
            resolvers: Vec::new(),
        });
        let (left, up) = (Arc::new(AtomicUsize::new(probes)), Arc::new(AtomicUsize::new(0)));
        let before = cpu_seconds()?;
        let workers: Vec<_> = (0..concurrency)
            .map(|_| {
                let (prober, probe, left, up) = (
                    Arc::clone(&prober),
                    Arc::clone(&probe),
                    Arc::clone(&left),
                    Arc::clone(&up),
                );
                tokio::spawn(async move {
                    while left
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                        .is_ok()
                    {
                        let outcome = prober.probe(&probe).await;
                        up.fetch_add(usize::from(outcome.is_up()), Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await?;
        }
        let micros = (cpu_seconds()? - before) * 1e6 / probes as f64;
        println!(
            "{name:<6} {micros:>8.1} us of processor time per probe, {} up, {} MiB resident at most",
            up.load(Ordering::SeqCst),
            peak_kib()? / 1024
        );
    }
    Ok(())
}

/// Processor time of this process, in the clock ticks of 10 ms that Linux shows.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').ok_or("bad /proc/self/stat")?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || -> Result<f64> { Ok(fields.next().ok_or("bad /proc/self/stat")?.parse()?) };
    Ok((ticks()? + ticks()?) / 100.0)
}

fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmHWM in /proc/self/status")?.parse()?)
}

async fn serve() -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    let dir = tempfile::tempdir()?;
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, certificate.pem())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let secure = TcpListener::bind("127.0.0.1:0").await?;
    println!(
        "{}\n{}\n{}",
        ca.display(),
        plain.local_addr()?,
        secure.local_addr()?
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = secure.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream).await;
                }
            });
        }
    });
    loop {
        let (stream, _) = plain.accept().await?;
        tokio::spawn(answer(stream));
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut head = [0; 1024];
    if matches!(stream.read(&mut head).await, Ok(1..)) {
        // The other side may have what it wants already.
        let _ = stream.write_all(ANSWER).await;
        let _ = stream.shutdown().await;
    }
}
