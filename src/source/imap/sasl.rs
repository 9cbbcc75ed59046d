//! XOAUTH2 (Microsoft: "Authenticate an IMAP, POP or SMTP connection using OAuth"; RFC 4959 for the initial response).
//! What the server is told here is in no error and no log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::wire::{Answer, Reply, Transport, Wire};
use crate::source::{Error, Refusal, Step, xoauth2};

const STEP: Step = Step::Authenticate;
/// Exchange's longest command line is 10,240 bytes (Set-ImapSettings -MaxCommandSize); beyond about this the token goes on a line of its own.
const LONGEST_LINE: usize = 10_000;
/// Continuations after which the server is not speaking SASL.
const CONTINUATIONS: u32 = 4;

/// Logs in. `initial_response`: the server is not known to lack SASL-IR.
pub(super) async fn authenticate<S: Transport>(
    wire: &mut Wire<S>,
    mailbox: &str,
    token: &SecretString,
    initial_response: bool,
) -> Result<(), Error> {
    let response = xoauth2::response(mailbox, token)?;
    let in_one_line = initial_response && response.len() < LONGEST_LINE - 40;
    let mut outcome = exchange(wire, &response, in_one_line).await;
    if in_one_line && matches!(&outcome, Ok((answer, None)) if answer.is_bad()) {
        // A server without SASL-IR takes the second word for a mistake; asked in two steps it says what it means.
        outcome = exchange(wire, &response, false).await;
    }
    let hide = |text: &str| xoauth2::hide(text, &response, token);
    let refused = match outcome {
        Ok((answer, challenge)) => answer.accepted(STEP).err().map(|error| (error, challenge)),
        Err(error) => Some((error, None)),
    };
    match refused {
        None => Ok(()),
        Some((Error::Refused { step, refusal, code, text }, challenge)) => {
            let text = challenge.map_or_else(|| hide(&text), |challenge| hide(&format!("{text} {challenge}")));
            Err(Error::Refused { step, refusal, code, text })
        }
        Some((error, _)) => Err(error),
    }
}

/// One AUTHENTICATE command: its tagged answer, and the server's challenge where there was one.
async fn exchange<S: Transport>(wire: &mut Wire<S>, response: &str, in_one_line: bool) -> Result<(Answer, Option<String>), Error> {
    let command = Zeroizing::new(if in_one_line { format!("AUTHENTICATE XOAUTH2 {response}") } else { "AUTHENTICATE XOAUTH2".to_owned() });
    wire.command(STEP, &command).await?;
    let mut challenge = None;
    let mut continuations = 0;
    let mut sent = false;
    loop {
        match wire.next(STEP).await? {
            Reply::Done(answer) => return Ok((answer, challenge)),
            Reply::Continue(text) => {
                continuations += 1;
                if continuations > CONTINUATIONS {
                    return Err(Error::Protocol { step: STEP, what: "too many challenges" });
                }
                let json = STANDARD.decode(text.trim()).ok().filter(|json| json.first() == Some(&b'{'));
                let line = if let Some(json) = json {
                    // The reason of a refusal; an empty answer lets the server say NO.
                    challenge = Some(String::from_utf8_lossy(&json).into_owned());
                    Zeroizing::new("\r\n".to_owned())
                } else if sent {
                    Zeroizing::new("\r\n".to_owned())
                } else {
                    sent = true;
                    Zeroizing::new(format!("{response}\r\n"))
                };
                wire.send(STEP, line.as_bytes()).await?;
            }
            Reply::Diverted(_) => return Err(Error::Protocol { step: STEP, what: "a message that was not asked for" }),
            _ => {}
        }
    }
}

impl Answer {
    fn is_bad(&self) -> bool {
        self.refusal() == Some(Refusal::Bad)
    }
}
