//! Where a redirect leads, and what goes along (RFC 9110, 15.4).

use http::header::LOCATION;
use http::{Method, Response, StatusCode};
use url::Url;

use super::Step;
use crate::journal::Failure;
use crate::probe::{self, Http};
use crate::target::is_requestable;

/// The address that an answer sends us to; none if it is no redirect, or the very status that is wanted.
pub(super) fn target<B>(answer: &Response<B>, http: &Http, from: &Url) -> Result<Option<Url>, Failure> {
    let status = answer.status();
    let leads_on = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    if !leads_on || status.as_u16() == http.expect_status {
        return Ok(None);
    }
    let Some(location) = answer.headers().get(LOCATION) else {
        return Ok(None);
    };
    let shown = String::from_utf8_lossy(location.as_bytes());
    let next = std::str::from_utf8(location.as_bytes())
        .ok()
        .and_then(|location| from.join(location).ok())
        .ok_or_else(|| Failure::down(format!("status {} to a bad address {shown:?}", status.as_u16())))?;
    if is_requestable(&next) {
        Ok(Some(next))
    } else {
        Err(Failure::down(format!(
            "status {} to an address that is not http: {}",
            status.as_u16(),
            probe::shown(&next)
        )))
    }
}

/// The request for the next hop.
pub(super) fn step(from: Step, status: StatusCode, mut url: Url) -> Step {
    // A fragment is not sent, and must not hide a loop.
    url.set_fragment(None);
    let same_host = url.host() == from.url.host();
    let same_password = same_host && url.username().is_empty() && url.password().is_none();
    if same_password && from.trusted {
        // These refuse only URLs without a host.
        let _ = url.set_username(from.url.username());
        let _ = url.set_password(from.url.password());
    }
    let keeps_method = matches!(status.as_u16(), 307 | 308) || from.method == Method::HEAD;
    Step {
        // Another port of the host is fine, and so is https after http; the other way round a password would leak.
        trusted: from.trusted && same_host && !(from.url.scheme() == "https" && url.scheme() == "http"),
        method: if keeps_method { from.method } else { Method::GET },
        url,
    }
}
