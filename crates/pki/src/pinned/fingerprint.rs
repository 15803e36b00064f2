//! What is remembered of a key.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How the text begins.
const PREFIX: &str = "sha256:";

/// Characters of a line of PEM (RFC 7468, section 2).
const PEM_LINE: usize = 64;

/// SHA-256 over the DER `SubjectPublicKeyInfo` of a key, which is what `openssl pkey -pubin -outform DER | sha256sum` gives. As text
/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// From its bytes.
    pub const fn new(bytes: [u8; 32]) -> Fingerprint {
        Fingerprint(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of a public key as DER `SubjectPublicKeyInfo`.
    pub fn of_public_key(spki: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(spki).into())
    }

    /// Of the key in a certificate (DER). The error says what is wrong with the certificate.
    pub fn of_certificate(der: &[u8]) -> Result<Fingerprint, String> {
        public_key(der).map(Fingerprint::of_public_key)
    }

    /// Of the key in the first certificate of a PEM text.
    pub fn of_pem(text: &str) -> Result<Fingerprint, String> {
        let der = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|_| "no certificate: want PEM text with -----BEGIN CERTIFICATE-----".to_owned())?;
        Fingerprint::of_certificate(&der)
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub fn is(&self, other: &Fingerprint) -> bool {
        let differing = self.0.iter().zip(&other.0).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(differing) == 0
    }
}

/// The DER `SubjectPublicKeyInfo` in a certificate.
pub(super) fn public_key(der: &[u8]) -> Result<&[u8], String> {
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("there is something behind its end".to_owned());
    }
    Ok(parsed.tbs_certificate.subject_pki.raw)
}

/// A certificate (DER) as PEM text.
pub fn certificate_pem(der: &[u8]) -> String {
    pem("CERTIFICATE", der)
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(PEM_LINE));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad fingerprint {text:?}: want sha256: and 64 lower-case hexadecimal digits")]
pub struct BadFingerprint {
    /// The beginning of the text.
    pub text: String,
}

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Fingerprint, BadFingerprint> {
        parse(text).ok_or_else(|| {
            let mut shown = String::new();
            for c in text.chars().take(PREFIX.len() + PEM_LINE + 1) {
                // Writing to a string does not fail.
                let _ = shown.write_char(c);
            }
            BadFingerprint { text: shown }
        })
    }
}

fn parse(text: &str) -> Option<Fingerprint> {
    let hex = text.strip_prefix(PREFIX)?.as_bytes();
    let mut bytes = [0; 32];
    if hex.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(Fingerprint(bytes))
}

fn digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_read_as_it_is_written_and_in_no_other_form() {
        let mut bytes = [0; 32];
        bytes[0] = 0xab;
        bytes[31] = 7;
        let print = Fingerprint::new(bytes);
        let text = print.to_string();
        assert_eq!(text, format!("sha256:ab{}07", "0".repeat(60)));
        assert_eq!(text.parse(), Ok(print));
        let wrong = [
            "",
            "sha256:",
            &text[7..],
            &text[..70],
            &format!("{text}0"),
            &text.to_uppercase(),
            &format!("sha256:AB{}07", "0".repeat(60)),
            &format!("sha256:+b{}07", "0".repeat(60)),
            &format!("sha256:é{}07", "0".repeat(60)),
        ];
        for wrong in wrong {
            let error = wrong.parse::<Fingerprint>().unwrap_err();
            assert!(error.to_string().starts_with("bad fingerprint"), "{error}");
        }
    }

    #[test]
    fn any_other_bit_makes_another_fingerprint() {
        let print = Fingerprint::new([7; 32]);
        assert!(print.is(&print));
        for bit in 0..256 {
            let mut bytes = [7; 32];
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!print.is(&Fingerprint::new(bytes)), "{bit}");
        }
    }
}
