//! Relays that no library would play: silent, endless, lying.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Accepts and says nothing.
    NeverGreets,
    /// Greets with a line that does not end.
    EndlessGreeting,
    /// Offers no STARTTLS.
    NoStartTls,
    /// Puts an answer of its own behind its consent to STARTTLS.
    SmuggledAnswer,
    /// Takes the mail and says nothing.
    SilentAfterMail,
    /// Takes the mail and closes the connection.
    ClosesAfterMail,
    /// Quotes what it is told when it refuses a log-in.
    QuotesLogIn,
    /// Refuses service for now.
    Busy,
}

pub(crate) struct Hostile {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Hostile {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(vec![]));
        let ears = heard.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // The client may go away at any moment.
                let _ = serve(stream, manner, &ears).await;
            }
        });
        Self { address, heard, task }
    }

    /// Everything that it was told.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, manner: Manner, heard: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    match manner {
        Manner::NeverGreets => return listen(&mut stream, heard).await,
        Manner::EndlessGreeting => loop {
            stream.write_all(&[b'2'; 4096]).await?;
        },
        Manner::Busy => {
            stream.write_all(b"421 4.3.2 too busy\r\n").await?;
            return listen(&mut stream, heard).await;
        }
        _ => stream.write_all(b"220 hostile\r\n").await?,
    }
    loop {
        let mut line = vec![];
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        heard.lock().unwrap().extend_from_slice(&line);
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let answer = match line.split(' ').next().unwrap() {
            "EHLO" => match manner {
                Manner::SmuggledAnswer => "250-hostile\r\n250 STARTTLS".into(),
                _ => "250-hostile\r\n250 AUTH PLAIN".into(),
            },
            "STARTTLS" => {
                let smuggled = "220 go ahead\r\n250-hostile\r\n250 AUTH PLAIN\r\n";
                stream.write_all(smuggled.as_bytes()).await?;
                return listen(&mut stream, heard).await;
            }
            "AUTH" if manner == Manner::QuotesLogIn => format!("535 5.7.8 you said {line}"),
            "AUTH" => "235 2.7.0 ok".into(),
            "DATA" => {
                stream.write_all(b"354 go ahead\r\n").await?;
                let mut last = String::new();
                while last != ".\r\n" {
                    last.clear();
                    stream.read_line(&mut last).await?;
                }
                if manner == Manner::ClosesAfterMail {
                    return Ok(());
                }
                return listen(&mut stream, heard).await;
            }
            _ => "250 ok".into(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

/// Says nothing more until the client goes away.
async fn listen(stream: &mut BufReader<TcpStream>, heard: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let mut bytes = [0; 1024];
    loop {
        let read = stream.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        heard.lock().unwrap().extend_from_slice(&bytes[..read]);
    }
}
