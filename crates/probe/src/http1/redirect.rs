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
    let trusted = from.trusted && is_same_server(&from.url, &url);
    if trusted && url.username().is_empty() && url.password().is_none() {
        // These refuse only URLs without a host.
        let _ = url.set_username(from.url.username());
        let _ = url.set_password(from.url.password());
    }
    let keeps_method = matches!(status.as_u16(), 307 | 308) || from.method == Method::HEAD;
    Step {
        trusted,
        method: if keeps_method { from.method } else { Method::GET },
        url,
    }
}

/// Whether what was meant for the one may go to the other: the same origin, or its usual step from http to https.
fn is_same_server(from: &Url, to: &Url) -> bool {
    let becomes_safe = from.scheme() == "http" && to.scheme() == "https";
    from.host() == to.host()
        && ((from.scheme() == to.scheme() && from.port() == to.port())
            || (becomes_safe && from.port().is_none() && to.port().is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(from: &str, method: Method, status: u16, to: &str) -> (String, Method, bool) {
        let from = Step {
            url: Url::parse(from).unwrap(),
            method,
            trusted: true,
        };
        let next = from.url.join(to).unwrap();
        let step = step(from, StatusCode::from_u16(status).unwrap(), next);
        (step.url.into(), step.method, step.trusted)
    }

    #[test]
    fn passwords_stay_with_their_server() {
        let from = "https://u:p@a.example/x";
        for (to, url, trusted) in [
            ("/y#part", "https://u:p@a.example/y", true),
            ("https://v:q@a.example/", "https://v:q@a.example/", true),
            ("http://a.example/", "http://a.example/", false),
            ("https://a.example:8443/", "https://a.example:8443/", false),
            ("https://b.example/", "https://b.example/", false),
        ] {
            let step = after(from, Method::GET, 302, to);
            assert_eq!(step, (url.to_owned(), Method::GET, trusted), "{to}");
        }
        let step = after("http://u:p@a.example/", Method::GET, 301, "https://a.example/");
        assert_eq!(step.0, "https://u:p@a.example/");
    }

    #[test]
    fn only_some_redirects_keep_the_method() {
        for (method, status, next) in [
            (Method::POST, 302, Method::GET),
            (Method::POST, 303, Method::GET),
            (Method::POST, 307, Method::POST),
            (Method::PUT, 308, Method::PUT),
            (Method::HEAD, 302, Method::HEAD),
        ] {
            assert_eq!(after("http://a.example/", method, status, "/").1, next);
        }
    }
}
