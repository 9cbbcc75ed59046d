//! A longer way to the server: what goes in comes out half a round trip later, in each direction; a new connection waits half a round trip more,
//! as its handshake would. Bytes are not held back otherwise.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// Pieces under way in one direction, of 64 KiB: 16 MiB, more than 40 ms at 1 Gbit/s.
const UNDER_WAY: usize = 256;

/// A running relay. Dropped = stopped.
pub(super) struct Relay {
    runtime: Option<Runtime>,
    address: SocketAddr,
}

impl Relay {
    pub(super) fn start(server: &str, round_trip: Duration) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let server = server.to_owned();
        runtime.spawn(async move {
            // A failed accept ends the relay, and with it the run that needs it.
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pair(near, server.clone(), round_trip / 2));
            }
        });
        Ok(Self { runtime: Some(runtime), address })
    }

    pub(super) fn endpoint(&self) -> String {
        format!("localhost:{}", self.address.port())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn pair(near: TcpStream, server: String, half: Duration) -> anyhow::Result<()> {
    sleep(half).await;
    let far = TcpStream::connect(server).await.context("the server is gone")?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::join!(carry(near_in, far_out, half), carry(far_in, near_out, half));
    Ok(())
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, half: Duration) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let reading = async move {
        loop {
            let mut piece = Vec::with_capacity(64 << 10);
            match from.read_buf(&mut piece).await {
                Ok(1..) if sender.send((Instant::now() + half, piece)).await.is_ok() => {}
                _ => return,
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = receiver.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The end takes as long as everything else; a connection that is gone need not be told.
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn an_answer_takes_a_round_trip_and_the_set_up_half_of_one() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay::start(&server.local_addr().unwrap().to_string(), Duration::from_millis(40)).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut bytes = [0; 4];
            while stream.read_exact(&mut bytes).is_ok() {
                stream.write_all(&bytes).unwrap();
            }
        });
        let mut client = std::net::TcpStream::connect(relay.address).unwrap();
        let mut bytes = [0; 4];
        for expected in [60, 40] {
            let started = std::time::Instant::now();
            client.write_all(b"ping").unwrap();
            client.read_exact(&mut bytes).unwrap();
            let took = started.elapsed().as_millis();
            assert!((expected..expected + 200).contains(&took), "{took} ms");
        }
    }
}
