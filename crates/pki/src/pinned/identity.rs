//! The own key and certificate: made once, kept in three files.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    RsaKeySize,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::Error;
use super::fingerprint::{Fingerprint, certificate_pem, pem, public_key};
use crate::{certificate, files};

/// The private key, PEM, mode 0600.
pub const PRIVATE_FILE: &str = "private.pem";

/// The public key, PEM, for people and other programs; not read here.
pub const PUBLIC_FILE: &str = "public.pem";

/// The certificate, PEM.
pub const CERTIFICATE_FILE: &str = "cert.pem";

/// Of the directory, when it is made here.
const DIR_MODE: u32 = 0o700;

/// What group and others may do.
const NOT_THE_OWNER: u32 = 0o077;

/// Before the moment of issue, for machines whose clocks are behind and that look at dates.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// Ten years, with their leap days.
const LIFETIME: Duration = Duration::from_hours((10 * 365 + 3) * 24);

/// Which key is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyKind {
    /// ECDSA with the curve P-256.
    #[default]
    P256,
    /// `EdDSA` with the curve 25519.
    Ed25519,
    /// RSA with 3072 bits; takes a moment.
    Rsa3072,
}

/// See the module. Cheap to clone; prints no key.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
    private_pem: Arc<str>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Makes a key and a certificate for `name` (its common name), which is valid for ten years and for both ends of a connection.
    pub fn generate(name: &str, kind: KeyKind, now_unix_s: u64) -> Result<Identity, Error> {
        let failed = |error: rcgen::Error| crate::Error::Issue {
            name: name.to_owned(),
            reason: error.to_string(),
        };
        let key = match kind {
            KeyKind::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyKind::Ed25519 => ed25519(),
            KeyKind::Rsa3072 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
        }
        .map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now_unix_s);
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + LIFETIME;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.self_signed(&key).map_err(failed)?;
        // The same way as from files, so what was made can be used.
        let here = Path::new(PRIVATE_FILE);
        let der = certificate.der().clone();
        Identity::of(key.serialize_pem(), der, here, Path::new(CERTIFICATE_FILE))
    }

    /// Reads the files of a directory. The key may be ECDSA, Ed25519 or RSA, as PKCS #8, PKCS #1 or SEC 1.
    pub fn load(dir: &Path) -> Result<Identity, Error> {
        let key_path = dir.join(PRIVATE_FILE);
        let certificate_path = dir.join(CERTIFICATE_FILE);
        let private = files::read(&key_path)?;
        let mode = fs::metadata(&key_path).map_or(0, |metadata| metadata.mode() & 0o7777);
        if mode & NOT_THE_OWNER != 0 {
            return Err(Error::Exposed { path: key_path, mode });
        }
        let private = String::from_utf8(private).map_err(|_| crate::Error::NoKey(key_path.clone()))?;
        let certificate = certificate::read_der(&certificate_path)?.swap_remove(0);
        Identity::of(private, certificate, &key_path, &certificate_path)
    }

    fn of(
        private_pem: String,
        certificate: CertificateDer<'static>,
        key_path: &Path,
        certificate_path: &Path,
    ) -> Result<Identity, Error> {
        let key = PrivateKeyDer::from_pem_slice(private_pem.as_bytes()).map_err(|_| {
            if private_pem.contains("ENCRYPTED") {
                crate::Error::EncryptedKey(key_path.to_owned())
            } else {
                crate::Error::NoKey(key_path.to_owned())
            }
        })?;
        let bad_key = |reason: String| crate::Error::BadKey {
            path: key_path.to_owned(),
            reason,
        };
        let key = default_provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| bad_key(error.to_string()))?;
        let own = key
            .public_key()
            .ok_or_else(|| bad_key("its public half is not known".to_owned()))?;
        let shown = public_key(&certificate).map_err(|reason| Error::BadCertificate {
            path: certificate_path.to_owned(),
            reason,
        })?;
        if own.as_ref() != shown {
            return Err(crate::Error::NotAPair {
                certificate: certificate_path.to_owned(),
                key: key_path.to_owned(),
            }
            .into());
        }
        let fingerprint = Fingerprint::of_public_key(shown);
        Ok(Identity {
            certified: Arc::new(CertifiedKey::new(vec![certificate], key)),
            fingerprint,
            private_pem: private_pem.into(),
        })
    }

    /// Writes the three files into a directory, which is made if it is not there (mode 0700). They are on disk when this returns.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        if let Err(source) = DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir) {
            let path = dir.to_owned();
            return Err(crate::Error::Write { path, source }.into());
        }
        let file = |name: &str, content: String, mode| (name.to_owned(), content, mode);
        files::write_all(
            dir,
            &[
                file(PRIVATE_FILE, self.private_pem.to_string(), files::PRIVATE),
                file(PUBLIC_FILE, self.public_pem(), files::PUBLIC),
                file(CERTIFICATE_FILE, self.certificate_pem(), files::PUBLIC),
            ],
        )?;
        // The directory may be new as well.
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|source| {
            let path = parent.to_owned();
            crate::Error::Write { path, source }.into()
        })
    }

    /// Of the own key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certified.cert[0]
    }

    /// The certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        certificate_pem(self.certificate())
    }

    /// The public key, PEM.
    pub fn public_pem(&self) -> String {
        let key = public_key(self.certificate()).expect("it was read when this was made");
        pem("PUBLIC KEY", key)
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

/// In the first version of PKCS #8: the second, with the public key inside, cannot be read by OpenSSL 3.0.
fn ed25519() -> Result<KeyPair, rcgen::Error> {
    let unavailable = |_| rcgen::Error::KeyGenerationUnavailable;
    let key = Ed25519KeyPair::generate().map_err(unavailable)?;
    let der = key.to_pkcs8v1().map_err(unavailable)?;
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(der.as_ref()))
}
