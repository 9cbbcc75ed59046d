//! The connection's bytes: lines in, buffered output that stops at exactly the byte at which a fault or a callback is due.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::fault::Action;
use crate::record::locked;
use crate::shared::Shared;

/// Output is written when so much has gathered, or when asked.
const GATHER: usize = 64 * 1024;
/// Lines longer than this end the connection whatever the limit of the world says.
const LONGEST_LINE: usize = 1024 * 1024;
const LONGEST_LITERAL: usize = 160 * 1024 * 1024;

/// The connection is at its end: the client left, or a fault ended it.
#[derive(Debug)]
pub(crate) struct Hangup;

impl From<std::io::Error> for Hangup {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

pub(crate) struct Wire {
    stream: TlsStream<TcpStream>,
    shared: Arc<Shared>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Whose byte faults count here.
    pub(crate) mailbox: Option<Arc<str>>,
    /// What is written now counts as FETCH data.
    pub(crate) fetching: bool,
    /// Literals leave in writes of so many bytes.
    pub(crate) split: Option<usize>,
}

impl Wire {
    pub(crate) fn new(stream: TlsStream<TcpStream>, shared: Arc<Shared>) -> Self {
        Self { stream, shared, input: Vec::new(), output: Vec::new(), mailbox: None, fetching: false, split: None }
    }

    /// The next line without its CRLF; safe to drop before its end.
    pub(crate) async fn line(&mut self) -> Result<Vec<u8>, Hangup> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.input.iter().skip(searched).position(|byte| *byte == b'\n').map(|place| place + searched) {
                let mut line: Vec<u8> = self.input.drain(..=end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                if self.input.is_empty() {
                    // An idle session keeps no buffer.
                    self.input = Vec::new();
                }
                return Ok(line);
            }
            searched = self.input.len();
            if searched > LONGEST_LINE || self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(Hangup);
            }
        }
    }

    pub(crate) async fn literal(&mut self, length: usize) -> Result<Vec<u8>, Hangup> {
        if length > LONGEST_LITERAL {
            return Err(Hangup);
        }
        while self.input.len() < length {
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(Hangup);
            }
        }
        Ok(self.input.drain(..length).collect())
    }

    pub(crate) async fn put(&mut self, bytes: &[u8]) -> Result<(), Hangup> {
        self.output.extend_from_slice(bytes);
        if self.output.len() >= GATHER { self.write_gathered().await } else { Ok(()) }
    }

    pub(crate) async fn put_line(&mut self, line: &str) -> Result<(), Hangup> {
        self.put(line.as_bytes()).await?;
        self.put(b"\r\n").await
    }

    /// A piece of a literal.
    pub(crate) async fn put_piece(&mut self, piece: &Bytes) -> Result<(), Hangup> {
        if let Some(size) = self.split {
            self.flush().await?;
            for part in piece.chunks(size.max(1)) {
                self.write(part).await?;
                self.stream.flush().await?;
            }
            Ok(())
        } else if piece.len() >= GATHER / 4 {
            self.write_gathered().await?;
            self.write(piece).await
        } else {
            self.put(piece).await
        }
    }

    /// Everything gathered leaves now.
    pub(crate) async fn flush(&mut self) -> Result<(), Hangup> {
        self.write_gathered().await?;
        self.output = Vec::new();
        Ok(self.stream.flush().await?)
    }

    /// Sends `* BYE text` and ends.
    pub(crate) async fn bye(&mut self, text: &str) -> Hangup {
        let _ = self.put_line(&format!("* BYE {text}")).await;
        self.close().await
    }

    /// Ends politely: what was written arrives, TLS is closed.
    pub(crate) async fn close(&mut self) -> Hangup {
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
        Hangup
    }

    /// Reads on without ever answering, until the client leaves.
    pub(crate) async fn stall(&mut self) -> Hangup {
        self.shared.record.stalls.fetch_add(1, Ordering::Relaxed);
        let mut ignored = [0; 1024];
        while matches!(self.stream.read(&mut ignored).await, Ok(read) if read > 0) {}
        Hangup
    }

    async fn write_gathered(&mut self) -> Result<(), Hangup> {
        let gathered = std::mem::take(&mut self.output);
        self.write(&gathered).await?;
        self.output = gathered;
        self.output.clear();
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Hangup> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let until_event = self.bytes_left();
            let take = until_event.map_or(rest.len(), |left| rest.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            let (now, later) = rest.split_at_checked(take.max(1)).unwrap_or((rest, &[]));
            if self.fetching {
                // Before the write: whoever has received bytes finds them counted.
                self.shared.record.fetched_bytes.fetch_add(now.len() as u64, Ordering::Relaxed);
            }
            self.stream.write_all(now).await?;
            rest = later;
            let callbacks = if self.fetching && until_event.is_some() { self.shared.record.spend(now.len() as u64) } else { Vec::new() };
            let faults = if until_event.is_some() { self.spend(now.len() as u64) } else { Vec::new() };
            if !callbacks.is_empty() || !faults.is_empty() {
                self.stream.flush().await?;
            }
            for callback in callbacks {
                callback();
            }
            for fault in faults {
                self.strike(fault).await?;
            }
        }
        Ok(())
    }

    /// Bytes until something is due on this connection.
    fn bytes_left(&self) -> Option<u64> {
        let callback = if self.fetching { self.shared.record.bytes_left() } else { None };
        let mut world = locked(&self.shared.world);
        let server = world.exchange.faults.bytes_left();
        let mailbox = self.mailbox.as_ref().and_then(|mailbox| world.mailbox(mailbox).ok()).and_then(|mailbox| mailbox.faults.bytes_left());
        [callback, server, mailbox].into_iter().flatten().min()
    }

    fn spend(&self, bytes: u64) -> Vec<Action> {
        let mut world = locked(&self.shared.world);
        let mut due = world.exchange.faults.spend(bytes);
        if let Some(mailbox) = self.mailbox.as_ref().and_then(|mailbox| world.mailbox(mailbox).ok()) {
            due.extend(mailbox.faults.spend(bytes));
        }
        due
    }

    async fn strike(&mut self, fault: Action) -> Result<(), Hangup> {
        match fault {
            Action::Stall => Err(self.stall().await),
            Action::Delay(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Action::Inject(bytes) => Ok(self.stream.write_all(&bytes).await?),
            Action::Run(change) => {
                change(&mut locked(&self.shared.world));
                Ok(())
            }
            Action::Bye(text) => {
                self.stream.write_all(format!("* BYE {text}\r\n").as_bytes()).await?;
                let _ = self.stream.shutdown().await;
                Err(Hangup)
            }
            _ => Err(Hangup),
        }
    }
}
