//! The http check: HTTP/1.1 by hand over a connection of our own, so that each phase can be timed and named.
//!
//! Every hop of a redirect is a new lookup, a new connection and a new handshake; equal phases add up. The body is
//! searched as it comes and never kept, so a probe's memory does not depend on what it is sent.

mod body;
mod redirect;

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use url::Url;

use crate::connect;
use crate::host::Host;
use crate::journal::{Failure, Journal, Phase};
use crate::nameserver::Nameserver;
use crate::probe::{self, Http};
use crate::resolve::Resolver;
use crate::{shortage, tls, wording};
use body::Search;

/// Redirects that are followed, as many as browsers' users put up with and curl's and Go's default.
const REDIRECTS_MAX: usize = 10;

/// Room for the head of an answer: as much as common servers send at most, and four times hyper's smallest buffer.
const HEAD_MAX: usize = 32 << 10;

/// Part of a body that is read.
const BODY_MAX: usize = 1 << 20;

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Requester {
    user_agent: HeaderValue,
}

/// What came of one hop.
enum Hop {
    Done(String),
    Redirect(StatusCode, Url),
}

/// A request as it stands after the redirects so far.
struct Step {
    url: Url,
    method: Method,
    /// Whether headers and password of the check may go to this host.
    trusted: bool,
}

impl Requester {
    /// Nothing, if the version cannot stand in a header.
    pub(crate) fn new(version: &str) -> Option<Self> {
        let user_agent = HeaderValue::from_str(&format!("quptime/{version}")).ok()?;
        Some(Self { user_agent })
    }

    /// The http check.
    pub(crate) async fn look(
        &self,
        http: &Http,
        resolvers: &[Nameserver],
        resolver: &Resolver,
        tls: &tls::Client,
        journal: &Journal,
        deadline: Instant,
    ) -> Result<String, Failure> {
        let mut step = Step {
            url: http.url.clone(),
            method: http.method.clone(),
            trusted: true,
        };
        let mut seen = HashSet::new();
        for hops in 0..=REDIRECTS_MAX {
            if !seen.insert((step.method.clone(), step.url.clone())) {
                return Err(Failure::down(format!(
                    "redirect loop at {}",
                    probe::shown(&step.url)
                )));
            }
            let host = step.url.host().and_then(|host| Host::from_url(&host));
            let port = step.url.port_or_known_default();
            let (Some(host), Some(port)) = (host, port) else {
                return Err(Failure::down(format!("bad URL {}", probe::shown(&step.url))));
            };
            let hop = async {
                let stream = connect::to(&host, port, resolvers, resolver, journal, deadline).await?;
                if step.url.scheme() == "https" {
                    let config = tls.for_http(http.ca_file.as_deref())?;
                    let stream = tls.handshake(config, &host, stream, journal).await?;
                    self.exchange(http, &step, stream, journal).await
                } else {
                    self.exchange(http, &step, stream, journal).await
                }
            };
            match hop.await.map_err(|failure| at_hop(failure, hops, &step.url))? {
                Hop::Done(text) => return Ok(text),
                Hop::Redirect(status, next) => step = redirect::step(step, status, next),
            }
        }
        Err(Failure::down(format!("more than {REDIRECTS_MAX} redirects")))
    }

    /// One request on one connection, which ends with it.
    async fn exchange<S>(
        &self,
        http: &Http,
        step: &Step,
        stream: S,
        journal: &Journal,
    ) -> Result<Hop, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        journal.enter(Phase::FirstByte);
        let failed = |error: &hyper::Error| broken(Phase::FirstByte, error);
        let request = self.request(http, step)?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        let mut connection = Driven::new(Box::pin(connection));
        let response = connection
            .beside(sender.send_request(request))
            .await
            .map_err(|error| failed(&error))?;
        journal.leave();
        let status = response.status();
        if let Some(next) = redirect::target(&response, http, &step.url)? {
            return Ok(Hop::Redirect(status, next));
        }
        let as_wanted = match http.expect_status {
            0 => status.is_success(),
            wanted => status.as_u16() == wanted,
        };
        if !as_wanted {
            return Err(Failure::down(format!("status {}", status.as_u16())));
        }
        journal.enter(Phase::Transfer);
        let encoding = response.headers().get(CONTENT_ENCODING).cloned();
        let found = read_body(&mut connection, response, &http.body_match).await?;
        journal.leave();
        if found {
            return Ok(Hop::Done(format!("status {}", status.as_u16())));
        }
        // We ask for no encoding, but some servers compress regardless, and then nothing can be found.
        Err(Failure::Down(match encoding.as_ref().map(HeaderValue::to_str) {
            Some(Ok(encoding)) if encoding != "identity" => {
                format!("body match miss (the body is encoded: {encoding})")
            }
            _ => "body match miss".to_owned(),
        }))
    }

    fn request(&self, http: &Http, step: &Step) -> Result<Request<Empty<Bytes>>, Failure> {
        let url = &step.url;
        let bad = |what: &str| Failure::down(format!("{what} cannot be sent: {}", probe::shown(url)));
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let mut request = Request::builder()
            .method(step.method.clone())
            .uri(target)
            .header(HOST, host)
            .header(USER_AGENT, self.user_agent.clone())
            .header(ACCEPT, "*/*")
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(|_| bad("this address"))?;
        if step.trusted || !url.username().is_empty() {
            let value = basic_auth(url).transpose().map_err(|()| bad("this password"))?;
            request
                .headers_mut()
                .extend(value.map(|value| (Some(AUTHORIZATION), value)));
        }
        if step.trusted {
            for name in http.headers.keys() {
                request.headers_mut().remove(name);
            }
            for (name, value) in &http.headers {
                request.headers_mut().append(name, value.clone());
            }
        }
        Ok(request)
    }
}

/// Says which URL failed, if it is not the one of the check.
fn at_hop(failure: Failure, hops: usize, url: &Url) -> Failure {
    match failure {
        Failure::Down(text) if hops > 0 => {
            let redirects = if hops == 1 { "redirect" } else { "redirects" };
            Failure::Down(format!(
                "{text} (at {} after {hops} {redirects})",
                probe::shown(url)
            ))
        }
        other => other,
    }
}

/// User and password of a URL as a header.
fn basic_auth(url: &Url) -> Option<Result<HeaderValue, ()>> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut plain = percent_decoded(url.username());
    plain.push(b':');
    plain.extend(percent_decoded(url.password().unwrap_or_default()));
    let text = format!("Basic {}", BASE64_STANDARD.encode(plain));
    let value = HeaderValue::from_str(&text).map_err(|_| ());
    Some(value.map(|mut value| {
        value.set_sensitive(true);
        value
    }))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (Some(high), Some(low)) if *byte == b'%' => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Reads the body up to its end or the limit; whether the text was in it.
async fn read_body<C: Future>(
    connection: &mut Driven<C>,
    response: Response<Incoming>,
    text: &str,
) -> Result<bool, Failure> {
    use http_body_util::BodyExt as _;

    let mut search = Search::new(text.as_bytes());
    let mut body = response.into_body();
    let mut left = BODY_MAX;
    while let Some(frame) = connection.beside(body.frame()).await {
        let frame = frame.map_err(|error| broken(Phase::Transfer, &error))?;
        let Some(data) = frame.data_ref() else { continue };
        let part = data.get(..left).unwrap_or(data);
        search.feed(part);
        left -= part.len();
        if left == 0 {
            break;
        }
    }
    Ok(search.found())
}

/// An exchange that ended early.
fn broken(phase: Phase, error: &hyper::Error) -> Failure {
    let ours = system_error(error).is_some_and(shortage::is_ours);
    Failure::in_phase(phase, error_text(error)).unless(ours)
}

/// What the system said, if that is what ended an exchange.
fn system_error(error: &hyper::Error) -> Option<&std::io::Error> {
    std::error::Error::source(error).and_then(|cause| cause.downcast_ref())
}

/// What ended an exchange, in the operator's words.
fn error_text(error: &hyper::Error) -> String {
    if error.is_parse_too_large() {
        return format!("head of the answer above {} KiB", HEAD_MAX >> 10);
    }
    if error.is_parse() {
        return "not an HTTP answer".to_owned();
    }
    let cause = system_error(error);
    let ended = match cause {
        Some(cause) => cause.kind() == std::io::ErrorKind::UnexpectedEof,
        None => error.is_incomplete_message() || error.is_canceled(),
    };
    match cause {
        _ if ended => "connection closed before the answer was complete".to_owned(),
        Some(cause) => wording::io(cause),
        None => error.to_string(),
    }
}

/// A connection that only moves while somebody waits for something on it: no task of its own, nothing to clean up.
struct Driven<C> {
    connection: Pin<Box<C>>,
    ended: bool,
}

impl<C: Future> Driven<C> {
    fn new(connection: Pin<Box<C>>) -> Self {
        Self {
            connection,
            ended: false,
        }
    }

    /// Waits for `wanted` while the connection moves. Its end is no result of its own: `wanted` then tells.
    async fn beside<T>(&mut self, wanted: impl Future<Output = T>) -> T {
        let mut wanted = pin!(wanted);
        poll_fn(|context| {
            if let Poll::Ready(value) = wanted.as_mut().poll(context) {
                return Poll::Ready(value);
            }
            if !self.ended {
                self.ended = self.connection.as_mut().poll(context).is_ready();
            }
            wanted.as_mut().poll(context)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_decoded_before_they_are_encoded() {
        let url = Url::parse("http://us%65r:p%40ss%zz@example.com/").unwrap();
        let value = basic_auth(&url).unwrap().unwrap();
        assert_eq!(value, format!("Basic {}", BASE64_STANDARD.encode("user:p@ss%zz")));
        assert!(value.is_sensitive());
        assert!(basic_auth(&Url::parse("http://example.com/").unwrap()).is_none());
    }
}
