//! Messages, and how each FETCH of one gives other bytes, as Exchange re-renders mail from its store.
//! A message is kept as an outline; long attachments are slices of one shared block, so that neither 10,000 small messages nor one of 150 MB costs memory.
//! Pure: no I/O, no clock.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;

use crate::civil;

/// Seconds since 1970 of the first generated message (5 January 2026, 08:00 UTC); each serial is 97 s later.
const FIRST_DATE: i64 = 1_767_600_000;
/// Bytes of one attachment line, CRLF included.
const LINE: usize = 78;
const BLOCK_LINES: usize = 6_720;
/// The longest piece of an attachment handed out at once.
const PIECE_LINES: usize = 840;

const SUBJECTS: [&str; 8] = [
    "Facture n° {} à régler",
    "Relevé de compte {}",
    "Réclamation client {}",
    "Déclaration d'arrêt {}",
    "Avis d'échéance {}",
    "Re: Congés d'été {}",
    "Bon de livraison {}",
    "TR: Pièces jointes {}",
];
const SENDERS: [&str; 4] = [
    "=?utf-8?Q?Ang=C3=A8le_Lef=C3=A8vre?= <angele.lefevre@fournisseur.example>",
    "Comptabilite <comptabilite@fournisseur.example>",
    "=?utf-8?Q?Zo=C3=A9_N=C3=BA=C3=B1ez?= <zoe@partenaire.example>",
    "\"Service Clients\" <clients@boutique.example>",
];

/// A message as it lies in the store; what a client gets is a rendering of it.
#[derive(Clone, Debug)]
pub struct Message {
    serial: Option<u64>,
    message_id: Option<String>,
    date: i64,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// Sent as it is, the same each time.
    Raw(Bytes),
    /// Sent as it is behind two header lines that change.
    RawBehindHeaders(Bytes),
    Composed(Outline),
}

#[derive(Clone, Debug)]
struct Outline {
    head: Bytes,
    text: Bytes,
    attachment: usize,
}

impl Message {
    /// An office mail with a French subject; most are of 3 to 30 KB, one in twelve of some 200 KB, one in sixty of 2 MB, by serial.
    pub fn office(serial: u64) -> Self {
        let spread = mix(serial);
        let attachment = match spread % 60 {
            0 => 2_000_000,
            1..=5 => 150_000 + usize::try_from(spread >> 32 & 0xffff).unwrap_or(0),
            _ => 1_000 + usize::try_from(spread >> 32 & 0x3fff).unwrap_or(0),
        };
        Self::composed(serial, attachment)
    }

    /// A mail of about `bytes` bytes (never under some 1,400), its serial in the body.
    pub fn sized(serial: u64, bytes: usize) -> Self {
        let mut message = Self::composed(serial, 0);
        let bare: usize = message.render(1).iter().map(Bytes::len).sum();
        if let Form::Composed(outline) = &mut message.form {
            outline.attachment = bytes.saturating_sub(bare);
        }
        message
    }

    /// These very bytes at every FETCH. They are not looked at: no serial, no Message-ID in the log.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { serial: None, message_id: None, date: FIRST_DATE, form: Form::Raw(bytes.into()) }
    }

    /// These bytes behind a `Received` and an `X-MS-Exchange-Rendering` line that differ at every FETCH.
    pub fn raw_rerendered(bytes: impl Into<Bytes>) -> Self {
        Self { serial: None, message_id: None, date: FIRST_DATE, form: Form::RawBehindHeaders(bytes.into()) }
    }

    /// Without a Message-ID line (of a composed message).
    #[must_use]
    pub fn without_message_id(mut self) -> Self {
        self.message_id = None;
        self
    }

    /// With this Message-ID, angle brackets included (of a composed message).
    #[must_use]
    pub fn with_message_id(mut self, message_id: &str) -> Self {
        self.message_id = Some(message_id.to_owned());
        self
    }

    /// With this INTERNALDATE, in seconds since 1970.
    #[must_use]
    pub fn received_at(mut self, unix_seconds: i64) -> Self {
        self.date = unix_seconds;
        self
    }

    /// The serial inside the body, where this crate composed it.
    pub fn serial(&self) -> Option<u64> {
        self.serial
    }

    pub(crate) fn date(&self) -> i64 {
        self.date
    }

    fn composed(serial: u64, attachment: usize) -> Self {
        let date = FIRST_DATE + i64::try_from(serial % 10_000_000).unwrap_or(0) * 97;
        let subject = pick(&SUBJECTS, serial).replace("{}", &serial.to_string());
        let sender = pick(&SENDERS, serial);
        let head = format!(
            "From: {sender}\r\nTo: <factures@contoso.example>\r\nSubject: =?utf-8?B?{}?=\r\nDate: {}\r\nMIME-Version: 1.0\r\nX-MS-Has-Attach: yes\r\n",
            BASE64_STANDARD.encode(&subject),
            civil::header_date(date - 12),
        );
        let text = format!(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nBonjour,\r\n\r\n{subject} : veuillez trouver la pièce ci-jointe.\r\nSerial: {serial:012}\r\n\r\nCordialement,\r\n.\r\n..\r\nÀ bientôt\r\n"
        );
        Self {
            serial: Some(serial),
            message_id: Some(format!("<{serial:012}.{:016x}@fournisseur.example>", mix(serial))),
            date,
            form: Form::Composed(Outline { head: head.into(), text: text.into(), attachment }),
        }
    }

    /// Rendering `number` of the message, in pieces of at most 64 KiB for what is composed. The last piece is never empty.
    pub(crate) fn render(&self, number: u32) -> Vec<Bytes> {
        match &self.form {
            Form::Raw(bytes) => vec![bytes.clone()],
            Form::RawBehindHeaders(bytes) => vec![self.changing_head(number).into(), bytes.clone()],
            Form::Composed(outline) => self.render_composed(outline, number),
        }
    }

    /// The header block of a rendering, its empty line included.
    pub(crate) fn render_header(&self, number: u32) -> Vec<u8> {
        let mut header = Vec::new();
        for piece in self.render(number) {
            header.extend_from_slice(&piece);
            if let Some(end) = header.windows(4).position(|window| window == b"\r\n\r\n") {
                header.truncate(end + 4);
                break;
            }
        }
        header
    }

    fn changing_head(&self, number: u32) -> String {
        let spread = mix(u64::from(number) << 32 ^ self.serial.unwrap_or(0));
        let mut head = format!(
            "Received: from PR{:X}MB{:04}.eurprd{:02}.prod.outlook.com (2603:10a6::{:x}) by\r\n AM{}PR.eurprd.prod.outlook.com with HTTPS; {}\r\nX-MS-Exchange-Rendering: {number}\r\n",
            spread >> 60,
            spread % 9_999,
            spread >> 8 & 31,
            spread >> 16 & 0xffff_ffff,
            spread % 1_000_003,
            civil::header_date(self.date),
        );
        if let Some(message_id) = &self.message_id {
            let _ = write!(head, "Message-ID: {message_id}\r\n");
        }
        head
    }

    fn render_composed(&self, outline: &Outline, number: u32) -> Vec<Bytes> {
        let serial = self.serial.unwrap_or(0);
        let boundary = format!("_000_{:X}contoso_", mix(u64::from(number) ^ serial << 20));
        let mut pieces = vec![
            self.changing_head(number).into(),
            outline.head.clone(),
            format!("Content-Type: multipart/mixed;\r\n\tboundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n").into(),
            outline.text.clone(),
            format!(
                "\r\n--{boundary}\r\nContent-Type: application/octet-stream; name=\"piece-{serial}.bin\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"piece-{serial}.bin\"\r\n\r\n"
            )
            .into(),
        ];
        attach(&mut pieces, serial, outline.attachment / LINE);
        pieces.push(format!("\r\n--{boundary}--\r\n").into());
        pieces
    }
}

/// The serial that a generated message carries in its body, if `bytes` are one.
pub fn serial_in(bytes: &[u8]) -> Option<u64> {
    const MARK: &[u8] = b"\r\nSerial: ";
    let start = bytes.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    std::str::from_utf8(bytes.get(start..start + 12)?).ok()?.parse().ok()
}

/// What Exchange sends in the place of a message that it cannot render (exchange-online.md 3.9).
pub(crate) fn substitute(number: usize) -> Bytes {
    format!(
        "From: Microsoft Exchange Server\r\nSubject: Retrieval using the IMAP4 protocol failed for the following message: {number}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nThe server couldn't retrieve the following message:\r\n\r\nSubject: \"Facture\"\r\nFrom: \"Comptabilite\" (comptabilite@fournisseur.example)\r\nSent date: 1/5/2026 8:00:00 AM\r\n\r\nThe message hasn't been deleted. You might be able to view it using either Outlook or Outlook Web App.\r\n"
    )
    .into()
}

/// A message whose attachment is still being scanned: a placeholder stands in its place for some minutes.
pub(crate) fn scan_in_progress(message: &Message) -> Bytes {
    let mut bytes = message.changing_head(1).into_bytes();
    bytes.extend_from_slice(
        b"From: Comptabilite <comptabilite@fournisseur.example>\r\nSubject: Facture\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"scan\"\r\n\r\n--scan\r\nContent-Type: text/plain\r\n\r\nBonjour\r\n--scan\r\nContent-Type: message/rfc822; name=\"Safe Attachments Scan In Progress\"\r\nContent-Disposition: attachment; filename=\"Safe Attachments Scan In Progress\"\r\n\r\nSubject: Safe Attachments Scan In Progress\r\n\r\nYour attachment is being scanned.\r\n--scan--\r\n",
    );
    bytes.into()
}

fn attach(pieces: &mut Vec<Bytes>, serial: u64, lines: usize) {
    let block = shared_block();
    let mut left = lines;
    let mut turn = 0;
    while left > 0 {
        let take = left.min(PIECE_LINES);
        // Another place of the block for each piece: two pieces swapped or lost must change the message's digest.
        let start = usize::try_from(mix(serial ^ turn << 40) % (BLOCK_LINES - PIECE_LINES) as u64).unwrap_or(0);
        pieces.push(block.slice(start * LINE..(start + take) * LINE));
        left -= take;
        turn += 1;
    }
}

/// Random lines of valid base64 (76 characters and CRLF).
fn shared_block() -> &'static Bytes {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static BLOCK: OnceLock<Bytes> = OnceLock::new();
    BLOCK.get_or_init(|| {
        let mut block = Vec::with_capacity(BLOCK_LINES * LINE);
        for line in 0..BLOCK_LINES as u64 {
            for word in 0..8 {
                let bits = mix(line * 8 + word);
                let characters = if word < 7 { 10 } else { 6 };
                block.extend((0..characters).map(|place| ALPHABET.get((bits >> (6 * place) & 63) as usize).copied().unwrap_or(b'A')));
            }
            block.extend_from_slice(b"\r\n");
        }
        block.into()
    })
}

fn pick<'a>(choices: &[&'a str], serial: u64) -> &'a str {
    let index = usize::try_from(mix(serial ^ 0x5eed) % choices.len() as u64).unwrap_or(0);
    choices.get(index).copied().unwrap_or_default()
}

/// SplitMix64's finalizer: spreads a small number over 64 bits.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// A message in a folder, shared by those who are sending it.
pub(crate) type SharedMessage = Arc<Message>;

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(message: &Message, number: u32) -> Vec<u8> {
        message.render(number).concat()
    }

    #[test]
    fn two_renderings_differ_in_bytes_but_not_in_identity() {
        let message = Message::office(42);
        let (first, second) = (whole(&message, 1), whole(&message, 2));
        assert_ne!(first, second);
        assert_eq!(first, whole(&message, 1));
        assert_eq!(serial_in(&first), Some(42));
        assert_eq!(serial_in(&second), Some(42));
        let id = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().find(|line| line.starts_with("Message-ID: ")).map(str::to_owned);
        assert!(id(&first).is_some());
        assert_eq!(id(&first), id(&second));
    }

    #[test]
    fn a_sized_message_has_about_that_size() {
        for size in [2_000, 4_096, 100_000, 5_000_000] {
            let length = whole(&Message::sized(7, size), 3).len();
            assert!(length.abs_diff(size) < 200, "{size}: {length}");
        }
    }

    #[test]
    fn every_line_of_a_message_ends_in_crlf() {
        let bytes = whole(&Message::office(3), 1);
        for (index, byte) in bytes.iter().enumerate() {
            assert!(*byte != b'\n' || bytes[index - 1] == b'\r');
        }
        assert!(bytes.ends_with(b"--\r\n"));
    }

    #[test]
    fn raw_bytes_stay_as_they_are() {
        let raw = Message::raw(&b"bare\nbytes\0"[..]);
        assert_eq!(whole(&raw, 1), b"bare\nbytes\0");
        assert_eq!(whole(&raw, 9), b"bare\nbytes\0");
        let changing = Message::raw_rerendered(&b"Subject: x\r\n\r\ny"[..]);
        assert_ne!(whole(&changing, 1), whole(&changing, 2));
        assert!(whole(&changing, 2).ends_with(b"Subject: x\r\n\r\ny"));
    }

    #[test]
    fn a_message_of_150_megabytes_shares_its_bytes() {
        let pieces = Message::sized(1, 150_000_000).render(1);
        assert!(pieces.iter().map(Bytes::len).sum::<usize>() > 149_000_000);
        assert!(pieces.iter().all(|piece| piece.len() <= 65_536));
    }
}
