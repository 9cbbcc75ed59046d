//! The stand-in for Microsoft 365 as the demo uses it: one mailbox in which everything is set up rightly, and a count of what was sent to it.

use anyhow::Context as _;
use simulator::{CLIENT_ID, CLIENT_SECRET, Message, Options, Rendering, Simulator, TENANT_ID, World};

/// The mailbox of docs/examples.
pub(crate) const MAILBOX: &str = "factures@contoso.example";

/// What stands in docs/examples/secret.yaml, and the stand-in's values for it.
pub(super) const PLACEHOLDERS: [(&str, &str); 3] = [
    ("00000000-0000-0000-0000-000000000000", TENANT_ID),
    ("11111111-1111-1111-1111-111111111111", CLIENT_ID),
    ("replace-me", CLIENT_SECRET),
];

/// Sizes of the large messages of the first delivery, in bytes.
const LARGE: [usize; 2] = [8 << 20, 20 << 20];
const SMALL: u64 = 40;

pub(super) struct StandIn {
    simulator: Simulator,
    sent: u64,
}

impl StandIn {
    /// Starts it with the first delivery in the mailbox.
    pub(super) fn start() -> anyhow::Result<Self> {
        let options = Options { world: World::ready(&[MAILBOX]), ..Options::default() };
        let simulator = Simulator::start_blocking(options).context("start the stand-in for Microsoft 365")?;
        let mut stand_in = Self { simulator, sent: 0 };
        for _ in 0..SMALL {
            stand_in.send(None)?;
        }
        for bytes in LARGE {
            stand_in.send(Some(bytes))?;
        }
        Ok(stand_in)
    }

    /// Sends one more message: an office mail, or one of that size. Gives its serial: 1 for the first, then one more each.
    pub(super) fn send(&mut self, bytes: Option<usize>) -> anyhow::Result<u64> {
        let serial = self.sent + 1;
        let message = bytes.map_or_else(|| Message::office(serial), |bytes| Message::sized(serial, bytes));
        self.simulator.world().deliver(MAILBOX, "INBOX", message)?;
        self.sent = serial;
        Ok(serial)
    }

    /// Messages sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// The rendering that these bytes are, exactly.
    pub(super) fn rendering_of(&self, bytes: &[u8]) -> Option<Rendering> {
        self.simulator.rendering_of_bytes(bytes)
    }

    pub(super) fn authority(&self) -> String {
        self.simulator.authority()
    }

    pub(super) fn imap_endpoint(&self) -> String {
        self.simulator.imap_endpoint()
    }

    pub(super) fn ca_pem(&self) -> &str {
        self.simulator.ca_pem()
    }
}
