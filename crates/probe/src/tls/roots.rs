//! Whom to trust: the system's authorities, or those of a file.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::store;
use crate::prober::Roots;
use crate::wording;

/// Loads what the settings name. An unreadable system store is an empty one: every https target is then down with a
/// text that says so, and other checks go on.
pub(crate) fn load(roots: &Roots) -> Result<RootCertStore, String> {
    match roots {
        Roots::Platform => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "root certificates not read");
            }
            let roots = store(found.certs);
            tracing::debug!(count = roots.len(), "root certificates loaded");
            Ok(roots)
        }
        Roots::File(path) => pem_roots(path).map_err(|text| format!("{}: {text}", path.display())),
    }
}

/// The certificates of a PEM file, at least one.
pub(crate) fn pem_roots(path: &Path) -> Result<RootCertStore, String> {
    let bytes = std::fs::read(path).map_err(|error| wording::io(&error))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .filter_map(Result::ok)
        .collect();
    let roots = store(certificates);
    if roots.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    Ok(roots)
}
