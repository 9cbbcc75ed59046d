//! The stream that async-imap reads: the server's bytes after the [`Splitter`]. Commands bypass it: they are written whole, so that one
//! command is one TLS record.
//!
//! It holds no buffer while nothing comes: 10,000 sessions lie idle at once.

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;

use super::splitter::{Splitter, Violation};

/// What is read at once outside a diverted body.
const READ: usize = 16 * 1024;

/// See the module.
pub(super) struct Tap<S> {
    stream: S,
    pub(super) splitter: Splitter,
    received: BytesMut,
    out: BytesMut,
    broken: Option<Violation>,
    last_read: Instant,
    total_read: u64,
}

impl<S> Tap<S> {
    pub(super) fn new(stream: S, max_message_bytes: u64) -> Self {
        Self {
            stream,
            splitter: Splitter::new(max_message_bytes),
            received: BytesMut::new(),
            out: BytesMut::new(),
            broken: None,
            last_read: Instant::now(),
            total_read: 0,
        }
    }

    /// When bytes last came.
    pub(super) fn last_read(&self) -> Instant {
        self.last_read
    }

    /// Bytes received since the beginning.
    pub(super) fn total_read(&self) -> u64 {
        self.total_read
    }

    fn note(&mut self, bytes: usize) {
        if bytes > 0 {
            self.last_read = Instant::now();
            self.total_read += bytes as u64;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tap<S> {
    /// Sends a whole command.
    pub(super) async fn send(&mut self, command: &[u8]) -> io::Result<()> {
        self.stream.write_all(command).await?;
        self.stream.flush().await
    }

    fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let wanted = self.splitter.wanted(self.received.len());
        let room = self.received.capacity() - self.received.len();
        if wanted > 0 {
            if room < wanted {
                self.received.reserve(wanted);
            }
        } else if room < READ / 4 {
            self.received.reserve(READ);
        }
        let read = pin!(self.stream.read_buf(&mut self.received)).poll(cx);
        if read.is_pending() && self.received.is_empty() {
            self.received = BytesMut::new();
            self.out = BytesMut::new();
        }
        let bytes = ready!(read)?;
        self.note(bytes);
        Poll::Ready(Ok(bytes))
    }

    /// Reads an inline literal straight into the parser's buffer.
    fn poll_pass(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = usize::try_from(self.splitter.passing()).unwrap_or(usize::MAX).min(into.remaining());
        let mut part = ReadBuf::new(into.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let bytes = part.filled().len();
        into.advance(bytes);
        self.splitter.passed(bytes);
        self.note(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tap<S> {
    /// Pending without a waker while a part of a diverted body waits: whoever polls must look at [`Splitter::has_diverted`] then.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tap = self.get_mut();
        loop {
            if !tap.out.is_empty() {
                let bytes = tap.out.len().min(into.remaining());
                into.put_slice(tap.out.get(..bytes).unwrap_or_default());
                tap.out.advance(bytes);
                return Poll::Ready(Ok(()));
            }
            if let Some(violation) = tap.broken {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
            }
            if tap.splitter.has_diverted() {
                return Poll::Pending;
            }
            let passing = tap.splitter.passing();
            if passing > 0 {
                if tap.received.is_empty() {
                    return tap.poll_pass(cx, into);
                }
                let bytes = usize::try_from(passing).unwrap_or(usize::MAX).min(into.remaining()).min(tap.received.len());
                into.put_slice(tap.received.get(..bytes).unwrap_or_default());
                tap.received.advance(bytes);
                tap.splitter.passed(bytes);
                return Poll::Ready(Ok(()));
            }
            match tap.splitter.advance(&mut tap.received, &mut tap.out) {
                Ok(true) => {}
                Ok(false) => {
                    if ready!(tap.poll_received(cx))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(violation) => tap.broken = Some(violation),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for Tap<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("total_read", &self.total_read).finish_non_exhaustive()
    }
}
