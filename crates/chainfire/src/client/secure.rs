//! TLS of the client: the files of its flags, checked before anything is sent, and failures in words that say what to change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pki::{Material, Paths, Trouble, Unverified, read_authorities, time_text};
use service::clock::{Clock as _, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::connection::Tls;
use super::failure::{Failure, Result, system};

/// What an HTTP/2 client says first, with empty settings.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Longest time spent on finding out why something failed.
const DIAGNOSIS_TIME: Duration = Duration::from_secs(2);

/// What to connect to an https endpoint with.
pub(super) fn config(endpoint: &str, tls: &Tls) -> Result<ClientTlsConfig> {
    let Some(authority) = &tls.authority else {
        return Err(Failure::usage(format!(
            "{endpoint}: https needs --cacert FILE, the CA that signed the server's certificate"
        )));
    };
    let trusted = Certificate::from_pem(read(authority, "--cacert")?);
    read_authorities(authority).map_err(|error| Failure::refused(format!("--cacert: {error}")))?;
    let mut config = ClientTlsConfig::new().ca_certificate(trusted);
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
        let identity = Identity::from_pem(read(certificate, "--cert")?, read(key, "--key")?);
        own(tls).map_err(|error| Failure::refused(format!("--cert and --key: {error}")))?;
        config = config.identity(identity);
    }
    Ok(config)
}

fn own(tls: &Tls) -> std::result::Result<Option<Material>, pki::Error> {
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        return Ok(None);
    };
    let paths = Paths {
        certificate: certificate.clone(),
        key: key.clone(),
        authorities: None,
    };
    Material::load(&paths, SystemClock::new().unix_ms() / 1000).map(Some)
}

/// Why an https endpoint ends connections, if TLS is the reason.
///
/// In TLS 1.3 a server judges the client's certificate after the client has done its part of the handshake, so the refusal meets a
/// request that is under way, which the libraries only know to have failed. Asked again without them, the server says why.
pub(super) async fn diagnose(endpoint: &str, tls: &Tls) -> Option<String> {
    let ask = async {
        let uri: http::Uri = endpoint.parse().ok()?;
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        let authorities = read_authorities(tls.authority.as_ref()?).ok()?;
        let config = pki::client_config(authorities, own(tls).ok()?.as_ref(), &[b"h2"]).ok()?;
        let socket = TcpStream::connect((host.as_str(), uri.port_u16()?)).await.ok()?;
        let connector = TlsConnector::from(Arc::new(config));
        let error = match connector.connect(host.try_into().ok()?, socket).await {
            Err(error) => error,
            Ok(mut session) => {
                // The answer may be there although nothing can be sent any more.
                let _ = session.write_all(GREETING).await;
                session.read(&mut [0]).await.err()?
            }
        };
        Trouble::of(&error)
    };
    let trouble = tokio::time::timeout(DIAGNOSIS_TIME, ask).await.ok()??;
    Some(explain(&trouble))
}

fn read(path: &Path, flag: &str) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| Failure::refused(format!("read {flag} {}: {}", path.display(), system(&error))))
}

/// What went wrong, and which flag or machine to look at.
pub(super) fn explain(trouble: &Trouble) -> String {
    let advice = match trouble {
        Trouble::Unverified(Unverified::UnknownAuthority) => {
            "the server's certificate is not signed by the CA in --cacert".to_owned()
        }
        Trouble::Unverified(Unverified::Expired(when)) => {
            let when = when.map_or(String::new(), |when| format!(" on {}", time_text(when)));
            return format!(
                "certificate verify failed: the server's certificate expired{when}: renew it on the server"
            );
        }
        Trouble::Unverified(Unverified::NotYetValid) => {
            "look at the clocks of this machine and of the server".to_owned()
        }
        Trouble::Unverified(Unverified::OtherName { wanted, names }) => {
            return format!(
                "certificate verify failed: name mismatch: the server's certificate is for {}, not for {wanted}: \
                 name one of these in --endpoint, or issue it with that name",
                names.join(", ")
            );
        }
        Trouble::Unverified(_) => "that is the server's certificate, renew it there".to_owned(),
        Trouble::Refused(reason) if reason == "none shown" => {
            return "tls: bad certificate: the server wants a client certificate: give --cert FILE and --key FILE"
                .to_owned();
        }
        Trouble::Refused(_) => {
            "the server wants a client certificate that its CA has signed: look at --cert and --key"
                .to_owned()
        }
        Trouble::NotTls => {
            return "the server does not speak TLS on this port: use http:// in --endpoint".to_owned();
        }
        Trouble::Incompatible(_) => return trouble.to_string(),
    };
    format!("{trouble}: {advice}")
}
