//! One question to one server: over UDP, sent again when it seems lost, and over TCP when the answer was cut.
//!
//! Each question has a socket of its own, connected, so that only the server's answers arrive and a closed port shows
//! at once; its port and the message's id are random. EDNS is not used: every server understands a plain query, and
//! answers above 512 bytes are rare enough for TCP.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::wording;

/// Time until a UDP query is sent again; doubled each time. The whole exchange is limited by the caller, often to less
/// than a second, in which one lost datagram must not fail a probe.
const RETRANSMIT: Duration = Duration::from_millis(300);

/// Room for a UDP answer. Without EDNS it has at most 512 bytes (RFC 1035, 4.2.1); some servers do not care.
const DATAGRAM_MAX: usize = 1500;

/// Why a server gave no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It did not answer in its share of the time.
    Silent,
    /// It could not be reached.
    Io(io::Error),
    /// It answered something that is not an answer.
    Garbled,
    /// It says that it failed, or refuses.
    Code(ResponseCode),
    /// It is given by a name that has no address.
    Unknown,
    /// It is given by a name, and this machine lacked what looking that up takes.
    Unasked(String),
}

impl PartialEq for Trouble {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Trouble {}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("timeout"),
            Self::Io(error) => f.write_str(&wording::io(error)),
            Self::Garbled => f.write_str("bad answer"),
            Self::Code(code) => f.write_str(&code_text(*code)),
            Self::Unknown => f.write_str("no address"),
            Self::Unasked(text) => f.write_str(text),
        }
    }
}

/// The names that operators know from `dig`.
pub(crate) fn code_text(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => format!("RCODE{}", u16::from(other)),
    }
}

/// Asks until there is an answer; the caller limits the time.
pub(crate) async fn ask(
    server: SocketAddr,
    name: &Name,
    record_type: RecordType,
) -> Result<Message, Trouble> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), record_type));
    let bytes = question.to_vec().map_err(|_| Trouble::Garbled)?;
    let answer = over_udp(server, &question, &bytes).await?;
    if answer.metadata.truncation {
        return over_tcp(server, &question, &bytes).await;
    }
    Ok(answer)
}

async fn over_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, Trouble> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(Trouble::Io)?;
    socket.connect(server).await.map_err(Trouble::Io)?;
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut patience = RETRANSMIT;
    loop {
        socket.send(bytes).await.map_err(Trouble::Io)?;
        let answer = tokio::time::timeout(patience, async {
            loop {
                let length = socket.recv(&mut buffer).await.map_err(Trouble::Io)?;
                // Whatever does not answer this question may be forged or late; the answer can still come.
                if let Some(answer) = buffer.get(..length).and_then(|bytes| accepted(bytes, question)) {
                    return Ok(answer);
                }
            }
        });
        match answer.await {
            Ok(result) => return result,
            Err(_) => patience *= 2,
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, Trouble> {
    let mut stream = TcpStream::connect(server).await.map_err(Trouble::Io)?;
    let length = u16::try_from(bytes.len()).map_err(|_| Trouble::Garbled)?;
    let framed = [&length.to_be_bytes(), bytes].concat();
    stream.write_all(&framed).await.map_err(Trouble::Io)?;
    let length = stream.read_u16().await.map_err(Trouble::Io)?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await.map_err(Trouble::Io)?;
    accepted(&answer, question).ok_or(Trouble::Garbled)
}

/// The message, if it answers the question.
fn accepted(bytes: &[u8], question: &Message) -> Option<Message> {
    // A truncated answer may end in the middle of a record; its head and question are all that is needed of it.
    let answer = Message::from_vec(bytes)
        .or_else(|error| cut_to_question(bytes).ok_or(error))
        .ok()?;
    let answers = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        // Servers that cannot even read a query answer without repeating it.
        && (answer.queries == question.queries
            || (answer.queries.is_empty() && answer.metadata.response_code != ResponseCode::NoError));
    answers.then_some(answer)
}

/// A truncated message without any record, if these bytes are one.
fn cut_to_question(bytes: &[u8]) -> Option<Message> {
    /// The flag "truncated" in the third byte of a message (RFC 1035, 4.1.1).
    const TC: u8 = 0b10;
    /// Bytes 6 to 12 count the records of the three sections.
    const COUNTS: std::ops::Range<usize> = 6..12;
    if bytes.get(2)? & TC == 0 {
        return None;
    }
    let mut head = bytes.to_vec();
    head.get_mut(COUNTS)?.fill(0);
    Message::from_vec(&head).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Message {
        let mut question = Message::query();
        question.add_query(Query::query(
            Name::from_ascii("a.example.").unwrap(),
            RecordType::A,
        ));
        question
    }

    #[test]
    fn only_answers_to_the_question_are_accepted() {
        let question = question();
        assert!(accepted(&question.to_vec().unwrap(), &question).is_none());
        let answer = question.clone().into_response();
        assert!(accepted(&answer.to_vec().unwrap(), &question).is_some());

        let mut other_id = answer.clone();
        other_id.metadata.id = answer.metadata.id.wrapping_add(1);
        assert!(accepted(&other_id.to_vec().unwrap(), &question).is_none());

        let mut other_name = answer.clone();
        other_name.queries = vec![Query::query(
            Name::from_ascii("b.example.").unwrap(),
            RecordType::A,
        )];
        assert!(accepted(&other_name.to_vec().unwrap(), &question).is_none());

        let mut failed = answer.clone();
        failed.queries.clear();
        assert!(accepted(&failed.to_vec().unwrap(), &question).is_none());
        failed.metadata.response_code = ResponseCode::FormErr;
        assert!(accepted(&failed.to_vec().unwrap(), &question).is_some());
    }

    #[test]
    fn an_answer_cut_in_a_record_still_says_that_it_was_cut() {
        let question = question();
        let mut answer = question.clone().into_response();
        answer.metadata.truncation = true;
        let mut bytes = answer.to_vec().unwrap();
        // One record is announced, and half of it is there.
        bytes[7] = 1;
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0]);
        let read = accepted(&bytes, &question).unwrap();
        assert!(read.metadata.truncation && read.answers.is_empty());
        bytes[2] &= !0b10;
        assert!(accepted(&bytes, &question).is_none());
    }
}
