//! From a check of `cluster.yaml` to a probe.

use sha2::{Digest as _, Sha256};

use crate::document::schema::ICMP_MAX_LOSS;
use crate::document::{Check, CheckKind, Document};

/// What a check looks at, as a number: a report about another definition does not count. The same on every node and in every version,
/// which is why it is made of the text of the file.
pub fn definition(check: &Check, document: &Document) -> u64 {
    let looked_at = Check {
        id: String::new(),
        name: String::new(),
        interval: crate::document::schema::INTERVAL,
        alert_ids: Vec::new(),
        suppress_alert_ids: Vec::new(),
        confirm: 0,
        recover: 0,
        min_reports: 0,
        depends_on: Vec::new(),
        group: None,
        second_opinion: None,
        remind_every: None,
        ..check.clone()
    };
    let text =
        serde_json::to_vec(&(looked_at, &document.resolvers)).expect("a check consists of texts and numbers");
    let digest: [u8; 32] = Sha256::digest(&text).into();
    let (first, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    u64::from_be_bytes(*first)
}

/// What a check asks of the prober.
///
/// # Errors
/// Its target is none, in one line.
pub fn probe_of(check: &Check, document: &Document) -> Result<probe::Probe, String> {
    let kind = match check.kind {
        CheckKind::Http => probe::TargetKind::Http,
        CheckKind::Tcp => probe::TargetKind::Tcp,
        CheckKind::Icmp => probe::TargetKind::Icmp,
        CheckKind::Tls => probe::TargetKind::Tls,
        CheckKind::Dns => probe::TargetKind::Dns,
    };
    let target = probe::Target::parse(kind, &check.target).map_err(|error| error.to_string())?;
    let nameserver = |text: &String| {
        text.parse::<probe::Nameserver>()
            .map_err(|error| error.to_string())
    };
    let kind = match target {
        probe::Target::Http(url) => {
            let mut http = probe::Http::get(url);
            http.expect_status = check.expect_status;
            http.body_match.clone_from(&check.body_match);
            probe::Kind::Http(http)
        }
        probe::Target::Tcp(host, port) => probe::Kind::Tcp(probe::Tcp { host, port }),
        probe::Target::Icmp(host) => probe::Kind::Icmp(probe::Icmp {
            host,
            count: check.icmp_count.max(1) as u16,
            max_loss: check.icmp_max_loss.unwrap_or(ICMP_MAX_LOSS).min(100) as u8,
        }),
        probe::Target::Tls(host, port) => {
            let server_name = match check.tls_server_name.as_str() {
                "" => None,
                name => Some(probe::Host::parse(name).ok_or_else(|| {
                    format!("tls_server_name \"{}\" is no host name", terminal::brief(name))
                })?),
            };
            probe::Kind::Tls(probe::Tls {
                host,
                port,
                server_name,
                warn_days: check.tls_warn_days,
                verify: check.tls_verify,
            })
        }
        probe::Target::Dns(hostname) => {
            let record = match check.dns_record.as_str() {
                "" => "a".to_owned(),
                record => record.to_ascii_lowercase(),
            };
            let resolver = match &check.dns_resolver {
                text if text.is_empty() => None,
                text => Some(nameserver(text)?),
            };
            probe::Kind::Dns(probe::Dns {
                hostname,
                record: record.parse().map_err(|error| format!("dns_record: {error}"))?,
                resolver,
                expect: check.dns_expect.clone(),
            })
        }
    };
    let resolvers = if check.resolvers.is_empty() {
        &document.resolvers
    } else {
        &check.resolvers
    };
    Ok(probe::Probe {
        kind,
        timeout: check.timeout.into(),
        resolvers: resolvers.iter().map(nameserver).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_loss_is_another_wish_than_none() {
        for (file, wanted) in [("", 99), ("icmp_max_loss: 0\n", 0), ("icmp_max_loss: 40\n", 40)] {
            let text = format!("version: 1\nchecks:\n  - name: a\n    type: icmp\n    target: h\n    {file}");
            let document = crate::document::parse(&text).unwrap();
            let probe = probe_of(&document.checks[0], &document).unwrap();
            let probe::Kind::Icmp(icmp) = probe.kind else {
                panic!("{probe:?}");
            };
            assert_eq!(icmp.max_loss, wanted, "{file:?}");
            // It is kept when the file is written.
            assert!(crate::document::render(&document).contains(file), "{file:?}");
        }
    }
}
