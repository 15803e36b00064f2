//! A client of Prometheus' HTTP API: instant and range queries that come to one number at a moment.
//!
//! What comes back is read strictly and within bounds. A server that is away or answers with something else ([`Trouble::Down`]) is told
//! apart from one that understands and refuses ([`Trouble::Refused`]).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;

/// Bytes of an answer that are read. A range of a month in hours is a fiftieth of it.
const ANSWER_MAX: usize = 4 << 20;

/// Time for name, connection and TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Characters of somebody else's text that are quoted.
const QUOTE_MAX: usize = 200;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody answers there, or not Prometheus.
    Down(String),
    /// It took longer than it may.
    Slow(String),
    /// It does not like the query, or the answer is none that an objective can have.
    Refused(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Down(text) | Trouble::Slow(text) | Trouble::Refused(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Trouble {}

/// A sample: seconds since 1970, and the value.
pub type Sample = (f64, f64);

/// An endpoint. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Prometheus {
    client: Client,
    address: Url,
    token_file: Option<PathBuf>,
    limit: Duration,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Instant>),
    Matrix(Vec<Range>),
    Scalar((f64, String)),
}

#[derive(Deserialize)]
struct Instant {
    value: (f64, String),
}

#[derive(Deserialize)]
struct Range {
    values: Vec<(f64, String)>,
}

impl Prometheus {
    /// The endpoint at an address: `http://prometheus:9090`, with a path if it lives under one.
    ///
    /// # Errors
    /// The address is none, or has a password in it.
    pub fn new(address: &str, token_file: Option<PathBuf>, limit: Duration) -> Result<Prometheus> {
        let url = Url::parse(address)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some());
        let Some(mut address) = url else {
            bail!("endpoint {address:?} is no address; write http://HOST:9090");
        };
        if address.password().is_some() {
            bail!(
                "the endpoint has a password in it, which everybody can read; put a token into a file and name it as token_file"
            );
        }
        address.set_query(None);
        address.set_fragment(None);
        let path = address.path().trim_end_matches('/').to_owned();
        address.set_path(&path);
        // What is measured lies near; the proxy of a machine is for what is far.
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_LIMIT.min(limit))
            .timeout(limit)
            .user_agent(concat!("mainstay/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("set up queries")?;
        Ok(Prometheus {
            client,
            address,
            token_file,
            limit,
        })
    }

    /// Its address.
    pub fn address(&self) -> &str {
        self.address.as_str()
    }

    /// The value of an expression at a moment (milliseconds since 1970); `None` if there is no series.
    ///
    /// # Errors
    /// There is no answer, or it is not one value.
    pub async fn instant(&self, query: &str, at_ms: u64) -> Result<Option<f64>, Trouble> {
        let time = seconds(at_ms);
        match self.ask("query", &[("query", query), ("time", &time)]).await? {
            Data::Vector(series) => match &series[..] {
                [] => Ok(None),
                [one] => number(&one.value.1).map(Some),
                more => Err(several(more.len())),
            },
            Data::Scalar((_, value)) => number(&value).map(Some),
            Data::Matrix(_) => Err(Trouble::Refused(
                "it answers with a range; a number is wanted".to_owned(),
            )),
        }
    }

    /// The values of an expression from a moment to another, a step apart; only those that there are.
    ///
    /// # Errors
    /// There is no answer, or it has several series.
    pub async fn range(
        &self,
        query: &str,
        from_ms: u64,
        until_ms: u64,
        step: Duration,
    ) -> Result<Vec<Sample>, Trouble> {
        let (from, until, step) = (
            seconds(from_ms),
            seconds(until_ms),
            step.as_secs_f64().to_string(),
        );
        let form = [
            ("query", query),
            ("start", &from),
            ("end", &until),
            ("step", &step),
        ];
        match self.ask("query_range", &form).await? {
            Data::Matrix(series) => match &series[..] {
                [] => Ok(Vec::new()),
                [one] => one
                    .values
                    .iter()
                    .map(|(at, value)| Ok((*at, number(value)?)))
                    .collect(),
                more => Err(several(more.len())),
            },
            Data::Vector(_) | Data::Scalar(_) => Err(Trouble::Refused(
                "it answers with one moment; a range is wanted".to_owned(),
            )),
        }
    }

    async fn ask(&self, what: &str, form: &[(&str, &str)]) -> Result<Data, Trouble> {
        let url = format!("{}/api/v1/{what}", self.address.as_str().trim_end_matches('/'));
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let mut request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        if let Some(path) = &self.token_file {
            // Read each time: tokens are exchanged while programs run.
            let token = std::fs::read_to_string(path)
                .map_err(|error| Trouble::Down(format!("read the token in {}: {error}", path.display())))?;
            request = request.bearer_auth(token.trim());
        }
        let response = request.send().await.map_err(|error| self.trouble(error))?;
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE);
        let kind = kind
            .and_then(|kind| kind.to_str().ok())
            .map(|kind| kind.split(';').next().unwrap_or_default().to_owned());
        let bytes = self.read(response).await?;
        let Ok(answer) = serde_json::from_slice::<Answer>(&bytes) else {
            let kind = kind.unwrap_or_else(|| "something without a type".to_owned());
            return Err(Trouble::Down(format!(
                "it answers {status} with {}, which is no answer of Prometheus",
                quote(&kind)
            )));
        };
        let Answer {
            status: outcome,
            error_type,
            error,
            data,
        } = answer;
        match (outcome.as_str(), data) {
            ("success", Some(data)) if status.is_success() => Ok(data),
            // 503 is a query that it ended, or a server that is not ready.
            ("error", _) if matches!(error_type.as_str(), "timeout" | "canceled") => {
                Err(Trouble::Slow(format!("it gave up: {}", quote(&error))))
            }
            ("error", _) if matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => {
                Err(Trouble::Refused(format!(
                    "{}: {}",
                    quote(&error_type),
                    quote(&error)
                )))
            }
            _ => Err(Trouble::Down(format!("it answers {status}: {}", quote(&error)))),
        }
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.trouble(error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_MAX {
                return Err(Trouble::Down(format!(
                    "its answer is longer than {ANSWER_MAX} bytes"
                )));
            }
        }
        Ok(bytes)
    }

    fn trouble(&self, error: reqwest::Error) -> Trouble {
        let (is_slow, is_connect) = (error.is_timeout(), error.is_connect());
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        match (is_slow, is_connect) {
            (true, true) => Trouble::Down("cannot connect in time".to_owned()),
            (true, false) => Trouble::Slow(format!("no answer within {:?}", self.limit)),
            (false, true) => Trouble::Down(format!("cannot connect: {cause}")),
            (false, false) => Trouble::Down(cause.to_string()),
        }
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// A value as Prometheus writes it. What is no number (`NaN`, infinite) is no answer.
fn number(text: &str) -> Result<f64, Trouble> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(Trouble::Refused(format!("the value is {}", quote(text)))),
    }
}

fn several(count: usize) -> Trouble {
    Trouble::Refused(format!(
        "it answers with {count} series; one is wanted, so add sum()"
    ))
}

/// Somebody else's text, for one of our lines.
fn quote(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(QUOTE_MAX)
        .collect();
    terminal::harmless(&line).into_owned()
}
