//! Authorities, and server certificates that are well or wrong in every way that matters.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use testkit::TestDir;

const DAY_S: i64 = 86_400;
/// How many hours away from the ends of its days a certificate ends, so that no test depends on the minute.
const MARGIN_S: i64 = 12 * 3600;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signer {
    Trusted,
    Intermediate { sent: bool },
    Stranger,
    Itself,
}

/// A kind of certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    signer: Signer,
    /// First and last day, counted from today.
    pub(crate) days: (i64, i64),
    /// Host names besides the server's address.
    names: &'static [&'static str],
    /// Whether the server's address is among the names.
    pub(crate) addressed: bool,
    algorithm: &'static rcgen::SignatureAlgorithm,
}

const GOOD: Kind = Kind {
    name: "good",
    signer: Signer::Trusted,
    days: (-30, 300),
    names: &["good.test", "*.wild.test"],
    addressed: true,
    algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
};

/// What the client's side of qu has no way to use with TLS 1.2, where a certificate's curve has to be one of those for key exchange.
pub(crate) const NEW_ONLY: &str = "p521";

/// All kinds.
pub(crate) const KINDS: [Kind; 18] = [
    GOOD,
    Kind {
        name: "p384",
        algorithm: &rcgen::PKCS_ECDSA_P384_SHA384,
        ..GOOD
    },
    Kind {
        name: "rsa",
        algorithm: &rcgen::PKCS_RSA_SHA256,
        ..GOOD
    },
    Kind {
        name: "p521",
        algorithm: &rcgen::PKCS_ECDSA_P521_SHA512,
        ..GOOD
    },
    Kind {
        name: "long",
        days: (-30, 3000),
        ..GOOD
    },
    Kind {
        name: "soon-0",
        days: (-30, 0),
        ..GOOD
    },
    Kind {
        name: "soon-7",
        days: (-30, 7),
        ..GOOD
    },
    Kind {
        name: "soon-30",
        days: (-30, 30),
        ..GOOD
    },
    Kind {
        name: "expired-1",
        days: (-30, -2),
        ..GOOD
    },
    Kind {
        name: "expired-400",
        days: (-800, -400),
        ..GOOD
    },
    Kind {
        name: "future",
        days: (5, 300),
        ..GOOD
    },
    Kind {
        name: "self-signed",
        signer: Signer::Itself,
        ..GOOD
    },
    Kind {
        name: "self-signed-expired",
        signer: Signer::Itself,
        days: (-30, -2),
        ..GOOD
    },
    Kind {
        name: "stranger",
        signer: Signer::Stranger,
        ..GOOD
    },
    Kind {
        name: "other-name",
        addressed: false,
        names: &["other.test"],
        ..GOOD
    },
    Kind {
        name: "no-name",
        addressed: false,
        names: &[],
        ..GOOD
    },
    Kind {
        name: "chain",
        signer: Signer::Intermediate { sent: true },
        ..GOOD
    },
    Kind {
        name: "chain-cut",
        signer: Signer::Intermediate { sent: false },
        ..GOOD
    },
];

impl Kind {
    /// Whether a client that looks at nothing but chain and dates is content.
    pub(crate) fn is_trusted(&self) -> bool {
        let chain = match self.signer {
            Signer::Trusted => true,
            Signer::Intermediate { sent } => sent,
            Signer::Stranger | Signer::Itself => false,
        };
        chain && self.days.0 <= 0 && !self.is_over()
    }

    /// Whether its end has passed.
    pub(crate) fn is_over(&self) -> bool {
        self.days.1 < 0
    }

    /// Whether it is for this name; patterns stand for one label.
    pub(crate) fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(domain) => name.split_once('.').is_some_and(|(_, rest)| rest == domain),
            None => *own == name,
        })
    }
}

/// The kind of this name.
pub(crate) fn kind(name: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.name == name).unwrap()
}

/// The trusted authority, one below it, and one that nobody knows.
pub(crate) struct Authorities {
    trusted: Issuer,
    intermediate: Issuer,
    stranger: Issuer,
    dir: TestDir,
}

impl Authorities {
    pub(crate) fn new() -> Self {
        let trusted =
            CertifiedIssuer::self_signed(authority("Trusted"), KeyPair::generate().unwrap()).unwrap();
        let intermediate =
            CertifiedIssuer::signed_by(authority("Intermediate"), KeyPair::generate().unwrap(), &trusted)
                .unwrap();
        let stranger =
            CertifiedIssuer::self_signed(authority("Stranger"), KeyPair::generate().unwrap()).unwrap();
        let authorities = Self {
            trusted,
            intermediate,
            stranger,
            dir: TestDir::new("authorities").unwrap(),
        };
        std::fs::write(authorities.file(), authorities.trusted.pem()).unwrap();
        authorities
    }

    /// The trusted authority, PEM.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("trusted.pem")
    }

    /// Writes `NAME.pem` and `NAME.key` for a server at this address.
    pub(crate) fn issue(&self, kind: &Kind, address: Ipv4Addr, dir: &Path) {
        let key = KeyPair::generate_for(kind.algorithm).unwrap();
        let mut names: Vec<String> = kind.names.iter().map(ToString::to_string).collect();
        if kind.addressed {
            names.push(address.to_string());
        }
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, address.to_string());
        params.not_before = date_time_ymd(1970, 1, 1) + unix(kind.days.0 * DAY_S - MARGIN_S);
        params.not_after = date_time_ymd(1970, 1, 1) + unix(kind.days.1 * DAY_S + MARGIN_S);
        let certificate = match kind.signer {
            Signer::Trusted => params.signed_by(&key, &self.trusted),
            Signer::Intermediate { .. } => params.signed_by(&key, &self.intermediate),
            Signer::Stranger => params.signed_by(&key, &self.stranger),
            Signer::Itself => params.self_signed(&key),
        };
        let mut chain = certificate.unwrap().pem();
        if kind.signer == (Signer::Intermediate { sent: true }) {
            chain.push_str(&self.intermediate.pem());
        }
        std::fs::write(dir.join(format!("{}.pem", kind.name)), chain).unwrap();
        std::fs::write(dir.join(format!("{}.key", kind.name)), key.serialize_pem()).unwrap();
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2060, 1, 1);
    params
}

/// Seconds since 1970 of a moment so many seconds from now.
fn unix(seconds: i64) -> Duration {
    let now = i64::try_from(service::SystemClock::shared().unix_ms() / 1000).unwrap();
    Duration::from_secs(u64::try_from(now + seconds).unwrap())
}
