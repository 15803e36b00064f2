//! The kinds of value that arguments carry: bytes, lease ids, durations, endpoints.

use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use bytes::Bytes;
use clap::builder::{OsStringValueParser, TypedValueParser};

/// Where a bare host name is asked.
const DEFAULT_PORT: u16 = 2379;

/// Keys and values are bytes: nothing is assumed about their encoding.
pub(super) fn bytes() -> impl TypedValueParser<Value = Bytes> {
    OsStringValueParser::new().map(|text| Bytes::from(text.into_vec()))
}

/// A lease id, hexadecimal as every tool prints it.
pub(super) fn lease_id(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    i64::from_str_radix(digits, 16)
        .ok()
        .filter(|id| *id >= 0 && !digits.starts_with('+'))
        .ok_or_else(|| {
            "want a lease id in hexadecimal, as `lease grant` prints it: 694d5765fc71500b".to_owned()
        })
}

/// A member id: decimal, or hexadecimal with `0x`.
pub(super) fn member_id(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    match parsed {
        Ok(0) => Err("node ids start at 1".to_owned()),
        Ok(id) => Ok(id),
        Err(_) => {
            Err("want a node id such as 2 (or 0x8e9e05c52164694d), as `member-list` prints it".to_owned())
        }
    }
}

/// A number that the operator gives to a node or to a cluster.
pub(super) fn node_id(text: &str) -> Result<u64, String> {
    let id = text.parse().ok().filter(|id| *id != 0);
    id.ok_or_else(|| "want a whole number from 1 up".to_owned())
}

/// A member as `cluster.initial_members` has it: `1=node1:2380`.
pub(super) fn member(text: &str) -> Result<(u64, String), String> {
    let member = text
        .split_once('=')
        .and_then(|(id, address)| Some((node_id(id.trim()).ok()?, peer_address(address.trim()).ok()?)));
    member.ok_or_else(|| "want ID=HOST:PORT, for example 1=node1:2380".to_owned())
}

/// How many of something are kept.
pub(super) fn count(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| "want how many to keep, from 1 up".to_owned())
}

/// Seconds a lease lives.
pub(super) fn seconds(text: &str) -> Result<i64, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| "want whole seconds from 1 up, for example 60".to_owned())
}

/// A revision; 0 stands for the newest.
pub(super) fn revision(text: &str) -> Result<i64, String> {
    let revision = text.parse().ok().filter(|revision| *revision >= 0);
    revision.ok_or_else(|| "want a revision, a whole number such as the one that `status` prints".to_owned())
}

/// A revision up to which something is dropped.
pub(super) fn past_revision(text: &str) -> Result<i64, String> {
    revision(text).and_then(|revision| {
        if revision > 0 {
            Ok(revision)
        } else {
            Err("want a revision from 1 up".to_owned())
        }
    })
}

/// A duration with its unit; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wanted = || "want a duration above zero such as 500ms, 5s or 2m".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let milliseconds = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wanted()),
    };
    match number.checked_mul(milliseconds) {
        Some(0) | None => Err(wanted()),
        Some(total) => Ok(Duration::from_millis(total)),
    }
}

/// An endpoint made whole: scheme (`https` when `tls`), host, port.
pub(super) fn endpoint(text: &str, tls: bool) -> Result<String, String> {
    let wanted = || format!("bad endpoint {text:?}: want http://HOST:PORT or https://HOST:PORT");
    let with_scheme = match text.trim().trim_end_matches('/') {
        full if full.contains("://") => full.to_owned(),
        bare if tls => format!("https://{bare}"),
        bare => format!("http://{bare}"),
    };
    let uri: http::Uri = with_scheme.parse().map_err(|_| wanted())?;
    let scheme = uri
        .scheme_str()
        .filter(|scheme| matches!(*scheme, "http" | "https"));
    let (Some(scheme), Some(authority)) = (scheme, uri.authority()) else {
        return Err(wanted());
    };
    if authority.host().is_empty()
        || uri.path() != "/"
        || uri.query().is_some()
        || authority.as_str().contains('@')
    {
        return Err(wanted());
    }
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => DEFAULT_PORT,
        _ => authority.port_u16().ok_or_else(wanted)?,
    };
    Ok(format!("{scheme}://{}:{port}", authority.host()))
}

/// `host:port` of a peer, with or without `http://` or `https://` in front.
pub(super) fn peer_address(text: &str) -> Result<String, String> {
    let wanted = || format!("bad peer url {text:?}: want host:port");
    let bare = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .unwrap_or(text);
    let authority: http::uri::Authority = bare.parse().map_err(|_| wanted())?;
    let port = authority
        .port_u16()
        .filter(|port| *port != 0)
        .ok_or_else(wanted)?;
    if authority.host().is_empty() || bare.contains('@') {
        return Err(wanted());
    }
    Ok(format!("{}:{port}", authority.host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_ids_are_hexadecimal() {
        assert_eq!(lease_id("694d5765fc71500b"), Ok(0x694d_5765_fc71_500b));
        assert_eq!(lease_id("0x10"), Ok(16));
        for bad in ["", "xyz", "-1", "+1", "ffffffffffffffff"] {
            assert!(lease_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn member_ids_start_at_one() {
        assert_eq!(member_id("2"), Ok(2));
        assert_eq!(member_id("0x8e9e05c52164694d"), Ok(0x8e9e_05c5_2164_694d));
        assert!(member_id("0").is_err() && member_id("node2").is_err());
    }

    #[test]
    fn members_have_a_number_and_an_address() {
        assert_eq!(member("1=node1:2380"), Ok((1, "node1:2380".to_owned())));
        for bad in ["", "1", "0=node1:2380", "node1:2380", "x=node1:2380", "1=node1"] {
            assert!(member(bad).is_err(), "{bad}");
        }
        assert!(node_id("7") == Ok(7) && node_id("0").is_err() && node_id("-1").is_err());
    }

    #[test]
    fn numbers_say_what_is_wanted() {
        assert_eq!(seconds("60"), Ok(60));
        for bad in ["", "abc", "0", "-5", "1.5", "60s", "99999999999999999999"] {
            assert_eq!(
                seconds(bad),
                Err("want whole seconds from 1 up, for example 60".to_owned())
            );
        }
        assert!(revision("0") == Ok(0) && past_revision("0").is_err() && past_revision("5") == Ok(5));
        assert!(revision("latest").is_err() && revision("-1").is_err());
    }

    #[test]
    fn durations_need_a_known_unit() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1m"), Ok(Duration::from_mins(1)));
        for bad in [
            "",
            "s",
            "5d",
            "0s",
            "-1s",
            "1.5s",
            "99999999999999999999h",
            "18446744073709551615h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoints_are_completed() {
        assert_eq!(
            endpoint("http://node1:2379", false).as_deref(),
            Ok("http://node1:2379")
        );
        assert_eq!(
            endpoint("https://node1/", false).as_deref(),
            Ok("https://node1:2379")
        );
        assert_eq!(
            endpoint("127.0.0.1:1", true).as_deref(),
            Ok("https://127.0.0.1:1")
        );
        assert_eq!(endpoint("[::1]:1", false).as_deref(), Ok("http://[::1]:1"));
        for bad in [
            "",
            "ftp://x:1",
            "http://",
            "http://x:1/path",
            "http://u:p@x:1",
            "http://x:port",
            "http://x:",
        ] {
            assert!(endpoint(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn peer_addresses_need_a_port() {
        assert_eq!(peer_address("node2:2380").as_deref(), Ok("node2:2380"));
        assert_eq!(peer_address("http://node2:2380").as_deref(), Ok("node2:2380"));
        for bad in [
            "x",
            "",
            "node2:",
            "node2:0",
            ":2380",
            "node2:99999",
            "node2:2380/x",
        ] {
            assert_eq!(
                peer_address(bad),
                Err(format!("bad peer url {bad:?}: want host:port"))
            );
        }
    }
}
