//! XOAUTH2's one message (Microsoft: "Authenticate an IMAP, POP or SMTP connection using OAuth"), which IMAP and POP3 share.
//! What it holds is in no error and no log. Pure: no I/O, no clock.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Error, Step, text};

/// The client's response, in base64.
pub(super) fn response(mailbox: &str, token: &SecretString) -> Result<Zeroizing<String>, Error> {
    if mailbox.chars().any(char::is_control) {
        return Err(Error::Protocol { step: Step::Authenticate, what: "the mailbox's name holds a control character" });
    }
    let plain = Zeroizing::new(format!("user={mailbox}\u{1}auth=Bearer {}\u{1}\u{1}", token.expose_secret()));
    Ok(Zeroizing::new(STANDARD.encode(plain.as_bytes())))
}

/// The server's text without what it may repeat of ours.
pub(super) fn hide(text: &str, response: &str, token: &SecretString) -> String {
    text::clean(&text.replace(response, "…").replace(token.expose_secret(), "…"))
}
