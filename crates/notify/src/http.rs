//! One HTTP request and what its answer means. The channels that speak HTTP differ in what they send, not in this.
//!
//! A client that lives for long would meet connections that died meanwhile; alerts are rare and must not fail for that, so
//! each attempt opens a connection of its own. Nothing repeats a request, and no redirect is followed: the address is often
//! the secret, and a POST that becomes a GET delivers nothing.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use serde::Serialize;
use service::clock::SharedClock;
use tokio::time::timeout;

use crate::channel::origin;
use crate::failure::{self, Failure, Receipt};
use crate::gate::{Gate, Gated, Held};
use crate::tls::Roots;

/// Bytes of an answer that are read. What servers say about a failure is shorter; more is nobody's explanation.
const ANSWER_MAX: usize = 16 << 10;

/// Time for the rest of an answer whose status is known to be a failure: the text is a courtesy.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Time for name, connection and TLS. Below the deadline of an attempt, so that a host that does not answer at all is told
/// apart from one that may have taken the message.
const CONNECT_LIMIT: Duration = Duration::from_secs(6);

/// A request that waits to be sent.
pub(crate) struct Outgoing {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Finds the time to wait in the body of a refusal, for services that put it there.
    pub(crate) wait_in_body: fn(&[u8]) -> Option<Duration>,
}

impl Outgoing {
    /// A POST of any bytes.
    pub(crate) fn new(address: &str, content_type: &'static str, body: Vec<u8>) -> Result<Self, Failure> {
        let url =
            Url::parse(address).map_err(|error| Failure::permanent(format!("not an address: {error}")))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(Self {
            url,
            headers,
            body,
            wait_in_body: |_| None,
        })
    }

    /// A POST of JSON.
    pub(crate) fn json(address: &str, body: &impl Serialize) -> Result<Self, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::permanent(format!("cannot be written as JSON: {error}")))?;
        Self::new(address, "application/json", body)
    }
}

/// The server and topic of a topic's address.
pub(crate) fn split_topic(address: &str) -> Option<(Url, String)> {
    let mut url = Url::parse(address).ok()?;
    let path = url.path().trim_end_matches('/').to_owned();
    let (server, topic) = path.rsplit_once('/')?;
    let is_topic = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if topic.is_empty() || topic.len() > 64 || !topic.chars().all(is_topic) {
        return None;
    }
    url.set_path(&format!("{server}/"));
    Some((url, topic.to_owned()))
}

/// The client of all channels that speak HTTP. With `proxy`, the machine's variables (`HTTPS_PROXY` and the like) are obeyed.
pub(crate) fn client(roots: &Roots, proxy: bool) -> Result<Client, String> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(roots.client(&[b"http/1.1"])?)
        .http1_only()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_LIMIT)
        .user_agent(concat!("mainstay/", env!("CARGO_PKG_VERSION")));
    if !proxy {
        builder = builder.no_proxy();
    }
    builder.build().map_err(root_cause)
}

/// Sends it and judges the answer.
pub(crate) async fn post(
    client: &Client,
    outgoing: Outgoing,
    gate: &Gate,
    clock: &SharedClock,
) -> Result<Receipt, Failure> {
    let Outgoing {
        url,
        headers,
        body,
        wait_in_body,
    } = outgoing;
    let scheme = url.scheme().to_owned();
    let body = reqwest::Body::wrap(Gated::new(body, gate.clone()));
    let sent = client.post(url).headers(headers).body(body).send().await;
    let response = sent.map_err(|error| {
        if is_held(&error) {
            return Failure::held();
        }
        let connecting = error.is_connect();
        let timed_out = error.is_timeout();
        let cause = root_cause(error);
        if connecting && timed_out {
            Failure::temporary(format!("cannot connect within {CONNECT_LIMIT:?}"))
        } else if connecting {
            Failure::temporary(format!("cannot connect: {cause}"))
        } else {
            // The request, or a part of it, was on its way.
            Failure::temporary(format!("no answer: {cause}")).maybe_taken(true)
        }
    })?;
    let status = response.status();
    let Some(kind) = failure::kind_of_status(status.as_u16()) else {
        return Ok(Receipt {
            answer: status.to_string(),
            remarks: vec![],
        });
    };
    let wait = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| failure::retry_after(value, clock.unix_ms()));
    let text = match redirect_target(&response, &scheme) {
        Some(target) => format!(
            "{status}: it points to {target}; redirects are not followed, so write the address it leads to"
        ),
        None => status.to_string(),
    };
    let answer = read(response).await;
    let quoted = String::from_utf8_lossy(&answer);
    let quoted = quoted.trim();
    Err(Failure {
        kind,
        retry_after: None,
        uncertain: failure::is_from_gateway(status.as_u16()),
        held: false,
        text: match quoted {
            "" => text,
            quoted => format!("{text}: {quoted}"),
        },
    }
    .after(wait.max(wait_in_body(&answer))))
}

/// Where a redirect leads: scheme and host only.
fn redirect_target(response: &Response, scheme: &str) -> Option<String> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    match Url::parse(location) {
        Ok(url) if url.host_str().is_some() => Some(origin(&url)),
        _ if location.starts_with("//") => Some(format!("another host by {scheme}")),
        _ => Some("another path of the same host".into()),
    }
}

/// The beginning of the body; what came until it broke off or took too long.
async fn read(mut response: Response) -> Vec<u8> {
    let mut body = vec![];
    // Cut short or not, it is only quoted.
    let _ = timeout(ANSWER_LIMIT, async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = ANSWER_MAX - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                break;
            }
        }
    })
    .await;
    body
}

/// Whether the gate was closed.
fn is_held(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<Held>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The innermost error: `Connection refused (os error 111)` instead of three layers of libraries. Without the address.
fn root_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // A cause that says nothing by itself.
    match cause.to_string() {
        text if text.is_empty() => error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_split_from_their_server() {
        let split = |address| split_topic(address).map(|(url, topic)| (url.to_string(), topic));
        let some = |server: &str, topic: &str| Some((server.to_owned(), topic.to_owned()));
        assert_eq!(
            split("https://ntfy.sh/alerts"),
            some("https://ntfy.sh/", "alerts")
        );
        assert_eq!(split("https://h/n/alerts_1/"), some("https://h/n/", "alerts_1"));
        assert_eq!(
            split("https://ntfy.sh/alerts?auth=x"),
            some("https://ntfy.sh/?auth=x", "alerts")
        );
        assert_eq!(split("https://ntfy.sh/"), None);
        assert_eq!(split("https://ntfy.sh/a%20b"), None);
        assert_eq!(split("https://ntfy.sh"), None);
    }
}
