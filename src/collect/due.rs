//! When a session looks again by itself, and when it is to be renewed.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::info;

use super::Collector;
use crate::schedule;

/// A session is renewed this long before its token ends, or after half the token's life where that is later.
const TOKEN_MARGIN: Duration = Duration::from_secs(300);
/// An IDLE is renewed within this time: Exchange drops quiet connections after about ten minutes (angus-mail#176).
pub(super) const IDLE_RENEWAL: Duration = Duration::from_secs(9 * 60);
/// Folders without push are asked for no more often than this, and four times in an interval.
const SHORTEST_ASKING: Duration = Duration::from_secs(60);

/// When a session looks again although nothing was announced.
pub(super) struct Due {
    /// At all folders; `None`: not by itself.
    pub look: Option<Instant>,
    /// For those that are not open.
    pub ask: Instant,
    /// How often for those.
    pub every: Duration,
}

impl Due {
    pub(super) fn new(order: &Collector) -> Self {
        let now = Instant::now();
        let every = (order.interval / 4).clamp(SHORTEST_ASKING, IDLE_RENEWAL);
        let wall = Timestamp::now();
        let look = match &order.schedule {
            None => Some(schedule::next_look(order.interval, schedule::phase(&order.id.uid), wall)),
            Some(calendar) => {
                let next = calendar.next(wall);
                info!(next_look = next.map(tracing::field::display), "looks by schedule");
                next.and_then(|at| Duration::try_from(at.duration_since(wall)).ok())
            }
        };
        Self { look: look.and_then(|wait| now.checked_add(wait)), ask: now + every, every }
    }
}

/// When a session is to be renewed, so that the server does not end it in the middle of a message.
pub(super) fn renewal(expiration: Timestamp, now: Timestamp) -> Instant {
    let left = Duration::try_from(expiration.duration_since(now)).unwrap_or(Duration::ZERO);
    Instant::now() + left.saturating_sub(TOKEN_MARGIN).max(left / 2).max(Duration::from_secs(1))
}
