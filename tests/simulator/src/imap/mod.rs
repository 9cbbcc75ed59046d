//! Exchange Online's IMAP as its clients see it (exchange-online.md 3 and 9.2): one task a connection, implicit TLS.
//! What is right or wrong with a mailbox is read from the world at every command, so that it can be changed under a session's feet.

mod command;
mod fetch;
mod folders;
mod idle;
mod log_in;
mod messages;
mod session;
mod utf7;
mod wire;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::fault::Action;
use crate::record::locked;
use crate::shared::Shared;
use session::Session;
use wire::Wire;

/// Serves one connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, mut tcp: TcpStream, tls: TlsAcceptor) {
    let _open = Open::new(&shared);
    let _ = tcp.set_nodelay(true);
    let actions = locked(&shared.world).exchange.faults.on_command("CONNECT");
    for action in actions {
        match action {
            Action::Run(change) => change(&mut locked(&shared.world)),
            // Accepted, and then nothing: no handshake.
            Action::Stall => {
                let mut ignored = [0; 1024];
                while matches!(tcp.read(&mut ignored).await, Ok(read) if read > 0) {}
                return;
            }
            _ => return,
        }
    }
    let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(30), tls.accept(tcp)).await else { return };
    let wire = Wire::new(stream, Arc::clone(&shared));
    // Boxed: ten thousand idle sessions should not each keep the space of the largest answer.
    Box::pin(Session::new(wire, Arc::clone(&shared)).run()).await;
}

struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.record.connections.fetch_add(1, Ordering::Relaxed);
        shared.record.connections_open.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.record.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}
