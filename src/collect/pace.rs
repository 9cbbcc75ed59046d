//! Spreads log-ins over time, so that a restart over thousands of mailboxes is no storm. Knows nothing of what is paced.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Lets one caller through every `interval`, in the order in which they come.
#[derive(Debug)]
pub struct Pacer {
    interval: Option<Duration>,
    next: Mutex<Option<Instant>>,
}

impl Pacer {
    /// `per_second` callers a second, evenly; `None` or 0 for no limit.
    pub fn new(per_second: Option<u32>) -> Self {
        let interval = per_second.filter(|n| *n > 0).map(|n| Duration::from_secs(1) / n);
        Self { interval, next: Mutex::new(None) }
    }

    /// Waits for the caller's turn. A caller that gives up keeps nobody waiting longer than its own turn.
    pub async fn turn(&self) {
        let Some(interval) = self.interval else { return };
        let at = {
            let mut next = self.next.lock().await;
            let at = next.map_or_else(Instant::now, |at| at.max(Instant::now()));
            *next = Some(at + interval);
            at
        };
        sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn twenty_a_second_lets_the_hundredth_caller_through_after_five_seconds() {
        let pacer = Pacer::new(Some(20));
        let start = Instant::now();
        for _ in 0..=100 {
            pacer.turn().await;
        }
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nobody_waits() {
        let start = Instant::now();
        Pacer::new(None).turn().await;
        Pacer::new(Some(0)).turn().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
