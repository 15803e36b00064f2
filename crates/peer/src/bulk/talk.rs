//! A connection that carries a directory: frames, and a word every second while there is nothing else to say.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use crate::dial::Open;
use crate::frame::{self, Frame, Kind, ReadError, Reader};
use crate::settings::Limits;
use crate::stream::{self, BoxReader, BoxWriter};

/// See the module.
pub(super) struct Talk {
    reader: Reader<BoxReader>,
    writer: BoxWriter,
    every: Duration,
    wait_at: Instant,
    silence_max: Duration,
}

/// Why it is over.
#[derive(Debug)]
pub(super) enum Lost {
    /// What came was damaged or is no frame.
    Bad(String),
    /// The other end is not there any more.
    Gone(String),
}

impl From<ReadError> for Lost {
    fn from(error: ReadError) -> Lost {
        match error {
            ReadError::Frame(error) => Lost::Bad(error.to_string()),
            other => Lost::Gone(other.to_string()),
        }
    }
}

impl Talk {
    pub(super) fn new(open: Open, limits: &Limits) -> Talk {
        let mut reader = open.reader;
        reader.set_max(limits.frame_bytes);
        reader.set_silence_max(limits.silence_max);
        reader.set_frame_timeout(limits.frame_timeout);
        Talk {
            reader,
            writer: open.writer,
            every: limits.ping_every,
            wait_at: Instant::now() + limits.ping_every,
            silence_max: limits.silence_max,
        }
    }

    /// The next frame that says something.
    pub(super) async fn next(&mut self) -> Result<Frame, Lost> {
        loop {
            let frame = tokio::select! {
                frame = self.reader.next() => frame?,
                () = tokio::time::sleep_until(self.wait_at) => {
                    self.wait().await?;
                    continue;
                }
            };
            if frame.kind != Kind::Wait {
                return Ok(frame);
            }
        }
    }

    /// Works, however long it takes, even if the connection is lost meanwhile: what is done with files must not go on behind the
    /// back of whoever comes next.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Lost> {
        let mut work = std::pin::pin!(work);
        let mut lost = None;
        loop {
            tokio::select! {
                done = &mut work => return lost.map_or(Ok(done), Err),
                () = tokio::time::sleep_until(self.wait_at), if lost.is_none() => {
                    lost = self.wait().await.err();
                }
            }
        }
    }

    async fn wait(&mut self) -> Result<(), Lost> {
        let mut out = Vec::new();
        frame::put(&mut out, Kind::Wait, |_| {});
        self.send(&out).await
    }

    /// Sends.
    pub(super) async fn send(&mut self, out: &[u8]) -> Result<(), Lost> {
        self.wait_at = Instant::now() + self.every;
        let written = tokio::time::timeout(self.silence_max, write(&mut self.writer, out)).await;
        written.unwrap_or_else(|_| Err(Lost::Gone("timeout: the peer reads nothing".to_owned())))
    }

    /// Sends, and gives up if the other end says something meanwhile.
    pub(super) async fn send_and_listen(&mut self, out: &[u8]) -> Result<Option<Frame>, Lost> {
        self.wait_at = Instant::now() + self.every;
        let mut writing = std::pin::pin!(write(&mut self.writer, out));
        loop {
            tokio::select! {
                written = &mut writing => {
                    let Err(lost) = written else { return Ok(None) };
                    // Whoever closes the connection may have said why.
                    return loop {
                        match self.reader.next().await {
                            Ok(frame) if frame.kind == Kind::Wait => {}
                            Ok(frame) => break Ok(Some(frame)),
                            Err(_) => break Err(lost),
                        }
                    };
                }
                frame = self.reader.next() => match frame? {
                    frame if frame.kind == Kind::Wait => {}
                    frame => return Ok(Some(frame)),
                },
            }
        }
    }

    /// Sends a last word and closes.
    pub(super) async fn finish(mut self, out: &[u8]) {
        if self.send(out).await.is_ok() {
            let reader = self.reader.into_inner();
            stream::close(&mut self.writer, reader).await;
        }
    }
}

async fn write(writer: &mut BoxWriter, out: &[u8]) -> Result<(), Lost> {
    let written = match writer.write_all(out).await {
        Ok(()) => writer.flush().await,
        Err(error) => Err(error),
    };
    written.map_err(|error| Lost::Gone(error.to_string()))
}
