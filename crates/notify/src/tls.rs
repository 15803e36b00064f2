//! Which certificates of servers are believed: those of the machine's authorities, and of files that settings name.

use std::path::Path;
use std::sync::Arc;

use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Authorities to believe.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    /// Kept beside the store, since the mail library makes a store of its own.
    certificates: Vec<CertificateDer<'static>>,
    store: RootCertStore,
}

impl Roots {
    /// Those of the machine. Files of it that cannot be read, and a machine without any, are no error: connections then fail
    /// with a text that says so, and those that need none work.
    pub(crate) fn of_machine() -> Self {
        let mut roots = Self {
            certificates: vec![],
            store: RootCertStore::empty(),
        };
        for certificate in rustls_native_certs::load_native_certs().certs {
            roots.add(certificate);
        }
        roots
    }

    /// These and those of a PEM file, whose content is at hand.
    ///
    /// # Errors
    /// One line that names the file.
    pub(crate) fn with_file(&self, path: &Path, content: std::io::Result<Vec<u8>>) -> Result<Self, String> {
        let mut roots = self.clone();
        let unusable = |what: String| format!("authorities in {}: {what}", path.display());
        let content = content.map_err(|error| unusable(error.to_string()))?;
        let certificates = CertificateDer::pem_slice_iter(&content)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unusable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unusable("no certificate in it".into()));
        }
        for certificate in certificates {
            if !roots.add(certificate) {
                return Err(unusable("a certificate in it cannot be used".into()));
            }
        }
        Ok(roots)
    }

    fn add(&mut self, certificate: CertificateDer<'static>) -> bool {
        let usable = self.store.add(certificate.clone()).is_ok();
        if usable {
            self.certificates.push(certificate);
        }
        usable
    }

    /// TLS 1.2 or 1.3 as a client without a certificate.
    pub(crate) fn client(&self, alpn: &[&[u8]]) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.store.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// The same for the mail library's STARTTLS.
    pub(crate) fn starttls(&self, host: &str) -> Result<TlsParameters, String> {
        let mut builder = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::None);
        for certificate in &self.certificates {
            let certificate =
                Certificate::from_der(certificate.to_vec()).map_err(|error| error.to_string())?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build_rustls().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let path = Path::new("/etc/ca.pem");
        let roots = Roots::of_machine();
        let missing = roots.with_file(path, Err(std::io::ErrorKind::NotFound.into()));
        assert_eq!(
            missing.unwrap_err(),
            "authorities in /etc/ca.pem: entity not found"
        );
        assert_eq!(
            roots.with_file(path, Ok(b"nothing".to_vec())).unwrap_err(),
            "authorities in /etc/ca.pem: no certificate in it"
        );
    }
}
