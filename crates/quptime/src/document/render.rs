//! The one text of a document, and its digest.
//!
//! Two nodes with the same document write the same bytes: fields in the order of the schema, empty ones left out, block style, two
//! blanks of indentation. `version:` is the first line, and no other line begins with it.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::schema::Document;

/// The text, ending with a line break.
pub fn render(document: &Document) -> String {
    let options = serde_saphyr::ser_options! {
        indent_step: 2,
        compact_list_indent: false,
    };
    let mut text = serde_saphyr::to_string_with_options(document, options)
        .expect("a document consists of texts, numbers, lists and structs");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// SHA-256 over the canonical text: equal for nodes that have the same configuration in the same version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of a document.
    pub fn of(document: &Document) -> Digest {
        Digest::of_text(&render(document))
    }

    /// Of a text.
    pub fn of_text(text: &str) -> Digest {
        Digest(Sha256::digest(text.as_bytes()).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    /// Everything the reference's files may hold.
    const UPSTREAM: &str = "\
version: 34
updated_at: 2026-05-15T14:01:00Z
updated_by: 1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091
resolvers:
  - 1.1.1.1
peers:
  - node_id: 1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091
    advertise: alpha.example.com:9901
    fingerprint: sha256:00
    cert_pem: |
      -----BEGIN CERTIFICATE-----
      MIIB
      -----END CERTIFICATE-----
checks:
  - id: c1
    name: homepage
    type: http
    target: https://example.com
    interval: 30s
    timeout: 10s
    expect_status: 200
    body_match: \"version: 1\"
    alert_ids:
      - oncall
  - id: c2
    name: cert
    type: tls
    target: example.com
    interval: 1h0m0s
    timeout: 10s
    tls_warn_days: 14
    suppress_alert_ids:
      - a1
alerts:
  - id: a1
    name: oncall
    type: discord
    default: true
    discord_webhook: https://discord.example/x
    body_template: \"{{ .Check.Name }}\\nversion: 2\\n\"
  - id: a2
    name: mail
    type: smtp
    smtp_host: mail.example.com
    smtp_port: 587
    smtp_user: u
    smtp_password: p
    smtp_from: a@example.com
    smtp_to:
      - b@example.com
    smtp_starttls: true
";

    #[test]
    fn files_of_the_reference_survive() {
        let document = parse(UPSTREAM).unwrap();
        let text = render(&document);
        assert_eq!(parse(&text).unwrap(), document, "{text}");
        assert_eq!(render(&parse(&text).unwrap()), text);
        assert!(text.starts_with("version: 34\n"), "{text}");
        let at_start = text.lines().filter(|line| line.starts_with("version:")).count();
        assert_eq!(at_start, 1, "{text}");
        assert!(text.contains("    cert_pem: |"), "{text}");
        assert_eq!(document.needed_level(), 1);
    }

    #[test]
    fn an_empty_document_is_short() {
        assert_eq!(
            render(&Document::default()),
            "version: 0\npeers: []\nchecks: []\nalerts: []\n"
        );
    }
}
