//! Exchange Online's POP3 as its clients see it (exchange-online.md 4 and 9.3): one task a connection, implicit TLS. A session sees the
//! messages that were there when it began; a mailbox takes one session at a time.

mod session;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::fault::Action;
use crate::imap::Open;
use crate::imap::wire::Wire;
use crate::record::locked;
use crate::shared::Shared;
use session::Session;

/// Serves one connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, tcp: TcpStream, tls: TlsAcceptor) {
    let _open = Open::new(&shared);
    let _ = tcp.set_nodelay(true);
    for action in locked(&shared.world).exchange.faults.on_command("CONNECT") {
        match action {
            Action::Run(change) => change(&mut locked(&shared.world)),
            _ => return,
        }
    }
    let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(30), tls.accept(tcp)).await else { return };
    let wire = Wire::new(stream, Arc::clone(&shared));
    Box::pin(Session::new(wire, Arc::clone(&shared)).run()).await;
}
