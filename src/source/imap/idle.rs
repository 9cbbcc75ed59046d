//! IDLE (RFC 2177): new mail by push. One IDLE lasts at most nine minutes: Exchange drops pushes silently after about ten.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::wire::{Reply, Transport, Wire};
use crate::source::{Error, Step, Wake};

const STEP: Step = Step::Wait;
/// Longest IDLE.
const LONGEST: Duration = Duration::from_secs(9 * 60);
/// How long the answer to DONE may take.
const DONE: Duration = Duration::from_secs(15);

/// Waits for new mail; see [`crate::source::Source::wait`].
pub(super) async fn wait<S: Transport>(
    wire: &mut Wire<S>,
    max: Duration,
    interrupt: impl Future<Output = ()> + Send,
) -> Result<Wake, Error> {
    if wire.news {
        return Ok(Wake::NewMail);
    }
    let until = Instant::now() + max.min(LONGEST);
    wire.command(STEP, "IDLE").await?;
    loop {
        match wire.next(STEP).await? {
            Reply::Continue(_) => break,
            other => none_of_ours(other)?,
        }
    }
    let mut interrupt = pin!(interrupt);
    let mut wake = Wake::NewMail;
    while !wire.news {
        tokio::select! {
            biased;
            reply = wire.reply(STEP) => none_of_ours(reply?)?,
            () = &mut interrupt => {
                wake = Wake::Interrupted;
                break;
            }
            () = sleep_until(until) => {
                wake = Wake::Elapsed;
                break;
            }
        }
    }
    wire.begin_waiting();
    let deadline = Instant::now() + DONE;
    let timed = async {
        wire.send(STEP, b"DONE\r\n").await?;
        wire.answer(STEP, |_| {}).await?.accepted(STEP)
    };
    match timeout_at(deadline, timed).await {
        Err(_) => Err(Error::Timeout(STEP)),
        Ok(Err(error)) => Err(error),
        // Mail that was announced while we were leaving must not wait for the next look.
        Ok(Ok(_)) if wake == Wake::Elapsed && wire.news => Ok(Wake::NewMail),
        Ok(Ok(_)) => Ok(wake),
    }
}

/// A tagged answer before DONE ends IDLE: NO and BAD refuse it, OK ends it unasked.
fn none_of_ours(reply: Reply) -> Result<(), Error> {
    let what = match reply {
        Reply::Done(answer) => {
            answer.accepted(STEP)?;
            "the server ended IDLE unasked"
        }
        Reply::Diverted(_) => "a message that was not asked for",
        Reply::Continue(_) => "a continuation that was not asked for",
        _ => return Ok(()),
    };
    Err(Error::Protocol { step: STEP, what })
}
