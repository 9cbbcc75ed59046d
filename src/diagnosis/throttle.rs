//! Reads a server's wish to be left alone. Pure: no I/O, no clock. By itself in a file, so that it can be fuzzed alone.

use std::time::Duration;

/// Hints beyond are not believed: the longest seen is 299,961 ms.
const LONGEST_HINT: Duration = Duration::from_secs(60 * 60);

/// A server's wish to be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// For how long, 1 s to 1 h; `None` where it did not say.
    pub wait: Option<Duration>,
}

/// Reads `Request is throttled. Suggested Backoff Time: 92415 milliseconds`, which Exchange sends in NO, BAD and BYE alike; `None` for any
/// other text.
pub fn throttle(text: &str) -> Option<Throttle> {
    let text = text.to_ascii_lowercase();
    let hint = text.split_once("suggested backoff time:").map(|(_, rest)| rest.trim_start());
    if hint.is_none() && !text.contains("request is throttled") {
        return None;
    }
    let digits = hint.and_then(|rest| rest.split(|character: char| !character.is_ascii_digit()).next());
    let wait = digits.filter(|digits| !digits.is_empty()).map(|digits| {
        // A number too large for u64 is as good as the cap.
        Duration::from_millis(digits.parse().unwrap_or(u64::MAX)).clamp(Duration::from_secs(1), LONGEST_HINT)
    });
    Some(Throttle { wait })
}
